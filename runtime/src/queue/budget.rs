//! Byte budgets: how much may wait on disk, for each endpoint and altogether.
//!
//! Counted are the bytes of bodies and properties. What a file needs besides has its own bound, behind this one (see
//! [`crate::database`]). A message takes its bytes before it is put in line for the disk and gives them back when its row is
//! gone, so that whoever sends hears at once that there is no room, and why.
//!
//! Invariant: what is counted is what the table held when this was opened, and what was taken and not given back since. Until
//! the table has been counted, which happens while messages pass already, its file's size stands for it: never too little.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use super::ingest::SendError;
use super::lane::lock;
use crate::database::tables::queue::StoredMessage;
use crate::database::{Room, Shortage};

/// What may wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all endpoints together.
    pub total: u64,
    /// Bytes of single ones; who is not named here shares the whole.
    pub endpoints: BTreeMap<Arc<str>, u64>,
}

/// Which bound a message met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// That of its endpoint.
    Endpoint {
        /// Bytes that wait for it.
        stored: u64,
        /// Bytes that may.
        limit: u64,
    },
    /// That of the whole store.
    Store {
        /// Bytes that wait.
        stored: u64,
        /// Bytes that may.
        limit: u64,
    },
    /// That of the disk or the file, whatever the budget says.
    Room(Shortage),
}

impl fmt::Display for Bound {
    /// With what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Endpoint { stored, limit } => write!(
                f,
                "{stored} of {limit} bytes for it are taken; it takes more once some are delivered, or with a larger maxBytes \
                 for it in storeAndForwardConfiguration.endpoints"
            ),
            Bound::Store { stored, limit } => write!(
                f,
                "{stored} of {limit} bytes of the whole store are taken; it takes more once some are delivered, or with a larger \
                 storeAndForwardConfiguration.maxBytes"
            ),
            Bound::Room(shortage) => write!(f, "{shortage}; {}", shortage.hint()),
        }
    }
}

/// What an endpoint holds of its budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The endpoint.
    pub endpoint: Arc<str>,
    /// Bytes that wait or are parked.
    pub bytes: u64,
    /// Its own limit.
    pub limit: Option<u64>,
}

/// See the module's documentation. `[any thread, never blocks]`
#[derive(Debug, Default)]
pub struct Budget {
    state: Mutex<State>,
    room: Arc<Room>,
}

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    /// Stands for what is not counted yet.
    expected: u64,
    /// Signed: what was in the table may be given back before it has been counted.
    total: i64,
    endpoints: HashMap<Arc<str>, Account>,
}

#[derive(Debug, Default)]
struct Account {
    bytes: i64,
    /// Messages that were ever taken here, and their bytes.
    taken: (u64, u64),
}

/// What a message makes the disk write besides its own bytes: its row, and its entries in indexes.
const ROW_BYTES: u64 = 256;

/// What was written to the disk for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wear {
    /// The endpoint.
    pub endpoint: Arc<str>,
    /// Messages that were put on disk.
    pub messages: u64,
    /// Its share of all that was written.
    pub written: u64,
}

impl Budget {
    /// With nothing in it. While `room` is short of some, nothing is taken.
    pub fn new(limits: Limits, room: Arc<Room>) -> Budget {
        room.set_budget(limits.total);
        Budget { state: Mutex::new(State { limits, ..State::default() }), room }
    }

    /// Puts other limits in force. What waits already stays, even if it is more.
    pub fn set_limits(&self, limits: Limits) {
        self.room.set_budget(limits.total);
        lock(&self.state).limits = limits;
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        lock(&self.state).limits.clone()
    }

    /// Says how much the table may hold at most, until [`Budget::counted`] tells how much it does.
    pub fn expect(&self, bytes: u64) {
        lock(&self.state).expected = bytes;
    }

    /// Adds what the table held when this was opened.
    pub fn counted(&self, counts: impl IntoIterator<Item = (Arc<str>, u64)>) {
        let mut state = lock(&self.state);
        state.expected = 0;
        counts.into_iter().for_each(|(endpoint, bytes)| state.add(&endpoint, signed(bytes)));
    }

    /// Takes room for a message.
    ///
    /// # Errors
    /// [`SendError::StoreFull`], with nothing taken.
    pub fn take(&self, endpoint: &Arc<str>, bytes: u64) -> Result<(), SendError> {
        self.check_room(endpoint, bytes)?;
        let mut state = lock(&self.state);
        state.check(endpoint, bytes)?;
        state.take(endpoint, bytes);
        Ok(())
    }

    /// Takes room for all of these, or for none.
    ///
    /// # Errors
    /// [`SendError::StoreFull`] for the first that has none.
    pub fn take_rows(&self, rows: &[StoredMessage]) -> Result<(), SendError> {
        self.check_rows_with(rows, |state| rows.iter().for_each(|row| state.take(&row.endpoint, size(row))))
    }

    /// Whether there is room for all of these just now; takes nothing.
    ///
    /// # Errors
    /// As [`Budget::take_rows`].
    pub fn check_rows(&self, rows: &[StoredMessage]) -> Result<(), SendError> {
        self.check_rows_with(rows, |_| {})
    }

    /// Those for which there is room just now, and the endpoints of the others, with why; takes nothing.
    pub fn admit(&self, rows: Vec<StoredMessage>) -> (Vec<StoredMessage>, Vec<(Arc<str>, SendError)>) {
        let (mut admitted, mut refused) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            // Each one counts for the next.
            let (endpoint, bytes) = (row.endpoint.clone(), size(&row));
            match self.take(&endpoint, bytes) {
                Ok(()) => admitted.push(row),
                Err(error) => refused.push((endpoint, error)),
            }
        }
        let mut state = lock(&self.state);
        admitted.iter().for_each(|row| state.untake(&row.endpoint, size(row)));
        (admitted, refused)
    }

    fn check_rows_with(&self, rows: &[StoredMessage], then: impl FnOnce(&mut State)) -> Result<(), SendError> {
        let Some(first) = rows.first() else { return Ok(()) };
        self.check_room(&first.endpoint, size(first))?;
        let mut state = lock(&self.state);
        // Each is added to see whether the next one still fits.
        let mut outcome = Ok(());
        let mut checked = 0;
        for row in rows {
            outcome = state.check(&row.endpoint, size(row));
            if outcome.is_err() {
                break;
            }
            state.add(&row.endpoint, signed(size(row)));
            checked += 1;
        }
        rows[..checked].iter().for_each(|row| state.add(&row.endpoint, -signed(size(row))));
        if outcome.is_ok() {
            then(&mut state);
        }
        outcome
    }

    fn check_room(&self, endpoint: &Arc<str>, bytes: u64) -> Result<(), SendError> {
        match self.room.shortage() {
            None => Ok(()),
            Some(shortage) => {
                Err(SendError::StoreFull { endpoint: endpoint.to_string(), bytes, bound: Bound::Room(shortage) })
            }
        }
    }

    /// Takes room for what cannot be refused any more: a handler has accepted its input.
    pub fn take_rows_anyway(&self, rows: &[StoredMessage]) {
        let mut state = lock(&self.state);
        rows.iter().for_each(|row| state.take(&row.endpoint, size(row)));
    }

    /// Gives room back: the row is gone, or was never made.
    pub fn give(&self, endpoint: &Arc<str>, bytes: u64) {
        lock(&self.state).add(endpoint, -signed(bytes));
    }

    /// Gives the room of these back.
    pub fn give_rows(&self, rows: &[StoredMessage]) {
        let mut state = lock(&self.state);
        rows.iter().for_each(|row| state.add(&row.endpoint, -signed(size(row))));
    }

    /// Bytes that are held, of how many. Before the table has been counted: at most.
    pub fn held(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.held(), state.limits.total)
    }

    /// Bytes that wait or are parked for an endpoint.
    pub fn holds(&self, endpoint: &str) -> u64 {
        lock(&self.state).endpoints.get(endpoint).map_or(0, |account| unsigned(account.bytes))
    }

    /// What each endpoint holds, sorted; those with nothing in them only where they have a limit.
    pub fn by_endpoint(&self) -> Vec<Held> {
        let state = lock(&self.state);
        let mut found: BTreeMap<&Arc<str>, u64> = state.limits.endpoints.keys().map(|endpoint| (endpoint, 0)).collect();
        let held = state.endpoints.iter().filter(|(_, account)| account.bytes > 0);
        found.extend(held.map(|(endpoint, account)| (endpoint, unsigned(account.bytes))));
        let limit = |endpoint| state.limits.endpoints.get(endpoint).copied();
        found
            .into_iter()
            .map(|(endpoint, bytes)| Held { endpoint: endpoint.clone(), bytes, limit: limit(endpoint) })
            .collect()
    }

    /// How `written` bytes are shared out among the endpoints that messages were put on disk for, by what these weigh; sorted.
    pub fn wear(&self, written: u64) -> Vec<Wear> {
        let state = lock(&self.state);
        let weight = |(messages, bytes): (u64, u64)| u128::from(bytes) + u128::from(messages) * u128::from(ROW_BYTES);
        let all: u128 = state.endpoints.values().map(|account| weight(account.taken)).sum();
        let of = |taken| u64::try_from(u128::from(written) * weight(taken) / all.max(1)).unwrap_or(u64::MAX);
        let used = state.endpoints.iter().filter(|(_, account)| account.taken.0 > 0);
        let wear = used.map(|(endpoint, account)| Wear {
            endpoint: endpoint.clone(),
            messages: account.taken.0,
            written: of(account.taken),
        });
        let mut wear: Vec<Wear> = wear.collect();
        wear.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        wear
    }
}

impl State {
    fn held(&self) -> u64 {
        unsigned(self.total).saturating_add(self.expected)
    }

    fn check(&self, endpoint: &Arc<str>, bytes: u64) -> Result<(), SendError> {
        let full = |bound| Err(SendError::StoreFull { endpoint: endpoint.to_string(), bytes, bound });
        let of_endpoint = self.endpoints.get(endpoint).map_or(0, |account| unsigned(account.bytes));
        if let Some(&limit) = self.limits.endpoints.get(endpoint)
            && of_endpoint.saturating_add(bytes) > limit
        {
            return full(Bound::Endpoint { stored: of_endpoint, limit });
        }
        if self.held().saturating_add(bytes) > self.limits.total {
            return full(Bound::Store { stored: self.held(), limit: self.limits.total });
        }
        Ok(())
    }

    fn add(&mut self, endpoint: &Arc<str>, bytes: i64) {
        self.total = self.total.saturating_add(bytes);
        let account = self.account(endpoint);
        account.bytes = account.bytes.saturating_add(bytes);
    }

    /// Adds a message that is on its way to the disk.
    fn take(&mut self, endpoint: &Arc<str>, bytes: u64) {
        self.add(endpoint, signed(bytes));
        let taken = &mut self.account(endpoint).taken;
        *taken = (taken.0 + 1, taken.1.saturating_add(bytes));
    }

    /// Takes it back.
    fn untake(&mut self, endpoint: &Arc<str>, bytes: u64) {
        self.add(endpoint, -signed(bytes));
        let taken = &mut self.account(endpoint).taken;
        *taken = (taken.0.saturating_sub(1), taken.1.saturating_sub(bytes));
    }

    fn account(&mut self, endpoint: &Arc<str>) -> &mut Account {
        if !self.endpoints.contains_key(endpoint) {
            self.endpoints.insert(endpoint.clone(), Account::default());
        }
        self.endpoints.entry(endpoint.clone()).or_default()
    }
}

/// What a message counts.
pub fn size(row: &StoredMessage) -> u64 {
    (row.meta.len() + row.body.len()) as u64
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(total: u64, endpoints: &[(&str, u64)]) -> Limits {
        Limits { total, endpoints: endpoints.iter().map(|(name, bytes)| ((*name).into(), *bytes)).collect() }
    }

    fn new(limits: Limits) -> Budget {
        Budget::new(limits, Arc::default())
    }

    fn row(endpoint: &str, bytes: usize) -> StoredMessage {
        StoredMessage {
            endpoint: endpoint.into(),
            priority: 0,
            ttl_secs: None,
            sender: "s".into(),
            output: "o".into(),
            epoch: 1,
            sequence: 1,
            created_us: 0,
            meta: Vec::new(),
            body: vec![0; bytes],
        }
    }

    #[test]
    fn an_endpoint_has_its_own_limit_and_all_share_the_whole() {
        let budget = new(limits(100, &[("a", 30)]));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());

        budget.take(&a, 30).unwrap();
        let refused = budget.take(&a, 1).unwrap_err();
        budget.take(&b, 70).unwrap();
        let whole = budget.take(&b, 1).unwrap_err();

        let full = |endpoint: &str, bound| SendError::StoreFull { endpoint: endpoint.into(), bytes: 1, bound };
        assert_eq!(refused, full("a", Bound::Endpoint { stored: 30, limit: 30 }));
        for words in ["a", "30 of 30 bytes", "endpoints"] {
            assert!(refused.to_string().contains(words), "{refused}");
        }
        assert_eq!(whole, full("b", Bound::Store { stored: 100, limit: 100 }));
        budget.give(&a, 10);
        budget.take(&a, 10).unwrap();
        assert_eq!(budget.held(), (100, 100));
    }

    #[test]
    fn rows_are_taken_all_or_none() {
        let budget = new(limits(100, &[]));

        assert!(budget.take_rows(&[row("a", 60), row("b", 60)]).is_err());
        assert_eq!((budget.held(), budget.by_endpoint()), ((0, 100), Vec::new()));

        budget.check_rows(&[row("a", 60), row("b", 40)]).unwrap();
        assert_eq!(budget.held().0, 0);
        budget.take_rows(&[row("a", 60), row("b", 40)]).unwrap();
        budget.take_rows_anyway(&[row("b", 1)]);
        assert_eq!(budget.held().0, 101);
        budget.give_rows(&[row("a", 60)]);
        assert_eq!(budget.by_endpoint(), [Held { endpoint: "b".into(), bytes: 41, limit: None }]);

        let told: Vec<_> = budget.wear(10_000).into_iter().map(|w| (w.endpoint, w.messages, w.written)).collect();
        assert_eq!(told, [("a".into(), 1, 3_636), ("b".into(), 2, 6_363)]);
    }

    #[test]
    fn what_was_there_counts_before_and_after_it_has_been_counted() {
        let budget = new(limits(100, &[("a", 50)]));
        let a: Arc<str> = "a".into();
        budget.expect(90);
        budget.take(&a, 10).unwrap();
        assert!(budget.take(&a, 1).is_err(), "the file may hold so much");
        // A row that was there is delivered meanwhile.
        budget.give(&a, 20);

        budget.counted([(a.clone(), 40)]);

        assert_eq!(budget.by_endpoint(), [Held { endpoint: a.clone(), bytes: 30, limit: Some(50) }]);
        budget.take(&a, 20).unwrap();
        assert!(budget.take(&a, 1).is_err());
    }

    #[test]
    fn other_limits_hold_at_once_and_evict_nothing() {
        let budget = new(limits(100, &[]));
        let a: Arc<str> = "a".into();
        budget.take(&a, 80).unwrap();

        budget.set_limits(limits(1000, &[("a", 50)]));

        assert!(budget.take(&a, 1).is_err());
        assert_eq!(budget.held(), (80, 1000));
        budget.give(&a, 31);
        budget.take(&a, 1).unwrap();
    }
}
