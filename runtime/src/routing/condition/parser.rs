//! From the text behind `WHERE` to its syntax. Open parentheses, calls and operators that wait for their right side are a list,
//! so no text makes this recurse.

use super::MAX_DEPTH;
use super::function::{Function, SIGNATURES, Signature};
use super::reference::{BodyPath, Name, SystemName};
use super::syntax::{Id, Misfit, Syntax, Type, What};
use super::value::Operator;
use crate::routing::cursor::Cursor;
use crate::routing::error::{RouteError, short};
use crate::spelling::{nearest, suggestion};

/// Problems of one condition that are told at once.
const MAX_PROBLEMS: usize = 20;
/// The only way into a body.
const BODY: &str = "$body.";
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
    notes: Vec<String>,
}

/// Reads a condition until `INTO` or the end. A syntax error ends it; all else is collected.
pub(super) fn parse(cursor: &mut Cursor<'_>, is_of_twin_changes: bool) -> Parsed {
    let mut parser = Parser {
        cursor,
        syntax: Syntax::default(),
        open: Vec::new(),
        depth: 0,
        is_of_twin_changes,
        problems: Vec::new(),
        notes: Vec::new(),
    };
    match parser.whole() {
        Ok(whole) => parser.look_at_whole(whole),
        Err(error) => {
            parser.problems.push(error);
            // So that the caller does not take up in the middle of it.
            parser.cursor.at = parser.cursor.text.len();
        }
    }
    Parsed { syntax: parser.syntax, problems: parser.problems, notes: parser.notes }
}

fn is_in_name(c: char) -> bool {
    !(c.is_whitespace() || c.is_control() || "()<>@,;:\\\"/[]?={}'".contains(c))
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
        }
    }

    fn close(&mut self, value: Id, at: usize) -> Result<Id, RouteError> {
        self.depth = self.depth.saturating_sub(1);
        match self.open.pop() {
            Some(Open::Parenthesis(_)) => Ok(value),
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
        match name.strip_suffix('!') {
            Some(before) if rest[name.len()..].starts_with('=') => before,
            _ => name,
        }
    }

    /// What stands before a value, or a value. `None`: a value is still to come.
    fn operand(&mut self) -> Result<Option<Id>, RouteError> {
        self.cursor.skip()?;
        let at = self.cursor.at;
        if self.cursor.take("(") {
            self.open.push(Open::Parenthesis(at));
            return self.deeper().map(|()| None);
        }
        match self.cursor.peek() {
            None => return Err(self.cursor.error(at, "a value is missing", VALUES)),
            Some(quote @ ('"' | '\'')) => {
                let text = self.cursor.quoted(quote)?;
                return Ok(Some(self.syntax.push(What::Text(text.into()), at..self.cursor.at, Type::Text)));
            }
            Some('{') => return self.braces().map(Some),
            _ => {}
        }
        let name = self.name();
        if name.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'))
            && let Some(number) = read_number(name)
        {
            self.cursor.at += name.len();
            return Ok(Some(self.syntax.push(What::Number(number), at..self.cursor.at, Type::Number)));
        }
        if name.starts_with('-') {
            self.cursor.at += 1;
            self.open.push(Open::Negate(at));
            return self.deeper().map(|()| None);
        }
        if name.is_empty() {
            return Err(self.no_operand());
        }
        if name.eq_ignore_ascii_case("NOT") {
            self.cursor.at += name.len();
            self.open.push(Open::Not(at));
            return self.deeper().map(|()| None);
        }
        if ["AND", "OR", "INTO"].iter().any(|word| name.eq_ignore_ascii_case(word)) {
            return Err(self.cursor.error(at, format!("a value is missing before {}", name.to_uppercase()), VALUES));
        }
        self.cursor.at += name.len();
        if !name.starts_with('$') {
            let after = self.cursor.at;
            self.cursor.skip()?;
            if self.cursor.rest().starts_with('(') {
                return self.function(name, at);
            }
            self.cursor.at = after;
        }
        let span = at..self.cursor.at;
        let (what, kind) = match name {
            "true" => (What::Bool(true), Type::Bool),
            "false" => (What::Bool(false), Type::Bool),
            "null" => (What::Null, Type::Null),
            "undefined" => (What::Undefined, Type::Undefined),
            _ if name.starts_with('$') => return self.system(name, at, true).map(Some),
            _ => {
                self.check_name(name, at)?;
                (What::Property(Name::new(name)), Type::Text)
            }
        };
        Ok(Some(self.syntax.push(what, span, kind)))
    }

    /// A name that is hardly meant as one.
    fn check_name(&mut self, name: &str, at: usize) -> Result<(), RouteError> {
        let has_operator = name.contains(['+', '*', '%', '|', '&']);
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            let shown = short(name);
            if has_operator || name.contains('-') {
                let message = format!("'{shown}' is read as one name");
                return Err(self.cursor.error(at, message, "put spaces around operators: 3 + x"));
            }
            if name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'x' | b'X' | b'e' | b'E')) {
                return Err(self.cursor.error(at, format!("'{shown}' is no number"), "as in 3, 3.5, .5, 1e6 or 0x1F"));
            }
        }
        if name == "*" || name.bytes().all(|b| matches!(b, b'+' | b'*' | b'%' | b'|' | b'&' | b'!' | b'~' | b'^')) {
            return Err(self.cursor.error(at, format!("a value is missing before '{}'", short(name)), VALUES));
        }
        if ["true", "false", "null", "undefined"].iter().any(|word| name.eq_ignore_ascii_case(word)) {
            let note = format!("{name} is taken for a property of this name: write {}", name.to_lowercase());
            self.note(note);
        } else if has_operator {
            self.note(format!("'{}' is one name; put spaces around operators if it is not meant so", short(name)));
        }
        Ok(())
    }

    fn no_operand(&self) -> RouteError {
        let at = self.cursor.at;
        let found = self.cursor.peek().unwrap_or(' ');
        let hint = match found {
            '[' => "there are no lists here; compare with each value: a = 'x' OR a = 'y'",
            '@' | ':' | ';' | '\\' => "texts stand in quotes",
            ')' => "an argument or value is missing before it",
            _ => VALUES,
        };
        self.cursor.error(at, format!("expected a value, found '{found}'"), hint)
    }

    /// `{$name}`: never an application property.
    fn braces(&mut self) -> Result<Id, RouteError> {
        const BRACES: &str = "braces hold a system property or a path, as in {$contentType} or {$body.level}";
        let start = self.cursor.at;
        self.cursor.take("{");
        self.cursor.skip()?;
        let name = self.name();
        let at = self.cursor.at;
        if !name.starts_with('$') {
            return Err(self.cursor.error(at, format!("expected '$', found {}", self.cursor.found()), BRACES));
        }
        self.cursor.at += name.len();
        self.cursor.skip()?;
        if !self.cursor.take("}") {
            return Err(self.cursor.error(
                self.cursor.at,
                format!("expected '}}', found {}", self.cursor.found()),
                BRACES,
            ));
        }
        let end = self.cursor.at;
        let id = self.system(name, at, false)?;
        self.syntax.parts[id].span = start..end;
        Ok(id)
    }

    /// `$name` or `$body.path`, where the cursor is behind it.
    fn system(&mut self, name: &str, at: usize, or_property: bool) -> Result<Id, RouteError> {
        let span = at..at + name.len();
        if name.get(..BODY.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(BODY)) {
            let path = match BodyPath::parse(&name[BODY.len()..]) {
                Ok(path) => path,
                Err(problem) => {
                    return Err(self.cursor.error(at + BODY.len() + problem.at, problem.message, problem.hint));
                }
            };
            // A property has no brackets in its name.
            let can_be_property = or_property && !name.contains('[');
            let path = self.path(path)?;
            let what = if can_be_property { What::PropertyOrBody(Name::new(name), path) } else { What::Body(path) };
            return Ok(self.syntax.push(what, span, Type::Any));
        }
        if let Some(bracket) = name.find(['[', ']']) {
            let hint = "only paths into the body have places: $body.list[0]";
            return Err(self.cursor.error(at + bracket, "a system property has no places", hint));
        }
        let bare = &name[1..];
        if bare.is_empty() {
            return Err(self.cursor.error(at, "behind '$' comes a name", "as in $contentType or $body.level"));
        }
        if bare.eq_ignore_ascii_case("body") {
            self.note("$body alone is never defined: name a part of it, as in $body.level".to_owned());
        } else if bare.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("twin.")) {
            self.note(format!("{name} is never defined: routes on a device know no twins"));
        } else if let Some(meant) = SystemName::meant(bare) {
            self.note(format!("{name} is none of the known system properties; did you mean ${meant}?"));
        }
        let system = SystemName::find(bare);
        let what = if or_property { What::PropertyOrSystem(Name::new(name), system) } else { What::System(system) };
        Ok(self.syntax.push(what, span, Type::Text))
    }

    /// The number of a path.
    fn path(&mut self, path: BodyPath) -> Result<u16, RouteError> {
        let known = self.syntax.paths.iter().position(|known| *known == path);
        let index = known.unwrap_or_else(|| {
            self.syntax.paths.push(path);
            self.syntax.paths.len() - 1
        });
        if index >= super::MAX_PATHS {
            let message = format!("the condition asks for more than {} parts of the body", super::MAX_PATHS);
            return Err(self.cursor.error(self.cursor.at, message, "make it several routes"));
        }
        Ok(index as u16)
    }

    /// A call, whose name was read.
    fn function(&mut self, name: &str, at: usize) -> Result<Option<Id>, RouteError> {
        let signature = Function::find(name);
        if signature.is_none() {
            let names: Vec<&str> = SIGNATURES.iter().map(|signature| signature.name).collect();
            let hint = match name.to_ascii_lowercase().as_str() {
                "in" => "there is no IN; compare with each value: a = 'x' OR a = 'y'".to_owned(),
                "and" | "or" => VALUES.to_owned(),
                _ => suggestion(name, &names),
            };
            let error = self.cursor.error(at, format!("there is no function '{}'", short(name)), hint);
            self.problem(error);
        }
        self.cursor.take("(");
        if let Some(signature) = signature.filter(|signature| signature.function == Function::TwinChangeIncludes) {
            return self.twin_change_includes(signature, at).map(Some);
        }
        self.cursor.skip()?;
        if self.cursor.take(")") {
            return Ok(Some(self.call(signature, at, Vec::new())));
        }
        self.open.push(Open::Call { signature, at, arguments: Vec::new() });
        self.deeper().map(|()| None)
    }

    /// `twin_change_includes(properties.reported.a)`: the path may stand in quotes.
    fn twin_change_includes(&mut self, signature: &'static Signature, start: usize) -> Result<Id, RouteError> {
        const PARTS: [&str; 3] = ["properties.reported.", "properties.desired.", "tags."];
        self.cursor.skip()?;
        let at = self.cursor.at;
        let text = match self.cursor.peek() {
            Some(quote @ ('"' | '\'')) => self.cursor.quoted(quote)?,
            _ => {
                let rest = self.cursor.rest();
                let text = &rest[..rest.find(|c: char| c.is_whitespace() || "(),".contains(c)).unwrap_or(rest.len())];
                self.cursor.at += text.len();
                text.to_owned()
            }
        };
        self.cursor.skip()?;
        let after = self.cursor.at;
        let as_in = format!("as in {}", signature.usage);
        if !self.cursor.take(")") {
            let message = format!("{} takes one path; expected ')', found {}", signature.name, self.cursor.found());
            return Err(self.cursor.error(after, message, as_in));
        }
        if !self.is_of_twin_changes {
            let message = format!("{} has a meaning only FROM /twinChangeNotifications", signature.name);
            let error = self.cursor.error(start, message, "take that as the source, or ask for $body.path");
            self.problem(error);
        }
        let is_known = PARTS.iter().any(|part| {
            text.get(..part.len()).is_some_and(|start| start.eq_ignore_ascii_case(part)) && text.len() > part.len()
        });
        let path = match BodyPath::parse(&text) {
            Ok(path) if is_known => path,
            Ok(_) => {
                let message = format!("'{}' is no path of a twin", short(&text));
                let hint = "a path begins with properties.reported., properties.desired. or tags.";
                let error = self.cursor.error(at, message, hint);
                self.problem(error);
                return Ok(self.syntax.push(What::Broken, start..self.cursor.at, Type::Bool));
            }
            Err(problem) => {
                let error = self.cursor.error(at + problem.at, problem.message, as_in);
                self.problem(error);
                return Ok(self.syntax.push(What::Broken, start..self.cursor.at, Type::Bool));
            }
        };
        let path = self.path(path.with_lower_roots())?;
        Ok(self.syntax.push(What::ChangeIncludes(path), start..self.cursor.at, Type::Bool))
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
        for (doubled, hint) in
            [("==", "write ="), ("&&", "write AND"), ("!==", "write !="), ("=>", "write >="), ("=<", "write <=")]
        {
            if rest.starts_with(doubled) {
                return Err(self.cursor.error(at, format!("'{doubled}' is no operator"), hint));
            }
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

/// `3`, `-3.5`, `.5`, `1e6`, `0x1F`.
fn read_number(text: &str) -> Option<f64> {
    if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        let is_hex = hex.bytes().all(|digit| digit.is_ascii_hexdigit());
        // As in IoT Edge, 16 digits at most; they are those of a signed number.
        return u64::from_str_radix(hex, 16).ok().filter(|_| is_hex).map(|bits| bits as i64 as f64);
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let is_mantissa = match mantissa.split_once('.') {
        Some((whole, fraction)) => is_digits(whole, 0) && is_digits(fraction, 1),
        None => is_digits(mantissa, 1),
    };
    let is_exponent =
        exponent.is_none_or(|exponent| is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent), 1));
    if is_mantissa && is_exponent { text.parse().ok() } else { None }
}

fn is_digits(text: &str, least: usize) -> bool {
    text.len() >= least && text.bytes().all(|digit| digit.is_ascii_digit())
}
