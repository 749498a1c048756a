//! `dinrail deployment`.

use clap::Args;

use super::table::Table;
use super::{Context, Failure, export};
use crate::view::DeploymentView;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail deployment
  dinrail deployment --export > line3.yaml
  dinrail deployment --json")]
pub struct DeploymentArgs {
    #[command(flatten)]
    export: export::ExportArgs,
}

pub(super) fn run(args: DeploymentArgs, context: &mut Context) -> Result<(), Failure> {
    if args.export.export {
        return export::run(&args.export, context);
    }
    let deployment: DeploymentView = context.client()?.get("/deployment")?;
    if context.out.is_json() {
        return context.out.document(&deployment);
    }
    let text = render(&deployment, context.out.width());
    context.out.text(&text)
}

fn render(deployment: &DeploymentView, width: Option<usize>) -> String {
    let DeploymentView { id, origin, applied_utc, status, reason, modules, routes, notes } = deployment;
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let mut text = format!("deployment {id} is {status}{why}\nfrom {origin}, {applied_utc}\n");
    for module in modules {
        text += &format!("module  {module}\n");
    }
    if !routes.is_empty() {
        let mut table = Table::new(&["ROUTE", "TEXT"]);
        for (name, route) in routes {
            table.row([name.as_str().into(), route.as_str().into()]);
        }
        text += &table.render(width, false);
    }
    for note in notes {
        text += &format!("note: {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployment_in_force_is_shown_with_its_modules_and_routes() {
        let deployment = DeploymentView {
            id: 3,
            origin: "/etc/line3.json".into(),
            applied_utc: "2026-11-21T14:05:09.123Z".into(),
            status: "failed".into(),
            reason: "filter did not start".into(),
            modules: vec!["filter filter:1".into()],
            routes: vec![("up".into(), "FROM /* INTO $upstream".into())],
            notes: vec!["systemModules is ignored".into()],
        };

        assert_eq!(
            render(&deployment, None),
            "\
deployment 3 is failed: filter did not start
from /etc/line3.json, 2026-11-21T14:05:09.123Z
module  filter filter:1
ROUTE  TEXT
up     FROM /* INTO $upstream
note: systemModules is ignored
"
        );
    }
}
