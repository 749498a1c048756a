//! `dinrail deploy FILE`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::manifest::ManifestFile;
use super::{Context, Failure, durations, image, plan, wait};
use crate::admin::client::{Client, query};
use crate::clock;
use crate::deployment::schema;
use crate::view::{DeploymentView, PlanView};

#[derive(Debug, Args)]
#[command(after_help = "\
Images that the manifest names by path (relative to it) are sent along. A manifest with problems is refused as a whole, and \
all its problems are told at once.

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
    /// Wait until what is to run runs; exit code 1 if it does not
    #[arg(long)]
    wait: bool,
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
    let plan = checked_plan(&client, &manifest)?;
    let uploaded = upload(&client, &manifest)?;
    let mut deployment: DeploymentView = client
        .put("/deployment", &manifest.request(&uploaded, &BTreeMap::new()), None)
        .map_err(|error| manifest.refused(error))?;
    let out = &mut context.out;
    if !out.is_json() {
        plan::tell(&plan, out)?;
        out.flush()?;
    }
    let mut waited = Ok(());
    if args.wait {
        (deployment, waited) = until_settled(&client, deployment, &plan, args.timeout)?;
    }
    if out.is_json() {
        out.document(&json!({"plan": plan, "deployment": deployment}))?;
    }
    if deployment.status == "failed" {
        let message = format!("deployment {} failed: {}", deployment.id, deployment.reason);
        return Err(Failure::new(message).hint("`dinrail list` and `dinrail show NAME` tell more"));
    }
    waited?;
    if !out.is_json() {
        out.line(format_args!("deployment {} is {}", deployment.id, status_in_words(&deployment, args.wait)))?;
    }
    Ok(())
}

/// The plan, from the digests alone: nothing is sent for a manifest that is refused.
fn checked_plan(client: &Client, manifest: &ManifestFile) -> Result<PlanView, Failure> {
    let (digests, missing) = manifest.digests();
    let request = manifest.request(&digests, &missing);
    client.post("/deployment/plan", Some(&request)).map_err(|error| manifest.refused(error))
}

/// Sends the images; the digest under which each was taken in.
fn upload(client: &Client, manifest: &ManifestFile) -> Result<BTreeMap<String, String>, Failure> {
    let mut digests = BTreeMap::new();
    for (name, found) in &manifest.images {
        let added = image::upload(client, &found.file)?;
        let digest = added.digest.filter(|_| added.verdict == "admitted").ok_or_else(|| {
            let message = format!("{name} is {}: {}", added.verdict, added.reason);
            Failure::new(manifest.image_problem(&found.json_path, message))
                .hint("nothing of the manifest was applied; put the image right and deploy again")
        })?;
        digests.insert(name.clone(), digest);
    }
    Ok(digests)
}

/// Waits for the end of the deployment, and then for what it started. Second: what does not run, though it should.
fn until_settled(
    client: &Client,
    deployment: DeploymentView,
    plan: &PlanView,
    limit: Duration,
) -> Result<(DeploymentView, Result<(), Failure>), Failure> {
    let started = clock::now();
    let route = query("/deployment/wait", &[("id", &deployment.id.to_string())]);
    let deployment: DeploymentView = wait::repeat(limit, |slice| client.get_waiting(&route, slice))?;
    if deployment.status == "failed" {
        return Ok((deployment, Ok(())));
    }
    for step in plan.steps.iter().filter(|step| matches!(step.action.as_str(), "start" | "restart")) {
        let left = limit.saturating_sub(started.elapsed());
        if let Err(failure) = wait::until_status(client, &step.name, "running", left) {
            return Ok((deployment, Err(failure)));
        }
    }
    Ok((deployment, Ok(())))
}

fn status_in_words(deployment: &DeploymentView, waited: bool) -> String {
    match (deployment.status.as_str(), waited) {
        ("applied", true) => "applied, and what is to run runs".into(),
        (status, _) => status.into(),
    }
}
