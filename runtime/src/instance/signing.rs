//! An instance proves who it is: the runtime signs with the key of its identity, which module code never sees.

use dinrail_plugin::abi::{DR_DENIED, DR_INVALID, DR_OK, DrIdentity, DrSink, DrStatus, DrText};

use super::host::with_link;
use super::link::Link;
use crate::clock;
use crate::identity::KeySlot;

/// Longest life of a token that a module asks for.
const MAX_TTL_SECS: u64 = 365 * 24 * 3600;
/// The name by which modules reach their own device.
const OWN_HOST: &str = "localhost";
/// Longest name of a host. Source: RFC 1035, and a port.
const MAX_HOST_BYTES: usize = 253 + 6;

/// What modules find as `dinrail.identity/1`.
pub static TABLE: DrIdentity = DrIdentity { size: size_of::<DrIdentity>() as u32, flags: 0, sign, token };

unsafe extern "C" fn sign(ticket: u64, bytes: *const u8, length: usize, signature: *mut u8) -> DrStatus {
    with_link(ticket, |link| {
        if signature.is_null() || (bytes.is_null() && length > 0) {
            return DR_INVALID;
        }
        // SAFETY: so many bytes are lent for the call, by contract.
        let bytes = unsafe { DrText { ptr: bytes, len: length }.bytes() };
        let Some(signed) = signed(link, bytes) else { return DR_DENIED };
        // SAFETY: not null, and 32 bytes are the module's to write by contract.
        unsafe { signature.cast::<[u8; 32]>().write_unaligned(signed) };
        DR_OK
    })
}

unsafe extern "C" fn token(ticket: u64, host: DrText, ttl_secs: u64, token: *const DrSink) -> DrStatus {
    with_link(ticket, |link| {
        // SAFETY: text and sink are lent for the call, by contract.
        let (host, token) = unsafe { (if host.ptr.is_null() { Some(OWN_HOST) } else { host.text() }, token.as_ref()) };
        let is_host = |host: &&str| {
            let is_of_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
            (1..=MAX_HOST_BYTES).contains(&host.len()) && host.chars().all(is_of_host)
        };
        let (Some(host), Some(token)) = (host.filter(is_host), token) else { return DR_INVALID };
        if !(1..=MAX_TTL_SECS).contains(&ttl_secs) {
            return DR_INVALID;
        }
        let expiry_s = u64::try_from(clock::wall_us() / 1_000_000).unwrap_or(0) + ttl_secs;
        let identities = &link.services.identities;
        if identities.check_enabled(&link.identity).is_err() {
            return DR_DENIED;
        }
        let Ok(text) = identities.token(&link.identity, host, expiry_s) else { return DR_DENIED };
        // SAFETY: the sink is lent for the call, by contract.
        unsafe { (token.write)(token.ctx, DrText::new(&text)) };
        DR_OK
    })
}

fn signed(link: &Link, bytes: &[u8]) -> Option<[u8; 32]> {
    let identities = &link.services.identities;
    identities.check_enabled(&link.identity).ok()?;
    Some(identities.key(&link.identity, KeySlot::Primary).ok()?.sign(bytes))
}
