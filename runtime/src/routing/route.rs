//! The route language: `[SELECT *] FROM source [WHERE condition] INTO sink`.
//!
//! Keywords in any case, comments as `/* … */`. Unlike IoT Edge, text after the sink is an error, and sinks and sources are
//! checked in full: a route that could never carry a message is refused when it is written.

use std::fmt;

use super::condition::{Condition, Explanation, Read};
use super::cursor::{Cursor, STRAIGHT_QUOTES, is_curly_quote};
use super::error::RouteError;
use super::source::Source;
use super::view::MessageView;
use crate::spelling::nearest;

/// Longest route, in bytes.
pub const MAX_ROUTE_BYTES: usize = 32 * 1024;

/// A route as it was written, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What it takes.
    pub source: Source,
    /// Which of that.
    pub condition: Option<Condition>,
    /// Where it puts it.
    pub sink: Sink,
    /// What is allowed and yet hardly meant.
    pub notes: Vec<String>,
}

/// What `tail` follows: a route without a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// What it takes.
    pub source: Source,
    /// Which of that.
    pub condition: Option<Condition>,
    /// What is allowed and yet hardly meant.
    pub notes: Vec<String>,
}

/// Where a route ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sink {
    /// The hub above this device.
    Upstream,
    /// An input of a module.
    Input {
        /// The module.
        module: String,
        /// Its input.
        input: String,
    },
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sink::Upstream => f.write_str("$upstream"),
            Sink::Input { module, input } => write!(f, "BrokeredEndpoint(\"/modules/{module}/inputs/{input}\")"),
        }
    }
}

impl Route {
    /// Reads a route.
    ///
    /// # Errors
    /// Every problem that can be told apart, in the order of their places; at least one.
    pub fn parse(text: &str) -> Result<Route, Vec<RouteError>> {
        let mut statement = Statement::new(text)?;
        let (source, read) = statement.selection();
        let sink = statement.attempt(|parser| {
            parser.keyword("INTO", "FROM /messages/modules/NAME/outputs/OUTPUT INTO $upstream")?;
            let sink = parser.sink()?;
            parser.end()?;
            Ok(sink)
        });
        let notes = read.as_ref().map(|read| read.notes.clone()).unwrap_or_default();
        match (source, sink) {
            (Some(source), Some(sink)) if statement.problems.is_empty() => {
                Ok(Route { source, condition: read.map(Read::compile), sink, notes })
            }
            _ => Err(statement.problems),
        }
    }
}

impl Selection {
    /// Reads a route without `INTO`, as `tail` takes it.
    ///
    /// # Errors
    /// See [`Route::parse`].
    pub fn parse(text: &str) -> Result<Selection, Vec<RouteError>> {
        let mut statement = Statement::new(text)?;
        let (source, read) = statement.selection();
        statement.attempt(|parser| {
            parser.cursor.skip()?;
            if parser.cursor.word().eq_ignore_ascii_case("INTO") {
                let message = "there is no INTO here: what passes is shown";
                return Err(parser.error(message, "leave out INTO and what follows"));
            }
            parser.end()
        });
        let notes = read.as_ref().map(|read| read.notes.clone()).unwrap_or_default();
        match source {
            Some(source) if statement.problems.is_empty() => {
                Ok(Selection { source, condition: read.map(Read::compile), notes })
            }
            _ => Err(statement.problems),
        }
    }
}

/// What a route, or one without its sink, makes of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// What it takes.
    pub source: Source,
    /// Why its condition says what it says; `None` where it has none.
    pub condition: Option<Explanation>,
    /// What is allowed and yet hardly meant.
    pub notes: Vec<String>,
}

impl Trial {
    /// Tries a route, with or without `INTO`, on a message.
    ///
    /// # Errors
    /// See [`Route::parse`].
    pub fn of(text: &str, message: &MessageView<'_>) -> Result<Trial, Vec<RouteError>> {
        let mut statement = Statement::new(text)?;
        let (source, read) = statement.selection();
        statement.attempt(|parser| {
            parser.cursor.skip()?;
            if parser.cursor.rest().is_empty() {
                return Ok(());
            }
            parser.keyword("INTO", "WHERE stands behind the source, INTO behind that")?;
            parser.sink()?;
            parser.end()
        });
        match source {
            Some(source) if statement.problems.is_empty() => Ok(Trial {
                source,
                notes: read.as_ref().map(|read| read.notes.clone()).unwrap_or_default(),
                condition: read.map(|read| read.explain(*message, text)),
            }),
            _ => Err(statement.problems),
        }
    }
}

const SINKS: &str = "a sink is $upstream or BrokeredEndpoint(\"/modules/NAME/inputs/INPUT\")";
const ENDPOINT: &str = "write BrokeredEndpoint(\"/modules/NAME/inputs/INPUT\")";

/// The reading of a whole text, with what was found to be wrong so far.
struct Statement<'t> {
    parser: Parser<'t>,
    problems: Vec<RouteError>,
    /// Nothing behind the last problem can be told apart.
    is_lost: bool,
}

struct Parser<'t> {
    cursor: Cursor<'t>,
}

impl<'t> Statement<'t> {
    fn new(text: &'t str) -> Result<Statement<'t>, Vec<RouteError>> {
        if text.len() > MAX_ROUTE_BYTES {
            let message = format!("the route has {} bytes; at most {MAX_ROUTE_BYTES} are read", text.len());
            return Err(vec![RouteError::new(text, MAX_ROUTE_BYTES, message, "make it several routes")]);
        }
        Ok(Statement { parser: Parser { cursor: Cursor::new(text) }, problems: Vec::new(), is_lost: false })
    }

    fn attempt<T>(&mut self, part: impl FnOnce(&mut Parser<'t>) -> Result<T, RouteError>) -> Option<T> {
        if self.is_lost {
            return None;
        }
        match part(&mut self.parser) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(error);
                self.is_lost = true;
                None
            }
        }
    }

    /// Source and condition.
    fn selection(&mut self) -> (Option<Source>, Option<Read>) {
        let begins = self.attempt(Parser::beginning).is_some();
        let source = self.attempt(Parser::source);
        let source = match source {
            Some(Ok(source)) => Some(source),
            Some(Err(error)) => {
                // Where it ends is known, so the rest can be read.
                self.problems.push(error);
                None
            }
            None => None,
        };
        if !begins || self.is_lost {
            return (source, None);
        }
        let Some(true) = self.attempt(Parser::is_where) else { return (source, None) };
        // Of a bad source nobody knows what it would have been of.
        let is_of_twin_changes = source.as_ref().is_none_or(Source::is_of_twin_changes);
        let mut read = Read::at(&mut self.parser.cursor, is_of_twin_changes);
        self.is_lost = self.parser.cursor.rest().is_empty() && !read.problems.is_empty();
        self.problems.append(&mut read.problems);
        (source, Some(read))
    }
}

impl Parser<'_> {
    /// `[SELECT *] FROM`.
    fn beginning(&mut self) -> Result<(), RouteError> {
        self.cursor.skip()?;
        if self.cursor.rest().is_empty() {
            return Err(self.error("the route is empty", "write FROM /messages/* INTO $upstream"));
        }
        if self.cursor.word().eq_ignore_ascii_case("SELECT") {
            self.cursor.at += "SELECT".len();
            self.cursor.skip()?;
            if !self.cursor.take("*") {
                return Err(self.error("SELECT can only take '*': routes pass whole messages", "write SELECT * FROM …"));
            }
        }
        self.keyword("FROM", "a route begins with FROM, as in FROM /messages/* INTO $upstream")
    }

    /// The source; second, a problem of a source that ends where the rest can be read.
    fn source(&mut self) -> Result<Result<Source, RouteError>, RouteError> {
        self.cursor.skip_space();
        while self.cursor.rest().starts_with("/*") && !self.is_catch_all() {
            self.cursor.comment()?;
            self.cursor.skip_space();
        }
        let start = self.cursor.at;
        let text = self.cursor.rest().split(char::is_whitespace).next().unwrap_or("");
        if text.is_empty() || !text.starts_with('/') {
            let message = format!("FROM needs a source, found {}", self.cursor.found());
            return Err(self.error(message, "as in FROM /messages/modules/NAME/outputs/OUTPUT"));
        }
        self.cursor.at += text.len();
        Ok(Source::parse(text).map_err(|problem| self.cursor.error(start + problem.at, problem.message, problem.hint)))
    }

    /// Goes past `WHERE` if it is there.
    fn is_where(&mut self) -> Result<bool, RouteError> {
        self.cursor.skip()?;
        let is_there = self.cursor.word().eq_ignore_ascii_case("WHERE");
        self.cursor.at += if is_there { "WHERE".len() } else { 0 };
        Ok(is_there)
    }

    /// `/*` is both the source of everything and the start of a comment: it is the source where a keyword, a comment or nothing
    /// follows it.
    fn is_catch_all(&self) -> bool {
        let after = &self.cursor.rest()["/*".len()..];
        let follows = after.trim_start();
        let word = follows.split(char::is_whitespace).next().unwrap_or("");
        let keyword = word.eq_ignore_ascii_case("INTO") || word.eq_ignore_ascii_case("WHERE");
        follows.is_empty()
            || (after.starts_with(char::is_whitespace) && (keyword || follows.starts_with("/*")))
            || !after.contains("*/")
    }

    fn sink(&mut self) -> Result<Sink, RouteError> {
        self.cursor.skip()?;
        let word = self.cursor.word();
        if word.eq_ignore_ascii_case("$upstream") {
            self.cursor.at += word.len();
            return Ok(Sink::Upstream);
        }
        if !word.eq_ignore_ascii_case("BrokeredEndpoint") {
            let hint = match nearest(word, ["$upstream", "upstream", "BrokeredEndpoint"]) {
                Some("BrokeredEndpoint") => "did you mean BrokeredEndpoint?",
                Some(_) => "did you mean $upstream?",
                None => SINKS,
            };
            return Err(self.error(format!("{} is not a sink", self.cursor.found()), hint));
        }
        self.cursor.at += word.len();
        self.punctuation("(")?;
        self.cursor.skip()?;
        let at = self.cursor.at + 1;
        let Some(quote) = self.cursor.peek().filter(|c| matches!(c, '"' | '\'')) else {
            let message = format!("BrokeredEndpoint needs a path in quotes, found {}", self.cursor.found());
            let is_curly = self.cursor.peek().is_some_and(is_curly_quote);
            return Err(self.error(message, if is_curly { STRAIGHT_QUOTES } else { ENDPOINT }));
        };
        let endpoint = self.cursor.quoted(quote)?;
        self.punctuation(")")?;
        self.endpoint(at, &endpoint)
    }

    fn endpoint(&self, at: usize, text: &str) -> Result<Sink, RouteError> {
        let refuse = |offset: usize, message: String| Err(self.cursor.error(at + offset, message, ENDPOINT));
        let parts: Vec<&str> = text.split('/').collect();
        let ["", modules, module, inputs, input] = parts[..] else {
            return refuse(0, format!("BrokeredEndpoint needs the path of an input, not {text:?}"));
        };
        let module_at = modules.len() + 2;
        let inputs_at = module_at + module.len() + 1;
        if !modules.eq_ignore_ascii_case("modules") {
            return refuse(1, format!("the path of an input begins with /modules, not /{modules}"));
        }
        if let Err(error) = crate::name::check_id(module) {
            return refuse(module_at, error.to_string());
        }
        if !inputs.eq_ignore_ascii_case("inputs") {
            return refuse(inputs_at, format!("after the module comes /inputs, not /{inputs}"));
        }
        if input.is_empty() || input.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return refuse(inputs_at + inputs.len() + 1, format!("{input:?} is not the name of an input"));
        }
        Ok(Sink::Input { module: module.to_owned(), input: input.to_owned() })
    }

    fn keyword(&mut self, keyword: &str, hint: &str) -> Result<(), RouteError> {
        self.cursor.skip()?;
        let word = self.cursor.word();
        if !word.eq_ignore_ascii_case(keyword) {
            let hint = match nearest(word, [keyword]) {
                Some(keyword) if !word.is_empty() => format!("did you mean {keyword}?"),
                _ => hint.to_owned(),
            };
            return Err(self.error(format!("expected {keyword}, found {}", self.cursor.found()), hint));
        }
        self.cursor.at += word.len();
        Ok(())
    }

    fn punctuation(&mut self, expected: &str) -> Result<(), RouteError> {
        self.cursor.skip()?;
        if !self.cursor.take(expected) {
            let message = format!("expected '{expected}', found {}", self.cursor.found());
            return Err(self.error(message, ENDPOINT));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), RouteError> {
        self.cursor.skip()?;
        if self.cursor.rest().is_empty() {
            return Ok(());
        }
        let hint = match self.cursor.word().to_ascii_uppercase().as_str() {
            "WHERE" => "WHERE stands before INTO",
            "INTO" => "a route has one sink: write a second route",
            _ => "remove it",
        };
        Err(self.error(format!("nothing may follow here, found {}", self.cursor.found()), hint))
    }

    /// Where the reading stands.
    fn error(&self, message: impl Into<String>, hint: impl Into<String>) -> RouteError {
        self.cursor.error(self.cursor.at, message, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_in_every_spelling_that_iot_edge_takes() {
        let input = Sink::Input { module: "filter".into(), input: "readings".into() };
        for (text, source, sink) in [
            ("FROM /* INTO $upstream", "/*", &Sink::Upstream),
            ("select * from /messages/* into $Upstream", "/messages/*", &Sink::Upstream),
            (
                "FROM /messages/modules/a/outputs/b INTO BrokeredEndpoint(\"/modules/filter/inputs/readings\")",
                "/messages/modules/a/outputs/b",
                &input,
            ),
            (
                "FROM /messages/modules/a INTO brokeredendpoint ( '/modules/filter/inputs/readings' )",
                "/messages/modules/a/*",
                &input,
            ),
            (
                "/* why */ FROM /* all */ /messages/* /* here */\n INTO /* there */ $upstream /* end */",
                "/messages/*",
                &Sink::Upstream,
            ),
            ("FROM /* /* everything */ INTO $upstream", "/*", &Sink::Upstream),
        ] {
            let route = Route::parse(text).unwrap_or_else(|error| panic!("{text}: {}", error[0]));
            assert_eq!((route.source.to_string().as_str(), &route.sink), (source, sink), "{text}");
        }
    }

    #[test]
    fn a_bad_route_is_refused_at_its_place_with_what_to_write() {
        for (text, column, message, hint) in [
            ("", 1, "the route is empty", "write FROM"),
            ("FORM /messages/* INTO $upstream", 1, "expected FROM, found 'FORM'", "did you mean FROM?"),
            ("FROM messages INTO $upstream", 6, "FROM needs a source, found 'messages'", "as in"),
            ("FROM /messages/* $upstream", 18, "expected INTO, found '$upstream'", "FROM /messages"),
            ("FROM /messages/* INTO $upsteam", 23, "'$upsteam' is not a sink", "did you mean $upstream?"),
            ("FROM /messages/* INTO upstream", 23, "'upstream' is not a sink", "did you mean $upstream?"),
            (
                "FROM /messages/* INTO BrokerEndpoint(\"x\")",
                23,
                "'BrokerEndpoint' is not a sink",
                "did you mean Brokered",
            ),
            ("FROM /messages/* INTO", 22, "the end is not a sink", "a sink is"),
            (
                "FROM /messages/* INTO BrokeredEndpoint(\"/filter\")",
                41,
                "BrokeredEndpoint needs the path",
                "write Brokered",
            ),
            (
                "FROM /messages/* INTO BrokeredEndpoint(\"/module/f/inputs/i\")",
                42,
                "the path of an input begins",
                "write",
            ),
            (
                "FROM /messages/* INTO BrokeredEndpoint(\"/modules/f/input/i\")",
                52,
                "after the module comes /inputs",
                "write",
            ),
            ("FROM /messages/* INTO BrokeredEndpoint(\"/modules/f/inputs/\")", 59, "\"\" is not the name", "write"),
            (
                "FROM /messages/* INTO BrokeredEndpoint(\"/modules/f/inputs/i)",
                40,
                "the text in quotes does not end",
                "close",
            ),
            (
                "FROM /messages/* INTO BrokeredEndpoint(/modules/f/inputs/i)",
                40,
                "BrokeredEndpoint needs a path in quotes",
                "w",
            ),
            ("FROM /messages/* INTO $upstream WHERE a = 1", 33, "nothing may follow here", "WHERE stands before INTO"),
            ("FROM /messages/* WHERE INTO $upstream", 24, "a value is missing before INTO", "a value is"),
            ("FROM /messages/* INTO $upstream /* why", 33, "the comment does not end", "close it"),
            ("FROM /messages/*/outputs/x INTO $upstream", 16, "'*' can only stand at the end", "leave out"),
            ("SELECT a FROM /messages/* INTO $upstream", 8, "SELECT can only take '*'", "write SELECT *"),
        ] {
            let error = Route::parse(text).err().unwrap_or_else(|| panic!("{text} was taken")).remove(0);
            assert!(error.message.starts_with(message), "{text}: {}", error.message);
            assert_eq!((error.line, error.column), (1, column), "{text}");
            assert!(error.hint.as_deref().unwrap().starts_with(hint), "{text}: {:?}", error.hint);
        }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let text = "FROM /messages/*\n  INTO $upsteam";
        let error = Route::parse(text).unwrap_err().remove(0);

        assert_eq!((error.line, error.column), (2, 8));
        assert_eq!(error.render(text), "  INTO $upsteam\n       ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("FROM /messages/*{} INTO nowhere{}", " ".repeat(5_000), "x".repeat(5_000));
        let rendered = Route::parse(&text).unwrap_err()[0].render(&text);

        assert!(rendered.lines().next().unwrap().chars().count() < 130, "{rendered}");
        let caret = rendered.lines().nth(1).unwrap().chars().count() - 1;
        assert_eq!(rendered.lines().next().unwrap().chars().nth(caret), Some('n'));
    }

    #[test]
    fn tail_takes_a_route_without_a_sink_only() {
        assert_eq!(Selection::parse("FROM /messages/modules/filter/*").unwrap().source.module(), Some("filter"));
        let error = Selection::parse("FROM /messages/* INTO $upstream").unwrap_err().remove(0);
        assert_eq!((error.column, error.hint.as_deref()), (18, Some("leave out INTO and what follows")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_upsets_the_parser(text in "(?s)(FROM |INTO |/\\*|\\*/|/messages|'|\"|\\$upstream|BrokeredEndpoint\\(|.){0,12}") {
            if let Err(errors) = Route::parse(&text) {
                errors.iter().for_each(|error| drop(error.render(&text)));
            }
        }
    }
}
