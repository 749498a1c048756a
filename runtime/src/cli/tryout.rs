//! `dinrail try FILE`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, ArgMatches, Args, FromArgMatches};
use serde_json::json;

use super::{Context, Failure, durations, json_input, send};
use crate::tryout::{self, Event, Plan, Step};

/// Tells the child its scratch folder.
const IN_CHILD: &str = "--in-child";

#[derive(Debug, Args)]
#[command(after_help = "\
Runs one module as the runtime would, in a process of its own with a scratch twin and data folder, and prints what it does: \
every call, what it sends, reports and logs, its verdicts. Needs no runtime and changes nothing. Messages, patches, methods and \
--for are carried out in the order in which they are written; --property belongs to the message before it.

Exit code 1 if anything failed: it cannot be loaded, a call failed, panicked or hung, it crashed, a message was never \
completed, threads were left behind, or something expected was not seen.

Examples:
  dinrail try target/libhello.so --message names=Ada
  dinrail try libfilter.so --desired threshold=80 --message 'readings=@hot.json' --expect 'sends alarms'
  dinrail try libhello.so --patch maxLength=3 --message names=Bartholomew --expect park --method count
  dinrail try libmeter.so --for 5s --json")]
pub struct TryArgs {
    /// The library
    #[arg(required_unless_present = "in_child")]
    file: Option<PathBuf>,
    /// Name of the instance [default: that of the image]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Desired properties at the start: JSON, @FILE, - or key=value (may be repeated)
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    desired: Vec<String>,
    /// Environment of the module, as a deployment gives it; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = send::pair)]
    env: Vec<(String, String)>,
    #[command(flatten)]
    steps: Steps,
    /// Longest that one call may take, and that an outcome is waited for
    #[arg(long, value_name = "T", default_value = "10s", value_parser = durations::parse)]
    timeout: Duration,
    /// Fail unless a printed line contains this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    expect: Vec<String>,
    /// Be the child of another `try`
    #[arg(long, hide = true, value_name = "SCRATCH")]
    in_child: Option<PathBuf>,
}

/// What is done with the instance, in the order of the arguments.
#[derive(Debug, Clone, Default)]
struct Steps(Vec<(Kind, String)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message,
    Property,
    Patch,
    Method,
    For,
}

const KINDS: [(Kind, &str, &str, &str); 5] = [
    (
        Kind::Message,
        "message",
        "INPUT=BODY",
        "Message on an input; the body is text, @FILE or - for standard input; may be repeated",
    ),
    (Kind::Property, "property", "KEY=VALUE", "Property of the message before it; may be repeated"),
    (Kind::Patch, "patch", "JSON", "Change of the desired properties: JSON, @FILE or key=value; may be repeated"),
    (Kind::Method, "method", "NAME[=JSON]", "Call of a direct method; may be repeated"),
    (Kind::For, "for", "DURATION", "Let it run for so long; may be repeated"),
];

impl Args for Steps {
    fn augment_args(command: clap::Command) -> clap::Command {
        KINDS.iter().fold(command, |command, (_, name, value, help)| {
            let argument = clap::Arg::new(*name).long(*name).value_name(*value).help(*help).action(ArgAction::Append);
            command.arg(argument.allow_hyphen_values(true))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Steps::augment_args(command)
    }
}

impl FromArgMatches for Steps {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Steps, clap::Error> {
        let mut found = Vec::new();
        for (kind, name, ..) in KINDS {
            let values = matches.get_many::<String>(name).unwrap_or_default();
            found.extend(matches.indices_of(name).unwrap_or_default().zip(values).map(|(at, value)| (at, kind, value)));
        }
        found.sort_by_key(|(at, ..)| *at);
        Ok(Steps(found.into_iter().map(|(_, kind, value)| (kind, value.clone())).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Steps::from_arg_matches(matches)?;
        Ok(())
    }
}

pub(super) fn run(args: TryArgs, context: &mut Context) -> Result<(), Failure> {
    if let Some(scratch) = &args.in_child {
        return tryout::run_child(scratch).map_err(|error| Failure::caused("nothing can be tried", &error));
    }
    let expect = args.expect.clone();
    let plan = plan(args)?;
    let is_json = context.out.is_json();
    let mut outcome = Ok(());
    let mut lines = Vec::new();
    let report = {
        let out = &mut context.out;
        let mut seen = |event: &Event| {
            let line = event.to_string();
            if !is_json && outcome.is_ok() {
                outcome = out.line(&line).and_then(|()| out.flush());
            }
            lines.push(line);
        };
        tryout::run(&plan, IN_CHILD, &mut seen).map_err(|error| Failure::of(&error))?
    };
    outcome?;
    let missing: Vec<String> = expect
        .iter()
        .filter(|text| !lines.iter().any(|line| line.contains(text.as_str())))
        .map(|text| format!("expected, but not seen: {text}"))
        .collect();
    let problems: Vec<String> = report.problems.iter().cloned().chain(missing).collect();
    if is_json {
        let mut document = serde_json::to_value(&report).unwrap_or_default();
        document["ok"] = json!(problems.is_empty());
        document["problems"] = json!(problems);
        context.out.document(&document)?;
    }
    if problems.is_empty() {
        return if is_json { Ok(()) } else { context.out.line(report.sentence()) };
    }
    let title = plan.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(Failure::new(format!("{title} failed")).details(problems))
}

fn plan(args: TryArgs) -> Result<Plan, Failure> {
    let file = args.file.ok_or_else(|| Failure::usage("the library is missing"))?;
    let desired = if args.desired.is_empty() { json!({}) } else { json_input::read(&args.desired)? };
    if !desired.is_object() {
        return Err(Failure::usage("the desired properties are an object")
            .hint("--desired '{\"limit\": 80}' or --desired limit=80"));
    }
    let file = std::path::absolute(&file).unwrap_or(file);
    let steps = steps(&args.steps)?;
    Ok(Plan { file, name: args.name, desired, env: args.env, steps, timeout: args.timeout })
}

fn steps(given: &Steps) -> Result<Vec<Step>, Failure> {
    let mut steps: Vec<Step> = Vec::new();
    for (kind, value) in &given.0 {
        let step = match kind {
            Kind::Message => {
                let (input, body) = send::pair(value)
                    .map_err(|_| Failure::usage(format!("--message {value}: a message reads INPUT=BODY")))?;
                Step::Message { input, body: json_input::read_body(&body)?, properties: Vec::new() }
            }
            Kind::Property => {
                let pair = send::pair(value).map_err(|why| Failure::usage(format!("--property {value}: {why}")))?;
                match steps.last_mut() {
                    Some(Step::Message { properties, .. }) => properties.push(pair),
                    _ => return Err(Failure::usage("--property belongs to a message: write it behind --message")),
                }
                continue;
            }
            Kind::Patch => Step::Patch(json_input::read(std::slice::from_ref(value))?),
            Kind::Method => method(value)?,
            Kind::For => {
                Step::Pass(durations::parse(value).map_err(|why| Failure::usage(format!("--for {value}: {why}")))?)
            }
        };
        steps.push(step);
    }
    Ok(steps)
}

fn method(text: &str) -> Result<Step, Failure> {
    let (name, payload) = match text.split_once('=') {
        Some((name, payload)) => (name, json_input::read(&[payload.to_owned()])?.to_string()),
        None => (text, String::new()),
    };
    Ok(Step::Method { name: name.to_owned(), payload })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: TryArgs,
    }

    fn parse(line: &[&str]) -> Result<Plan, Failure> {
        let matches = Alone::command().try_get_matches_from([&["try"], line].concat()).unwrap();
        plan(Alone::from_arg_matches(&matches).unwrap().args)
    }

    #[test]
    fn steps_keep_the_order_in_which_they_are_written() {
        let plan = parse(&[
            "x.so",
            "--message",
            "in=a=b",
            "--property",
            "k=v",
            "--method",
            "count",
            "--patch",
            "n=1",
            "--message",
            "in=2",
            "--for",
            "1s",
            "--method",
            "set={\"a\":1}",
        ])
        .unwrap();
        let message = |body: &str, properties: &[(&str, &str)]| Step::Message {
            input: "in".into(),
            body: body.into(),
            properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        assert_eq!(
            plan.steps,
            [
                message("a=b", &[("k", "v")]),
                Step::Method { name: "count".into(), payload: String::new() },
                Step::Patch(json!({"n": 1})),
                message("2", &[]),
                Step::Pass(Duration::from_secs(1)),
                Step::Method { name: "set".into(), payload: "{\"a\":1}".into() },
            ]
        );
        assert_eq!(plan.desired, json!({}));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            &["x.so", "--property", "a=b"][..],
            &["x.so", "--message", "in"],
            &["x.so", "--desired", "[1]"],
            &["x.so", "--for", "1"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
