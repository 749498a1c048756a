//! Sources: where messages come from, and the patterns by which routes take them.
//!
//! A pattern is a prefix of path segments, compared without regard to case. One trailing `*` changes nothing: `/messages` and
//! `/messages/*` take the same. Source: IoT Edge's message sources.

use std::fmt;

use crate::spelling::suggestion;

/// Where a message came from. Made once per output, not per message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourcePath(Vec<String>);

impl SourcePath {
    /// An output of a module; `None` for what a module sends without naming an output.
    pub fn module(module: &str, output: Option<&str>) -> SourcePath {
        let mut path = vec!["messages".to_owned(), "modules".to_owned(), module.to_owned()];
        if let Some(output) = output.filter(|output| !output.is_empty()) {
            path.extend(["outputs".to_owned(), output.to_owned()]);
        }
        SourcePath(path)
    }

    /// The device itself, or one below it.
    pub fn device() -> SourcePath {
        SourcePath(vec!["messages".to_owned()])
    }

    /// Changes of reported properties. `/messages/*` does not see them, `/*` does.
    pub fn twin_changes() -> SourcePath {
        SourcePath(vec!["twinChangeNotifications".to_owned()])
    }

    /// What the runtime itself says: `twinChangeNotifications`, or `losses` and the place of the sender that lost something, such as
    /// `losses/modules/filter/outputs/alarms`. `/messages/*` does not see them, `/*` does.
    pub fn own(place: &str) -> SourcePath {
        SourcePath(place.split('/').map(str::to_owned).collect())
    }
}

impl fmt::Display for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.join("/"))
    }
}

/// What stands after `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    prefix: Vec<String>,
}

/// What is wrong with a source; `at` is the byte offset in its text.
pub(super) struct SourceProblem {
    pub(super) at: usize,
    pub(super) message: String,
    pub(super) hint: String,
}

const SHAPE: &str = "sources read /messages/modules/NAME/outputs/OUTPUT, or begin like that and end in /*";

impl Source {
    /// Everything.
    pub fn all() -> Source {
        Source { prefix: Vec::new() }
    }

    /// Whether messages from `path` are taken.
    pub fn matches(&self, path: &SourcePath) -> bool {
        self.prefix.len() <= path.0.len()
            && self.prefix.iter().zip(&path.0).all(|(ours, theirs)| ours.eq_ignore_ascii_case(theirs))
    }

    /// Whether it takes changes of twins and nothing else.
    pub(super) fn is_of_twin_changes(&self) -> bool {
        self.prefix.first().is_some_and(|first| first.eq_ignore_ascii_case("twinChangeNotifications"))
    }

    /// The module that the pattern names, if it names one.
    pub fn module(&self) -> Option<&str> {
        self.prefix.get(2).map(String::as_str)
    }

    /// The output that the pattern names, if it names one.
    pub fn output(&self) -> Option<&str> {
        self.prefix.get(4).map(String::as_str)
    }

    /// Reads `/messages/modules/m/outputs/*`; stricter than IoT Edge, which takes patterns that nothing can match.
    pub(super) fn parse(text: &str) -> Result<Source, SourceProblem> {
        let problem = |at, message: String, hint: &str| SourceProblem { at, message, hint: hint.to_owned() };
        let Some(rest) = text.strip_prefix('/') else {
            return Err(problem(0, format!("a source begins with '/', this is {text:?}"), SHAPE));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut prefix: Vec<String> = Vec::new();
        let mut at = 1;
        let count = rest.split('/').count();
        for (index, segment) in rest.split('/').enumerate() {
            let last = index + 1 == count;
            match segment {
                "*" if last => break,
                "*" => {
                    let hint = "leave out the rest after '*', or name what stands at its place";
                    return Err(problem(at, "'*' can only stand at the end of a source".into(), hint));
                }
                "" => return Err(problem(at, "empty name between two '/' in a source".into(), SHAPE)),
                _ if segment.contains('*') => {
                    let whole = segment.replace('*', "");
                    let message = format!("'*' stands for whole names, not for a part of one as in {segment:?}");
                    let hint = match &*whole {
                        "" | "\\" => "write * alone for all".to_owned(),
                        "INTO" | "into" | "WHERE" | "where" => format!("put a space before {whole}"),
                        whole => format!("write {whole} for exactly that, or * alone for all"),
                    };
                    return Err(problem(at, message, &hint));
                }
                _ => {}
            }
            check_segment(&prefix, segment).map_err(|(message, hint)| SourceProblem { at, message, hint })?;
            prefix.push(segment.to_owned());
            at += segment.len() + 1;
        }
        Ok(Source { prefix })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.prefix {
            write!(f, "/{segment}")?;
        }
        // A full path of an output has nothing below it.
        if self.prefix.len() < 5 { f.write_str("/*") } else { Ok(()) }
    }
}

fn check_segment(before: &[String], segment: &str) -> Result<(), (String, String)> {
    let fixed: &[&str] = match before.len() {
        0 => &["messages", "twinChangeNotifications", "losses"],
        _ if before[0].eq_ignore_ascii_case("twinChangeNotifications") => &[],
        1 => &["modules"],
        3 => &["outputs"],
        2 => {
            return crate::name::check_id(segment).map_err(|error| (error.to_string(), SHAPE.to_owned()));
        }
        4 => return Ok(()),
        _ => &[],
    };
    if fixed.iter().any(|word| word.eq_ignore_ascii_case(segment)) {
        return Ok(());
    }
    let place = if before.is_empty() { String::from("/") } else { format!("/{}/", before.join("/")) };
    if fixed.is_empty() {
        return Err((format!("nothing comes below {}", place.trim_end_matches('/')), SHAPE.to_owned()));
    }
    let hint = match before {
        [_] if segment.eq_ignore_ascii_case("events") => {
            "what devices send is at /messages/*, what modules send at /messages/modules/NAME/outputs/OUTPUT".to_owned()
        }
        _ => suggestion(segment, fixed),
    };
    Err((format!("there is no source {place}{segment}"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse(text).unwrap_or_else(|problem| panic!("{text}: {}", problem.message))
    }

    #[test]
    fn patterns_take_what_they_are_a_prefix_of() {
        let output = SourcePath::module("Filter", Some("alarms"));
        let bare = SourcePath::module("filter", None);
        let other = SourcePath::module("filter2", Some("alarms"));
        let (device, twins) = (SourcePath::device(), SourcePath::twin_changes());
        #[rustfmt::skip]
        let table = [
            ("/*",                                       [true,  true,  true,  true,  true]),
            ("/messages/*",                              [true,  true,  true,  true,  false]),
            ("/messages",                                [true,  true,  true,  true,  false]),
            ("/messages/modules/*",                      [true,  true,  true,  false, false]),
            ("/messages/modules/filter/*",               [true,  true,  false, false, false]),
            ("/MESSAGES/Modules/FILTER",                 [true,  true,  false, false, false]),
            ("/messages/modules/filter/",                [true,  true,  false, false, false]),
            ("/messages/modules/filter/outputs/*",       [true,  false, false, false, false]),
            ("/messages/modules/filter/outputs/alarms",  [true,  false, false, false, false]),
            ("/messages/modules/filter/outputs/alarm",   [false, false, false, false, false]),
            ("/twinChangeNotifications",                 [false, false, false, false, true]),
        ];
        for (pattern, expected) in table {
            let found = [&output, &bare, &other, &device, &twins].map(|path| source(pattern).matches(path));
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn losses_are_selected_by_the_place_of_the_sender() {
        let output = SourcePath::own("losses/modules/filter/outputs/alarms");
        let device = SourcePath::own("losses");
        #[rustfmt::skip]
        let table = [
            ("/*",                                    [true,  true]),
            ("/messages/*",                           [false, false]),
            ("/losses",                               [true,  true]),
            ("/losses/*",                             [true,  true]),
            ("/losses/modules/*",                     [true,  false]),
            ("/losses/modules/filter/outputs/alarms", [true,  false]),
            ("/losses/modules/pump/*",                [false, false]),
        ];
        for (pattern, expected) in table {
            assert_eq!([&output, &device].map(|path| source(pattern).matches(path)), expected, "{pattern}");
        }
        assert!(Source::parse("/losses/module/a").is_err());
    }

    #[test]
    fn a_star_within_a_name_is_told_what_to_write() {
        let hint = |pattern| Source::parse(pattern).err().unwrap().hint;
        assert_eq!(hint("/messages/modules/fil*"), "write fil for exactly that, or * alone for all");
        assert_eq!(hint("/messages/**"), "write * alone for all");
    }

    #[test]
    fn patterns_that_cannot_match_are_refused_at_their_place() {
        for (pattern, at, message) in [
            ("/messages/*/outputs/a", 10, "'*' can only stand at the end"),
            ("/messages/modules/fil*", 18, "'*' stands for whole names"),
            ("/message/*", 1, "there is no source /message"),
            ("/messages/module/a", 10, "there is no source /messages/module"),
            ("/messages/modules/a/output/b", 20, "there is no source /messages/modules/a/output"),
            ("/messages/modules/a/outputs/b/c", 30, "nothing comes below /messages/modules/a/outputs/b"),
            ("/messages//a", 10, "empty name"),
        ] {
            let problem = Source::parse(pattern).err().unwrap_or_else(|| panic!("{pattern} was taken"));
            assert!(problem.message.starts_with(message), "{pattern}: {}", problem.message);
            assert_eq!(problem.at, at, "{pattern}");
        }
    }

    #[test]
    fn a_source_is_written_as_it_is_understood() {
        for (text, written) in [
            ("/*", "/*"),
            ("/messages", "/messages/*"),
            ("/messages/modules/a/outputs/b", "/messages/modules/a/outputs/b"),
        ] {
            assert_eq!(source(text).to_string(), written);
        }
    }
}
