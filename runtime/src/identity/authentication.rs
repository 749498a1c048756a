//! Who somebody is, by a token; and the keys behind it.

use std::sync::{Arc, PoisonError};

use super::IdentityError;
use super::credential::{KeyError, SymmetricKey};
use super::keys::KeySlot;
use super::policy::{Policy, Role};
use super::registry::Identities;
use super::token::{Token, TokenError};
use crate::name::Identity;

const SLOTS: [KeySlot; 2] = [KeySlot::Primary, KeySlot::Secondary];

/// Who a token has proved somebody to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A device or module of the registry, by its own key.
    Identity(Identity),
    /// A program, by the key of a shared access policy.
    Policy {
        /// The policy's name.
        name: &'static str,
        /// What it allows.
        role: Role,
        /// For what: a path such as `/devices/Hannover01`, or empty for everything.
        scope: Arc<str>,
    },
}

impl Principal {
    /// Whether it may act as `identity`: it is that one, or a policy whose token is for it or for what holds it.
    pub fn covers(&self, identity: &Identity) -> bool {
        match self {
            Principal::Identity(own) => own == identity,
            Principal::Policy { scope, .. } => {
                let path = identity.to_string();
                path.strip_prefix(&**scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Principal::Identity(identity) => write!(f, "{identity}"),
            Principal::Policy { name, .. } => write!(f, "policy {name}"),
        }
    }
}

impl Identities {
    /// Who the token proves its bearer to be. `audience`: the names under which this device is reached, with or without a port.
    ///
    /// A token with `skn` is checked with the keys of that policy, any other with the keys of the identity it is for.
    /// Whether that one may do what it asks is for the caller: see [`Principal::covers`] and [`Role`]. `[never blocks]`
    pub fn authenticate(
        &self,
        token: &Token,
        audience: &[impl AsRef<str>],
        now_us: i64,
    ) -> Result<Principal, TokenError> {
        token.check_time_and_host(audience, now_us)?;
        let Some(name) = token.policy() else {
            let identity = token.scope().identity()?;
            // Some clients encode the ids by themselves, and then the whole again.
            let again = || token.scope().decoded_again()?.identity().ok();
            let known = self.get(&identity).or_else(|| self.get(&again()?));
            let record = known.ok_or_else(|| TokenError::UnknownIdentity(identity.clone()))?;
            let key = |slot| record.keys.key(slot, self.master(), &record.key_owner());
            check_signature(token, &record.identity.to_string(), key)?;
            // Only who proved to be it learns that it is disabled.
            return self.check_enabled(&record.identity).map(|()| Principal::Identity(record.identity.clone()));
        };
        let role: Role = name.parse().map_err(|()| TokenError::UnknownPolicy(shortened(name)))?;
        let policy = self.policy(role);
        check_signature(token, &format!("the policy {name}"), |slot| {
            policy.keys.key(slot, self.master(), &owner(role))
        })?;
        Ok(Principal::Policy { name: role.name(), role, scope: token.scope().path.as_str().into() })
    }

    /// That an identity may act: neither it nor its device is disabled.
    pub fn check_enabled(&self, identity: &Identity) -> Result<(), TokenError> {
        for who in [identity, &identity.of_device()] {
            if self.get(who).is_some_and(|record| !record.is_enabled) {
                return Err(TokenError::Disabled(who.clone()));
            }
        }
        Ok(())
    }

    /// A key of an identity: for itself, and for an owner who asks for it.
    pub fn key(&self, identity: &Identity, slot: KeySlot) -> Result<SymmetricKey, IdentityError> {
        let record = self.require(identity)?;
        record.keys.key(slot, self.master(), &record.key_owner()).map_err(|cause| IdentityError::Key {
            identity: identity.to_string(),
            slot: slot.name(),
            cause,
        })
    }

    /// A key of a shared access policy.
    pub fn policy_key(&self, role: Role, slot: KeySlot) -> Result<SymmetricKey, IdentityError> {
        self.policy(role).keys.key(slot, self.master(), &owner(role)).map_err(|cause| IdentityError::Key {
            identity: format!("the policy {role}"),
            slot: slot.name(),
            cause,
        })
    }

    /// A shared access policy.
    pub fn policy(&self, role: Role) -> Arc<Policy> {
        self.0.policies.read().unwrap_or_else(PoisonError::into_inner)[role as usize].clone()
    }

    /// A token of an identity for `host`, signed with its primary key; it holds until `expiry_s` after 1970.
    pub fn token(&self, identity: &Identity, host: &str, expiry_s: u64) -> Result<String, IdentityError> {
        let key = self.key(identity, KeySlot::Primary)?;
        Ok(Token::make(&key, &format!("{host}{identity}"), expiry_s, None))
    }

    /// A token of a shared access policy for all of `host`.
    pub fn policy_token(&self, role: Role, host: &str, expiry_s: u64) -> Result<String, IdentityError> {
        let key = self.policy_key(role, KeySlot::Primary)?;
        Ok(Token::make(&key, host, expiry_s, Some(role.name())))
    }
}

/// No module id has a space, so that no module's key is that of a policy.
fn owner(role: Role) -> String {
    format!("policy {role}")
}

fn check_signature(
    token: &Token,
    who: &str,
    key: impl Fn(KeySlot) -> Result<SymmetricKey, KeyError>,
) -> Result<(), TokenError> {
    let keys = SLOTS.map(key);
    // Both, whichever it is.
    let found = keys.iter().flatten().fold(false, |found, key| token.is_signed_with(key) | found);
    match found {
        true => Ok(()),
        false if keys.iter().all(Result::is_err) => Err(TokenError::NoKey(who.to_owned())),
        false => Err(TokenError::WrongKey(who.to_owned())),
    }
}

/// What a stranger sent, fit for a text.
fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}
