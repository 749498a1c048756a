//! `dinrail route list|add|remove|test`.

use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::out::{Out, printable};
use super::table::Table;
use super::{Context, Failure, durations, json_input, route_test};
use crate::admin::client::{path, query};
use crate::view::RouteView;

#[derive(Debug, Args)]
#[command(after_help = "\
Added routes belong to no deployment: deployments and rollbacks keep them, `dinrail route remove` ends them. Where a deployment \
has a route of the same name, that one is in force.

Examples:
  dinrail route list
  dinrail route add alarms 'FROM /messages/modules/filter/outputs/alarms INTO $upstream' --priority 0
  dinrail route remove alarms
  dinrail route test 'FROM /messages/* WHERE $body.value > 80' --message @message.json")]
pub struct RouteArgs {
    #[command(subcommand)]
    verb: RouteVerb,
}

#[derive(Debug, Subcommand)]
enum RouteVerb {
    /// List the routes in force
    List(ListArgs),
    /// Add a route outside the manifest; it is in force at once
    Add(AddArgs),
    /// End a route that was added
    Remove(RemoveArgs),
    /// Try a route on one message, and see which part decides (offline)
    Test(route_test::TestArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail route list
  dinrail route list --json")]
struct ListArgs {}

#[derive(Debug, Args)]
#[command(after_help = "\
ROUTE reads FROM source [WHERE condition] INTO sink, as in a manifest. Put it into single quotes: in double quotes a shell takes $upstream for a \
variable.

Examples:
  dinrail route add up 'FROM /messages/* INTO $upstream'
  dinrail route add raw 'FROM /messages/modules/plc/* INTO BrokeredEndpoint(\"/modules/filter/inputs/readings\")' --ttl 2h
  dinrail route add raw @raw.route --replace --priority 3")]
struct AddArgs {
    /// Name of the route
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// The route, @FILE, or - for standard input
    #[arg(value_name = "ROUTE")]
    text: String,
    /// From 0, which is served first, to 9 [default: after those]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    /// Longest time that its messages wait, in whole seconds; 0s: as the device says [default: as the device says]
    #[arg(long, value_name = "SPAN", value_parser = durations::parse_whole_seconds)]
    ttl: Option<Duration>,
    /// Where its messages wait [default: disk for $upstream, else memory]
    #[arg(long, value_name = "WHERE", value_parser = PossibleValuesParser::new(["memory", "disk"]))]
    durability: Option<String>,
    /// What becomes of a message for which there is no room
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(["spill", "dropOldest", "dropNewest", "block"]))]
    on_full: Option<String>,
    /// With --on-full block: for how long a sender is held at most, in milliseconds [default: 1000]
    #[arg(long, value_name = "MS")]
    block_ms: Option<u64>,
    /// Largest message, body and properties together, for memory routes [default: 262144]
    #[arg(long, value_name = "BYTES")]
    max_message_bytes: Option<u64>,
    /// Put it in the place of the added route of this name
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A route of the deployment in force is not removed but left out of the next deployment.

Examples:
  dinrail route remove alarms")]
struct RemoveArgs {
    /// Name of the route
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

impl RouteArgs {
    /// Needs no runtime.
    pub(super) fn is_offline(&self) -> bool {
        matches!(self.verb, RouteVerb::Test(_))
    }
}

pub(super) fn run(args: RouteArgs, context: &mut Context) -> Result<(), Failure> {
    match args.verb {
        RouteVerb::List(_) => list(context),
        RouteVerb::Add(args) => add(args, context),
        RouteVerb::Remove(args) => remove(&args, context),
        RouteVerb::Test(args) => route_test::run(&args, context),
    }
}

fn list(context: &mut Context) -> Result<(), Failure> {
    let routes: Vec<RouteView> = context.client()?.get("/routes")?;
    let out = &mut context.out;
    if out.is_json() {
        return out.document(&routes);
    }
    if routes.is_empty() {
        out.note("no route is in force; `dinrail route add NAME ROUTE` adds one");
        return Ok(());
    }
    let text = table(&routes).render(out.width(), out.has_colour());
    out.text(&text)?;
    routes.iter().for_each(|route| tell_notes(route, out));
    Ok(())
}

fn add(args: AddArgs, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let replace: &[(&str, &str)] = if args.replace { &[("replace", "true")] } else { &[] };
    let route = query(&path(&["routes", &args.name]), replace);
    let added: RouteView = client.put(&route, &entry(&args)?, None)?;
    let out = &mut context.out;
    if out.is_json() {
        return out.document(&added);
    }
    out.line(format_args!("route {} is in force: {}", printable(&added.name), printable(&added.route)))?;
    tell_notes(&added, out);
    Ok(())
}

/// The route as a manifest would have it; what is wrong with it is for the runtime to say.
fn entry(args: &AddArgs) -> Result<Value, Failure> {
    let text = json_input::text_of("the route", json_input::read_body(&args.text)?)?;
    let mut entry = Map::new();
    entry.insert("route".to_owned(), text.trim().into());
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            entry.insert(key.to_owned(), value);
        }
    };
    put("priority", args.priority.map(Value::from));
    put("timeToLiveSecs", args.ttl.filter(|ttl| !ttl.is_zero()).map(|ttl| ttl.as_secs().into()));
    put("durability", args.durability.clone().map(Value::from));
    put("onFull", args.on_full.clone().map(Value::from));
    put("blockMs", args.block_ms.map(Value::from));
    put("maxMessageBytes", args.max_message_bytes.map(Value::from));
    Ok(entry.into())
}

fn remove(args: &RemoveArgs, context: &mut Context) -> Result<(), Failure> {
    let removed: RouteView = context.client()?.delete(&path(&["routes", &args.name]))?;
    if context.out.is_json() {
        return context.out.document(&removed);
    }
    let rest = if removed.in_force { "" } else { "; that of the deployment stays in force" };
    context.out.line(format_args!("route {} is removed{rest}", printable(&removed.name)))?;
    removed.notes.iter().for_each(|note| context.out.note(format_args!("note: {}", printable(note))));
    Ok(())
}

fn tell_notes(route: &RouteView, out: &Out) {
    for note in &route.notes {
        out.note(format_args!("warning: {}: {}", printable(&route.name), printable(note)));
    }
}

fn table(routes: &[RouteView]) -> Table {
    let mut table = Table::new(&["NAME", "ORIGIN", "PRIORITY", "WAITS IN", "ROUTE"]);
    for route in routes {
        let priority = if route.priority > 9 { "-".to_owned() } else { route.priority.to_string() };
        let origin = if route.in_force { route.origin.as_str() } else { "cli, hidden" };
        table.row([
            route.name.as_str().into(),
            origin.into(),
            priority.into(),
            route.durability.as_str().into(),
            route.route.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_shown_with_their_origin() {
        let view = |name: &str, origin: &str, priority, in_force| RouteView {
            name: name.into(),
            route: "FROM /* INTO $upstream".into(),
            priority,
            time_to_live_secs: None,
            durability: "disk".into(),
            on_full: "spill".into(),
            block_ms: None,
            max_message_bytes: None,
            origin: origin.into(),
            added_by: None,
            added_utc: None,
            in_force,
            notes: Vec::new(),
        };
        let routes = [view("up", "deployment", 2_000_000_000, true), view("up", "cli", 3, false)];

        let expected = "NAME  ORIGIN       PRIORITY  WAITS IN  ROUTE\n\
                        up    deployment   -         disk      FROM /* INTO $upstream\n\
                        up    cli, hidden  3         disk      FROM /* INTO $upstream\n";
        assert_eq!(table(&routes).render(None, false), expected);
    }
}
