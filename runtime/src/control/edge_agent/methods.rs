//! `$edgeAgent` answers methods itself: what they need of the loop is asked of it, and logs are read on a thread for nothing else,
//! which is there while any are asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::clock;
use crate::control::{Control, Event};
use crate::instance::state::{By, Input};
use crate::log::Logs;
use crate::memory;
use crate::method::builtin::{self, Builtin, LogsRequest};
use crate::method::{CallError, MethodAnswer, MethodRequest, Reply};
use crate::name::{EDGE_AGENT, EDGE_HUB};
use crate::refusal::RefusalKind;

/// Most requests for logs that wait.
const MAX_READINGS: usize = 32;
/// Longest that the loop is waited for.
const LOOP_PATIENCE: Duration = Duration::from_secs(5);

/// See the module's documentation. Clones are the same.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

struct Inner {
    events: Sender<Event>,
    logs: Logs,
    device: String,
    readings: Mutex<Readings>,
}

#[derive(Default)]
struct Readings {
    waiting: VecDeque<(Box<LogsRequest>, Reply)>,
    has_thread: bool,
}

impl Agent {
    pub(in crate::control) fn new(events: Sender<Event>, logs: Logs, device: &str) -> Agent {
        Agent(Arc::new(Inner { events, logs, device: device.to_owned(), readings: Mutex::default() }))
    }

    /// Answers a call, now or soon. `[any thread, never blocks]`
    pub fn call(&self, request: MethodRequest) {
        let MethodRequest { name, payload, caller, reply, .. } = request;
        match builtin::read(&name, &payload, clock::wall_us()) {
            Err(refused) => reply.give(Ok(refused)),
            Ok(Builtin::Ping) => reply.give(Ok(builtin::done())),
            Ok(Builtin::GetTaskStatus { correlation_id }) => reply.give(Ok(builtin::task_status(&correlation_id))),
            Ok(Builtin::RestartModule { id }) => self.restart(id, caller, reply),
            Ok(Builtin::GetModuleLogs(request)) => self.read_logs(request, reply),
        }
    }

    fn restart(&self, id: String, by: String, reply: Reply) {
        let request = Box::new(move |control: &mut Control, _| {
            if reply.take_up() {
                control.restart_for(&id, by, reply);
            }
        });
        // A loop that has ended gives the request back, which drops it: its caller hears of that.
        drop(self.0.events.send(Event::Request(request)));
    }

    fn read_logs(&self, request: Box<LogsRequest>, reply: Reply) {
        let mut readings = self.0.readings.lock().unwrap_or_else(PoisonError::into_inner);
        if readings.waiting.len() >= MAX_READINGS {
            drop(readings);
            let why = format!("{MAX_READINGS} requests for logs wait already");
            return reply.give(Err(CallError::Busy(why)));
        }
        if !readings.has_thread {
            let inner = self.0.clone();
            let thread = std::thread::Builder::new().name("edge-agent".to_owned()).stack_size(512 << 10);
            if let Err(error) = thread.spawn(move || inner.read_all()) {
                drop(readings);
                return reply.give(Ok(builtin::refuse(500, format!("no thread to read the log: {error}"))));
            }
            readings.has_thread = true;
        }
        readings.waiting.push_back((request, reply));
    }
}

impl Inner {
    fn read_all(&self) {
        while let Some((request, reply)) = self.next() {
            if reply.take_up() {
                let answer = request.answer(&self.device, &self.modules(), |query| self.logs.read(query));
                reply.give(Ok(answer));
            }
        }
        // Logs can be long, and nobody asks for them all the time.
        memory::give_back();
    }

    fn next(&self) -> Option<(Box<LogsRequest>, Reply)> {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let next = readings.waiting.pop_front();
        readings.has_thread = next.is_some();
        next
    }

    /// Names of the modules that there are; where the loop is busy or gone, those that have said something.
    fn modules(&self) -> Vec<String> {
        let (say, names) = bounded(1);
        let request = Box::new(move |control: &mut Control, _| drop(say.send(control.module_names())));
        drop(self.events.send(Event::Request(request)));
        names.recv_timeout(LOOP_PATIENCE).unwrap_or_else(|_| self.logs.names())
    }
}

impl Control {
    fn module_names(&self) -> Vec<String> {
        self.instances.keys().cloned().collect()
    }

    /// Restarts a module, and says so once that is stored.
    fn restart_for(&mut self, id: &str, by: String, reply: Reply) {
        if [EDGE_AGENT, EDGE_HUB, &EDGE_AGENT[1..], &EDGE_HUB[1..]].contains(&id) {
            let why = format!("{id} is the runtime itself: its service restarts it, as in systemctl restart dinrail");
            return reply.give(Ok(builtin::refuse(400, why)));
        }
        let answer: MethodAnswer = match self.command(id, Input::RestartRequested { by: By::Person(by) }) {
            Ok(()) => builtin::done(),
            Err(refusal) => {
                let hint = refusal.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                let status = if refusal.kind == RefusalKind::Invalid { 400 } else { 500 };
                return reply.give(Ok(builtin::refuse(status, format!("{}{hint}", refusal.message))));
            }
        };
        self.when_committed(move |outcome| {
            reply.give(Ok(match outcome {
                Ok(()) => answer,
                Err(error) => builtin::refuse(500, format!("it is restarted, but that is not stored: {error}")),
            }));
        });
    }
}
