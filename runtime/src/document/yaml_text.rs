//! Writes YAML: blocks, plain texts where every reader takes them as texts, quotes elsewhere.

use std::fmt::Write;

use serde_json::Value;

/// `value` as a document of YAML, which reads back as the same value.
pub fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => block(value, 0, &mut text),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut text),
        scalar => {
            inline(scalar, &mut text);
            text.push('\n');
        }
    }
    text
}

/// Writes a collection that is not empty, each of its entries on lines of its own.
fn block(value: &Value, indent: usize, text: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                text.push_str(&margin);
                scalar(key, text);
                text.push(':');
                entry(member, indent + 2, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                text.push_str(&margin);
                text.push('-');
                entry(item, indent + 2, text);
            }
        }
        _ => {}
    }
}

fn entry(value: &Value, indent: usize, text: &mut String) {
    let is_block = value.as_object().is_some_and(|members| !members.is_empty())
        || value.as_array().is_some_and(|items| !items.is_empty());
    if is_block {
        text.push('\n');
        return block(value, indent, text);
    }
    text.push(' ');
    inline(value, text);
    text.push('\n');
}

fn inline(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => scalar(string, text),
        other => {
            // Empty collections, numbers, words: as in JSON.
            let _ = write!(text, "{other}");
        }
    }
}

fn scalar(string: &str, text: &mut String) {
    if is_plain(string) {
        return text.push_str(string);
    }
    for c in Value::from(string).to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
}

/// Whether no reader, of YAML 1.1 either, takes it for anything but this text.
fn is_plain(string: &str) -> bool {
    const WORDS: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan"];
    let starts = string.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '$' | '_' | '/'));
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "$_/.- *()+<>=".contains(c);
    starts
        && string.chars().all(is_harmless)
        && !string.ends_with(' ')
        && !WORDS.iter().any(|word| string.eq_ignore_ascii_case(word))
}
