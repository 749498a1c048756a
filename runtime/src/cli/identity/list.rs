//! `dinrail identity list`.

use clap::Args;

use crate::admin::client::Client;
use crate::cli::Failure;
use crate::cli::out::{Out, Paint};
use crate::cli::table::{Cell, Table};
use crate::view::IdentityView;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dinrail identity list
  dinrail identity list --json")]
pub struct ListArgs {}

pub(super) fn run(_: ListArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let identities: Vec<IdentityView> = client.get("/identities")?;
    if out.is_json() {
        return out.document(&identities);
    }
    out.text(&table(&identities).render(out.width(), out.has_colour()))
}

fn table(identities: &[IdentityView]) -> Table {
    let mut table = Table::new(&["IDENTITY", "STATUS", "CONNECTION", "LAST ACTIVITY", "MANAGED BY", "REASON"]);
    for view in identities {
        let status = if view.is_enabled() { Paint::Green } else { Paint::Red };
        let connection = if view.is_connected() { Paint::Green } else { Paint::Dim };
        table.row([
            view.identity.as_str().into(),
            Cell::painted(&view.status, status),
            Cell::painted(&view.connection_state, connection),
            view.last_activity_time.as_deref().unwrap_or("never").into(),
            match view.managed_by.as_str() {
                "" => "-".into(),
                by => by.into(),
            },
            view.status_reason.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An identity as the server describes it.
    pub fn view(identity: &str, status: &str) -> IdentityView {
        serde_json::from_value(serde_json::json!({
            "identity": identity, "deviceId": "D", "moduleId": null, "generationId": "638", "status": status,
            "statusReason": (status == "disabled").then_some("stolen"), "connectionState": "Disconnected",
            "lastActivityTime": null, "managedBy": ""
        }))
        .unwrap()
    }

    #[test]
    fn list_shows_one_line_an_identity() {
        let text = table(&[view("/devices/D", "enabled"), view("/devices/press-1", "disabled")]).render(None, false);

        assert_eq!(
            text,
            "\
IDENTITY          STATUS    CONNECTION    LAST ACTIVITY  MANAGED BY  REASON
/devices/D        enabled   Disconnected  never          -
/devices/press-1  disabled  Disconnected  never          -           stolen
"
        );
    }
}
