//! The route language: `[SELECT *] FROM source [WHERE condition] INTO sink`.
//!
//! Keywords in any case, comments as `/* … */`. Unlike IoT Edge, text after the sink is an error, and sinks and sources are
//! checked in full: a route that could never carry a message is refused when it is written.

use std::fmt;

use super::source::Source;
use crate::spelling::nearest;

/// A route as it was written, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What it takes.
    pub source: Source,
    /// Which of that.
    pub condition: Option<Condition>,
    /// Where it puts it.
    pub sink: Sink,
}

/// What `tail` follows: a route without a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// What it takes.
    pub source: Source,
    /// Which of that.
    pub condition: Option<Condition>,
}

/// What stands after `WHERE`. This version has none: a route with one is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {}

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

/// Why a route is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct RouteError {
    /// What is wrong.
    pub message: String,
    /// Offset in the text, in bytes.
    pub at: usize,
    /// Line in the text, from 1.
    pub line: u32,
    /// Column in that line, in characters, from 1.
    pub column: u32,
    /// What to write instead.
    pub hint: Option<String>,
}

impl RouteError {
    /// The line of `text` in question with a caret under the place; a long line is cut to what stands around it.
    pub fn render(&self, text: &str) -> String {
        const AROUND: usize = 60;
        let line: Vec<char> = text.lines().nth(self.line as usize - 1).unwrap_or("").chars().collect();
        let caret = (self.column as usize - 1).min(line.len());
        let (from, to) = (caret.saturating_sub(AROUND), (caret + AROUND).min(line.len()));
        let shown: String = line[from..to].iter().map(|c| if c.is_control() { ' ' } else { *c }).collect();
        let before = if from > 0 { "…" } else { "" };
        let after = if to < line.len() { "…" } else { "" };
        format!("{before}{shown}{after}\n{}^", " ".repeat(caret - from + before.chars().count()))
    }
}

impl Route {
    /// Reads a route.
    pub fn parse(text: &str) -> Result<Route, RouteError> {
        let mut parser = Parser { text, at: 0 };
        let Selection { source, condition } = parser.selection()?;
        parser.keyword("INTO", "FROM /messages/modules/NAME/outputs/OUTPUT INTO $upstream")?;
        let sink = parser.sink()?;
        parser.end()?;
        Ok(Route { source, condition, sink })
    }
}

impl Selection {
    /// Reads a route without `INTO`, as `tail` takes it.
    pub fn parse(text: &str) -> Result<Selection, RouteError> {
        let mut parser = Parser { text, at: 0 };
        let selection = parser.selection()?;
        parser.skip();
        if parser.word().eq_ignore_ascii_case("INTO") {
            return Err(parser.error(
                parser.at,
                "there is no INTO here: what passes is shown",
                "leave out INTO and what follows",
            ));
        }
        parser.end()?;
        Ok(selection)
    }
}

const SINKS: &str = "a sink is $upstream or BrokeredEndpoint(\"/modules/NAME/inputs/INPUT\")";
const ENDPOINT: &str = "write BrokeredEndpoint(\"/modules/NAME/inputs/INPUT\")";

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn selection(&mut self) -> Result<Selection, RouteError> {
        self.skip();
        if self.text[self.at..].trim().is_empty() {
            return Err(self.error(self.at, "the route is empty", "write FROM /messages/* INTO $upstream"));
        }
        if self.word().eq_ignore_ascii_case("SELECT") {
            self.at += "SELECT".len();
            self.skip();
            if !self.rest().starts_with('*') {
                return Err(self.error(
                    self.at,
                    "SELECT can only take '*': routes pass whole messages",
                    "write SELECT * FROM …",
                ));
            }
            self.at += 1;
        }
        self.keyword("FROM", "a route begins with FROM, as in FROM /messages/* INTO $upstream")?;
        let source = self.source()?;
        self.skip();
        if self.word().eq_ignore_ascii_case("WHERE") {
            return Err(self.error(
                self.at,
                "conditions (WHERE) are not supported by this version yet",
                "route without a condition and select in the receiving module",
            ));
        }
        Ok(Selection { source, condition: None })
    }

    fn source(&mut self) -> Result<Source, RouteError> {
        self.skip_space();
        while self.rest().starts_with("/*") && !self.is_catch_all() {
            self.comment();
            self.skip_space();
        }
        let start = self.at;
        let text = self.rest().split(char::is_whitespace).next().unwrap_or("");
        if text.is_empty() || !text.starts_with('/') {
            let message = format!("FROM needs a source, found {}", self.found());
            return Err(self.error(start, &message, "as in FROM /messages/modules/NAME/outputs/OUTPUT"));
        }
        self.at += text.len();
        Source::parse(text).map_err(|problem| self.error(start + problem.at, &problem.message, &problem.hint))
    }

    /// `/*` is both the source of everything and the start of a comment: it is the source where a keyword, a comment or nothing
    /// follows it.
    fn is_catch_all(&self) -> bool {
        let after = &self.rest()["/*".len()..];
        let follows = after.trim_start();
        let word = follows.split(char::is_whitespace).next().unwrap_or("");
        let keyword = word.eq_ignore_ascii_case("INTO") || word.eq_ignore_ascii_case("WHERE");
        follows.is_empty()
            || (after.starts_with(char::is_whitespace) && (keyword || follows.starts_with("/*")))
            || !after.contains("*/")
    }

    fn sink(&mut self) -> Result<Sink, RouteError> {
        self.skip();
        let start = self.at;
        let word = self.word();
        if word.eq_ignore_ascii_case("$upstream") {
            self.at += word.len();
            return Ok(Sink::Upstream);
        }
        if !word.eq_ignore_ascii_case("BrokeredEndpoint") {
            let message = format!("{} is not a sink", self.found());
            let hint = match nearest(word, ["$upstream", "upstream", "BrokeredEndpoint"]) {
                Some("BrokeredEndpoint") => "did you mean BrokeredEndpoint?",
                Some(_) => "did you mean $upstream?",
                None => SINKS,
            };
            return Err(self.error(start, &message, hint));
        }
        self.at += word.len();
        self.skip();
        self.punctuation('(')?;
        self.skip();
        let (at, endpoint) = self.string()?;
        self.skip();
        self.punctuation(')')?;
        self.endpoint(at, &endpoint)
    }

    fn endpoint(&self, at: usize, text: &str) -> Result<Sink, RouteError> {
        let refuse = |offset: usize, message: String| Err(self.error(at + offset, &message, ENDPOINT));
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

    /// A quoted text and the offset of its first character.
    fn string(&mut self) -> Result<(usize, String), RouteError> {
        let start = self.at;
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            let message = format!("BrokeredEndpoint needs a path in quotes, found {}", self.found());
            return Err(self.error(start, &message, ENDPOINT));
        };
        let mut value = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at = start + offset + 1;
                    return Ok((start + 1, value));
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => value.push(c),
            }
        }
        Err(self.error(start, "the text in quotes does not end", &format!("close it with {quote}")))
    }

    fn keyword(&mut self, keyword: &str, hint: &str) -> Result<(), RouteError> {
        self.skip();
        let word = self.word();
        if !word.eq_ignore_ascii_case(keyword) {
            let hint = match nearest(word, [keyword]) {
                Some(keyword) if !word.is_empty() => format!("did you mean {keyword}?"),
                _ => hint.to_owned(),
            };
            return Err(self.error(self.at, &format!("expected {keyword}, found {}", self.found()), &hint));
        }
        self.at += word.len();
        Ok(())
    }

    fn punctuation(&mut self, expected: char) -> Result<(), RouteError> {
        if !self.rest().starts_with(expected) {
            let message = format!("expected '{expected}', found {}", self.found());
            return Err(self.error(self.at, &message, ENDPOINT));
        }
        self.at += expected.len_utf8();
        Ok(())
    }

    fn end(&mut self) -> Result<(), RouteError> {
        self.skip();
        if self.rest().is_empty() {
            return Ok(());
        }
        let hint = match self.word().to_ascii_uppercase().as_str() {
            "WHERE" => "WHERE stands before INTO",
            "INTO" => "a route has one sink: write a second route",
            _ => "remove it",
        };
        Err(self.error(self.at, &format!("nothing may follow here, found {}", self.found()), hint))
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The word that starts here; empty where none does.
    fn word(&self) -> &'t str {
        let end = |c: char| c.is_whitespace() || "()\"'/,;".contains(c);
        self.rest().split(end).next().unwrap_or("")
    }

    /// What starts here, for a message.
    fn found(&self) -> String {
        match (self.word(), self.rest().chars().next()) {
            (_, None) => "the end".to_owned(),
            ("", Some(c)) => format!("'{c}'"),
            (word, _) => format!("'{}'", word.chars().take(40).collect::<String>()),
        }
    }

    fn skip(&mut self) {
        self.skip_space();
        while self.rest().starts_with("/*") {
            self.comment();
            self.skip_space();
        }
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn comment(&mut self) {
        self.at += self.rest().find("*/").map_or(self.rest().len(), |end| end + "*/".len());
    }

    fn error(&self, at: usize, message: &str, hint: &str) -> RouteError {
        let before = &self.text[..at.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        RouteError {
            message: message.to_owned(),
            at,
            line: count(before.matches('\n').count()),
            column: count(before[line_start..].chars().count()),
            hint: Some(hint.to_owned()),
        }
    }
}

/// From an index to a position as people count.
fn count(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX - 1) + 1
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
            let route = Route::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
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
            (
                "FROM /messages/* WHERE a = 1 INTO $upstream",
                18,
                "conditions (WHERE) are not supported",
                "route without",
            ),
            ("FROM /messages/*/outputs/x INTO $upstream", 16, "'*' can only stand at the end", "leave out"),
            ("SELECT a FROM /messages/* INTO $upstream", 8, "SELECT can only take '*'", "write SELECT *"),
        ] {
            let error = Route::parse(text).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(error.message.starts_with(message), "{text}: {}", error.message);
            assert_eq!((error.line, error.column), (1, column), "{text}");
            assert!(error.hint.as_deref().unwrap().starts_with(hint), "{text}: {:?}", error.hint);
        }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let text = "FROM /messages/*\n  INTO $upsteam";
        let error = Route::parse(text).unwrap_err();

        assert_eq!((error.line, error.column), (2, 8));
        assert_eq!(error.render(text), "  INTO $upsteam\n       ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("FROM /messages/*{} INTO nowhere{}", " ".repeat(5_000), "x".repeat(5_000));
        let rendered = Route::parse(&text).unwrap_err().render(&text);

        assert!(rendered.lines().next().unwrap().chars().count() < 130, "{rendered}");
        let caret = rendered.lines().nth(1).unwrap().chars().count() - 1;
        assert_eq!(rendered.lines().next().unwrap().chars().nth(caret), Some('n'));
    }

    #[test]
    fn tail_takes_a_route_without_a_sink_only() {
        assert_eq!(Selection::parse("FROM /messages/modules/filter/*").unwrap().source.module(), Some("filter"));
        let error = Selection::parse("FROM /messages/* INTO $upstream").unwrap_err();
        assert_eq!((error.column, error.hint.as_deref()), (18, Some("leave out INTO and what follows")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_upsets_the_parser(text in "(?s)(FROM |INTO |/\\*|\\*/|/messages|'|\"|\\$upstream|BrokeredEndpoint\\(|.){0,12}") {
            if let Err(error) = Route::parse(&text) {
                error.render(&text);
            }
        }
    }
}
