//! The built-in functions: names, what they take, what they do. Source: IoT Edge's built-ins, all of them.

use std::borrow::Cow;

use super::syntax::Type;
use super::value::{Value, concat, made, number};

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    Exp,
    Power,
    Square,
    Ceiling,
    Floor,
    Sign,
    Sqrt,
    AsNumber,
    IsBool,
    IsDefined,
    IsNull,
    IsNumber,
    IsString,
    Concat,
    Length,
    Lower,
    Upper,
    Substring,
    IndexOf,
    StartsWith,
    EndsWith,
    Contains,
    /// Takes a path instead of values, and has its own place in the syntax.
    TwinChangeIncludes,
}

/// What may be given for an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Number,
    Text,
    NumberOrText,
    Anything,
}

/// A function as it is called.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) function: Function,
    pub(super) name: &'static str,
    /// Of each argument; further ones are as the last.
    pub(super) takes: &'static [Takes],
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) gives: Type,
    /// For people.
    pub(super) usage: &'static str,
}

const N: Takes = Takes::Number;
const T: Takes = Takes::Text;
const X: Takes = Takes::Anything;
const ANY_NUMBER: usize = usize::MAX;

const fn signature(
    function: Function,
    name: &'static str,
    takes: &'static [Takes],
    (least, most): (usize, usize),
    gives: Type,
    usage: &'static str,
) -> Signature {
    Signature { function, name, takes, least, most, gives, usage }
}

pub(super) const SIGNATURES: [Signature; 24] = [
    signature(Function::Abs, "abs", &[N], (1, 1), Type::Number, "abs(number)"),
    signature(Function::Exp, "exp", &[N], (1, 1), Type::Number, "exp(number)"),
    signature(Function::Power, "power", &[N, N], (2, 2), Type::Number, "power(base, exponent)"),
    signature(Function::Square, "square", &[N], (1, 1), Type::Number, "square(number)"),
    signature(Function::Ceiling, "ceiling", &[N], (1, 1), Type::Number, "ceiling(number)"),
    signature(Function::Floor, "floor", &[N], (1, 1), Type::Number, "floor(number)"),
    signature(Function::Sign, "sign", &[N], (1, 1), Type::Number, "sign(number)"),
    signature(Function::Sqrt, "sqrt", &[N], (1, 1), Type::Number, "sqrt(number)"),
    signature(Function::AsNumber, "as_number", &[Takes::NumberOrText], (1, 1), Type::Number, "as_number(text)"),
    signature(Function::IsBool, "is_bool", &[X], (1, 1), Type::Bool, "is_bool(value)"),
    signature(Function::IsDefined, "is_defined", &[X], (1, 1), Type::Bool, "is_defined(value)"),
    signature(Function::IsNull, "is_null", &[X], (1, 1), Type::Bool, "is_null(value)"),
    signature(Function::IsNumber, "is_number", &[X], (1, 1), Type::Bool, "is_number(value)"),
    signature(Function::IsString, "is_string", &[X], (1, 1), Type::Bool, "is_string(value)"),
    signature(Function::Concat, "concat", &[T], (2, ANY_NUMBER), Type::Text, "concat(text, text, …)"),
    signature(Function::Length, "length", &[T], (1, 1), Type::Number, "length(text)"),
    signature(Function::Lower, "lower", &[T], (1, 1), Type::Text, "lower(text)"),
    signature(Function::Upper, "upper", &[T], (1, 1), Type::Text, "upper(text)"),
    signature(Function::Substring, "substring", &[T, N, N], (2, 3), Type::Text, "substring(text, start[, length])"),
    signature(Function::IndexOf, "index_of", &[T, T], (2, 2), Type::Number, "index_of(text, part)"),
    signature(Function::StartsWith, "starts_with", &[T, T], (2, 2), Type::Bool, "starts_with(text, part)"),
    signature(Function::EndsWith, "ends_with", &[T, T], (2, 2), Type::Bool, "ends_with(text, part)"),
    signature(Function::Contains, "contains", &[T, T], (2, 2), Type::Bool, "contains(text, part)"),
    signature(
        Function::TwinChangeIncludes,
        "twin_change_includes",
        &[],
        (1, 1),
        Type::Bool,
        "twin_change_includes(properties.reported.temperature)",
    ),
];

impl Function {
    /// By its name, in any case.
    pub(super) fn find(name: &str) -> Option<&'static Signature> {
        SIGNATURES.iter().find(|signature| signature.name.eq_ignore_ascii_case(name))
    }

    /// The result for as many values as the signature says.
    pub(super) fn apply<'m>(self, arguments: &mut [Value<'m>]) -> Value<'m> {
        let take = |value: &mut Value<'m>| std::mem::replace(value, Value::Undefined);
        match arguments {
            [only] => self.of_one(take(only)),
            [first, second] if self == Function::Power => match (first, second) {
                (Value::Number(base), Value::Number(exponent)) => number(base.powf(*exponent)),
                _ => Value::Undefined,
            },
            [text, rest @ ..] if self == Function::Substring => {
                let Value::Text(text) = take(text) else { return Value::Undefined };
                match rest {
                    [Value::Number(start)] => substring(text, *start, None),
                    [Value::Number(start), Value::Number(length)] => substring(text, *start, Some(*length)),
                    _ => Value::Undefined,
                }
            }
            several if self == Function::Concat => concat(several),
            [Value::Text(text), Value::Text(part)] => match self {
                Function::StartsWith => Value::Bool(text.starts_with(&**part)),
                Function::EndsWith => Value::Bool(text.ends_with(&**part)),
                Function::Contains => Value::Bool(text.contains(&**part)),
                Function::IndexOf => {
                    let at = text.find(&**part).map_or(-1.0, |at| text[..at].chars().count() as f64);
                    Value::Number(at)
                }
                _ => Value::Undefined,
            },
            _ => Value::Undefined,
        }
    }

    fn of_one(self, value: Value<'_>) -> Value<'_> {
        match (self, value) {
            (Function::IsDefined, value) => Value::Bool(value.is_defined()),
            (Function::IsNull, value) => Value::Bool(value == Value::Null),
            (Function::IsBool, value) => Value::Bool(matches!(value, Value::Bool(_))),
            (Function::IsString, value) => Value::Bool(matches!(value, Value::Text(_))),
            (Function::IsNumber, value) => Value::Bool(matches!(value, Value::Number(number) if number.is_finite())),
            (Function::AsNumber, Value::Text(text)) => numeral(text.as_bytes()).map_or(Value::Undefined, Value::Number),
            (Function::AsNumber, Value::Number(number)) => Value::Number(number),
            (Function::Length, Value::Text(text)) => Value::Number(text.chars().count() as f64),
            (Function::Lower, Value::Text(text)) => changed(text, lower),
            (Function::Upper, Value::Text(text)) => changed(text, upper),
            (_, Value::Number(of)) => number(match self {
                Function::Abs => of.abs(),
                Function::Exp => of.exp(),
                Function::Square => of * of,
                Function::Ceiling => of.ceil(),
                Function::Floor => of.floor(),
                Function::Sign if of == 0.0 => 0.0,
                Function::Sign => of.signum(),
                Function::Sqrt => of.sqrt(),
                _ => return Value::Undefined,
            }),
            _ => Value::Undefined,
        }
    }
}

/// A new text only where something changes.
fn changed<'m>(text: Cow<'m, str>, change: fn(char) -> char) -> Value<'m> {
    if text.chars().all(|c| change(c) == c) { Value::Text(text) } else { made(text.chars().map(change).collect()) }
}

/// Character by character, whatever the language: what has no counterpart of one character stays. Source: .NET's invariant culture.
fn lower(c: char) -> char {
    one(c, c.to_lowercase())
}

/// See [`lower`].
fn upper(c: char) -> char {
    if c == 'ı' { c } else { one(c, c.to_uppercase()) }
}

fn one(c: char, mut changed: impl ExactSizeIterator<Item = char>) -> char {
    if changed.len() == 1 { changed.next().unwrap_or(c) } else { c }
}

/// Digits of whole numbers that are surely exact.
const EXACT_DIGITS: usize = 15;

/// A decimal number with an optional exponent, between spaces; `inf` and `nan` are words.
pub(super) fn numeral(text: &[u8]) -> Option<f64> {
    // Mostly it is a small whole number, which needs no parser.
    if (1..=EXACT_DIGITS).contains(&text.len()) && text.iter().all(u8::is_ascii_digit) {
        return Some(text.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0')) as f64);
    }
    let text = std::str::from_utf8(text).ok()?.trim();
    if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| !number.is_nan())
}

/// In characters. Undefined where it begins or ends outside of the text, with a length also where it begins at its end: as in IoT
/// Edge, which cuts off fractions after it has looked.
fn substring<'m>(text: Cow<'m, str>, start: f64, length: Option<f64>) -> Value<'m> {
    // No text has more characters than bytes, so that what is surely too far needs no count.
    let most = text.len() as f64;
    let is_within = match length {
        _ if !(0.0..=most).contains(&start) => false,
        None => true,
        Some(length) if !(0.0..=most).contains(&length) => false,
        Some(length) => {
            let whole = text.chars().count() as f64;
            start < whole && length <= whole - start
        }
    };
    if !is_within {
        return Value::Undefined;
    }
    let Some(from) = offset(&text, start as usize) else { return Value::Undefined };
    let to = match length {
        Some(length) => offset(&text[from..], length as usize).map(|length| from + length),
        None => Some(text.len()),
    };
    match (to, text) {
        (None, _) => Value::Undefined,
        (Some(to), Cow::Borrowed(text)) => Value::Text(Cow::Borrowed(&text[from..to])),
        (Some(to), Cow::Owned(text)) => Value::Text(Cow::Owned(text[from..to].to_owned())),
    }
}

/// Where the character number `count` begins; the end counts as one.
fn offset(text: &str, count: usize) -> Option<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(count)
}
