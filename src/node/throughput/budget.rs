//! Budget: for how much of its time a node takes part in peers' measurements of throughput, so that nobody keeps it busy for good.
//! Pure: time is passed in.

use std::time::{Duration, Instant};

/// What may be used at once. Two minutes: a session of the longest duration, or ten of the usual one.
const MOST: Duration = Duration::from_secs(120);
/// It comes back at a fifth of the time that passes: two minutes in ten.
const SHARE: u32 = 5;

/// What is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: Duration,
    filled: Instant,
}

impl Budget {
    pub(super) const fn full(now: Instant) -> Self {
        Self { left: MOST, filled: now }
    }

    /// What may be used now.
    pub(super) fn left(&self, now: Instant) -> Duration {
        let gained = now.saturating_duration_since(self.filled) / SHARE;
        self.left.saturating_add(gained).min(MOST)
    }

    /// So much was used.
    pub(super) fn spend(&mut self, now: Instant, used: Duration) {
        self.left = self.left(now).saturating_sub(used);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_comes_back_at_a_fifth_of_the_time_and_never_more_than_there_was() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut budget = Budget::full(begun);
        assert_eq!(budget.left(at(1_000)), MOST);
        budget.spend(at(0), Duration::from_secs(100));
        assert_eq!(budget.left(at(0)), Duration::from_secs(20));
        assert_eq!(budget.left(at(100)), Duration::from_secs(40));
        budget.spend(at(100), Duration::from_secs(300));
        assert_eq!(budget.left(at(100)), Duration::ZERO, "it is never in debt");
        assert_eq!(budget.left(at(700)), MOST);
    }
}
