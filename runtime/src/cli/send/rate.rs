//! Rates as a person types them, and the pace that they mean.

use std::time::{Duration, Instant};

/// So many in so much time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    per_second: f64,
}

impl Rate {
    /// Reads `100`, `100/s`, `30/m` or `4/h`. A number alone is for each second.
    pub fn parse(text: &str) -> Result<Rate, String> {
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match unit.trim() {
            "s" | "sec" | "second" => 1.0,
            "m" | "min" | "minute" => 60.0,
            "h" | "hour" => 3600.0,
            _ => return Err(format!("'{unit}' is no time; write it like 100/s, 30/m or 4/h")),
        };
        match number.trim().parse::<f64>() {
            Ok(number) if number.is_finite() && number > 0.0 => Ok(Rate { per_second: number / seconds }),
            _ => Err(format!("'{number}' is no rate; write it like 100/s, 30/m or 4/h")),
        }
    }

    /// When the message number `at`, from 0, is due after a start at `start`. Who is late catches up.
    pub fn due(self, start: Instant, at: u64) -> Instant {
        start + Duration::try_from_secs_f64(at as f64 / self.per_second).unwrap_or(Duration::MAX / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, per_second) in [("100", 100.0), ("2.5/s", 2.5), ("30/m", 0.5), ("3600 / h", 1.0)] {
            assert_eq!(Rate::parse(text), Ok(Rate { per_second }), "{text}");
        }
        for text in ["", "0", "-1", "x", "5/fortnight", "inf"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_are_due_evenly() {
        let start = Instant::now();
        let rate = Rate::parse("4").unwrap();
        assert_eq!(rate.due(start, 0), start);
        assert_eq!(rate.due(start, 6), start + Duration::from_millis(1500));
    }
}
