//! Bucket: so many at once, and so many a minute. Time is passed in.

use crate::ledger::types::Millis;

/// What one thing costs, in the unit in which a bucket fills up: each one a minute is one unit a millisecond.
const ONE: u64 = 60_000;

/// What is left of a budget.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    allowance: Allowance,
    units: u64,
    filled: Millis,
}

/// How much a budget has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Most at once.
    pub burst: u32,
    /// How many come back in a minute.
    pub per_minute: u32,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn full(allowance: Allowance, mono: Millis) -> Self {
        Self { allowance, units: u64::from(allowance.burst).saturating_mul(ONE), filled: mono }
    }

    /// Takes one, where there is one.
    pub fn take(&mut self, mono: Millis) -> bool {
        let Some(left) = self.units(mono).checked_sub(ONE) else { return false };
        self.units = left;
        self.filled = self.filled.max(mono);
        true
    }

    /// How full it is, for comparing buckets of one allowance.
    #[must_use]
    pub fn units(&self, mono: Millis) -> u64 {
        let gained = mono.since(self.filled).0.saturating_mul(u64::from(self.allowance.per_minute));
        let most = u64::from(self.allowance.burst).saturating_mul(ONE);
        self.units.saturating_add(gained).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut Bucket, mono: Millis) -> usize {
        (0..100).take_while(|_| bucket.take(mono)).count()
    }

    #[test]
    fn a_bucket_has_a_burst_and_then_its_rate_and_saves_nothing_up() {
        let mut bucket = Bucket::full(Allowance { burst: 4, per_minute: 120 }, Millis(7));
        assert_eq!(taken(&mut bucket, Millis(7)), 4);
        assert_eq!(taken(&mut bucket, Millis(506)), 0);
        assert_eq!(taken(&mut bucket, Millis(507)), 1);
        assert_eq!(taken(&mut bucket, Millis(60_000)), 4);
        assert_eq!(taken(&mut bucket, Millis(0)), 0, "time that goes back gives nothing");
    }
}
