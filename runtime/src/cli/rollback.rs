//! `dinrail rollback [N]`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Context, Failure, deploy, durations};
use crate::view::DeploymentView;

#[derive(Debug, Args)]
#[command(after_help = "\
Puts an earlier deployment in force again: its modules with the images that they ran then, its routes, and the desired \
properties that its manifest sets. It becomes a new deployment. Without a number: the last good one before the one in force.

Examples:
  dinrail rollback
  dinrail rollback 3 --wait
  dinrail deployment history")]
pub struct RollbackArgs {
    /// Number of the deployment to go back to
    #[arg(value_name = "N")]
    to: Option<i64>,
    /// Wait until it was found good; exit code 1 if it was not
    #[arg(long)]
    wait: bool,
    /// Longest wait
    #[arg(long, value_name = "SPAN", default_value = "2m", value_parser = durations::parse)]
    timeout: Duration,
}

pub(super) fn run(args: RollbackArgs, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let deployment: DeploymentView = client.post("/deployment/rollback", Some(&json!({"to": args.to})))?;
    let (deployment, waited) = deploy::followed(&client, deployment, args.wait.then_some(args.timeout));
    if context.out.is_json() {
        context.out.document(&deployment)?;
    }
    waited?;
    deploy::judge(&deployment)?;
    if !context.out.is_json() {
        context.out.line(format_args!("{} is in force: {}", deployment.origin, deploy::in_words(&deployment)))?;
    }
    Ok(())
}
