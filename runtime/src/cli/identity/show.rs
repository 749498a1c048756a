//! `dinrail identity show ID`.

use std::fmt::Write;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::Value;

use crate::admin::client::Client;
use crate::cli::Failure;
use crate::cli::out::{Out, printable};

#[derive(Debug, Args)]
#[command(after_help = "\
Its keys are not shown: see `dinrail identity connection-string`.

Examples:
  dinrail identity show insight
  dinrail identity show /devices/press-1 --json")]
pub struct ShowArgs {
    /// Module, or identity of a module or device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
}

pub(super) fn run(args: ShowArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    let id = super::identity(client, &args.id)?;
    let mut document: Value = client.get(&super::document_path(&id))?;
    forget_keys(&mut document);
    if out.is_json() {
        return out.document(&document);
    }
    out.text(&render(&id.to_string(), &document))
}

/// Takes the keys out of a document that may go anywhere.
pub(super) fn forget_keys(document: &mut Value) {
    if let Some(authentication) = document.get_mut("authentication").and_then(Value::as_object_mut) {
        authentication.remove("symmetricKey");
    }
}

fn render(id: &str, document: &Value) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{:<16} {id}", "identity");
    for (key, member) in [
        ("status", "status"),
        ("reason", "statusReason"),
        ("status since", "statusUpdatedTime"),
        ("connection", "connectionState"),
        ("connection since", "connectionStateUpdatedTime"),
        ("last activity", "lastActivityTime"),
        ("managed by", "managedBy"),
        ("generation", "generationId"),
        ("etag", "etag"),
    ] {
        let shown = match &document[member] {
            Value::String(time) if time.starts_with("0001-01-01") => "never".to_owned(),
            Value::String(value) => printable(value),
            Value::Null => continue,
            other => other.to_string(),
        };
        if !shown.is_empty() {
            let _ = writeln!(text, "{key:<16} {shown}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_identity_is_shown_without_its_keys() {
        let mut document = json!({
            "deviceId": "press-1", "status": "disabled", "statusReason": "stolen", "connectionState": "Disconnected",
            "lastActivityTime": "0001-01-01T00:00:00Z", "generationId": "638", "managedBy": "",
            "authentication": {"type": "sas", "symmetricKey": {"primaryKey": "c2VjcmV0", "secondaryKey": "c2VjcmV0"}}
        });
        forget_keys(&mut document);

        assert!(!document.to_string().contains("c2VjcmV0"), "{document}");
        assert_eq!(
            render("/devices/press-1", &document),
            "\
identity         /devices/press-1
status           disabled
reason           stolen
connection       Disconnected
last activity    never
generation       638
"
        );
    }
}
