//! Direct methods, as the operator calls them.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::instance::calls::{CallError, MethodAnswer};
use crate::instance::link::MethodRequest;
use crate::name::Identity;
use crate::view::{ModuleDetail, Status};

/// Largest payload of a call and of its answer: that of IoT Hub.
pub const MAX_PAYLOAD_BYTES: usize = 128 * 1024;
/// Longest name of a method.
const MAX_NAME_BYTES: usize = 128;

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
    /// Calls a direct method of a module of this device and waits for its answer, whatever its status is.
    pub async fn call_method(&self, id: &Identity, call: MethodCall) -> Answer<MethodAnswer> {
        check(&call)?;
        let Some(module) = id.module_id().filter(|_| id.device_id() == self.device_id()) else {
            let hint = format!("name a module of this device: /devices/{}/modules/MODULE", self.device_id());
            return Err(Refusal::new(RefusalKind::NotFound, format!("{id} answers no methods here"), hint));
        };
        self.connected(module, call.connect_timeout).await?;
        let MethodCall { name, payload, response_timeout, .. } = call.clone();
        let end = self.invoke(module, &name, payload, response_timeout).await?;
        let answer = end.map_err(|error| refused(module, &name, &error))?;
        if answer.payload.len() > MAX_PAYLOAD_BYTES {
            let message = format!(
                "{module} answered {} with {} bytes, more than {MAX_PAYLOAD_BYTES}",
                call.name,
                answer.payload.len()
            );
            return Err(Refusal::new(RefusalKind::Failed, message, "ask it for less"));
        }
        Ok(answer)
    }

    /// Calls a direct method of the instance `name`, for the operator; `payload` is JSON or empty.
    pub async fn invoke(
        &self,
        name: &str,
        method: &str,
        payload: String,
        timeout: Duration,
    ) -> Answer<Result<MethodAnswer, CallError>> {
        let (done, wait) = oneshot::channel();
        // The client may have gone; the method is called all the same.
        let hear = Box::new(move |end| drop(done.send(end)));
        let reply = self.services.calls.begin(timeout, hear);
        let request = MethodRequest { name: method.to_owned(), payload, caller: String::new(), timeout, reply };
        let target = format!("/devices/{}/modules/{name}", self.device_id());
        (self.services.call_method)(&target, request);
        wait.await.map_err(|_| Refusal::ending())
    }

    /// Waits until the module runs.
    async fn connected(&self, module: &str, patience: Duration) -> Answer<()> {
        let mut changes = self.changes();
        let detail = self.module(module).await?;
        if can_answer(&detail) {
            return Ok(());
        }
        let wait = async {
            while changes.changed().await.is_ok() {
                match self.module(module).await {
                    Ok(detail) if !can_answer(&detail) => {}
                    other => return other.map(drop),
                }
            }
            Err(Refusal::ending())
        };
        if !patience.is_zero()
            && let Ok(end) = tokio::time::timeout(patience, wait).await
        {
            return end;
        }
        let status = detail.module.status.as_str();
        let message = format!("{module} is {status}, so there is nobody to answer: {}", detail.reason);
        let hint = detail.next_step.unwrap_or_else(|| format!("dinrail wait {module}, then call again"));
        Err(Refusal::new(RefusalKind::NotFound, message, hint))
    }
}

/// Checks a call against the limits.
fn check(call: &MethodCall) -> Answer<()> {
    let name = &call.name;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let message = format!("'{}' is not the name of a method", name.escape_debug());
        return Err(Refusal::new(RefusalKind::Invalid, message, format!("a name has 1 to {MAX_NAME_BYTES} bytes")));
    }
    if call.payload.len() > MAX_PAYLOAD_BYTES {
        let message = format!("the payload has {} bytes; a method takes {MAX_PAYLOAD_BYTES}", call.payload.len());
        return Err(Refusal::new(RefusalKind::TooLarge, message, "send it as messages, or in parts"));
    }
    Ok(())
}

fn can_answer(detail: &ModuleDetail) -> bool {
    matches!(detail.module.status, Status::Running | Status::Unhealthy)
}

fn refused(module: &str, method: &str, error: &CallError) -> Refusal {
    match error {
        CallError::NotFound(why) => {
            Refusal::new(RefusalKind::NotFound, why.as_str(), format!("dinrail show {module} lists its methods"))
        }
        CallError::Timeout(limit) => Refusal::new(
            RefusalKind::Timeout,
            format!("{module} did not answer {method} within {} s", limit.as_secs()),
            format!(
                "dinrail show {module} says what it is doing; what it still does about the call, it does for nobody"
            ),
        ),
        CallError::Failed(why) => Refusal::new(
            RefusalKind::Failed,
            format!("{method} of {module} failed: {why}"),
            format!("dinrail show {module} says how it is"),
        ),
    }
}
