//! From the pieces of a query to a [`Query`].

use serde_json::Value;

use super::evaluate::{Comparison, Expression};
use super::lexer::{self, Placed, Token};
use super::{Collection, MAX_BYTES, MAX_DEPTH, Path, Query, QueryError, Selection, UNNAMED_COUNT};
use crate::spelling::nearest;

/// Members of a twin, as at IoT Hub. Another first name leads nowhere for sure, so it is refused.
const MEMBERS: [&str; 20] = [
    "deviceId",
    "moduleId",
    "tags",
    "properties",
    "status",
    "connectionState",
    "lastActivityTime",
    "etag",
    "version",
    "deviceEtag",
    "statusReason",
    "statusUpdateTime",
    "authenticationType",
    "cloudToDeviceMessageCount",
    "x509Thumbprint",
    "capabilities",
    "deviceScope",
    "parentScopes",
    "modelId",
    "configurations",
];
const EXAMPLE: &str = "as in SELECT * FROM devices.modules WHERE properties.reported.limit > 3";
const COLLECTIONS: &str = "FROM devices for the twins of devices, FROM devices.modules for those of modules";
const AFTER_VALUE: &str = "possible are = != <> < <= > >= IN NIN AND OR, or the end";

pub(super) fn parse(text: &str) -> Result<Query, QueryError> {
    if text.len() > MAX_BYTES {
        let message = format!("the query has {} bytes, more than {MAX_BYTES}", text.len());
        return Err(QueryError::new(text, 0, message, "ask in several queries"));
    }
    let mut parser = Parser { text, tokens: lexer::tokens(text)?, next: 0, depth: 0 };
    parser.query()
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Placed>,
    next: usize,
    depth: usize,
}

impl Parser<'_> {
    fn query(&mut self) -> Result<Query, QueryError> {
        self.expect_word("SELECT", EXAMPLE)?;
        let selection = self.selection()?;
        self.expect_word("FROM", "after the selection comes FROM devices or FROM devices.modules")?;
        let collection = self.collection()?;
        let condition = if self.take_word("WHERE") { Some(self.any()?) } else { None };
        match self.peek() {
            Token::End => Ok(Query { selection, collection, condition }),
            Token::Word(word) if ["GROUP", "ORDER", "OFFSET", "LIMIT", "JOIN"].iter().any(|w| is(word, w)) => {
                let message = format!("{} is no part of this language", word.to_uppercase());
                Err(self.error(message, "a query ends with its condition; sort and group what it answers"))
            }
            _ if condition.is_none() => Err(self.unexpected("WHERE or the end of the query", EXAMPLE)),
            _ => Err(self.unexpected("the end of the condition", AFTER_VALUE)),
        }
    }

    fn selection(&mut self) -> Result<Selection, QueryError> {
        if self.take_sign("*") {
            return Ok(Selection::Whole);
        }
        if self.is_word("TOP") {
            return Err(self.error("TOP is no part of this language", "the header x-ms-max-item-count bounds a page"));
        }
        if self.is_word("COUNT") && self.token(1) == &Token::Sign("(") {
            self.next += 2;
            if !self.take_sign(")") {
                return Err(self.unexpected("')'", "COUNT() takes nothing: it counts twins"));
            }
            let name = self.alias()?.unwrap_or_else(|| UNNAMED_COUNT.to_owned());
            if matches!(self.peek(), Token::Sign(",")) {
                return Err(self.error("COUNT() stands alone", "leave out the other fields: there is no GROUP BY"));
            }
            return Ok(Selection::Count(name));
        }
        let mut fields: Vec<(String, Path)> = Vec::new();
        loop {
            let at = self.next;
            if self.is_word("FROM") || matches!(self.peek(), Token::End) {
                return Err(
                    self.unexpected("what is to be selected", "possible are *, COUNT() and fields such as deviceId")
                );
            }
            if ["SUM", "AVG", "MIN", "MAX"].iter().any(|w| self.is_word(w)) && self.token(1) == &Token::Sign("(") {
                return Err(self.error("the only function here is COUNT()", "compute it from what a query answers"));
            }
            let path = self.path()?;
            let last = path.names().last().cloned().unwrap_or_default();
            let name = self.alias()?.unwrap_or(last);
            if fields.iter().any(|(taken, _)| *taken == name) {
                self.next = at;
                let message = format!("two fields are called '{name}'");
                return Err(self.error(message, format!("name one of them: … AS {name}2")));
            }
            fields.push((name, path));
            if !self.take_sign(",") {
                return Ok(Selection::Fields(fields));
            }
        }
    }

    /// `AS name`.
    fn alias(&mut self) -> Result<Option<String>, QueryError> {
        if !self.take_word("AS") {
            return Ok(None);
        }
        match self.peek().clone() {
            Token::Word(name) | Token::Quoted(name) => {
                self.next += 1;
                Ok(Some(name))
            }
            _ => Err(self.unexpected("a name after AS", "as in COUNT() AS n")),
        }
    }

    fn collection(&mut self) -> Result<Collection, QueryError> {
        let Token::Word(word) = self.peek().clone() else { return Err(self.unexpected("a collection", COLLECTIONS)) };
        if !is(&word, "devices") {
            return Err(self.error(format!("there is no collection '{word}'"), COLLECTIONS));
        }
        self.next += 1;
        if !self.take_sign(".") {
            return Ok(Collection::Devices);
        }
        match self.peek().clone() {
            Token::Word(word) if is(&word, "modules") => {
                self.next += 1;
                Ok(Collection::Modules)
            }
            Token::Word(word) => Err(self.error(format!("there is no collection 'devices.{word}'"), COLLECTIONS)),
            _ => Err(self.unexpected("modules after devices.", COLLECTIONS)),
        }
    }

    fn any(&mut self) -> Result<Expression, QueryError> {
        let first = self.all()?;
        let mut parts = vec![first];
        while self.take_word("OR") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn all(&mut self) -> Result<Expression, QueryError> {
        let first = self.not()?;
        let mut parts = vec![first];
        while self.take_word("AND") {
            parts.push(self.not()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn not(&mut self) -> Result<Expression, QueryError> {
        if !self.is_word("NOT") {
            return self.comparison();
        }
        self.deeper()?;
        self.next += 1;
        let inner = self.not()?;
        self.depth -= 1;
        Ok(Expression::Not(Box::new(inner)))
    }

    fn deeper(&mut self) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("parentheses and NOT stand more than {MAX_DEPTH} deep in each other");
            return Err(self.error(message, "AND and OR need no parentheses among their like"));
        }
        Ok(())
    }

    fn comparison(&mut self) -> Result<Expression, QueryError> {
        let left = self.primary()?;
        let comparison = match self.peek() {
            Token::Sign("=") => Comparison::Equal,
            Token::Sign("!=") => Comparison::NotEqual,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessOrEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterOrEqual,
            Token::Word(word) if is(word, "IN") || is(word, "NIN") => {
                let is_in = is(word, "IN");
                self.next += 1;
                return Ok(Expression::In(Box::new(left), is_in, self.list()?));
            }
            Token::Word(word) if is(word, "NOT") => {
                return Err(self.error("NOT does not stand here", "write NOT before the comparison, or NIN for not in"));
            }
            Token::Word(word) if is(word, "LIKE") || is(word, "BETWEEN") || is(word, "IS") => {
                let message = format!("{} is no part of this language", word.to_uppercase());
                return Err(self.error(message, AFTER_VALUE));
            }
            _ => return Ok(left),
        };
        self.next += 1;
        let right = self.primary()?;
        Ok(Expression::Compare(comparison, Box::new((left, right))))
    }

    fn list(&mut self) -> Result<Vec<Value>, QueryError> {
        const LIST: &str = "a list is written in brackets, as in deviceId IN ['a', 'b']";
        if !self.take_sign("[") {
            return Err(self.unexpected("'['", LIST));
        }
        let mut values = Vec::new();
        loop {
            match self.literal() {
                Some(value) => values.push(value),
                None => return Err(self.unexpected("a text, number, true, false or null", LIST)),
            }
            if self.take_sign("]") {
                return Ok(values);
            }
            if !self.take_sign(",") {
                return Err(self.unexpected("',' or ']'", LIST));
            }
        }
    }

    fn literal(&mut self) -> Option<Value> {
        let value = match self.peek() {
            Token::Literal(value) => value.clone(),
            Token::Word(word) if is(word, "true") => Value::Bool(true),
            Token::Word(word) if is(word, "false") => Value::Bool(false),
            Token::Word(word) if is(word, "null") => Value::Null,
            _ => return None,
        };
        self.next += 1;
        Some(value)
    }

    fn primary(&mut self) -> Result<Expression, QueryError> {
        if self.take_sign("(") {
            self.next -= 1;
            self.deeper()?;
            self.next += 1;
            let inner = self.any()?;
            if !self.take_sign(")") {
                return Err(self.unexpected("')'", AFTER_VALUE));
            }
            self.depth -= 1;
            return Ok(inner);
        }
        if let Some(value) = self.literal() {
            return Ok(Expression::Literal(value));
        }
        if matches!(self.peek(), Token::Word(_)) && self.token(1) == &Token::Sign("(") {
            return self.function();
        }
        self.path().map(Expression::Path)
    }

    fn function(&mut self) -> Result<Expression, QueryError> {
        if !self.is_word("IS_DEFINED") {
            let message = format!("there is no function {}", self.found());
            return Err(self.error(message, "the only function in a condition is IS_DEFINED(path)"));
        }
        self.next += 2;
        let path = self.path()?;
        if !self.take_sign(")") {
            return Err(self.unexpected("')'", "as in IS_DEFINED(tags.hall)"));
        }
        Ok(Expression::IsDefined(path))
    }

    fn path(&mut self) -> Result<Path, QueryError> {
        let first = match self.peek().clone() {
            Token::Word(word) => word,
            _ => {
                let hint = "possible are a path such as tags.hall, a 'text', a number, true, false, null, IS_DEFINED(…) and NOT";
                return Err(self.unexpected("a value", hint));
            }
        };
        let member = MEMBERS.iter().find(|member| is(member, &first));
        let Some(member) = member else { return Err(self.no_member(&first)) };
        let mut names = vec![(*member).to_owned()];
        self.next += 1;
        loop {
            let has_dot = self.take_sign(".");
            match self.peek().clone() {
                Token::Word(name) if has_dot => names.push(name),
                Token::Quoted(name) => names.push(name),
                Token::Literal(Value::Number(_)) if has_dot => {
                    return Err(self.error("a name does not begin with a digit", "write it in brackets: tags.[[1a]]"));
                }
                _ if has_dot => {
                    return Err(self.unexpected("a name after the dot", "as in tags.hall or tags.[[my-tag]]"));
                }
                Token::Sign("[") => {
                    return Err(self.error("there is no way into lists", "a name in brackets has two: tags.[[my-tag]]"));
                }
                _ => break,
            }
            if names.len() == 2 && names[0] == "properties" && !["desired", "reported"].contains(&names[1].as_str()) {
                let message = format!("properties has no '{}'", names[1]);
                return Err(self.error(message, "possible are properties.desired and properties.reported"));
            }
            self.next += 1;
        }
        Ok(Path(names))
    }

    fn no_member(&self, name: &str) -> QueryError {
        let hint = match name {
            name if ["desired", "reported"].iter().any(|part| is(name, part)) => {
                format!("write properties.{}", name.to_lowercase())
            }
            name if is(name, "undefined") => "write NOT IS_DEFINED(path)".to_owned(),
            _ => match nearest(name, MEMBERS) {
                Some(member) => format!("did you mean {member}? Texts stand in quotes: '{name}'"),
                None => format!("possible are {}; texts stand in quotes: '{name}'", MEMBERS[..7].join(", ")),
            },
        };
        self.error(format!("a twin has no '{name}'"), hint)
    }

    fn peek(&self) -> &Token {
        self.token(0)
    }

    fn token(&self, ahead: usize) -> &Token {
        // The last one is the end, and nothing goes past it.
        self.tokens.get(self.next + ahead).map_or(&Token::End, |placed| &placed.token)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if is(found, word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_there = self.is_word(word);
        self.next += usize::from(is_there);
        is_there
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.next += usize::from(is_there);
        is_there
    }

    fn expect_word(&mut self, word: &str, hint: &str) -> Result<(), QueryError> {
        if self.take_word(word) {
            return Ok(());
        }
        match self.peek() {
            Token::Word(found) if nearest(found, [word]).is_some() => {
                Err(self.unexpected(word, &format!("did you mean {word}?")))
            }
            _ => Err(self.unexpected(word, hint)),
        }
    }

    /// What stands here, as a person reads it.
    fn found(&self) -> String {
        match self.tokens.get(self.next) {
            None | Some(Placed { token: Token::End, .. }) => "the end".to_owned(),
            Some(placed) => {
                let text = self.text.get(placed.at..placed.end).unwrap_or_default();
                let short: String = text.chars().take(40).collect();
                if short.len() < text.len() { format!("{short}…") } else { short }
            }
        }
    }

    fn unexpected(&self, expected: &str, hint: &str) -> QueryError {
        self.error(format!("expected {expected}, found {}", self.found()), hint)
    }

    fn error(&self, message: impl Into<String>, hint: impl Into<String>) -> QueryError {
        let at = self.tokens.get(self.next).map_or(self.text.len(), |placed| placed.at);
        QueryError::new(self.text, at, message, hint)
    }
}

/// Keywords and members go by any case.
fn is(word: &str, wanted: &str) -> bool {
    word.eq_ignore_ascii_case(wanted)
}
