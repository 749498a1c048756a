//! Values, and what the operators make of them. Nothing here fails: what has no result is undefined.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// Longest text that functions make, in bytes. A longer one is undefined, so that no route fills the memory.
const MAX_MADE_TEXT: usize = 256 * 1024;

/// What a part of a condition is for one message. A number is never NaN: what is no number is undefined.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'m> {
    /// Not there, or without result.
    Undefined,
    /// JSON's null.
    Null,
    /// True or false.
    Bool(bool),
    /// All numbers are IEEE doubles.
    Number(f64),
    /// A text.
    Text(Cow<'m, str>),
    /// An object or array of a body: it is there, and that is all that can be said of it.
    Structure,
}

/// What a condition says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Truth {
    /// The message is taken.
    True,
    /// It is not.
    False,
    /// It is not, because something is missing or does not fit.
    Undefined,
}

impl Truth {
    /// `true`, `false` or `undefined`.
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "true",
            Truth::False => "false",
            Truth::Undefined => "undefined",
        }
    }

    /// Where one of both is false, so is the whole.
    #[inline]
    pub(super) fn and(self, other: Truth) -> Truth {
        match (self, other) {
            (Truth::False, _) | (_, Truth::False) => Truth::False,
            (Truth::True, Truth::True) => Truth::True,
            _ => Truth::Undefined,
        }
    }

    /// Where one of both is true, so is the whole.
    #[inline]
    pub(super) fn or(self, other: Truth) -> Truth {
        match (self, other) {
            (Truth::True, _) | (_, Truth::True) => Truth::True,
            (Truth::False, Truth::False) => Truth::False,
            _ => Truth::Undefined,
        }
    }

    #[inline]
    pub(super) fn denied(self) -> Truth {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Undefined => Truth::Undefined,
        }
    }
}

/// What is not there is undefined.
impl From<Option<bool>> for Truth {
    #[inline]
    fn from(truth: Option<bool>) -> Truth {
        match truth {
            Some(true) => Truth::True,
            Some(false) => Truth::False,
            None => Truth::Undefined,
        }
    }
}

impl From<Truth> for Value<'_> {
    #[inline]
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::True => Value::Bool(true),
            Truth::False => Value::Bool(false),
            Truth::Undefined => Value::Undefined,
        }
    }
}

/// Signs between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Coalesce,
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Concat,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// The higher, the tighter it binds. Source: IoT Edge.
    pub(super) fn precedence(self) -> u8 {
        use Operator::*;
        match self {
            Coalesce => 1,
            Or => 2,
            And => 3,
            Equal | NotEqual => 4,
            Less | LessOrEqual | Greater | GreaterOrEqual => 5,
            Add | Subtract | Concat => 6,
            Multiply | Divide | Remainder => 7,
        }
    }

    pub(super) fn sign(self) -> &'static str {
        use Operator::*;
        match self {
            Coalesce => "??",
            Or => "OR",
            And => "AND",
            Equal => "=",
            NotEqual => "!=",
            Less => "<",
            LessOrEqual => "<=",
            Greater => ">",
            GreaterOrEqual => ">=",
            Add => "+",
            Subtract => "-",
            Concat => "||",
            Multiply => "*",
            Divide => "/",
            Remainder => "%",
        }
    }

    /// The truth for two values, of which both sides were looked at; nothing is taken out of its place. `None` where it does not
    /// make a truth of them.
    #[inline]
    pub(super) fn judge(self, left: &Value<'_>, right: &Value<'_>) -> Option<Truth> {
        match self {
            // A null counts as false where a truth is wanted.
            Operator::And => Some(left.truth().and(right.truth())),
            Operator::Or => Some(left.truth().or(right.truth())),
            _ if self.is_comparison() => Some(self.compare(left, right).into()),
            _ => None,
        }
    }

    /// Makes a truth of two values.
    pub(super) fn is_comparison(self) -> bool {
        use Operator::*;
        matches!(self, Equal | NotEqual | Less | LessOrEqual | Greater | GreaterOrEqual)
    }

    /// The result for two values; both sides were looked at.
    pub(super) fn apply<'m>(self, left: Value<'m>, right: Value<'m>) -> Value<'m> {
        use Operator::*;
        if let Some(truth) = self.judge(&left, &right) {
            return truth.into();
        }
        match self {
            Coalesce if left.is_defined() => left,
            Coalesce => right,
            Concat => concat(&[left, right]),
            _ => match (left, right) {
                (Value::Number(left), Value::Number(right)) => number(match self {
                    Add => left + right,
                    Subtract => left - right,
                    Multiply => left * right,
                    Divide => left / right,
                    _ => left % right,
                }),
                _ => Value::Undefined,
            },
        }
    }

    /// Of two texts, for one of the comparisons.
    #[inline]
    pub(super) fn compares<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Operator::Equal => left == right,
            Operator::NotEqual => left != right,
            Operator::Less => left < right,
            Operator::LessOrEqual => left <= right,
            Operator::Greater => left > right,
            _ => left >= right,
        }
    }

    /// Of two numbers, for one of the comparisons.
    #[inline]
    pub(super) fn compare_numbers(self, left: f64, right: f64) -> Option<bool> {
        Some(self.holds(left.partial_cmp(&right)?))
    }

    fn compare(self, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
        let ordering = match (left, right) {
            (Value::Undefined | Value::Structure, _) | (_, Value::Undefined | Value::Structure) => return None,
            (Value::Number(left), Value::Number(right)) => return self.compare_numbers(*left, *right),
            (Value::Text(left), Value::Text(right)) => return Some(self.compares::<str>(left, right)),
            (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
            (Value::Null, Value::Null) => Ordering::Equal,
            // Null is no value of any type, so it can be told from all of them; but none is larger.
            (Value::Null, _) | (_, Value::Null) => {
                return match self {
                    Operator::Equal => Some(false),
                    Operator::NotEqual => Some(true),
                    _ => None,
                };
            }
            _ => return None,
        };
        Some(self.holds(ordering))
    }

    #[inline]
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Operator::Equal => ordering.is_eq(),
            Operator::NotEqual => ordering.is_ne(),
            Operator::Less => ordering.is_lt(),
            Operator::LessOrEqual => ordering.is_le(),
            Operator::Greater => ordering.is_gt(),
            _ => ordering.is_ge(),
        }
    }
}

impl<'m> Value<'m> {
    pub(super) fn is_defined(&self) -> bool {
        !matches!(self, Value::Undefined)
    }

    /// Null counts as false; what is no truth is undefined.
    pub(super) fn truth(&self) -> Truth {
        match self {
            Value::Bool(true) => Truth::True,
            Value::Bool(false) | Value::Null => Truth::False,
            _ => Truth::Undefined,
        }
    }

    pub(super) fn negated(self) -> Value<'m> {
        match self {
            Value::Number(number) => Value::Number(-number),
            _ => Value::Undefined,
        }
    }

    pub(super) fn denied(self) -> Value<'m> {
        self.truth().denied().into()
    }

    pub(super) fn into_owned<'o>(self) -> Value<'o> {
        match self {
            Value::Undefined => Value::Undefined,
            Value::Null => Value::Null,
            Value::Bool(truth) => Value::Bool(truth),
            Value::Number(number) => Value::Number(number),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Structure => Value::Structure,
        }
    }

    /// The same value, whose texts are borrowed of this one.
    pub(super) fn borrowed<'b>(&'b self) -> Value<'b> {
        match self {
            Value::Undefined => Value::Undefined,
            Value::Null => Value::Null,
            Value::Bool(truth) => Value::Bool(*truth),
            Value::Number(number) => Value::Number(*number),
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
            Value::Structure => Value::Structure,
        }
    }
}

/// A number, if it is one.
pub(super) fn number<'m>(number: f64) -> Value<'m> {
    if number.is_nan() { Value::Undefined } else { Value::Number(number) }
}

/// A text that was made, if it is not too long.
pub(super) fn made<'m>(text: String) -> Value<'m> {
    if text.len() > MAX_MADE_TEXT { Value::Undefined } else { Value::Text(Cow::Owned(text)) }
}

pub(super) fn concat<'m>(parts: &[Value<'m>]) -> Value<'m> {
    let mut length = 0;
    for part in parts {
        match part {
            Value::Text(text) => length += text.len(),
            _ => return Value::Undefined,
        }
    }
    if length > MAX_MADE_TEXT {
        return Value::Undefined;
    }
    let mut whole = String::with_capacity(length);
    parts.iter().for_each(|part| whole.push_str(if let Value::Text(text) = part { text } else { "" }));
    Value::Text(Cow::Owned(whole))
}

/// As a person reads it: texts in quotes, whole numbers without a point.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Undefined => f.write_str("undefined"),
            Value::Null => f.write_str("null"),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Structure => f.write_str("an object or array"),
        }
    }
}
