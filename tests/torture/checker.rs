//! Compares what senders say was acknowledged, what receivers say they handled, and what the ledger says is lost.
//!
//! For a durable flow every acknowledged number was accepted, or is parked. For a flow in memory, every acknowledged number was
//! accepted, or is parked, or lies in a range of the ledger that is large enough for all that are missing. Numbers come in order for
//! each level. A number comes twice only where it was being handled when the runtime was killed, or at a further attempt, and then it
//! is the same message: with the same place in what its sender sent.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::path::Path;

use serde_json::Value;

use super::flow::{FLOWS, Flow, RECEIVERS, SENDERS};
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

/// Numbers that wait on disk, by module and output, in their order.
pub type Rows = HashMap<(String, String), Vec<u64>>;

/// Everything that is compared.
pub struct Evidence {
    /// Module, output: acknowledged numbers, ascending.
    acknowledged: HashMap<(String, String), Vec<u64>>,
    /// Receiver, origin, output: accepted messages in the order of their delivery.
    accepted: HashMap<(String, String, String), Vec<Accepted>>,
    wrong: Vec<String>,
    /// Processes of the runtime that were killed.
    pub killed: HashSet<u32>,
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
    pub declared: u64,
}

impl Figures {
    /// Adds those of another round.
    pub fn add(&mut self, other: Figures) {
        self.acknowledged += other.acknowledged;
        self.accepted += other.accepted;
        self.repeated += other.repeated;
        self.parked += other.parked;
        self.declared += other.declared;
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
            accepted: HashMap::new(),
            wrong: Vec::new(),
            killed: HashSet::new(),
            parked: Rows::new(),
            upstream: Rows::new(),
            losses: Vec::new(),
            losses_before: Vec::new(),
        };
        for sender in SENDERS {
            for_lines(&accounts.join(sender).join("acknowledged"), |line| {
                if let Some(sent) = numbering::sent(line).filter(|sent| sent.error.is_none()) {
                    evidence.acknowledged.entry((sender.to_owned(), sent.output)).or_default().push(sent.number);
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
        let none = Vec::new();
        let acknowledged = self.acknowledged.get(&origin).unwrap_or(&none);
        let parked: HashSet<u64> = self.parked.get(&origin).into_iter().flatten().copied().collect();
        figures.acknowledged += acknowledged.len() as u64;
        figures.parked += parked.len() as u64;
        let Some(receiver) = flow.receiver else {
            let stored = self.upstream.get(&origin).unwrap_or(&none);
            if !stored.is_sorted_by(|a, b| a < b) {
                findings.push(format!("{module}/{output}: not stored in order"));
            }
            let stored: HashSet<u64> = stored.iter().copied().collect();
            figures.accepted += stored.len() as u64;
            let missing = acknowledged.iter().filter(|number| !stored.contains(number));
            findings.extend(missing.map(|number| format!("{module}/{output} {number}: acknowledged, and not stored")));
            return;
        };
        let name = format!("{module}/{output} to {receiver}");
        let no_one = Vec::new();
        let deliveries = self.accepted.get(&(receiver.to_owned(), origin.0, origin.1)).unwrap_or(&no_one);
        let first_ones = self.first_ones(&name, deliveries, findings, figures);
        figures.accepted += first_ones.len() as u64;
        let seen: HashSet<u64> = first_ones.iter().map(|accepted| accepted.number).collect();
        let missing: Vec<u64> =
            acknowledged.iter().copied().filter(|number| !seen.contains(number) && !parked.contains(number)).collect();
        if flow.is_durable {
            findings.extend(missing.iter().map(|number| format!("{name}, {number}: acknowledged, and gone")));
        } else {
            figures.declared += missing.len() as u64;
            self.declared(&name, (output, receiver), &missing, &first_ones, findings);
        }
    }

    /// The first acceptance of each number, and what is wrong with the order and with repetitions.
    fn first_ones(
        &self,
        name: &str,
        deliveries: &[Accepted],
        findings: &mut Vec<String>,
        figures: &mut Figures,
    ) -> Vec<Accepted> {
        let mut first_ones: Vec<Accepted> = Vec::with_capacity(deliveries.len());
        let mut known: HashMap<u64, usize> = HashMap::with_capacity(deliveries.len());
        let mut highest: HashMap<u64, Accepted> = HashMap::new();
        for now in deliveries {
            if let Some(at) = known.get(&now.number) {
                let before = first_ones[*at];
                figures.repeated += 1;
                if before.place != now.place {
                    findings.push(format!("{name}: sent twice: {before:?} and {now:?}"));
                } else if now.attempt == 1 && !self.killed.contains(&before.process) {
                    findings.push(format!("{name}: delivered twice without a kill: {before:?} and {now:?}"));
                }
                continue;
            }
            if let Some(higher) = highest.get(&now.level)
                && (higher.number > now.number || higher.place >= now.place)
            {
                findings.push(format!("{name}: out of order: {now:?} after {higher:?}"));
            }
            known.insert(now.number, first_ones.len());
            highest.insert(now.level, *now);
            first_ones.push(*now);
        }
        first_ones
    }

    /// Finds a range for each missing number: between the places of the accepted ones before and after it.
    fn declared(
        &self,
        name: &str,
        (output, receiver): (&str, &str),
        missing: &[u64],
        accepted: &[Accepted],
        findings: &mut Vec<String>,
    ) {
        let sender = name.split('/').next().expect("a module");
        let endpoint = format!("/modules/{receiver}/inputs/in");
        let of_flow = |loss: &&Loss| {
            let (from, of) = loss.output.rsplit_once('/').expect("sender and output");
            from.ends_with(&format!("/modules/{sender}"))
                && of == output
                && (loss.endpoint.is_empty() || loss.endpoint.ends_with(&endpoint))
        };
        let losses: Vec<&Loss> = self.losses.iter().filter(of_flow).collect();
        let count_before: u64 = self.losses_before.iter().filter(of_flow).map(|loss| loss.count).sum();
        let mut places: Vec<(u64, Place)> = accepted.iter().map(|accepted| (accepted.number, accepted.place)).collect();
        places.sort_unstable();
        for number in missing {
            let at = places.partition_point(|(other, _)| other < number);
            let after = at.checked_sub(1).map_or((0, 0), |before| places[before].1);
            let before = places.get(at).map_or((u64::MAX, u64::MAX), |(_, place)| *place);
            // The place 0 stands for one that nobody knows.
            let covers = |loss: &&&Loss| loss.last > after && loss.first < before || loss.last.1 == 0;
            if losses.iter().find(covers).is_none() {
                findings.push(format!(
                    "{name}, {number}: acknowledged, not handled, and in no range of the ledger between {after:?} and {before:?}: {losses:?}"
                ));
            }
        }
        let declared = losses.iter().map(|loss| loss.count).sum::<u64>().saturating_sub(count_before);
        if missing.len() as u64 > declared {
            let reasons: Vec<(&str, u64)> = losses.iter().map(|loss| (&*loss.reason, loss.count)).collect();
            findings.push(format!("{name}: {} are missing, {declared} more in the ledger: {reasons:?}", missing.len()));
        }
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

/// Reads what waits and what is parked: first what is parked, then what waits for the hub, then how many wait for modules.
pub fn rows(queue: &Path) -> rusqlite::Result<(Rows, Rows, u64)> {
    let conn = rusqlite::Connection::open_with_flags(queue, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.busy_timeout(crate::harness::SOON)?;
    let mut query = conn
        .prepare("SELECT m.state, e.name, m.body FROM message m JOIN endpoint e ON e.id = m.endpoint ORDER BY m.id")?;
    let found =
        query.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?)))?;
    let (mut parked, mut upstream, mut waiting) = (Rows::new(), Rows::new(), 0);
    for row in found {
        let (state, endpoint, body) = row?;
        let rows = match (state, &*endpoint) {
            (1, _) => &mut parked,
            (_, "$upstream") => &mut upstream,
            _ => {
                waiting += 1;
                continue;
            }
        };
        let body = String::from_utf8(body).expect("bodies are text");
        let words: Vec<&str> = body.split(' ').collect();
        let number = words[2].parse().expect("a number");
        rows.entry((words[0].to_owned(), words[1].to_owned())).or_default().push(number);
    }
    Ok((parked, upstream, waiting))
}
