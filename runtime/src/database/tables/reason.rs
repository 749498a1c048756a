//! Why messages did not arrive, as the ledger of losses says it: every reason that there is.

/// A queue had no room, and the sender was told.
pub const FULL: &str = "full";
/// Larger than its route takes, and the sender was told.
pub const TOO_LARGE: &str = "tooLarge";
/// It waited longer than its time to live.
pub const EXPIRED: &str = "expired";
/// The byte budget of the store is spent.
pub const STORE_FULL: &str = "storeFull";
/// The disk failed.
pub const NOT_STORED: &str = "notStored";
/// Set aside as poisonous, which is not lost yet.
pub const PARKED: &str = "parked";
/// Discarded by a person.
pub const PURGED: &str = "purged";
/// Waited in memory when the runtime ended.
pub const STOPPED: &str = "stopped";
/// Was in memory, or on its way, when the runtime ended without a word: at most so many.
pub const RUNTIME_DIED: &str = "runtimeDied";
/// Made room for a newer one.
pub const DROP_OLDEST: &str = "dropOldest";
/// There was no room for it, and the route says that it is to go.
pub const DROP_NEWEST: &str = "dropNewest";
/// Among these numbers an unclean end skipped some. What was acknowledged is on disk, or was delivered before. Nothing is lost.
pub const NOT_ACKNOWLEDGED: &str = "notAcknowledged";
/// Staged by a handler that failed: its next attempt sends it again, under another number. Nothing is lost.
pub const WITHDRAWN: &str = "withdrawn";
/// The book of sequences was lost, and another epoch began. Nothing is counted.
pub const BOOK_LOST: &str = "bookLost";
/// The disk lost what had been stored.
pub const DAMAGED: &str = "damaged";
