//! A mask: takes the values that an instance was given out of what it says.
//!
//! It knows a value as it is, as it stands in a JSON text, and as Rust and C print it with escapes; and each longer line of a
//! value that has several. It does not know what a module makes of a value, such as its hash.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;
use zeroize::Zeroizing;

/// Stands where a value stood.
pub const MASKED: &str = "***";
/// Shorter values are not looked for: they stand in innocent words.
pub const SHORTEST: usize = 4;
/// Lines of a value with several that are looked for one by one.
const SHORTEST_LINE: usize = 16;
/// Values that are remembered; the oldest go first.
const MAX_VALUES: usize = 64;

/// See the module's documentation.
#[derive(Clone, Default)]
pub struct Mask {
    values: Vec<Zeroizing<String>>,
    /// The longest first: one may be a part of another.
    patterns: Vec<Zeroizing<String>>,
}

impl Mask {
    /// The same mask that knows these values too; `None` where it knows them all.
    pub fn with<'v>(&self, values: impl IntoIterator<Item = &'v str>) -> Option<Mask> {
        let is_new =
            |value: &&str| value.len() >= SHORTEST && !self.values.iter().any(|known| known.as_str() == *value);
        let new: BTreeSet<&str> = values.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return None;
        }
        let mut values = self.values.clone();
        values.extend(new.into_iter().map(|value| Zeroizing::new(value.to_owned())));
        let surplus = values.len().saturating_sub(MAX_VALUES);
        values.drain(..surplus);
        let patterns = patterns(&values);
        Some(Mask { values, patterns })
    }

    /// The text without any value.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // What is taken out of a text is a text, and so is what remains.
            Cow::Owned(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
        }
    }

    /// The octets without any value.
    pub fn bytes<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        if !self.patterns.iter().any(|pattern| find(text, pattern.as_bytes()).is_some()) {
            return Cow::Borrowed(text);
        }
        let mut masked = Vec::with_capacity(text.len());
        let mut rest = text;
        'text: while let Some((first, after)) = rest.split_first() {
            for pattern in &self.patterns {
                if let Some(after) = rest.strip_prefix(pattern.as_bytes()) {
                    masked.extend_from_slice(MASKED.as_bytes());
                    rest = after;
                    continue 'text;
                }
            }
            masked.push(*first);
            rest = after;
        }
        Cow::Owned(masked)
    }

    /// Takes every value out of the texts of a document; true where one was there.
    pub fn document(&self, document: &mut Value) -> bool {
        match document {
            Value::String(text) => {
                let Cow::Owned(masked) = self.text(text) else { return false };
                *text = masked;
                true
            }
            Value::Array(items) => items.iter_mut().fold(false, |found, item| self.document(item) | found),
            Value::Object(members) => members.values_mut().fold(false, |found, member| self.document(member) | found),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask(of {})", self.values.len())
    }
}

fn patterns(values: &[Zeroizing<String>]) -> Vec<Zeroizing<String>> {
    let mut forms = BTreeSet::new();
    for value in values {
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
        for text in std::iter::once(value.as_str()).chain(lines) {
            forms.insert(text.to_owned());
            let json = Value::from(text).to_string();
            forms.insert(json[1..json.len() - 1].to_owned());
            forms.insert(text.escape_debug().to_string());
            forms.insert(text.escape_default().to_string());
        }
    }
    let mut patterns: Vec<Zeroizing<String>> = forms.into_iter().map(Zeroizing::new).collect();
    patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.len()));
    patterns
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    let first = *pattern.first()?;
    let mut from = 0;
    while let Some(at) = text.get(from..)?.iter().position(|byte| *byte == first) {
        if text[from + at..].starts_with(pattern) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask(values: &[&str]) -> Mask {
        Mask::default().with(values.iter().copied()).unwrap()
    }

    #[test]
    fn values_are_taken_out_in_every_form_that_they_are_written_in() {
        let value = "p\"w\\1\tü";
        let mask = mask(&[value]);
        let said = [
            value.to_owned(),
            format!("{value:?}"),
            json!({ "pw": value }).to_string(),
            value.escape_default().to_string(),
        ];
        for text in said {
            let masked = mask.text(&format!("before {text} after {text}")).into_owned();
            assert!(masked.contains(MASKED) && !masked.contains("w\\"), "{masked}");
            assert!(masked.starts_with("before "), "{masked}");
        }
        assert!(matches!(mask.text("nothing of it"), Cow::Borrowed("nothing of it")));
    }

    #[test]
    fn a_value_within_another_leaves_nothing_of_the_longer_one() {
        let mask = mask(&["hunter2", "hunter2-and-more"]);
        assert_eq!(mask.text("hunter2-and-more, hunter2"), "***, ***");
    }

    #[test]
    fn lines_of_a_long_value_are_taken_out_one_by_one() {
        let mask = mask(&["-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END KEY-----\n"]);
        assert_eq!(mask.text("line 2: MIIEvQIBADANBgkqhkiG9w0!"), "line 2: ***!");
    }

    #[test]
    fn octets_that_are_no_text_stay_and_short_values_are_left() {
        assert_eq!(mask(&["hunter2"]).bytes(b"\xff hunter2 \xfe").as_ref(), b"\xff *** \xfe");
        assert!(Mask::default().with(["abc"]).is_none());
        assert!(mask(&["hunter2"]).with(["hunter2"]).is_none(), "nothing new");
    }

    #[test]
    fn documents_are_masked_at_any_depth() {
        let mut document = json!({"a": [{"b": "x hunter2"}], "c": 1});
        assert!(mask(&["hunter2"]).document(&mut document));
        assert_eq!(document, json!({"a": [{"b": "x ***"}], "c": 1}));
        assert!(!mask(&["hunter2"]).document(&mut document));
    }
}
