//! The desired properties: a list of queries, each with its window. What the types cannot refuse, [`Settings::problems`] names, all
//! of it at once and each with its path.

mod aggregate;
mod queries;

use std::collections::BTreeSet;

use dinrail_plugin::prelude::*;

pub use self::aggregate::Aggregate;
#[cfg(test)]
pub use self::aggregate::Percent;
pub use self::queries::Queries;

/// Most queries of an instance.
const MAX_QUERIES: usize = 64;
/// Most windows that a moment, with what may come late, belongs to: bounds memory and the work for each reading.
const MAX_OVERLAP: i64 = 120;

const SIZES: (Span, Span) = (Span(std::time::Duration::from_millis(100)), Span::from_secs(31 * 86_400));
const CHECKPOINTS: (Span, Span) = (Span::from_secs(1), Span::from_secs(600));
const GROUPS: (u32, u32) = (1, 10_000);

/// Desired properties of `insight`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Queries by name, or a list of queries that have their name inside. By name a patch of the twin can change one of them.
    pub queries: Queries,
    /// At least so often, and whenever a window ends, the windows are written to the data folder: what a kill or a power cut
    /// may take from them.
    pub checkpoint: Span,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { queries: Queries::default(), checkpoint: Span::from_secs(5) }
    }
}

/// A question that is answered for every window and group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    /// Name: letters, digits, `-` and `_`. Left out where the queries are given by name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Only messages of this input; all unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Conditions that a message has to fulfil, all of them.
    #[serde(default, rename = "where", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Where the number is in the body: names of members with dots between them.
    #[serde(default = "value")]
    pub field: String,
    /// What makes a group: members of the body (dots between names), or `$property.KEY`, `$sender`, `$output`, `$input`.
    /// Empty: all readings are one group.
    #[serde(default = "name")]
    pub group_by: Vec<String>,
    /// The window.
    pub window: Window,
    /// What is told of a window, besides its count. The first one is the `value` of the reading that a result is.
    #[serde(default = "Aggregate::usual")]
    pub aggregates: Vec<Aggregate>,
    /// Least quality of a reading whose value counts; those below are counted apart.
    #[serde(default)]
    pub quality: Quality,
    /// What places a reading in time.
    #[serde(default)]
    pub time: TimeBy,
    /// How long after its end a window waits for readings that come late.
    #[serde(default = "lateness")]
    pub lateness: Span,
    /// Tell of windows in which a known group had no reading, with count 0.
    #[serde(default)]
    pub emit_empty: bool,
    /// Most groups of a window; readings of further ones are counted and left out.
    #[serde(default = "max_groups")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_groups: u32,
}

fn value() -> String {
    "value".to_owned()
}

fn name() -> Vec<String> {
    vec!["name".to_owned()]
}

fn lateness() -> Span {
    Span::from_secs(2)
}

fn max_groups() -> u32 {
    200
}

/// A window of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// Tumbling windows follow each other; hopping ones overlap.
    #[serde(default)]
    pub kind: Kind,
    /// How long a window is.
    pub size: Span,
    /// How long after the start of a hopping window the next one starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop: Option<Span>,
}

/// How windows follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Each begins where the last one ends.
    #[default]
    Tumbling,
    /// Each begins a hop after the last one.
    Hopping,
}

/// What places a reading in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeBy {
    /// Its source time; where it has none, its arrival.
    #[default]
    Source,
    /// When the runtime took it in.
    Arrival,
}

/// A condition. All that is given has to be so.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// What is looked at; written like an entry of `groupBy`.
    pub field: String,
    /// It is this text, number or boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// It is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Value>>,
    /// It is text that starts so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_with: Option<String>,
    /// It is a number, this or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// It is a number, this or less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

impl Settings {
    /// Everything that is wrong and that the types do not see, each as `path: what, and what to do`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Problems::default();
        within(&mut problems, "checkpoint", self.checkpoint, CHECKPOINTS);
        if self.queries.len() > MAX_QUERIES {
            problems
                .add("queries", format!("{} are more than {MAX_QUERIES}; use a second instance", self.queries.len()));
        }
        let mut names = BTreeSet::new();
        for (path, query) in self.queries.places() {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if query.name.is_empty() || query.name.len() > 64 || !query.name.chars().all(is_plain) {
                let text = format!("'{}' is not a name; use 1 to 64 letters, digits, '-' or '_'", query.name);
                problems.add(format!("{path}.name"), text);
            } else if !names.insert(&query.name) {
                problems.add(format!("{path}.name"), format!("there is another query '{}'", query.name));
            }
            query.check(&path, &mut problems);
        }
        problems.0
    }
}

impl Query {
    fn check(&self, path: &str, problems: &mut Problems) {
        self.window.check(&format!("{path}.window"), self.lateness, problems);
        if self.field.is_empty() || self.field.split('.').any(str::is_empty) {
            let text = format!("'{}' is not a path; give names with dots between them", self.field);
            problems.add(format!("{path}.field"), text);
        }
        for (at, field) in self.group_by.iter().enumerate() {
            check_source(&format!("{path}.groupBy[{at}]"), field, problems);
        }
        if self.group_by.len() > 4 {
            problems.add(format!("{path}.groupBy"), format!("{} are more than 4", self.group_by.len()));
        }
        for (at, condition) in self.conditions.iter().enumerate() {
            let path = format!("{path}.where[{at}]");
            check_source(&format!("{path}.field"), &condition.field, problems);
            let Condition { equals, one_of, starts_with, at_least, at_most, .. } = condition;
            if equals.is_none() && one_of.is_none() && starts_with.is_none() && at_least.is_none() && at_most.is_none()
            {
                problems.add(path, "asks nothing; give equals, oneOf, startsWith, atLeast or atMost");
            }
        }
        if self.aggregates.is_empty() {
            problems.add(format!("{path}.aggregates"), "is empty; give for instance [\"mean\", \"p95\"]");
        }
        for (at, aggregate) in self.aggregates.iter().enumerate() {
            if self.aggregates[..at].contains(aggregate) {
                problems.add(format!("{path}.aggregates[{at}]"), format!("{aggregate} is there twice"));
            }
        }
        if !(GROUPS.0..=GROUPS.1).contains(&self.max_groups) {
            let text = format!("{} is not within {}..={}", self.max_groups, GROUPS.0, GROUPS.1);
            problems.add(format!("{path}.maxGroups"), text);
        }
    }

    /// True if percentiles are asked for.
    pub fn has_percentiles(&self) -> bool {
        self.aggregates.iter().any(|aggregate| matches!(aggregate, Aggregate::Percentile(_)))
    }

    /// True if windows of one can go on in the other: they hold the same of the same readings.
    pub fn has_same_windows(&self, other: &Query) -> bool {
        let told_otherwise = Query {
            lateness: self.lateness,
            emit_empty: self.emit_empty,
            max_groups: self.max_groups,
            aggregates: self.aggregates.clone(),
            ..other.clone()
        };
        *self == told_otherwise && self.has_percentiles() == other.has_percentiles()
    }
}

impl Window {
    /// Time between the starts of two windows.
    pub fn hop(&self) -> Span {
        self.hop.unwrap_or(self.size)
    }

    fn check(&self, path: &str, lateness: Span, problems: &mut Problems) {
        within(problems, &format!("{path}.size"), self.size, SIZES);
        let hop_path = format!("{path}.hop");
        match (self.kind, self.hop) {
            (Kind::Tumbling, Some(_)) => {
                problems.add(hop_path, "a tumbling window has none; leave it out or use \"kind\": \"hopping\"");
                return;
            }
            (Kind::Tumbling, None) => {}
            (Kind::Hopping, None) => {
                problems.add(hop_path, "a hopping window needs one; give for instance half of its size");
                return;
            }
            (Kind::Hopping, Some(hop)) if hop > self.size => {
                problems
                    .add(hop_path, format!("{hop} is more than the size {}: readings would be left out", self.size));
                return;
            }
            (Kind::Hopping, Some(hop)) => within(problems, &hop_path, hop, SIZES),
        }
        let overlap = self.size.as_us().saturating_add(lateness.as_us()) / self.hop().as_us().max(1);
        if self.hop() >= SIZES.0 && overlap > MAX_OVERLAP {
            let text = format!(
                "{} windows would be open at once, more than {MAX_OVERLAP}; make the hop longer, or size or lateness shorter",
                overlap
            );
            problems.add(path.to_owned(), text);
        }
    }
}

/// Checks what a group or a condition looks at.
fn check_source(path: &str, field: &str, problems: &mut Problems) {
    if crate::seen::Source::parse(field).is_none() {
        let text = format!(
            "'{field}' cannot be looked at; give members of the body with dots between them, or $property.KEY, $sender, \
             $output, $input"
        );
        problems.add(path.to_owned(), text);
    }
}

fn within(problems: &mut Problems, path: &str, span: Span, (least, most): (Span, Span)) {
    if span < least || span > most {
        problems.add(path.to_owned(), format!("{span} is not within {least} to {most}"));
    }
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, text: impl std::fmt::Display) {
        self.0.push(format!("{}: {text}", path.into()));
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
