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
    Endpoint,
    /// That of the whole store.
    Store,
}

impl fmt::Display for Bound {
    /// What to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Endpoint => {
                "it takes more once some are delivered, or with a larger maxBytes for it in \
                 storeAndForwardConfiguration.endpoints"
            }
            Bound::Store => {
                "that is the whole store, which takes more once some are delivered, or with a larger \
                 storeAndForwardConfiguration.maxBytes"
            }
        })
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
pub struct Budget(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    /// Stands for what is not counted yet.
    expected: u64,
    /// Signed: what was in the table may be given back before it has been counted.
    total: i64,
    endpoints: HashMap<Arc<str>, i64>,
}

impl Budget {
    /// With nothing in it.
    pub fn new(limits: Limits) -> Budget {
        Budget(Mutex::new(State { limits, ..State::default() }))
    }

    /// Puts other limits in force. What waits already stays, even if it is more.
    pub fn set_limits(&self, limits: Limits) {
        lock(&self.0).limits = limits;
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        lock(&self.0).limits.clone()
    }

    /// Says how much the table may hold at most, until [`Budget::counted`] tells how much it does.
    pub fn expect(&self, bytes: u64) {
        lock(&self.0).expected = bytes;
    }

    /// Adds what the table held when this was opened.
    pub fn counted(&self, counts: impl IntoIterator<Item = (Arc<str>, u64)>) {
        let mut state = lock(&self.0);
        state.expected = 0;
        counts.into_iter().for_each(|(endpoint, bytes)| state.add(&endpoint, signed(bytes)));
    }

    /// Takes room for a message.
    ///
    /// # Errors
    /// [`SendError::StoreFull`], with nothing taken.
    pub fn take(&self, endpoint: &Arc<str>, bytes: u64) -> Result<(), SendError> {
        let mut state = lock(&self.0);
        state.check(endpoint, bytes)?;
        state.add(endpoint, signed(bytes));
        Ok(())
    }

    /// Takes room for all of these, or for none.
    ///
    /// # Errors
    /// [`SendError::StoreFull`] for the first that has none.
    pub fn take_rows(&self, rows: &[StoredMessage]) -> Result<(), SendError> {
        let mut state = lock(&self.0);
        for (at, row) in rows.iter().enumerate() {
            if let Err(full) = state.check(&row.endpoint, size(row)) {
                rows[..at].iter().for_each(|taken| state.add(&taken.endpoint, -signed(size(taken))));
                return Err(full);
            }
            state.add(&row.endpoint, signed(size(row)));
        }
        Ok(())
    }

    /// Whether there is room for all of these just now; takes nothing.
    ///
    /// # Errors
    /// As [`Budget::take_rows`].
    pub fn check_rows(&self, rows: &[StoredMessage]) -> Result<(), SendError> {
        self.take_rows(rows)?;
        self.give_rows(rows);
        Ok(())
    }

    /// Takes room for what cannot be refused any more: a handler has accepted its input.
    pub fn take_rows_anyway(&self, rows: &[StoredMessage]) {
        let mut state = lock(&self.0);
        rows.iter().for_each(|row| state.add(&row.endpoint, signed(size(row))));
    }

    /// Gives room back: the row is gone, or was never made.
    pub fn give(&self, endpoint: &Arc<str>, bytes: u64) {
        lock(&self.0).add(endpoint, -signed(bytes));
    }

    /// Gives the room of these back.
    pub fn give_rows(&self, rows: &[StoredMessage]) {
        let mut state = lock(&self.0);
        rows.iter().for_each(|row| state.add(&row.endpoint, -signed(size(row))));
    }

    /// Bytes that are held, of how many. Before the table has been counted: at most.
    pub fn held(&self) -> (u64, u64) {
        let state = lock(&self.0);
        (state.held(), state.limits.total)
    }

    /// What each endpoint holds, sorted; those with nothing in them only where they have a limit.
    pub fn by_endpoint(&self) -> Vec<Held> {
        let state = lock(&self.0);
        let mut found: BTreeMap<&Arc<str>, u64> = state.limits.endpoints.keys().map(|endpoint| (endpoint, 0)).collect();
        let held = state.endpoints.iter().filter(|(_, bytes)| **bytes > 0);
        found.extend(held.map(|(endpoint, bytes)| (endpoint, unsigned(*bytes))));
        let limit = |endpoint| state.limits.endpoints.get(endpoint).copied();
        found
            .into_iter()
            .map(|(endpoint, bytes)| Held { endpoint: endpoint.clone(), bytes, limit: limit(endpoint) })
            .collect()
    }
}

impl State {
    fn held(&self) -> u64 {
        unsigned(self.total).saturating_add(self.expected)
    }

    fn check(&self, endpoint: &Arc<str>, bytes: u64) -> Result<(), SendError> {
        let full = |stored, budget, bound| {
            Err(SendError::StoreFull { endpoint: endpoint.to_string(), bytes, stored, budget, bound })
        };
        let of_endpoint = self.endpoints.get(endpoint).copied().map_or(0, unsigned);
        if let Some(&limit) = self.limits.endpoints.get(endpoint)
            && of_endpoint.saturating_add(bytes) > limit
        {
            return full(of_endpoint, limit, Bound::Endpoint);
        }
        if self.held().saturating_add(bytes) > self.limits.total {
            return full(self.held(), self.limits.total, Bound::Store);
        }
        Ok(())
    }

    fn add(&mut self, endpoint: &Arc<str>, bytes: i64) {
        self.total = self.total.saturating_add(bytes);
        match self.endpoints.get_mut(endpoint) {
            Some(held) => *held = held.saturating_add(bytes),
            None => drop(self.endpoints.insert(endpoint.clone(), bytes)),
        }
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
        let budget = Budget::new(limits(100, &[("a", 30)]));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());

        budget.take(&a, 30).unwrap();
        let refused = budget.take(&a, 1).unwrap_err();
        budget.take(&b, 70).unwrap();
        let whole = budget.take(&b, 1).unwrap_err();

        assert!(matches!(&refused, SendError::StoreFull { stored: 30, budget: 30, bound: Bound::Endpoint, .. }));
        for words in ["a", "30 of 30 bytes", "endpoints"] {
            assert!(refused.to_string().contains(words), "{refused}");
        }
        assert!(matches!(&whole, SendError::StoreFull { stored: 100, budget: 100, bound: Bound::Store, .. }));
        budget.give(&a, 10);
        budget.take(&a, 10).unwrap();
        assert_eq!(budget.held(), (100, 100));
    }

    #[test]
    fn rows_are_taken_all_or_none() {
        let budget = Budget::new(limits(100, &[]));

        assert!(budget.take_rows(&[row("a", 60), row("b", 60)]).is_err());
        assert_eq!((budget.held(), budget.by_endpoint()), ((0, 100), Vec::new()));

        budget.check_rows(&[row("a", 60), row("b", 40)]).unwrap();
        assert_eq!(budget.held().0, 0);
        budget.take_rows(&[row("a", 60), row("b", 40)]).unwrap();
        budget.take_rows_anyway(&[row("b", 1)]);
        assert_eq!(budget.held().0, 101);
        budget.give_rows(&[row("a", 60)]);
        assert_eq!(budget.by_endpoint(), [Held { endpoint: "b".into(), bytes: 41, limit: None }]);
    }

    #[test]
    fn what_was_there_counts_before_and_after_it_has_been_counted() {
        let budget = Budget::new(limits(100, &[("a", 50)]));
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
        let budget = Budget::new(limits(100, &[]));
        let a: Arc<str> = "a".into();
        budget.take(&a, 80).unwrap();

        budget.set_limits(limits(1000, &[("a", 50)]));

        assert!(budget.take(&a, 1).is_err());
        assert_eq!(budget.held(), (80, 1000));
        budget.give(&a, 31);
        budget.take(&a, 1).unwrap();
    }
}
