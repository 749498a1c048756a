//! A runtime under load, what is done to it, and the end of a round: everything well again, drained, compared.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::checker::{Evidence, Figures, Loss, ledger, rows, waiting};
use super::disk::SmallDisk;
use super::flow::{ASIDE, LISTENER, RECEIVERS, SENDERS, Variant, manifest};
use super::memory::Memory;
use super::steps::{CURED, Possible, Step};
use crate::harness::{Clock, Manifest, Runtime, SOON, fixture, wait_until};

const CONFIG: &str = "[restart]\nfirst_delay_secs = 0.01\nmax_delay_secs = 0.05\njitter_percent = 0\nmax_starts = 100000\n\
                      [queue]\nlane_messages = 256\n";
/// Longest time until everything that waits has arrived.
const DRAINED: Duration = Duration::from_secs(120);

/// See the module's documentation.
pub struct Stage {
    runtime: Runtime,
    clock: Clock,
    disk: Option<SmallDisk>,
    /// Goes after what is in it.
    _home: TempDir,
    accounts: PathBuf,
    pace_us: u64,
    variant: Variant,
    killed: HashSet<u32>,
    /// Since the accounts were begun.
    kills: u64,
    processes: HashMap<&'static str, u32>,
    losses: Vec<Loss>,
    memory: Memory,
    most: u64,
    since: Instant,
    first_deliveries: Vec<Duration>,
    findings: Vec<String>,
}

impl Stage {
    /// A runtime with all modules; on a small disk of its own where `wants_disk` and that can be had.
    pub fn start(pace_us: u64, wants_disk: bool) -> Stage {
        let home = tempfile::Builder::new().prefix("dinrail-torture-").tempdir().unwrap();
        let place = home.path().join("disk");
        let disk = wants_disk.then(|| SmallDisk::mount(&place, 128));
        if let Some(Err(error)) = &disk {
            println!("left out: a disk that is full, since there is none to fill: {error}");
        }
        let disk = disk.and_then(Result::ok);
        std::fs::create_dir_all(&place).unwrap();
        let libraries = [fixture("numbering_sender"), fixture("numbering_receiver")];
        let (runtime, clock) = Runtime::new().state_at(place.join("state")).supply(&libraries).config(CONFIG).clock();
        let runtime = runtime.start();
        let accounts = home.path().join("accounts");
        let stage = Stage {
            runtime,
            clock,
            disk,
            _home: home,
            accounts,
            pace_us,
            variant: Variant::default(),
            killed: HashSet::new(),
            kills: 0,
            processes: HashMap::new(),
            losses: Vec::new(),
            memory: Memory::default(),
            most: 0,
            since: Instant::now(),
            first_deliveries: Vec::new(),
            findings: Vec::new(),
        };
        stage.runtime.deploy(&stage.manifest());
        stage
    }

    fn manifest(&self) -> Manifest {
        manifest(&self.accounts, self.variant, self.pace_us)
    }

    /// What can be done here.
    pub fn possible(&self) -> Possible {
        Possible { full_disk: self.disk.is_some() }
    }

    /// Times from each start after a kill to the first delivery, ascending.
    pub fn first_deliveries(&self) -> Vec<Duration> {
        let mut sorted = self.first_deliveries.clone();
        sorted.sort_unstable();
        sorted
    }

    /// Most resident memory of all lives of the runtime, in bytes.
    pub fn most_memory(&self) -> u64 {
        self.most.max(self.memory.most())
    }

    /// Memory of the runtime in its present life.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Does one step.
    pub fn act(&mut self, step: &Step) {
        self.take(step);
        self.memory.sample(self.since, self.runtime.pid());
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Wait(time) => pause(*time),
            Step::Kill => self.kill(),
            Step::Restart => {
                self.runtime.stop();
                self.launch();
            }
            Step::FullDisk { lasting, is_killed } => {
                let disk = self.disk.as_ref().expect("only drawn where there is one");
                disk.fill();
                pause(*lasting);
                if *is_killed {
                    self.killed.insert(self.runtime.pid());
                    self.kills += 1;
                    self.runtime.kill9();
                }
                disk.free();
                if *is_killed {
                    self.launch();
                }
            }
            Step::Clock { off_secs } => self.clock.set_offset(off_secs * 1_000_000_000),
            Step::Trouble(receiver, trouble) => self.tell(receiver, trouble),
            Step::Cure(receiver) => self.tell(receiver, CURED),
            Step::Away(receiver, time) => {
                self.verb(&["stop", receiver]);
                pause(*time);
                self.verb(&["start", receiver]);
            }
            Step::RestartSender(sender) => self.verb(&["restart", sender]),
            Step::Route { is_there: true } => self.verb(&["route", "add", LISTENER, ASIDE, "--replace"]),
            // It may not be there.
            Step::Route { is_there: false } => drop(self.runtime.cli(&["route", "remove", LISTENER])),
            Step::Deploy(variant) => {
                self.variant = *variant;
                let file = self.runtime.write("manifest.json", self.manifest().text());
                self.verb(&["deploy", file.to_str().unwrap()]);
            }
        }
    }

    fn kill(&mut self) {
        self.killed.insert(self.runtime.pid());
        self.kills += 1;
        self.runtime.kill9();
        self.launch();
    }

    /// Starts it, and notes how long the first delivery took.
    fn launch(&mut self) {
        let files: Vec<PathBuf> = RECEIVERS.iter().map(|name| self.accounts.join(name).join("handled")).collect();
        // Each life begins with a line of its own, which is no delivery.
        let lines = || -> usize { files.iter().map(|file| deliveries(file)).sum() };
        let (before, begun, is_over) = (lines(), Instant::now(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                while lines() == before && !is_over.load(Ordering::Relaxed) {
                    pause(Duration::from_millis(1));
                }
                begun.elapsed()
            });
            self.runtime.launch();
            let end = Instant::now() + SOON;
            while !first.is_finished() && Instant::now() < end {
                pause(Duration::from_millis(1));
            }
            is_over.store(true, Ordering::Relaxed);
            self.first_deliveries.extend(first.join().ok().filter(|time| *time < SOON));
        });
        self.most = self.most.max(self.memory.most());
        (self.memory, self.since) = (Memory::default(), Instant::now());
    }

    /// A verb that has to succeed; not at once, where the last step left it something to get over.
    fn verb(&self, arguments: &[&str]) {
        let mut said = String::new();
        let what = format!("dinrail {}", arguments.join(" "));
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            let output = self.runtime.cli(arguments);
            if output.code == 0 {
                return;
            }
            said = output.stderr;
            pause(Duration::from_millis(20));
        }
        panic!("{what}: {said}");
    }

    fn tell(&self, module: &str, desired: &str) {
        self.verb(&["twin", "patch", module, desired]);
    }

    /// Waits until so many more messages were acknowledged.
    pub fn go_on(&mut self, more: usize) {
        let acknowledged = || SENDERS.iter().map(|name| lines(&self.accounts.join(name).join("acknowledged"))).sum();
        let before: usize = acknowledged();
        wait_until(SOON, "messages are acknowledged", || acknowledged() >= before + more);
        self.memory.sample(self.since, self.runtime.pid());
    }

    /// Ends a round: everything is made well, senders fall silent, what waits arrives, and the accounts are compared and begun
    /// anew.
    pub fn settle(&mut self) -> Figures {
        self.clock.set_offset(0);
        for receiver in RECEIVERS {
            self.tell(receiver, CURED);
            self.verb(&["start", receiver]);
        }
        SENDERS.iter().for_each(|sender| self.tell(sender, r#"{"isSending": false}"#));
        self.wait_until_drained();
        let (parked, upstream) = rows(&self.queue()).unwrap();
        let losses = ledger(&self.runtime.json(&["losses"]));
        let mut evidence = Evidence::read(&self.accounts, &mut self.processes);
        evidence.killed.clone_from(&self.killed);
        evidence.kills = std::mem::take(&mut self.kills);
        (evidence.parked, evidence.upstream) = (parked, upstream);
        evidence.losses.clone_from(&losses);
        evidence.losses_before = std::mem::replace(&mut self.losses, losses);
        let (findings, figures) = evidence.compare();
        // The run goes on: a long one shows more than its first finding.
        for finding in &findings {
            println!("finding: {}", finding.chars().take(1200).collect::<String>());
        }
        self.findings.extend(findings);
        self.accounts().for_each(|file| std::fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap());
        SENDERS.iter().for_each(|sender| self.tell(sender, r#"{"isSending": true}"#));
        figures
    }

    /// Fails if something did not agree, at the end of any round.
    pub fn assert_agreed(&self) {
        assert!(self.findings.is_empty(), "{} findings, told above", self.findings.len());
    }

    fn queue(&self) -> PathBuf {
        self.runtime.state().join("queue.db")
    }

    fn accounts(&self) -> impl Iterator<Item = PathBuf> {
        let of = |names: &'static [&str], file: &'static str| {
            names.iter().map(move |name| self.accounts.join(name).join(file)).filter(|file| file.exists())
        };
        of(&SENDERS, "acknowledged").chain(of(&RECEIVERS, "handled"))
    }

    fn wait_until_drained(&self) {
        let sizes = || -> u64 { self.accounts().map(|file| std::fs::metadata(file).unwrap().len()).sum() };
        let waits = || -> u64 {
            let list = self.runtime.json(&["list"]);
            let count = |row: &serde_json::Value| row["inbox"]["messages"].as_u64().unwrap_or(0);
            let of_receivers = |row: &&serde_json::Value| RECEIVERS.iter().any(|name| row["name"] == *name);
            let rows = waiting(&self.queue()).unwrap_or(0);
            rows + list.as_array().unwrap().iter().filter(of_receivers).map(count).sum::<u64>()
        };
        let mut calm = 0;
        wait_until(DRAINED, "everything that waits has arrived", || {
            let before = sizes();
            let is_calm = waits() == 0 && sizes() == before;
            calm = if is_calm { calm + 1 } else { 0 };
            pause(Duration::from_millis(50));
            // What a handler was told to have again is in no line for a moment.
            calm >= 4 && sizes() == before
        });
    }

    /// What the runtime logged.
    pub fn log(&self) -> String {
        self.runtime.log()
    }
}

fn pause(time: Duration) {
    std::thread::park_timeout(time);
}

fn lines(file: &Path) -> usize {
    std::fs::read(file).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Deliveries that a receiver noted.
fn deliveries(file: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"s ")).count()
}
