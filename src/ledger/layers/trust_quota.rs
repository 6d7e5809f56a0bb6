//! Layer 4, trust-weighted quota: how many thoughts a window allows, from trust, balance and hardware.
//! Source: ledger.md, step 4.

use super::{Case, Layer, LayerEffect, LayerReport, atp, hardware};
use crate::ledger::{account::Account, policy::Policy, types::MicroAtp};

/// The limit of a window that opens now: at least 1, at most what a `u32` holds.
#[must_use]
pub fn limit(policy: &Policy, account: &Account) -> u32 {
    // Each factor is below 2^42 by the policy's ranges, so the product of all stays below 2^127.
    let multiplier = i128::from(atp::rate_multiplier(policy, account).0);
    let base = i128::from(policy.rate_base) * multiplier / 1_000_000;
    let trust = 500_000 + i128::from(account.trust.0) * 3 / 2;
    let hardware = i128::from(hardware::rate(policy, account.level).0);
    let limit = base * trust * hardware / 1_000_000_000_000;
    u32::try_from(limit.max(1)).unwrap_or(u32::MAX)
}

pub(super) fn explain(case: Case<'_>) -> LayerReport {
    let opened = case.after.window_start == case.facts.time && case.after.window_count == 1;
    let limit = case.after.window_limit;
    let sentence = if opened {
        format!("this thought opened a window; trust {} allows {limit} thoughts in it", case.after.trust)
    } else {
        format!("the window's limit of {limit} was set when it opened, and stays")
    };
    LayerReport {
        layer: Layer::TrustQuota,
        inputs: vec![("rate_base", i128::from(case.policy.rate_base)), ("window_limit", i128::from(limit))],
        threshold: None,
        effect: LayerEffect::Informed,
        delta: MicroAtp::ZERO,
        delta_trust_ppm: 0,
        sentence,
    }
}
