//! What the fixtures `numbering-sender` and `numbering-receiver` noted, and how it is read.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{Manifest, Runtime};

/// A send that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub output: String,
    pub number: u64,
    pub level: u64,
    /// Wall clock of the sender.
    pub ms: u64,
    /// The kind of error; `None`: it was acknowledged.
    pub error: Option<String>,
}

/// A delivery, or a start of the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handled {
    Start {
        process: u32,
    },
    Delivery(Delivery),
    /// A body that is not what was sent.
    Wrong(String),
}

/// What a receiver noted of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `h` accepted, `r` again, `p` parked, `c` crashed.
    pub verdict: char,
    pub origin: String,
    pub output: String,
    pub number: u64,
    pub level: u64,
    pub sender: String,
    pub epoch: u64,
    pub sequence: u64,
    pub attempt: u32,
}

/// Reads a line of `acknowledged`; `None` for one that a kill cut short, and for those about reports.
pub fn sent(line: &str) -> Option<Sent> {
    let words: Vec<&str> = line.split(' ').collect();
    let [mark @ ("+" | "-"), output, number, level, ms, error @ ..] = words.as_slice() else { return None };
    Some(Sent {
        output: (*output).to_owned(),
        number: number.parse().ok()?,
        level: level.parse().ok()?,
        ms: ms.parse().ok()?,
        error: (*mark == "-").then(|| error.join(" ")),
    })
}

/// Reads a line of `handled`; `None` for one that a kill cut short.
pub fn handled(line: &str) -> Option<Handled> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["s", process] => Some(Handled::Start { process: process.parse().ok()? }),
        ["x", ..] => Some(Handled::Wrong(line[2..].to_owned())),
        [verdict, origin, output, number, level, sender, epoch, sequence, attempt] => {
            Some(Handled::Delivery(Delivery {
                verdict: verdict.parse().ok()?,
                origin: (*origin).to_owned(),
                output: (*output).to_owned(),
                number: number.parse().ok()?,
                level: level.parse().ok()?,
                sender: (*sender).to_owned(),
                epoch: epoch.parse().ok()?,
                sequence: sequence.parse().ok()?,
                attempt: attempt.parse().ok()?,
            }))
        }
        _ => None,
    }
}

/// Reads module, output and number of a body, as text or as JSON.
pub fn body(body: &[u8]) -> (String, String, u64) {
    let body = std::str::from_utf8(body).expect("bodies are text");
    let text = body.split_once("\"numbered\":\"").map_or(body, |(_, text)| text);
    let words: Vec<&str> = text.split(' ').collect();
    (words[0].to_owned(), words[1].to_owned(), words[2].parse().unwrap_or_else(|_| panic!("nobody sent it: {body}")))
}

/// The whole lines of a file; none where there is no file yet.
fn lines<T>(file: &Path, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(read).collect()
}

/// All sends that are noted in a folder.
pub fn all_sent(folder: &Path) -> Vec<Sent> {
    lines(&folder.join("acknowledged"), sent)
}

/// All deliveries that are noted in a folder.
pub fn all_handled(folder: &Path) -> Vec<Handled> {
    lines(&folder.join("handled"), handled)
}

/// Accepted numbers in the order of their delivery, by origin and output.
pub fn accepted(folder: &Path) -> BTreeMap<(String, String), Vec<u64>> {
    let mut accepted: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for handled in all_handled(folder) {
        match handled {
            Handled::Delivery(delivery) if delivery.verdict == 'h' => {
                accepted.entry((delivery.origin, delivery.output)).or_default().push(delivery.number);
            }
            Handled::Delivery(_) | Handled::Start { .. } => {}
            Handled::Wrong(what) => panic!("a body that nobody sent: {what}"),
        }
    }
    accepted
}

/// Acknowledged numbers in the order of their acknowledgement, by output.
pub fn acknowledged(folder: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut acknowledged: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for sent in all_sent(folder).into_iter().filter(|sent| sent.error.is_none()) {
        acknowledged.entry(sent.output).or_default().push(sent.number);
    }
    acknowledged
}

impl Manifest {
    /// With a `numbering-sender`; its outputs, and what else it is told.
    pub fn numbering_sender(self, name: &str, outputs: &[&str], more: Value) -> Manifest {
        let mut desired = json!({"outputs": outputs});
        for (key, value) in more.as_object().into_iter().flatten() {
            desired[key] = value.clone();
        }
        self.module(name, "numbering-sender").desired(name, desired)
    }

    /// With a `numbering-receiver`.
    pub fn numbering_receiver(self, name: &str, desired: Value) -> Manifest {
        self.module(name, "numbering-receiver").desired(name, desired)
    }
}

impl Runtime {
    /// The data folder of a module, where its account is unless it is told another place.
    pub fn data(&self, module: &str) -> std::path::PathBuf {
        self.state().join("data").join(module)
    }
}
