//! Layer 6, hardware trust asymmetry: an author whose hardware can prove itself starts with more trust, counts for more
//! and may say more. Source: ledger.md, the genesis entry, step 4 and trust weight.

use super::{Case, Layer, LayerEffect, LayerReport};
use crate::ledger::{
    policy::Policy,
    types::{Level, MicroAtp, Ppm},
};

/// Trust of a new author.
#[must_use]
pub fn initial_trust(policy: &Policy, level: Level) -> Ppm {
    with_bonus(policy, level, policy.trust_initial_ppm, policy.trust_hardware_bonus_ppm)
}

/// How much an author's thoughts count.
#[must_use]
pub fn weight(policy: &Policy, level: Level, trust: Ppm) -> Ppm {
    with_bonus(policy, level, trust, policy.weight_hardware_bonus_ppm)
}

/// The rate multiplier.
#[must_use]
pub fn rate(policy: &Policy, level: Level) -> Ppm {
    if counts(policy, level) { policy.hardware_rate_ppm } else { Ppm::ONE }
}

fn counts(policy: &Policy, level: Level) -> bool {
    level >= policy.hardware_level_min
}

fn with_bonus(policy: &Policy, level: Level, trust: Ppm, bonus: Ppm) -> Ppm {
    let bonus = if counts(policy, level) { bonus } else { Ppm::ZERO };
    Ppm(trust.0.saturating_add(bonus.0).min(Ppm::ONE.0))
}

pub(super) fn explain(case: Case<'_>) -> LayerReport {
    let level = case.after.level;
    let weight = case.outcome.weight;
    let rate = rate(case.policy, level);
    LayerReport {
        layer: Layer::Hardware,
        inputs: vec![("level", i128::from(level.number())), ("weight_ppm", i128::from(weight.0))],
        threshold: Some(i128::from(case.policy.hardware_level_min.number())),
        effect: LayerEffect::Informed,
        delta: MicroAtp::ZERO,
        delta_trust_ppm: 0,
        sentence: format!(
            "level {level} multiplies the author's rate by {rate}; its thoughts weigh {weight}"
        ),
    }
}
