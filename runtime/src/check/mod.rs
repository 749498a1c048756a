//! `dinrail check`: looks at the device and at the runtime, and says of each thing whether it is well, and what to do if not.
//!
//! What lies on the disk is looked at by [`state`], with or without a running runtime; what the runtime knows is judged by
//! [`live`], which is pure. Guarantee: looking changes nothing, apart from a probe file that is gone again. Invariant: whatever
//! is not well comes with a next step.

mod clock;
pub mod live;
mod mount;
mod probe;
pub mod state;
mod sync;
mod system;

pub use clock::clock;
pub use sync::disk_sync;
pub use system::system;

use crate::view::{Finding, Severity};

/// All is well.
fn ok(id: &str, summary: impl Into<String>) -> Finding {
    finding(id, Severity::Ok, summary, None)
}

/// Works, but a person should look.
fn warning(id: &str, summary: impl Into<String>, hint: impl Into<String>) -> Finding {
    finding(id, Severity::Warning, summary, Some(hint.into()))
}

/// Does not work, or will not for long.
fn error(id: &str, summary: impl Into<String>, hint: impl Into<String>) -> Finding {
    finding(id, Severity::Error, summary, Some(hint.into()))
}

/// Cannot be said, or does not apply.
fn skipped(id: &str, summary: impl Into<String>) -> Finding {
    finding(id, Severity::Skipped, summary, None)
}

fn finding(id: &str, status: Severity, summary: impl Into<String>, hint: Option<String>) -> Finding {
    Finding { id: id.to_owned(), status, summary: summary.into(), details: Vec::new(), hint }
}

/// The finding for several problems of one thing: the gravest counts, each is a detail.
fn gathered(id: &str, well: impl Into<String>, ill: &str, problems: Vec<Problem>) -> Finding {
    let Some(status) = problems.iter().map(|problem| problem.status).max() else { return ok(id, well) };
    let hint = problems.iter().find(|problem| problem.status == status).map(|problem| problem.hint.clone());
    let mut found = finding(id, status, ill, hint);
    found.details = problems.into_iter().map(|problem| problem.text).collect();
    found
}

/// One of several problems of a thing.
struct Problem {
    status: Severity,
    text: String,
    hint: String,
}

impl Problem {
    fn warning(text: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { status: Severity::Warning, text: text.into(), hint: hint.into() }
    }

    fn error(text: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { status: Severity::Error, text: text.into(), hint: hint.into() }
    }
}

/// Bytes as a person says them.
fn spoken_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len() - 1).find(|unit| bytes >> (10 * (unit + 1)) == 0).unwrap_or(UNITS.len() - 1);
    if unit == 0 {
        return format!("{bytes} bytes");
    }
    #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
    let count = bytes as f64 / f64::from(1u32 << 10).powi(i32::try_from(unit).unwrap_or(0));
    format!("{count:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_problem_counts_and_each_is_told() {
        let problems = vec![Problem::warning("a", "do a"), Problem::error("b", "do b"), Problem::warning("c", "do c")];

        let found = gathered("x", "well", "ill", problems);

        assert_eq!((found.status, found.hint.as_deref()), (Severity::Error, Some("do b")));
        assert_eq!(found.details, ["a", "b", "c"]);
        assert_eq!(gathered("x", "well", "ill", Vec::new()), ok("x", "well"));
    }

    #[test]
    fn bytes_are_said_with_one_digit() {
        let table = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (80 << 30, "80.0 GiB"),
            (1 << 60, "1048576.0 TiB"),
        ];
        for (bytes, spoken) in table {
            assert_eq!(spoken_bytes(bytes), spoken);
        }
    }
}
