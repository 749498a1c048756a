//! `dinrail identity list|show|add|remove|enable|disable|token|connection-string|rotate`.
//!
//! Keys are printed by `connection-string` alone, and are read from files or standard input only: what stands on a command line
//! is seen by everybody on this device.

mod add;
mod connection_string;
mod list;
mod remove;
mod rotate;
mod show;
mod status;
mod token;

use clap::{Args, Subcommand};

use super::twin;
use super::{Context, Failure};
use crate::admin::client::{Client, path};
use crate::name::Identity;

#[derive(Debug, Args)]
#[command(after_help = "\
ID is the name of a module (insight), its identity (/devices/Hannover01/modules/insight), or that of a device \
(/devices/press-1).

Examples:
  dinrail identity list
  dinrail identity add /devices/press-1
  dinrail identity connection-string /devices/press-1
  dinrail identity rotate /devices/press-1 --key secondary")]
pub struct IdentityArgs {
    #[command(subcommand)]
    verb: IdentityVerb,
}

#[derive(Debug, Subcommand)]
enum IdentityVerb {
    /// List the identities: this device, its modules, and those that were added
    List(list::ListArgs),
    /// Show everything about one identity, but its keys
    Show(show::ShowArgs),
    /// Add an identity for a child device, or for a module that runs elsewhere
    Add(add::AddArgs),
    /// Remove an identity for good, with its twin
    Remove(remove::RemoveArgs),
    /// Let an identity act again
    Enable(status::EnableArgs),
    /// Refuse an identity until it is enabled again
    Disable(status::DisableArgs),
    /// Print a token that proves to be an identity, for a while
    Token(token::TokenArgs),
    /// Print what a program connects with: host, identity or policy, and key
    ConnectionString(connection_string::ConnectionStringArgs),
    /// Replace one of the two keys, while the other holds
    Rotate(rotate::RotateArgs),
}

pub(super) fn run(args: IdentityArgs, context: &mut Context) -> Result<(), Failure> {
    // A mistake in the arguments is told whether or not a runtime answers.
    let client = context.client()?;
    let out = &mut context.out;
    match args.verb {
        IdentityVerb::List(args) => list::run(args, &client, out),
        IdentityVerb::Show(args) => show::run(args, &client, out),
        IdentityVerb::Add(args) => add::run(args, &client, out),
        IdentityVerb::Remove(args) => remove::run(args, &client, out),
        IdentityVerb::Enable(args) => status::enable(args, &client, out),
        IdentityVerb::Disable(args) => status::disable(args, &client, out),
        IdentityVerb::Token(args) => token::run(args, &client, out),
        IdentityVerb::ConnectionString(args) => connection_string::run(args, &client, out),
        IdentityVerb::Rotate(args) => rotate::run(args, &client, out),
    }
}

/// The identity that a person means.
fn identity(client: &Client, text: &str) -> Result<Identity, Failure> {
    twin::identity(client, text)
}

/// Its place in IoT Hub's registry.
fn document_path(id: &Identity) -> String {
    path(&with_id("devices", id))
}

/// What is ours about an identity.
fn own_path(id: &Identity, what: &str) -> String {
    let mut segments = with_id("identities", id);
    segments.push(what);
    path(&segments)
}

fn with_id<'i>(first: &'i str, id: &'i Identity) -> Vec<&'i str> {
    let mut segments = vec![first, id.device_id()];
    if let Some(module) = id.module_id() {
        segments.extend(["modules", module]);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_have_their_place_in_both_worlds() {
        let module = Identity::module("press-1", "$edgeHub").unwrap();
        assert_eq!(document_path(&module), "/devices/press-1/modules/%24edgeHub");
        assert_eq!(own_path(&module, "token"), "/identities/press-1/modules/%24edgeHub/token");
        assert_eq!(own_path(&Identity::device("press-1").unwrap(), "rotate"), "/identities/press-1/rotate");
    }
}
