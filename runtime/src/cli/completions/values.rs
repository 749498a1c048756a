//! What completes an argument: the one table, and the questions to the runtime.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use serde_json::Value;

use crate::admin::client::{Client, path};
use crate::cli::places::Surroundings;

/// Somebody waits at the keyboard: what has not come by then is left out.
const PATIENCE: Duration = Duration::from_millis(150);

/// What completes an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Names of modules.
    Module,
    /// Names of modules; identities, once a `/` was typed.
    Twin,
    /// Names of this device's modules; all identities, once a `/` was typed.
    Identity,
    /// Inputs of the module that is the word before.
    Input,
    /// Methods of the module that is the word before.
    Method,
    /// Desired properties of the twin that is the word before, as `key=`.
    Property,
    /// References to images.
    Image,
    /// References to images, and files.
    ImageOrFile,
    /// Names of routes that were added.
    Route,
    /// Names of secrets.
    Secret,
    /// Ids of messages that were set aside.
    DeadLetter,
    /// Numbers of deployments that one can go back to.
    Deployment,
}

/// The table: verb, argument, and what completes it.
fn kind(verb: &str, argument: &str) -> Option<Kind> {
    Some(match (verb, argument) {
        ("show" | "wait" | "start" | "stop" | "restart" | "logs" | "remove" | "losses" | "send", "name") => {
            Kind::Module
        }
        ("dead-letter list", "name") | ("dead-letter resend" | "dead-letter purge", "of") => Kind::Module,
        ("dead-letter show", "id") | ("dead-letter resend" | "dead-letter purge", "ids") => Kind::DeadLetter,
        ("tail", "route") => Kind::Module,
        ("twin get" | "twin patch" | "twin replace" | "twin history" | "twin undo" | "method", "id") => Kind::Twin,
        ("identity show" | "identity token" | "identity connection-string", "id") => Kind::Identity,
        ("identity remove" | "identity rotate" | "identity enable" | "identity disable", "id") => Kind::Identity,
        ("send", "input") => Kind::Input,
        ("method", "name" | "method") => Kind::Method,
        ("twin patch", "document") => Kind::Property,
        ("image remove", "reference") => Kind::Image,
        ("image inspect", "what") | ("add", "image") => Kind::ImageOrFile,
        ("route remove", "name") => Kind::Route,
        ("secret set" | "secret allow" | "secret remove", "name") => Kind::Secret,
        ("secret set" | "secret allow", "modules") => Kind::Module,
        ("rollback", "id" | "deployment" | "to" | "n") => Kind::Deployment,
        _ => return None,
    })
}

/// What completes `argument` of `verb` on this line.
pub(super) fn of(verb: &str, argument: &str, line: &Line) -> Option<ArgValueCompleter> {
    let kind = kind(verb, argument)?;
    let line = line.clone();
    Some(ArgValueCompleter::new(move |current: &OsStr| candidates(kind, &line, current)))
}

/// The words before the cursor, and where they say that the runtime is.
#[derive(Clone)]
pub(super) struct Line {
    words: Arc<Vec<String>>,
}

impl Line {
    pub(super) fn new(words: &[OsString]) -> Line {
        Line { words: Arc::new(words.iter().map(|word| word.to_string_lossy().into_owned()).collect()) }
    }

    /// The last word before the one in work that is no option: what an input or method belongs to.
    fn owner(&self) -> Option<&str> {
        let before = self.words.get(..self.words.len().checked_sub(1)?)?;
        // After the owner of properties there may be properties.
        let mut plain = before.iter().rev().filter(|word| !word.starts_with('-') && !word.contains('='));
        plain.next().map(String::as_str)
    }

    fn states(&self) -> Vec<PathBuf> {
        let named = self.words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--state") {
            Some("") => self.words.get(at + 1).cloned(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        });
        let named = named.map(PathBuf::from);
        let named =
            named.or_else(|| std::env::var_os("DINRAIL_STATE").filter(|dir| !dir.is_empty()).map(PathBuf::from));
        named.map_or_else(|| Surroundings::read().client_states(), |state| vec![state])
    }

    /// What the runtime answers, if it does so soon.
    fn ask(&self, route: impl Into<String>) -> Option<Value> {
        let (states, route) = (self.states(), route.into());
        let (answer, wait) = channel();
        std::thread::Builder::new()
            .spawn(move || {
                let answered = Client::find(&states).and_then(|client| client.get::<Value>(&route));
                let _ = answer.send(answered.ok());
            })
            .ok()?;
        wait.recv_timeout(PATIENCE).ok()?
    }
}

fn candidates(kind: Kind, line: &Line, current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(text) = current.to_str() else { return Vec::new() };
    let known = match kind {
        Kind::Module => modules(line, false),
        Kind::Twin => modules(line, text.starts_with('/')),
        Kind::Identity => identities(line, text.starts_with('/')),
        Kind::Input => described(line, "inputs"),
        Kind::Method => described(line, "methods"),
        Kind::Property => properties(line),
        Kind::Image | Kind::ImageOrFile => images(line),
        Kind::Route => routes(line),
        Kind::Secret => secrets(line),
        Kind::DeadLetter => dead_letters(line),
        Kind::Deployment => deployments(line),
    };
    let fitting = known.unwrap_or_default().into_iter().filter(|(value, _)| value.starts_with(text));
    let mut found: Vec<CompletionCandidate> = fitting
        .map(|(value, help)| CompletionCandidate::new(value).help(help.filter(|h| !h.is_empty()).map(Into::into)))
        .collect();
    if kind == Kind::ImageOrFile {
        found.extend(PathCompleter::file().complete(current));
    }
    found
}

/// A value, and what a shell may show beside it.
type Known = Vec<(String, Option<String>)>;

fn secrets(line: &Line) -> Option<Known> {
    let secrets = line.ask("/secrets")?;
    Some(secrets.as_array()?.iter().filter_map(|secret| Some((text(secret, "name")?, None))).collect())
}

fn text(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_owned)
}

fn modules(line: &Line, as_identities: bool) -> Option<Known> {
    let key = if as_identities { "identity" } else { "name" };
    let modules = line.ask("/modules")?;
    let rows = modules.as_array()?.iter();
    let mut known: Known = rows.filter_map(|row| Some((text(row, key)?, text(row, "status")))).collect();
    if as_identities && let Some(device) = line.ask("/health").and_then(|health| text(&health, "deviceId")) {
        known.push((format!("/devices/{device}"), Some("this device".to_owned())));
    }
    Some(known)
}

fn identities(line: &Line, in_full: bool) -> Option<Known> {
    let device = if in_full { None } else { Some(text(&line.ask("/health")?, "deviceId")?) };
    let all = line.ask("/identities")?;
    let known = all.as_array()?.iter().filter_map(|row| match &device {
        None => Some((text(row, "identity")?, text(row, "status"))),
        Some(device) if text(row, "deviceId")? == *device => Some((text(row, "moduleId")?, text(row, "status"))),
        Some(_) => None,
    });
    Some(known.collect())
}

/// The module's name in a word that may be its identity.
fn module_of(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

fn described(line: &Line, what: &str) -> Option<Known> {
    let module = line.ask(path(&["modules", module_of(line.owner()?)]))?;
    let names = module["descriptor"][what].as_array()?.iter();
    let named = |entry: &Value| entry.as_str().map(str::to_owned).or_else(|| text(entry, "name"));
    Some(names.filter_map(|entry| Some((named(entry)?, None))).collect())
}

fn properties(line: &Line) -> Option<Known> {
    let owner = line.owner()?;
    let device = text(&line.ask("/health")?, "deviceId")?;
    let twin = line.ask(path(&["twins", &device, "modules", module_of(owner)]))?;
    let desired = twin["properties"]["desired"].as_object()?.iter();
    let desired = desired.filter(|(key, _)| !key.starts_with('$'));
    Some(desired.map(|(key, value)| (format!("{key}="), Some(format!("now {value}")))).collect())
}

fn images(line: &Line) -> Option<Known> {
    let images = line.ask("/images")?;
    let mut known: Known = Vec::new();
    for image in images.as_array()? {
        let (Some(name), Some(version)) = (text(image, "name"), text(image, "version")) else { continue };
        if !known.iter().any(|(value, _)| *value == name) {
            known.push((name.clone(), Some("the newest".to_owned())));
        }
        known.push((format!("{name}:{version}"), text(image, "verdict")));
    }
    known.dedup_by(|a, b| a.0 == b.0);
    Some(known)
}

fn routes(line: &Line) -> Option<Known> {
    let routes = line.ask("/routes")?;
    // Those of the deployment can not be removed.
    let added = routes.as_array()?.iter().filter(|route| route["origin"] == "cli");
    Some(added.filter_map(|route| Some((text(route, "name")?, text(route, "route")))).collect())
}

fn dead_letters(line: &Line) -> Option<Known> {
    let page = line.ask("/deadLetters")?;
    let rows = page["deadLetters"].as_array()?.iter();
    Some(rows.filter_map(|row| Some((row["id"].as_i64()?.to_string(), text(row, "reason")))).collect())
}

fn deployments(line: &Line) -> Option<Known> {
    let history = line.ask("/deployment/history")?;
    let rows = history.as_array()?.iter();
    Some(rows.filter_map(|row| Some((row["id"].as_i64()?.to_string(), text(row, "origin")))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Line {
        Line::new(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn state_directory_is_taken_from_the_line() {
        for words in [&["dinrail", "--state", "/s", "show", ""][..], &["dinrail", "show", "--state=/s", ""]] {
            assert_eq!(line(words).states(), [PathBuf::from("/s")], "{words:?}");
        }
    }

    #[test]
    fn inputs_and_properties_belong_to_the_word_before_them() {
        assert_eq!(line(&["dinrail", "send", "filter", ""]).owner(), Some("filter"));
        assert_eq!(line(&["dinrail", "send", "filter", "--json", "re"]).owner(), Some("filter"));
        assert_eq!(line(&["dinrail", "twin", "patch", "filter", "a=1", ""]).owner(), Some("filter"));
        assert_eq!(line(&[]).owner(), None);
    }

    #[test]
    fn without_a_runtime_nothing_is_completed() {
        let nowhere = line(&["dinrail", "--state", "/nonexistent", "show", ""]);
        for kind in [Kind::Module, Kind::Twin, Kind::Identity, Kind::Image, Kind::Route, Kind::Deployment] {
            assert!(candidates(kind, &nowhere, OsStr::new("")).is_empty(), "{kind:?}");
        }
    }
}
