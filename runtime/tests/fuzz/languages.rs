//! What the languages of routes and of queries promise alike: bounded time, and the place of each mistake with what to write.

use std::time::{Duration, Instant};

/// Far more than any text of the longest length needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);

/// Has a text read; what is no text is not looked at.
pub fn read(input: &[u8], read: impl Fn(&str) -> String) -> String {
    let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
    let begin = Instant::now();
    let outcome = read(text);
    assert!(begin.elapsed() < LIMIT, "{} bytes took {:?}", text.len(), begin.elapsed());
    outcome
}

/// Checks that a mistake lies within the text and says what to do; gives what kind of mistake it is.
pub fn mistake(text: &str, (line, column): (usize, usize), message: &str, hint: &str) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let found = lines.get(line - 1).unwrap_or_else(|| panic!("line {line} of {}", lines.len()));
    assert!((1..=found.chars().count() + 1).contains(&column), "column {column} of '{found}'");
    assert!(
        !message.is_empty() && !hint.is_empty(),
        "it is not said what is wrong, or what to do: '{message}' '{hint}'"
    );
    message.chars().filter(|c| c.is_ascii_lowercase() || *c == ' ').take(40).collect()
}
