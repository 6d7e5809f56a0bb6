//! Which contents are let go when the corpus is full: the same in every store. Source: ledger.md, Layer 7.

use super::{CorpusBounds, CorpusSize};
use crate::ledger::{
    layers::corpus::priority,
    types::{Millis, Ppm},
};

/// From so many hundredths of either bound on, the corpus is pruned ...
const FULL_PERCENT: u64 = 90;
/// ... to so many of both: far enough that the next time is not soon.
const PRUNED_PERCENT: u64 = 70;
/// From so many on nothing is fetched until it was: a backlog comes faster than contents go.
const OVERFULL_PERCENT: u64 = 150;
/// Accepted contents younger than this go only when nothing older is left: who just heard of one can still read it.
const AGE_MIN: Millis = Millis(60_000);

const _: () = assert!(PRUNED_PERCENT < FULL_PERCENT && FULL_PERCENT < 100);

/// A content that is kept, and what decides when it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept<T> {
    /// Which; of two that are equal otherwise the smaller goes first.
    pub(super) which: T,
    /// As its author wrote it.
    pub(super) time: Millis,
    /// How long it is.
    pub(super) bytes: u64,
    /// That of an accepted thought. `None` for a rejected one: its content takes room and is no part of the corpus.
    pub(super) coherence: Option<Ppm>,
}

/// When a content goes: the smallest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Rejected ones of any age: were young ones spared, a flood of spam would push out what was accepted.
    Rejected,
    Accepted(Ppm),
    Young(Ppm),
}

/// Whether the corpus has reached nine tenths of either bound.
pub(super) const fn is_due(size: CorpusSize, bounds: CorpusBounds) -> bool {
    is_full(size.thoughts, bounds.thoughts_max) || is_full(size.bytes, bounds.bytes_max)
}

/// Whether pruning is so far behind that nobody should fetch more.
pub(crate) const fn is_overfull(size: CorpusSize, bounds: CorpusBounds) -> bool {
    size.thoughts > percent(bounds.thoughts_max, OVERFULL_PERCENT)
        || size.bytes > percent(bounds.bytes_max, OVERFULL_PERCENT)
}

/// What of all that is kept goes, in that order, so that no more than seven tenths of both bounds remain.
pub(super) fn choose<T: Ord + Copy>(
    mut kept: Vec<Kept<T>>,
    bounds: CorpusBounds,
    now: Millis,
) -> Vec<Kept<T>> {
    let mut size = kept.iter().fold(CorpusSize::default(), |size, content| CorpusSize {
        thoughts: size.thoughts.saturating_add(u64::from(content.coherence.is_some())),
        bytes: size.bytes.saturating_add(content.bytes),
    });
    let wanted = CorpusSize {
        thoughts: percent(bounds.thoughts_max, PRUNED_PERCENT),
        bytes: percent(bounds.bytes_max, PRUNED_PERCENT),
    };
    kept.sort_by_cached_key(|content| (turn(content, now), content.time, content.which));
    let surplus = kept
        .iter()
        .take_while(|content| {
            let too_large = size.thoughts > wanted.thoughts || size.bytes > wanted.bytes;
            size.thoughts = size.thoughts.saturating_sub(u64::from(content.coherence.is_some()));
            size.bytes = size.bytes.saturating_sub(content.bytes);
            too_large
        })
        .count();
    kept.truncate(surplus);
    kept
}

fn turn<T>(content: &Kept<T>, now: Millis) -> Turn {
    let age = now.since(content.time);
    match content.coherence {
        None => Turn::Rejected,
        Some(coherence) if age < AGE_MIN => Turn::Young(priority(coherence, age)),
        Some(coherence) => Turn::Accepted(priority(coherence, age)),
    }
}

/// Rounded against pruning: of a bound of four, four are nine tenths.
const fn is_full(size: u64, bound: u64) -> bool {
    size >= bound - percent(bound, 100 - FULL_PERCENT)
}

/// So many hundredths of a bound, rounded down; no bound overflows it.
const fn percent(bound: u64, percent: u64) -> u64 {
    (bound / 100).saturating_mul(percent).saturating_add(bound % 100 * percent / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_795_478_400_000);
    const BOUNDS: CorpusBounds = CorpusBounds { thoughts_max: 10, bytes_max: 1_000 };

    fn kept(which: u32, age: u64, coherence: Option<u32>) -> Kept<u32> {
        Kept { which, time: Millis(NOW.0 - age), bytes: 10, coherence: coherence.map(Ppm) }
    }

    fn chosen(kept: Vec<Kept<u32>>, bounds: CorpusBounds) -> Vec<u32> {
        choose(kept, bounds, NOW).into_iter().map(|content| content.which).collect()
    }

    #[test]
    fn nine_tenths_of_either_bound_are_enough() {
        let size = |thoughts, bytes| CorpusSize { thoughts, bytes };
        for (size, due) in [(size(8, 899), false), (size(9, 0), true), (size(0, 900), true)] {
            assert_eq!(is_due(size, BOUNDS), due, "{size:?}");
        }
        let four = CorpusBounds { thoughts_max: 4, ..BOUNDS };
        assert!(!is_due(size(3, 0), four) && is_due(size(4, 0), four));
        assert!(!is_due(size(u64::MAX / 2, 0), CorpusBounds { thoughts_max: u64::MAX, bytes_max: 1 << 60 }));
    }

    #[test]
    fn half_as_much_again_is_too_much_and_no_bound_is_none() {
        let size = |thoughts, bytes| CorpusSize { thoughts, bytes };
        for (size, over) in [(size(15, 1_500), false), (size(16, 0), true), (size(0, 1_501), true)] {
            assert_eq!(is_overfull(size, BOUNDS), over, "{size:?}");
        }
        let none = CorpusBounds { thoughts_max: u64::MAX, bytes_max: u64::MAX };
        assert!(!is_overfull(size(u64::MAX, u64::MAX), none));
    }

    #[test]
    fn rejected_ones_go_first_then_the_lowest_priority_and_the_youngest_last() {
        let hour = 3_600_000;
        let all = vec![
            kept(1, 1_000, Some(300_000)),
            kept(2, 20 * hour, Some(900_000)),
            kept(3, 20 * hour, Some(500_000)),
            // Of no coherence to speak of, but new: 0.4 of recency.
            kept(4, 70_000, Some(300_000)),
            kept(5, 1_000, None),
            kept(6, hour, None),
            kept(7, 20 * hour, Some(500_000)),
        ];
        let none = CorpusBounds { thoughts_max: 0, bytes_max: 0 };
        assert_eq!(chosen(all, none), [6, 5, 3, 7, 2, 4, 1]);
    }

    #[test]
    fn no_more_goes_than_must_and_both_bounds_count() {
        let all: Vec<_> = (0..9).map(|which| kept(which, 100_000, Some(500_000))).collect();
        assert_eq!(chosen(all.clone(), BOUNDS), [0, 1]);
        assert_eq!(chosen(all.clone(), CorpusBounds { bytes_max: 100, ..BOUNDS }), [0, 1]);
        assert_eq!(chosen(all, CorpusBounds { bytes_max: 50, ..BOUNDS }), [0, 1, 2, 3, 4, 5]);
    }
}
