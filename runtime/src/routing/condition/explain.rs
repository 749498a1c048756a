//! Why a condition says what it says: the value of each part, and which parts decided.

use super::asked::Asked;
use super::syntax::{Id, Syntax, What};
use super::value::{Operator, Truth, Value};

/// Parts that are shown at most, and how much of the text of each.
const MAX_SHOWN: usize = 200;
const MAX_SHOWN_BYTES: usize = 300;

/// A part of a condition and what it is for one message.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedPart {
    /// As it stands in the route.
    pub text: String,
    /// Its value; texts are in quotes.
    pub value: String,
    /// How deep it stands; the whole condition is 0.
    pub depth: usize,
    /// Whether the result came from it.
    pub is_deciding: bool,
}

/// A condition, taken apart for one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What it says of the message.
    pub truth: Truth,
    /// The whole, and below each part those that it is made of.
    pub parts: Vec<ExplainedPart>,
    /// What else is to be known, such as why the body is not looked into.
    pub remarks: Vec<String>,
}

/// The values of all parts, whatever of it decides.
pub(super) fn values<'a>(syntax: &'a Syntax, asked: &'a Asked<'_>, slots: &[u32]) -> Vec<Value<'a>> {
    let mut values: Vec<Value<'a>> = Vec::with_capacity(syntax.parts.len());
    let body = |path: u16| slots.get(usize::from(path)).map_or(Value::Undefined, |slot| asked.body(*slot));
    for part in &syntax.parts {
        let or = |value: Value<'a>, other: Value<'a>| if value.is_defined() { value } else { other };
        let value = match &part.what {
            What::Undefined | What::Broken => Value::Undefined,
            What::Null => Value::Null,
            What::Bool(truth) => Value::Bool(*truth),
            What::Number(number) => Value::Number(*number),
            What::Text(text) => Value::Text((&**text).into()),
            What::Property(name) => asked.property(name),
            What::System(name) => asked.system(name),
            What::PropertyOrSystem(property, system) => or(asked.property(property), asked.system(system)),
            What::Body(path) => body(*path),
            What::PropertyOrBody(property, path) => or(asked.property(property), body(*path)),
            What::ChangeIncludes(whole, patch) => asked.change_includes(slots, *whole, *patch),
            What::Negate(of) => values[*of].clone().negated(),
            What::Not(of) => values[*of].clone().denied(),
            What::Binary(Operator::And | Operator::Or, ..) if part.kind == super::syntax::Type::Null => Value::Null,
            What::Binary(operator, left, right) => operator.apply(values[*left].clone(), values[*right].clone()),
            What::Call(signature, arguments) => {
                let mut arguments: Vec<Value<'a>> = arguments.iter().map(|id| values[*id].clone()).collect();
                signature.function.apply(&mut arguments)
            }
        };
        values.push(value);
    }
    values
}

pub(super) fn explain(syntax: &Syntax, asked: &Asked<'_>, slots: &[u32], text: &str) -> Explanation {
    let values = values(syntax, asked, slots);
    let Some(whole) = syntax.parts.len().checked_sub(1) else {
        return Explanation { truth: Truth::Undefined, parts: Vec::new(), remarks: Vec::new() };
    };
    let mut parts = Vec::with_capacity(values.len());
    let mut asks_body = false;
    // What is still to be shown, the next one last.
    let mut pending: Vec<(Id, usize, bool)> = vec![(whole, 0, true)];
    while let Some((id, depth, is_deciding)) = pending.pop() {
        let part = &syntax.parts[id];
        asks_body |= matches!(part.what, What::Body(_) | What::PropertyOrBody(..)) && !values[id].is_defined();
        if parts.len() == MAX_SHOWN {
            break;
        }
        parts.push(ExplainedPart {
            text: shown(text.get(part.span.clone()).unwrap_or_default()),
            value: values[id].to_string(),
            depth,
            is_deciding,
        });
        match &part.what {
            What::Negate(of) | What::Not(of) => pending.push((*of, depth + 1, is_deciding)),
            What::Binary(operator @ (Operator::And | Operator::Or | Operator::Coalesce), ..) => {
                // A chain of the same operator is one list: a AND b AND c has three parts.
                let operands = chain(syntax, id, *operator);
                let deciding = deciding(*operator, &values[id], operands.iter().map(|id| &values[*id]));
                for (index, operand) in operands.iter().enumerate().rev() {
                    pending.push((*operand, depth + 1, is_deciding && deciding[index]));
                }
            }
            What::Binary(_, left, right) => {
                for side in [right, left] {
                    if !is_literal(&syntax.parts[*side].what) {
                        let decides = values[id].is_defined() || !values[*side].is_defined();
                        pending.push((*side, depth + 1, is_deciding && decides));
                    }
                }
            }
            What::Call(_, arguments) => {
                for argument in arguments.iter().rev().filter(|id| !is_literal(&syntax.parts[**id].what)) {
                    let decides = values[id].is_defined() || !values[*argument].is_defined();
                    pending.push((*argument, depth + 1, is_deciding && decides));
                }
            }
            _ => {}
        }
    }
    let mut remarks: Vec<String> =
        asks_body.then(|| asked.no_body()).flatten().map(str::to_owned).into_iter().collect();
    if parts.len() == MAX_SHOWN {
        remarks.push(format!("only the first {MAX_SHOWN} parts are shown"));
    }
    Explanation { truth: values[whole].truth(), parts, remarks }
}

/// On one line, and no longer than a person reads.
fn shown(text: &str) -> String {
    let cut = text.floor_char_boundary(MAX_SHOWN_BYTES);
    let words: Vec<&str> = text[..cut].split_whitespace().collect();
    format!("{}{}", words.join(" "), if cut < text.len() { "…" } else { "" })
}

fn is_literal(what: &What) -> bool {
    matches!(what, What::Undefined | What::Null | What::Bool(_) | What::Number(_) | What::Text(_))
}

fn chain(syntax: &Syntax, mut id: Id, operator: Operator) -> Vec<Id> {
    let mut operands = Vec::new();
    while let What::Binary(found, left, right) = syntax.parts[id].what {
        if found != operator {
            break;
        }
        operands.push(right);
        id = left;
    }
    operands.push(id);
    operands.reverse();
    operands
}

/// Which of the parts of AND, OR and ?? made the result what it is.
fn deciding<'v>(operator: Operator, whole: &Value<'_>, parts: impl Iterator<Item = &'v Value<'v>>) -> Vec<bool> {
    let mut is_decided = false;
    let mut once = |decides: bool| {
        let is_first = decides && !is_decided;
        is_decided |= decides;
        is_first
    };
    let truth = whole.truth();
    parts
        .map(|part| match (operator, truth) {
            (Operator::Coalesce, _) => once(part.is_defined()),
            (Operator::And, Truth::True) | (Operator::Or, Truth::False) => true,
            (Operator::And, Truth::False) => once(part.truth() == Truth::False),
            (Operator::Or, Truth::True) => once(part.truth() == Truth::True),
            // Each undefined part is reason enough.
            _ => part.truth() == Truth::Undefined,
        })
        .collect()
}
