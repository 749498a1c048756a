//! What most conditions are: comparisons of properties, joined by `AND`, `OR` and `NOT`. Each part is a truth, so there are no
//! values to be made, moved or thrown away.

use super::asked::Asked;
use super::function::{Function, numeral};
use super::program::Step;
use super::reference::Name;
use super::value::{Operator, Truth, Value};

/// Truths that wait for an operator at a time, at most.
const HEIGHT: usize = 8;

/// Steps on a stack of truths.
#[derive(Debug)]
pub(super) struct Logic(Box<[Part]>);

#[derive(Debug)]
enum Part {
    Text(Name, Operator, Box<str>),
    /// The number that a property holds as text.
    Number(Name, Operator, f64),
    IsDefined(Name),
    Not,
    And,
    Or,
    /// Goes on at a later part if what is there is this.
    Unless(Truth, usize),
}

impl Logic {
    /// The same condition, if it consists of nothing else.
    pub(super) fn of(steps: &[Step]) -> Option<Logic> {
        // For each step how many parts stand before it, as jumps go to steps.
        let mut places = vec![0; steps.len() + 1];
        let (mut parts, mut height) = (Vec::new(), 0_usize);
        let mut at = 0;
        while at < steps.len() {
            let (part, length) = match &steps[at..] {
                [Step::CompareProperty(name, operator, text), ..] => {
                    (Part::Text(name.clone(), *operator, text.clone()), 1)
                }
                [Step::Property(name), Step::Call(Function::IsDefined, 1), ..] => (Part::IsDefined(name.clone()), 2),
                [
                    Step::Property(name),
                    Step::Call(Function::AsNumber, 1),
                    Step::Constant(Value::Number(number)),
                    Step::Binary(operator),
                    ..,
                ] if operator.is_comparison() => (Part::Number(name.clone(), *operator, *number), 4),
                [Step::Not, ..] => (Part::Not, 1),
                [Step::Binary(Operator::And), ..] => (Part::And, 1),
                [Step::Binary(Operator::Or), ..] => (Part::Or, 1),
                [Step::Unless(Operator::And, target), ..] => (Part::Unless(Truth::False, *target), 1),
                [Step::Unless(Operator::Or, target), ..] => (Part::Unless(Truth::True, *target), 1),
                _ => return None,
            };
            match part {
                Part::Text(..) | Part::Number(..) | Part::IsDefined(_) => height += 1,
                Part::And | Part::Or => height -= 1,
                Part::Not | Part::Unless(..) => {}
            }
            if height > HEIGHT {
                return None;
            }
            parts.push(part);
            at += length;
            places[at] = parts.len();
        }
        for part in &mut parts {
            if let Part::Unless(_, target) = part {
                *target = places[*target];
            }
        }
        Some(Logic(parts.into()))
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Truth {
        let mut stack = [Truth::Undefined; HEIGHT];
        let mut top = 0;
        let mut at = 0;
        while let Some(part) = self.0.get(at) {
            at += 1;
            let truth = match part {
                Part::Text(name, operator, text) => {
                    asked.bytes(name).map(|found| operator.compares(found, text.as_bytes())).into()
                }
                Part::Number(name, operator, number) => {
                    let found = asked.bytes(name).and_then(numeral);
                    found.and_then(|found| operator.compare_numbers(found, *number)).into()
                }
                Part::IsDefined(name) => Some(asked.bytes(name).is_some()).into(),
                Part::Not => {
                    top -= 1;
                    stack[top].denied()
                }
                Part::And => {
                    top -= 2;
                    stack[top].and(stack[top + 1])
                }
                Part::Or => {
                    top -= 2;
                    stack[top].or(stack[top + 1])
                }
                Part::Unless(decides, target) => {
                    if stack[top - 1] == *decides {
                        at = *target;
                    }
                    continue;
                }
            };
            stack[top] = truth;
            top += 1;
        }
        stack[0]
    }
}
