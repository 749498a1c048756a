//! Placing: puts one message where each of its targets has it, and decides what becomes of it where there is no room.

use std::time::Duration;

use super::QueueLane;
use super::ingest::{DiskMessage, Ingest, MAX_HOLD, Outgoing, OutgoingBody, Output, SendError, Target, To, WhenFull};
use super::lane::{self, Body, Entry, INLINE_BODY, MetaWriter, NEVER};
use super::losses::{DROP_NEWEST, FULL, NOT_STORED, STORE_FULL};
use crate::clock;

impl Ingest {
    /// The caller holds the output's lock; `held` says how long it waited for it.
    pub(super) fn place(
        &self,
        output: &Output,
        targets: &[Target],
        message: &Outgoing<'_>,
        (sequence, created_us): (u64, i64),
        held: Duration,
        disk: &mut dyn FnMut(Vec<DiskMessage>) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let bytes = message.body.bytes();
        // A body that is too large for a lane and came as bytes is copied once, for all targets.
        let own = match message.body {
            OutgoingBody::Bytes(bytes) if bytes.len() > INLINE_BODY => Some(lane::host_buffer(bytes.to_vec())),
            _ => None,
        };
        let body = || match (&own, message.body) {
            _ if bytes.len() <= INLINE_BODY => Body::Inline(bytes),
            (Some(own), _) => Body::Buffer(lane::retained(own)),
            (None, OutgoingBody::Buffer(buffer, _)) => Body::Buffer(lane::retained(buffer)),
            (None, OutgoingBody::Bytes(_)) => Body::Inline(bytes),
        };
        let mut placing = Placing { ingest: self, output, message, sequence, created_us, held, outcome: Ok(()) };
        let mut rows = Vec::new();
        for target in targets {
            match &target.to {
                To::Lane(lane) => {
                    if let Err(body) = placing.push(target, lane, body()) {
                        placing.no_room(target, lane, body);
                    }
                }
                To::Disk(endpoint) => rows.push(placing.row(target, endpoint.clone())),
            }
        }
        if let Some(own) = own {
            lane::release(own);
        }
        if !rows.is_empty() {
            placing.store(rows, disk);
        }
        placing.outcome
    }
}

/// One message on its way to its targets.
struct Placing<'a> {
    ingest: &'a Ingest,
    output: &'a Output,
    message: &'a Outgoing<'a>,
    sequence: u64,
    created_us: i64,
    /// For how long its sender was held so far.
    held: Duration,
    outcome: Result<(), SendError>,
}

impl Placing<'_> {
    #[inline]
    fn push<'b>(&self, target: &Target, lane: &std::sync::Arc<QueueLane>, body: Body<'b>) -> Result<(), Body<'b>> {
        let entry = Entry {
            sequence: self.sequence,
            created_us: self.created_us,
            expires_ms: target.ttl_secs.map_or(NEVER, expiry),
            row: None,
            meta_len: self.message.meta_len,
            fill: self.message.fill,
        };
        // SAFETY: `send` holds the output's lock, and the lane is this output's alone.
        unsafe { lane.lane.push(&entry, body)? };
        lane.announce();
        Ok(())
    }

    #[cold]
    fn no_room(&mut self, target: &Target, lane: &std::sync::Arc<QueueLane>, body: Body<'_>) {
        let limit = match target.when_full {
            WhenFull::Skip => {
                drop_body(body);
                return lane.queue.count_skipped();
            }
            WhenFull::DropNewest => {
                drop_body(body);
                return self.lose(lane, DROP_NEWEST);
            }
            WhenFull::Block(limit) => limit,
            WhenFull::Spill | WhenFull::DropOldest => MAX_HOLD,
        };
        let since = clock::now();
        let weight = self.message.body.bytes().len() + self.message.meta_len;
        // SAFETY: as in `push`.
        let has_room = unsafe { lane.lane.wait_for_room(weight, limit.saturating_sub(self.held)) };
        self.held += since.elapsed();
        let rest = if has_room { self.push(target, lane, body).err() } else { Some(body) };
        if let Some(body) = rest {
            drop_body(body);
            self.lose(lane, FULL);
            self.outcome = Err(SendError::Full { endpoint: lane.queue.endpoint().to_string() });
        }
    }

    fn lose(&self, lane: &QueueLane, reason: &'static str) {
        self.ingest.losses.count(&self.output.source, lane.queue.endpoint(), reason, self.sequence);
    }

    fn row(&self, target: &Target, endpoint: std::sync::Arc<str>) -> DiskMessage {
        let mut meta = vec![0; self.message.meta_len];
        (self.message.fill)(&mut MetaWriter::new(&mut meta));
        let source = &self.output.source;
        DiskMessage {
            endpoint,
            priority: target.priority,
            ttl_secs: target.ttl_secs,
            sender: source.identity.clone(),
            output: source.output.clone(),
            epoch: source.epoch,
            sequence: self.sequence,
            created_us: self.created_us,
            meta,
            body: self.message.body.bytes().to_vec(),
        }
    }

    /// Hands rows of durable routes to `disk`.
    fn store(&mut self, rows: Vec<DiskMessage>, disk: &mut dyn FnMut(Vec<DiskMessage>) -> Result<(), SendError>) {
        let endpoints: Vec<_> = rows.iter().map(|row| row.endpoint.clone()).collect();
        let stored = disk(rows);
        let reason = match &stored {
            Err(SendError::StoreFull { .. }) => Some(STORE_FULL),
            Err(SendError::NotStored { .. }) => Some(NOT_STORED),
            _ => None,
        };
        if let Some(reason) = reason {
            let losses = &self.ingest.losses;
            endpoints.iter().for_each(|endpoint| losses.count(&self.output.source, endpoint, reason, self.sequence));
        }
        if stored.is_err() {
            self.outcome = stored;
        }
    }
}

/// When what is taken in now expires.
fn expiry(ttl_secs: u64) -> u64 {
    clock::coarse_monotonic_ms().saturating_add(ttl_secs.saturating_mul(1000))
}

fn drop_body(body: Body<'_>) {
    if let Body::Buffer(buffer) = body {
        lane::release(buffer);
    }
}
