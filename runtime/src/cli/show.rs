//! `dinrail show NAME`.

use std::fmt::Write;

use clap::Args;
use serde_json::Value;

use super::out::printable;
use super::{Context, Failure, list};
use crate::admin::client::path;
use crate::clock;
use crate::view::ModuleDetail;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail show filter
  dinrail show filter --json")]
pub struct ShowArgs {
    /// Name of the module
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
    line("health", printable(&module.status_description));
    line("reason", printable(&detail.reason));
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
    line("last exit", module.last_exit_time_utc.as_ref().map(|time| format!("{time}{code}")).unwrap_or_default());
    line(
        "twin",
        format!(
            "desired version {}, reported version {}",
            version(module.desired_version),
            version(module.reported_version)
        ),
    );
    let inbox = &module.inbox;
    let spilled = if inbox.spilled > 0 { format!(", {} of them on disk", inbox.spilled) } else { String::new() };
    line("inbox", format!("{} messages, {} bytes{spilled}", inbox.messages, inbox.bytes));
    line("data folder", detail.data_folder.clone());
    line("processor", module.cpu_seconds.map(|secs| format!("{secs:.2} s")).unwrap_or_default());
    line("memory", module.memory_bytes.map(|bytes| format!("{bytes} bytes")).unwrap_or_default());
    for (key, member) in [("inputs", "inputs"), ("outputs", "outputs"), ("methods", "methods")] {
        line(key, names(detail.descriptor.as_ref(), member));
    }
    for note in &detail.notes {
        line("note", printable(note));
    }
    text
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
            "descriptor": {"inputs": ["readings"], "outputs": [{"name": "alarms"}]}
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
health       2 of 3 sensors answer
reason       handler panicked at src/lib.rs:12
next step    starts again in 10 s
image        filter:1 (1.2.0)
digest       sha256:00ff
origin       deployment
isolation    thread
restarts     0, policy always
start order  last
last start   2026-11-21T14:05:09.123Z
twin         desired version 3, reported version 5
inbox        2 messages, 512 bytes
data folder  /s/data/filter
inputs       readings
outputs      alarms
note         1.1.0 still occupies 0.5 MB
"
        );
    }
}
