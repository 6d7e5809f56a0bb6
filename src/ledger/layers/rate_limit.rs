//! Layer 2, rate limit: so many thoughts a window, whatever their verdict. The limit stays what it was when its window
//! opened, so that rewards earned within a window cannot outrun it. Source: ledger.md, steps 3 and 6.

use super::{Case, Layer, LayerReport, Rejection};
use crate::ledger::{
    account::Account,
    policy::Policy,
    types::{MicroAtp, Millis},
};

/// Whether an entry of that time opens a new window.
#[must_use]
pub fn window_is_over(policy: &Policy, account: &Account, time: Millis) -> bool {
    time.since(account.window_start) >= policy.rate_window_ms
}

/// Whether the thought just counted is one too many.
#[must_use]
pub const fn exceeds(account: &Account) -> bool {
    account.window_count > account.window_limit
}

pub(super) fn explain(case: Case<'_>) -> LayerReport {
    let (count, limit) = (case.after.window_count, case.after.window_limit);
    let window_s = case.policy.rate_window_ms.0 / 1_000;
    LayerReport {
        layer: Layer::RateLimit,
        inputs: vec![
            ("window_count", i128::from(count)),
            ("window_start_ms", i128::from(case.after.window_start.0)),
        ],
        threshold: Some(i128::from(limit)),
        effect: case.effect_of(Rejection::RateLimit, &[]),
        delta: MicroAtp::ZERO,
        delta_trust_ppm: 0,
        sentence: format!(
            "thought {count} of the {limit} that the author may have in this window of {window_s} s"
        ),
    }
}
