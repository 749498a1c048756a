//! Places within a text that is written with quotes, escapes, or over several lines.

/// Where in `written` the byte stands that is at `offset` once quotes, escapes and line folding are resolved to `decoded`.
///
/// `None` where the text does not stand there itself, as with an alias.
pub(super) fn written_offset(written: &str, decoded: &str, offset: usize) -> Option<usize> {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let blank = |text: &str| text.len() - text.trim_start_matches(is_space).len();
    let (quote, mut at) = match written.chars().next()? {
        '*' => return None,
        // A block text at the margin may begin with a quote too.
        quote @ ('"' | '\'') if written.len() > 1 && written.ends_with(quote) => (Some(quote), 1),
        '|' | '>' => {
            let header = written.find('\n')? + 1;
            (None, header + blank(&written[header..]))
        }
        _ => (None, 0),
    };
    let mut passed = 0;
    while passed < offset {
        let rest = written.get(at..)?;
        let (Some(c), Some(means)) = (rest.chars().next(), decoded.get(passed..)?.chars().next()) else { break };
        let run = blank(rest);
        if rest[..run].contains('\n') {
            // A fold: so much white space here stands for so much there.
            let folded = blank(&decoded[passed..]);
            if passed + folded > offset {
                break;
            }
            at += run;
            passed += folded;
            continue;
        }
        at += match (quote, c) {
            (Some('"'), '\\') => {
                let after = &rest[1..];
                if after.starts_with(['\n', '\r']) {
                    // The line goes on below.
                    at += 1 + blank(after);
                    continue;
                }
                escape_length(after)
            }
            (Some('\''), '\'') if rest.starts_with("''") => 2,
            _ => c.len_utf8(),
        };
        at = at.min(written.len());
        passed += means.len_utf8();
    }
    Some(at)
}

/// Bytes of an escape, the backslash included; `after` is what follows it.
fn escape_length(after: &str) -> usize {
    match after.chars().next() {
        Some('x') => 4,
        Some('U') => 10,
        Some('u') => match after.get(1..5).and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
            // Two of them stand for one character.
            Some(0xD800..=0xDBFF) => 12,
            _ => 6,
        },
        Some(other) => 1 + other.len_utf8(),
        None => 1,
    }
}
