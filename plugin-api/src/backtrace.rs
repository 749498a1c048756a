//! A short backtrace: of a panic only the frames that are the author's.

use std::backtrace::Backtrace;
use std::fmt::Write;

/// Most lines of one.
const MAX_LINES: usize = 12;

/// The calls that led to a panic, a function a line and its place behind it where it is known: what lies between the machinery
/// of panics and the SDK that called the author's code. Empty where there are no symbols. Takes milliseconds.
pub(crate) fn of_panic() -> String {
    short(&Backtrace::force_capture().to_string())
}

/// Reads the text of a backtrace: `   3: name`, and below some of them `             at file:line:column`.
fn short(whole: &str) -> String {
    let mut frames: Vec<(&str, Option<&str>)> = Vec::new();
    for line in whole.lines().map(str::trim) {
        match (line.strip_prefix("at "), line.split_once(": ")) {
            (Some(place), _) => {
                if let Some((_, known)) = frames.last_mut() {
                    *known = Some(place);
                }
            }
            (None, Some((number, name))) if number.bytes().all(|b| b.is_ascii_digit()) => frames.push((name, None)),
            _ => {}
        }
    }
    let end = frames.iter().position(|(name, _)| is_caller(name)).unwrap_or(frames.len());
    let begin = frames[..end].iter().rposition(|(name, _)| is_panicking(name)).map_or(0, |at| at + 1);
    let own = frames[begin..end].iter().filter(|(name, _)| !is_library(name));
    let mut text = String::new();
    for (name, place) in own.take(MAX_LINES) {
        // Writing into a string does not fail.
        let _ = match place {
            Some(place) => writeln!(text, "{name} ({})", without_column(place)),
            None => writeln!(text, "{name}"),
        };
    }
    text
}

fn is_panicking(name: &str) -> bool {
    name.starts_with("core::panicking::") || name.starts_with("std::panicking::") || name.ends_with("rust_begin_unwind")
}

/// True for what calls the author's code.
fn is_caller(name: &str) -> bool {
    name.contains("dinrail_plugin::entry::")
        || name.contains("dinrail_plugin::work::")
        || name.contains("__rust_begin_short_backtrace")
}

fn is_library(name: &str) -> bool {
    ["core::", "std::", "alloc::", "<core::", "<std::", "<alloc::", "__rust", "<unknown>"]
        .iter()
        .any(|begin| name.starts_with(begin))
}

fn without_column(place: &str) -> &str {
    match place.rsplit_once(':') {
        Some((rest, column)) if rest.contains(':') && column.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authors_frames_are_left() {
        let whole = "   0: std::backtrace_rs::backtrace::libunwind::trace
             at /rustc/0/library/std/src/backtrace_rs.rs:117:9
   1: dinrail_plugin::backtrace::of_panic
   2: dinrail_plugin::logs::forward_panic
   3: std::panicking::panic_with_hook
   4: __rustc::rust_begin_unwind
   5: core::panicking::panic_fmt
             at /rustc/0/library/core/src/panicking.rs:80:14
   6: talker::open_the_box
             at ./src/lib.rs:71:5
   7: core::iter::traits::iterator::Iterator::for_each
   8: talker::Talker::look
             at C:\\src\\lib.rs:66:5
   9: <talker::Talker as dinrail_plugin::module::Module>::on_message
  10: dinrail_plugin::entry::on_message::{{closure}}
             at ./plugin-api/src/entry.rs:231:9
  11: std::panicking::catch_unwind::do_call
  12: dinrail_plugin::entry::call
  13: start_thread
";
        assert_eq!(
            short(whole),
            "talker::open_the_box (./src/lib.rs:71)\ntalker::Talker::look (C:\\src\\lib.rs:66)\n\
             <talker::Talker as dinrail_plugin::module::Module>::on_message\n"
        );
    }

    #[test]
    fn without_symbols_there_is_none_and_a_deep_one_is_cut() {
        assert_eq!(short("   0: <unknown>\n   1: <unknown>\n"), "");
        let deep: String =
            (0..100).map(|n| format!("{n:>4}: a::recursion\n             at ./src/lib.rs:1:1\n")).collect();
        assert_eq!(short(&deep).lines().count(), MAX_LINES);
    }
}
