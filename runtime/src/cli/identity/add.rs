//! `dinrail identity add ID`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};

use super::show::forget_keys;
use crate::admin::client::Client;
use crate::cli::out::Out;
use crate::cli::{Failure, json_input};

#[derive(Debug, Args)]
#[command(after_help = "\
For child devices, and for modules that run elsewhere; a module of this device gets its identity with its first start. Keys \
are derived from that of this device, unless they are given: 16 to 64 bytes in base64, in a file or on standard input, never \
on the command line, where everybody on this device can read them.

Examples:
  dinrail identity add /devices/press-1
  dinrail identity add /devices/press-1/modules/scanner --disabled
  openssl rand -base64 32 | dinrail identity add /devices/press-2 --primary-key -")]
pub struct AddArgs {
    /// Identity of a device or module; a bare name is a module of this device
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// It may not act until it is enabled
    #[arg(long)]
    disabled: bool,
    /// Primary key: @FILE, or - for standard input
    #[arg(long, value_name = "@FILE|-")]
    primary_key: Option<String>,
    /// Secondary key: @FILE, or - for standard input
    #[arg(long, value_name = "@FILE|-")]
    secondary_key: Option<String>,
}

pub(super) fn run(args: AddArgs, client: &Client, out: &mut Out) -> Result<(), Failure> {
    if args.primary_key.as_deref() == Some("-") && args.secondary_key.as_deref() == Some("-") {
        return Err(Failure::usage("standard input can hold one key only").hint("put the other one into a file: @FILE"));
    }
    let primary = read_key("--primary-key", args.primary_key.as_deref())?;
    let secondary = read_key("--secondary-key", args.secondary_key.as_deref())?;
    let id = super::identity(client, &args.id)?;
    let body = json!({
        "deviceId": id.device_id(),
        "moduleId": id.module_id(),
        "status": if args.disabled { "disabled" } else { "enabled" },
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}},
    });
    let mut document: Value = client.put(&super::document_path(&id), &body, None)?;
    forget_keys(&mut document);
    if out.is_json() {
        return out.document(&document);
    }
    out.line(format_args!("{id} is added{}", if args.disabled { ", disabled" } else { "" }))?;
    out.note(format_args!("hint: dinrail identity connection-string {id} prints what it connects with"));
    Ok(())
}

/// The key that `argument` leads to. What looks like a key itself is refused.
fn read_key(option: &str, argument: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(argument) = argument else { return Ok(None) };
    if argument != "-" && !argument.starts_with('@') {
        return Err(Failure::usage(format!(
            "{option} takes no key itself, because everybody on this device could read it"
        ))
        .hint(format!("put it into a file that only you can read: {option} @FILE, or - for standard input")));
    }
    let octets = json_input::read_body(argument)?;
    let text = String::from_utf8(octets).unwrap_or_default();
    match text.trim() {
        "" => {
            Err(Failure::usage(format!("{option} {argument} holds no key")).hint("make one: openssl rand -base64 32"))
        }
        key => Ok(Some(key.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_a_file_and_refused_on_the_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "c2VjcmV0\n").unwrap();

        assert_eq!(read_key("--primary-key", Some(&format!("@{}", file.display()))).unwrap().unwrap(), "c2VjcmV0");
        assert_eq!(read_key("--primary-key", None).unwrap(), None);
        let refused = format!("{:?}", read_key("--primary-key", Some("c2VjcmV0")).unwrap_err());
        assert!(refused.contains("takes no key itself") && !refused.contains("c2VjcmV0"), "{refused}");
        std::fs::write(&file, " \n").unwrap();
        assert!(read_key("--primary-key", Some(&format!("@{}", file.display()))).is_err());
    }
}
