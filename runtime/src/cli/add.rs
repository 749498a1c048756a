//! `dinrail add NAME IMAGE`.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use serde_json::Value;

use super::out::printable;
use super::{Context, Failure, image, json_input, lifecycle};
use crate::admin::client::Client;
use crate::image::Reference;
use crate::view::{AddRequest, ModuleDetail};

#[derive(Debug, Args)]
#[command(after_help = "\
IMAGE is name (follows the newest), name:1, name:1.2, name:1.2.3, name@sha256:…, or a file such as ./libpump.so, which is \
uploaded and stays the one in use. The module belongs to no deployment: deployments keep it, `dinrail remove` ends it.

Examples:
  dinrail add pump filter:1 --set threshold=3
  dinrail add hello ./libhello.so --set greeting.text=Moin --env TZ=Europe/Berlin
  dinrail add pump filter --stopped && dinrail twin patch pump @pump.json && dinrail start pump")]
pub struct AddArgs {
    /// Name of the module
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Image reference, or a library file
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    image: String,
    /// Desired property, there before its first start; may be repeated. Dots nest; @FILE and JSON are taken too
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What `client.env()` tells the module; may be repeated. {"$secret": "NAME"} stands for a secret
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, Value)>,
    /// Where its code runs
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(["auto", "thread", "process"]))]
    isolation: Option<String>,
    /// After what it is started again [default: on-unhealthy]
    #[arg(long, value_name = "POLICY", value_parser = PossibleValuesParser::new(["always", "on-failure", "on-unhealthy", "never"]))]
    restart_policy: Option<String>,
    /// Lower starts earlier and stops later [default: last]
    #[arg(long, value_name = "N")]
    startup_order: Option<u32>,
    /// What it may do with the device's own twin [default: none]
    #[arg(long, value_name = "RIGHT", value_parser = PossibleValuesParser::new(["none", "read", "report"]))]
    device_twin: Option<String>,
    /// Also with desired properties that the image does not take
    #[arg(long)]
    force: bool,
    /// Do not start it before `dinrail start`
    #[arg(long)]
    stopped: bool,
}

fn variable(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            // A reference to a secret; the runtime says what is wrong with it.
            let document = serde_json::from_str(value).ok();
            let reference = document.filter(|document: &Value| document.get("$secret").is_some());
            Ok((name.to_owned(), reference.unwrap_or_else(|| value.into())))
        }
        _ => Err("a variable reads NAME=VALUE".into()),
    }
}

pub(super) fn run(args: AddArgs, context: &mut Context) -> Result<(), Failure> {
    let desired = match &args.set[..] {
        [] => None,
        pairs => match json_input::read(pairs)? {
            Value::Object(desired) => Some(desired),
            _ => return Err(Failure::usage("--set takes KEY=VALUE, or a JSON object")),
        },
    };
    let client = context.client()?;
    let image = match args.image.parse::<Reference>() {
        Ok(Reference::Path(file)) => uploaded(&client, &file)?,
        // The runtime refuses a bad reference, together with whatever else is wrong.
        _ => args.image,
    };
    let request = AddRequest {
        name: args.name,
        image,
        desired,
        env: BTreeMap::from_iter(args.env),
        isolation: args.isolation,
        device_twin: args.device_twin,
        restart_policy: args.restart_policy,
        startup_order: args.startup_order,
        force: args.force,
        stopped: args.stopped,
    };
    let body =
        serde_json::to_value(&request).map_err(|error| Failure::caused("the request cannot be written", &error))?;
    let detail: ModuleDetail = client.post("/modules", Some(&body))?;
    if context.out.is_json() {
        return context.out.document(&detail);
    }
    detail.notes.iter().for_each(|note| context.out.note(format_args!("note: {}", printable(note))));
    lifecycle::tell(&detail, context)
}

/// Uploads a library and names its bytes.
fn uploaded(client: &Client, file: &Path) -> Result<String, Failure> {
    let added = image::upload(client, file)?;
    match (&added.name, &added.digest) {
        (Some(name), Some(digest)) if added.verdict == "admitted" => Ok(format!("{name}@{digest}")),
        _ => Err(Failure::new(format!("{} is {}: {}", file.display(), added.verdict, added.reason))
            .hint("nothing was added; put the library right and repeat it")),
    }
}
