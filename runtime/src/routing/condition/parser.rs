//! From the text behind `WHERE` to its syntax. Open parentheses, calls and operators that wait for their right side are a list,
//! so no text makes this recurse.

mod operand;

use super::MAX_DEPTH;
use super::function::Signature;
use super::syntax::{Id, Misfit, Syntax, Type, What};
use super::value::Operator;
use crate::routing::cursor::Cursor;
use crate::routing::error::RouteError;
use crate::spelling::nearest;

/// Problems of one condition that are told at once.
const MAX_PROBLEMS: usize = 20;
const VALUES: &str =
    "a value is a property's name, 'text', a number, $body.path, a function such as as_number(…), true, false or null";
const AFTER_VALUE: &str = "behind a value comes an operator (AND OR = != < <= > >= + - * / % || ??), or INTO";

/// What is waiting for its right side, or its end.
enum Open {
    Binary(Operator, Id),
    Negate(usize),
    Not(usize),
    Parenthesis(usize),
    Call { signature: Option<&'static Signature>, at: usize, arguments: Vec<Id> },
}

/// Where a reading ended, with what can be said of it beside errors.
pub(super) struct Parsed {
    pub(super) syntax: Syntax,
    pub(super) problems: Vec<RouteError>,
    /// What is allowed and yet hardly meant.
    pub(super) notes: Vec<String>,
}

struct Parser<'c, 't> {
    cursor: &'c mut Cursor<'t>,
    syntax: Syntax,
    open: Vec<Open>,
    depth: usize,
    /// Whether `twin_change_includes` has a meaning.
    is_of_twin_changes: bool,
    problems: Vec<RouteError>,
    /// How many more there are than can be told at once.
    untold: usize,
    notes: Vec<String>,
}

/// Reads a condition until `INTO` or the end. A syntax error ends it, and what stands behind the last `INTO` goes on; all else is
/// collected.
pub(super) fn parse(cursor: &mut Cursor<'_>, is_of_twin_changes: bool) -> Parsed {
    let mut parser = Parser {
        cursor,
        syntax: Syntax::default(),
        open: Vec::new(),
        depth: 0,
        is_of_twin_changes,
        problems: Vec::new(),
        untold: 0,
        notes: Vec::new(),
    };
    match parser.whole() {
        Ok(whole) => parser.look_at_whole(whole),
        Err(error) => {
            parser.problem(error);
            // So that the caller does not take up in the middle of it.
            let rest = parser.cursor.rest();
            parser.cursor.at += last_into(rest).unwrap_or(rest.len());
        }
    }
    parser.tell_untold();
    Parsed { syntax: parser.syntax, problems: parser.problems, notes: parser.notes }
}

/// Where the last `INTO` stands as a word of its own.
fn last_into(text: &str) -> Option<usize> {
    let words = text.split_whitespace().rev().find(|word| word.eq_ignore_ascii_case("INTO"))?;
    Some(words.as_ptr() as usize - text.as_ptr() as usize)
}

fn is_in_name(c: char) -> bool {
    !(c.is_whitespace() || c.is_control() || "()<>@,;:\\\"/[]?={}".contains(c))
}

impl<'t> Parser<'_, 't> {
    fn whole(&mut self) -> Result<Id, RouteError> {
        loop {
            let Some(mut value) = self.operand()? else { continue };
            loop {
                self.cursor.skip()?;
                if self.is_at_end() {
                    value = self.reduce(value, 0);
                    return match self.open.last() {
                        None => Ok(value),
                        Some(Open::Parenthesis(at) | Open::Call { at, .. }) => {
                            Err(self.cursor.error(*at, "this parenthesis is not closed", "close it with )"))
                        }
                        Some(_) => Err(self.cursor.error(self.cursor.at, "a value is missing", VALUES)),
                    };
                }
                let at = self.cursor.at;
                if self.cursor.take(")") {
                    value = self.reduce(value, 0);
                    value = self.close(value, at)?;
                    continue;
                }
                if self.cursor.take(",") {
                    value = self.reduce(value, 0);
                    match self.open.last_mut() {
                        Some(Open::Call { arguments, .. }) => arguments.push(value),
                        _ => {
                            return Err(self.cursor.error(
                                at,
                                "',' only stands between the arguments of a function",
                                AFTER_VALUE,
                            ));
                        }
                    }
                    break;
                }
                let operator = self.operator()?;
                value = self.reduce(value, operator.precedence());
                self.open.push(Open::Binary(operator, value));
                break;
            }
        }
    }

    /// Puts together what binds at least as tight as `precedence`.
    fn reduce(&mut self, mut value: Id, precedence: u8) -> Id {
        while let Some(open) = self.open.last() {
            let (id, misfit) = match *open {
                Open::Binary(operator, left) if operator.precedence() >= precedence => {
                    self.syntax.binary(operator, left, value, self.cursor.text)
                }
                Open::Negate(at) => self.syntax.unary(false, at, value, self.cursor.text),
                Open::Not(at) => self.syntax.unary(true, at, value, self.cursor.text),
                _ => break,
            };
            if matches!(self.open.pop(), Some(Open::Negate(_) | Open::Not(_))) {
                self.depth -= 1;
            }
            value = self.settle(id, misfit);
        }
        value
    }

    /// What did not fit is told, and taken for anything, so that it is told once.
    fn settle(&mut self, id: Id, misfits: impl IntoIterator<Item = Misfit>) -> Id {
        if let Some(word) = self.syntax.bare_word(id, self.cursor.text) {
            self.note(format!("{word} is taken for a property of this name; a text stands in quotes: '{word}'"));
        }
        for Misfit { at, message, hint } in misfits {
            let error = self.cursor.error(at, message, hint);
            self.problem(error);
            if let What::Binary(Operator::Coalesce, ..) = self.syntax.parts[id].what {
                self.syntax.parts[id].kind = Type::Any;
            }
        }
        id
    }

    fn problem(&mut self, error: RouteError) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(error);
        } else {
            self.untold += 1;
        }
    }

    fn tell_untold(&mut self) {
        if let (more @ 1.., Some(last)) = (self.untold, self.problems.last()) {
            let error =
                self.cursor.error(last.at, format!("behind this, {more} more mistakes"), "mend those before first");
            self.problems.push(error);
        }
    }

    fn close(&mut self, value: Id, at: usize) -> Result<Id, RouteError> {
        self.depth = self.depth.saturating_sub(1);
        match self.open.pop() {
            Some(Open::Parenthesis(start)) => {
                self.syntax.parts[value].outer = start..self.cursor.at;
                Ok(value)
            }
            Some(Open::Call { signature, at: start, mut arguments }) => {
                arguments.push(value);
                Ok(self.call(signature, start, arguments))
            }
            _ => Err(self.cursor.error(at, "')' closes nothing", "leave it out, or open it with (")),
        }
    }

    /// A call that ends here.
    fn call(&mut self, signature: Option<&'static Signature>, start: usize, arguments: Vec<Id>) -> Id {
        let span = start..self.cursor.at;
        let Some(signature) = signature else { return self.syntax.push(What::Broken, span, Type::Any) };
        if !(signature.least..=signature.most).contains(&arguments.len()) {
            let takes = match (signature.least, signature.most) {
                (1, 1) => "1 argument".to_owned(),
                (least, most) if least == most => format!("{least} arguments"),
                (least, usize::MAX) => format!("at least {least} arguments"),
                (least, most) => format!("{least} or {most} arguments"),
            };
            let message = format!("{} takes {takes}, not {}", signature.name, arguments.len());
            let error = self.cursor.error(start, message, format!("as in {}", signature.usage));
            self.problem(error);
            return self.syntax.push(What::Broken, span, signature.gives);
        }
        let (id, misfits) = self.syntax.call(signature, arguments, span, self.cursor.text);
        self.settle(id, misfits)
    }

    fn deeper(&mut self) -> Result<(), RouteError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("parentheses, functions and NOT stand more than {MAX_DEPTH} deep in each other");
            return Err(self.cursor.error(self.cursor.at, message, "AND and OR need no parentheses among their like"));
        }
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        self.cursor.rest().is_empty() || self.name().eq_ignore_ascii_case("INTO")
    }

    /// The name that starts here; empty where none does. Ends before `!=` and `||`, which IoT Edge would take for a part of it.
    fn name(&self) -> &'t str {
        let rest = self.cursor.rest();
        let is_system = rest.starts_with('$') || rest.starts_with("-$");
        let is_part = |c: char| is_in_name(c) || (is_system && matches!(c, '[' | ']'));
        let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let name = name.find("||").map_or(name, |concat| &name[..concat]);
        // A name may have a ' within it; where one ends it, or begins it, a text in quotes was meant.
        let has_text = name.starts_with('\'') || name.ends_with('\'');
        let name = name.find('\'').filter(|_| has_text).map_or(name, |quote| &name[..quote]);
        match name.strip_suffix('!') {
            Some(before) if rest[name.len()..].starts_with('=') => before,
            _ => name,
        }
    }

    fn operator(&mut self) -> Result<Operator, RouteError> {
        use Operator::*;
        // Longest first where one begins like another.
        const SIGNS: [(&str, Operator); 15] = [
            ("!=", NotEqual),
            ("<>", NotEqual),
            ("<=", LessOrEqual),
            (">=", GreaterOrEqual),
            ("||", Concat),
            ("??", Coalesce),
            ("=", Equal),
            ("<", Less),
            (">", Greater),
            ("+", Add),
            ("-", Subtract),
            ("*", Multiply),
            ("/", Divide),
            ("%", Remainder),
            ("\u{0}", Or),
        ];
        let at = self.cursor.at;
        let rest = self.cursor.rest();
        const FOREIGN: [(&str, &str, Operator); 6] = [
            ("===", "=", Equal),
            ("==", "=", Equal),
            ("&&", "AND", And),
            ("!==", "!=", NotEqual),
            ("=>", ">=", GreaterOrEqual),
            ("=<", "<=", LessOrEqual),
        ];
        // What was meant is clear, so that the rest can be looked at too.
        if let Some((foreign, meant, operator)) = FOREIGN.iter().find(|(foreign, ..)| rest.starts_with(foreign)) {
            let error = self.cursor.error(at, format!("'{foreign}' is no operator"), format!("write {meant}"));
            self.problem(error);
            self.cursor.at += foreign.len();
            return Ok(*operator);
        }
        if rest.starts_with("--") {
            let hint = "a comment is written /* … */; between two minus signs comes a space";
            return Err(self.cursor.error(at, "'--' is no operator", hint));
        }
        if let Some((sign, operator)) = SIGNS[..14].iter().find(|(sign, _)| rest.starts_with(sign)) {
            self.cursor.at += sign.len();
            return Ok(*operator);
        }
        let name = self.name();
        for (word, operator) in [("AND", And), ("OR", Or)] {
            if name.eq_ignore_ascii_case(word) {
                self.cursor.at += word.len();
                return Ok(operator);
            }
        }
        Err(self.no_operator(name))
    }

    fn no_operator(&self, name: &str) -> RouteError {
        let at = self.cursor.at;
        let hint = match name.to_ascii_uppercase().as_str() {
            "IN" | "NIN" => "there is no IN; compare with each value: a = 'x' OR a = 'y'".to_owned(),
            "LIKE" => "there is no LIKE; write contains(a, 'x'), starts_with(a, 'x') or ends_with(a, 'x')".to_owned(),
            "IS" => "write is_null(a), is_defined(a) or a comparison".to_owned(),
            "BETWEEN" => "there is no BETWEEN; write a >= 1 AND a <= 9".to_owned(),
            "NOT" => "NOT stands before what it denies: NOT (a = b)".to_owned(),
            "XOR" => "there is no XOR; for two truths write a != b".to_owned(),
            "WHERE" => "a route has one WHERE; join conditions by AND".to_owned(),
            "" if self.cursor.rest().starts_with('!') => "write != or NOT".to_owned(),
            "!" => "write != or NOT".to_owned(),
            "|" => "write OR, or || to join texts".to_owned(),
            "&" => "write AND".to_owned(),
            "" if self.cursor.rest().starts_with(['\'', '"']) && self.cursor.text[..at].ends_with(['\'', '"']) => {
                "a quote within a text is written \\' or \\\"".to_owned()
            }
            "" if self.cursor.rest().starts_with(';') => "leave it out: a route ends without a sign".to_owned(),
            "" => AFTER_VALUE.to_owned(),
            _ => match nearest(name, ["AND", "OR", "INTO"]) {
                Some(near) => format!("did you mean {near}?"),
                None => AFTER_VALUE.to_owned(),
            },
        };
        self.cursor.error(at, format!("expected an operator, found {}", self.cursor.found()), hint)
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < MAX_PROBLEMS && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn look_at_whole(&mut self, whole: Id) {
        let kind = self.syntax.parts[whole].kind;
        if !matches!(kind, Type::Bool | Type::Any) && self.problems.is_empty() {
            let hint = match self.syntax.parts[whole].what {
                What::Property(_) | What::System(_) | What::PropertyOrSystem(..) => ", and a property is always a text",
                _ => "",
            };
            self.note(format!("the condition is never true: it is {}{hint}", kind.spoken()));
        }
    }
}
