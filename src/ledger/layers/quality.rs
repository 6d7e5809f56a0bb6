//! Layer 3, quality threshold: below a certain coherence a thought is noise. Source: ledger.md, step 6.

use super::{Case, Layer, LayerReport, Rejection};
use crate::ledger::{
    policy::Policy,
    types::{MicroAtp, Ppm},
};

/// Whether a thought of that coherence is rejected.
#[must_use]
pub fn is_too_low(policy: &Policy, coherence: Ppm) -> bool {
    coherence < policy.coherence_min_ppm
}

pub(super) fn explain(case: Case<'_>) -> LayerReport {
    let features = case.facts.features;
    let coherence = case.outcome.coherence;
    LayerReport {
        layer: Layer::Quality,
        inputs: vec![
            ("chars", i128::from(features.chars)),
            ("concepts", i128::from(features.concepts)),
            ("diversity_ppm", i128::from(features.diversity.0)),
            ("coherence_ppm", i128::from(coherence.0)),
        ],
        threshold: Some(i128::from(case.policy.coherence_min_ppm.0)),
        effect: case.effect_of(Rejection::Quality, &[Rejection::RateLimit]),
        delta: MicroAtp::ZERO,
        delta_trust_ppm: 0,
        sentence: format!(
            "coherence {coherence} from {} characters, {} concepts and a diversity of {}; at least {} is asked for",
            features.chars, features.concepts, features.diversity, case.policy.coherence_min_ppm
        ),
    }
}
