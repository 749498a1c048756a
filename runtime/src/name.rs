//! Names: ids in IoT Hub's alphabet, and the identity that a device or module acts under.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest device or module id, in characters.
pub const MAX_ID_CHARS: usize = 128;
/// Module id of the runtime's own identity as IoT Edge calls it: it runs the modules.
pub const EDGE_AGENT: &str = "$edgeAgent";
/// Module id of the runtime's other identity: it carries the messages.
pub const EDGE_HUB: &str = "$edgeHub";

/// Why an id or identity is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing between the slashes, or no text at all.
    #[error("an id must not be empty")]
    Empty,
    /// Longer than [`MAX_ID_CHARS`].
    #[error("'{id}' has {chars} characters; an id has at most {MAX_ID_CHARS}")]
    TooLong {
        /// The id.
        id: String,
        /// Its length.
        chars: usize,
    },
    /// A character outside of IoT Hub's alphabet.
    #[error(
        "'{id}' contains {found:?}; an id consists of ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '"
    )]
    BadCharacter {
        /// The id.
        id: String,
        /// The first offender.
        found: char,
    },
    /// `.` and `..` would name folders.
    #[error("'{0}' cannot be an id: it names a folder")]
    Folder(String),
    /// Not of the form `/devices/{device}[/modules/{module}]`.
    #[error("'{0}' is not an identity; it reads /devices/DEVICE or /devices/DEVICE/modules/MODULE")]
    NotAnIdentity(String),
}

/// Checks a device or module id. Source: IoT Hub's identity registry.
pub fn check_id(id: &str) -> Result<(), NameError> {
    if id.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(found) = id.chars().find(|c| !c.is_ascii_alphanumeric() && !"-:.+%_#*?!(),=@;$'".contains(*c)) {
        return Err(NameError::BadCharacter { id: id.to_owned(), found });
    }
    if id.len() > MAX_ID_CHARS {
        return Err(NameError::TooLong { id: id.to_owned(), chars: id.len() });
    }
    if id == "." || id == ".." {
        return Err(NameError::Folder(id.to_owned()));
    }
    Ok(())
}

/// The folder name of an id: itself where every file system takes it, else with `%XX` for what it does not.
pub fn folder_name(id: &str) -> String {
    id.bytes()
        .enumerate()
        .map(|(at, b)| match b {
            b'.' if at == 0 => "%2E".to_owned(),
            b if b.is_ascii_alphanumeric() || b"-_.".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

/// Who acts: the device itself, or one of its modules. Written `/devices/{device}[/modules/{module}]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    device: Arc<str>,
    module: Option<Arc<str>>,
}

impl Identity {
    /// The device's own identity.
    pub fn device(device: &str) -> Result<Identity, NameError> {
        check_id(device)?;
        Ok(Identity { device: device.into(), module: None })
    }

    /// The identity of a module of `device`.
    pub fn module(device: &str, module: &str) -> Result<Identity, NameError> {
        check_id(device)?;
        check_id(module)?;
        Ok(Identity { device: device.into(), module: Some(module.into()) })
    }

    /// The identity of a module of this one's device, which shares the text of the device id.
    pub fn with_module(&self, module: &str) -> Result<Identity, NameError> {
        check_id(module)?;
        Ok(Identity { device: self.device.clone(), module: Some(module.into()) })
    }

    /// The identity of this one's device.
    pub fn of_device(&self) -> Identity {
        Identity { device: self.device.clone(), module: None }
    }

    /// Reads what a person types: a bare module name means that module of `device`.
    pub fn parse_on(device: &str, text: &str) -> Result<Identity, NameError> {
        if text.starts_with('/') { text.parse() } else { Identity::module(device, text) }
    }

    /// Whether it is one of the runtime's own on `device`: [`EDGE_AGENT`] or [`EDGE_HUB`].
    pub fn is_runtime_of(&self, device: &str) -> bool {
        self.device_id() == device && self.module_id().is_some_and(|id| [EDGE_AGENT, EDGE_HUB].contains(&id))
    }

    /// The device id.
    pub fn device_id(&self) -> &str {
        &self.device
    }

    /// The module id; `None` for the device's own identity.
    pub fn module_id(&self) -> Option<&str> {
        self.module.as_deref()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/devices/{}", self.device)?;
        match &self.module {
            Some(module) => write!(f, "/modules/{module}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Identity {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Identity, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            ["", "devices", device] => Identity::device(device),
            ["", "devices", device, "modules", module] => Identity::module(device, module),
            _ => Err(NameError::NotAnIdentity(text.to_owned())),
        }
    }
}

impl serde::Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_reads_back_what_it_writes() {
        for text in ["/devices/Hannover01", "/devices/Hannover01/modules/insight", "/devices/a:b/modules/$edgeAgent"] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_ids_are_refused_with_the_reason() {
        assert_eq!(check_id(""), Err(NameError::Empty));
        assert!(matches!(check_id("a/b"), Err(NameError::BadCharacter { found: '/', .. })));
        assert!(matches!(check_id("Ü"), Err(NameError::BadCharacter { found: 'Ü', .. })));
        assert!(matches!(check_id(&"x".repeat(129)), Err(NameError::TooLong { chars: 129, .. })));
        assert!(matches!(check_id(".."), Err(NameError::Folder(_))));
        assert!(matches!("/devices//modules/x".parse::<Identity>(), Err(NameError::Empty)));
        assert!(matches!("devices/x".parse::<Identity>(), Err(NameError::NotAnIdentity(_))));
    }

    #[test]
    fn folder_names_never_leave_their_folder() {
        assert_eq!(folder_name("filter-2_b.c"), "filter-2_b.c");
        assert_eq!(folder_name(".hidden:*"), "%2Ehidden%3A%2A");
    }
}
