//! The gate of the way in from other machines: a shared access signature in `Authorization`, checked with each request.
//!
//! Guarantee: neither an answer nor a log line holds anything of a token but what it says it is for. A client with the wrong key
//! that asks again and again is told to wait, and not written down each time; one with the right key is never held up by it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::seats::network;
use super::watched::watched;
use crate::clock;
use crate::handle::{AccessFigures, Unproven};
use crate::identity::{Principal, TokenError};
use crate::name::Identity;

/// `DEVICE/MODULE`: who a module of IoT Edge says that it is, beside its token.
const MODULE_ID: &str = "x-ms-edge-moduleid";
/// Wrong tokens of one address at once that are answered and written down one by one.
const BURST: u32 = 20;
/// After which it may try again so often.
const EVERY: Duration = Duration::from_secs(1);
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 1024;

/// Says who a token is, for a device that goes by these names.
pub(super) type Authenticate = Box<dyn Fn(&str, &[String]) -> Result<Principal, TokenError> + Send + Sync>;

/// See the module's documentation.
pub(super) struct Gate {
    authenticate: Authenticate,
    names: Vec<String>,
    failures: Mutex<HashMap<IpAddr, Failures>>,
    figures: Arc<AccessFigures>,
}

struct Failures {
    /// As many as fit into [`BURST`] before it counts as too often.
    count: u32,
    since: Instant,
}

/// Who is not let in.
pub(super) struct Stranger {
    /// The answer.
    pub(super) answer: Box<Response>,
    /// Whether this is to be written down, or was too often.
    pub(super) is_told: bool,
}

impl Gate {
    pub(super) fn new(authenticate: Authenticate, names: Vec<String>, figures: Arc<AccessFigures>) -> Gate {
        Gate { authenticate, names, failures: Mutex::default(), figures }
    }

    /// Who asks. `reached_at`: the address of this device by which the client came.
    pub(super) fn admit(
        &self,
        headers: &HeaderMap,
        from: SocketAddr,
        reached_at: IpAddr,
    ) -> Result<Principal, Stranger> {
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::to_str);
        let (why, code, message, hint) = match given {
            None => (
                Unproven::Missing,
                "unauthorized",
                "the request has no Authorization header".to_owned(),
                "send a shared access signature: dinrail identity token ID".to_owned(),
            ),
            Some(Err(_)) => (
                Unproven::Malformed,
                "unauthorized",
                "the Authorization header is not text".to_owned(),
                "it reads SharedAccessSignature sr=…&sig=…&se=…[&skn=…]".to_owned(),
            ),
            Some(Ok(text)) => match (self.authenticate)(text, &self.audience(reached_at)) {
                Ok(principal) => {
                    return self.check_named(headers, &principal).map(|()| principal);
                }
                Err(error) => {
                    let code =
                        if matches!(error, TokenError::Expired { .. }) { "tokenExpired" } else { "unauthorized" };
                    (Unproven::from(&error), code, error.to_string(), error.hint())
                }
            },
        };
        self.figures.refuse_token(why);
        let Some(wait) = self.too_often(network(from.ip()), clock::now()) else {
            tracing::warn!(from = %from.ip(), "a client of the management API was not let in: {message}");
            let mut answer = ApiError::new(StatusCode::UNAUTHORIZED, code, message).hint(hint).into_response();
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("SharedAccessSignature"));
            return Err(Stranger { answer: Box::new(answer), is_told: true });
        };
        let told = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "tooManyFailures", message);
        let mut answer = told.hint(format!("{hint}; and wait {wait} s between attempts")).into_response();
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
        Err(Stranger { answer: Box::new(answer), is_told: false })
    }

    /// The answer to a request with this token, which as a live view ends once the token has expired or its key was replaced.
    pub(super) fn watch(self: &Arc<Self>, answer: Response, token: HeaderValue, reached_at: IpAddr) -> Response {
        let gate = self.clone();
        let holds = move |text: &str| (gate.authenticate)(text, &gate.audience(reached_at)).is_ok();
        watched(answer, move || token.to_str().is_ok_and(&holds))
    }

    /// Refuses an identity that says in [`MODULE_ID`] that it is another one than its token is of. A policy is nobody in particular.
    fn check_named(&self, headers: &HeaderMap, principal: &Principal) -> Result<(), Stranger> {
        for value in headers.get_all(MODULE_ID) {
            let parts = value.to_str().ok().and_then(|text| text.split_once('/'));
            let Some(named) = parts.and_then(|(device, module)| Identity::module(device, module).ok()) else {
                let refused = ApiError::invalid("the header x-ms-edge-moduleId is not DEVICE/MODULE");
                let refused =
                    refused.hint("give device id and module id with a slash between, or leave the header out");
                return Err(Stranger { answer: Box::new(refused.into_response()), is_told: false });
            };
            let Principal::Identity(identity) = principal else { continue };
            if *identity != named {
                self.figures.refuse_token(Unproven::Scope);
                let message = format!("x-ms-edge-moduleId names {named}, but the token is of {identity}");
                let refused = ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
                let hint = "send the token of the module that asks, or leave the header out";
                let mut answer = refused.hint(hint).into_response();
                answer
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("SharedAccessSignature"));
                return Err(Stranger { answer: Box::new(answer), is_told: true });
            }
        }
        Ok(())
    }

    /// The names of the device, and the address by which this client reached it.
    fn audience(&self, reached_at: IpAddr) -> Vec<String> {
        let address = reached_at.to_canonical();
        let bracketed = if address.is_ipv6() { Some(format!("[{address}]")) } else { None };
        self.names.iter().cloned().chain([address.to_string()]).chain(bracketed).collect()
    }

    /// Seconds to wait, where this address has failed too often.
    fn too_often(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let worn_off = |one: &Failures| {
            let gone = now.saturating_duration_since(one.since).as_secs() / EVERY.as_secs();
            one.count.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX))
        };
        if all.len() >= MAX_ADDRESSES && !all.contains_key(&address) {
            all.retain(|_, one| worn_off(one) > 0);
            if all.len() >= MAX_ADDRESSES {
                // So many strangers at once are one crowd.
                return Some(EVERY.as_secs());
            }
        }
        let one = all.entry(address).or_insert(Failures { count: 0, since: now });
        let count = worn_off(one);
        if count < one.count {
            *one = Failures { count, since: now };
        }
        if one.count >= BURST {
            return Some(EVERY.as_secs());
        }
        one.count += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(Box::new(|_, _| Err(TokenError::NotSas)), vec!["localhost".into()], Arc::default())
    }

    #[test]
    fn too_many_wrong_tokens_are_told_to_wait_and_others_are_not_concerned() {
        let gate = gate();
        let from: SocketAddr = ([192, 0, 2, 1], 4711).into();
        let here = from.ip();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer secret-thing".parse().unwrap());
        for _ in 0..BURST {
            let stranger = gate.admit(&headers, from, here).unwrap_err();
            assert_eq!(stranger.answer.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(stranger.answer.headers()[header::WWW_AUTHENTICATE], "SharedAccessSignature");
            assert!(stranger.is_told);
        }
        let stranger = gate.admit(&headers, from, here).unwrap_err();
        assert_eq!(stranger.answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(stranger.answer.headers()[header::RETRY_AFTER], "1");
        assert!(!stranger.is_told);
        assert!(gate.admit(&headers, ([192, 0, 2, 2], 1).into(), here).unwrap_err().is_told);
        assert_eq!(gate.figures.refused_tokens(), u64::from(BURST) + 2);
    }

    #[test]
    fn a_module_that_says_it_is_another_one_than_its_token_is_of_is_not_let_in() {
        let ask = |principal: Principal, named: Option<&str>| {
            let gate = Gate::new(Box::new(move |_, _| Ok(principal.clone())), vec!["localhost".into()], Arc::default());
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, "SharedAccessSignature x".parse().unwrap());
            named.map(|named| headers.insert("x-ms-edge-moduleId", named.parse().unwrap()));
            let here: IpAddr = [192, 0, 2, 1].into();
            gate.admit(&headers, (here, 4711).into(), here).map_or_else(|no| no.answer.status().as_u16(), |_| 200)
        };
        let module = || Principal::Identity("/devices/D/modules/a".parse().unwrap());
        let device = Principal::Identity("/devices/D".parse().unwrap());
        assert_eq!((ask(module(), None), ask(module(), Some("D/a"))), (200, 200));
        for named in ["D/b", "E/a", "D/A"] {
            assert_eq!(ask(module(), Some(named)), 401, "{named}");
        }
        assert_eq!(ask(device, Some("D/a")), 401);
        for named in ["", "D", "D/", "/a", "D/a/b", "D/a b"] {
            assert_eq!(ask(module(), Some(named)), 400, "{named}");
        }
    }

    #[test]
    fn failures_wear_off_and_are_not_kept_for_ever() {
        let gate = gate();
        let now = clock::now();
        let address: IpAddr = [192, 0, 2, 1].into();
        for _ in 0..BURST {
            assert_eq!(gate.too_often(address, now), None);
        }
        assert!(gate.too_often(address, now).is_some());
        assert_eq!(gate.too_often(address, now + EVERY), None);
        assert!(gate.too_often(address, now + EVERY).is_some());
        for n in 0..3000u32 {
            gate.too_often(IpAddr::V4(n.into()), now);
        }
        assert!(gate.failures.lock().unwrap().len() <= MAX_ADDRESSES);
    }

    #[test]
    fn the_address_by_which_it_is_reached_is_one_of_its_names() {
        assert_eq!(gate().audience("::1".parse().unwrap()), ["localhost", "::1", "[::1]"]);
        assert_eq!(gate().audience("::ffff:192.0.2.9".parse().unwrap()), ["localhost", "192.0.2.9"]);
    }
}
