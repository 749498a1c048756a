//! Everything that is measured, put together when somebody asks: one question to the loop, the rest is read where it is counted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::clock;
use crate::control::Control;
use crate::database::{COMMIT_BUCKETS_US, File, disk_space};
use crate::image::{Library, Verdict};
use crate::log::Dropped;
use crate::method::{DURATION_BUCKETS_US, Durations, Outcome};
use crate::metrics::{Refused, Scrape, Traffic, Value};
use crate::twin::Part;
use crate::view::{RuntimeFigures, Status};

impl Handle {
    /// What is asked of the management API, counted.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Measures.
    pub async fn metrics(&self) -> Answer<Scrape> {
        let begun = clock::now();
        let (figures, images) = self.ask(|control, now| (control.figures(now), control.image_verdicts())).await?;
        let handle = self.clone();
        // Files are looked at, and the ledger is read: others are served meanwhile.
        let read = tokio::task::spawn_blocking(move || {
            let mut scrape = Scrape::default();
            handle.tell_runtime(&figures, &images, &mut scrape);
            handle.tell_twins(&mut scrape);
            handle.tell_messages(&mut scrape);
            handle.tell_disk(&mut scrape);
            handle.tell_secrets(&mut scrape);
            handle.tell_api(&mut scrape);
            scrape
        });
        let scrape = read
            .await
            .map_err(|error| Refusal::new(RefusalKind::Failed, format!("not measured: {error}"), "ask again"))?;
        self.traffic.scraped(begun.elapsed());
        Ok(scrape)
    }

    fn tell_runtime(&self, figures: &RuntimeFigures, images: &[(&'static str, u64)], scrape: &mut Scrape) {
        scrape.add("build", [env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH], 1);
        scrape.add("start_time", [], seconds(clock::wall_us()) - figures.uptime.as_secs_f64());
        for status in Status::ALL {
            let count = figures.instances.iter().filter(|instance| instance.status == status).count();
            scrape.add("modules", [status.as_str()], count as u64);
        }
        for instance in &figures.instances {
            let name = instance.name.as_str();
            scrape.add("module_status", [name, instance.status.as_str()], 1);
            scrape.add("module_starts", [name], instance.starts);
            scrape.add("module_exits", [name, "clean"], instance.clean_exits);
            scrape.add("module_exits", [name, "failed"], instance.failed_exits);
            scrape.add("module_failures", [name], u64::from(instance.failures));
            let mut time = |metric, us: Option<i64>| us.map(|us| scrape.add(metric, [name], seconds(us)));
            time("module_last_start_time", instance.last_start_us);
            time("module_last_exit_time", instance.last_exit_us);
            if let Some(code) = instance.exit_code {
                scrape.add("module_last_exit_code", [name], f64::from(code));
            }
            scrape.add("module_running_correctly", [name], instance.running.as_secs_f64());
            scrape.add("module_expected_running", [name], instance.expected.as_secs_f64());
            scrape.add("module_cpu", [name], instance.cpu_seconds);
            let digest = instance.digest.as_ref().and_then(|digest| digest.parse().ok());
            if let Some(bytes) = digest.and_then(|digest| Library::memory_in_use(&digest)) {
                scrape.add("module_memory", [name], bytes);
            }
            scrape.add("module_deliveries_repeated", [name, "retry"], instance.retries);
            scrape.add("module_deliveries_repeated", [name, "fault"], instance.faults);
            for (reason, count) in reasons(self.services.logs.dropped(name)) {
                scrape.add("module_log_lines_dropped", [name, reason], count);
            }
        }
        images.iter().for_each(|(verdict, count)| scrape.add("images", [verdict], *count));
        let calls = &self.services.calls;
        for outcome in Outcome::ALL {
            scrape.add("methods", [outcome.as_str()], calls.figures().ended(outcome));
        }
        scrape.add("methods_open", [], calls.open() as u64);
        scrape.add("methods_duration", [], spread(&calls.figures().durations()));
        scrape.add("methods_late", [], calls.figures().late_answers());
        scrape.add("log_lines", [], self.services.logs.written());
        for (reason, count) in reasons(self.services.logs.runtime().dropped()) {
            scrape.add("log_lines_dropped", [reason], count);
        }
    }

    fn tell_secrets(&self, scrape: &mut Scrape) {
        let secrets = &self.services.secrets;
        scrape.add("secrets", [], secrets.count() as u64);
        scrape.add("secret_changes", [], secrets.changes());
        scrape.add("secrets_given", [], secrets.figures().given());
        secrets.figures().refused().into_iter().for_each(|(why, count)| scrape.add("secrets_refused", [why], count));
    }

    fn tell_api(&self, scrape: &mut Scrape) {
        self.traffic.tell(scrape);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (why, word, by_routes) in self.traffic.refusals() {
            let before = match why {
                Refused::Token => self.access.refused_tokens(),
                Refused::Role => 0,
                Refused::Size => count(&self.access.refused_sizes),
                Refused::Rate => count(&self.access.turned_away),
            };
            scrape.add("api_requests_refused", [word], by_routes + before);
        }
        self.access.tokens_refused().for_each(|(why, count)| scrape.add("api_tokens_refused", [why], count));
        scrape.add("api_connections", [], count(&self.access.connections));
        scrape.add("audit_lines", [], count(&self.access.records));
    }

    fn tell_twins(&self, scrape: &mut Scrape) {
        let mut identities = [[0u64; 2]; 2];
        let mut connected = 0;
        for record in self.identities.list() {
            let is_module = record.identity.module_id().is_some();
            identities[usize::from(is_module)][usize::from(!record.is_enabled)] += 1;
            connected += u64::from(self.identities.presence(&record).is_connected);
        }
        for (kind, counts) in ["device", "module"].into_iter().zip(identities) {
            for (status, count) in ["enabled", "disabled"].into_iter().zip(counts) {
                scrape.add("identities", [kind, status], count);
            }
        }
        scrape.add("identities_connected", [], connected);
        let twins = self.twins.list();
        scrape.add("twins", [], twins.len() as u64);
        let figures = self.twins.figures();
        for (section, part) in [("tags", Part::Tags), ("desired", Part::Desired), ("reported", Part::Reported)] {
            scrape.add("twin_changes", [section], figures.committed(part));
        }
        figures.refused().for_each(|(reason, count)| scrape.add("twin_changes_refused", [reason], count));
        scrape.add("twin_changes_failed", [], figures.lost());
        if let Ok(rows) = self.twins.history_rows() {
            scrape.add("twin_history_changes", [], rows);
        }
        let mut said = [0u64; 3];
        for twin in twins.iter().filter(|twin| twin.desired.version > 1) {
            said[match twin.acknowledged().filter(|said| said.version == twin.desired.version) {
                Some(said) if said.ok => 0,
                Some(_) => 1,
                None => 2,
            }] += 1;
        }
        for (outcome, count) in ["accepted", "refused", "outstanding"].into_iter().zip(said) {
            scrape.add("twin_acknowledgements", [outcome], count);
        }
    }

    fn tell_messages(&self, scrape: &mut Scrape) {
        let ingest = &self.services.ingest;
        let mut sent = ingest.counts();
        sent.sort_by(|a, b| (&a.0.identity, &a.0.output).cmp(&(&b.0.identity, &b.0.output)));
        // What an operator sends has an output for each endpoint, all of the same name.
        sent.dedup_by(|next, kept| {
            let is_same = next.0.identity == kept.0.identity && next.0.output == kept.0.output;
            if is_same {
                kept.1 += next.1;
                kept.2 += next.2;
            }
            is_same
        });
        for (source, sent, unrouted) in sent {
            scrape.add("messages_sent", [&source.identity, &source.output], sent);
            scrape.add("messages_unrouted", [&source.identity, &source.output], unrouted);
        }
        for queue in ingest.queue_figures() {
            let endpoint = &*queue.endpoint;
            scrape.add("queue_messages", [endpoint], queue.messages);
            scrape.add("queue", [endpoint], queue.bytes);
            let mut taken: std::collections::BTreeMap<_, u64> = std::collections::BTreeMap::new();
            for (source, count) in queue.taken {
                *taken.entry((source.identity.clone(), source.output.clone())).or_default() += count;
            }
            for ((sender, output), count) in taken {
                scrape.add("messages_taken", [&sender, &output, endpoint], count);
            }
        }
        for row in self.services.disk.loss_totals().unwrap_or_default() {
            scrape.add("messages_lost", [&row.sender, &row.output, &row.endpoint, &row.reason], row.count);
        }
        let (waiting, parked, bytes) = self.services.disk.stored();
        scrape.add("store_messages", ["waiting"], waiting);
        scrape.add("store_messages", ["parked"], parked);
        scrape.add("store", [], bytes);
        self.tell_store(scrape);
    }

    fn tell_store(&self, scrape: &mut Scrape) {
        let budget = self.services.disk.budget();
        scrape.add("store_limit", [], budget.held().1);
        for held in budget.by_endpoint() {
            scrape.add("store_endpoint", [&*held.endpoint], held.bytes);
            if let Some(limit) = held.limit {
                scrape.add("store_endpoint_limit", [&*held.endpoint], limit);
            }
        }
        let (logged, folded) = self.database.figures().written(File::Queue);
        for wear in budget.wear(logged + folded) {
            scrape.add("store_added", [&*wear.endpoint], wear.messages);
            scrape.add("store_written", [&*wear.endpoint], wear.written);
        }
        scrape.add("store_full", [], u64::from(self.database.room().shortage().is_some()));
    }

    fn tell_disk(&self, scrape: &mut Scrape) {
        let figures = self.database.figures();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        scrape.add("database_commits", [], count(&figures.commits));
        scrape.add("database_changes", [], count(&figures.changes));
        scrape.add("database_failures", [], count(&figures.failures));
        let ends = COMMIT_BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = ends.zip(figures.commit_times()).collect();
        let commits = buckets.iter().map(|(_, count)| count).sum();
        scrape.add("database_commit", [], Value::Spread(count(&figures.commit_ns) as f64 / 1e9, commits, buckets));
        scrape.add("database_longest_commit", [], count(&figures.commit_ns_max) as f64 / 1e9);
        for file in [File::Main, File::Queue] {
            let (logged, folded) = figures.written(file);
            scrape.add("database_written", [file.name(), "log"], logged);
            scrape.add("database_written", [file.name(), "file"], folded);
        }
        scrape.add("disk_ballast", [], self.database.room().ballast());
        for file in ["dinrail.db", "dinrail.db-wal", "queue.db", "queue.db-wal"] {
            if let Ok(found) = std::fs::metadata(self.folders.state.join(file)) {
                scrape.add("database_file", [file], found.len());
            }
        }
        if let Some((free, size)) = disk_space(&self.folders.state) {
            scrape.add("disk_free", [], free);
            scrape.add("disk_size", [], size);
        }
    }
}

/// Each bucket alone, and what is longer than all of them.
fn spread(durations: &Durations) -> Value {
    let ends = DURATION_BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
    let mut below = 0;
    // Counted without a lock: a call that ends meanwhile may be in a bucket and not yet in the count.
    let alone = durations.buckets.iter().chain([&durations.count]).map(|up_to| {
        let alone = up_to.saturating_sub(below);
        below += alone;
        alone
    });
    let buckets: Vec<(f64, u64)> = ends.zip(alone).collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    Value::Spread(durations.sum_us as f64 / 1e6, count, buckets)
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

fn reasons(dropped: Dropped) -> [(&'static str, u64); 3] {
    [("rate", dropped.rate), ("queue", dropped.queue), ("disk", dropped.disk)]
}

impl Control {
    fn image_verdicts(&self) -> Vec<(&'static str, u64)> {
        let (admitted, quarantined): (Vec<_>, Vec<_>) =
            self.catalog().images().into_iter().partition(|image| image.verdict == Verdict::Admitted);
        let refused = self.catalog().refused().count();
        let count = |count: usize| count as u64;
        vec![
            ("admitted", count(admitted.len())),
            ("quarantined", count(quarantined.len())),
            ("refused", count(refused)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_in_one_bucket_and_the_longest_are_in_the_last() {
        let durations = Durations { buckets: [0, 1, 2, 3, 3, 3, 3, 3, 3, 3], count: 5, sum_us: 1_500_000 };
        let Value::Spread(sum, count, buckets) = spread(&durations) else { panic!("no histogram") };
        assert_eq!((sum, count), (1.5, 5));
        assert_eq!(buckets.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!((buckets[0].0, buckets[10].0), (0.0001, f64::INFINITY));
    }
}
