//! Direct methods, as they are called from outside.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::clock;
use crate::control::switchboard::Standing;
use crate::method::{Call, CallError, MethodAnswer};
use crate::name::Identity;

/// A direct method to be called.
#[derive(Debug, Clone)]
pub struct MethodCall {
    /// Method.
    pub name: String,
    /// JSON text, or empty.
    pub payload: String,
    /// How long the answer is waited for, once the method was handed over.
    pub response_timeout: Duration,
    /// How long an instance that does not run is waited for.
    pub connect_timeout: Duration,
}

impl Handle {
    /// Calls a direct method of an identity of this device and waits for its answer, whatever its status is. `by` is what the
    /// method is told of the caller.
    pub async fn call_method(&self, id: &Identity, call: MethodCall, by: &str) -> Answer<MethodAnswer> {
        let patience_until = clock::now() + call.connect_timeout;
        let mut changes = self.changes();
        loop {
            self.connected(id, &call.name, patience_until).await?;
            changes.mark_unchanged();
            let MethodCall { name, payload, response_timeout, .. } = call.clone();
            match self.invoke(id, name, payload, response_timeout, by).await? {
                Ok(answer) => return Ok(answer),
                // It ended before it took the call up: nothing has been done, so that its successor may do it.
                Err(CallError::NotConnected(_)) if clock::now() < patience_until => {
                    let left = patience_until.saturating_duration_since(clock::now());
                    let _ = tokio::time::timeout(left, changes.changed()).await;
                }
                Err(error) => return Err(refused(id, &call.name, error)),
            }
        }
    }

    /// Calls a direct method at once; `by` is what it is told of the caller.
    pub async fn invoke(
        &self,
        id: &Identity,
        name: String,
        payload: String,
        timeout: Duration,
        by: &str,
    ) -> Answer<Result<MethodAnswer, CallError>> {
        let (done, wait) = oneshot::channel();
        // The client may have gone; the method is called all the same.
        let hear = Box::new(move |end| drop(done.send(end)));
        let target = id.to_string();
        let call = Call { caller: by.to_owned(), target: target.clone(), name, payload, timeout };
        if let Some(request) = self.services.calls.begin(call, hear) {
            self.switchboard.call(&target, request);
        }
        wait.await.map_err(|_| Refusal::ending())
    }

    /// Waits until somebody answers for the identity.
    async fn connected(&self, id: &Identity, method: &str, until: Instant) -> Answer<()> {
        let mut changes = self.changes();
        let mut place = None;
        loop {
            match self.switchboard.standing(id) {
                Standing::Ready => return Ok(()),
                Standing::Never(error) => {
                    self.not_begun(error.clone());
                    return Err(refused(id, method, error));
                }
                Standing::NotYet => {}
            }
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                self.not_begun(CallError::NotConnected(String::new()));
                return Err(self.nobody(id).await);
            }
            if place.is_none() {
                let Some(taken) = self.switchboard.park() else {
                    let message = "too many callers wait for modules that do not run yet";
                    self.not_begun(CallError::Busy(message.to_owned()));
                    return Err(Refusal::new(RefusalKind::Busy, message, "dinrail list shows them; call again later"));
                };
                place = Some(taken);
            }
            if let Ok(Err(_)) = tokio::time::timeout(left, changes.changed()).await {
                return Err(Refusal::ending());
            }
        }
    }

    /// Counts a call that does not begin.
    fn not_begun(&self, error: CallError) {
        self.services.calls.refuse(error, Box::new(drop));
    }

    /// Why nobody answers for an identity, and what to do about it.
    async fn nobody(&self, id: &Identity) -> Refusal {
        let Some(module) = id.module_id().filter(|_| id.device_id() == self.device_id()) else {
            return Refusal::new(
                RefusalKind::NotConnected,
                format!("{id} is in the registry but not connected, so there is nobody to answer"),
                format!("dinrail identity show {id} says when it was last there; --connect-timeout waits for it"),
            );
        };
        match self.module(module).await {
            Ok(detail) => {
                let status = detail.module.status.as_str();
                let message = format!("{module} is {status}, so there is nobody to answer: {}", detail.reason);
                let hint = detail.next_step.unwrap_or_else(|| format!("dinrail wait {module}, then call again"));
                Refusal::new(RefusalKind::NotConnected, message, hint)
            }
            Err(_) => Refusal::new(
                RefusalKind::NotConnected,
                format!("{module} has an identity but no instance, so there is nobody to answer"),
                format!("dinrail add {module} IMAGE, or deploy a manifest that names it"),
            ),
        }
    }
}

fn refused(id: &Identity, method: &str, error: CallError) -> Refusal {
    let who = id.module_id().map_or_else(|| id.to_string(), str::to_owned);
    let show = format!("dinrail show {who}");
    let (kind, message, hint) = match error {
        CallError::Invalid(why) => (RefusalKind::Invalid, why, "dinrail method --help shows examples".to_owned()),
        CallError::TooLarge(why) => (RefusalKind::TooLarge, why, "send it as messages, or in parts".to_owned()),
        CallError::NoTarget(why) => (RefusalKind::NotFound, why, "dinrail list shows the modules".to_owned()),
        CallError::NotConnected(why) if id.module_id().is_none() => {
            (RefusalKind::NotConnected, why, "call $edgeAgent, or a module: dinrail list shows them".to_owned())
        }
        CallError::NotConnected(why) => {
            (RefusalKind::NotConnected, why, "dinrail list shows what runs; --connect-timeout waits for it".to_owned())
        }
        CallError::NoMethod(why) => (RefusalKind::NoMethod, why, format!("{show} lists its methods")),
        CallError::Busy(why) => (RefusalKind::Busy, why, format!("call again later; {show} says what it is doing")),
        CallError::Timeout { limit, is_begun: true } => (
            RefusalKind::Timeout,
            format!("{who} did not answer {method} within {} s", limit.as_secs_f64()),
            format!("{show} says what it is doing; what it still does about the call, it does for nobody"),
        ),
        CallError::Timeout { limit, is_begun: false } => (
            RefusalKind::Timeout,
            format!("{who} did not answer {method} within {} s: it has not come to it", limit.as_secs_f64()),
            format!("{show} says what it is doing; the call is not made any more"),
        ),
        CallError::Failed(why) => {
            (RefusalKind::Failed, format!("{method} of {who} failed: {why}"), format!("{show} says how it is"))
        }
        CallError::BadAnswer(why) => (
            RefusalKind::Failed,
            format!("{method} of {who} gave no usable answer: {why}"),
            "the module has to be repaired: an answer is JSON of at most 131072 bytes, or nothing".to_owned(),
        ),
    };
    Refusal::new(kind, message, hint)
}
