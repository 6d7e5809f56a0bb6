//! Layer 7, corpus management: the corpus holds no author's thought twice within a window, and is pruned by priority
//! when it is full. What is kept on disk is local and no part of the ledger; whether an author repeats itself is.
//! Source: ledger.md, steps 6 and 7, and Layer 7.

use super::{Case, Layer, LayerReport, Rejection};
use crate::ledger::{
    account::Account,
    coherence::Features,
    policy::Policy,
    types::{MicroAtp, Millis, Ppm},
};

/// A content of this age has no recency left: 10 hours.
const RECENCY: Millis = Millis(36_000_000);

/// Whether the author had the same concepts among its last accepted thoughts.
#[must_use]
pub fn repeats(account: &Account, features: &Features) -> bool {
    account.recent.contains(&features.fingerprint_prefix())
}

/// An accepted thought's concepts may not be repeated for a while.
pub fn remember(policy: &Policy, account: &mut Account, features: &Features) {
    account.recent.push_back(features.fingerprint_prefix());
    while account.recent.len() > usize::from(policy.duplicate_window) {
        account.recent.pop_front();
    }
}

/// What goes last when the corpus is pruned: 60 % coherence, 40 % recency.
#[must_use]
pub fn priority(coherence: Ppm, age: Millis) -> Ppm {
    let recency = 1_000_000 * RECENCY.since(age).0 / RECENCY.0;
    let priority = (600_000 * u64::from(coherence.0) + 400_000 * recency) / 1_000_000;
    Ppm(u32::try_from(priority).unwrap_or(u32::MAX))
}

pub(super) fn explain(case: Case<'_>) -> LayerReport {
    let effect = case.effect_of(Rejection::Spam, &[Rejection::RateLimit, Rejection::Quality]);
    let window = case.policy.duplicate_window;
    let repeated = repeats(case.before, &case.facts.features);
    let sentence = if repeated {
        format!("the author said the same among its last {window} accepted thoughts")
    } else {
        format!("the author did not say the same among its last {window} accepted thoughts")
    };
    LayerReport {
        layer: Layer::Corpus,
        inputs: vec![
            ("recent", i128::try_from(case.before.recent.len()).unwrap_or(i128::MAX)),
            ("repeated", i128::from(repeated)),
        ],
        threshold: Some(i128::from(window)),
        effect,
        delta: MicroAtp::ZERO,
        delta_trust_ppm: 0,
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_is_coherence_and_recency_in_their_shares() {
        assert_eq!(priority(Ppm::ONE, Millis::ZERO), Ppm(1_000_000));
        assert_eq!(priority(Ppm::ONE, RECENCY), Ppm(600_000));
        assert_eq!(priority(Ppm::ZERO, Millis(RECENCY.0 / 2)), Ppm(200_000));
        assert_eq!(priority(Ppm::ZERO, Millis(u64::MAX)), Ppm::ZERO);
    }
}
