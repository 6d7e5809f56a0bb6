//! Views of the whole federation: totals, inequality, sessions. They follow from the accounts and decide nothing.
//! Source: ledger.md, Sessions and network economics.

use std::collections::{BTreeMap, BTreeSet};

use super::types::{MicroAtp, Ppm};

/// The balances of a federation in a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Economics {
    /// The sum of all balances.
    pub total: MicroAtp,
    /// Their mean, towards minus infinity; nothing where there is nobody.
    pub mean: MicroAtp,
    /// The least.
    pub min: MicroAtp,
    /// The most.
    pub max: MicroAtp,
    /// How unequal they are: 0 where all have the same, towards 1 where one has all.
    pub gini: Ppm,
}

/// Totals and inequality of those balances.
#[must_use]
pub fn economics(balances: &[MicroAtp]) -> Economics {
    let sum: i128 = balances.iter().map(|balance| i128::from(balance.0)).sum();
    let count = i128::try_from(balances.len()).unwrap_or(i128::MAX).max(1);
    Economics {
        total: clamped(sum),
        mean: clamped(sum.div_euclid(count)),
        min: balances.iter().copied().min().unwrap_or_default(),
        max: balances.iter().copied().max().unwrap_or_default(),
        gini: gini(balances),
    }
}

/// The Gini coefficient over balances clamped at 0: the mean absolute difference of all pairs over twice the mean.
/// From the sorted values: (2 × Σ i × x_i) / (n × Σ x_i) − (n + 1) / n, with i from 1.
#[must_use]
pub fn gini(balances: &[MicroAtp]) -> Ppm {
    let mut sorted: Vec<u128> =
        balances.iter().map(|balance| u128::try_from(balance.0).unwrap_or(0)).collect();
    sorted.sort_unstable();
    let count = u128::try_from(sorted.len()).unwrap_or(u128::MAX);
    let sum: u128 = sorted.iter().sum();
    if sum == 0 {
        return Ppm::ZERO;
    }
    // Each balance is below 2^63, so even a million of them stay below 2^103 with their ranks.
    let ranked: u128 = (1..).zip(&sorted).map(|(rank, balance): (u128, &u128)| rank * balance).sum();
    let above = (2 * ranked).saturating_sub((count + 1) * sum);
    let ppm = above.saturating_mul(1_000_000) / (count * sum);
    Ppm(u32::try_from(ppm).unwrap_or(Ppm::ONE.0))
}

/// What an accepted thought is worth beyond its reward: its coherence, weighted by how much its author counts.
/// Source: ledger.md, Economic value.
#[must_use]
pub fn economic_value(coherence: Ppm, weight: Ppm) -> Ppm {
    let product = u64::from(coherence.0) * u64::from(weight.0) / 1_000_000;
    Ppm(u32::try_from(product).unwrap_or(u32::MAX))
}

/// Something that happened `count` times in `ms` milliseconds, per minute, in parts per million.
#[must_use]
pub fn per_minute_ppm(count: u64, ms: u64) -> u64 {
    let ppm = u128::from(count) * 60_000 * 1_000_000 / u128::from(ms.max(1));
    u64::try_from(ppm).unwrap_or(u64::MAX)
}

/// An accepted thought, as a session sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionThought<'a> {
    /// Its session's name.
    pub session: &'a str,
    /// Its author, in any form that tells authors apart.
    pub author: &'a str,
    /// Its mode's name.
    pub mode: &'a str,
    /// Its author's hardware's name.
    pub hardware: &'a str,
    /// Its coherence.
    pub coherence: Ppm,
    /// Its author's trust weight after it.
    pub weight: Ppm,
}

/// The set of accepted thoughts with one session name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// How many thoughts.
    pub thoughts: u64,
    /// Whose.
    pub participants: BTreeSet<String>,
    /// How many of each mode.
    pub modes: BTreeMap<String, u64>,
    /// How many from each kind of hardware.
    pub hardware: BTreeMap<String, u64>,
    /// The trust-weighted mean of their coherence; nothing where all weights are 0.
    pub collective_coherence: Ppm,
}

/// Every session by its name.
#[must_use]
pub fn sessions<'a>(thoughts: impl IntoIterator<Item = SessionThought<'a>>) -> BTreeMap<String, Session> {
    let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
    let mut sums: BTreeMap<String, (u128, u128)> = BTreeMap::new();
    for thought in thoughts {
        let session = sessions.entry(thought.session.to_owned()).or_default();
        session.thoughts = session.thoughts.saturating_add(1);
        session.participants.insert(thought.author.to_owned());
        *session.modes.entry(thought.mode.to_owned()).or_default() += 1;
        *session.hardware.entry(thought.hardware.to_owned()).or_default() += 1;
        let (weighted, weights) = sums.entry(thought.session.to_owned()).or_default();
        // Products below 2^40, so no number of thoughts that a disk holds reaches 2^128.
        *weighted += u128::from(thought.coherence.0) * u128::from(thought.weight.0);
        *weights += u128::from(thought.weight.0);
    }
    for (name, (weighted, weights)) in sums {
        if let Some(session) = sessions.get_mut(&name) {
            let mean = weighted.checked_div(weights).unwrap_or(0);
            session.collective_coherence = Ppm(u32::try_from(mean).unwrap_or(Ppm::ONE.0));
        }
    }
    sessions
}

fn clamped(amount: i128) -> MicroAtp {
    let edge = if amount < 0 { i64::MIN } else { i64::MAX };
    MicroAtp(i64::try_from(amount).unwrap_or(edge))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atp(amounts: &[i32]) -> Vec<MicroAtp> {
        amounts.iter().map(|amount| MicroAtp::from_atp(*amount)).collect()
    }

    #[test]
    fn gini_is_nothing_for_equals_and_nears_one_where_one_has_all() {
        assert_eq!(gini(&[]), Ppm::ZERO);
        assert_eq!(gini(&atp(&[5, 5, 5])), Ppm::ZERO);
        assert_eq!(gini(&atp(&[0, 0, 0, 8])), Ppm(750_000));
        assert_eq!(gini(&atp(&[-100, 8])), gini(&atp(&[0, 8])), "debts count as nothing");
        assert_eq!(gini(&atp(&[1, 3])), Ppm(250_000));
    }

    #[test]
    fn a_thought_is_worth_its_coherence_times_its_authors_weight() {
        assert_eq!(economic_value(Ppm(900_000), Ppm(500_000)), Ppm(450_000));
        assert_eq!(economic_value(Ppm::ONE, Ppm::ZERO), Ppm::ZERO);
        assert_eq!(economic_value(Ppm(u32::MAX), Ppm(u32::MAX)), Ppm(u32::MAX));
    }

    #[test]
    fn totals_are_exact_and_the_mean_is_floored() {
        let economics = economics(&[MicroAtp(-1), MicroAtp(0)]);
        assert_eq!((economics.total, economics.mean), (MicroAtp(-1), MicroAtp(-1)));
        assert_eq!(super::economics(&[MicroAtp(i64::MAX); 3]).total, MicroAtp(i64::MAX));
    }

    #[test]
    fn a_sessions_coherence_is_weighted_by_trust() {
        let thought = |author, coherence, weight| SessionThought {
            session: "main",
            author,
            mode: "exploring",
            hardware: "tpm2",
            coherence: Ppm(coherence),
            weight: Ppm(weight),
        };
        let sessions = sessions([thought("a", 1_000_000, 900_000), thought("b", 0, 100_000)]);
        let main = &sessions["main"];
        assert_eq!(main.collective_coherence, Ppm(900_000));
        assert_eq!((main.thoughts, main.participants.len()), (2, 2));
    }
}
