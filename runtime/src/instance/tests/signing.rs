//! What an instance can prove, and to whom it cannot.

use std::ffi::c_void;

use super::super::host;
use super::*;
use crate::identity::{IdentityChange, KeySlot, Principal, Token};

fn table() -> &'static DrIdentity {
    // SAFETY: the name is lent for the call; the table behind it lives as long as the process.
    unsafe { (host::table().extension)(DrText::new(DR_EXTENSION_IDENTITY)).cast::<DrIdentity>().as_ref() }.unwrap()
}

fn sign(ticket: u64, text: &[u8]) -> Result<[u8; 32], DrStatus> {
    let mut signature = [0; 32];
    // SAFETY: both live for the call, and 32 bytes are there.
    match unsafe { (table().sign)(ticket, text.as_ptr(), text.len(), signature.as_mut_ptr()) } {
        DR_OK => Ok(signature),
        status => Err(status),
    }
}

unsafe extern "C" fn append(ctx: *mut c_void, text: DrText) {
    // SAFETY: the string of `token`, alive for the call, as is the text.
    unsafe { (*ctx.cast::<String>()).push_str(text.text().unwrap()) }
}

fn token(ticket: u64, host: DrText, ttl_secs: u64) -> Result<String, DrStatus> {
    let mut text = String::new();
    let sink = DrSink { ctx: (&raw mut text).cast(), write: append };
    // SAFETY: text and sink live for the call.
    match unsafe { (table().token)(ticket, host, ttl_secs, &sink) } {
        DR_OK => Ok(text),
        status => Err(status),
    }
}

#[test]
fn an_instance_signs_and_its_token_proves_who_it_is() {
    let house = House::new();
    let live = house.start(Script::default());
    let (ticket, identity) = (live.link.ticket.0, live.link.identity.clone());

    let key = house.identities.key(&identity, KeySlot::Primary).unwrap();
    assert_eq!(sign(ticket, b"reading").unwrap(), key.sign(b"reading"));
    assert_eq!(sign(ticket, b"").unwrap(), key.sign(b""));
    for host in [DrText::ABSENT, DrText::new("plant.example:8443")] {
        let token = Token::parse(&token(ticket, host, 60).unwrap()).unwrap();
        let now = crate::clock::wall_us();
        let who = house.identities.authenticate(&token, &["localhost", "plant.example"], now);
        assert_eq!(who, Ok(Principal::Identity(identity.clone())));
    }
    live.stop();
    assert_eq!(sign(ticket, b"late"), Err(DR_GONE));
    assert_eq!(token(ticket, DrText::ABSENT, 60), Err(DR_GONE));
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let house = House::new();
    let live = house.start(Script::default());
    let ticket = live.link.ticket.0;
    for ttl_secs in [0, 365 * 24 * 3600 + 1, u64::MAX] {
        assert_eq!(token(ticket, DrText::ABSENT, ttl_secs), Err(DR_INVALID));
    }
    for host in ["", "a b", "a/b", "a\nb", &"h".repeat(300)] {
        assert_eq!(token(ticket, DrText::new(host), 60), Err(DR_INVALID), "{host}");
    }
    // SAFETY: null pointers are refused before anything is read or written.
    unsafe {
        assert_eq!((table().sign)(ticket, std::ptr::null(), 1, [0; 32].as_mut_ptr()), DR_INVALID);
        assert_eq!((table().sign)(ticket, [1].as_ptr(), 1, std::ptr::null_mut()), DR_INVALID);
        assert_eq!((table().token)(ticket, DrText::ABSENT, 1, std::ptr::null()), DR_INVALID);
    }
    let disable = IdentityChange { is_enabled: Some(false), ..Default::default() };
    house.identities.update(&live.link.identity, &disable, None).unwrap();
    assert_eq!(sign(ticket, b"a"), Err(DR_DENIED));
    assert_eq!(token(ticket, DrText::ABSENT, 60), Err(DR_DENIED));
    live.stop();
}

#[test]
fn an_instance_is_bound_to_its_identity_before_its_code_runs() {
    let house = House::new();
    let (say, heard) = channel();
    let say = Mutex::new(say);
    // `create` is the first code of a module that runs.
    let create = move |ticket| lock(&say).send((ticket, sign(ticket, b"first"))).unwrap();
    let live = house.start(Script { create: Some(Box::new(create)), ..Script::default() });

    let (ticket, signed) = heard.recv().unwrap();

    assert_eq!(ticket, live.link.ticket.0);
    let key = house.identities.key(&live.link.identity, KeySlot::Primary).unwrap();
    assert_eq!(signed, Ok(key.sign(b"first")));
    live.stop();
}
