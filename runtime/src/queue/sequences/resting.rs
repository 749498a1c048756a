//! Outputs that rest give back what they do not need of their blocks, so that the ledger claims little of them after an end without a
//! word.
//!
//! A block lasts for seconds at the rate at which it was asked for. An output that has been fast and is idle since then would keep
//! hundreds of thousands of numbers, all of which may be missing as far as the next start knows.

use super::*;

/// What an output that rests keeps of its block.
const KEPT: u64 = FIRST_BLOCK;

/// The end of a block that is given back.
pub struct Rest {
    source: Arc<Source>,
    block: Arc<Block>,
    reserved: u64,
}

impl Sequence {
    /// To be called now and then. Where nothing was given out since the last call and the block is large, its end is never given out
    /// any more, and [`Book::shrink`] is to be called with what this gives; no block is asked for until that is over.
    pub fn rest(&mut self, source: &Arc<Source>) -> Option<Rest> {
        let was = std::mem::replace(&mut self.at_last_look, self.last);
        let block = self.block.as_ref().filter(|_| self.last > 0 && self.last == was && !self.is_closed)?;
        let mut state = lock(&block.state);
        if state.is_in_line || state.has_failed || state.reserved.saturating_sub(self.last) <= 2 * KEPT {
            return None;
        }
        state.is_in_line = true;
        state.reserved = self.last + KEPT;
        self.free = self.last;
        Some(Rest { source: source.clone(), block: block.clone(), reserved: state.reserved })
    }
}

impl Book {
    /// Has the disk know what outputs have given back. Does not wait for it; where it does not take that, it says more than is so.
    pub fn shrink(&self, rests: Vec<Rest>) {
        let Some((database, _)) = self.0.file.as_ref().filter(|_| !rests.is_empty()) else { return };
        let rests = Arc::new(rests);
        let told = rests.clone();
        database.submit_now(
            File::Queue,
            Box::new(move |tx| {
                rests.iter().try_for_each(|rest| {
                    sequence::shrink(tx, &rest.source.identity, &rest.source.output, rest.reserved)
                })
            }),
            Box::new(move |outcome| {
                if let Err(error) = outcome {
                    tracing::debug!("blocks of idle outputs stay as large as they are on disk: {error}");
                }
                for rest in told.iter() {
                    lock(&rest.block.state).is_in_line = false;
                    rest.block.changed.notify_all();
                }
            }),
        );
    }
}
