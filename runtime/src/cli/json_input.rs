//! JSON as an argument: inline, `@FILE`, `-` (standard input) or `key=value` pairs, since quoting differs between shells.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::Failure;

/// Reads the JSON that these arguments stand for.
///
/// Pairs make an object: dots in a key nest (`limits.high=80`), a value is JSON where it parses and text where it does not.
pub fn read(arguments: &[String]) -> Result<Value, Failure> {
    match arguments {
        [] => Err(Failure::usage("JSON is missing").hint(FORMS)),
        [one] if one == "-" => parse("standard input", &read_stdin()?),
        [one] if one.starts_with('@') => {
            let path = Path::new(&one[1..]);
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::caused(format!("{} cannot be read", path.display()), &error))?;
            parse(&path.display().to_string(), &text)
        }
        [one] if split_pair(one).is_none() => parse("the argument", one),
        pairs => from_pairs(pairs),
    }
}

const FORMS: &str = r#"JSON may be '{"key": 1}', @FILE, - for standard input, or key=value pairs"#;

/// All of standard input, as text.
fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::caused("standard input cannot be read as text", &error))?;
    Ok(text)
}

/// Parses text from `place`; a failure points at line and column.
pub fn parse(place: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or(&what);
        let message = format!("{place} is not JSON: line {line}, column {column}: {what}");
        Failure::usage(message).details(pointer(text, line, column)).hint(FORMS)
    })
}

/// The line in question and a mark below the column.
fn pointer(text: &str, line: usize, column: usize) -> Vec<String> {
    const AROUND: usize = 60;
    let Some(shown) = line.checked_sub(1).and_then(|at| text.lines().nth(at)) else { return Vec::new() };
    // Columns are counted in bytes.
    let before = shown.char_indices().take_while(|(at, _)| at + 1 < column).count();
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

fn from_pairs(pairs: &[String]) -> Result<Value, Failure> {
    let mut object = Map::new();
    for pair in pairs {
        let Some((key, value)) = split_pair(pair) else {
            return Err(Failure::usage(format!("'{pair}' is not a key=value pair")).hint(FORMS));
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
    fn contradicting_and_malformed_pairs_are_refused() {
        for arguments in
            [&["a=1", "a=2"][..], &["a=1", "a.b=2"], &["a.b=1", "a=2"], &["a=1", "b"], &[".=1"], &["a.=1"], &[]]
        {
            assert!(read_all(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn mistake_is_shown_with_line_and_column() {
        let Failure::Told(told) = parse("limits.json", "{\n  \"a\": 1,\n  \"b\" 2\n}").unwrap_err() else { panic!() };

        let text = format!("{told:?}");
        assert!(text.contains("limits.json is not JSON: line 3, column 7: expected `:`"), "{text}");
        assert_eq!(pointer("{\n  \"a\": 1,\n  \"b\" 2\n}", 3, 7), ["  \"b\" 2", "      ^"]);
    }

    #[test]
    fn file_is_read_where_an_at_sign_stands() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        std::fs::write(&file, "{\"a\": 1}").unwrap();

        assert_eq!(read_all(&[&format!("@{}", file.display())]).unwrap(), json!({"a": 1}));
        assert!(read_all(&["@/does/not/exist"]).is_err());
    }
}
