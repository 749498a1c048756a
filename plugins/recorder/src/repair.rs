//! How much of a file is whole lines: what a kill, a power cut or a full disk has left of the last one is taken away.

use crate::settings::Format;

/// Length of the whole lines at the beginning of `bytes`.
///
/// Zeros, which some file systems leave at the end of a file after a power cut, are in no whole line.
pub fn whole_length(bytes: &[u8], format: Format) -> usize {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let bytes = &bytes[..end];
    let mut is_quoted = false;
    let mut whole = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if format == Format::Csv => is_quoted = !is_quoted,
            b'\n' if !is_quoted => whole = at + 1,
            _ => {}
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_kept_wherever_the_last_one_was_cut() {
        for (text, format, whole) in [
            ("", Format::Jsonl, ""),
            ("{\"a\"", Format::Jsonl, ""),
            ("{}\n{}\n", Format::Jsonl, "{}\n{}\n"),
            ("{}\n{\"b\": \"x", Format::Jsonl, "{}\n"),
            ("{}\n\0\0\n\0", Format::Jsonl, "{}\n"),
            ("{\"q\": \"\n", Format::Jsonl, "{\"q\": \"\n"),
            ("a,b\r\n1,2\r\n", Format::Csv, "a,b\r\n1,2\r\n"),
            ("a,b\r\n1,\"x\r\ny", Format::Csv, "a,b\r\n"),
            ("a,b\r\n1,\"x\r\ny\"\r\n2", Format::Csv, "a,b\r\n1,\"x\r\ny\"\r\n"),
            ("a\r\n\"x\"\"\r\n", Format::Csv, "a\r\n"),
            ("a\r\n\"x\"\"y\"\r\n", Format::Csv, "a\r\n\"x\"\"y\"\r\n"),
        ] {
            assert_eq!(&text[..whole_length(text.as_bytes(), format)], whole, "{text:?}");
        }
    }
}
