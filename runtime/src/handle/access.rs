//! Who asks, and the record of what they did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

use super::Handle;
use crate::clock;
use crate::identity::{Principal, Token, TokenError};
use crate::log::Level;
use crate::view::ApiView;

/// What came in by the management API since the start, and what was turned away.
#[derive(Debug, Default)]
pub struct AccessFigures {
    /// Requests whose token was not taken, or that had none, by why.
    tokens: [AtomicU64; Unproven::ALL.len()],
    /// Connections that were told to come again, because there were too many.
    pub turned_away: AtomicU64,
    /// Requests that were refused for their size before any route saw them.
    pub refused_sizes: AtomicU64,
    /// Clients that are connected, from this system or another.
    pub connections: AtomicU64,
    /// Lines of the record of who did what.
    pub records: AtomicU64,
}

/// Why somebody is not taken for who they say they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// There is no token.
    Missing,
    /// It cannot be read.
    Malformed,
    /// It is over.
    Expired,
    /// It is for another host, or for something else.
    Scope,
    /// Nobody of that name is known.
    Unknown,
    /// Known, and not to act.
    Disabled,
    /// Signed with another key.
    Key,
}

impl Unproven {
    const ALL: [(Unproven, &'static str); 7] = [
        (Unproven::Missing, "missing"),
        (Unproven::Malformed, "malformed"),
        (Unproven::Expired, "expired"),
        (Unproven::Scope, "scope"),
        (Unproven::Unknown, "unknown"),
        (Unproven::Disabled, "disabled"),
        (Unproven::Key, "key"),
    ];
}

impl From<&TokenError> for Unproven {
    fn from(error: &TokenError) -> Unproven {
        match error {
            TokenError::Expired { .. } => Unproven::Expired,
            TokenError::WrongHost { .. } | TokenError::WrongScope { .. } | TokenError::Nobody => Unproven::Scope,
            TokenError::UnknownIdentity(_) | TokenError::UnknownPolicy(_) => Unproven::Unknown,
            TokenError::Disabled(_) => Unproven::Disabled,
            TokenError::WrongKey(_) | TokenError::NoKey(_) => Unproven::Key,
            _ => Unproven::Malformed,
        }
    }
}

impl AccessFigures {
    /// Counts a request whose token was not taken, or that had none.
    pub fn refuse_token(&self, why: Unproven) {
        self.tokens[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests whose token was not taken, or that had none, with the word for why.
    pub fn tokens_refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Unproven::ALL.iter().map(|(why, word)| (*word, self.tokens[*why as usize].load(Ordering::Relaxed)))
    }

    /// All of them.
    pub fn refused_tokens(&self) -> u64 {
        self.tokens_refused().map(|(_, count)| count).sum()
    }

    /// Counts a connection for as long as what is returned lives.
    pub fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }
}

/// An open connection, counted.
pub struct Connected(Arc<AccessFigures>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handle {
    /// What was turned away since the start.
    pub fn access_figures(&self) -> &Arc<AccessFigures> {
        &self.access
    }

    /// Who a shared access signature proves its bearer to be. `names`: those under which this device is reached.
    /// `[never blocks]`
    pub fn authenticate(&self, token: &str, names: &[String]) -> Result<Principal, TokenError> {
        self.identities.authenticate(&Token::parse(token)?, names, clock::wall_us())
    }

    /// Records that somebody did something, or was refused it. `[never blocks]`
    pub fn record(&self, what: &str, fields: Map<String, Value>, is_refusal: bool) {
        let level = if is_refusal { Level::Warn } else { Level::Info };
        self.access.records.fetch_add(1, Ordering::Relaxed);
        self.services.logs.audit(level, what, fields);
    }

    /// Has `told` called once what was recorded so far is in its file. `[never blocks]`
    pub fn once_recorded(&self, told: impl FnOnce() + Send + 'static) {
        self.services.logs.once_written(told);
    }

    /// Says how other machines reach the management API.
    pub fn reached_by(&self, api: ApiView) {
        // Once for each run.
        let _ = self.api.set(api);
    }

    /// How other machines reach the management API; `None`: not at all.
    pub fn api(&self) -> Option<&ApiView> {
        self.api.get()
    }
}
