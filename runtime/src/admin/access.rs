//! Who may do what: one table of every route with the role that it needs, and the one place where it is asked.
//!
//! A route that is not in the table needs the owner. Identities of the registry come with their own tokens and have no role:
//! they may read their own twin and call methods of their own device and its modules.

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::caller::Caller;
use super::error::ApiError;
use crate::identity::Principal;
use crate::identity::Role::{self, Operator, Owner, Reader};
use crate::name::{EDGE_AGENT, Identity};

/// Every route: verb, path, the role that it needs.
pub(super) const NEEDS: &[(&str, &str, Role)] = &[
    ("GET", "/health", Reader),
    ("GET", "/openapi.json", Reader),
    ("GET", "/metrics", Reader),
    ("GET", "/losses", Reader),
    ("GET", "/deadLetters", Reader),
    ("GET", "/deadLetters/{id}", Reader),
    ("POST", "/deadLetters/resend", Operator),
    ("POST", "/deadLetters/purge", Operator),
    ("GET", "/check", Reader),
    ("GET", "/support-bundle", Operator),
    ("GET", "/modules", Reader),
    ("POST", "/modules", Operator),
    ("GET", "/modules/{name}", Reader),
    ("DELETE", "/modules/{name}", Operator),
    ("POST", "/modules/{name}/start", Operator),
    ("POST", "/modules/{name}/stop", Operator),
    ("POST", "/modules/{name}/restart", Operator),
    ("POST", "/modules/{name}/inputs/{input}", Operator),
    ("GET", "/modules/{name}/wait", Reader),
    ("GET", "/modules/{name}/acknowledged", Reader),
    ("GET", "/modules/{name}/logs", Reader),
    ("GET", "/images", Reader),
    ("POST", "/images", Operator),
    ("DELETE", "/images/{reference}", Operator),
    ("GET", "/deployment", Reader),
    ("PUT", "/deployment", Operator),
    ("POST", "/deployment/plan", Reader),
    ("POST", "/deployment/rollback", Operator),
    ("GET", "/deployment/export", Operator),
    ("GET", "/deployment/wait", Reader),
    ("GET", "/deployment/history", Reader),
    ("GET", "/deployment/history/{id}", Reader),
    ("GET", "/routes", Reader),
    ("PUT", "/routes/{name}", Operator),
    ("DELETE", "/routes/{name}", Operator),
    ("POST", "/devices/query", Reader),
    ("GET", "/devices", Reader),
    ("POST", "/devices", Owner),
    ("GET", "/devices/{device}", Reader),
    ("PUT", "/devices/{device}", Owner),
    ("DELETE", "/devices/{device}", Owner),
    ("GET", "/devices/{device}/modules", Reader),
    ("GET", "/devices/{device}/modules/{module}", Reader),
    ("PUT", "/devices/{device}/modules/{module}", Owner),
    ("DELETE", "/devices/{device}/modules/{module}", Owner),
    ("POST", "/devices/{device}/applyConfigurationContent", Operator),
    ("GET", "/statistics/devices", Reader),
    ("GET", "/statistics/service", Reader),
    ("GET", "/identities", Reader),
    ("POST", "/identities/{device}/token", Owner),
    ("POST", "/identities/{device}/rotate", Owner),
    ("GET", "/identities/{device}/connection-string", Owner),
    ("POST", "/identities/{device}/modules/{module}/token", Owner),
    ("POST", "/identities/{device}/modules/{module}/rotate", Owner),
    ("GET", "/identities/{device}/modules/{module}/connection-string", Owner),
    ("GET", "/policies/{name}/connection-string", Owner),
    ("POST", "/policies/{name}/rotate", Owner),
    ("GET", "/secrets", Owner),
    ("GET", "/secrets/{name}", Owner),
    ("PUT", "/secrets/{name}", Owner),
    ("DELETE", "/secrets/{name}", Owner),
    ("GET", "/twins/{device}", Reader),
    ("PATCH", "/twins/{device}", Operator),
    ("PUT", "/twins/{device}", Operator),
    ("GET", "/twins/{device}/modules/{module}", Reader),
    ("PATCH", "/twins/{device}/modules/{module}", Operator),
    ("PUT", "/twins/{device}/modules/{module}", Operator),
    ("GET", "/twins/{device}/history", Reader),
    ("GET", "/twins/{device}/modules/{module}/history", Reader),
    ("POST", "/twins/{device}/undo", Operator),
    ("POST", "/twins/{device}/modules/{module}/undo", Operator),
    ("POST", "/twins/{device}/methods", Operator),
    ("POST", "/twins/{device}/modules/{module}/methods", Operator),
    ("GET", "/messages", Reader),
    ("GET", "/logs", Reader),
];

/// What may be called of `$edgeAgent` below the operator, since it only reads: by anybody who may call a method on this device at all,
/// or from this role on. An identity with its own token has no role. Everything else needs the operator.
const OF_THE_AGENT: &[(&str, Option<Role>)] =
    &[("ping", None), ("GetModuleLogs", Some(Reader)), ("GetTaskStatus", Some(Reader))];

/// Methods of a module: of `$edgeAgent`'s, [`refuse_method`] has the last word.
const METHODS: &str = "/twins/{device}/modules/{module}/methods";

/// Ask without changing anything, although their verb says otherwise.
const ASKS: &[(&str, &str)] = &[("POST", "/deployment/plan"), ("POST", "/devices/query")];

/// What an identity may do with its own token, and whom it concerns.
const FOR_IDENTITIES: &[(&str, &str, Concerns)] = &[
    ("GET", "/twins/{device}", Concerns::Itself),
    ("GET", "/twins/{device}/modules/{module}", Concerns::Itself),
    ("POST", "/twins/{device}/methods", Concerns::ItsModules),
    ("POST", "/twins/{device}/modules/{module}/methods", Concerns::ItsModules),
];

#[derive(Clone, Copy, PartialEq)]
enum Concerns {
    Itself,
    /// Its device and the modules of that, of the runtime's own only `$edgeAgent`, and of that only what needs no role.
    ItsModules,
}

/// The role that a route needs. `HEAD` asks for what `GET` does.
pub(super) fn needed(verb: &str, path: &str) -> Role {
    let verb = if verb == "HEAD" { "GET" } else { verb };
    let found = NEEDS.iter().find(|(known, route, _)| *known == verb && *route == path);
    found.map_or(Owner, |(_, _, role)| *role)
}

/// True if a request of this kind changes something, so that it is recorded.
pub(super) fn changes(method: &Method, path: &str) -> bool {
    verb(method) != "GET" && !ASKS.contains(&(verb(method), path))
}

fn verb(method: &Method) -> &str {
    if method == Method::HEAD { "GET" } else { method.as_str() }
}

/// Lets a request through to its route, or says what it lacks.
pub(super) async fn authorize(request: Request, next: Next) -> Response {
    let refused = match (request.extensions().get::<Caller>(), request.extensions().get::<MatchedPath>()) {
        (Some(caller), Some(route)) => refusal(caller, request.method(), route.as_str(), request.uri().path()),
        _ => Some(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the caller is not known")),
    };
    match refused {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(caller: &Caller, method: &Method, route: &str, path: &str) -> Option<ApiError> {
    let is_of_agent =
        || route == METHODS && named(route, path).is_some_and(|named| named.module_id() == Some(EDGE_AGENT));
    let needed = if is_of_agent() { Reader } else { needed(method.as_str(), route) };
    match (caller, caller.role()) {
        (Caller::Remote { principal: Principal::Identity(identity), .. }, _) => {
            (!may(identity, method, route, path)).then(|| not_its_own(identity, method, path, needed))
        }
        (Caller::Remote { principal: Principal::Policy { scope, .. }, .. }, Some(held)) if held.may(needed) => {
            let is_within = scope.is_empty() || named(route, path).is_some_and(|named| within(scope, &named));
            (!is_within).then(|| out_of_scope(scope, method, path))
        }
        (_, Some(held)) if held.may(needed) => None,
        (_, held) => Some(lacks(held, needed, method, path)),
    }
}

/// Why this caller may not call this method, where the route alone does not tell: `$edgeAgent`'s methods do very different things.
pub(super) fn refuse_method(caller: &Caller, target: &Identity, name: &str) -> Option<ApiError> {
    if target.module_id() != Some(EDGE_AGENT) {
        return None;
    }
    // Whatever the case, as the agent reads them.
    let needed = match OF_THE_AGENT.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((_, None)) => return None,
        Some((_, Some(role))) => *role,
        None => Operator,
    };
    let held = caller.role();
    if held.is_some_and(|held| held.may(needed)) {
        return None;
    }
    let held = held.map_or("none", Role::name);
    let message = format!("the method {name} of {EDGE_AGENT} needs the role {needed}; this caller has the role {held}");
    let hint = format!("use a connection string of the policy {needed}, or ask somebody who has that role");
    Some(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message).hint(hint))
}

/// Whether an identity may do this with its own token.
fn may(identity: &Identity, method: &Method, route: &str, path: &str) -> bool {
    let found = FOR_IDENTITIES.iter().find(|(known, known_route, _)| *known == verb(method) && *known_route == route);
    let (Some((_, _, concerns)), Some(named)) = (found, named(route, path)) else { return false };
    match concerns {
        Concerns::Itself => named == *identity,
        Concerns::ItsModules => {
            let device = identity.device_id();
            // Who may restart modules and read their logs has a role: `refuse_method` sees to it.
            named.device_id() == device && (!named.is_runtime_of(device) || named.module_id() == Some(EDGE_AGENT))
        }
    }
}

/// The identity that a path of IoT Hub's is about; `None` where its route is about none, such as that of queries.
fn named(route: &str, path: &str) -> Option<Identity> {
    if !route.starts_with("/twins/{device}") && !route.starts_with("/devices/{device}") {
        return None;
    }
    let mut parts = path.strip_prefix("/twins/").or_else(|| path.strip_prefix("/devices/"))?.split('/');
    let decoded = |part: &str| percent_decode_str(part).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    let device = decoded(parts.next()?)?;
    match (parts.next(), parts.next()) {
        (Some("modules"), Some(module)) => Identity::module(&device, &decoded(module)?).ok(),
        _ => Identity::device(&device).ok(),
    }
}

fn within(scope: &str, identity: &Identity) -> bool {
    let path = identity.to_string();
    path.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn lacks(held: Option<Role>, needed: Role, method: &Method, path: &str) -> ApiError {
    let held = held.map_or("none", Role::name);
    ApiError::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        format!("{method} {path} needs the role {needed}; this caller has the role {held}"),
    )
    .hint(format!("use a connection string of the policy {needed}, or ask somebody who has that role"))
}

fn not_its_own(identity: &Identity, method: &Method, path: &str, needed: Role) -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        format!("{method} {path} needs the role {needed}; {identity} has none, with its own token"),
    )
    .hint(
        "an identity may read its own twin and call methods of its device and the modules there, of $edgeAgent only ping; for the rest use the token of a policy",
    )
}

fn out_of_scope(scope: &str, method: &Method, path: &str) -> ApiError {
    let message = format!("{method} {path} is outside of what the token is for: {scope}");
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
        .hint("make a token whose sr is the host name alone; it is for everything")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(principal: Principal) -> Caller {
        Caller::Remote { principal, from: ([192, 0, 2, 1], 5).into() }
    }

    fn policy(role: Role, scope: &str) -> Caller {
        remote(Principal::Policy { name: role.name(), role, scope: scope.into() })
    }

    fn is_let_in(caller: &Caller, method: Method, route: &str, path: &str) -> bool {
        refusal(caller, &method, route, path).is_none()
    }

    #[test]
    fn a_reader_is_refused_stop_and_told_the_role_that_it_needs() {
        let refused =
            refusal(&policy(Reader, ""), &Method::POST, "/modules/{name}/stop", "/modules/filter/stop").unwrap();
        let text = format!("{refused:?}");
        assert!(text.contains("needs the role operator; this caller has the role reader"), "{text}");
        assert!(is_let_in(&policy(Reader, ""), Method::HEAD, "/modules", "/modules"));
        assert!(is_let_in(&policy(Operator, ""), Method::POST, "/modules/{name}/stop", "/modules/filter/stop"));
    }

    #[test]
    fn every_route_has_its_role_and_every_role_its_route() {
        let known: Vec<(String, &str)> =
            NEEDS.iter().map(|(verb, path, _)| (verb.to_ascii_lowercase(), *path)).collect();
        let routes: Vec<(String, &str)> =
            super::super::routes::ROUTES.iter().map(|(verb, path)| ((*verb).to_owned(), *path)).collect();
        for route in &routes {
            assert!(known.contains(route), "say in this file which role {route:?} needs");
        }
        for (at, route) in known.iter().enumerate() {
            assert!(routes.contains(route), "{route:?} is no route any more");
            assert!(!known[..at].contains(route), "{route:?} has two roles");
        }
    }

    #[test]
    fn a_route_that_nobody_thought_of_is_the_owners() {
        assert_eq!(needed("GET", "/unheard-of"), Owner);
        assert_eq!(needed("DELETE", "/modules"), Owner);
    }

    #[test]
    fn an_identity_reads_its_own_twin_and_calls_methods_on_its_device_and_no_more() {
        let module = remote(Principal::Identity("/devices/D/modules/a".parse().unwrap()));
        let twin = "/twins/{device}/modules/{module}";
        let methods = "/twins/{device}/modules/{module}/methods";
        assert!(is_let_in(&module, Method::GET, twin, "/twins/D/modules/a"));
        assert!(!is_let_in(&module, Method::GET, twin, "/twins/D/modules/b"));
        assert!(!is_let_in(&module, Method::PATCH, twin, "/twins/D/modules/a"));
        assert!(!is_let_in(&module, Method::GET, "/twins/{device}", "/twins/D"));
        assert!(is_let_in(&module, Method::POST, methods, "/twins/D/modules/b/methods"));
        assert!(!is_let_in(&module, Method::POST, methods, "/twins/E/modules/b/methods"));
        assert!(!is_let_in(&module, Method::GET, "/health", "/health"));
    }

    #[test]
    fn below_the_operator_only_what_reads_may_be_called_of_the_agent() {
        let agent: Identity = "/devices/D/modules/$edgeAgent".parse().unwrap();
        let other: Identity = "/devices/D/modules/a".parse().unwrap();
        let module = remote(Principal::Identity(other.clone()));
        for (method, of_identity, of_reader) in [
            ("ping", true, true),
            ("PING", true, true),
            ("GetModuleLogs", false, true),
            ("GetTaskStatus", false, true),
            ("RestartModule", false, false),
            ("restartmodule", false, false),
            ("Unheard", false, false),
        ] {
            let may = |caller: &Caller| refuse_method(caller, &agent, method).is_none();
            assert_eq!((may(&module), may(&policy(Reader, ""))), (of_identity, of_reader), "{method}");
            assert!(may(&policy(Operator, "")));
            assert!(refuse_method(&module, &other, method).is_none());
        }
        let told = format!("{:?}", refuse_method(&module, &agent, "RestartModule").unwrap());
        assert!(told.contains("needs the role operator; this caller has the role none"), "{told}");
        let call = |at: &str| is_let_in(&policy(Reader, ""), Method::POST, METHODS, at);
        assert!(call("/twins/D/modules/$edgeAgent/methods") && call("/twins/D/modules/%24edgeAgent/methods"));
        assert!(!call("/twins/D/modules/a/methods"));
        let asks = |at: &str| is_let_in(&module, Method::POST, METHODS, at);
        assert!(asks("/twins/D/modules/$edgeAgent/methods") && asks("/twins/D/modules/%24edgeAgent/methods"));
        assert!(!asks("/twins/D/modules/$edgeHub/methods") && !asks("/twins/E/modules/$edgeAgent/methods"));
    }

    #[test]
    fn a_policys_token_for_a_device_called_query_is_good_for_no_queries() {
        let part = policy(Owner, "/devices/query");
        assert!(is_let_in(&part, Method::GET, "/devices/{device}", "/devices/query"));
        assert!(!is_let_in(&part, Method::POST, "/devices/query", "/devices/query"));
    }

    #[test]
    fn a_policys_token_for_a_part_is_good_for_that_part_alone() {
        let part = policy(Owner, "/devices/D");
        assert!(is_let_in(&part, Method::PATCH, "/twins/{device}", "/twins/D"));
        assert!(is_let_in(&part, Method::PATCH, "/twins/{device}/modules/{module}", "/twins/D/modules/%24edgeAgent"));
        assert!(!is_let_in(&part, Method::PATCH, "/twins/{device}", "/twins/D2"));
        assert!(!is_let_in(&part, Method::GET, "/modules", "/modules"));
    }

    #[test]
    fn what_only_asks_is_no_change() {
        assert!(!changes(&Method::GET, "/modules"));
        assert!(!changes(&Method::POST, "/deployment/plan"));
        assert!(changes(&Method::PUT, "/deployment"));
    }
}
