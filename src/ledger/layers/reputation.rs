//! Layer 5, persistent reputation: what an author did stays with it, folded from its log and stored.
//! Source: ledger.md, step 7.

use super::{Case, Layer, LayerEffect, LayerReport, decay};
use crate::ledger::{
    account::Account,
    policy::Policy,
    types::{MicroAtp, Ppm},
};

/// An accepted thought: trust grows with its coherence, to 1.0 at most.
pub fn accepted(policy: &Policy, account: &mut Account, coherence: Ppm) {
    account.accepted = account.accepted.saturating_add(1);
    let gain = u64::from(policy.trust_gain_ppm.0) * u64::from(coherence.0) / 1_000_000;
    let gain = u32::try_from(gain).unwrap_or(u32::MAX);
    account.trust = Ppm(account.trust.0.saturating_add(gain).min(Ppm::ONE.0));
}

/// A rejected thought: trust falls, to nothing at least.
pub fn rejected(policy: &Policy, account: &mut Account) {
    account.rejected = account.rejected.saturating_add(1);
    account.trust = Ppm(account.trust.0.saturating_sub(policy.trust_loss_ppm.0));
}

pub(super) fn explain(case: Case<'_>) -> LayerReport {
    // Decay comes first and is its own layer's; what is left of the change is this one's.
    let decayed = decay::decayed_trust(case.policy, case.before, case.facts.time);
    let delta_trust_ppm = i64::from(case.after.trust.0) - i64::from(decayed.0);
    LayerReport {
        layer: Layer::Reputation,
        inputs: vec![
            ("trust_ppm", i128::from(case.after.trust.0)),
            ("accepted", i128::from(case.after.accepted)),
            ("rejected", i128::from(case.after.rejected)),
        ],
        threshold: None,
        effect: LayerEffect::Informed,
        delta: MicroAtp::ZERO,
        delta_trust_ppm,
        sentence: format!(
            "{} accepted and {} rejected thoughts so far; this one brought trust from {decayed} to {}",
            case.after.accepted, case.after.rejected, case.after.trust
        ),
    }
}
