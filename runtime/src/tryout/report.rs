//! What the notes amount to: pure.

use serde::Serialize;
use serde_json::Value;

use super::event::Event;

/// What was tried, and whether anything failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The library.
    pub file: String,
    /// True if nothing failed.
    pub ok: bool,
    /// What failed, a sentence each.
    pub problems: Vec<String>,
    /// What is hardly meant so, a sentence each.
    pub warnings: Vec<String>,
    /// Everything that was seen, in order.
    pub events: Vec<Event>,
    /// The reported properties in the end.
    pub reported: Value,
}

/// How the child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Well,
    /// By a signal or an exit code: in words, such as `a segmentation fault (SIGSEGV)`.
    Crashed(String),
    /// The parent ended it.
    OutOfTime,
}

impl Report {
    /// From what was seen and how the child ended.
    pub(super) fn new(file: String, mut events: Vec<Event>, ended: &Ended) -> Report {
        let last = last_call(&events);
        match ended {
            Ended::Well if is_complete(&events) => {}
            Ended::Well => {
                let text = format!("an exit of the whole process {last}; {WOULD_END}");
                events.push(Event::Problem { text });
            }
            Ended::Crashed(how) => {
                let text = format!("{how} {last}; {WOULD_END}");
                events.push(Event::Problem { text });
            }
            Ended::OutOfTime => {
                events.push(Event::Problem { text: format!("it did not come to an end {last}, and was killed") });
            }
        }
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        for event in &events {
            match event {
                Event::Problem { text } => add(&mut problems, text.clone()),
                Event::Warning { text } => add(&mut warnings, text.clone()),
                Event::Refused { reason } => add(&mut problems, format!("not loaded: {reason}")),
                Event::Return { callback, outcome, text, message } => {
                    if let Some(problem) = failed_call(callback, outcome, text, *message) {
                        add(&mut problems, problem);
                    }
                }
                Event::Fails { reason } => add(&mut problems, format!("it says that it cannot go on: {reason}")),
                Event::Send { output, outcome, .. } if !is_done(outcome) => {
                    add(&mut warnings, format!("sending to '{output}' was answered with '{outcome}'"));
                }
                Event::Reports { outcome, .. } if !is_done(outcome) => {
                    add(&mut warnings, format!("reporting was answered with '{outcome}'"));
                }
                _ => {}
            }
        }
        let reported = events.iter().find_map(|event| match event {
            Event::End { reported } => Some(reported.clone()),
            _ => None,
        });
        let ok = problems.is_empty();
        Report { file, ok, problems, warnings, events, reported: reported.unwrap_or_default() }
    }

    /// One sentence.
    pub fn sentence(&self) -> String {
        let count = |what: fn(&Event) -> bool| self.events.iter().filter(|event| what(event)).count();
        let plural = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
        let messages = count(|event| matches!(event, Event::Call { attempt: Some(1), .. }));
        let sent = count(|event| matches!(event, Event::Send { outcome, .. } if is_done(outcome)));
        let reports = count(|event| matches!(event, Event::Reports { outcome, .. } if is_done(outcome)));
        format!(
            "ok: {} handled, {} sent, {}",
            plural(messages, "message"),
            plural(sent, "message"),
            plural(reports, "report")
        )
    }
}

const WOULD_END: &str = "in a running system that would end the runtime and every other module";

/// True if the child said why it ended.
fn is_complete(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::End { .. } | Event::Refused { .. } | Event::Problem { .. }))
}

fn add(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

fn is_done(outcome: &str) -> bool {
    matches!(outcome, "done" | "pending")
}

/// A call that is a failure of the module, in words. Refusing a change, parking, retrying and deferring are decisions.
fn failed_call(callback: &str, outcome: &str, text: &str, message: Option<usize>) -> Option<String> {
    let is_decision = match callback {
        "on_message" => {
            matches!(outcome, "accept" | "park" | "defer")
                || (outcome.starts_with("retry") && !outcome.contains("none"))
        }
        "on_desired" => matches!(outcome, "done" | "refused"),
        // The runtime's answer to the caller says it.
        "on_method" => outcome != "panicked",
        _ => outcome == "done",
    };
    let of = message.map(|n| format!(" of message {n}")).unwrap_or_default();
    let colon = if text.is_empty() { "" } else { ": " };
    (!is_decision).then(|| format!("{callback}{of}: {outcome}{colon}{text}"))
}

/// What had begun and not ended, in words.
fn last_call(events: &[Event]) -> String {
    let last = events.iter().rev().find(|event| {
        matches!(
            event,
            Event::Call { .. } | Event::Return { .. } | Event::Loading | Event::End { .. } | Event::Image { .. }
        )
    });
    match last {
        Some(Event::Call { callback, about, message, .. }) => {
            let of = message.map(|n| format!(" of message {n}")).unwrap_or_default();
            let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
            format!("in {callback}{of}{about}")
        }
        Some(Event::Return { callback, .. }) => {
            format!("in no call, after {callback} had returned: in a thread of its own")
        }
        Some(Event::Loading) => {
            "while it was loaded: in a constructor of its own or of a library that it needs".to_owned()
        }
        Some(Event::End { .. }) => {
            "when the process ended: in a destructor, or in a thread that it left behind".to_owned()
        }
        _ => "before it was loaded".to_owned(),
    }
}
