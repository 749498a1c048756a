//! Ids of rows that are an exception to the watermark of their backlog: ranges, few of them, in ascending order.

use std::collections::VecDeque;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Ranges(VecDeque<(i64, i64)>);

impl Ranges {
    /// Adds the ids from `first` to `last`, which are greater than all that are in it. `joins`: no other row lies between the last
    /// one and these.
    pub fn add(&mut self, first: i64, last: i64, joins: bool) {
        match self.0.back_mut().filter(|_| joins) {
            Some(range) => range.1 = last,
            None => self.0.push_back((first, last)),
        }
    }

    pub fn contains(&self, id: i64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= id);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, last)| id <= *last)
    }

    pub fn last(&self) -> Option<i64> {
        self.0.back().map(|(_, last)| *last)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets ranges that end there or before.
    pub fn forget_up_to(&mut self, id: i64) {
        while self.0.front().is_some_and(|(_, last)| *last <= id) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_was_added_until_it_is_forgotten() {
        let mut ranges = Ranges::default();
        ranges.add(-5, -3, false);
        ranges.add(4, 4, false);
        ranges.add(9, 9, true);
        ranges.add(20, 20, false);
        let held = |ranges: &Ranges| (-6..=21).filter(|id| ranges.contains(*id)).collect::<Vec<_>>();
        assert_eq!(held(&ranges), [-5, -4, -3, 4, 5, 6, 7, 8, 9, 20]);
        assert_eq!((ranges.len(), ranges.last()), (3, Some(20)));

        ranges.forget_up_to(8);
        assert_eq!(held(&ranges), [4, 5, 6, 7, 8, 9, 20], "a range goes as a whole");
        ranges.forget_up_to(20);
        assert_eq!((ranges.len(), ranges.last()), (0, None));
    }
}
