//! `dinrail show NAME`.

use std::fmt::Write;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::Value;

use super::out::printable;
use super::{Context, Failure, list};
use crate::admin::client::path;
use crate::clock;
use crate::view::{HealthSentence, ModuleDetail};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail show filter
  dinrail show filter --json")]
pub struct ShowArgs {
    /// Name of the module
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

pub(super) fn run(args: ShowArgs, context: &mut Context) -> Result<(), Failure> {
    let detail: ModuleDetail = context.client()?.get(&path(&["modules", &args.name]))?;
    if context.out.is_json() {
        return context.out.document(&detail);
    }
    let status = detail.module.status;
    let painted = context.out.paint(list::paint(status), status.as_str());
    context.out.text(&render(&detail, &painted, clock::wall_us()))
}

fn render(detail: &ModuleDetail, status: &str, now_us: i64) -> String {
    let module = &detail.module;
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{key:<12} {value}");
        }
    };
    let said = |text: &Option<String>| text.as_deref().map(printable).unwrap_or_default();
    let version = |version: Option<u64>| version.map_or("none".to_owned(), |version| version.to_string());

    line("name", printable(&module.name));
    line("identity", printable(&module.identity));
    let uptime = list::uptime(module, now_us).map(|up| format!(" for {}", clock::spoken(up))).unwrap_or_default();
    line("status", format!("{status}{uptime}"));
    line("health", module.health.as_ref().map(health).unwrap_or_default());
    line("reason", printable(&detail.reason));
    line("next start", said(&detail.next_start_time_utc));
    line("next step", said(&detail.next_step));
    line("image", printable(&list::image(module)));
    line("digest", said(&module.digest));
    line("origin", printable(&detail.origin));
    line("isolation", module.isolation.clone());
    line("restarts", format!("{}, policy {}", module.restart_count, module.restart_policy));
    line(
        "start order",
        if detail.startup_order == u32::MAX { "last".into() } else { detail.startup_order.to_string() },
    );
    line("last start", said(&module.last_start_time_utc));
    let code = module.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    let how = detail.last_exit.as_ref().map(|how| format!(": {}", printable(how))).unwrap_or_default();
    line("last exit", module.last_exit_time_utc.as_ref().map(|time| format!("{time}{code}{how}")).unwrap_or_default());
    line(
        "twin",
        format!(
            "desired version {}, reported version {}",
            version(module.desired_version),
            version(module.reported_version)
        ),
    );
    if let Some(refused) = &detail.refused {
        line("refused", format!("desired version {}: {}", refused.version, printable(&refused.error)));
    }
    let inbox = &module.inbox;
    let spilled = if inbox.spilled > 0 { format!(", {} of them on disk", inbox.spilled) } else { String::new() };
    line("inbox", format!("{} messages, {} bytes{spilled}", inbox.messages, inbox.bytes));
    line("data folder", detail.data_folder.clone());
    let dropped = match detail.log.dropped {
        0 => String::new(),
        1 => ", 1 line dropped".to_owned(),
        count => format!(", {count} lines dropped"),
    };
    line("log", detail.log.file.as_ref().map(|file| format!("{file}{dropped}")).unwrap_or_default());
    if detail.parked > 0 {
        let list = format!("dinrail dead-letter list {}", printable(&module.name));
        line("parked", format!("{}, set aside as poisonous: {list}", counted(detail.parked)));
    }
    for loss in &detail.losses {
        let way = if loss.way == "sent" { "that it sent" } else { "on their way to it" };
        line("lost", format!("{} {way}: {}", counted(loss.count), printable(&loss.reason)));
    }
    if detail.waiting_calls > 0 {
        line("calls", format!("{} wait for it", detail.waiting_calls));
    }
    if detail.late_answers > 0 {
        line("late answers", format!("{} to method calls, dropped: nobody waited any more", detail.late_answers));
    }
    line("processor", module.cpu_seconds.map(|secs| format!("{secs:.2} s")).unwrap_or_default());
    for thread in &detail.threads {
        let spent = thread.cpu_seconds.map(|secs| format!(", {secs:.2} s")).unwrap_or_default();
        line("thread", format!("{}{spent}", printable(&thread.name)));
    }
    let shared = match detail.image_instances {
        0 | 1 => String::new(),
        n => format!(", shared by {n} instances of this image"),
    };
    line("memory", module.memory_bytes.map(|bytes| format!("{bytes} bytes{shared}")).unwrap_or_default());
    for (key, member) in [("inputs", "inputs"), ("outputs", "outputs"), ("methods", "methods")] {
        line(key, names(detail.descriptor.as_ref(), member));
    }
    for note in &detail.notes {
        line("note", printable(note));
    }
    text
}

fn counted(messages: u64) -> String {
    if messages == 1 { "1 message".to_owned() } else { format!("{messages} messages") }
}

/// The module's own sentence; what is not well is told as such.
fn health(health: &HealthSentence) -> String {
    let sentence = printable(&health.sentence);
    match health.level.as_str() {
        "error" => format!("error: {sentence}"),
        "warn" => format!("warning: {sentence}"),
        _ => sentence,
    }
}

/// The names in a list of the descriptor, whose members are names or objects with a `name`.
fn names(descriptor: Option<&Value>, member: &str) -> String {
    let Some(Value::Array(members)) = descriptor.and_then(|descriptor| descriptor.get(member)) else {
        return String::new();
    };
    let names = members.iter().filter_map(|member| member.as_str().or_else(|| member["name"].as_str()));
    names.map(printable).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn show_tells_reason_and_next_step_and_leaves_out_what_is_not_there() {
        let mut document = serde_json::to_value(list::tests::module("filter", "backoff")).unwrap();
        let more = json!({
            "origin": "deployment", "reason": "handler panicked at src/lib.rs:12", "nextStep": "starts again in 10 s",
            "dataFolder": "/s/data/filter", "startupOrder": 4_294_967_295u32, "notes": ["1.1.0 still occupies 0.5 MB"],
            "descriptor": {"inputs": ["readings"], "outputs": [{"name": "alarms"}]},
            "health": {"level": "warn", "sentence": "2 of 3 sensors answer"}, "lastExitTimeUtc": "2026-11-21T14:05:10.000Z",
            "exitCode": 1, "lastExit": "panicked at src/lib.rs:12: no", "nextStartTimeUtc": "2026-11-21T14:05:20.000Z",
            "refused": {"version": 3, "error": "limit: too high"}, "parked": 2, "imageInstances": 2, "memoryBytes": 1024,
            "waitingCalls": 3, "lateAnswers": 1, "losses": [{"way": "to", "reason": "full", "count": 4}], "cpuSeconds": 1.25,
            "threads": [{"name": "filter", "cpuSeconds": 1.0}, {"name": "filter/poll", "cpuSeconds": 0.25}]
        });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let detail: ModuleDetail = serde_json::from_value(document).unwrap();

        let text = render(&detail, "backoff", 0);

        assert_eq!(
            text,
            "\
name         filter
identity     /devices/D/modules/filter
status       backoff
health       warning: 2 of 3 sensors answer
reason       handler panicked at src/lib.rs:12
next start   2026-11-21T14:05:20.000Z
next step    starts again in 10 s
image        filter:1 (1.2.0)
digest       sha256:00ff
origin       deployment
isolation    thread
restarts     0, policy always
start order  last
last start   2026-11-21T14:05:09.123Z
last exit    2026-11-21T14:05:10.000Z, exit code 1: panicked at src/lib.rs:12: no
twin         desired version 3, reported version 5
refused      desired version 3: limit: too high
inbox        2 messages, 512 bytes
data folder  /s/data/filter
parked       2 messages, set aside as poisonous: dinrail dead-letter list filter
lost         4 messages on their way to it: full
calls        3 wait for it
late answers 1 to method calls, dropped: nobody waited any more
processor    1.25 s
thread       filter, 1.00 s
thread       filter/poll, 0.25 s
memory       1024 bytes, shared by 2 instances of this image
inputs       readings
outputs      alarms
note         1.1.0 still occupies 0.5 MB
"
        );
    }
}
