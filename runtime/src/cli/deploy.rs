//! `dinrail deploy FILE`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::manifest::ManifestFile;
use super::{Context, Failure, durations, image, plan, wait};
use crate::admin::client::{Client, query};
use crate::deployment::schema;
use crate::view::{DeploymentView, PlanView};

#[derive(Debug, Args)]
#[command(after_help = "\
Images that the manifest names by path (relative to it) are sent along. A manifest with problems is refused as a whole, and \
all its problems are told at once. What it changes must stay up for healthSecs (5 unless the manifest says otherwise), else \
the last good deployment is put in force again by itself.

Examples:
  dinrail plan deployments/host-monitor.json
  dinrail deploy deployments/host-monitor.json --wait
  dinrail deploy line3.yaml --wait --timeout 5m
  generate-manifest | dinrail deploy -
  dinrail deploy --schema > manifest.schema.json")]
pub struct DeployArgs {
    /// The manifest: JSON or YAML; - for standard input
    #[arg(required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// Print the JSON Schema of manifests, for editors (offline)
    #[arg(long, conflicts_with_all = ["file", "wait"])]
    schema: bool,
    /// Wait until it was found good; exit code 1 if it failed or was rolled back
    #[arg(long)]
    wait: bool,
    /// Insist, though a module's image says that it does not take its desired properties
    #[arg(long)]
    force: bool,
    /// Longest wait
    #[arg(long, value_name = "SPAN", default_value = "2m", value_parser = durations::parse)]
    timeout: Duration,
}

pub(super) fn run(args: DeployArgs, context: &mut Context) -> Result<(), Failure> {
    let Some(file) = args.file.filter(|_| !args.schema) else {
        return context.out.document(&schema::schema());
    };
    let manifest = ManifestFile::read(&file)?;
    let client = context.client()?;
    let plan = checked_plan(&client, &manifest, args.force)?;
    let uploaded = upload(&client, &manifest)?;
    let deployment: DeploymentView = client
        .put(&forced("/deployment", args.force), &manifest.request(&uploaded, &BTreeMap::new()), None)
        .map_err(|error| manifest.refused(error))?;
    let out = &mut context.out;
    if !out.is_json() {
        plan::tell(&plan, out)?;
        out.flush()?;
    }
    let (deployment, waited) = followed(&client, deployment, args.wait.then_some(args.timeout));
    if out.is_json() {
        out.document(&json!({"plan": plan, "deployment": deployment}))?;
    }
    waited?;
    judge(&deployment)?;
    if !out.is_json() {
        out.line(in_words(&deployment))?;
    }
    Ok(())
}

/// The plan, from the digests alone: nothing is sent for a manifest that is refused.
fn checked_plan(client: &Client, manifest: &ManifestFile, is_forced: bool) -> Result<PlanView, Failure> {
    let (digests, missing) = manifest.digests();
    let request = manifest.request(&digests, &missing);
    client.post(&forced("/deployment/plan", is_forced), Some(&request)).map_err(|error| manifest.refused(error))
}

fn forced(path: &str, is_forced: bool) -> String {
    if is_forced { query(path, &[("force", "true")]) } else { path.to_owned() }
}

/// Sends the images; the digest under which each was taken in.
fn upload(client: &Client, manifest: &ManifestFile) -> Result<BTreeMap<String, String>, Failure> {
    let mut digests = BTreeMap::new();
    for (name, found) in &manifest.images {
        let added = image::upload_for(client, &found.file, "deployment")?;
        let digest = added.digest.filter(|_| added.verdict == "admitted").ok_or_else(|| {
            let message = format!("{name} is {}: {}", added.verdict, added.reason);
            Failure::new(manifest.image_problem(&found.json_path, message))
                .hint("nothing of the manifest was applied; put the image right and deploy again")
        })?;
        digests.insert(name.clone(), digest);
    }
    Ok(digests)
}

/// Waits, where `limit` says how long, until it was found good or not. Second: that this took too long.
pub(super) fn followed(
    client: &Client,
    deployment: DeploymentView,
    limit: Option<Duration>,
) -> (DeploymentView, Result<(), Failure>) {
    let Some(limit) = limit else { return (deployment, Ok(())) };
    let route = query("/deployment/wait", &[("id", &deployment.id.to_string())]);
    match wait::repeat(limit, |slice| client.get_waiting(&route, slice)) {
        Ok(ended) => (ended, Ok(())),
        Err(failure) => {
            let hint = "it goes on; `dinrail deployment` shows how far it is, `dinrail list` what runs";
            (deployment, Err(failure.maybe_hint(Some(hint.into()))))
        }
    }
}

/// A deployment that did not end well is a failure of the verb.
pub(super) fn judge(deployment: &DeploymentView) -> Result<(), Failure> {
    let what = match deployment.status.as_str() {
        "failed" => "failed",
        "rolledBack" => "was rolled back",
        "superseded" => "was superseded",
        _ => return Ok(()),
    };
    let failed = deployment.steps.iter().filter(|step| step.state == "failed");
    let details = failed.map(|step| format!("{} {}: {}", step.action, step.name, step.outcome)).collect();
    Err(Failure::new(format!("deployment {} {what}: {}", deployment.id, deployment.reason))
        .details(details)
        .hint("`dinrail deployment history` tells what is in force now, `dinrail show NAME` more about a module"))
}

/// What became of it, so far.
pub(super) fn in_words(deployment: &DeploymentView) -> String {
    match deployment.status.as_str() {
        "applied" => format!("deployment {} is applied, and what is to run runs", deployment.id),
        _ => format!("deployment {} is being applied; `dinrail deployment` shows how far it is", deployment.id),
    }
}
