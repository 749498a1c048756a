//! Compares what senders say was acknowledged, what receivers say they handled, and what the ledger says is lost.
//!
//! For a durable flow every acknowledged number was accepted, or is parked. For another one, every acknowledged number was
//! accepted, or is parked, or lies in ranges of the ledger that are large enough for all that are missing there, with a reason that
//! its route may have. Without a kill the ledger says no more than what is missing. Numbers come in order for each priority. A
//! number comes twice only where it was being handled when the runtime was killed, or at a further attempt, and then it is the same
//! message: with the same place in what its sender sent. One that its receiver parked when the runtime was killed may be accepted
//! afterwards, behind those that came after it: its turn was the first time. What was staged under a message that was not accepted is nowhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;
use std::path::Path;

use serde_json::Value;

use super::flow::{FLOWS, Flow, Promise, RECEIVERS, SENDERS};
use crate::harness::numbering::{self, Handled};

/// Epoch and sequence.
type Place = (u64, u64);

/// An accepted message.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    number: u64,
    level: u64,
    place: Place,
    attempt: u32,
    process: u32,
}

/// A line of the ledger.
#[derive(Debug, Clone)]
pub struct Loss {
    pub output: String,
    pub endpoint: String,
    pub reason: String,
    pub first: Place,
    pub last: Place,
    pub count: u64,
}

/// Numbers on disk, by module, output and the module at whose input they are (or `$upstream`), in their order.
pub type Rows = HashMap<(String, String, String), Vec<u64>>;

/// Messages that may have been counted before a kill and handled or unknown to their sender after it.
const UNCERTAIN: u64 = 100;

/// Everything that is compared.
pub struct Evidence {
    /// Module, output: acknowledged numbers, ascending, and their levels.
    acknowledged: HashMap<(String, String), Vec<(u64, u64)>>,
    /// Module, output: how many sends ended with an error.
    refused: HashMap<(String, String), u64>,
    /// Receiver, origin, output: accepted messages in the order of their delivery.
    accepted: HashMap<(String, String, String), Vec<Accepted>>,
    /// The same: numbers that the receiver had parked before it accepted anything later, with the process.
    parked_before: HashMap<(String, String, String), HashMap<u64, u32>>,
    wrong: Vec<String>,
    /// Processes of the runtime that were killed.
    pub killed: HashSet<u32>,
    /// Kills since the accounts were begun.
    pub kills: u64,
    pub parked: Rows,
    pub upstream: Rows,
    pub losses: Vec<Loss>,
    /// The ledger when the accounts were begun.
    pub losses_before: Vec<Loss>,
}

/// What was compared, for whoever reads the result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub acknowledged: u64,
    pub accepted: u64,
    pub repeated: u64,
    pub parked: u64,
    /// Missing and in the ledger, of routes that lose nothing where nothing bad happens.
    pub declared: u64,
    /// The same, of routes that drop or expire messages.
    pub dropped: u64,
}

impl Figures {
    /// Adds those of another round.
    pub fn add(&mut self, other: Figures) {
        self.acknowledged += other.acknowledged;
        self.accepted += other.accepted;
        self.repeated += other.repeated;
        self.parked += other.parked;
        self.declared += other.declared;
        self.dropped += other.dropped;
    }
}

fn for_lines(file: &Path, mut each: impl FnMut(&str)) {
    let Ok(file) = std::fs::File::open(file) else { return };
    let mut reader = std::io::BufReader::new(file);
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 0 {
        each(line.trim_end());
        line.clear();
    }
}

impl Evidence {
    /// Reads the accounts of all modules. `processes`: the process in which each receiver was when its account was begun.
    pub fn read(accounts: &Path, processes: &mut HashMap<&'static str, u32>) -> Evidence {
        let mut evidence = Evidence {
            acknowledged: HashMap::new(),
            refused: HashMap::new(),
            accepted: HashMap::new(),
            parked_before: HashMap::new(),
            wrong: Vec::new(),
            killed: HashSet::new(),
            kills: 0,
            parked: Rows::new(),
            upstream: Rows::new(),
            losses: Vec::new(),
            losses_before: Vec::new(),
        };
        for sender in SENDERS {
            for_lines(&accounts.join(sender).join("acknowledged"), |line| {
                let Some(sent) = numbering::sent(line) else { return };
                let of = (sender.to_owned(), sent.output);
                match sent.error {
                    None => evidence.acknowledged.entry(of).or_default().push((sent.number, sent.level)),
                    Some(_) => *evidence.refused.entry(of).or_default() += 1,
                }
            });
        }
        // Completions of several that are under way may come in any order.
        evidence.acknowledged.values_mut().for_each(|numbers| numbers.sort_unstable());
        for receiver in RECEIVERS {
            let process = processes.entry(receiver).or_default();
            for_lines(&accounts.join(receiver).join("handled"), |line| match numbering::handled(line) {
                Some(Handled::Start { process: now }) => *process = now,
                Some(Handled::Wrong(what)) => evidence.wrong.push(format!("{receiver} got {what}")),
                Some(Handled::Delivery(d)) if d.verdict == 'h' => {
                    let accepted = Accepted {
                        number: d.number,
                        level: d.level,
                        place: (d.epoch, d.sequence),
                        attempt: d.attempt,
                        process: *process,
                    };
                    evidence.accepted.entry((receiver.to_owned(), d.origin, d.output)).or_default().push(accepted);
                }
                Some(Handled::Delivery(d)) if d.verdict == 'p' => {
                    let of = (receiver.to_owned(), d.origin, d.output);
                    evidence.parked_before.entry(of).or_default().entry(d.number).or_insert(*process);
                }
                Some(Handled::Delivery(_)) | None => {}
            });
        }
        evidence
    }

    /// What does not agree, in words, and what was compared.
    pub fn compare(&self) -> (Vec<String>, Figures) {
        let (mut findings, mut figures) = (self.wrong.clone(), Figures::default());
        for flow in FLOWS {
            let before = findings.len();
            self.compare_flow(flow, &mut findings, &mut figures);
            findings.truncate(before + 10);
        }
        (findings, figures)
    }

    fn compare_flow(&self, flow: Flow, findings: &mut Vec<String>, figures: &mut Figures) {
        let (module, output) = flow.origin;
        let origin = (module.to_owned(), output.to_owned());
        let is_meant = |level: u64| flow.level.is_none_or(|own| own == level);
        let all = self.acknowledged.get(&origin).into_iter().flatten();
        let acknowledged: Vec<u64> = all.filter(|(_, level)| is_meant(*level)).map(|(number, _)| *number).collect();
        figures.acknowledged += acknowledged.len() as u64;
        let Some(receiver) = flow.receiver else {
            return self.compare_stored(flow, &acknowledged, findings, figures);
        };
        let at = flow.level.map_or(String::new(), |level| format!(", level {level}"));
        let name = format!("{module}/{output}{at} to {receiver}");
        let parked = self.parked_at(flow, receiver);
        let parked_before = flow.via.map(|via| self.parked_at(flow, via)).unwrap_or_default();
        figures.parked += acknowledged.iter().filter(|number| parked.contains(number)).count() as u64;
        let no_one = Vec::new();
        let at = (receiver.to_owned(), origin.0, origin.1);
        let deliveries = self.accepted.get(&at).unwrap_or(&no_one);
        if FLOWS.iter().find(|other| is_beside(flow, other)) == Some(&flow) {
            let had_its_turn = |now: &Accepted| {
                let parked_in = self.parked_before.get(&at).and_then(|parked| parked.get(&now.number));
                parked_in.is_some_and(|process| *process != now.process && self.killed.contains(process))
            };
            let in_turn: Vec<Accepted> = deliveries.iter().copied().filter(|now| !had_its_turn(now)).collect();
            self.check_order(flow, &name, &in_turn, findings);
        }
        let of_level: Vec<Accepted> = deliveries.iter().copied().filter(|accepted| is_meant(accepted.level)).collect();
        let first_ones = self.first_ones(&name, &of_level, findings, figures);
        figures.accepted += first_ones.len() as u64;
        let seen: HashSet<u64> = first_ones.iter().map(|accepted| accepted.number).collect();
        let ghosts = seen.iter().filter(|number| parked_before.contains(number));
        findings.extend(ghosts.map(|number| format!("{name}, {number}: sent on by who parked it")));
        let is_there =
            |number: &u64| seen.contains(number) || parked.contains(number) || parked_before.contains(number);
        let missing: Vec<u64> = acknowledged.iter().copied().filter(|number| !is_there(number)).collect();
        if flow.promise == Promise::Durable {
            findings.extend(missing.iter().map(|number| format!("{name}, {number}: acknowledged, and gone")));
            return;
        }
        let count = if flow.promise.is_loose() { &mut figures.dropped } else { &mut figures.declared };
        *count += missing.len() as u64;
        self.declared(&name, flow, &missing, deliveries, findings);
    }

    fn parked_at(&self, flow: Flow, receiver: &str) -> HashSet<u64> {
        let at = (flow.origin.0.to_owned(), flow.origin.1.to_owned(), receiver.to_owned());
        self.parked.get(&at).into_iter().flatten().copied().collect()
    }

    fn compare_stored(&self, flow: Flow, acknowledged: &[u64], findings: &mut Vec<String>, figures: &mut Figures) {
        let (module, output) = flow.origin;
        let (none, at) = (Vec::new(), (module.to_owned(), output.to_owned(), "$upstream".to_owned()));
        let stored = self.upstream.get(&at).unwrap_or(&none);
        if !stored.is_sorted_by(|a, b| a < b) {
            findings.push(format!("{module}/{output}: not stored in order"));
        }
        let stored: HashSet<u64> = stored.iter().copied().collect();
        figures.accepted += stored.len() as u64;
        let missing = acknowledged.iter().filter(|number| !stored.contains(number));
        findings.extend(missing.map(|number| format!("{module}/{output} {number}: acknowledged, and not stored")));
    }

    /// Order of all that one output sent to one receiver: for each priority.
    fn check_order(&self, flow: Flow, name: &str, deliveries: &[Accepted], findings: &mut Vec<String>) {
        if !flow.is_ordered {
            return;
        }
        let priority = |level: u64| {
            let is_of = |other: &&Flow| is_beside(flow, other) && other.level.is_none_or(|own| own == level);
            FLOWS.iter().find(is_of).map(|other| other.priority)
        };
        let mut known = HashSet::with_capacity(deliveries.len());
        let mut highest: HashMap<Option<u8>, Accepted> = HashMap::new();
        for now in deliveries.iter().filter(|now| known.insert(now.number)) {
            let class = priority(now.level);
            if let Some(higher) = highest.get(&class)
                && (higher.number > now.number || higher.place >= now.place)
            {
                findings.push(format!("{name}: out of order: {now:?} after {higher:?}"));
            }
            highest.insert(class, *now);
        }
    }

    /// The first acceptance of each number, and what is wrong with repetitions.
    fn first_ones(
        &self,
        name: &str,
        deliveries: &[Accepted],
        findings: &mut Vec<String>,
        figures: &mut Figures,
    ) -> Vec<Accepted> {
        let mut first_ones: Vec<Accepted> = Vec::with_capacity(deliveries.len());
        let mut known: HashMap<u64, usize> = HashMap::with_capacity(deliveries.len());
        for now in deliveries {
            let Some(at) = known.get(&now.number) else {
                known.insert(now.number, first_ones.len());
                first_ones.push(*now);
                continue;
            };
            let before = first_ones[*at];
            figures.repeated += 1;
            if before.place != now.place {
                findings.push(format!("{name}: sent twice: {before:?} and {now:?}"));
            } else if now.attempt == 1 && !self.killed.contains(&before.process) {
                findings.push(format!("{name}: delivered twice without a kill: {before:?} and {now:?}"));
            }
        }
        first_ones
    }

    /// Whether the ledger has room for all that are missing: in each gap, between the places of the accepted ones before and after
    /// it, and in all.
    fn declared(&self, name: &str, flow: Flow, missing: &[u64], accepted: &[Accepted], findings: &mut Vec<String>) {
        let (losses, before): (Vec<&Loss>, Vec<&Loss>) =
            (of_flow(&self.losses, flow), of_flow(&self.losses_before, flow));
        let mut places: Vec<(u64, Place)> = accepted.iter().map(|accepted| (accepted.number, accepted.place)).collect();
        places.sort_unstable();
        let mut gaps: BTreeMap<(Place, Place), (u64, u64)> = BTreeMap::new();
        for number in missing {
            let at = places.partition_point(|(other, _)| other < number);
            let after = at.checked_sub(1).map_or((0, 0), |before| places[before].1);
            let before = places.get(at).map_or((u64::MAX, u64::MAX), |(_, place)| *place);
            gaps.entry((after, before)).or_insert((*number, 0)).1 += 1;
        }
        let allowed = |loss: &&&Loss| flow.promise.allows(&loss.reason);
        for ((after, before), (number, count)) in gaps {
            let room: u64 = losses.iter().filter(allowed).map(|loss| loss.within(after, before)).sum();
            if room < count {
                findings.push(format!(
                    "{name}, {number} and so on: {count} acknowledged and not handled, {room} of them in the ledger between \
                     {after:?} and {before:?}: {:?}",
                    losses.iter().filter(allowed).collect::<Vec<_>>()
                ));
            }
        }
        let sum = |of: &[&Loss], is_counted: &dyn Fn(&&&Loss) -> bool| -> u64 {
            of.iter().filter(is_counted).map(|loss| loss.count).sum()
        };
        let more =
            |is_counted: &dyn Fn(&&&Loss) -> bool| sum(&losses, is_counted).saturating_sub(sum(&before, is_counted));
        let (told, missing) = (more(&allowed), missing.len() as u64);
        let reasons: Vec<(&str, u64)> = losses.iter().map(|loss| (&*loss.reason, loss.count)).collect();
        if missing > told {
            findings.push(format!("{name}: {missing} are missing, {told} more in the ledger: {reasons:?}"));
        }
        // The other levels of an output are in the same lines.
        let refused = self.refused.get(&(flow.origin.0.to_owned(), flow.origin.1.to_owned())).copied().unwrap_or(0);
        let told = more(&|loss| loss.reason != "runtimeDied" && loss.reason != "parked");
        let most = missing + refused + self.kills * UNCERTAIN;
        if flow.level.is_none() && told > most {
            findings.push(format!(
                "{name}: {missing} are missing, {refused} were refused, but {told} more in the ledger: {reasons:?}"
            ));
        }
    }
}

/// Whether two flows are from one output to one receiver.
fn is_beside(flow: Flow, other: &Flow) -> bool {
    flow.origin == other.origin && flow.receiver == other.receiver
}

/// Lines about what an output sent to the receiver, or to anybody.
fn of_flow(losses: &[Loss], flow: Flow) -> Vec<&Loss> {
    let ((sender, output), receiver) = (flow.origin, flow.receiver.unwrap_or_default());
    let endpoint = format!("/modules/{receiver}/inputs/in");
    let is_of_flow = |loss: &&Loss| {
        let (from, of) = loss.output.rsplit_once('/').expect("sender and output");
        from.ends_with(&format!("/modules/{sender}"))
            && of == output
            && (loss.endpoint.is_empty() || loss.endpoint.ends_with(&endpoint))
    };
    losses.iter().filter(is_of_flow).collect()
}

impl Loss {
    /// How many of its messages can lie between two places, without these.
    fn within(&self, after: Place, before: Place) -> u64 {
        // The place 0 stands for one that nobody knows.
        if self.last.1 == 0 {
            return self.count;
        }
        if self.last <= after || self.first >= before {
            return 0;
        }
        let first = self.first.max((after.0, after.1 + 1));
        let last = self.last.min((before.0, before.1.saturating_sub(1)));
        if first.0 == last.0 { self.count.min((last.1 + 1).saturating_sub(first.1)) } else { self.count }
    }
}

/// Reads `losses --json`.
pub fn ledger(told: &Value) -> Vec<Loss> {
    let place = |value: &Value| (value["epoch"].as_u64().unwrap(), value["sequence"].as_u64().unwrap());
    let entries = told["entries"].as_array().expect("entries");
    let loss = |entry: &Value| Loss {
        output: format!("{}/{}", entry["sender"].as_str().unwrap(), entry["output"].as_str().unwrap()),
        endpoint: entry["endpoint"].as_str().unwrap().to_owned(),
        reason: entry["reason"].as_str().unwrap().to_owned(),
        first: place(&entry["first"]),
        last: place(&entry["last"]),
        count: entry["count"].as_u64().unwrap(),
    };
    entries.iter().map(loss).collect()
}

/// Reads what is parked and what waits for the hub.
pub fn rows(queue: &Path) -> rusqlite::Result<(Rows, Rows)> {
    let conn = reader(queue)?;
    let mut query = conn.prepare(
        "SELECT m.state, e.name, m.body FROM message m JOIN endpoint e ON e.id = m.endpoint
         WHERE m.state = 1 OR e.name = '$upstream' ORDER BY m.id",
    )?;
    let found =
        query.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?)))?;
    let (mut parked, mut upstream) = (Rows::new(), Rows::new());
    for row in found {
        let (state, endpoint, body) = row?;
        let rows = if state == 1 { &mut parked } else { &mut upstream };
        let (module, output, number) = numbering::body(&body);
        let at = endpoint.split("/modules/").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or(&endpoint);
        rows.entry((module, output, at.to_owned())).or_default().push(number);
    }
    Ok((parked, upstream))
}

/// How many rows wait for modules.
pub fn waiting(queue: &Path) -> rusqlite::Result<u64> {
    let count = "SELECT count(*) FROM message m JOIN endpoint e ON e.id = m.endpoint
                 WHERE m.state <> 1 AND e.name <> '$upstream'";
    reader(queue)?.query_row(count, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

fn reader(queue: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let conn = rusqlite::Connection::open_with_flags(queue, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.busy_timeout(crate::harness::SOON)?;
    Ok(conn)
}
