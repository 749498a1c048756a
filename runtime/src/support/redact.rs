//! Takes secrets out of documents and texts: by the name that stands before them, by their form, and by their value where it is
//! known from elsewhere. When in doubt it takes out too much.

use std::collections::BTreeSet;

use serde_json::Value;

/// Stands where a secret stood.
pub const REMOVED: &str = "<removed>";
/// Shorter values are not searched for in texts: they stand in innocent words.
const SHORTEST_VALUE: usize = 4;

/// Secrets that are known by their value.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    values: BTreeSet<String>,
}

impl Secrets {
    /// A value that must not be seen.
    pub fn add(&mut self, value: &str) {
        let value = value.trim();
        if value.len() >= SHORTEST_VALUE && !is_plain_word(value) {
            self.values.insert(value.to_owned());
            // As it stands in a JSON text.
            let quoted = Value::from(value).to_string();
            self.values.insert(quoted[1..quoted.len() - 1].to_owned());
        }
    }

    /// Learns what stands in a document under names of secrets, and texts that look like one.
    pub fn learn(&mut self, document: &Value) {
        match document {
            Value::Object(members) => {
                for (name, value) in members {
                    if is_secret_name(name) { self.add_all(value) } else { self.learn(value) }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::String(text) if looks_secret(text) => self.add(text),
            _ => {}
        }
    }

    /// Learns every text of a document.
    pub fn add_all(&mut self, document: &Value) {
        match document {
            Value::Object(members) => members.values().for_each(|value| self.add_all(value)),
            Value::Array(items) => items.iter().for_each(|item| self.add_all(item)),
            Value::String(text) => self.add(text),
            Value::Number(number) => self.add(&number.to_string()),
            Value::Bool(_) | Value::Null => {}
        }
    }

    /// The text without any secret.
    pub fn clean(&self, text: &str) -> String {
        // The longest first: one may be the beginning of another.
        let mut values: Vec<&String> = self.values.iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let known = values.into_iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), REMOVED));
        without_named(&without_forms(&known))
    }

    /// A line of a log without any secret: as the document that it is, or else as a text.
    pub fn clean_line(&self, line: &str) -> String {
        let Ok(mut document @ Value::Object(_)) = serde_json::from_str(line) else { return self.clean(line) };
        self.clean_document(&mut document);
        document.to_string()
    }

    /// Takes every secret out of a document.
    pub fn clean_document(&self, document: &mut Value) {
        match document {
            Value::Object(members) => {
                for (name, value) in members {
                    if is_secret_name(name) && !matches!(value, Value::Null | Value::Bool(_)) {
                        *value = REMOVED.into();
                    } else {
                        self.clean_document(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.clean_document(item)),
            Value::String(text) => *text = self.clean(text),
            Value::Number(_) | Value::Bool(_) | Value::Null => {}
        }
    }
}

/// Replaces every text of a document by its length; what a module says of its own acceptance stays.
pub fn mask_texts(document: &mut Value) {
    match document {
        Value::Object(members) => {
            let is_kept = |name: &str| matches!(name, "acknowledged" | "$metadata");
            members.iter_mut().filter(|(name, _)| !is_kept(name)).for_each(|(_, value)| mask_texts(value));
        }
        Value::Array(items) => items.iter_mut().for_each(mask_texts),
        Value::String(text) => *text = format!("<{} characters>", text.chars().count()),
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// Whether what stands under such a name is likely to be a secret.
fn is_secret_name(name: &str) -> bool {
    const PARTS: [&str; 15] = [
        "password",
        "passwd",
        "passphrase",
        "passwort",
        "kennwort",
        "secret",
        "token",
        "credential",
        "connectionstring",
        "sharedaccess",
        "signature",
        "authorization",
        "privatekey",
        "apikey",
        "accesskey",
    ];
    const WHOLE: [&str; 9] = ["pwd", "pw", "pass", "auth", "sig", "sas", "pin", "key", "community"];
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let word_end = |word: &&str| name.len() > word.len() && ends_with_word(name, word);
    PARTS.iter().any(|part| plain.contains(part)) || WHOLE.contains(&&*plain) || WHOLE.iter().any(word_end)
}

/// `masterKey`, `master_key`, `MASTER-KEY` end with the word `key`; `monkey` does not.
fn ends_with_word(name: &str, word: &str) -> bool {
    let at = name.len() - word.len();
    let (Some(head), Some(tail)) = (name.get(..at), name.get(at..)) else { return false };
    let before = head.chars().next_back();
    let is_camel =
        tail.starts_with(|c: char| c.is_ascii_uppercase()) && before.is_some_and(|c| !c.is_ascii_uppercase());
    tail.eq_ignore_ascii_case(word) && (is_camel || before.is_some_and(|c| !c.is_alphanumeric()))
}

/// Letters and figures or signs mixed, in one word of some length.
fn looks_secret(text: &str) -> bool {
    let has = |is: fn(&char) -> bool| text.chars().any(|c| is(&c));
    text.len() >= 8
        && !has(|c| c.is_whitespace())
        && has(char::is_ascii_alphabetic)
        && (has(char::is_ascii_digit) || has(|c| "!$%&*+=?@^~#".contains(*c)))
}

/// A word that stands in any log.
fn is_plain_word(value: &str) -> bool {
    const WORDS: [&str; 16] = [
        "true",
        "false",
        "info",
        "debug",
        "warn",
        "error",
        "trace",
        "none",
        "null",
        "production",
        "test",
        "default",
        "auto",
        "localhost",
        "utf-8",
        "json",
    ];
    WORDS.contains(&&*value.to_ascii_lowercase())
}

/// `NAME=VALUE`, `"NAME": "VALUE"` and the like, where the name is one of a secret.
fn without_named(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at + 1);
        clean.push_str(before);
        rest = after;
        let name = before[..at].trim_end_matches(['"', '\'', ' ', '\\']);
        let is_of_name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        let name = &name[name.trim_end_matches(is_of_name).len()..];
        let name = name.trim_start_matches(|c: char| !c.is_alphanumeric());
        let is_reference = after.starts_with("//") || after.starts_with(':');
        if name.is_empty() || is_reference || !is_secret_name(last_part(name)) {
            continue;
        }
        let opening = Opening::of(after);
        let skipped = match &opening {
            Some(opening) => opening.len,
            None => after.len() - after.trim_start_matches([' ', '\\']).len(),
        };
        clean.push_str(&after[..skipped]);
        rest = &after[skipped..];
        for scheme in ["Bearer ", "Basic ", "SharedAccessSignature "] {
            if let Some(tail) = rest.strip_prefix(scheme) {
                clean.push_str(scheme);
                rest = tail;
            }
        }
        let is_end = |c: char| c.is_whitespace() || "\"';,&}])\\".contains(c);
        let end = match opening {
            Some(opening) => opening.end_in(rest),
            None => rest.find(is_end).unwrap_or(rest.len()),
        };
        if end > 0 {
            clean.push_str(REMOVED);
        }
        rest = &rest[end..];
    }
    clean + rest
}

/// The quote before a value, as it stands in a text that may itself be a quoted one: `"`, `\"`, `\\\"`.
struct Opening {
    quote: char,
    /// Backslashes before it.
    escapes: usize,
    /// With the spaces before it.
    len: usize,
}

impl Opening {
    fn of(text: &str) -> Option<Opening> {
        let escaped = text.trim_start_matches(' ');
        let quoted = escaped.trim_start_matches('\\');
        let quote = quoted.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        Some(Opening { quote, escapes: escaped.len() - quoted.len(), len: text.len() - quoted.len() + 1 })
    }

    /// Where the value ends: at the quote that closes it, or with its line.
    fn end_in(&self, text: &str) -> usize {
        // One backslash: a text in a text; three: in one more.
        let depth = (self.escapes + 1).ilog2();
        for (at, _) in text.match_indices(self.quote) {
            let escapes = at - text[..at].trim_end_matches('\\').len();
            if closes(escapes, depth) {
                return if escapes % 2 == 1 { at - escapes.min(self.escapes) } else { at };
            }
        }
        text.find('\n').unwrap_or(text.len())
    }
}

/// Whether a quote after so many backslashes ends a text that stands so deep in others, or one of those others.
fn closes(escapes: usize, depth: u32) -> bool {
    escapes.is_multiple_of(2) || (depth > 0 && closes((escapes - 1) / 2, depth - 1))
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// What is a secret by its form: passwords in addresses, private keys, bearer tokens.
fn without_forms(text: &str) -> String {
    without_keys(&without_tokens(&without_logins(text)))
}

/// `scheme://user:password@host`.
fn without_logins(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        // A password may hold any sign, also one that would end the host.
        let end = after.find(|c: char| c.is_whitespace() || "\"'".contains(c)).unwrap_or(after.len());
        let login = after[..end].rfind('@').and_then(|at| Some((after[..at].find(':')?, at)));
        rest = match login {
            Some((colon, at)) => {
                clean.push_str(&after[..=colon]);
                clean.push_str(REMOVED);
                &after[at..]
            }
            None => after,
        };
    }
    clean + rest
}

/// JSON web tokens, and what follows `Bearer`.
fn without_tokens(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.+/=~".contains(c);
    let mut clean = String::with_capacity(text.len());
    let mut was_bearer = false;
    let mut rest = text;
    while let Some(from) = rest.find(is_part) {
        clean.push_str(&rest[..from]);
        rest = &rest[from..];
        let (word, after) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        let is_web_token = word.starts_with("eyJ") && word.len() > 20 && word.contains('.');
        clean.push_str(if is_web_token || was_bearer { REMOVED } else { word });
        was_bearer = word.eq_ignore_ascii_case("bearer");
        rest = after;
    }
    clean + rest
}

/// `-----BEGIN … PRIVATE KEY-----` to its end.
fn without_keys(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("PRIVATE KEY-----") {
        let (before, after) = rest.split_at(at + "PRIVATE KEY-----".len());
        clean.push_str(before);
        clean.push_str(REMOVED);
        rest = after.find("-----END").map_or("", |end| &after[end..]);
        // The closing line names it again.
        if let Some(end) = rest.find("PRIVATE KEY-----") {
            let (closing, after) = rest.split_at(end + "PRIVATE KEY-----".len());
            clean.push_str(closing);
            rest = after;
        }
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn clean(text: &str) -> String {
        Secrets::default().clean(text)
    }

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        for name in [
            "password",
            "DB_PASSWORD",
            "mqtt-passwd",
            "apiKey",
            "primary_key",
            "SharedAccessKey",
            "sig",
            "authToken",
            "PIN",
            "plcPw",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["monkey", "author", "keyboard", "name", "compass", "spin", "design", "passive", "threshold"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn secrets_in_texts_go_and_the_rest_stays() {
        let table = [
            ("login with password=hunter2, retry 3", "login with password=<removed>, retry 3"),
            (r#"{"password": "hunter2", "port": 502}"#, r#"{"password": "<removed>", "port": 502}"#),
            (r#"{\"apiKey\":\"k-1\"}"#, r#"{\"apiKey\":\"<removed>\"}"#),
            ("HostName=h;DeviceId=d;SharedAccessKey=abc+/=", "HostName=h;DeviceId=d;SharedAccessKey=<removed>"),
            ("SharedAccessSignature sr=h&sig=a%2Bb&se=17", "SharedAccessSignature sr=h&sig=<removed>&se=17"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer <removed>"),
            ("mqtt://user:pa:ss@host:1883/x at 12:30", "mqtt://user:<removed>@host:1883/x at 12:30"),
            ("mqtt://u:pa/ss@host/x, http://h:80/y", "mqtt://u:<removed>@host/x, http://h:80/y"),
            (r#"{"password":"correct horse, \"b\" {a}\\","port":1}"#, r#"{"password":"<removed>","port":1}"#),
            (r#"{\"password\":\"a b; \\\"c\\\" d\",\"port\":1}"#, r#"{\"password\":\"<removed>\",\"port\":1}"#),
            (
                r#"{"text":"password=\"a b\" c"} 'pin': 'a b' c"#,
                r#"{"text":"password=\"<removed>\" c"} 'pin': '<removed>' c"#,
            ),
            (r#"{"password":"","user":"b c"} token="cut off"#, r#"{"password":"","user":"b c"} token="<removed>"#),
            ("mqtt.password = x", "mqtt.password = <removed>"),
            ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.c2ln ok", "token <removed> ok"),
            ("key::value of std::path, no secret: here", "key::value of std::path, no secret: <removed>"),
            ("2026-11-21T12:00:00Z temperature: 21", "2026-11-21T12:00:00Z temperature: 21"),
        ];
        for (text, expected) in table {
            assert_eq!(clean(text), expected);
        }
        let pem = "a\n-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nb";
        assert_eq!(clean(pem), "a\n-----BEGIN EC PRIVATE KEY-----<removed>-----END EC PRIVATE KEY-----\nb");
    }

    #[test]
    fn a_value_known_from_one_place_goes_everywhere() {
        let mut secrets = Secrets::default();
        secrets.learn(&json!({"plc": {"password": "tr\"ick", "login": "operator7!x"}, "name": "memory.usage"}));

        assert_eq!(
            secrets.clean("said tr\"ick and tr\\\"ick, memory.usage"),
            "said <removed> and <removed>, memory.usage"
        );
        assert_eq!(secrets.clean("operator7!x"), REMOVED);
    }

    #[test]
    fn documents_keep_their_shape() {
        let mut document =
            json!({"env": {"key": "a"}, "list": ["password=x", 1], "hasPassword": true, "token": {"a": 1}});
        Secrets::default().clean_document(&mut document);
        assert_eq!(
            document,
            json!({"env": {"key": REMOVED}, "list": ["password=<removed>", 1], "hasPassword": true, "token": REMOVED})
        );

        let mut twin = json!({"a": "text", "b": [1, "x"], "acknowledged": {"error": "threshold: too high"}});
        mask_texts(&mut twin);
        assert_eq!(
            twin,
            json!({"a": "<4 characters>", "b": [1, "<1 characters>"], "acknowledged": {"error": "threshold: too high"}})
        );
    }

    #[test]
    fn a_line_of_a_log_is_cleaned_as_the_document_that_it_is() {
        let table = [
            (
                r#"{"n":1,"text":"got {\"password\":\"correct horse battery\"} of it","fields":{"pin":["a b",1],"k":1}}"#,
                r#"{"n":1,"text":"got {\"password\":\"<removed>\"} of it","fields":{"pin":"<removed>","k":1}}"#,
            ),
            (r#"{"text":"mqtt://u:pa/ss@host"}"#, r#"{"text":"mqtt://u:<removed>@host"}"#),
            (r#"{"text":"torn, password=\"a b"#, r#"{"text":"torn, password=\"<removed>"#),
        ];
        for (line, expected) in table {
            assert_eq!(Secrets::default().clean_line(line), expected);
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_no_known_value_survives(before in "\\PC{0,40}", value in "[A-Za-z0-9!=:/@ ]{6,20}", after in "\\PC{0,40}") {
            let mut secrets = Secrets::default();
            secrets.add(&value);
            let value = value.trim();
            prop_assume!(value.len() >= SHORTEST_VALUE && !REMOVED.contains(value) && !is_plain_word(value));
            let clean = secrets.clean(&[&*before, value, &*after].concat());
            prop_assert!(!clean.contains(value));
        }
    }
}
