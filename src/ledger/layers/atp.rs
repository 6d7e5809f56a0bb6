//! Layer 9, ATP economics: good thinking earns, noise costs, and what an author has decides how much it may say.
//! Source: ledger.md, steps 4 to 7.

use super::{Case, Layer, LayerEffect, LayerReport};
use crate::ledger::{
    account::Account,
    fold::Verdict,
    policy::Policy,
    types::{MicroAtp, Ppm},
};

/// What an accepted thought of that coherence earns now.
#[must_use]
pub fn reward(policy: &Policy, account: &Account, coherence: Ppm) -> MicroAtp {
    let threshold = policy.reward_threshold_ppm;
    if coherence < threshold {
        return MicroAtp::ZERO;
    }
    let above = i128::from(coherence.0 - threshold.0);
    let range = i128::from(Ppm::ONE.0.saturating_sub(threshold.0)).max(1);
    let span = i128::from(policy.reward_max.0) - i128::from(policy.reward_base.0);
    let full = i128::from(policy.reward_base.0) + span * above / range;
    let left = i128::from(policy.reward_day_max.0) - i128::from(account.earned_today.0);
    // A policy's amounts are far below 2^63, and what was earned today never exceeds the day's maximum.
    MicroAtp(i64::try_from(full.min(left).max(0)).unwrap_or(0))
}

/// Books a reward.
pub const fn earn(account: &mut Account, reward: MicroAtp) {
    account.balance = account.balance.saturating_add(reward);
    account.earned = account.earned.saturating_add(reward);
    account.earned_today = account.earned_today.saturating_add(reward);
}

/// Books a penalty, and freezes the author where it has too little left. The account's time is the entry's by now.
pub fn lose(policy: &Policy, account: &mut Account, penalty: MicroAtp) {
    account.balance = account.balance.saturating_sub(penalty);
    account.lost = account.lost.saturating_add(penalty);
    if account.balance <= policy.freeze_balance {
        account.frozen_until = account.time.plus(policy.freeze_ms);
    }
}

/// How the balance scales the rate: 1.0 at the initial balance.
#[must_use]
pub fn rate_multiplier(policy: &Policy, account: &Account) -> Ppm {
    if account.balance < policy.min_balance {
        return policy.multiplier_min_ppm;
    }
    let above = i128::from(account.balance.0) - i128::from(policy.initial_balance.0);
    // Towards minus infinity, as everywhere in the ledger.
    let bonus = (above * i128::from(policy.atp_rate_bonus_ppm.0)).div_euclid(10_000_000);
    let (min, max) = (i128::from(policy.multiplier_min_ppm.0), i128::from(policy.multiplier_max_ppm.0));
    let multiplier = (1_000_000 + bonus).min(max).max(min);
    Ppm(u32::try_from(multiplier).unwrap_or(policy.multiplier_min_ppm.0))
}

pub(super) fn explain(case: Case<'_>) -> LayerReport {
    let (effect, sentence) = match case.outcome.verdict {
        Verdict::Accepted { reward } => (
            LayerEffect::Passed,
            format!("accepted: it earned {reward} ATP; the balance is {}", case.after.balance),
        ),
        Verdict::Rejected { by, penalty } => {
            let what = by.name();
            let frozen =
                if case.after.is_frozen_at(case.facts.time) { ", and the author is frozen" } else { "" };
            let balance = case.after.balance;
            (
                LayerEffect::Informed,
                format!("rejected ({what}): it cost {penalty} ATP; the balance is {balance}{frozen}"),
            )
        }
    };
    LayerReport {
        layer: Layer::Atp,
        inputs: vec![
            ("balance_before_uatp", i128::from(case.before.balance.0)),
            ("earned_today_uatp", i128::from(case.after.earned_today.0)),
            ("coherence_ppm", i128::from(case.outcome.coherence.0)),
        ],
        threshold: Some(i128::from(case.policy.reward_threshold_ppm.0)),
        effect,
        delta: case.outcome.delta,
        delta_trust_ppm: 0,
        sentence,
    }
}
