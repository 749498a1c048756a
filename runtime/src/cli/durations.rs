//! Time spans as a person types them: `30s`, `15m`, `1h`, `1h30m`, `500ms`, `1 day`.

use std::time::Duration;

/// Reads a time span. A number without a unit is refused: it would be seconds to one and minutes to another.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| format!("{why}; write it like 30s, 15m, 1h or 1h30m");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong("a time span is missing"));
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let why = if digits == 0 { "it does not start with a number" } else { "it is too long" };
        let amount: u64 = rest[..digits].parse().map_err(|_| wrong(why))?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit_ms = unit_ms(&rest[..letters]).ok_or_else(|| wrong("the number has no unit"))?;
        rest = rest[letters..].trim_start();
        let part = amount.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| wrong("it is too long"))?;
        total = total.checked_add(part).ok_or_else(|| wrong("it is too long"))?;
    }
    Ok(total)
}

/// Reads a time span of whole seconds: what counts in seconds is not to be given less, or more, than it says.
pub fn parse_whole_seconds(text: &str) -> Result<Duration, String> {
    let span = parse(text)?;
    if span.subsec_millis() == 0 { Ok(span) } else { Err("it counts in whole seconds; write it like 1s or 2h".into()) }
}

fn unit_ms(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" | "sec" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        let table = [
            ("30s", 30_000),
            ("15m", 900_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1 day", 86_400_000),
            (" 2 min 10 s ", 130_000),
            ("0s", 0),
        ];
        for (text, ms) in table {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_counts_in_seconds_is_given_in_whole_ones() {
        assert_eq!(parse_whole_seconds("1m2000ms"), Ok(Duration::from_secs(62)));
        assert_eq!(parse_whole_seconds("0s"), Ok(Duration::ZERO));
        for text in ["500ms", "1s1ms"] {
            assert!(parse_whole_seconds(text).unwrap_err().contains("whole seconds"), "{text}");
        }
        assert!(parse_whole_seconds("30").unwrap_err().contains("has no unit"));
    }

    #[test]
    fn spans_without_number_or_unit_are_refused() {
        for text in ["", "30", "s", "-1s", "1.5h", "30 fortnights", "99999999999999999999d", "18446744073709551615h"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("99999999999999999999s").unwrap_err().contains("too long"));
    }
}
