//! What the languages that people write here have in common: texts in quotes, and the line of a mistake with a caret under it.

use unicode_width::UnicodeWidthStr;

/// Why a text in quotes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// An escape that is not known, at this byte.
    Escape(usize),
    /// Its quote is not closed.
    Unended,
}

/// Reads the text in quotes with which `text` begins: what it says, and its length in bytes with its quotes.
///
/// Escapes are `\"`, `\'`, `\\` and `\uXXXX` (two of these for a character of two halves), and those of `more`, each with what it
/// stands for.
pub fn quoted(text: &str, more: &[(char, char)]) -> Result<(String, usize), Unreadable> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, quote)| quote);
    while let Some((offset, c)) = chars.next() {
        match c {
            _ if Some(c) == quote => return Ok((value, offset + c.len_utf8())),
            '\\' => {
                let decoded = match chars.next().map(|(_, escaped)| escaped) {
                    Some(c @ ('\'' | '"' | '\\')) => Some(c),
                    Some('u' | 'U') => unicode(&mut chars),
                    Some(other) => more.iter().find(|(escape, _)| *escape == other).map(|(_, meant)| *meant),
                    None => None,
                };
                value.push(decoded.ok_or(Unreadable::Escape(offset))?);
            }
            c => value.push(c),
        }
    }
    Err(Unreadable::Unended)
}

/// Four digits, or eight with another `\u` between them where the first four are one half of a character.
fn unicode(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let unit = |chars: &mut dyn Iterator<Item = (usize, char)>| -> Option<u32> {
        (0..4).try_fold(0, |unit, _| Some(unit << 4 | chars.next()?.1.to_digit(16)?))
    };
    let first = unit(chars)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    if chars.next()?.1 != '\\' || !matches!(chars.next()?.1, 'u' | 'U') {
        return None;
    }
    let second = unit(chars)?;
    (0xdc00..0xe000)
        .contains(&second)
        .then(|| char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)))?
}

/// A line with a caret under its character number `caret`, from 0; of a long line what stands around it. Characters are as wide as
/// terminals show them.
pub fn excerpt(line: &str, caret: usize) -> String {
    const AROUND: usize = 60;
    let line: Vec<char> = line.chars().collect();
    let caret = caret.min(line.len());
    let (from, to) = (caret.saturating_sub(AROUND), (caret + AROUND).min(line.len()));
    let shown = |part: &[char]| -> String { part.iter().map(|c| if c.is_control() { ' ' } else { *c }).collect() };
    let (width, shown) = (shown(&line[from..caret]).width(), shown(&line[from..to]));
    let before = if from > 0 { "…" } else { "" };
    let after = if to < line.len() { "…" } else { "" };
    format!("{before}{}{after}\n{}^", shown.trim_end(), " ".repeat(width + before.width()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_to_their_closing_quote() {
        let read = |text: &str| quoted(text, &[('n', '\n'), ('/', '/')]);
        let of = |value: &str, length: usize| Ok((value.to_owned(), length));
        assert_eq!(read("'a' = 'b'"), of("a", 3));
        assert_eq!(read(r#""it's \"so\"""#), of("it's \"so\"", 13));
        assert_eq!(read(r"'\u00e9\ud83d\ude00\n\/'"), of("é😀\n/", 24));
        assert_eq!(read("'ü"), Err(Unreadable::Unended));
        assert_eq!(read("'"), Err(Unreadable::Unended));
        assert_eq!(read(""), Err(Unreadable::Unended));
        for bad in [r"'\x41'", r"'\t'", r"'\u12'", r"'\ud83d'", r"'\ud83d\u0041'", r"'\ude00'", r"'\"] {
            assert_eq!(read(bad), Err(Unreadable::Escape(1)), "{bad}");
        }
    }

    #[test]
    fn the_caret_stands_under_its_character() {
        assert_eq!(excerpt("größe > 3", 6), "größe > 3\n      ^");
        assert_eq!(excerpt("a", 9), "a\n ^");
        assert_eq!(excerpt("n = '日本' + b", 11), "n = '日本' + b\n             ^");
        assert_eq!(excerpt("e\u{301}é😀 b", 5), "e\u{301}é😀 b\n     ^");
        let long = excerpt(&"x".repeat(200), 100);
        assert!(long.starts_with('…') && long.lines().nth(1).unwrap().ends_with('^'), "{long}");
        assert_eq!(long.lines().nth(1).unwrap().chars().count(), 62);
    }
}
