//! Rounds that can be compared: what is compared was measured while the two processors stood equally near to each other.
//!
//! A message that crosses from one processor to another costs what the way between their caches takes, and a virtual machine moves
//! its processors about: two hardware threads of one core now, two halves of the socket a second later, a factor of ten between
//! them. Raw measured in one place and ours in the other say nothing of each other. So the way is measured before and after each
//! piece of a round, and the rounds that count are those in which it stayed the same, and that saw the same one.

use serde::Serialize;

use super::processors;
use super::{BenchError, median};

/// Ways that differ by no more than this factor are the same.
const SAME: f64 = 1.6;
/// A shorter way, in nanoseconds, is none between cores: the two are hardware threads of one core and share its caches.
const BETWEEN_CORES: f64 = 75.0;
/// Rounds tried for each that is asked for: at most, and until rounds on one core will do.
const TRIES: u32 = 4;
const TRIES_FOR_CORES: u32 = 2;

/// The rounds that count, each with a figure of every piece.
pub(super) struct Rounds<const N: usize> {
    kept: Vec<[f64; N]>,
    /// How the processors stood.
    pub processors: Processors,
}

/// How the processors of both ends stood in the rounds that count.
#[derive(Debug, Serialize)]
pub struct Processors {
    /// Round trip of a cache line between them, in nanoseconds; `None` where it cannot be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart_ns: Option<f64>,
    /// Rounds that do not count, because the processors were moved, or stood otherwise than in most.
    pub rounds_set_aside: u32,
}

struct Round<const N: usize> {
    figures: [f64; N],
    /// Of the ways that were seen: the shortest and the longest.
    ways: Option<(f64, f64)>,
}

/// Measures the pieces in turns, `rounds` times after one that warms up. `piece` gets the piece, and the words for where it stands.
pub(super) fn measure<const N: usize>(
    rounds: u32,
    mut piece: impl FnMut(usize, &str) -> Result<f64, BenchError>,
) -> Result<Rounds<N>, BenchError> {
    let wanted = rounds as usize;
    let mut seen: Vec<Round<N>> = Vec::new();
    for turn in 0..=rounds.saturating_mul(TRIES) {
        let words = format!("round {} of {rounds}", turn.min(alike(&seen, wanted).len() as u32 + 1));
        let (mut figures, mut ways) = ([0.0; N], vec![processors::round_trip_ns()]);
        for (at, figure) in figures.iter_mut().enumerate() {
            *figure = piece(at, &words)?;
            ways.push(processors::round_trip_ns());
        }
        if turn == 0 {
            // The first round warms up.
            continue;
        }
        seen.push(Round::new(figures, &ways));
        let counted = alike(&seen, wanted);
        let will_do =
            turn >= rounds.saturating_mul(TRIES_FOR_CORES) || counted.iter().all(|round| round.is_between_cores());
        if counted.len() >= wanted && will_do {
            break;
        }
    }
    let kept = alike(&seen, wanted);
    let ways: Vec<f64> =
        kept.iter().filter_map(|round| round.ways).map(|(near, far)| f64::midpoint(near, far)).collect();
    let processors = Processors {
        apart_ns: (!ways.is_empty()).then(|| median(ways)),
        rounds_set_aside: (seen.len() - kept.len()) as u32,
    };
    Ok(Rounds { kept: kept.iter().map(|round| round.figures).collect(), processors })
}

/// The most rounds that saw one and the same way, where as many as are wanted did between cores rather than on one; all rounds where
/// none saw the same way throughout, or it cannot be known.
fn alike<const N: usize>(seen: &[Round<N>], wanted: usize) -> Vec<&Round<N>> {
    let from = |least: f64| {
        let sees = |round: &&Round<N>| round.ways.is_some_and(|(near, far)| near >= least && far <= least * SAME);
        seen.iter().filter(sees).collect::<Vec<_>>()
    };
    let groups = seen.iter().filter_map(|round| Some(from(round.ways?.0))).filter(|group| !group.is_empty());
    let worth = |group: &Vec<&Round<N>>| {
        (group.len().min(wanted), group.iter().all(|round| round.is_between_cores()), group.len())
    };
    groups.max_by_key(worth).unwrap_or_else(|| seen.iter().collect())
}

impl<const N: usize> Round<N> {
    fn new(figures: [f64; N], ways: &[Option<f64>]) -> Round<N> {
        let by = |choose: fn(f64, f64) -> f64| ways.iter().copied().flatten().reduce(choose);
        Round { figures, ways: by(f64::min).zip(by(f64::max)) }
    }

    fn is_between_cores(&self) -> bool {
        self.ways.is_none_or(|(near, _)| near >= BETWEEN_CORES)
    }
}

impl<const N: usize> Rounds<N> {
    /// Of one piece.
    pub fn median(&self, piece: usize) -> f64 {
        median(self.kept.iter().map(|round| round[piece]).collect())
    }

    /// Of the median of one piece to that of another.
    pub fn ratio(&self, piece: usize, to: usize) -> f64 {
        self.median(piece) / self.median(to)
    }

    /// What one piece is more than another, in the same round.
    pub fn difference(&self, piece: usize, from: usize) -> f64 {
        median(self.kept.iter().map(|round| round[piece] - round[from]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: f64 = 47.0;
    const USUAL: f64 = 120.0;
    const FAR: f64 = 530.0;

    fn seen(ways: &[[f64; 2]]) -> Vec<Round<1>> {
        ways.iter().enumerate().map(|(at, ways)| Round::new([at as f64], &ways.map(Some))).collect()
    }

    fn counted(ways: &[[f64; 2]], wanted: usize) -> Vec<f64> {
        alike(&seen(ways), wanted).iter().map(|round| round.figures[0]).collect()
    }

    #[test]
    fn rounds_count_that_saw_one_way_throughout_and_the_same_as_most() {
        let ways = [[USUAL, 125.0], [USUAL, NEAR], [FAR, FAR], [131.0, 118.0], [FAR, USUAL], [USUAL, USUAL]];
        assert_eq!(counted(&ways, 3), [0.0, 3.0, 5.0]);
    }

    #[test]
    fn rounds_between_cores_go_before_more_of_them_on_one_if_they_are_as_many_as_are_wanted() {
        let ways = [[NEAR, NEAR], [USUAL, USUAL], [NEAR, 50.0], [USUAL, USUAL], [49.0, NEAR]];
        assert_eq!(counted(&ways, 2), [1.0, 3.0]);
        assert_eq!(counted(&ways, 3), [0.0, 2.0, 4.0]);
    }

    #[test]
    fn all_rounds_count_where_the_way_never_stays_or_is_not_known() {
        assert_eq!(counted(&[[NEAR, USUAL], [FAR, USUAL]], 2), [0.0, 1.0]);
        let unknown: Vec<Round<1>> = (0..3).map(|at| Round::new([f64::from(at)], &[None, None])).collect();
        assert_eq!(alike(&unknown, 2).len(), 3);
    }

    #[test]
    fn ratios_are_those_of_the_medians_and_differences_those_of_a_round() {
        let processors = Processors { apart_ns: None, rounds_set_aside: 0 };
        let rounds = Rounds { kept: vec![[2.0, 1.0], [30.0, 10.0], [4.0, 1.0]], processors };
        assert_eq!((rounds.median(0), rounds.median(1)), (4.0, 1.0));
        assert_eq!((rounds.ratio(0, 1), rounds.difference(0, 1)), (4.0, 3.0));
    }

    #[test]
    fn it_goes_on_until_enough_rounds_count_or_it_has_tried_often_enough() {
        let mut pieces = 0;
        let rounds = measure::<1>(2, |_, words| {
            assert!(words.ends_with(" of 2"), "{words}");
            pieces += 1;
            Ok(1.0)
        });
        let rounds = rounds.ok().unwrap();
        assert!((3..=9).contains(&pieces), "{pieces}");
        assert_eq!(rounds.kept.len() + rounds.processors.rounds_set_aside as usize + 1, pieces);
    }
}
