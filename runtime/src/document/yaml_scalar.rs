//! What a scalar of YAML means: the core schema of YAML 1.2, as far as JSON has a value for it.
//!
//! Source: YAML 1.2.2, section 10.3.2. Stricter in one thing: a number with leading zeros is refused, since readers of YAML 1.1
//! take it as octal and people mean a text.

use granit_parser::Tag;
use serde_json::{Number, Value};

/// Why a scalar has no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) message: String,
    pub(super) hint: String,
}

fn unfit<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Unfit> {
    Err(Unfit { message: message.into(), hint: hint.into() })
}

/// The value of a scalar; `is_plain`: it is written without quotes.
pub(super) fn resolve(text: &str, is_plain: bool, tag: Option<&Tag>) -> Result<Value, Unfit> {
    let Some(tag) = tag else {
        return if is_plain { plain(text) } else { Ok(Value::from(text)) };
    };
    if format!("{}{}", tag.handle(), tag.suffix()) == "!" {
        return Ok(Value::from(text));
    }
    let value = match tag.core_suffix() {
        Some("str") => return Ok(Value::from(text)),
        Some(kind @ ("null" | "bool" | "int" | "float")) => (kind, plain(text)?),
        _ => return unknown_tag(tag),
    };
    match value {
        ("null", Value::Null) => Ok(Value::Null),
        ("bool", value @ Value::Bool(_)) => Ok(value),
        ("int", value @ Value::Number(_)) if value.is_i64() || value.is_u64() => Ok(value),
        ("float", Value::Number(number)) => Ok(number.as_f64().and_then(Number::from_f64).into()),
        (kind, _) => unfit(format!("is not what its tag !!{kind} says"), "leave the tag out"),
    }
}

/// Checks the tag of a collection; `kind` is the one that it may have.
pub(super) fn check_collection(tag: Option<&Tag>, kind: &str) -> Result<(), Unfit> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(kind) => unknown_tag(tag),
        _ => Ok(()),
    }
}

fn unknown_tag<T>(tag: &Tag) -> Result<T, Unfit> {
    let shown: String = format!("{}{}", tag.original_handle(), tag.suffix()).chars().take(60).collect();
    unfit(
        format!("the tag {shown} has no meaning here"),
        "leave it out; there is !!str, !!int, !!float, !!bool, !!null",
    )
}

fn plain(text: &str) -> Result<Value, Unfit> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(true.into()),
        "false" | "False" | "FALSE" => return Ok(false.into()),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if [".inf", ".Inf", ".INF"].contains(&unsigned) || [".nan", ".NaN", ".NAN"].contains(&text) {
        return unfit(format!("is {text}, and JSON has no such number"), "put it in quotes, or leave it out");
    }
    if let Some(value) = in_base(text) {
        return value;
    }
    if !is_decimal(unsigned) {
        return Ok(Value::from(text));
    }
    let shown: String = text.chars().take(60).collect();
    if unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.as_bytes()[1].is_ascii_digit() {
        let sign = if text.starts_with('-') { "-" } else { "" };
        let number = unsigned.trim_start_matches('0');
        let zero = if number.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "0" };
        let hint = format!("write {sign}{zero}{number} for the number, \"{shown}\" for the text");
        return unfit(format!("is {shown}, a number with leading zeros"), hint);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number.into());
    }
    if let Ok(number) = text.parse::<u64>() {
        return Ok(number.into());
    }
    // As JSON reads it, where JSON writes it so too.
    if let Ok(number) = serde_json::from_str::<Number>(text) {
        return Ok(number.into());
    }
    match text.parse::<f64>().ok().and_then(Number::from_f64) {
        Some(number) => Ok(number.into()),
        None => unfit(format!("is {shown}, a number beyond all bounds"), "write a smaller one, or put it in quotes"),
    }
}

/// `0o17` and `0x1F`; `None` for anything else.
fn in_base(text: &str) -> Option<Result<Value, Unfit>> {
    let (digits, base) = match (text.strip_prefix("0o"), text.strip_prefix("0x")) {
        (Some(digits), _) => (digits, 8),
        (_, Some(digits)) => (digits, 16),
        _ => return None,
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    Some(match u64::from_str_radix(digits, base) {
        Ok(number) => Ok(number.into()),
        Err(_) => unfit("is a number beyond all bounds", "write a smaller one, or put it in quotes"),
    })
}

/// `[0-9]+(\.[0-9]*)?` or `\.[0-9]+`, and an exponent.
fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let mut rest = &text[whole..];
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        fraction = digits(after);
        rest = &after[fraction..];
    }
    if whole + fraction == 0 {
        return false;
    }
    match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_2_says() {
        for (text, value) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("nullable", json!("nullable")),
            ("true", json!(true)),
            ("FALSE", json!(false)),
            ("no", json!("no")),
            ("on", json!("on")),
            ("y", json!("y")),
            ("12", json!(12)),
            ("-12", json!(-12)),
            ("+12", json!(12)),
            ("0", json!(0)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("0.5e-3", json!(0.0005)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("0xG", json!("0xG")),
            ("1_000", json!("1_000")),
            ("1:30", json!("1:30")),
            ("1.2.3", json!("1.2.3")),
            ("1e", json!("1e")),
            (".", json!(".")),
            ("-", json!("-")),
            ("2026-11-21", json!("2026-11-21")),
        ] {
            assert_eq!(resolve(text, true, None), Ok(value), "{text}");
            assert_eq!(resolve(text, false, None), Ok(json!(text)), "quoted {text}");
        }
    }

    #[test]
    fn what_json_has_no_value_for_or_people_read_in_two_ways_is_refused() {
        for (text, hint) in [
            (".inf", "put it in quotes"),
            ("-.INF", "put it in quotes"),
            (".nan", "put it in quotes"),
            ("007", "write 7 for the number, \"007\" for the text"),
            ("-00.5", "write -0.5 for the number"),
            ("000", "write 0 for the number"),
            ("1e999", "write a smaller one"),
            ("0xFFFFFFFFFFFFFFFFF", "write a smaller one"),
        ] {
            let unfit = resolve(text, true, None).unwrap_err();
            assert!(unfit.hint.starts_with(hint), "{text}: {unfit:?}");
        }
    }
}
