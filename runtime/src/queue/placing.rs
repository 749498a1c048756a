//! Placing: puts one message where each of its targets has it, and decides what becomes of it where there is no room.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use super::backlog::Backlog;
use super::choosing::Chosen;
use super::evicting::{Evicting, Left};
use super::ingest::{
    DiskMessage, FOR_EVER, InLine, Ingest, MAX_HOLD, Outgoing, OutgoingBody, Output, SendError, Sending, Store, Target,
    To, WhenFull, count,
};
use super::lane::{self, Body, Entry, INLINE_BODY, MetaWriter, NEVER};
use super::losses::{DROP_NEWEST, DROP_OLDEST, EXPIRED, FULL, NOT_STORED, STORE_FULL, TOO_LARGE};
use super::{Queue, QueueLane};
use crate::{clock, memory};

impl Ingest {
    /// [`Ingest::send`] of what nearly every message is. False where it is not; then nothing has happened.
    #[inline]
    pub(super) fn send_at_once(&self, output: &Output, message: &Outgoing<'_>) -> bool {
        let Some(mut sending) = output.sending.try_lock() else { return false };
        let Sending { sequence: sequences, version, targets, choosing: None } = &mut *sending else { return false };
        let [target] = &targets[..] else { return false };
        let is_small = message.body.bytes().len() + message.meta_len <= target.max_bytes;
        let Some(sequence) = sequences.next().filter(|_| is_small && *version == self.version.load(Ordering::Acquire))
        else {
            return false;
        };
        let is_sent = self.place_at_once(Chosen::all(targets), message, (sequence, clock::coarse_wall_us()));
        if is_sent {
            sequences.take_next();
            count(&output.sent);
        }
        is_sent
    }

    /// Puts it where nearly every message goes: into one lane that has room. False where that is not all there is to do; then nothing
    /// has happened. The caller holds the output's lock.
    #[inline]
    pub(super) fn place_at_once(&self, chosen: Chosen<'_>, message: &Outgoing<'_>, stamp: (u64, i64)) -> bool {
        // SAFETY: the caller holds the lock of the output whose targets these are.
        let Some(lane) = chosen.single().and_then(|target| unsafe { put(target, message, stamp) }) else {
            return false;
        };
        lane.announce();
        true
    }

    /// Counts a message for the targets that do not take one of so many bytes, and says so.
    #[cold]
    pub(super) fn too_large(
        &self,
        output: &Output,
        chosen: Chosen<'_>,
        bytes: usize,
        sequence: u64,
    ) -> Result<(), SendError> {
        let mut refused = Ok(());
        for target in chosen.iter().filter(|target| bytes > target.max_bytes) {
            self.losses.count(&output.source, target.endpoint(), TOO_LARGE, sequence);
            let (limit, endpoint) = (target.max_bytes, target.endpoint().to_string());
            refused = refused.and(Err(SendError::TooLarge { bytes, limit, endpoint }));
        }
        refused
    }

    /// The caller holds the output's lock. `so_far`: how long it waited for it, and what is to be said even if every one of `chosen`
    /// takes the message.
    pub(super) fn place(
        self: &Arc<Self>,
        output: &Output,
        chosen: Chosen<'_>,
        message: &Outgoing<'_>,
        stamp: (u64, i64),
        (held, outcome): (Duration, Result<(), SendError>),
        disk: &mut Store<'_>,
    ) -> Result<(), SendError> {
        let bytes = message.body.bytes();
        // A body that is too large for a lane and came as bytes is copied once, for all targets.
        let own = match message.body {
            OutgoingBody::Bytes(bytes) if bytes.len() > INLINE_BODY => Some(lane::host_buffer(memory::copied(bytes))),
            _ => None,
        };
        let body = || match (&own, message.body) {
            _ if bytes.len() <= INLINE_BODY => Body::Inline(bytes),
            (Some(own), _) => Body::Buffer(lane::retained(own)),
            (None, OutgoingBody::Buffer(buffer, _)) => Body::Buffer(lane::retained(buffer)),
            (None, OutgoingBody::Bytes(_)) => Body::Inline(bytes),
        };
        let mut placing = Placing { ingest: self, output, message, stamp, held, outcome };
        let (mut rows, mut line) = (Vec::new(), InLine::default());
        // Lanes that have room first, and all of them together: nobody waits for what the others may have to wait for.
        let mut is_put = 0_u64;
        for (at, target) in chosen.iter().enumerate().take(u64::BITS as usize) {
            // SAFETY: as in `place_at_once`.
            is_put |= u64::from(unsafe { put(target, message, stamp) }.is_some()) << at;
        }
        let was_put = |at: usize| at < u64::BITS as usize && is_put >> at & 1 == 1;
        if is_put != 0 {
            fence(Ordering::SeqCst);
            for (_, target) in chosen.iter().enumerate().filter(|(at, _)| was_put(*at)) {
                if let To::Lane(lane) = &target.to
                    && lane.lane.needs_schedule_after_fence()
                {
                    lane.queue.inbox.make_ready(lane.clone());
                }
            }
        }
        for (_, target) in chosen.iter().enumerate().filter(|(at, _)| !was_put(*at)) {
            match &target.to {
                To::Lane(lane) => {
                    if let Some(backlog) = lane.spills_to().filter(|backlog| target.is_mixed && backlog.has_rows()) {
                        // Behind what is staged or on its way to the disk, by the way that this went.
                        line.add(backlog);
                        lane.queue.keep_order(&output.source, target.priority, true);
                        rows.push(placing.row(target, lane.queue.endpoint()));
                    } else if !lane.is_open() {
                        placing.place_beside(target, lane, body());
                    } else if let Err(body) = placing.push(target, lane, body()) {
                        placing.no_room(target, lane, body);
                    }
                }
                To::Rows(queue, backlog) => {
                    // First in line: else the spilling could end in between, for want of rows.
                    line.add(backlog);
                    if target.is_mixed {
                        queue.keep_order(&output.source, target.priority, true);
                    }
                    rows.push(placing.row(target, queue.endpoint()));
                }
                To::Disk(endpoint) => rows.push(placing.row(target, endpoint)),
            }
        }
        if let Some(own) = own {
            lane::release(own);
        }
        if !rows.is_empty() {
            placing.store(rows, line, disk);
        }
        placing.outcome
    }
}

/// One message on its way to its targets.
struct Placing<'a> {
    ingest: &'a Arc<Ingest>,
    output: &'a Output,
    message: &'a Outgoing<'a>,
    /// Sequence, and when it was taken in.
    stamp: (u64, i64),
    /// For how long its sender was held so far.
    held: Duration,
    outcome: Result<(), SendError>,
}

impl Placing<'_> {
    fn push<'b>(&self, target: &Target, lane: &Arc<QueueLane>, body: Body<'b>) -> Result<(), Body<'b>> {
        // SAFETY: `send` holds the output's lock, and the lane is this output's alone.
        unsafe { lane.lane.push(&target.entry(self.message, self.stamp), body)? };
        lane.announce();
        Ok(())
    }

    /// Not simply into the lane: the endpoint is spilling, or what waits for it can be evicted.
    #[cold]
    fn place_beside(&mut self, target: &Target, lane: &Arc<QueueLane>, body: Body<'_>) {
        if let Some(kept) = lane.kept() {
            return self.place_kept(target, lane, kept, body);
        }
        let Some(backlog) = lane.spills_to() else { return drop_body(body) };
        let body = match backlog.is_live_first() {
            true => match self.push(target, lane, body) {
                Ok(()) => return,
                Err(body) => body,
            },
            false => body,
        };
        match (backlog.enter(), self.ingest.disk()) {
            (Some(line), Some(_)) => {
                drop_body(body);
                self.spill(target, &lane.queue, line);
            }
            // The spilling is over.
            _ => {
                if let Err(body) = self.push(target, lane, body) {
                    self.no_room(target, lane, body);
                }
            }
        }
    }

    fn place_kept(&mut self, target: &Target, lane: &Arc<QueueLane>, kept: &Evicting, body: Body<'_>) {
        let held = self.held;
        let limit = || match target.when_full {
            WhenFull::Block(limit) => self.output.hold(limit).saturating_sub(held),
            _ => Duration::ZERO,
        };
        let (losses, source) = (&self.ingest.losses, &self.output.source);
        let placed = kept.push(&target.entry(self.message, self.stamp), body, limit, |sequence, left| {
            let reason = match left {
                Left::Expired => EXPIRED,
                Left::DropOldest => DROP_OLDEST,
                Left::DropNewest => DROP_NEWEST,
            };
            losses.count(source, lane.queue.endpoint(), reason, sequence);
        });
        let (Ok(held) | Err(held)) = placed;
        self.held += held;
        lane.announce();
        if placed.is_err() {
            self.lose(lane.queue.endpoint(), FULL);
            self.outcome = Err(SendError::Full { endpoint: lane.queue.endpoint().to_string() });
        }
    }

    #[cold]
    fn no_room(&mut self, target: &Target, lane: &Arc<QueueLane>, body: Body<'_>) {
        let limit = match target.when_full {
            WhenFull::Skip => {
                drop_body(body);
                return lane.queue.count_skipped();
            }
            WhenFull::DropNewest => {
                drop_body(body);
                return self.lose(lane.queue.endpoint(), DROP_NEWEST);
            }
            WhenFull::Block(limit) => limit,
            WhenFull::Spill | WhenFull::DropOldest => MAX_HOLD,
        };
        let since = clock::now();
        let weight = self.message.body.bytes().len() + self.message.meta_len;
        let has_room = loop {
            let left = self.output.hold(limit).saturating_sub(self.held + since.elapsed());
            // SAFETY: as in `push`.
            let has_room = unsafe { lane.lane.wait_for_room(weight, left.min(MAX_HOLD)) };
            if has_room || left <= MAX_HOLD {
                break has_room;
            }
        };
        self.held += since.elapsed();
        let Err(body) = (if has_room { self.push(target, lane, body) } else { Err(body) }) else { return };
        drop_body(body);
        if let (Some(backlog), Some(_)) = (lane.spills_to(), self.ingest.disk()) {
            let line = self.begin_spilling(backlog, &lane.queue);
            return self.spill(target, &lane.queue, line);
        }
        self.lose(lane.queue.endpoint(), FULL);
        self.outcome = Err(SendError::Full { endpoint: lane.queue.endpoint().to_string() });
    }

    fn begin_spilling(&self, backlog: &Arc<Backlog>, queue: &Queue) -> InLine {
        let mut line = InLine::default();
        line.add(backlog);
        if !backlog.is_spilling() && backlog.is_to_be_told() {
            tracing::warn!(
                endpoint = %queue.endpoint(),
                "its queue is full and stays so; what comes for it goes to disk until it has caught up"
            );
        }
        backlog.spill();
        line
    }

    /// Makes a row of a message of a memory route; nobody waits for its commit.
    fn spill(&mut self, target: &Target, queue: &Queue, line: InLine) {
        let Some(disk) = self.ingest.disk() else { return };
        let row = self.row(target, queue.endpoint());
        let (ingest, source, endpoint, sequence) =
            (self.ingest.clone(), self.output.source.clone(), queue.endpoint().clone(), self.stamp.0);
        let told = move |outcome: Result<i64, _>| {
            if outcome.is_err() {
                ingest.losses.count(&source, &endpoint, NOT_STORED, sequence);
            }
            drop(line);
        };
        // The control loop and the writer may not be held, by the disk no more than by a receiver.
        let stored = match self.held >= FOR_EVER {
            true => disk.enqueue_now(vec![row], told),
            false => disk.enqueue(vec![row], told),
        };
        if let Err(error) = stored {
            self.refused(&error, queue.endpoint());
            self.outcome = Err(error);
        }
    }

    fn lose(&self, endpoint: &Arc<str>, reason: &'static str) {
        self.ingest.losses.count(&self.output.source, endpoint, reason, self.stamp.0);
    }

    /// Counts what the disk refused.
    fn refused(&self, error: &SendError, endpoint: &Arc<str>) {
        match error {
            SendError::StoreFull { .. } => self.lose(endpoint, STORE_FULL),
            SendError::NotStored { .. } => self.lose(endpoint, NOT_STORED),
            _ => {}
        }
    }

    fn row(&self, target: &Target, endpoint: &Arc<str>) -> DiskMessage {
        let mut meta = memory::room_for(self.message.meta_len);
        meta.resize(self.message.meta_len, 0);
        (self.message.fill)(&mut MetaWriter::new(&mut meta));
        let source = &self.output.source;
        DiskMessage {
            endpoint: endpoint.clone(),
            priority: target.priority,
            ttl_secs: target.ttl_secs,
            sender: source.identity.clone(),
            output: source.output.clone(),
            epoch: source.epoch,
            sequence: self.stamp.0,
            created_us: self.stamp.1,
            meta,
            body: memory::copied(self.message.body.bytes()),
        }
    }

    /// Hands rows of durable routes to `disk`, after all else. An endpoint that is full costs the others nothing.
    fn store(&mut self, rows: Vec<DiskMessage>, line: InLine, disk: &mut Store<'_>) {
        let (rows, refused) = match self.ingest.disk() {
            // A single one is taken or refused as it is.
            Some(store) if rows.len() > 1 => store.admit(rows),
            _ => (rows, Vec::new()),
        };
        refused.iter().for_each(|(endpoint, error)| self.refused(error, endpoint));
        if let Some((_, error)) = refused.into_iter().next() {
            self.outcome = Err(error);
        }
        let endpoints: Vec<_> = rows.iter().map(|row| row.endpoint.clone()).collect();
        if !rows.is_empty()
            && let Err(error) = disk(rows, line, self.outcome.as_ref().err())
        {
            endpoints.iter().for_each(|endpoint| self.refused(&error, endpoint));
            self.outcome = Err(error);
        }
    }
}

/// Puts a message with a small body into the target's lane, if nothing else is to be done and there is room; gives the lane, which is
/// still to be announced.
///
/// # Safety
/// The caller holds the lock of the target's output: the lane is that output's alone.
#[inline]
unsafe fn put<'t>(target: &'t Target, message: &Outgoing<'_>, stamp: (u64, i64)) -> Option<&'t Arc<QueueLane>> {
    let lane = target.open_lane()?;
    let body = message.body.bytes();
    // SAFETY: the caller's promise.
    let is_put = body.len() <= INLINE_BODY && unsafe { lane.lane.push_inline(&target.entry(message, stamp), body) };
    is_put.then_some(lane)
}

impl Target {
    /// A message as it stands in a lane of this target.
    #[inline]
    pub(super) fn entry<'a>(&self, message: &Outgoing<'a>, (sequence, created_us): (u64, i64)) -> Entry<'a> {
        Entry {
            sequence,
            created_us,
            expires_ms: self.ttl_secs.map_or(NEVER, expiry),
            row: None,
            meta_len: message.meta_len,
            fill: message.fill,
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
