//! A condition as it is carried out: steps on a stack of values. Nothing is looked up twice, and what cannot change the result is
//! skipped.

use super::asked::Asked;
use super::function::Function;
use super::logic::Logic;
use super::reference::{Name, SystemName};
use super::syntax::{Id, Syntax, Type, What};
use super::value::{Operator, Truth, Value};

/// Values for which there is room without asking for memory.
const INLINE: usize = 8;

#[derive(Debug)]
pub(super) struct Program {
    steps: Box<[Step]>,
    /// Most values that are on the stack at a time.
    height: usize,
    /// The same, where it can be had for less.
    logic: Option<Logic>,
}

#[derive(Debug)]
pub(super) enum Step {
    Constant(Value<'static>),
    Property(Name),
    System(SystemName),
    PropertyOrSystem(Name, SystemName),
    /// Number of a path of this condition.
    Body(u16),
    PropertyOrBody(Name, u16),
    ChangeIncludes(u16, Option<u16>),
    Negate,
    Not,
    Binary(Operator),
    /// A property and a text that stands in the condition: what most conditions consist of.
    CompareProperty(Name, Operator, Box<str>),
    /// Null in the place of two values.
    Null,
    /// Number of values that it takes.
    Call(Function, usize),
    /// Goes on at a later step, the right side's end, if the left one decides.
    Unless(Operator, usize),
}

impl Program {
    pub(super) fn compile(syntax: &Syntax) -> Program {
        let mut steps = Vec::with_capacity(syntax.parts.len());
        let mut height = 0;
        let mut highest = 0;
        // Where the right sides of AND, OR and ?? begin: a place is the beginning of one of them at most.
        let mut waiting: Vec<Option<Operator>> = vec![None; syntax.parts.len()];
        let first = first_parts(syntax);
        for part in &syntax.parts {
            if let Some((operator, right)) = skips(&part.what, part.kind) {
                waiting[first[right]] = Some(operator);
            }
        }
        let mut jumps: Vec<usize> = Vec::new();
        for (id, part) in syntax.parts.iter().enumerate() {
            if let Some(operator) = waiting[id] {
                jumps.push(steps.len());
                steps.push(Step::Unless(operator, 0));
            }
            let takes = match &part.what {
                What::Negate(_) | What::Not(_) => 1,
                What::Binary(..) => 2,
                What::Call(_, arguments) => arguments.len(),
                _ => 0,
            };
            height = height + 1 - takes;
            highest = highest.max(height + takes);
            match joined(&part.what, &mut steps) {
                Some(step) => steps.push(step),
                None => steps.push(step(&part.what, part.kind)),
            }
            if skips(&part.what, part.kind).is_some()
                && let Some(jump) = jumps.pop()
            {
                let target = steps.len();
                if let Step::Unless(_, at) = &mut steps[jump] {
                    *at = target;
                }
            }
        }
        Program { logic: Logic::of(&steps), steps: steps.into(), height: highest }
    }

    #[inline]
    pub(super) fn run(&self, asked: &Asked<'_>, slots: &[u32]) -> Truth {
        match &self.logic {
            Some(logic) => logic.run(asked),
            None => self.run_steps(asked, slots),
        }
    }

    pub(super) fn run_steps(&self, asked: &Asked<'_>, slots: &[u32]) -> Truth {
        if self.height <= INLINE {
            self.run_on(&mut [const { Value::Undefined }; INLINE], asked, slots)
        } else {
            self.run_on(&mut vec![Value::Undefined; self.height], asked, slots)
        }
    }

    fn run_on<'a>(&'a self, stack: &mut [Value<'a>], asked: &'a Asked<'_>, slots: &[u32]) -> Truth {
        let mut top = 0;
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            at += 1;
            let body = |path: u16| slots.get(usize::from(path)).map_or(Value::Undefined, |slot| asked.body(*slot));
            let value = match step {
                Step::Constant(value) => value.borrowed(),
                Step::Property(name) => asked.property(name),
                Step::System(name) => asked.system(name),
                Step::PropertyOrSystem(property, system) => match asked.property(property) {
                    Value::Undefined => asked.system(system),
                    value => value,
                },
                Step::Body(path) => body(*path),
                Step::PropertyOrBody(property, path) => match asked.property(property) {
                    Value::Undefined => body(*path),
                    value => value,
                },
                Step::ChangeIncludes(whole, patch) => asked.change_includes(slots, *whole, *patch),
                Step::CompareProperty(name, operator, text) => {
                    let truth = asked.bytes(name).map(|found| operator.compares(found, text.as_bytes()));
                    stack[top] = Truth::from(truth).into();
                    top += 1;
                    continue;
                }
                Step::Negate => {
                    top -= 1;
                    take(stack, top).negated()
                }
                Step::Not => {
                    top -= 1;
                    take(stack, top).denied()
                }
                Step::Binary(operator) => {
                    top -= 2;
                    // What most operators are; values in their places cost a fraction of values that are moved.
                    if let Some(truth) = operator.judge(&stack[top], &stack[top + 1]) {
                        stack[top] = truth.into();
                        top += 1;
                        continue;
                    }
                    let (left, right) = (take(stack, top), take(stack, top + 1));
                    operator.apply(left, right)
                }
                Step::Null => {
                    top -= 2;
                    Value::Null
                }
                Step::Call(function, count) => {
                    top -= count;
                    function.apply(&mut stack[top..top + count])
                }
                Step::Unless(operator, target) => {
                    let left = &mut stack[top - 1];
                    let decides = match operator {
                        Operator::And => left.truth() == Truth::False,
                        Operator::Or => left.truth() == Truth::True,
                        _ => left.is_defined(),
                    };
                    if decides {
                        if *operator == Operator::And {
                            *left = Value::Bool(false);
                        }
                        at = *target;
                    }
                    continue;
                }
            };
            stack[top] = value;
            top += 1;
        }
        stack[0].truth()
    }
}

/// One step for a comparison whose sides were just pushed, where they are a property and a text.
fn joined(what: &What, steps: &mut Vec<Step>) -> Option<Step> {
    let What::Binary(operator, ..) = *what else { return None };
    if !operator.is_comparison() {
        return None;
    }
    let [.., Step::Property(name), Step::Constant(Value::Text(text))] = &steps[..] else { return None };
    let step = Step::CompareProperty(name.clone(), operator, text.as_ref().into());
    steps.truncate(steps.len() - 2);
    Some(step)
}

/// The operator and the right side of what need not look at it.
fn skips(what: &What, kind: Type) -> Option<(Operator, Id)> {
    match *what {
        What::Binary(operator @ (Operator::And | Operator::Or | Operator::Coalesce), _, right)
            if kind != Type::Null =>
        {
            Some((operator, right))
        }
        _ => None,
    }
}

fn take<'a>(stack: &mut [Value<'a>], at: usize) -> Value<'a> {
    std::mem::replace(&mut stack[at], Value::Undefined)
}

/// For each part the first one of those that it is made of, itself included.
fn first_parts(syntax: &Syntax) -> Vec<Id> {
    let mut first: Vec<Id> = Vec::with_capacity(syntax.parts.len());
    for (id, part) in syntax.parts.iter().enumerate() {
        first.push(match &part.what {
            What::Negate(of) | What::Not(of) => first[*of],
            What::Binary(_, left, _) => first[*left],
            What::Call(_, arguments) => arguments.first().map_or(id, |argument| first[*argument]),
            _ => id,
        });
    }
    first
}

fn step(what: &What, kind: Type) -> Step {
    match what {
        // A null on one side of AND, or on both of OR, makes null of it whatever the message is.
        What::Binary(..) if kind == Type::Null => Step::Null,
        What::Undefined | What::Broken => Step::Constant(Value::Undefined),
        What::Null => Step::Constant(Value::Null),
        What::Bool(truth) => Step::Constant(Value::Bool(*truth)),
        What::Number(number) => Step::Constant(Value::Number(*number)),
        What::Text(text) => Step::Constant(Value::Text(text.to_string().into())),
        What::Property(name) => Step::Property(name.clone()),
        What::System(name) => Step::System(name.clone()),
        What::PropertyOrSystem(property, system) => Step::PropertyOrSystem(property.clone(), system.clone()),
        What::Body(path) => Step::Body(*path),
        What::PropertyOrBody(property, path) => Step::PropertyOrBody(property.clone(), *path),
        What::ChangeIncludes(whole, patch) => Step::ChangeIncludes(*whole, *patch),
        What::Negate(_) => Step::Negate,
        What::Not(_) => Step::Not,
        What::Binary(operator, ..) => Step::Binary(*operator),
        What::Call(signature, arguments) => Step::Call(signature.function, arguments.len()),
    }
}
