//! The watchdog: finds workers that do not get on. It is looked at by the loop now and then and wakes nobody.
//!
//! A worker is *busy* while it is in a call of its module, while it was told something that it has not taken up, and until it is
//! started. Busy without any progress for longer than its limit, it is unresponsive. Time counts as the loop sees it pass, a
//! little at a time: a machine that was asleep, or a loop that was held up, accuses nobody.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::link::Link;
use crate::clock::spoken;

/// Longest time that one look adds; looks are about as far apart as [`look_again`] says.
const MAX_STEP: Duration = Duration::from_secs(2);
/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// The same, where limits are very short.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

/// What module code a worker is in, or was in last; an `AtomicU32` in its [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Callback {
    /// None yet: its library is being loaded.
    Load,
    /// `create`.
    Create,
    /// `start`.
    Start,
    /// The handler of messages.
    Message,
    /// The handler of desired properties.
    Desired,
    /// The handler of direct methods.
    Method,
    /// The handler of timers.
    Timer,
    /// The handler of posted events.
    Event,
    /// `stop`.
    Stop,
    /// `destroy`.
    Destroy,
}

const CALLBACKS: [Callback; 10] = {
    use Callback::{Create, Desired, Destroy, Event, Load, Message, Method, Start, Stop, Timer};
    [Load, Create, Start, Message, Desired, Method, Timer, Event, Stop, Destroy]
};
/// The input's place among those that the image declares stands above the callback, from 1.
const INPUT_SHIFT: u32 = 8;

impl Callback {
    /// Notes that this callback begins. `[worker]`
    #[inline]
    pub fn begin(self, doing: &AtomicU32) {
        doing.store(self as u32, Ordering::Relaxed);
    }

    /// Notes that a message from the input at this place begins. `[worker]`
    #[inline]
    pub fn begin_message(doing: &AtomicU32, input: u32) {
        doing.store(Callback::Message as u32 | input.wrapping_add(1) << INPUT_SHIFT, Ordering::Relaxed);
    }
}

/// What a worker does, for a person.
struct Doing<'a> {
    doing: u32,
    in_call: bool,
    inputs: &'a [String],
}

impl fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let callback = CALLBACKS.get((self.doing & 0xFF) as usize).unwrap_or(&Callback::Load);
        if !self.in_call && *callback != Callback::Load {
            return f.write_str("not listening to what it is told");
        }
        match callback {
            Callback::Load => f.write_str("its library is being loaded"),
            Callback::Create => f.write_str("in create"),
            Callback::Start => f.write_str("in start"),
            Callback::Message => {
                let at = (self.doing >> INPUT_SHIFT).checked_sub(1);
                match at.and_then(|at| self.inputs.get(at as usize)) {
                    Some(input) => write!(f, "in the handler of input {input}"),
                    None => f.write_str("in the handler of messages"),
                }
            }
            Callback::Desired => f.write_str("in the handler of desired properties"),
            Callback::Method => f.write_str("in the handler of a direct method"),
            Callback::Timer => f.write_str("in the handler of a timer"),
            Callback::Event => f.write_str("in the handler of a posted event"),
            Callback::Stop => f.write_str("in stop"),
            Callback::Destroy => f.write_str("in destroy"),
        }
    }
}

/// What one worker was like at the last look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watch {
    progress: u64,
    looked: Option<Instant>,
    stuck: Duration,
    told: bool,
}

/// What a look found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nothing new.
    Nothing,
    /// It does not get on, for so long.
    Unresponsive(Duration),
    /// It gets on again.
    Responsive,
}

impl Watch {
    /// Looks at a worker whose counter of progress stands at `progress`.
    pub fn look(&mut self, progress: u64, is_busy: bool, limit: Duration, now: Instant) -> Finding {
        let step = self.looked.replace(now).map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        if self.progress != progress || !is_busy {
            self.progress = progress;
            self.stuck = Duration::ZERO;
            return if std::mem::take(&mut self.told) { Finding::Responsive } else { Finding::Nothing };
        }
        self.stuck += step.min(MAX_STEP);
        if self.told || limit.is_zero() || self.stuck < limit {
            return Finding::Nothing;
        }
        self.told = true;
        Finding::Unresponsive(self.stuck)
    }

    /// What an unresponsive worker does and for how long, as of now; `None` where it answers.
    pub fn describe(&self, link: &Link, inputs: &[String], now: Instant) -> Option<String> {
        let since = self.looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        let doing = Doing { doing: link.doing.load(Ordering::Relaxed), in_call: in_call(link), inputs };
        self.told.then(|| format!("{doing} for {}", spoken(self.stuck + since.min(MAX_STEP))))
    }
}

fn in_call(link: &Link) -> bool {
    link.calls.load(Ordering::Relaxed) % 2 == 1
}

/// Looks at the worker behind a link.
pub fn look(watch: &mut Watch, link: &Link, is_started: bool, limit: Duration, now: Instant) -> Finding {
    let (waiting, taken) = link.told_and_taken();
    let progress = link.calls.load(Ordering::Relaxed).wrapping_add(taken);
    watch.look(progress, !is_started || waiting || in_call(link), limit, now)
}

/// When to look again at workers the shortest of whose limits is `shortest`.
pub fn look_again(shortest: Option<Duration>) -> Duration {
    shortest.map_or(LOOK, |limit| (limit / 2).clamp(SHORTEST_LOOK, LOOK))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_call_that_lasts_is_found_and_its_end_too() {
        let (mut watch, start) = (Watch::default(), crate::clock::now());
        let mut look = |progress, busy, at: u32| watch.look(progress, busy, 3 * SECOND, start + SECOND * at);

        assert_eq!(look(1, true, 0), Finding::Nothing);
        assert_eq!(look(1, true, 1), Finding::Nothing);
        assert_eq!(look(1, true, 2), Finding::Nothing);
        assert_eq!(look(1, true, 3), Finding::Unresponsive(3 * SECOND));
        assert_eq!(look(1, true, 4), Finding::Nothing, "it is told once");
        assert_eq!(look(2, false, 5), Finding::Responsive);
        assert_eq!(look(2, false, 60), Finding::Nothing, "who has nothing to do is well");
    }

    #[test]
    fn busy_with_one_call_after_the_other_is_well() {
        let (mut watch, start) = (Watch::default(), crate::clock::now());
        for at in 0..100 {
            assert_eq!(watch.look(u64::from(at) * 2 + 1, true, SECOND, start + SECOND * at), Finding::Nothing);
        }
    }

    #[test]
    fn time_in_which_nobody_looked_accuses_nobody() {
        let (mut watch, start) = (Watch::default(), crate::clock::now());
        assert_eq!(watch.look(1, true, 30 * SECOND, start), Finding::Nothing);
        assert_eq!(watch.look(1, true, 30 * SECOND, start + 3600 * SECOND), Finding::Nothing);
    }

    #[test]
    fn no_limit_means_no_watchdog() {
        let (mut watch, start) = (Watch::default(), crate::clock::now());
        for at in 0..1000 {
            assert_eq!(watch.look(1, true, Duration::ZERO, start + SECOND * at), Finding::Nothing);
        }
    }

    #[test]
    fn what_it_does_is_said_in_words() {
        let inputs = ["readings".to_owned()];
        let doing = AtomicU32::new(0);
        let said = |in_call| Doing { doing: doing.load(Ordering::Relaxed), in_call, inputs: &inputs }.to_string();
        assert_eq!(said(false), "its library is being loaded");
        Callback::begin_message(&doing, 0);
        assert_eq!(said(true), "in the handler of input readings");
        Callback::begin_message(&doing, u32::MAX);
        assert_eq!(said(true), "in the handler of messages");
        Callback::Start.begin(&doing);
        assert_eq!((said(true), said(false)), ("in start".into(), "not listening to what it is told".into()));
    }
}
