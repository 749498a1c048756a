//! What the runtime itself has to say, as messages that routes can take: new lines of the ledger, and changes of reported
//! properties. Nothing is made unless somebody takes it, and nobody is held up by it.
//!
//! Both come from `$edgeHub`. A line of the ledger comes from the source `/losses` followed by the place of the sender, such as
//! `/losses/modules/filter/outputs/alarms`; a change of reported properties from `/twinChangeNotifications`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

use super::Listeners;
use crate::clock;
use crate::database::tables::loss::LossRow;
use crate::message::Message;
use crate::name::Identity;
use crate::queue::disk::Disk;
use crate::queue::ingest::{DiskMessage, InLine, Ingest, Outgoing, OutgoingBody, Output, SendError};
use crate::queue::lane::{MetaWriter, lock};
use crate::queue::losses::{FULL, NOT_STORED, STOPPED};
use crate::routing::SourcePath;

/// Most messages that wait for the disk to say at which number their output goes on.
const MAX_WAITING: usize = 1024;

/// Times that no line is told after one that could not be, by which its receiver's queue, or the disk, may have room again.
const REST: u32 = 10;

/// The output of `$edgeHub` for changes of reported properties.
pub(super) const TWIN_CHANGES: &str = "twinChangeNotifications";
/// What its outputs for losses begin with.
pub(super) const LOSSES: &str = "losses";

/// See the module's documentation.
pub struct OwnMessages {
    own: Identity,
    ingest: Arc<Ingest>,
    disk: Arc<Disk>,
    listeners: Arc<Listeners>,
    waiting: Mutex<VecDeque<Waiting>>,
    count: AtomicUsize,
    telling: Arc<Telling>,
}

/// A message that goes out, or waits for its number.
struct Waiting {
    output: Arc<Output>,
    message: Message,
    /// What of the ledger it tells.
    told: Option<Told>,
}

/// Lines of the ledger on their way. They stay on disk as untold until they are with those who listen, on disk where their route
/// goes there, so that no end of the runtime is in time to swallow them.
struct Telling {
    disk: Arc<Disk>,
    ingest: Arc<Ingest>,
    /// Lines are on their way; the next ones are read when these are done with.
    is_busy: AtomicBool,
    /// Messages that nobody knows the end of, and one for who makes them.
    left: AtomicUsize,
    /// Ids of the lines that were told.
    done: Mutex<Vec<i64>>,
    has_failed: AtomicBool,
    /// Times that it does nothing after a failure.
    rest: AtomicU32,
}

/// Ids of the lines that a message tells.
#[derive(Clone)]
struct Told(Arc<Telling>, Vec<i64>);

impl OwnMessages {
    pub(super) fn new(own: Identity, ingest: Arc<Ingest>, disk: Arc<Disk>, listeners: Arc<Listeners>) -> OwnMessages {
        let telling = Arc::new(Telling {
            disk: disk.clone(),
            ingest: ingest.clone(),
            is_busy: AtomicBool::new(false),
            left: AtomicUsize::new(0),
            done: Mutex::default(),
            has_failed: AtomicBool::new(false),
            rest: AtomicU32::new(0),
        });
        OwnMessages { own, ingest, disk, listeners, waiting: Mutex::default(), count: AtomicUsize::new(0), telling }
    }

    /// Whether anybody takes changes of reported properties. `[never blocks]`
    pub(super) fn wants_twin_changes(&self) -> bool {
        self.listeners.takes_twin_changes()
    }

    /// A change of reported properties is committed. `[writer, never blocks]`
    pub(super) fn twin_changed(&self, of: &Identity, patch: &Map<String, Value>, version: u64) {
        let mut body = patch.clone();
        body.insert("$version".to_owned(), version.into());
        let mut properties = vec![("deviceId".to_owned(), of.device_id().to_owned())];
        properties.extend(of.module_id().map(|module| ("moduleId".to_owned(), module.to_owned())));
        properties.push(("opType".to_owned(), "updateTwin".to_owned()));
        properties.push(("messageSchema".to_owned(), "twinChangeNotification".to_owned()));
        properties.push(("operationTimestamp".to_owned(), clock::rfc3339(clock::wall_us())));
        let output = self.ingest.output(&self.own, TWIN_CHANGES);
        self.put(Waiting { output, message: message(&body.into(), properties), told: None });
    }

    /// New lines of the ledger: a message for each sender, output, endpoint and reason. To be called now and then, by one thread.
    /// `[never blocks]`
    pub(super) fn tell_losses(&self) {
        let telling = &self.telling;
        if telling.is_resting() || telling.is_busy.load(Ordering::Acquire) || !self.ingest.losses().take_growth() {
            return;
        }
        let rows = match self.disk.untold_losses() {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!("lines of the ledger cannot be read, and are told later: {error}");
                return self.ingest.losses().ledger_grew();
            }
        };
        if rows.is_empty() {
            return;
        }
        // There may be more of them than were read.
        self.ingest.losses().ledger_grew();
        let mut lines: BTreeMap<_, Vec<&(i64, LossRow)>> = BTreeMap::new();
        for line in &rows {
            let row = &line.1;
            let key = (&*row.sender, &*row.output, &*row.endpoint, &*row.reason, row.last.0, row.is_upper_bound);
            lines.entry(key).or_default().push(line);
        }
        telling.is_busy.store(true, Ordering::Release);
        telling.left.store(lines.len() + 1, Ordering::Release);
        for lines in lines.into_values() {
            let ids = lines.iter().map(|(id, _)| *id).collect();
            let ranges: Vec<&LossRow> = lines.iter().map(|(_, row)| row).collect();
            let told = Told(telling.clone(), ids);
            // What was lost of these messages makes no further ones.
            let is_own = ranges[0].sender == self.own.to_string() && ranges[0].output.starts_with(LOSSES);
            let Some(output) = self.output_for(ranges[0]).filter(|_| !is_own) else {
                told.ended(true);
                continue;
            };
            let message = message(&line(&ranges), vec![("reason".to_owned(), ranges[0].reason.clone())]);
            self.put(Waiting { output, message, told: Some(told) });
        }
        Told(telling.clone(), Vec::new()).ended(true);
    }

    /// Where a line of the ledger comes from; `None` where nobody takes it.
    fn output_for(&self, row: &LossRow) -> Option<Arc<Output>> {
        let module = row.sender.parse::<Identity>().ok().and_then(|sender| sender.module_id().map(str::to_owned));
        let name = match (module, &*row.output) {
            (Some(module), "") => format!("{LOSSES}/modules/{module}"),
            (Some(module), output) => format!("{LOSSES}/modules/{module}/outputs/{output}"),
            (None, _) => LOSSES.to_owned(),
        };
        let is_taken = self.listeners.takes(&SourcePath::own(&name));
        is_taken.then(|| self.ingest.output(&self.own, &name))
    }

    fn put(&self, one: Waiting) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() == MAX_WAITING {
            match one.told {
                Some(told) => told.ended(false),
                None => self.ingest.losses().count_unseen(one.output.source(), &Arc::from(""), FULL, 1),
            }
            return;
        }
        waiting.push_back(one);
        self.pass_on(&mut waiting);
        self.count.store(waiting.len(), Ordering::Release);
    }

    /// Sends what could not be sent at once. To be called now and then. `[never blocks]`
    pub(super) fn catch_up(&self) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut waiting = lock(&self.waiting);
            self.pass_on(&mut waiting);
            self.count.store(waiting.len(), Ordering::Release);
        }
    }

    /// Counts what is still waiting as lost, but for what the ledger still has as untold: for the end of the runtime.
    pub(super) fn give_up(&self) {
        self.catch_up();
        for one in lock(&self.waiting).drain(..) {
            match one.told {
                Some(told) => told.ended(false),
                None => self.ingest.losses().count_unseen(one.output.source(), &Arc::from(""), STOPPED, 1),
            }
        }
    }

    /// Sends what can be sent, for each output in its order.
    fn pass_on(&self, waiting: &mut VecDeque<Waiting>) {
        let mut held: Vec<Arc<Output>> = Vec::new();
        waiting.retain(|one| {
            if held.iter().any(|output| Arc::ptr_eq(output, &one.output)) {
                return true;
            }
            let is_sent = self.send(one);
            if !is_sent {
                held.push(one.output.clone());
            }
            !is_sent
        });
    }

    /// False where it has to wait for its number. What a queue has no room for is counted there.
    fn send(&self, Waiting { output, message, told }: &Waiting) -> bool {
        let meta = message.encode_meta();
        let fill = |out: &mut MetaWriter<'_>| out.put(&meta);
        let outgoing = Outgoing { meta_len: meta.len(), fill: &fill, body: OutgoingBody::Bytes(&message.body) };
        let mut is_on_its_way = false;
        let mut store = |rows: Vec<DiskMessage>, line: InLine, _: Option<&SendError>| -> Result<(), SendError> {
            let lost: Vec<_> = rows.iter().map(|row| (row.endpoint.clone(), row.sequence)).collect();
            let (ingest, source, told) = (self.ingest.clone(), output.source().clone(), told.clone());
            // The writer may be waiting to put something in here.
            self.disk.enqueue_now(rows, move |outcome| {
                for (endpoint, sequence) in lost.iter().filter(|_| outcome.is_err()) {
                    ingest.losses().count(&source, endpoint, NOT_STORED, *sequence);
                }
                told.into_iter().for_each(|told| told.ended(outcome.is_ok()));
                drop(line);
            })?;
            is_on_its_way = true;
            Ok(())
        };
        let Some(outcome) = self.ingest.send_now(output, &outgoing, &mut store) else { return false };
        if !is_on_its_way {
            // What its route is too narrow for was lost by that; what the disk had no room for comes again.
            let is_over = !matches!(outcome, Err(SendError::StoreFull { .. } | SendError::NotStored { .. }));
            told.iter().for_each(|told| told.clone().ended(is_over));
        }
        true
    }
}

impl Telling {
    fn is_resting(&self) -> bool {
        let less = |rest: u32| rest.checked_sub(1);
        self.rest.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }

    /// All lines that were read are done with.
    fn finish(self: &Arc<Self>) {
        let (telling, ids) = (self.clone(), std::mem::take(&mut *lock(&self.done)));
        self.disk.told_losses(ids, move || {
            if telling.has_failed.swap(false, Ordering::AcqRel) {
                telling.rest.store(REST, Ordering::Release);
            }
            telling.ingest.losses().ledger_grew();
            telling.is_busy.store(false, Ordering::Release);
        });
    }
}

impl Told {
    /// These lines were told, or cannot be told now.
    fn ended(self, is_told: bool) {
        let Told(telling, ids) = self;
        match is_told {
            true => lock(&telling.done).extend(ids),
            false => telling.has_failed.store(true, Ordering::Release),
        }
        if telling.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            telling.finish();
        }
    }
}

/// JSON as a message.
fn message(body: &Value, properties: Vec<(String, String)>) -> Message {
    let mut message = Message::new(body.to_string());
    message.properties = properties;
    message.system.content_type = Some("application/json".to_owned());
    message.system.content_encoding = Some("utf-8".to_owned());
    message
}

/// Ranges of one sender, output, endpoint, reason and epoch.
fn line(ranges: &[&LossRow]) -> Value {
    let head = ranges[0];
    let known = || ranges.iter().filter(|range| range.first.1 > 0);
    let range = |row: &&LossRow| json!({"first": row.first.1, "last": row.last.1, "count": row.count});
    json!({
        "sender": head.sender,
        "output": head.output,
        "endpoint": head.endpoint,
        "reason": head.reason,
        "epoch": head.last.0,
        "first": known().map(|range| range.first.1).min().unwrap_or(0),
        "last": known().map(|range| range.last.1).max().unwrap_or(0),
        "count": ranges.iter().map(|range| range.count).sum::<u64>(),
        "isUpperBound": head.is_upper_bound,
        "ranges": ranges.iter().map(range).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_one_line_are_one_message() {
        let row = |first, last, count| LossRow {
            sender: "/devices/d/modules/m".into(),
            output: "out".into(),
            endpoint: "$upstream".into(),
            reason: "expired".into(),
            first: (2, first),
            last: (2, last),
            count,
            is_upper_bound: false,
        };
        let (a, b, unseen) = (row(4, 6, 3), row(9, 9, 1), row(0, 0, 2));

        let told = line(&[&unseen, &a, &b]);

        assert_eq!((&told["first"], &told["last"], &told["count"]), (&json!(4), &json!(9), &json!(6)));
        assert_eq!((&told["epoch"], &told["isUpperBound"]), (&json!(2), &json!(false)));
        assert_eq!(told["ranges"][1], json!({"first": 4, "last": 6, "count": 3}));
    }
}
