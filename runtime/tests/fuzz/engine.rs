//! The loop: inputs from corpus, generator and mutation, for a time; what is found is cut down and kept.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// Inputs that new ones are made of, at most.
const MAX_POOL: usize = 4096;
/// Largest input that is made.
const MAX_INPUT_BYTES: usize = 128 * 1024;
/// Tries to cut a finding down.
const MAX_CUTS: usize = 2000;

/// What makes inputs: chance, and the strategies of proptest.
pub struct Chance {
    pub runner: TestRunner,
}

impl Chance {
    pub fn below(&mut self, n: usize) -> usize {
        (self.runner.rng().next_u64() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// One thing that is fuzzed.
pub struct Target<'a> {
    /// Its folder of the corpus.
    pub name: &'a str,
    /// Makes an input that is nearly right.
    pub generate: &'a dyn Fn(&mut Chance) -> Vec<u8>,
    /// Words that mean something to it, put into inputs as they are.
    pub words: &'a [&'a str],
    /// Takes an input, panics where a promise is broken, and says in few words how it ended.
    pub run: &'a dyn Fn(&[u8]) -> String,
}

/// Runs a target for its time.
#[track_caller]
pub fn fuzz(target: &Target<'_>) {
    let time = std::env::var("DINRAIL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let seed = std::env::var("DINRAIL_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(any_seed);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut chance = Chance { runner: TestRunner::new_with_rng(Default::default(), rng) };

    let mut pool = corpus(target.name);
    assert!(!pool.is_empty(), "the corpus of {} is not found", target.name);
    let seeds = pool.len();
    let mut outcomes = HashSet::new();
    for input in pool.clone() {
        outcomes.insert(checked(target, &input));
    }
    let end = Instant::now() + Duration::from_secs_f64(time);
    let mut executions = seeds as u64;
    while Instant::now() < end {
        let input = match chance.below(3) {
            0 => (target.generate)(&mut chance),
            1 => mutated(pool[chance.below(pool.len())].clone(), &pool, target.words, &mut chance),
            _ => {
                let made = (target.generate)(&mut chance);
                mutated(made, &pool, target.words, &mut chance)
            }
        };
        executions += 1;
        if outcomes.insert(checked(target, &input)) && pool.len() < MAX_POOL {
            pool.push(input);
        }
    }
    println!(
        "fuzz {}: {executions} executions, {} outcomes, {seeds} of the corpus, seed {seed}",
        target.name,
        outcomes.len()
    );
}

fn any_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as u64)
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name)
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// The outcome of an input; a finding is cut down and kept.
fn checked(target: &Target<'_>, input: &[u8]) -> String {
    let error = match attempt(target, input) {
        Ok(outcome) => return outcome,
        Err(error) => error,
    };
    let smallest = cut_down(target, input);
    let hash = smallest
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let file = folder(target.name).join(format!("finding-{hash:016x}"));
    std::fs::write(&file, &smallest).unwrap();
    panic!("{}: {error}\nkept as {}:\n{}", target.name, file.display(), String::from_utf8_lossy(&smallest));
}

fn attempt(target: &Target<'_>, input: &[u8]) -> Result<String, String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// Leaves out what is not needed for the finding.
fn cut_down(target: &Target<'_>, input: &[u8]) -> Vec<u8> {
    let (mut smallest, mut tries) = (input.to_vec(), 0);
    let mut size = input.len() / 2;
    while size > 0 && tries < MAX_CUTS {
        let mut at = 0;
        while at < smallest.len() && tries < MAX_CUTS {
            let mut shorter = smallest.clone();
            shorter.drain(at..(at + size).min(smallest.len()));
            tries += 1;
            if attempt(target, &shorter).is_err() {
                smallest = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    smallest
}

/// Changes a few bytes, in the ways that break parsers.
fn mutated(mut input: Vec<u8>, pool: &[Vec<u8>], words: &[&str], chance: &mut Chance) -> Vec<u8> {
    for _ in 0..=chance.below(4) {
        let at = chance.below(input.len() + 1);
        let until = (at + chance.below(16)).min(input.len());
        match chance.below(9) {
            0 => drop(input.drain(at..until)),
            1 => {
                let copy = input[at..until].to_vec();
                drop(input.splice(at..at, copy));
            }
            2 if at < input.len() => input[at] ^= 1 << chance.below(8),
            3 if at < input.len() => input[at] = chance.below(256) as u8,
            4 | 5 if !words.is_empty() => drop(input.splice(at..until, chance.pick(words).bytes())),
            6 => {
                let other = chance.pick(pool);
                let from = chance.below(other.len() + 1);
                let piece = &other[from..(from + chance.below(64)).min(other.len())];
                drop(input.splice(at..until, piece.iter().copied()));
            }
            7 => input.truncate(at),
            _ => {
                // The same again and again, for depth and size.
                let piece = input[at..until].to_vec();
                let times = chance.below(200);
                drop(input.splice(at..at, piece.iter().copied().cycle().take(piece.len() * times)));
            }
        }
        input.truncate(MAX_INPUT_BYTES);
    }
    input
}
