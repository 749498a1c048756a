//! Shared access policies: by their keys, programs that are no identity of the registry act on this device.

use std::fmt;
use std::str::FromStr;

use super::keys::KeyPair;

/// What somebody may do. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees everything but secrets.
    Reader,
    /// Runs the device: instances, deployments, twins, methods, messages, images, routes.
    Operator,
    /// Also keys, tokens, policies, secrets, and the removal of identities.
    Owner,
}

impl Role {
    /// All of them, from the least to the most.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Operator, Role::Owner];

    /// Its word, which is the name of its policy too.
    pub fn name(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Operator => "operator",
            Role::Owner => "owner",
        }
    }

    /// Whether it may do what `needed` may.
    pub fn may(self, needed: Role) -> bool {
        self >= needed
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Role, ()> {
        Role::ALL.into_iter().find(|role| role.name() == text).ok_or(())
    }
}

/// A shared access policy: there is one for each role, with two keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What its keys allow, and its name.
    pub role: Role,
    pub(super) keys: KeyPair,
}

impl Policy {
    pub(super) fn new(role: Role) -> Policy {
        Policy { role, keys: KeyPair::default() }
    }

    /// Its name: `skn` of its tokens.
    pub fn name(&self) -> &'static str {
        self.role.name()
    }
}
