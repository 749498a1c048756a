//! Values as they are written: literals, references, calls.

use super::{Open, Parser, VALUES};
use crate::routing::condition::MAX_PATHS;
use crate::routing::condition::function::{Function, SIGNATURES, Signature};
use crate::routing::condition::reference::{BodyPath, Name, SystemName};
use crate::routing::condition::syntax::{Id, Type, What};
use crate::routing::cursor::{STRAIGHT_QUOTES, is_curly_quote};
use crate::routing::error::{RouteError, short};
use crate::spelling::suggestion;

/// As in IoT Edge.
const MAX_HEX_DIGITS: usize = 16;

/// The only way into a body.
const BODY: &str = "$body.";

impl Parser<'_, '_> {
    /// What stands before a value, or a value. `None`: a value is still to come.
    pub(super) fn operand(&mut self) -> Result<Option<Id>, RouteError> {
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
        if let Some(quote) = name.chars().next().filter(|c| is_curly_quote(*c)) {
            let message = format!("{quote} is no quote of the route language");
            return Err(self.cursor.error(at, message, STRAIGHT_QUOTES));
        }
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            let shown = short(name);
            if has_operator || name.contains('-') {
                let message = format!("'{shown}' is read as one name");
                return Err(self.cursor.error(at, message, "put spaces around operators: 3 + x"));
            }
            let digits = name.strip_prefix("0x").or(name.strip_prefix("0X")).filter(|digits| is_hex(digits));
            if digits.is_some_and(|digits| digits.trim_start_matches('0').len() > MAX_HEX_DIGITS) {
                let message = format!("'{shown}' has more than {MAX_HEX_DIGITS} hexadecimal digits");
                return Err(self.cursor.error(at, message, "as in 0x1F; a text stands in quotes"));
            }
            if name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'x' | b'X' | b'e' | b'E')) {
                return Err(self.cursor.error(at, format!("'{shown}' is no number"), "as in 3, 3.5, .5, 1e6 or 0x1F"));
            }
        }
        if name == "*" || name.bytes().all(|b| matches!(b, b'+' | b'*' | b'%' | b'|' | b'&' | b'!' | b'~' | b'^')) {
            return Err(self.cursor.error(at, format!("a value is missing before '{}'", short(name)), VALUES));
        }
        if name.starts_with('!') {
            let message = format!("'{}' is read as one name", short(name));
            return Err(self.cursor.error(at, message, "write NOT before what is denied"));
        }
        if let Some(system) = SystemName::of_runtime(name) {
            self.note(format!("{name} is taken for a property of this name; the system property is ${system}"));
        }
        if ["true", "false", "null", "undefined"].iter().any(|word| name.eq_ignore_ascii_case(word)) {
            let note = format!("{name} is taken for a property of this name: write {}", name.to_lowercase());
            self.note(note);
        } else if has_operator {
            self.note(one_name(name));
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
        let part = &mut self.syntax.parts[id];
        (part.span, part.outer) = (start..end, start..end);
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
            if name.contains(['+', '*', '%', '|', '&']) {
                self.note(one_name(name));
            }
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
        let never = if or_property { "is undefined, unless a property is called so" } else { "is never defined" };
        if bare.eq_ignore_ascii_case("body") {
            self.note(format!("$body alone {never}: name a part of it, as in $body.level"));
        } else if bare.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("twin.")) {
            self.note(format!("{name} {never}: routes on a device know no twins"));
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
        if index >= MAX_PATHS {
            let message = format!("the condition asks for more than {} parts of the body", MAX_PATHS);
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
                "is_array" | "is_object" | "is_primitive" | "is_integer" => {
                    "IoT Hub has it; routes on a device have is_defined, is_null, is_bool, is_number, is_string"
                        .to_owned()
                }
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
        let of_reported = text.get(..PARTS[0].len()).filter(|start| start.eq_ignore_ascii_case(PARTS[0]));
        let patch = of_reported.and_then(|start| BodyPath::parse(&text[start.len()..]).ok());
        let patch = patch.map(|patch| self.path(patch)).transpose()?;
        let whole = self.path(path.with_lower_roots())?;
        Ok(self.syntax.push(What::ChangeIncludes(whole, patch), start..self.cursor.at, Type::Bool))
    }
}

fn one_name(name: &str) -> String {
    format!("'{}' is one name; put spaces around operators if it is not meant so", short(name))
}

/// `3`, `-3.5`, `.5`, `1e6`, `0x1F`.
fn read_number(text: &str) -> Option<f64> {
    if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        // As in IoT Edge, they are the digits of a signed number.
        return u64::from_str_radix(hex, 16).ok().filter(|_| is_hex(hex)).map(|bits| bits as i64 as f64);
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

fn is_hex(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn is_digits(text: &str, least: usize) -> bool {
    text.len() >= least && text.bytes().all(|digit| digit.is_ascii_digit())
}
