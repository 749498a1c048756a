//! A condition as it was written, and the types of its parts.
//!
//! Parts lie in a list, each behind those that it is made of; the last one is the whole. So nothing that looks at a condition
//! needs a stack that grows with it.

use std::ops::Range;

use super::function::{Signature, Takes};
use super::reference::{BodyPath, Name, SystemName};
use super::value::Operator;

/// Index of a part.
pub(super) type Id = usize;

/// What is known of a value before there is a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Undefined,
    Null,
    Bool,
    Number,
    Text,
    /// Nothing is known: it comes from a body.
    Any,
}

/// A part of a condition.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) what: What,
    /// Bytes in the text of the route.
    pub(super) span: Range<usize>,
    /// The same with the parentheses around it.
    pub(super) outer: Range<usize>,
    pub(super) kind: Type,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(Box<str>),
    Property(Name),
    System(SystemName),
    /// `$name`: the property that is called so with its `$`, else the system property.
    PropertyOrSystem(Name, SystemName),
    /// A path into the body; index into [`Syntax::paths`].
    Body(u16),
    /// `$body.a`: the property that is called so, else the body's value.
    PropertyOrBody(Name, u16),
    /// Whether a change of a twin has something to do with a path: the one in the whole twin, the one in the patch.
    ChangeIncludes(u16, Option<u16>),
    Negate(Id),
    Not(Id),
    Binary(Operator, Id, Id),
    Call(&'static Signature, Vec<Id>),
    /// What an error was reported for.
    Broken,
}

/// A condition as it was written.
#[derive(Debug, Clone, Default)]
pub(super) struct Syntax {
    pub(super) parts: Vec<Part>,
    pub(super) paths: Vec<BodyPath>,
}

/// What does not fit: the part, what is wrong with it, what to write.
pub(super) struct Misfit {
    pub(super) at: usize,
    pub(super) message: String,
    pub(super) hint: String,
}

impl Type {
    /// With its article.
    pub(super) fn spoken(self) -> &'static str {
        match self {
            Type::Undefined => "undefined",
            Type::Null => "null",
            Type::Bool => "true or false",
            Type::Number => "a number",
            Type::Text => "a text",
            Type::Any => "a value of the body",
        }
    }
}

impl Syntax {
    pub(super) fn push(&mut self, what: What, span: Range<usize>, kind: Type) -> Id {
        self.parts.push(Part { what, outer: span.clone(), span, kind });
        self.parts.len() - 1
    }

    fn is_reference(&self, id: Id) -> bool {
        matches!(self.parts[id].what, What::Property(_) | What::System(_) | What::PropertyOrSystem(..))
    }

    fn text<'t>(&self, id: Id, text: &'t str) -> &'t str {
        text.get(self.parts[id].outer.clone()).unwrap_or_default()
    }

    /// A name to the right of a comparison, where people mean a text: `level = high`.
    pub(super) fn bare_word(&self, id: Id, text: &str) -> Option<String> {
        let What::Binary(operator, left, right) = self.parts[id].what else { return None };
        let is_text = matches!(self.parts[left].what, What::Text(_));
        let is_name = matches!(self.parts[right].what, What::Property(_)) && !is_text;
        (operator.is_comparison() && is_name)
            .then(|| crate::routing::error::short(&text[self.parts[right].span.clone()]))
    }

    /// As a message names it: what it is called where it is called something, with its type.
    fn named(&self, id: Id, text: &str) -> String {
        let part = &self.parts[id];
        let shown = crate::routing::error::short(self.text(id, text));
        match part.kind {
            _ if self.is_reference(id) => format!("{shown} is a property, and that is always a text"),
            Type::Undefined | Type::Null => format!("this is {}", part.kind.spoken()),
            kind => format!("{shown} is {}", kind.spoken()),
        }
    }

    /// Adds `-x` or `NOT x`.
    pub(super) fn unary(&mut self, is_not: bool, at: usize, of: Id, text: &str) -> (Id, Option<Misfit>) {
        let kind = self.parts[of].kind;
        let span = at..self.parts[of].outer.end;
        if is_not {
            let fits = matches!(kind, Type::Bool | Type::Null | Type::Undefined | Type::Any);
            let misfit = (!fits).then(|| Misfit {
                at: self.parts[of].span.start,
                message: format!("NOT needs true or false; {}", self.named(of, text)),
                hint: "NOT binds tighter than a comparison: write NOT (a = b)".to_owned(),
            });
            return (self.push(What::Not(of), span, Type::Bool), misfit);
        }
        let fits = matches!(kind, Type::Number | Type::Undefined | Type::Any);
        let misfit = (!fits).then(|| self.no_number(of, "'-'", text));
        let kind = if kind == Type::Undefined { kind } else { Type::Number };
        (self.push(What::Negate(of), span, kind), misfit)
    }

    /// Adds `left operator right`.
    pub(super) fn binary(&mut self, operator: Operator, left: Id, right: Id, text: &str) -> (Id, Option<Misfit>) {
        use Operator::*;
        let (of_left, of_right) = (self.parts[left].kind, self.parts[right].kind);
        let sign = format!("'{}'", operator.sign());
        let fits = |fitting: &[Type]| {
            [left, right].into_iter().find(|id| {
                let kind = self.parts[*id].kind;
                kind != Type::Any && !fitting.contains(&kind)
            })
        };
        let (kind, misfit) = match operator {
            Add | Subtract | Multiply | Divide | Remainder => {
                (Type::Number, fits(&[Type::Number]).map(|id| self.no_number(id, &sign, text)))
            }
            Concat => (Type::Text, fits(&[Type::Text]).map(|id| self.no_text(id, &sign, text))),
            And | Or => {
                let is_null = |kind| kind == Type::Null;
                let both_or_one = if operator == And {
                    is_null(of_left) || is_null(of_right)
                } else {
                    is_null(of_left) && is_null(of_right)
                };
                let misfit =
                    fits(&[Type::Bool, Type::Null, Type::Undefined]).map(|id| self.no_truth(id, operator, text));
                (if both_or_one { Type::Null } else { Type::Bool }, misfit)
            }
            Coalesce => {
                let kind = if of_left == of_right { of_left } else { Type::Any };
                (kind, self.unequal(operator, left, right, text))
            }
            _ => (Type::Bool, self.unequal(operator, left, right, text)),
        };
        let span = self.parts[left].outer.start..self.parts[right].outer.end;
        (self.push(What::Binary(operator, left, right), span, kind), misfit)
    }

    /// Adds a call whose arguments are as many as the signature says.
    pub(super) fn call(
        &mut self,
        signature: &'static Signature,
        arguments: Vec<Id>,
        span: Range<usize>,
        text: &str,
    ) -> (Id, Vec<Misfit>) {
        let mut misfits = Vec::new();
        for (index, id) in arguments.iter().enumerate() {
            let takes = signature.takes.get(index).or(signature.takes.last()).copied().unwrap_or(Takes::Anything);
            let fits = matches!(
                (takes, self.parts[*id].kind),
                (Takes::Anything, _)
                    | (_, Type::Any)
                    | (Takes::Number | Takes::NumberOrText, Type::Number)
                    | (Takes::Text | Takes::NumberOrText, Type::Text)
            );
            if !fits {
                misfits.push(match takes {
                    Takes::Number => self.no_number(*id, signature.name, text),
                    _ => self.no_text(*id, signature.name, text),
                });
            }
        }
        (self.push(What::Call(signature, arguments), span, signature.gives), misfits)
    }

    fn no_number(&self, id: Id, who: &str, text: &str) -> Misfit {
        let hint = match self.parts[id].kind {
            Type::Text if self.is_reference(id) => {
                let shown = self.text(id, text);
                misread(shown).unwrap_or_else(|| format!("write as_number({shown})"))
            }
            Type::Text => "as_number(…) makes a number of a text".to_owned(),
            _ => "what is undefined, null or a truth has no number".to_owned(),
        };
        Misfit {
            at: self.parts[id].span.start,
            message: format!("{who} needs a number; {}", self.named(id, text)),
            hint,
        }
    }

    fn no_text(&self, id: Id, who: &str, text: &str) -> Misfit {
        let hint = match self.parts[id].kind {
            Type::Number if matches!(self.parts[id].what, What::Number(_)) => {
                format!("texts stand in quotes: '{}'", self.text(id, text))
            }
            Type::Number => "a number cannot be made a text".to_owned(),
            _ => "texts stand in quotes, and properties are texts".to_owned(),
        };
        Misfit { at: self.parts[id].span.start, message: format!("{who} needs a text; {}", self.named(id, text)), hint }
    }

    fn no_truth(&self, id: Id, operator: Operator, text: &str) -> Misfit {
        let shown = self.text(id, text);
        let hint = if self.is_reference(id) {
            format!("compare it, as in {shown} = 'true'")
        } else {
            format!("compare it with something on this side of {}", operator.sign())
        };
        let message = format!("{} needs true or false; {}", operator.sign(), self.named(id, text));
        Misfit { at: self.parts[id].span.start, message, hint }
    }

    /// What is wrong with two sides that have to be of one type.
    fn unequal(&self, operator: Operator, left: Id, right: Id, text: &str) -> Option<Misfit> {
        let (of_left, of_right) = (self.parts[left].kind, self.parts[right].kind);
        if of_left == of_right || of_left == Type::Any || of_right == Type::Any {
            return None;
        }
        let sign = operator.sign();
        let (a, b) =
            (crate::routing::error::short(self.text(left, text)), crate::routing::error::short(self.text(right, text)));
        // The side that a person is likelier to have got wrong: a property.
        let property = [left, right].into_iter().find(|id| self.is_reference(*id));
        let of_other = |id: Id| if id == left { of_right } else { of_left };
        let at = self.parts[property.unwrap_or(right)].span.start;
        let message = match property {
            Some(id) => format!("{}; it cannot be compared with {}", self.named(id, text), of_other(id).spoken()),
            None => format!("{a} is {}, {b} is {}: these cannot be compared", of_left.spoken(), of_right.spoken()),
        };
        let message = if operator == Operator::Coalesce {
            format!(
                "both sides of ?? have to be of one type: {a} is {}, {b} is {}",
                of_left.spoken(),
                of_right.spoken()
            )
        } else {
            message
        };
        let hint = match (property, operator) {
            (Some(id), _) if misread(self.text(id, text)).is_some() => misread(self.text(id, text)).unwrap_or_default(),
            (_, Operator::Coalesce) => {
                "?? binds weaker than all else: it may need parentheses, as in (a ?? 'b') = 'c'".to_owned()
            }
            (Some(id), _) => match of_other(id) {
                Type::Number if id == left => format!("a property is always a string: write as_number({a}) {sign} {b}"),
                Type::Number => format!("a property is always a string: write {a} {sign} as_number({b})"),
                Type::Bool if id == left => format!("a property is always a string: write {a} {sign} '{b}'"),
                Type::Null | Type::Undefined => {
                    format!("whether it is there is asked by is_defined({})", if id == left { a } else { b })
                }
                _ => "a property is always a string: compare it with one".to_owned(),
            },
            (None, _) if [of_left, of_right].contains(&Type::Undefined) => {
                "nothing is equal to undefined: ask is_defined(…)".to_owned()
            }
            (None, _) => {
                "nothing is converted by itself: as_number('3') makes a number, '3' in quotes is a text".to_owned()
            }
        };
        Some(Misfit { at, message, hint })
    }
}

/// What to write where something else than a property was meant by what is read as the name of one.
fn misread(name: &str) -> Option<String> {
    let begins = |with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if begins("$twin.") {
        return Some(
            "routes on a device know no twins: let the module send what the twin says as a property".to_owned(),
        );
    }
    if begins("body.") {
        return Some(format!("a part of the body is written ${name}"));
    }
    if name.eq_ignore_ascii_case("$body") || name.eq_ignore_ascii_case("{$body}") {
        return Some("name a part of the body, as in $body.level".to_owned());
    }
    name.contains(['+', '*', '%', '|', '&']).then(|| "it is one name: put spaces around operators".to_owned())
}
