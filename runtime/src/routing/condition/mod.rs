//! Conditions: what stands behind `WHERE`.
//!
//! A condition is read once into a list of parts with static types, checked as a whole, and compiled into steps on a small stack.
//! Evaluating it looks properties up where the sender has them, asks for no memory unless a text is made or the body is asked
//! for, and never fails: what has no result is undefined.
//!
//! ```text
//! binds tightest   ( )   literals, references, calls
//!                  - NOT
//!                  * / %
//!                  + - ||
//!                  < <= > >=
//!                  = != <>
//!                  AND
//!                  OR
//! weakest          ??
//! reference        name | $name | {$name} | $body.a.b[0] | {$body.a}
//! literal          'text' "text" 3 -3.5 1e6 0x1F true false null undefined
//! ```
//!
//! Logic has three values: `undefined OR true` is true, `undefined AND false` is false, all else with undefined is undefined; so is
//! a comparison between different types. Objects and arrays of a body are defined and compare with nothing. A message is taken
//! where the whole is true.
//!
//! Guarantee: no text makes it panic, nest deeper than [`MAX_DEPTH`], or work longer than its length and the message's size ask
//! for; no stack grows with a condition. Source: IoT Edge's route language.

mod asked;
mod body;
mod explain;
mod function;
mod logic;
mod parser;
mod program;
pub(super) mod reference;
mod syntax;
mod value;

use std::fmt;
use std::sync::Arc;

pub use asked::Asked;
pub use body::BodyPaths;
pub use explain::{ExplainedPart, Explanation};
pub use value::Truth;

use super::cursor::Cursor;
use super::error::RouteError;
use super::view::MessageView;
use program::Program;
use reference::BodyPath;
use syntax::Syntax;

/// Parentheses, calls, `NOT` and `-` within each other.
pub const MAX_DEPTH: usize = 64;
/// Parts of the body that one condition asks for.
pub(super) const MAX_PATHS: usize = 64;

/// What stands behind `WHERE`, compiled. Cheap to clone.
#[derive(Clone)]
pub struct Condition(Arc<Compiled>);

struct Compiled {
    text: Box<str>,
    program: Program,
    paths: Box<[BodyPath]>,
}

/// A condition as one of several that are asked of the same messages.
#[derive(Debug, Clone)]
pub struct Test {
    condition: Condition,
    slots: Box<[u32]>,
}

/// A condition as it was read, with what can be said about it.
pub(super) struct Read {
    syntax: Syntax,
    text: Box<str>,
    pub(super) problems: Vec<RouteError>,
    pub(super) notes: Vec<String>,
}

impl Read {
    /// Reads what stands at the cursor, until `INTO` or the end.
    pub(super) fn at(cursor: &mut Cursor<'_>, is_of_twin_changes: bool) -> Read {
        let start = cursor.at;
        let parser::Parsed { syntax, problems, notes } = parser::parse(cursor, is_of_twin_changes);
        Read { syntax, text: cursor.text[start..cursor.at].trim().into(), problems, notes }
    }

    /// For evaluation.
    pub(super) fn compile(self) -> Condition {
        let program = Program::compile(&self.syntax);
        Condition(Arc::new(Compiled { text: self.text, program, paths: self.syntax.paths.into() }))
    }

    /// Why it says what it says of a message; `text` is that of the route.
    pub(super) fn explain(&self, view: MessageView<'_>, text: &str) -> Explanation {
        let mut paths = BodyPaths::default();
        let slots = slots(&self.syntax.paths, &mut paths);
        explain::explain(&self.syntax, &Asked::new(view, &paths), &slots, text)
    }
}

impl Condition {
    /// What it says of a message. For several conditions and one message, see [`Condition::among`].
    pub fn evaluate(&self, message: &MessageView<'_>) -> Truth {
        let mut paths = BodyPaths::default();
        let test = self.among(&mut paths);
        test.evaluate(&Asked::new(*message, &paths))
    }

    /// [`Condition::evaluate`] without the short way for what most conditions are.
    #[cfg(test)]
    fn evaluate_by_steps(&self, message: &MessageView<'_>) -> Truth {
        let mut paths = BodyPaths::default();
        let test = self.among(&mut paths);
        self.0.program.run_steps(&Asked::new(*message, &paths), &test.slots)
    }

    /// Joins others that will be asked of the same messages: what they want of the body is collected in `paths`, so that it is
    /// read once for all of them.
    pub fn among(&self, paths: &mut BodyPaths) -> Test {
        Test { condition: self.clone(), slots: slots(&self.0.paths, paths) }
    }
}

impl Test {
    /// What it says of a message that is asked with the paths that it was made with. `[never blocks]`
    #[inline]
    pub fn evaluate(&self, asked: &Asked<'_>) -> Truth {
        self.condition.0.program.run(asked, &self.slots)
    }
}

fn slots(own: &[BodyPath], paths: &mut BodyPaths) -> Box<[u32]> {
    own.iter().map(|path| paths.slot(path)).collect()
}

/// Two conditions are the same if they were written the same.
impl PartialEq for Condition {
    fn eq(&self, other: &Condition) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Condition {}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({})", self.0.text)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
