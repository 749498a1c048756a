//! `dinrail support-bundle`: everything that helps somebody who was not there, in one file, without secrets.

use std::fs::File;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::places::Surroundings;
use super::progress::Progress;
use super::{Context, Failure, check};
use crate::admin::client::{Client, ClientError, query};
use crate::clock;
use crate::support::{self, Bundle, Secrets, file_name};
use crate::view::HealthView;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail support-bundle
  dinrail support-bundle -o line3.zip

It holds no keys, no databases, no messages, no values of environment variables and, unless --with-values is given, no texts of
twins; what looks like a secret elsewhere is removed. Look through it before you pass it on: it is a plain zip file.
Without a running runtime it holds what can be seen from outside.")]
pub struct SupportBundleArgs {
    /// Where to write it [default: dinrail-support-DEVICE-TIME.zip here]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Include the texts of twins, save those under names of secrets
    #[arg(long)]
    with_values: bool,
}

pub(super) fn run(args: SupportBundleArgs, context: &mut Context) -> Result<(), Failure> {
    let mut progress = Progress::start();
    progress.say("looking at the device, the modules and the logs");
    let (stem, bytes) = match context.find() {
        _ if context.host.is_some() => ask(&context.client()?, args.with_values)?,
        Ok(client) => ask(&client, args.with_values)?,
        Err(ClientError::NoRuntime(_)) => without_runtime(context, args.with_values)?,
        Err(error) => return Err(error.into()),
    };
    drop(progress);
    let file = args.output.unwrap_or_else(|| PathBuf::from(format!("{stem}.zip")));
    keep(&file, &bytes).map_err(|error| {
        let told = Failure::caused(format!("the bundle {} cannot be written", file.display()), &error);
        match error.kind() {
            io::ErrorKind::AlreadyExists => told.hint("it exists; name another with -o FILE"),
            _ => told.hint("name a place with room, where you may write: -o FILE"),
        }
    })?;
    if context.out.is_json() {
        return context.out.document(&json!({ "file": file, "bytes": bytes.len() }));
    }
    context.out.line(format!("written: {} ({} bytes)", file.display(), bytes.len()))
}

fn ask(client: &Client, with_values: bool) -> Result<(String, Vec<u8>), Failure> {
    let health: HealthView = client.get("/health")?;
    let stem = stem(&health.device_id);
    let with_values = if with_values { "true" } else { "false" };
    let bytes = client.get_bytes(&query("/support-bundle", &[("folder", &stem), ("withValues", with_values)]))?;
    Ok((stem, bytes))
}

fn without_runtime(context: &Context, with_values: bool) -> Result<(String, Vec<u8>), Failure> {
    let checked = check::look(context)?;
    let stem = stem("stopped");
    let places = || Surroundings::read().client_states().into_iter().find(|place| place.is_dir());
    let state = context.state.clone().or_else(places);
    let put_together = || -> io::Result<Vec<u8>> {
        let mut bundle = Bundle::new(Cursor::new(Vec::new()), &stem, Secrets::default());
        let time = clock::rfc3339(clock::wall_us());
        bundle.text("README.txt", &support::about(env!("CARGO_PKG_VERSION"), &time, false, with_values))?;
        bundle.document("check.json", &checked)?;
        bundle.text("system.txt", &support::system())?;
        if let Some(state) = state {
            bundle.text("state-directory.txt", &support::listing(&state))?;
        }
        Ok(bundle.finish()?.into_inner())
    };
    let bytes = put_together().map_err(|error| Failure::caused("the bundle cannot be put together", &error))?;
    Ok((stem, bytes))
}

/// `dinrail-support-Hannover01-20261121T140509Z`.
fn stem(device: &str) -> String {
    let whole = clock::rfc3339(clock::wall_us());
    let time = whole.split('.').next().unwrap_or(&whole).replace(['-', ':'], "");
    format!("dinrail-support-{}-{time}Z", file_name(device))
}

/// Writes a new file for its owner alone; what cannot be completed is not left behind.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut open = File::options();
    open.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    let mut file = open.open(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).inspect_err(|_| drop(std::fs::remove_file(path)))
}
