//! What is done to the runtime: drawn by chance, each a sentence for whoever reads what happened.

use std::time::Duration;

use super::flow::{RECEIVERS, SENDERS, Variant};
use crate::harness::Chance;

/// What a receiver suffers from, as its desired properties.
pub type Trouble = &'static str;

const TROUBLES: [Trouble; 5] = [
    r#"{"crashEach": 97}"#,
    r#"{"retryEach": 23}"#,
    r#"{"parkEach": 151}"#,
    r#"{"hangEach": 61, "hangMs": 120}"#,
    r#"{"slowUs": 2500}"#,
];
/// Ends all of them.
pub const CURED: &str = r#"{"crashEach": 0, "retryEach": 0, "parkEach": 0, "hangEach": 0, "hangMs": 0, "slowUs": 0}"#;

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for a while.
    Wait(Duration),
    /// kill -9 and start.
    Kill,
    /// A good end, and a start.
    Restart,
    /// No room on the disk for a while; killed meanwhile, perhaps.
    FullDisk { lasting: Duration, is_killed: bool },
    /// The wall clock is off by so much from now on.
    Clock { off_secs: i64 },
    /// A receiver suffers.
    Trouble(&'static str, Trouble),
    /// It is well again.
    Cure(&'static str),
    /// A receiver is stopped for a while.
    Away(&'static str, Duration),
    /// A sender is restarted.
    RestartSender(&'static str),
    /// The route to the listener comes or goes.
    Route { is_there: bool },
    /// Another deployment that means the same.
    Deploy(Variant),
}

/// What is possible here.
#[derive(Debug, Clone, Copy)]
pub struct Possible {
    /// The state directory has a disk of its own that can be filled.
    pub full_disk: bool,
}

/// Draws the next step.
pub fn draw(chance: &mut Chance, possible: Possible) -> Step {
    let ms = |chance: &mut Chance, most: usize| Duration::from_millis(20 + chance.below(most) as u64);
    loop {
        return match chance.below(16) {
            0..4 => Step::Wait(ms(chance, 500)),
            4..6 => Step::Kill,
            6 => Step::Restart,
            7 if possible.full_disk => Step::FullDisk { lasting: ms(chance, 600), is_killed: chance.below(3) == 0 },
            7 => continue,
            8 => Step::Clock { off_secs: clock(chance) },
            9 | 10 => Step::Trouble(chance.pick(&RECEIVERS), chance.pick(&TROUBLES)),
            11 => Step::Cure(chance.pick(&RECEIVERS)),
            12 => Step::Away(chance.pick(&RECEIVERS), ms(chance, 400)),
            13 => Step::RestartSender(chance.pick(&SENDERS)),
            14 => Step::Route { is_there: chance.below(2) == 0 },
            _ => Step::Deploy(Variant {
                wide: chance.below(2) == 0,
                idler: chance.below(2) == 0,
                environment: chance.below(3) as u8,
            }),
        };
    }
}

/// Seconds, minutes, days or decades, both ways; right again now and then.
fn clock(chance: &mut Chance) -> i64 {
    let far = chance.pick(&[0, 1, 90, 86_400, 40 * 86_400, 30 * 365 * 86_400]);
    if chance.below(2) == 0 { far } else { -far }
}
