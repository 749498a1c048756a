//! JSON as an argument, in one place for all verbs: inline, `@FILE`, `-` (standard input) or `key=value` pairs, since quoting
//! differs between shells. A file or standard input may be YAML as well.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::Failure;
use crate::document::{Document, Format, Problem};

/// Reads the JSON that these arguments stand for.
///
/// Pairs make an object: dots in a key nest (`limits.high=80`), a value is JSON where it parses and text where it does not.
/// Anything else is one argument: a document, `@FILE`, or `-`.
pub fn read(arguments: &[String]) -> Result<Value, Failure> {
    match arguments {
        [] => Err(Failure::usage("JSON is missing").hint(FORMS)),
        [one] if one == "-" => parse("standard input", &text_of("standard input", read_stdin()?)?, None),
        [one] if one.starts_with('@') => {
            let file = &one[1..];
            parse(file, &text_of(file, read_file(Path::new(file))?)?, Format::of_name(file))
        }
        [word] if is_bare_key(word) => {
            Err(Failure::usage(format!("'{word}' has no value")).hint(format!("write {word}=VALUE, or a JSON object")))
        }
        [one] if split_pair(one).is_none() => parse("the argument", one, Some(Format::Json)),
        pairs => from_pairs(pairs),
    }
}

/// [`read`] for arguments that must make an object; `what` names it, as in `desired properties`.
pub fn read_object(what: &str, arguments: &[String]) -> Result<Map<String, Value>, Failure> {
    match read(arguments)? {
        Value::Object(members) => Ok(members),
        other => {
            let shown: String = other.to_string().chars().take(60).collect();
            Err(Failure::usage(format!("{what}: a JSON object is expected, not {shown}")).hint(FORMS))
        }
    }
}

/// Reads one argument that stands for octets: the text itself, `@FILE`, or `-`.
pub fn read_body(argument: &str) -> Result<Vec<u8>, Failure> {
    match argument.strip_prefix('@') {
        Some(file) => read_file(Path::new(file)),
        None if argument == "-" => read_stdin(),
        None => Ok(argument.as_bytes().to_vec()),
    }
}

/// A file's octets.
pub fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::caused(format!("{} cannot be read", file.display()), &error))
}

/// All of standard input.
pub fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    std::io::stdin()
        .read_to_end(&mut octets)
        .map_err(|error| Failure::caused("standard input cannot be read", &error))?;
    Ok(octets)
}

/// The octets of `place` as text, without the mark that editors on Windows put before it.
pub fn text_of(place: &str, octets: Vec<u8>) -> Result<String, Failure> {
    let unmarked = |text: String| text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned);
    String::from_utf8(octets).map(unmarked).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Failure::usage(format!("{place} is not text: line {line} has an octet that is not UTF-8"))
            .hint("save it as UTF-8")
    })
}

const FORMS: &str = r#"JSON may be '{"key": 1}', @FILE, - for standard input, or key=value pairs; a file may be YAML"#;

/// Parses text from `place`; a failure tells every problem with line and column.
pub fn parse(place: &str, text: &str, format: Option<Format>) -> Result<Value, Failure> {
    let document = Document::read(text, format).map_err(|problem| {
        let excerpt = problem.place.map(|at| pointer(text, at.line as usize, at.column as usize)).unwrap_or_default();
        Failure::usage(told(place, &problem)).details(excerpt).hint(FORMS)
    })?;
    match &document.problems[..] {
        [] => Ok(document.value),
        [one] => Err(Failure::usage(told(place, one)).hint(FORMS)),
        several => {
            let details = several.iter().map(|problem| told(place, problem)).collect();
            Err(Failure::usage(format!("{place} has {} problems", several.len())).details(details).hint(FORMS))
        }
    }
}

fn told(place: &str, problem: &Problem) -> String {
    let is_file = !["standard input", "the argument"].contains(&place);
    if is_file { problem.in_file(place) } else { format!("{place}: {problem}") }
}

/// The line in question and a mark below the column.
fn pointer(text: &str, line: usize, column: usize) -> Vec<String> {
    const AROUND: usize = 60;
    let Some(shown) = line.checked_sub(1).and_then(|at| text.lines().nth(at)) else { return Vec::new() };
    let before = column.saturating_sub(1);
    let from = before.saturating_sub(AROUND);
    let excerpt: String =
        shown.chars().skip(from).take(2 * AROUND).map(|c| if c.is_control() { ' ' } else { c }).collect();
    vec![excerpt, format!("{}^", " ".repeat(before - from))]
}

/// Key and value, if this is a pair rather than JSON.
fn split_pair(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let is_key = !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || "{}[]\",".contains(c));
    is_key.then_some((key, value))
}

/// Whether this is a key that misses its value, rather than JSON.
fn is_bare_key(text: &str) -> bool {
    let is_of_key = |c: char| c.is_alphanumeric() || "._-".contains(c);
    text.starts_with(char::is_alphabetic) && text.chars().all(is_of_key) && !["true", "false", "null"].contains(&text)
}

/// The object that `key=value` pairs make, for options such as `--set`.
pub fn from_pairs(pairs: &[String]) -> Result<Value, Failure> {
    let mut object = Map::new();
    for pair in pairs {
        let Some((key, value)) = split_pair(pair) else {
            let hint = if is_bare_key(pair) { format!("write {pair}=VALUE, or a JSON object") } else { FORMS.into() };
            return Err(Failure::usage(format!("'{pair}' is not a key=value pair")).hint(hint));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        insert(&mut object, key, value).map_err(|why| Failure::usage(format!("'{pair}': {why}")))?;
    }
    Ok(Value::Object(object))
}

fn insert(object: &mut Map<String, Value>, dotted: &str, value: Value) -> Result<(), String> {
    let (first, rest) = match dotted.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (dotted, None),
    };
    if first.is_empty() || rest == Some("") {
        return Err("a part of the key is empty".into());
    }
    match (rest, object.get_mut(first)) {
        (None, None) => {
            object.insert(first.to_owned(), value);
            Ok(())
        }
        (Some(rest), Some(Value::Object(inner))) => insert(inner, rest, value),
        (Some(rest), None) => {
            let mut inner = Map::new();
            insert(&mut inner, rest, value)?;
            object.insert(first.to_owned(), inner.into());
            Ok(())
        }
        _ => Err(format!("'{first}' is given twice")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_all(arguments: &[&str]) -> Result<Value, Failure> {
        read(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn words(failure: Failure) -> String {
        let Failure::Told(told) = failure else { panic!() };
        format!("{told:?}")
    }

    #[test]
    fn pairs_and_inline_json_mean_the_same() {
        let table: [(&[&str], Value); 9] = [
            (&["threshold=1"], json!({"threshold": 1})),
            (&["a.b=true", "a.c.d=null"], json!({"a": {"b": true, "c": {"d": null}}})),
            (&["unit=°C"], json!({"unit": "°C"})),
            (&["text=a=b"], json!({"text": "a=b"})),
            (&["empty="], json!({"empty": ""})),
            (&["list=[1, 2]"], json!({"list": [1, 2]})),
            (&[r#"quoted="1""#], json!({"quoted": "1"})),
            (&[r#"{"a": {"b": 1}}"#], json!({"a": {"b": 1}})),
            (&[r#"{"a": "x=y"}"#], json!({"a": "x=y"})),
        ];
        for (arguments, expected) in table {
            assert_eq!(read_all(arguments).unwrap(), expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_key_without_a_value_is_told_what_to_write() {
        for arguments in [&["threshold"][..], &["a=1", "threshold"]] {
            let told = words(read_all(arguments).unwrap_err());
            assert!(told.contains("write threshold=VALUE, or a JSON object"), "{told}");
        }
        assert_eq!(read_all(&["null"]).unwrap(), json!(null));
    }

    #[test]
    fn contradicting_and_malformed_pairs_are_refused() {
        for arguments in
            [&["a=1", "a=2"][..], &["a=1", "a.b=2"], &["a.b=1", "a=2"], &["a=1", "b"], &[".=1"], &["a.=1"], &[]]
        {
            assert!(read_all(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn mistake_is_shown_with_line_and_column() {
        let text = "{\n  \"a\": 1,\n  \"b\" 2\n}";
        let told = words(parse("limits.json", text, Some(Format::Json)).unwrap_err());

        assert!(told.contains("limits.json:3:7: not JSON: expected `:`"), "{told}");
        assert_eq!(pointer(text, 3, 7), ["  \"b\" 2", "      ^"]);
        let twice = words(parse("the argument", r#"{"a": 1, "a": 2}"#, Some(Format::Json)).unwrap_err());
        assert!(twice.contains("the argument: line 1, column 10: a: this key is given twice"), "{twice}");
    }

    #[test]
    fn file_is_read_where_an_at_sign_stands() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, octets: &[u8]| {
            let file = folder.path().join(name);
            std::fs::write(&file, octets).unwrap();
            format!("@{}", file.display())
        };

        assert_eq!(read_all(&[&write("a.json", b"{\"a\": 1}")]).unwrap(), json!({"a": 1}));
        assert_eq!(read_all(&[&write("a.yaml", b"a: 1\nb:\n- no\n")]).unwrap(), json!({"a": 1, "b": ["no"]}));
        assert_eq!(read_all(&[&write("settings", b"a: 1")]).unwrap(), json!({"a": 1}));
        assert_eq!(read_body(&write("b", b"\xff")).unwrap(), b"\xff");
        let not_text = words(read_all(&[&write("c.json", b"{\n\xff}")]).unwrap_err());
        assert!(not_text.contains("line 2 has an octet"), "{not_text}");
        let two = words(read_all(&[&write("d.yaml", b"a: .nan\nb: 007\n")]).unwrap_err());
        assert!(two.contains("d.yaml:1:4: a: is .nan") && two.contains("d.yaml:2:4: b: is 007"), "{two}");
        assert!(read_all(&["@/does/not/exist"]).is_err());
    }

    #[test]
    fn what_must_be_an_object_is_one() {
        assert!(read_object("a patch", &["a=1".to_owned()]).is_ok());
        assert!(words(read_object("a patch", &["[1]".to_owned()]).unwrap_err()).contains("a patch: a JSON object"));
    }
}
