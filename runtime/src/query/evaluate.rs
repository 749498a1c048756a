//! What a condition says of a document.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::Path;

/// A condition, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Literal(Value),
    Path(Path),
    IsDefined(Path),
    Compare(Comparison, Box<(Expression, Expression)>),
    /// `IN`, or `NIN` where the flag is false.
    In(Box<Expression>, bool, Vec<Value>),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Looks up a path in the document at hand.
type Field<'f, 'd> = &'f dyn Fn(&Path) -> Option<&'d Value>;

impl Expression {
    pub(super) fn is_true(&self, field: Field<'_, '_>) -> bool {
        self.truth(field) == Some(true)
    }

    /// `None` is undefined; so is everything that is no boolean.
    fn truth(&self, field: Field<'_, '_>) -> Option<bool> {
        match self {
            Expression::Literal(value) => value.as_bool(),
            Expression::Path(path) => field(path)?.as_bool(),
            Expression::IsDefined(path) => Some(field(path).is_some()),
            Expression::Compare(comparison, sides) => comparison.of(sides.0.value(field)?, sides.1.value(field)?),
            Expression::In(side, is_in, among) => {
                let side = side.value(field)?;
                Some(among.iter().any(|one| Comparison::Equal.of(side, Operand::Of(one)) == Some(true)) == *is_in)
            }
            Expression::Not(inner) => inner.truth(field).map(|truth| !truth),
            Expression::All(parts) => undefined_unless(parts, field, false),
            Expression::Any(parts) => undefined_unless(parts, field, true),
        }
    }

    fn value<'v, 'd: 'v>(&'v self, field: Field<'_, 'd>) -> Option<Operand<'v>> {
        match self {
            Expression::Literal(value) => Some(Operand::Of(value)),
            Expression::Path(path) => field(path).map(Operand::Of),
            _ => self.truth(field).map(Operand::Truth),
        }
    }
}

/// `decisive` if one part is so; its opposite if all are that; else undefined.
fn undefined_unless(parts: &[Expression], field: Field<'_, '_>, decisive: bool) -> Option<bool> {
    let mut all = Some(!decisive);
    for part in parts {
        match part.truth(field) {
            Some(truth) if truth == decisive => return Some(decisive),
            Some(_) => {}
            None => all = None,
        }
    }
    all
}

/// One side of a comparison.
#[derive(Clone, Copy)]
enum Operand<'d> {
    Of(&'d Value),
    Truth(bool),
}

impl Comparison {
    fn of(self, left: Operand<'_>, right: Operand<'_>) -> Option<bool> {
        let of_values = |left: &Value, right: &Value| self.of_values(left, right);
        match (left, right) {
            (Operand::Of(left), Operand::Of(right)) => of_values(left, right),
            (Operand::Truth(left), Operand::Of(right)) => of_values(&Value::Bool(left), right),
            (Operand::Of(left), Operand::Truth(right)) => of_values(left, &Value::Bool(right)),
            (Operand::Truth(left), Operand::Truth(right)) => of_values(&Value::Bool(left), &Value::Bool(right)),
        }
    }

    fn of_values(self, left: &Value, right: &Value) -> Option<bool> {
        let is_equality = matches!(self, Comparison::Equal | Comparison::NotEqual);
        let ordering = match (left, right) {
            (Value::Null, Value::Null) if is_equality => Ordering::Equal,
            (Value::Null, _) | (_, Value::Null) if is_equality => Ordering::Less,
            (Value::Bool(left), Value::Bool(right)) if is_equality => left.cmp(right),
            (Value::Number(left), Value::Number(right)) => order(left, right)?,
            (Value::String(left), Value::String(right)) => left.cmp(right),
            _ => return None,
        };
        Some(match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        })
    }
}

/// Integers exactly, all else as doubles.
fn order(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}
