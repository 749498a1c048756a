//! `dinrail secret set|allow|list|remove`.

mod prompt;

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::out::{Out, printable};
use super::table::Table;
use super::{Context, Failure, json_input};
use crate::admin::client::{Client, path, query};
use crate::view::SecretView;

#[derive(Debug, Args)]
#[command(after_help = "\
A manifest, desired properties or --env say {\"$secret\": \"plc-pw\"} in place of the value. A module is given it if it says so and is \
allowed it. Values are kept under the device's key, and are shown to nobody.

Examples:
  dinrail secret set plc-pw --for pump
  dinrail secret list
  dinrail secret remove plc-pw")]
pub struct SecretArgs {
    #[command(subcommand)]
    verb: SecretVerb,
}

#[derive(Debug, Subcommand)]
enum SecretVerb {
    /// Give a secret a value, the first or another one
    Set(SetArgs),
    /// Say which modules may have a secret
    Allow(AllowArgs),
    /// List the secrets, without their values
    List(ListArgs),
    /// Remove a secret
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
The value is asked for on a terminal, and otherwise read from standard input; a line break at its end is left off. It is never \
an argument: everybody on this device can read those. Modules that refer to it are told a new value at once, as a change of \
their desired properties; one that has it in its env is to be restarted.

Examples:
  dinrail secret set plc-pw --for pump
  dinrail secret set plc-pw @/run/plc.pw
  pass show plc | dinrail secret set plc-pw -")]
struct SetArgs {
    /// Name of the secret
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    /// @FILE, or - for standard input
    source: Option<String>,
    /// Module that may have it, in addition to those that may; * for every one. May be repeated
    #[arg(long = "for", value_name = "MODULE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    modules: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A module that is not allowed any more keeps the value that it has until it stops.

Examples:
  dinrail secret allow plc-pw pump valve
  dinrail secret allow plc-pw '*'
  dinrail secret allow plc-pw pump --only
  dinrail secret allow plc-pw --only")]
struct AllowArgs {
    /// Name of the secret
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    /// Modules that may have it, in addition to those that may; * for every one
    #[arg(required_unless_present = "only", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    modules: Vec<String>,
    /// These and no others; none where none is named
    #[arg(long)]
    only: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail secret list
  dinrail secret list --json")]
struct ListArgs {}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail secret remove plc-pw
  dinrail secret remove plc-pw --force")]
struct RemoveArgs {
    /// Name of the secret
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    /// Also while modules refer to it: they keep the value until they stop, and then wait for another one
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: SecretArgs, context: &mut Context) -> Result<(), Failure> {
    match args.verb {
        SecretVerb::Set(args) => set(&args, context),
        SecretVerb::Allow(args) => {
            let body = json!({"allow": args.modules, "only": args.only});
            let view: SecretView = context.client()?.put(&path(&["secrets", &args.name]), &body, None)?;
            tell(&view, &allowed(&view), context)
        }
        SecretVerb::List(_) => list(&context.client()?, &mut context.out),
        SecretVerb::Remove(args) => {
            let force: &[(&str, &str)] = if args.force { &[("force", "true")] } else { &[] };
            let view: SecretView = context.client()?.delete(&query(&path(&["secrets", &args.name]), force))?;
            tell(&view, &format!("the secret {} is removed", view.name), context)
        }
    }
}

fn set(args: &SetArgs, context: &mut Context) -> Result<(), Failure> {
    check_source(args.source.as_deref())?;
    let client = context.client()?;
    let mut value = read_value(args)?;
    let mut body = json!({"value": value.as_str(), "allow": args.modules});
    let answer = client.put(&path(&["secrets", &args.name]), &body, None);
    zeroize::Zeroize::zeroize(&mut *value);
    if let Some(Value::String(text)) = body.get_mut("value") {
        zeroize::Zeroize::zeroize(text);
    }
    let view: SecretView = answer?;
    tell(&view, &format!("the secret {} is set (version {}); {}", view.name, view.version, may(&view)), context)
}

/// A value as an argument is refused; it is not repeated.
fn check_source(source: Option<&str>) -> Result<(), Failure> {
    match source {
        None | Some("-") => Ok(()),
        Some(source) if source.starts_with('@') => Ok(()),
        Some(_) => Err(Failure::usage(
            "the value of a secret is no argument: everybody on this device can read those, and the shell keeps them",
        )
        .hint("leave it out to be asked for it, or give it by - (standard input) or @FILE; take another value, this one was seen")),
    }
}

fn read_value(args: &SetArgs) -> Result<Zeroizing<String>, Failure> {
    let octets = match args.source.as_deref() {
        None if prompt::is_terminal() => return prompt::ask(&args.name),
        None | Some("-") => Zeroizing::new(json_input::read_stdin()?),
        Some(file) => Zeroizing::new(json_input::read_file(Path::new(file.trim_start_matches('@')))?),
    };
    let text = std::str::from_utf8(&octets).map_err(|_| {
        Failure::usage("the value is not text")
            .hint("a secret is UTF-8; encode octets, such as by base64, and let the module decode them")
    })?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Zeroizing::new(text.to_owned()))
}

fn list(client: &Client, out: &mut Out) -> Result<(), Failure> {
    let secrets: Vec<SecretView> = client.get("/secrets")?;
    if out.is_json() {
        return out.document(&secrets);
    }
    if secrets.is_empty() {
        out.note("there is no secret: dinrail secret set NAME --for MODULE");
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "VERSION", "SET", "BY", "FOR", "USED BY"]);
    for secret in &secrets {
        table.row([
            secret.name.clone().into(),
            secret.version.to_string().into(),
            secret.set_time_utc.clone().into(),
            secret.set_by.clone().into(),
            or_dash(secret.allowed.join(", ")).into(),
            or_dash(users(secret)).into(),
        ]);
    }
    let (width, colour) = (out.width(), out.has_colour());
    out.text(&table.render(width, colour))?;
    for secret in &secrets {
        let name = &secret.name;
        if !secret.readable {
            out.note(format_args!(
                "{}",
                printable(&format!("{name} cannot be read with this device's key: dinrail secret set {name}"))
            ));
        }
        for user in secret.used_by.iter().filter(|user| user.needs_restart) {
            let module = &user.module;
            let text = format!("{module} has an older value of {name} in {}: dinrail restart {module}", user.place);
            out.note(format_args!("{}", printable(&text)));
        }
    }
    Ok(())
}

/// `pump (desired.plc.pw), valve (env PW, not allowed)`.
fn users(secret: &SecretView) -> String {
    let user = |user: &crate::view::SecretUser| {
        let not = if user.allowed { "" } else { ", not allowed" };
        format!("{} ({}{not})", user.module, user.place)
    };
    secret.used_by.iter().map(user).collect::<Vec<_>>().join(", ")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn allowed(view: &SecretView) -> String {
    format!("the secret {}: {}", view.name, may(view))
}

fn may(view: &SecretView) -> String {
    match &view.allowed[..] {
        [] => "no module may have it".to_owned(),
        [every] if every == "*" => "every module that names it may have it".to_owned(),
        modules => format!("may be had by {}", modules.join(", ")),
    }
}

fn tell(view: &SecretView, sentence: &str, context: &mut Context) -> Result<(), Failure> {
    let out = &mut context.out;
    if out.is_json() {
        return out.document(view);
    }
    out.line(printable(sentence))?;
    view.notes.iter().for_each(|note| out.note(format_args!("note: {}", printable(note))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_as_an_argument_is_refused_and_not_repeated() {
        let refused = format!("{:?}", check_source(Some("hunter2")).unwrap_err());
        assert!(refused.contains("is no argument") && !refused.contains("hunter2"), "{refused}");
        for source in [None, Some("-"), Some("@file")] {
            assert!(check_source(source).is_ok(), "{source:?}");
        }
    }

    #[test]
    fn who_may_have_it_and_who_uses_it_is_said() {
        let user = |module: &str, place: &str, allowed| crate::view::SecretUser {
            module: module.into(),
            place: place.into(),
            allowed,
            needs_restart: false,
        };
        let mut view = SecretView {
            name: "plc-pw".into(),
            version: 1,
            set_time_utc: String::new(),
            set_by: String::new(),
            readable: true,
            allowed: vec!["pump".into(), "valve".into()],
            used_by: vec![user("pump", "desired.plc.pw", true), user("x", "env PW", false)],
            notes: Vec::new(),
        };
        assert_eq!(users(&view), "pump (desired.plc.pw), x (env PW, not allowed)");
        assert_eq!(allowed(&view), "the secret plc-pw: may be had by pump, valve");
        view.allowed = vec!["*".into()];
        assert_eq!(may(&view), "every module that names it may have it");
        view.allowed.clear();
        assert_eq!(may(&view), "no module may have it");
    }
}
