//! Routes that answer once something is so: a module's status, its acknowledgement of a twin, the end of a deployment.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::error::{ApiError, refusal};
use super::request::Params;
use super::{ModuleAnswer, deployment};
use crate::clock;
use crate::handle::{Handle, Refusal, RefusalKind};
use crate::name::Identity;
use crate::view::{DeploymentView, ModuleDetail, Status};

/// A state that follows from the passing of time changes nothing: it is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a module reported about a version of its desired properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Acknowledgement {
    /// `$version` that it is about.
    pub version: u64,
    /// True if the module took it on.
    pub ok: bool,
    /// Why not.
    #[serde(default)]
    pub error: Option<String>,
}

/// Answers once a module has a status.
///
/// A module that does not exist yet may still come.
#[utoipa::path(
    get, path = "/modules/{name}/wait", tag = "modules",
    params(
        ("for" = Option<Status>, Query, description = "The status; `running` unless told"),
        ("timeoutMs" = Option<u64>, Query, description = "Longest wait, 30000 unless told, an hour at most")
    ),
    responses((status = 200, body = ModuleDetail), (status = 409))
)]
pub(super) async fn status(State(handle): State<Handle>, Path(name): Path<String>, params: Params) -> ModuleAnswer {
    let wanted = wanted_status(params.text("for").unwrap_or("running"))?;
    let mut wait = Wait::new(&handle, params.timeout()?);
    loop {
        let not_yet = match handle.module(&name).await {
            Ok(detail) if detail.module.status == wanted => return Ok(Json(detail)),
            Ok(detail) => not_so_yet(&detail, wanted),
            Err(missing) if missing.kind == RefusalKind::NotFound => missing,
            Err(refused) => return Err(refused.into()),
        };
        wait.for_change(not_yet).await?;
    }
}

/// Answers once a module took on, or refused, its desired properties.
///
/// Answers at once for a module that nothing is running of.
#[utoipa::path(
    get, path = "/modules/{name}/acknowledged", tag = "modules",
    params(
        ("version" = u64, Query, description = "`$version` of the desired properties"),
        ("timeoutMs" = Option<u64>, Query, description = "Longest wait, 30000 unless told, an hour at most")
    ),
    responses((status = 200, body = Acknowledgement), (status = 409))
)]
pub(super) async fn acknowledged(
    State(handle): State<Handle>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Acknowledgement>, ApiError> {
    let version = params.number("version")?.ok_or_else(|| ApiError::invalid("version=N is missing"))?;
    let id = Identity::module(handle.device_id(), &name)?;
    let mut wait = Wait::new(&handle, params.timeout()?);
    loop {
        let twin = handle.twin(&id).await?;
        if let Some(found) = acknowledgement(&twin).filter(|found| found.version >= version) {
            return Ok(Json(found));
        }
        let detail = handle.module(&name).await?;
        if !matches!(detail.module.status, Status::Running | Status::Unhealthy | Status::Starting) {
            return Err(nobody_runs(&detail, version).into());
        }
        wait.for_change(silent(&detail, version)).await?;
    }
}

/// Answers once a deployment was found good or not.
///
/// What took its place by itself is done then, too.
#[utoipa::path(
    get, path = "/deployment/wait", tag = "deployment",
    params(
        ("id" = Option<i64>, Query, description = "Its number; the one in force unless told"),
        ("timeoutMs" = Option<u64>, Query, description = "Longest wait, 30000 unless told, an hour at most")
    ),
    responses((status = 200, body = DeploymentView), (status = 404), (status = 409))
)]
pub(super) async fn deployment(State(handle): State<Handle>, params: Params) -> Result<Json<DeploymentView>, ApiError> {
    let id = params.number("id")?.and_then(|id| i64::try_from(id).ok());
    let mut wait = Wait::new(&handle, params.timeout()?);
    loop {
        let Some(in_force) = handle.deployment().await? else { return Err(deployment::none_in_force()) };
        let found = match id {
            Some(id) if id != in_force.id => handle.deployment_of(id).await?,
            _ => in_force.clone(),
        };
        let is_taking_back = in_force.rolled_back.as_ref().is_some_and(|failed| failed.id == found.id);
        let (open, what) = match found.status.as_str() {
            "applying" => (true, "is being applied"),
            "rolledBack" => (is_taking_back && in_force.status == "applying", "is being rolled back"),
            _ => (false, ""),
        };
        if !open {
            return Ok(Json(found));
        }
        let not_yet = refusal(RefusalKind::Timeout, format!("deployment {} {what}: {}", found.id, in_force.reason));
        if let Err(late) = wait.for_change(not_yet).await {
            // That it failed is known, even if what follows from it takes its time.
            return if found.status == "applying" { Err(late.into()) } else { Ok(Json(found)) };
        }
    }
}

/// Paces looks at something that is not yet so.
struct Wait {
    changes: watch::Receiver<u64>,
    deadline: Instant,
}

impl Wait {
    /// Made before the first look: what changes during a look leads to another.
    fn new(handle: &Handle, limit: Duration) -> Wait {
        let mut changes = handle.changes();
        changes.mark_unchanged();
        Wait { changes, deadline: Instant::from_std(clock::now() + limit) }
    }

    /// Returns when it is time for another look. Errors: `not_yet` when time is up.
    async fn for_change(&mut self, not_yet: Refusal) -> Result<(), Refusal> {
        tokio::select! {
            biased;
            () = sleep_until(self.deadline) => Err(not_yet),
            changed = self.changes.changed() => {
                changed.map_err(|_| refusal(RefusalKind::Conflict, "the runtime is ending"))
            }
            () = sleep(LOOK_AGAIN) => Ok(()),
        }
    }
}

fn wanted_status(text: &str) -> Result<Status, ApiError> {
    serde_json::from_value(Value::from(text)).map_err(|_| {
        ApiError::invalid(format!("'{text}' is no status"))
            .hint("one of waiting, starting, running, unhealthy, backoff, stopping, stopped, failed, quarantined")
    })
}

fn not_so_yet(detail: &ModuleDetail, wanted: Status) -> Refusal {
    let (name, status) = (&detail.module.name, detail.module.status.as_str());
    let message = format!("{name} is {status}, not {}: {}", wanted.as_str(), detail.reason);
    Refusal { hint: detail.next_step.clone(), ..refusal(RefusalKind::Timeout, message) }
}

fn silent(detail: &ModuleDetail, version: u64) -> Refusal {
    let message = format!("{} has not answered to version {version}", detail.module.name);
    let hint = detail.next_step.clone().unwrap_or_else(|| "it may be busy, or made without the module kit".into());
    Refusal { hint: Some(hint), ..refusal(RefusalKind::Timeout, message) }
}

fn nobody_runs(detail: &ModuleDetail, version: u64) -> Refusal {
    let (name, status) = (&detail.module.name, detail.module.status.as_str());
    let message = format!("version {version} is stored, but {name} is {status} and will see it when it starts");
    let hint = detail.next_step.clone().unwrap_or_else(|| format!("dinrail start {name}"));
    Refusal { hint: Some(hint), ..refusal(RefusalKind::Conflict, message) }
}

/// `properties.reported.acknowledged` of a root document.
fn acknowledgement(twin: &Value) -> Option<Acknowledgement> {
    serde_json::from_value(twin.pointer("/properties/reported/acknowledged")?.clone()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn acknowledgement_is_read_from_the_reported_properties() {
        let twin = json!({"properties": {"reported": {"acknowledged": {"version": 4, "ok": false, "error": "limit"}}}});
        let expected = Acknowledgement { version: 4, ok: false, error: Some("limit".into()) };
        assert_eq!(acknowledgement(&twin), Some(expected));
        assert_eq!(acknowledgement(&json!({"properties": {"reported": {}}})), None);
    }

    #[test]
    fn every_status_can_be_waited_for_and_nothing_else() {
        assert_eq!(wanted_status("backoff").unwrap(), Status::Backoff);
        assert!(wanted_status("Running").is_err());
    }
}
