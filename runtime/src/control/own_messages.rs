//! What the runtime itself has to say, as messages that routes can take: new lines of the ledger, and changes of reported
//! properties. Nothing is made unless somebody takes it, and nobody is held up by it.
//!
//! Both come from `$edgeHub`. A line of the ledger comes from the source `/losses` followed by the place of the sender, such as
//! `/losses/modules/filter/outputs/alarms`; a change of reported properties from `/twinChangeNotifications`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    waiting: Mutex<VecDeque<(Arc<Output>, Message)>>,
    count: AtomicUsize,
}

impl OwnMessages {
    pub(super) fn new(own: Identity, ingest: Arc<Ingest>, disk: Arc<Disk>, listeners: Arc<Listeners>) -> OwnMessages {
        OwnMessages { own, ingest, disk, listeners, waiting: Mutex::default(), count: AtomicUsize::new(0) }
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
        self.put(self.ingest.output(&self.own, TWIN_CHANGES), message(&body.into(), properties));
    }

    /// New lines of the ledger: a message for each sender, output, endpoint and reason. `[never blocks]`
    pub(super) fn lost(&self, rows: &[LossRow]) {
        let mut lines: BTreeMap<_, Vec<&LossRow>> = BTreeMap::new();
        for row in rows {
            // What was lost of these messages makes no further ones.
            if row.sender == self.own.to_string() && row.output.starts_with(LOSSES) {
                continue;
            }
            let key = (&*row.sender, &*row.output, &*row.endpoint, &*row.reason, row.last.0, row.is_upper_bound);
            lines.entry(key).or_default().push(row);
        }
        for ranges in lines.into_values() {
            let Some(output) = self.output_for(ranges[0]) else { continue };
            let reason = ranges[0].reason.clone();
            self.put(output, message(&line(&ranges), vec![("reason".to_owned(), reason)]));
        }
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

    fn put(&self, output: Arc<Output>, message: Message) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() == MAX_WAITING {
            let source = output.source().clone();
            self.ingest.losses().count_unseen(&source, &Arc::from(""), FULL, 1);
            return;
        }
        waiting.push_back((output, message));
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

    /// Counts what is still waiting as lost: for the end of the runtime.
    pub(super) fn give_up(&self) {
        self.catch_up();
        for (output, _) in lock(&self.waiting).drain(..) {
            self.ingest.losses().count_unseen(output.source(), &Arc::from(""), STOPPED, 1);
        }
    }

    fn pass_on(&self, waiting: &mut VecDeque<(Arc<Output>, Message)>) {
        while let Some((output, message)) = waiting.front() {
            if !self.send(output, message) {
                break;
            }
            waiting.pop_front();
        }
    }

    /// False where it has to wait for its number. What a queue has no room for is counted there.
    fn send(&self, output: &Arc<Output>, message: &Message) -> bool {
        let meta = message.encode_meta();
        let fill = |out: &mut MetaWriter<'_>| out.put(&meta);
        let outgoing = Outgoing { meta_len: meta.len(), fill: &fill, body: OutgoingBody::Bytes(&message.body) };
        let mut store = |rows: Vec<DiskMessage>, line: InLine, _: Option<&SendError>| -> Result<(), SendError> {
            let lost: Vec<_> = rows.iter().map(|row| (row.endpoint.clone(), row.sequence)).collect();
            let (ingest, source) = (self.ingest.clone(), output.source().clone());
            // The writer may be waiting to put something in here.
            self.disk.enqueue_now(rows, move |outcome| {
                for (endpoint, sequence) in lost.iter().filter(|_| outcome.is_err()) {
                    ingest.losses().count(&source, endpoint, NOT_STORED, *sequence);
                }
                drop(line);
            })
        };
        self.ingest.send_now(output, &outgoing, &mut store).is_some()
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
