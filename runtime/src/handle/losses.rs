//! What was lost, as the ledger has it.

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::clock;
use crate::database::StoreError;
use crate::database::tables::loss::LossLine;
use crate::name::Identity;
use crate::queue::losses::BOOK_LOST;
use crate::routing::{Sink, SourcePath};
use crate::view::{DeadLetterChoice, LossEntry, LossPlace, LossesView};

impl Handle {
    /// The ledger of losses: all of it, or what `name` sent or was to get. What was counted until now is in it. That the book of
    /// sequences was lost concerns everybody.
    pub async fn losses(&self, name: Option<&str>) -> Answer<LossesView> {
        self.ask(|control, _| control.keep_losses()).await?;
        self.committed().await?;
        let rows = self.services.disk.losses().map_err(|error| unread(&error))?;
        let mut all: Vec<LossEntry> = rows.into_iter().map(entry).collect();
        // A disk that takes nothing is no reason to keep silent.
        all.extend(self.services.ingest.losses().not_stored().iter().map(|loss| {
            let times = (None, None);
            entry(LossLine { row: loss.row(), times })
        }));
        let entries = match name {
            None => all,
            Some(name) => {
                let (is_of, others): (Vec<LossEntry>, Vec<LossEntry>) =
                    all.into_iter().partition(|entry| self.concerns(entry, name));
                if is_of.iter().all(|entry| entry.reason == BOOK_LOST) {
                    // One that was removed may be meant.
                    let named = others.iter().flat_map(|entry| [&entry.sender, &entry.endpoint]);
                    self.is_known(name, named.map(String::as_str)).await?;
                }
                is_of
            }
        };
        let sum = |is_parked: bool| {
            entries.iter().filter(|entry| (entry.reason == "parked") == is_parked).map(|entry| entry.count).sum()
        };
        let dead_letters = match name {
            None => self.services.disk.stored().1,
            Some(name) => {
                let choice = DeadLetterChoice { name: Some(name.to_owned()), ..DeadLetterChoice::default() };
                self.services.disk.dead_letters(&self.filter(&choice)?, 0, 1).map_err(|error| unread(&error))?.0
            }
        };
        let epoch = self.services.ingest.epoch();
        Ok(LossesView { lost: sum(false), parked: sum(true), dead_letters, epoch, entries })
    }

    fn concerns(&self, entry: &LossEntry, name: &str) -> bool {
        let path = self.path_of(name);
        // MODULE/WHAT is an output as well as an input.
        let is_output = || match name.split_once('/') {
            Some((module, output)) => entry.output == output && entry.sender == self.path_of(module),
            None => false,
        };
        entry.reason == BOOK_LOST
            || entry.endpoint == name
            || entry.sender == path
            || entry.endpoint.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || is_output()
            || (entry.endpoint.is_empty() && self.may_have_been_for(entry, name))
    }

    /// Whether what died with the runtime in memory, of which nobody knows where it was, can have been for `name`: as far as the routes
    /// of now tell. What a person sent went anywhere.
    fn may_have_been_for(&self, entry: &LossEntry, name: &str) -> bool {
        let Ok(sender) = entry.sender.parse::<Identity>() else { return false };
        let Some(module) = sender.module_id() else { return true };
        let module_of_name = name.split_once('/').map_or(name, |(module, _)| module);
        let path = self.path_of(module_of_name);
        let (deployed, local) = self.listeners.routes();
        let output = Some(&*entry.output).filter(|output| !output.is_empty());
        let routes = deployed.with(&local);
        let candidates = routes.candidates_for(&SourcePath::module(module, output));
        candidates.iter().flatten().any(|route| match &route.target.sink {
            Sink::Upstream => name == "$upstream",
            Sink::Input { module, .. } => self.path_of(module) == path,
        })
    }
}

fn unread(error: &StoreError) -> Refusal {
    let hint = error.hint().unwrap_or("ask again; `dinrail check` looks at the state directory");
    Refusal::new(RefusalKind::Failed, format!("the ledger of losses cannot be read: {error}"), hint)
}

fn entry(LossLine { row, times }: LossLine) -> LossEntry {
    // Those that nobody knows the sequences of are no range.
    let is_range = row.first.0 == row.last.0 && row.first.1 > 0;
    LossEntry {
        is_covering: !row.is_upper_bound && row.count > 0 && is_range && row.last.1 - row.first.1 + 1 > row.count,
        sender: row.sender,
        output: row.output,
        endpoint: row.endpoint,
        reason: row.reason,
        count: row.count,
        first: LossPlace { epoch: row.first.0, sequence: row.first.1 },
        last: LossPlace { epoch: row.last.0, sequence: row.last.1 },
        is_upper_bound: row.is_upper_bound,
        first_time_utc: times.0.map(clock::rfc3339),
        last_time_utc: times.1.map(clock::rfc3339),
    }
}
