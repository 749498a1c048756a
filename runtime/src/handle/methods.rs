//! Direct methods, called from outside.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{Answer, Handle, Refusal};
use crate::instance::calls::{CallError, MethodAnswer};
use crate::instance::link::MethodRequest;

impl Handle {
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
}
