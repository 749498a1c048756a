//! Routes: from where messages go to where.
//!
//! A [`RouteSpec`] is what was asked for, a [`RouteTable`] is what the senders use: immutable, compiled once, swapped as a whole.
//! Each endpoint gets a message once, by the best of the routes that lead there and whose [`Condition`] is true for it.

pub mod condition;
mod cursor;
mod error;
pub mod route;
pub mod source;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use condition::{Asked, BodyPaths, Condition, ExplainedPart, Explanation, Test, Truth};
pub use error::RouteError;
pub use route::{MAX_ROUTE_BYTES, Route, Selection, Sink, Trial};
pub use source::{Source, SourcePath};
pub use view::MessageView;

/// Priority of a route that gives none: the lowest. Source: IoT Edge.
pub const LOWEST_PRIORITY: u32 = 2_000_000_000;

/// How long a sender is held by a full receiver where the route says `block` and not for how long.
pub const DEFAULT_BLOCK: Duration = Duration::from_secs(1);

/// Where the messages of a route wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the database: they survive a power cut.
    Disk,
    /// In memory: they survive the instances, not the runtime.
    Memory,
}

/// What becomes of a message for which there is no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnFull {
    /// It goes to disk.
    #[default]
    Spill,
    /// It takes the place of the oldest.
    DropOldest,
    /// It is dropped.
    DropNewest,
    /// The sender waits for a limited time.
    Block,
}

impl Durability {
    /// Every value with its word.
    pub const WORDS: &'static [(&'static str, Durability)] =
        &[("memory", Durability::Memory), ("disk", Durability::Disk)];

    /// What a route into `sink` has unless it says otherwise.
    pub fn default_for(sink: &Sink) -> Durability {
        match sink {
            Sink::Upstream => Durability::Disk,
            Sink::Input { .. } => Durability::Memory,
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Disk => "disk",
            Durability::Memory => "memory",
        })
    }
}

impl OnFull {
    /// Every value with its word.
    pub const WORDS: &'static [(&'static str, OnFull)] = &[
        ("spill", OnFull::Spill),
        ("dropOldest", OnFull::DropOldest),
        ("dropNewest", OnFull::DropNewest),
        ("block", OnFull::Block),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        OnFull::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| *word)
    }
}

/// A route as it was asked for, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Lower is served first.
    pub priority: u32,
    /// How long its messages may wait; `None`: as long as the device's time to live says.
    pub ttl_secs: Option<u64>,
    /// Where its messages wait.
    pub durability: Durability,
    /// What happens when there is no room.
    #[serde(default)]
    pub on_full: OnFull,
    /// With [`OnFull::Block`]: for how long its senders are held at most; `None`: [`DEFAULT_BLOCK`].
    #[serde(default)]
    pub block_ms: Option<u32>,
    /// Largest message, body and properties together, for memory routes; `None`: the device's limit.
    #[serde(default)]
    pub max_message_bytes: Option<u32>,
}

impl RouteSpec {
    /// A route with every default.
    ///
    /// # Errors
    /// `text` is not a route.
    pub fn new(name: &str, text: &str) -> Result<RouteSpec, Vec<RouteError>> {
        let route = Route::parse(text)?;
        Ok(RouteSpec {
            name: name.to_owned(),
            text: text.to_owned(),
            priority: LOWEST_PRIORITY,
            ttl_secs: None,
            durability: Durability::default_for(&route.sink),
            on_full: OnFull::default(),
            block_ms: None,
            max_message_bytes: None,
        })
    }
}

/// What is wrong with the name of a route; `None` if nothing is. Source: IoT Edge's pattern `^[^\.\$# ]+$`.
pub fn route_name_problem(name: &str) -> Option<String> {
    match name.chars().find(|c| matches!(c, '.' | '$' | '#' | ' ') || c.is_control()) {
        _ if name.is_empty() => Some("the name of a route must not be empty".to_owned()),
        Some(bad) => Some(format!("the name of a route must not contain {bad:?}")),
        None => None,
    }
}

/// A route, ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledRoute {
    /// Its name.
    pub name: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
    /// What it takes.
    pub source: Source,
    /// Which of that.
    pub condition: Option<Condition>,
    /// What it does with it.
    pub target: TargetSpec,
}

/// Where a message goes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpec {
    /// The route that sends it there.
    pub route: Arc<str>,
    /// The endpoint.
    pub sink: Sink,
    /// Lower is served first.
    pub priority: u32,
    /// How long it may wait.
    pub ttl: Option<Duration>,
    /// Where it waits.
    pub durability: Durability,
    /// What happens when there is no room.
    pub on_full: OnFull,
    /// With [`OnFull::Block`]: for how long.
    pub block: Duration,
    /// Largest message, body and properties together.
    pub max_message_bytes: Option<u32>,
}

/// All routes in force. Immutable: a change makes a new table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    routes: Vec<CompiledRoute>,
}

impl RouteTable {
    /// Compiles all routes, or says which are not routes, each with its name.
    pub fn compile(specs: &[RouteSpec]) -> Result<RouteTable, Vec<(String, RouteError)>> {
        let (table, errors) = RouteTable::compile_what_can_be(specs);
        if errors.is_empty() { Ok(table) } else { Err(errors) }
    }

    /// Compiles those that are routes. Second: those that are not, each with its name.
    pub fn compile_what_can_be(specs: &[RouteSpec]) -> (RouteTable, Vec<(String, RouteError)>) {
        let mut routes = Vec::with_capacity(specs.len());
        let mut errors = Vec::new();
        for spec in specs {
            match Route::parse(&spec.text) {
                Ok(route) => routes.push(compile(spec, route)),
                Err(found) => errors.extend(found.into_iter().map(|error| (spec.name.clone(), error))),
            }
        }
        (RouteTable { routes }, errors)
    }

    /// These routes, and of `more` those whose names they do not have.
    pub fn with(&self, more: &RouteTable) -> RouteTable {
        let added = more.routes.iter().filter(|route| self.find(&route.name).is_none());
        RouteTable { routes: self.routes.iter().chain(added).cloned().collect() }
    }

    /// The route of this name.
    pub fn find(&self, name: &str) -> Option<&CompiledRoute> {
        self.routes.iter().find(|route| &*route.name == name)
    }

    /// The routes, in the order they were given.
    pub fn routes(&self) -> &[CompiledRoute] {
        &self.routes
    }

    /// Where messages from `path` may go: for each endpoint the routes that lead there, best first. The first of them whose
    /// condition is true for a message carries it. A better route has the better priority; of equal ones a durable one goes
    /// before one in memory, then the name decides. What stands behind a route without a condition is never asked, and left out.
    pub fn candidates_for(&self, path: &SourcePath) -> Vec<Vec<&CompiledRoute>> {
        fn rank(route: &CompiledRoute) -> (u32, Durability, &str) {
            (route.target.priority, route.target.durability, &route.name)
        }
        let mut endpoints: BTreeMap<&Sink, Vec<&CompiledRoute>> = BTreeMap::new();
        for route in self.routes.iter().filter(|route| route.source.matches(path)) {
            endpoints.entry(&route.target.sink).or_default().push(route);
        }
        let mut endpoints: Vec<Vec<&CompiledRoute>> = endpoints.into_values().collect();
        for routes in &mut endpoints {
            routes.sort_by(|a, b| rank(a).cmp(&rank(b)));
            let unconditional = routes.iter().position(|route| route.condition.is_none());
            routes.truncate(unconditional.map_or(routes.len(), |at| at + 1));
        }
        endpoints.sort_by(|a, b| a.first().map(|r| rank(r)).cmp(&b.first().map(|r| rank(r))));
        endpoints
    }
}

fn compile(spec: &RouteSpec, route: Route) -> CompiledRoute {
    let name: Arc<str> = spec.name.as_str().into();
    CompiledRoute {
        name: name.clone(),
        text: spec.text.as_str().into(),
        source: route.source,
        condition: route.condition,
        target: TargetSpec {
            route: name,
            sink: route.sink,
            priority: spec.priority,
            ttl: spec.ttl_secs.map(Duration::from_secs),
            durability: spec.durability,
            on_full: spec.on_full,
            block: spec.block_ms.map_or(DEFAULT_BLOCK, |ms| Duration::from_millis(ms.into())),
            max_message_bytes: spec.max_message_bytes,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, priority: u32, text: &str) -> RouteSpec {
        RouteSpec { priority, ..RouteSpec::new(name, text).unwrap() }
    }

    #[test]
    fn each_endpoint_gets_a_message_once_by_its_best_route() {
        let table = RouteTable::compile(&[
            spec("all", LOWEST_PRIORITY, "FROM /* INTO $upstream"),
            spec("alarms", 0, "FROM /messages/modules/filter/outputs/alarms INTO $upstream"),
            spec("store", 5, "FROM /messages/modules/filter/* INTO BrokeredEndpoint(\"/modules/recorder/inputs/in\")"),
            spec("other", 1, "FROM /messages/modules/pump/* INTO BrokeredEndpoint(\"/modules/recorder/inputs/in\")"),
        ])
        .unwrap();
        let routes = |module: &str, output: &str| -> Vec<String> {
            let endpoints = table.candidates_for(&SourcePath::module(module, Some(output)));
            endpoints.iter().map(|routes| routes[0].name.to_string()).collect()
        };

        assert_eq!(routes("filter", "alarms"), ["alarms", "store"]);
        assert_eq!(routes("filter", "other"), ["store", "all"]);
        assert_eq!(routes("clock", "ticks"), ["all"]);
    }

    #[test]
    fn of_equal_routes_the_durable_one_wins() {
        let mut memory = spec("a", 3, "FROM /* INTO $upstream");
        memory.durability = Durability::Memory;
        let table = RouteTable::compile(&[memory, spec("b", 3, "FROM /messages/* INTO $upstream")]).unwrap();

        assert_eq!(&*table.candidates_for(&SourcePath::device())[0][0].name, "b");
    }

    #[test]
    fn an_endpoint_has_its_routes_in_order_up_to_the_first_without_a_condition() {
        let table = RouteTable::compile(&[
            spec("all", 5, "FROM /* INTO $upstream"),
            spec("never", 7, "FROM /* WHERE a = 'x' INTO $upstream"),
            spec("high", 0, "FROM /* WHERE level = 'high' INTO $upstream"),
            spec("low", 3, "FROM /* WHERE level = 'low' INTO $upstream"),
            spec("in", 1, "FROM /* WHERE level = 'low' INTO BrokeredEndpoint('/modules/a/inputs/b')"),
        ])
        .unwrap();

        let endpoints = table.candidates_for(&SourcePath::device());
        let names: Vec<Vec<&str>> = endpoints.iter().map(|routes| routes.iter().map(|r| &*r.name).collect()).collect();

        assert_eq!(names, [vec!["high", "low", "all"], vec!["in"]]);
    }

    #[test]
    fn durability_follows_the_sink_unless_told() {
        let input = "FROM /* INTO BrokeredEndpoint('/modules/a/inputs/b')";
        assert_eq!(RouteSpec::new("r", "FROM /* INTO $upstream").unwrap().durability, Durability::Disk);
        assert_eq!(RouteSpec::new("r", input).unwrap().durability, Durability::Memory);
    }

    #[test]
    fn a_route_goes_before_an_added_one_of_its_name() {
        let table = |specs: &[RouteSpec]| RouteTable::compile(specs).unwrap();
        let deployed = table(&[spec("a", 1, "FROM /* INTO $upstream")]);
        let added = table(&[spec("a", 2, "FROM /messages INTO $upstream"), spec("b", 3, "FROM /* INTO $upstream")]);

        let both = deployed.with(&added);

        let seen: Vec<(&str, u32)> = both.routes().iter().map(|r| (&*r.name, r.target.priority)).collect();
        assert_eq!(seen, [("a", 1), ("b", 3)]);
        assert!(both.find("c").is_none());
    }

    #[test]
    fn every_bad_route_of_a_table_is_named() {
        let mut bad = spec("one", 0, "FROM /* INTO $upstream");
        bad.text = "FROM /* INTO nowhere".into();
        let worse = RouteSpec { name: "two".into(), text: String::new(), ..bad.clone() };

        let errors = RouteTable::compile(&[bad, worse]).unwrap_err();

        assert_eq!(errors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    }
}
