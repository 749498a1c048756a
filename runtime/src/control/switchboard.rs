//! The switchboard: brings a direct method call to whoever answers for an identity, without the loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Directory;
use super::edge_agent::Agent;
use crate::identity::Identities;
use crate::instance::link::{Control as Tell, Link};
use crate::method::{CallError, MethodRequest};
use crate::name::{EDGE_AGENT, EDGE_HUB, Identity};
use crate::spelling::nearest;

/// Most callers that wait for instances which do not run yet.
const MAX_PARKED: usize = 256;

/// See the module's documentation.
pub struct Switchboard {
    directory: Arc<Directory>,
    identities: Identities,
    agent: Agent,
    parked: AtomicUsize,
}

/// Whether a call would find somebody now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It would.
    Ready,
    /// Somebody may come.
    NotYet,
    /// Nobody will; says why.
    Never(CallError),
}

/// A caller that waits; leaves its place when dropped.
pub struct Parked<'a>(&'a AtomicUsize);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Switchboard {
    pub(super) fn new(directory: Arc<Directory>, identities: Identities, agent: Agent) -> Switchboard {
        Switchboard { directory, identities, agent, parked: AtomicUsize::new(0) }
    }

    /// Delivers a call, or answers it with the reason why not. `[any thread, never blocks]`
    pub fn call(&self, target: &str, request: MethodRequest) {
        let identity = match Identity::parse_on(self.identities.device_id(), target) {
            Ok(identity) => identity,
            Err(error) => return request.reply.give(Err(CallError::NoTarget(error.to_string()))),
        };
        if identity.device_id() == self.identities.device_id() && identity.module_id() == Some(EDGE_AGENT) {
            return self.agent.call(request);
        }
        match self.link(&identity) {
            Some(link) => drop(link.tell(Tell::Method(request))),
            None => {
                let error = match self.standing(&identity) {
                    Standing::Never(error) => error,
                    Standing::Ready | Standing::NotYet => {
                        CallError::NotConnected(format!("{identity} is not connected, so there is nobody to answer"))
                    }
                };
                request.reply.give(Err(error));
            }
        }
    }

    /// Whether a call of `identity` would find somebody. `[any thread, never blocks]`
    pub fn standing(&self, identity: &Identity) -> Standing {
        if identity.device_id() == self.identities.device_id() {
            let nobody = |why| Standing::Never(CallError::NotConnected(format!("{identity} {why}")));
            match identity.module_id() {
                None => return nobody("is the identity of the device itself: nothing here serves methods for it"),
                Some(EDGE_HUB) => return nobody("answers no methods"),
                Some(EDGE_AGENT) => return Standing::Ready,
                Some(_) => {}
            }
        }
        match self.link(identity) {
            Some(link) if link.is_started.load(Ordering::Acquire) => Standing::Ready,
            Some(_) => Standing::NotYet,
            // Its program may run elsewhere, and come.
            None if self.identities.get(identity).is_some() => Standing::NotYet,
            None => Standing::Never(self.no_target(identity)),
        }
    }

    /// A place to wait in; `None` where too many wait.
    pub fn park(&self) -> Option<Parked<'_>> {
        let place = Parked(&self.parked);
        (self.parked.fetch_add(1, Ordering::AcqRel) < MAX_PARKED).then_some(place)
    }

    fn link(&self, identity: &Identity) -> Option<Arc<Link>> {
        let module = identity.module_id().filter(|_| identity.device_id() == self.identities.device_id())?;
        self.directory.read().ok()?.get(module).cloned()
    }

    fn no_target(&self, identity: &Identity) -> CallError {
        let own = self.identities.device_id();
        let near = identity.module_id().filter(|_| identity.device_id() == own).and_then(|module| {
            let all = self.identities.list();
            let names = all.iter().filter(|known| known.identity.device_id() == own);
            nearest(module, names.filter_map(|known| known.identity.module_id())).map(str::to_owned)
        });
        let hint = near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        CallError::NoTarget(match identity.module_id().filter(|_| identity.device_id() == own) {
            Some(module) => format!("there is no module '{module}'{hint}"),
            None => format!("there is no {identity} on this device: {identity} answers no methods here"),
        })
    }
}
