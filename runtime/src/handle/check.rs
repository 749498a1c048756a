//! `check`, asked of the running runtime: what lies on the disk is looked at on a thread of its own, what the loop knows is
//! judged, and a loop or writer that does not answer is itself a finding.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::check::{self, live};
use crate::clock;
use crate::control::Control;
use crate::database::File;
use crate::view::{CheckView, Finding, Severity};

/// What does not answer within this time does not live.
const LIFE_SIGN: Duration = Duration::from_secs(5);

impl Handle {
    /// Looks at the device, the state directory and everything that runs.
    pub async fn check(&self) -> Answer<CheckView> {
        let state = self.folders.state.clone();
        let on_disk = tokio::task::spawn_blocking(move || {
            let mut found = check::state::state_directory(&state);
            found.push(check::clock(clock::wall_us(), check::state::last_written_us(&state)));
            found.push(check::system());
            found
        });
        let (loop_lives, seen) = match tokio::time::timeout(LIFE_SIGN, self.ask(|control, _| control.seen())).await {
            Ok(seen) => (life("control-loop", None), Some(seen?)),
            Err(_) => (life("control-loop", Some("decides nothing any more")), None),
        };
        let mut findings = vec![loop_lives];
        if seen.is_some() {
            findings.push(match tokio::time::timeout(LIFE_SIGN, self.committed()).await {
                Ok(Ok(())) => life("database-writer", None),
                Ok(Err(refusal)) => Finding { hint: refusal.hint, ..life("database-writer", Some(&refusal.message)) },
                Err(_) => life("database-writer", Some("commits nothing any more: is the disk full, slow or locked?")),
            });
        }
        let on_disk = on_disk.await.map_err(|error| {
            Refusal::new(RefusalKind::Failed, format!("the look at the state directory ended: {error}"), "ask again")
        })?;
        findings.extend(on_disk);
        if let Some(mut seen) = seen {
            seen.refused = self.refused();
            seen.store = self.store_seen();
            seen.health.api = self.api().cloned();
            let figures = self.access_figures();
            seen.turned_away = (figures.refused_tokens(), figures.turned_away.load(Relaxed));
            findings.extend(live::judge(&seen));
        }
        Ok(CheckView::of(findings))
    }

    fn store_seen(&self) -> live::StoreSeen {
        let (budget, figures) = (self.services.disk.budget(), self.database.figures());
        let (logged, folded) = figures.written(File::Queue);
        let wear = budget.wear(logged + folded);
        let endpoints = budget.by_endpoint().into_iter();
        let faults = self.database.faults().into_iter();
        live::StoreSeen {
            held: budget.held(),
            endpoints: endpoints.map(|held| (held.endpoint.to_string(), held.bytes, held.limit)).collect(),
            shortage: self.database.room().shortage().map(|shortage| (shortage.to_string(), shortage.hint())),
            faults: faults.map(|fault| (fault.to_string(), fault.hint().unwrap_or("see its log"))).collect(),
            commits: figures.commit_quantile(0.5).zip(figures.commit_quantile(0.99)),
            written: (wear.iter().map(|wear| wear.messages).sum(), wear.iter().map(|wear| wear.written).sum()),
        }
    }

    /// Modules that refused what was written last.
    fn refused(&self) -> Vec<(String, u64, String)> {
        let refused = self.twins.list().into_iter().filter_map(|twin| {
            let said = twin.acknowledged().filter(|said| !said.ok)?;
            Some((twin.identity.module_id()?.to_owned(), said.version, said.error.unwrap_or_default()))
        });
        refused.collect()
    }
}

fn life(id: &str, trouble: Option<&str>) -> Finding {
    Finding {
        id: id.to_owned(),
        status: if trouble.is_some() { Severity::Error } else { Severity::Ok },
        summary: trouble.unwrap_or("answers").to_owned(),
        details: Vec::new(),
        hint: trouble.map(|_| "keep its log, then restart the runtime: what was acknowledged is on disk".to_owned()),
    }
}

impl Control {
    /// Everything that can be judged at one moment.
    fn seen(&mut self) -> live::Seen {
        let health = self.health_view();
        live::Seen {
            has_generic_id: crate::identity::is_generic(&health.device_id),
            health,
            modules: self.module_details(),
            images: self.image_views(),
            folders: self.watched_folders(),
            deployment: self.deployment_view(),
            turned_away: (0, 0),
            refused: Vec::new(),
            store: Default::default(),
        }
    }
}
