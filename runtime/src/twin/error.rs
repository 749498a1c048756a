//! Why a change of a twin was not made.

use super::history::NoVersion;
use super::rules::Violation;
use super::snapshot::Part;
use crate::database::StoreError;
use crate::name::Identity;

/// Why a change of a twin was not made. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TwinError {
    /// No such identity.
    #[error("there is no twin of {identity}")]
    NotFound {
        /// The identity.
        identity: Identity,
    },
    /// The change breaks rules: all of them that it breaks.
    #[error("the change of the twin of {identity} is not valid: {}", summary(.violations))]
    Invalid {
        /// Whose twin.
        identity: Identity,
        /// Each with its place.
        violations: Vec<Violation>,
    },
    /// The module's image does not take such desired properties, and nobody insisted.
    #[error("the image of {identity} does not take these desired properties: {}", summary(.violations))]
    Unfit {
        /// Whose twin.
        identity: Identity,
        /// Each with its place.
        violations: Vec<Violation>,
    },
    /// `If-Match` names another state of the twin.
    #[error("the twin of {identity} has changed: its etag is \"{etag}\", not {asked}")]
    EtagMismatch {
        /// Whose twin.
        identity: Identity,
        /// Its present tag.
        etag: String,
        /// The tag that was asked for.
        asked: String,
    },
    /// The desired properties are those of the deployment in force.
    #[error("the desired properties of {identity} are those of the deployment in force: they are not changed here")]
    Deployed {
        /// Whose twin.
        identity: Identity,
    },
    /// A `$version` in the change names another state of the desired properties.
    #[error("the desired properties of {identity} have changed: their $version is {version}, not {asked}")]
    VersionMismatch {
        /// Whose twin.
        identity: Identity,
        /// Their present version.
        version: u64,
        /// The version that was asked for.
        asked: u64,
    },
    /// The desired properties were changed since the change was checked; it can be checked again.
    #[error("the twin of {identity} was changed meanwhile")]
    Moved {
        /// Whose twin.
        identity: Identity,
    },
    /// No such version is kept.
    #[error("{}", no_version(.identity, *.part, *.asked, *.why))]
    NoVersion {
        /// Whose twin.
        identity: Identity,
        /// The part whose version was asked for.
        part: Part,
        /// The version.
        asked: u64,
        /// Why there is none.
        why: NoVersion,
    },
    /// Not stored.
    #[error("the change of the twin of {identity} is lost: {cause}")]
    Store {
        /// Whose twin.
        identity: Identity,
        /// Why.
        cause: StoreError,
    },
}

impl TwinError {
    /// What a person does next.
    pub fn hint(&self) -> String {
        match self {
            TwinError::NotFound { identity } if identity.module_id().is_none() => {
                "`dinrail identity list` shows the devices".to_owned()
            }
            TwinError::NotFound { .. } => {
                "`dinrail list` shows the modules; a module has a twin from its first start on".to_owned()
            }
            TwinError::Invalid { .. } => "correct the change and send it again; nothing of it was applied".to_owned(),
            TwinError::Unfit { .. } => {
                "correct the change and send it again, or insist with --force (?force=true); nothing of it was applied"
                    .to_owned()
            }
            TwinError::EtagMismatch { .. } => {
                "read the twin again, then change it with its new etag, or with \"*\"".to_owned()
            }
            TwinError::Deployed { .. } => {
                "change the manifest, then dinrail deploy FILE; dinrail deployment --export prints the one in force"
                    .to_owned()
            }
            TwinError::VersionMismatch { .. } => {
                "read the twin again, then change it with its new $version, or leave $version out".to_owned()
            }
            TwinError::Moved { .. } => {
                "read the twin again and repeat the change; others change it all the time".to_owned()
            }
            TwinError::NoVersion { identity, .. } => {
                let name = identity.module_id().map_or_else(|| identity.to_string(), str::to_owned);
                format!("`dinrail twin history {name}` lists the versions that are kept")
            }
            TwinError::Store { cause, .. } => cause.hint().unwrap_or("send it again").to_owned(),
        }
    }
}

fn summary(violations: &[Violation]) -> String {
    match violations {
        [] => String::new(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

fn no_version(identity: &Identity, part: Part, asked: u64, why: NoVersion) -> String {
    let what = if part == Part::Tags { "tags" } else { "desired properties" };
    match why {
        NoVersion::NotYet { newest } => {
            format!("the {what} of {identity} have no version {asked} yet: the newest is {newest}")
        }
        NoVersion::Gone { oldest } => {
            format!("version {asked} of the {what} of {identity} is not kept any more: the oldest is {oldest}")
        }
    }
}
