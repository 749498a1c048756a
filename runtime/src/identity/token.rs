//! SAS tokens, as Azure IoT's devices, modules and services write them.
//!
//! `SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]`, parameters in any order. The signature is
//! HMAC-SHA256 over the resource exactly as it was received, a line feed and the expiry.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::credential::SymmetricKey;
use crate::name::{Identity, NameError};

/// Longest token. One with two ids of 128 characters, every one of them encoded, is below it.
pub const MAX_TOKEN_BYTES: usize = 4096;
/// For so long after its expiry a token is still taken, because clocks differ. Source: IoT Edge's hub.
pub const CLOCK_SKEW_S: u64 = 300;
const SCHEME: &str = "SharedAccessSignature";
const SIGNATURE_BYTES: usize = 32;
/// What stays as it is in a part of a URI.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A token that was read; whether it is true is for [`super::Identities::authenticate`] to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// As received, still encoded: what was signed.
    resource: String,
    scope: Scope,
    signature: [u8; SIGNATURE_BYTES],
    /// As received: what was signed.
    expiry: String,
    expiry_s: u64,
    policy: Option<String>,
}

/// What a token is for, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The host, lower case, without a port.
    pub host: String,
    /// What follows it, such as `/devices/Hannover01/modules/insight`; empty for the whole hub.
    pub path: String,
}

/// Why a token is not taken. The texts hold neither key nor signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Beyond any token.
    #[error("the token has {bytes} bytes; a token has at most {MAX_TOKEN_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Something else.
    #[error("it is not a SAS token: it does not begin with 'SharedAccessSignature '")]
    NotSas,
    /// A parameter that is no `name=value`.
    #[error("parameter {at} of the token is not of the form name=value")]
    NotPair {
        /// Which, from 1.
        at: usize,
    },
    /// A parameter that must be there.
    #[error("the token has no '{0}'")]
    Missing(&'static str),
    /// A parameter that may be there once.
    #[error("the token has '{0}' twice")]
    Twice(&'static str),
    /// Cannot be decoded.
    #[error("'{0}' of the token is not percent-encoded UTF-8")]
    Encoding(&'static str),
    /// Not a signature.
    #[error("'sig' of the token is not the base64 of {SIGNATURE_BYTES} bytes")]
    Signature,
    /// Not a time.
    #[error("'se' of the token is not a time in seconds since 1970")]
    Expiry,
    /// Not the name of a policy.
    #[error("'skn' of the token is not a name: names have letters, digits, '-', '_' and '.'")]
    Policy,
    /// Not `host[/path]`.
    #[error("'sr' of the token is not of the form HOST[/devices/DEVICE[/modules/MODULE]]")]
    Resource,
    /// Over.
    #[error(
        "the token expired {ago_s} s ago (by this device's clock, beyond the {CLOCK_SKEW_S} s that clocks may differ)"
    )]
    Expired {
        /// Seconds since its expiry.
        ago_s: u64,
    },
    /// For another host.
    #[error("the token is for the host '{host}', which is not this one ({})", known.join(", "))]
    WrongHost {
        /// Of the token.
        host: String,
        /// Those that this device goes by.
        known: Vec<String>,
    },
    /// For something else than what is asked for.
    #[error("the token is for '{scope}', not for '{wanted}'")]
    WrongScope {
        /// Of the token.
        scope: String,
        /// Of the request.
        wanted: String,
    },
    /// Not an identity.
    #[error("'sr' of the token names no identity: {0}")]
    Name(NameError),
    /// A token without `skn` needs an identity in `sr`.
    #[error("the token has no 'skn' and its 'sr' names no identity")]
    Nobody,
    /// Not in the registry.
    #[error("the token is for {0}, which is not in the registry")]
    UnknownIdentity(Identity),
    /// Not to act.
    #[error("{0} is disabled")]
    Disabled(Identity),
    /// Not a policy of this device.
    #[error("there is no shared access policy '{0}'; there are reader, operator and owner")]
    UnknownPolicy(String),
    /// Signed with another key.
    #[error("the token is not signed with a key of {0}")]
    WrongKey(String),
    /// The key itself cannot be had.
    #[error("the keys of {0} cannot be opened with this device's key")]
    NoKey(String),
}

impl TokenError {
    /// What whoever made the token does next.
    pub fn hint(&self) -> String {
        match self {
            TokenError::Expired { .. } => {
                "make a new token; if this one should still hold, compare the clocks of both".to_owned()
            }
            TokenError::WrongHost { known, .. } => format!(
                "put the name under which this device is reached into HostName of the connection string: {}",
                known.join(" or ")
            ),
            TokenError::WrongScope { .. } | TokenError::Nobody | TokenError::Name(_) => {
                "make the token for the identity that uses it: dinrail identity token ID".to_owned()
            }
            TokenError::UnknownIdentity(_) => "dinrail identity list; a new one: dinrail identity add ID".to_owned(),
            TokenError::Disabled(identity) => format!("dinrail identity enable {identity}"),
            TokenError::UnknownPolicy(_) | TokenError::Policy => "skn is one of reader, operator, owner".to_owned(),
            TokenError::WrongKey(who) if who.starts_with("the policy ") => format!(
                "the keys may have been rotated: dinrail identity connection-string --policy {}",
                who.trim_start_matches("the policy ")
            ),
            TokenError::WrongKey(_) => {
                "the keys may have been rotated, or the identity made again: dinrail identity connection-string ID"
                    .to_owned()
            }
            TokenError::NoKey(_) => "give the identity new keys: dinrail identity rotate ID".to_owned(),
            _ => {
                "a token reads SharedAccessSignature sr=…&sig=…&se=…[&skn=…]; make one with: dinrail identity token ID"
                    .to_owned()
            }
        }
    }
}

impl Token {
    /// Reads a token, as it stands in `Authorization` or in the password of a CONNECT.
    pub fn parse(text: &str) -> Result<Token, TokenError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong { bytes: text.len() });
        }
        let scheme = text.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
        let rest = scheme.and_then(|_| text.get(SCHEME.len()..)).ok_or(TokenError::NotSas)?;
        let parameters = rest.strip_prefix(' ').ok_or(TokenError::NotSas)?.trim();
        let mut found = Parameters::default();
        for (at, pair) in parameters.split('&').enumerate() {
            let (name, value) = pair.split_once('=').ok_or(TokenError::NotPair { at: at + 1 })?;
            found.take(name, value)?;
        }
        found.token()
    }

    /// Writes a token for `resource`, which is not encoded yet: `host[/devices/D[/modules/M]]`.
    pub fn make(key: &SymmetricKey, resource: &str, expiry_s: u64, policy: Option<&str>) -> String {
        let resource = utf8_percent_encode(resource, ENCODED).to_string();
        let signature = STANDARD.encode(key.sign(format!("{resource}\n{expiry_s}").as_bytes()));
        let signature = utf8_percent_encode(&signature, ENCODED);
        let mut token = format!("{SCHEME} sr={resource}&sig={signature}&se={expiry_s}");
        if let Some(policy) = policy {
            token.push_str("&skn=");
            token.extend(utf8_percent_encode(policy, ENCODED));
        }
        token
    }

    /// What it is for.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Until when it holds, in seconds since 1970.
    pub fn expiry_s(&self) -> u64 {
        self.expiry_s
    }

    /// The shared access policy whose key signed it; `None`: the key of the identity that it is for.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// Whether `key` signed it.
    pub(super) fn is_signed_with(&self, key: &SymmetricKey) -> bool {
        key.verifies(format!("{}\n{}", self.resource, self.expiry).as_bytes(), &self.signature)
    }

    /// That it holds now, and for one of the names that this device goes by.
    pub(super) fn check_time_and_host(&self, audience: &[impl AsRef<str>], now_us: i64) -> Result<(), TokenError> {
        let now_s = u64::try_from(now_us / 1_000_000).unwrap_or(0);
        if self.expiry_s.saturating_add(CLOCK_SKEW_S) < now_s {
            return Err(TokenError::Expired { ago_s: now_s - self.expiry_s });
        }
        let known: Vec<String> = audience.iter().map(|name| host_of(name.as_ref()).to_ascii_lowercase()).collect();
        if known.contains(&self.scope.host) {
            Ok(())
        } else {
            Err(TokenError::WrongHost { host: self.scope.host.clone(), known })
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("scope", &self.scope)
            .field("expiry_s", &self.expiry_s)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Scope {
    fn parse(resource: &str) -> Result<Scope, TokenError> {
        let decoded = percent_decoded(resource, "sr")?;
        let (host, path) = decoded.split_at(decoded.find('/').unwrap_or(decoded.len()));
        let path = path.trim_end_matches('/');
        let host = host_of(host).to_ascii_lowercase();
        // Neither has white space, nor a host '=': what stands there may be a signature that lost its '&', and scopes are told.
        let is_foreign = |c: char| c.is_whitespace() || c.is_control();
        let is_host = !host.is_empty() && !host.contains(|c| is_foreign(c) || c == '=');
        if !is_host || path.contains(is_foreign) {
            return Err(TokenError::Resource);
        }
        Ok(Scope { host, path: path.to_owned() })
    }

    /// Whether it is for `path` or for something that holds it: `/devices/d` holds `/devices/d/modules/m`, not `/devices/d2`.
    pub fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&*self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// What it is for where it was encoded twice; `None` where it was not.
    pub(super) fn decoded_again(&self) -> Option<Scope> {
        let path = percent_decoded(&self.path, "sr").ok().filter(|path| *path != self.path)?;
        Some(Scope { host: self.host.clone(), path })
    }

    /// The identity that it is for.
    pub fn identity(&self) -> Result<Identity, TokenError> {
        if self.path.is_empty() {
            return Err(TokenError::Nobody);
        }
        self.path.parse().map_err(TokenError::Name)
    }
}

/// A host without its port: `[::1]:443` is `[::1]`.
fn host_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            // Without brackets it is an address of its own.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

fn percent_decoded(text: &str, parameter: &'static str) -> Result<String, TokenError> {
    let bytes = text.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let is_whole = |(at, byte): (usize, &u8)| *byte != b'%' || (is_hex(at + 1) && is_hex(at + 2));
    if !bytes.iter().enumerate().all(is_whole) {
        return Err(TokenError::Encoding(parameter));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| TokenError::Encoding(parameter))?;
    Ok(decoded.into_owned())
}

#[derive(Default)]
struct Parameters<'a> {
    sr: Option<&'a str>,
    sig: Option<&'a str>,
    se: Option<&'a str>,
    skn: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    /// What is not known is not signed either, and means nothing.
    fn take(&mut self, name: &str, value: &'a str) -> Result<(), TokenError> {
        let (name, place) = match name {
            "sr" => ("sr", &mut self.sr),
            "sig" => ("sig", &mut self.sig),
            "se" => ("se", &mut self.se),
            "skn" => ("skn", &mut self.skn),
            _ => return Ok(()),
        };
        if place.replace(value).is_some() { Err(TokenError::Twice(name)) } else { Ok(()) }
    }

    fn token(self) -> Result<Token, TokenError> {
        let resource = self.sr.ok_or(TokenError::Missing("sr"))?;
        let signature = self.sig.ok_or(TokenError::Missing("sig"))?;
        let expiry = self.se.ok_or(TokenError::Missing("se"))?;
        let scope = Scope::parse(resource)?;
        let signature = STANDARD.decode(percent_decoded(signature, "sig")?).map_err(|_| TokenError::Signature)?;
        let signature = <[u8; SIGNATURE_BYTES]>::try_from(signature).map_err(|_| TokenError::Signature)?;
        let is_number = !expiry.is_empty() && expiry.bytes().all(|b| b.is_ascii_digit());
        let expiry_s = expiry.parse().ok().filter(|_| is_number).ok_or(TokenError::Expiry)?;
        let policy = self.skn.map(|skn| percent_decoded(skn, "skn")).transpose()?.filter(|skn| !skn.is_empty());
        // As with a scope: names are told, and what follows one may be a signature that lost its '&'.
        if policy.as_ref().is_some_and(|name| name.contains(|c: char| !c.is_alphanumeric() && !"-_.".contains(c))) {
            return Err(TokenError::Policy);
        }
        Ok(Token { resource: resource.to_owned(), scope, signature, expiry: expiry.to_owned(), expiry_s, policy })
    }
}
