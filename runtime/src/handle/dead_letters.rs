//! Dead letters: what was set aside, looked at, put back and discarded.

use std::collections::BTreeSet;

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::clock;
use crate::database::StoreError;
use crate::database::tables::dead_letter::{DeadLetter, Filter};
use crate::message::{Message, Stamp};
use crate::queue::disk::Disk;
use crate::queue::losses::PURGED;
use crate::view::{DeadLetterChoice, DeadLetterView, DeadLettersMoved, DeadLettersView};

/// Most of one page.
pub const MAX_PAGE: u32 = 1000;

impl Handle {
    /// A page of dead letters, those with ids above `after`.
    pub async fn dead_letters(&self, choice: &DeadLetterChoice, after: i64, limit: u32) -> Answer<DeadLettersView> {
        let filter = self.filter(choice)?;
        let limit = limit.clamp(1, MAX_PAGE);
        let disk = &self.services.disk;
        let (total, mut found) = disk.dead_letters(&filter, after, limit + 1).map_err(|error| unread(&error))?;
        if total == 0 {
            self.has_dead_letters_or_is_known(choice).await?;
        }
        let is_more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| is_more).map(|last| last.id);
        Ok(DeadLettersView { total, dead_letters: found.into_iter().map(view).collect(), next })
    }

    /// One dead letter with its properties and body.
    pub async fn dead_letter(&self, id: i64) -> Answer<DeadLetterView> {
        let found = self.services.disk.dead_letter(id).map_err(|error| unread(&error))?;
        let (letter, true_us) = found.ok_or_else(|| unknown(&[id]))?;
        let DeadLetter { message: row, .. } = &letter;
        let stamp = Stamp {
            sender: row.sender.clone(),
            output: row.output.clone(),
            epoch: row.epoch,
            sequence: row.sequence,
            created_us: row.created_us,
        };
        let message = Message::from_parts(&row.meta, row.body.clone(), stamp).to_json();
        let true_time_utc = true_us.filter(|us| *us != row.created_us).map(clock::rfc3339);
        Ok(DeadLetterView { message: Some(message), true_time_utc, ..view(letter) })
    }

    /// Puts dead letters back into their queues, as if they had never been delivered. They are stored so when this returns.
    pub async fn dead_letters_resend(&self, choice: &DeadLetterChoice) -> Answer<DeadLettersMoved> {
        let filter = self.chosen(choice)?;
        let disk = self.services.disk.clone();
        let resend = move || {
            let missing = missing(&disk, &filter)?;
            Ok((disk.resend_dead_letters(&filter, clock::wall_us())?, missing))
        };
        self.moved(choice, resend).await
    }

    /// Discards dead letters, which the ledger then has as lost.
    pub async fn dead_letters_purge(&self, choice: &DeadLetterChoice) -> Answer<DeadLettersMoved> {
        let filter = self.chosen(choice)?;
        let (disk, ingest) = (self.services.disk.clone(), self.services.ingest.clone());
        let purge = move || {
            let missing = missing(&disk, &filter)?;
            let count = disk.purge_dead_letters(&filter, PURGED, clock::wall_us())?;
            ingest.losses().ledger_grew();
            Ok((count, missing))
        };
        self.moved(choice, purge).await
    }

    /// What is on disk for endpoints that begin with `prefix`, in words, if anything is. `name`: what a person calls them.
    pub(super) fn stored_words(&self, prefix: &str, name: &str) -> Vec<String> {
        let counted = |count: u64, one: &str, many: &str| match count {
            1 => format!("1 message that {one}"),
            _ => format!("{count} messages that {many}"),
        };
        match self.services.disk.stored_for(prefix) {
            Ok((waiting, parked)) => {
                let waiting = (waiting > 0).then(|| counted(waiting, "waits on disk", "wait on disk"));
                let list = format!("(dinrail dead-letter list {name})");
                let words = || format!("{} {list}", counted(parked, "is set aside", "are set aside"));
                let parked = (parked > 0).then(words);
                waiting.into_iter().chain(parked).collect()
            }
            Err(error) => vec![format!("what is on disk, which cannot be read: {error}")],
        }
    }

    /// Does it where it may wait for the disk; `act` returns how many there were, and which were asked for and are not there.
    async fn moved(
        &self,
        choice: &DeadLetterChoice,
        act: impl FnOnce() -> Result<(u64, Vec<i64>), StoreError> + Send + 'static,
    ) -> Answer<DeadLettersMoved> {
        let done = tokio::task::spawn_blocking(act).await;
        let failed = |why: String| {
            let message = format!("the dead letters cannot be changed, not all of them at least: {why}");
            Refusal::new(RefusalKind::Failed, message, "see `dinrail check`; what was done stays done, so do it again")
        };
        let (count, missing) =
            done.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        match &choice.ids {
            // They may have gone in between.
            Some(ids) if count == 0 => return Err(unknown(if missing.is_empty() { ids } else { &missing })),
            None if count == 0 => self.has_dead_letters_or_is_known(choice).await?,
            _ => {}
        }
        self.changes.send_modify(|count| *count += 1);
        let (_, left, _) = self.services.disk.stored();
        Ok(DeadLettersMoved { count, left, missing })
    }

    /// Tells a mistyped name from one of which nothing is set aside, or nothing of that age.
    async fn has_dead_letters_or_is_known(&self, choice: &DeadLetterChoice) -> Answer<()> {
        let Some(name) = &choice.name else { return Ok(()) };
        let of_any_age = self.filter(&DeadLetterChoice { name: Some(name.clone()), ..DeadLetterChoice::default() })?;
        match self.services.disk.dead_letters(&of_any_age, 0, 1) {
            Ok((0, _)) => self.is_known(name, std::iter::empty()).await,
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What is to be changed has to be said: an empty choice is a mistake, not everything.
    fn chosen(&self, choice: &DeadLetterChoice) -> Answer<Filter> {
        let is_narrowed = choice.name.is_some() || choice.older_than_secs.is_some();
        let is_said = choice.all || is_narrowed || choice.ids.as_ref().is_some_and(|ids| !ids.is_empty());
        if !is_said {
            let hint = "give ids, a name or an age; or all";
            return Err(Refusal::new(RefusalKind::Invalid, "it is not said which dead letters", hint));
        }
        if choice.ids.is_some() && (choice.all || is_narrowed) {
            let hint = "give ids alone, or leave them out";
            return Err(Refusal::new(RefusalKind::Invalid, "ids do not go with all, a name or an age", hint));
        }
        self.filter(choice)
    }

    pub(super) fn filter(&self, choice: &DeadLetterChoice) -> Answer<Filter> {
        let endpoint = choice.name.as_ref().map(|name| match name.as_str() {
            "$upstream" => name.clone(),
            _ => self.path_of(name),
        });
        let age = choice.older_than_secs.map(|secs| i64::try_from(secs.saturating_mul(1_000_000)).unwrap_or(i64::MAX));
        let ids = choice.ids.clone().map(|mut ids| {
            ids.sort_unstable();
            ids.dedup();
            ids
        });
        Ok(Filter { ids, endpoint, until_us: age.map(|age| clock::wall_us().saturating_sub(age)), up_to: None })
    }
}

/// Of the ids that are asked for, those of no dead letter.
fn missing(disk: &Disk, filter: &Filter) -> Result<Vec<i64>, StoreError> {
    let Some(ids) = &filter.ids else { return Ok(Vec::new()) };
    let (_, found) = disk.dead_letters(filter, 0, u32::try_from(ids.len()).unwrap_or(u32::MAX))?;
    let found: BTreeSet<i64> = found.iter().map(|letter| letter.id).collect();
    Ok(ids.iter().copied().filter(|id| !found.contains(id)).collect())
}

fn unknown(ids: &[i64]) -> Refusal {
    let ids: Vec<String> = ids.iter().take(10).map(i64::to_string).collect();
    Refusal::new(
        RefusalKind::NotFound,
        format!("there is no dead letter {}", ids.join(", ")),
        "`dinrail dead-letter list` has those that there are",
    )
}

fn unread(error: &StoreError) -> Refusal {
    let hint = error.hint().unwrap_or("ask again; `dinrail check` looks at the state directory");
    Refusal::new(RefusalKind::Failed, format!("the dead letters cannot be read: {error}"), hint)
}

fn view(letter: DeadLetter) -> DeadLetterView {
    let row = letter.message;
    DeadLetterView {
        id: letter.id,
        endpoint: row.endpoint.to_string(),
        sender: row.sender.to_string(),
        output: row.output.to_string(),
        epoch: row.epoch,
        sequence: row.sequence,
        created_time_utc: clock::rfc3339(row.created_us),
        true_time_utc: None,
        parked_time_utc: letter.parked_us.map(clock::rfc3339),
        reason: letter.reason,
        attempts: letter.attempts,
        bytes: letter.bytes,
        message: None,
    }
}
