//! Layer 1, proof of work: a new identity costs a search for a nonce, so identities are not free.
//! The search and its check are the log's (`log/work.rs`); a genesis entry without enough work never gets here.

use super::{Case, Layer, LayerEffect, LayerReport};
use crate::ledger::types::MicroAtp;

pub(super) fn explain(case: Case<'_>) -> LayerReport {
    let bits = case.policy.pow_bits;
    LayerReport {
        layer: Layer::ProofOfWork,
        inputs: vec![],
        threshold: Some(i128::from(bits)),
        effect: LayerEffect::Informed,
        delta: MicroAtp::ZERO,
        delta_trust_ppm: 0,
        sentence: format!(
            "the author's genesis entry carries at least {bits} bits of work; without them it has no log"
        ),
    }
}
