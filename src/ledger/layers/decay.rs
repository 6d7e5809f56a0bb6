//! Layer 8, trust decay: trust fades with the logarithm of silence. The logarithm is integer arithmetic, because the
//! one of the platform differs in its last bit from processor to processor. Source: ledger.md, step 1.

use super::{Case, Layer, LayerEffect, LayerReport};
use crate::ledger::{
    account::{Account, DAY_MS},
    policy::Policy,
    types::{MicroAtp, Millis, Ppm},
};

/// ln 2 in units of 2^-32.
const LN_2: u128 = 2_977_044_471;
/// 1.0 in units of 2^-32.
const ONE: u128 = 1 << 32;

/// The author's trust once the silence before an entry of that time is counted.
#[must_use]
pub fn decayed_trust(policy: &Policy, account: &Account, time: Millis) -> Ppm {
    let idle = time.since(account.time);
    let start = Millis(u64::from(policy.decay_start_days).saturating_mul(DAY_MS));
    let floor = policy.decay_floor_ppm;
    if idle < start || account.trust <= floor {
        return account.trust;
    }
    let decay = decay(policy.decay_rate_ppm, idle.since(start));
    let trust = u128::from(account.trust.0).saturating_sub(decay);
    // No more than the trust was, so it fits.
    floor.max(Ppm(u32::try_from(trust).unwrap_or(u32::MAX)))
}

/// rate × ln(1 + days past the start), in parts per million. No product here exceeds 2^97.
fn decay(rate: Ppm, past_start: Millis) -> u128 {
    let y = ONE + (u128::from(past_start.0) << 32) / u128::from(DAY_MS);
    let n = y.ilog2() - 32;
    let mut m = y >> n;
    let mut frac = 0_u128;
    for _ in 0..32 {
        m = (m * m) >> 32;
        frac <<= 1;
        if m >= ONE << 1 {
            m >>= 1;
            frac |= 1;
        }
    }
    let log2 = (u128::from(n) << 32) | frac;
    let ln = (log2 * LN_2) >> 32;
    (u128::from(rate.0) * ln) >> 32
}

pub(super) fn explain(case: Case<'_>) -> LayerReport {
    let idle = case.facts.time.since(case.before.time);
    let decayed = decayed_trust(case.policy, case.before, case.facts.time);
    let days = idle.0 / DAY_MS;
    let start = case.policy.decay_start_days;
    let sentence = if decayed < case.before.trust {
        format!("after {days} days of silence trust fell from {} to {decayed}", case.before.trust)
    } else {
        format!("{days} days of silence before it; trust decays after {start}")
    };
    LayerReport {
        layer: Layer::Decay,
        inputs: vec![("idle_ms", i128::from(idle.0)), ("trust_before_ppm", i128::from(case.before.trust.0))],
        threshold: Some(i128::from(start) * i128::from(DAY_MS)),
        effect: LayerEffect::Informed,
        delta: MicroAtp::ZERO,
        delta_trust_ppm: i64::from(decayed.0) - i64::from(case.before.trust.0),
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_follows_the_natural_logarithm() {
        let rate = Ppm(1_000_000);
        assert_eq!(decay(rate, Millis::ZERO), 0);
        assert_eq!(decay(rate, Millis(DAY_MS)), 693_147);
        assert_eq!(decay(rate, Millis(9 * DAY_MS)), 2_302_585);
        assert!(decay(rate, Millis(u64::MAX)) > 26_000_000, "no input overflows");
    }
}
