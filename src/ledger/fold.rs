//! The fold: what one thought does to its author's account, step by step in the order of the specification.
//! Each step's arithmetic stands in the file of its layer. Source: ledger.md, One entry.

use super::{
    account::{Account, DAY_MS},
    coherence::Features,
    layers::{Rejection, atp, corpus, decay, quality, rate_limit, reputation, trust_quota},
    policy::Policy,
    types::{MicroAtp, Millis, Ppm},
};

/// What the fold needs to know of a thought; all of it stands in the entry's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The entry's time, as its author wrote it.
    pub time: Millis,
    /// The content's length in bytes of UTF-8.
    pub content_bytes: u32,
    /// What was measured of the content.
    pub features: Features,
}

/// What the rules say of an admissible thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stands in the corpus.
    Accepted {
        /// What it earned; nothing below the reward threshold or past the day's maximum.
        reward: MicroAtp,
    },
    /// It is recorded, and cost its author a penalty.
    Rejected {
        /// What for.
        by: Rejection,
        /// What it cost.
        penalty: MicroAtp,
    },
}

/// What the fold did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Accepted or rejected.
    pub verdict: Verdict,
    /// The content's coherence.
    pub coherence: Ppm,
    /// How the balance changed.
    pub delta: MicroAtp,
    /// The author's trust weight after it.
    pub weight: Ppm,
}

/// Why an entry can't be part of the log. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inadmissible {
    /// Its time lies before the author's last entry's.
    #[error("its time ({}) is before that of the author's last entry ({})", at.0, last.0)]
    TimeWentBack {
        /// Its time.
        at: Millis,
        /// The last entry's.
        last: Millis,
    },
    /// The author is frozen.
    #[error("the author's balance fell so low that it is frozen until {} (milliseconds since 1970)", until.0)]
    Frozen {
        /// Its time.
        at: Millis,
        /// When the author may write again.
        until: Millis,
    },
    /// Its content is too long.
    #[error("its content has {bytes} bytes; {max} are allowed")]
    TooLong {
        /// How long.
        bytes: u32,
        /// The most that is allowed.
        max: u32,
    },
}

impl Inadmissible {
    /// The time from which the same thought would be admissible, where there is one.
    #[must_use]
    pub const fn admissible_from(&self) -> Option<Millis> {
        match self {
            Self::TimeWentBack { last, .. } => Some(*last),
            Self::Frozen { until, .. } => Some(*until),
            Self::TooLong { .. } => None,
        }
    }
}

/// Whether a thought may be part of its author's log.
///
/// # Errors
/// Why not.
pub fn admissible(
    policy: &Policy,
    account: &Account,
    time: Millis,
    content_bytes: u32,
) -> Result<(), Inadmissible> {
    if time < account.time {
        return Err(Inadmissible::TimeWentBack { at: time, last: account.time });
    }
    if account.is_frozen_at(time) {
        return Err(Inadmissible::Frozen { at: time, until: account.frozen_until });
    }
    if content_bytes > policy.content_max_bytes {
        return Err(Inadmissible::TooLong { bytes: content_bytes, max: policy.content_max_bytes });
    }
    Ok(())
}

/// Folds a thought into its author's account.
///
/// # Errors
/// Where it is inadmissible; the account is unchanged then.
pub fn fold(policy: &Policy, account: &mut Account, facts: &Facts) -> Result<Outcome, Inadmissible> {
    admissible(policy, account, facts.time, facts.content_bytes)?;
    // 1. Decay (layer 8)
    account.trust = decay::decayed_trust(policy, account, facts.time);
    // 2. Time and seq
    account.time = facts.time;
    account.seq = account.seq.next();
    // 3. Window (layer 2), with 4. its limit (layers 4, 6, 9) where it opens
    if rate_limit::window_is_over(policy, account, facts.time) {
        account.window_start = facts.time;
        account.window_count = 0;
        account.window_limit = trust_quota::limit(policy, account);
    }
    // A window that holds four billion thoughts is over its limit either way.
    account.window_count = account.window_count.saturating_add(1);
    // 5. Day
    let day = facts.time.0 / DAY_MS;
    if day != account.day {
        account.day = day;
        account.earned_today = MicroAtp::ZERO;
    }
    // 6. Verdict, the first that applies, and 7. what follows from it
    let coherence = facts.features.coherence();
    let verdict = judge(policy, account, facts, coherence);
    let delta = match verdict {
        Verdict::Accepted { reward } => {
            atp::earn(account, reward);
            reputation::accepted(policy, account, coherence);
            corpus::remember(policy, account, &facts.features);
            reward
        }
        Verdict::Rejected { penalty, .. } => {
            atp::lose(policy, account, penalty);
            reputation::rejected(policy, account);
            MicroAtp::ZERO.saturating_sub(penalty)
        }
    };
    Ok(Outcome { verdict, coherence, delta, weight: account.weight(policy) })
}

fn judge(policy: &Policy, account: &Account, facts: &Facts, coherence: Ppm) -> Verdict {
    if rate_limit::exceeds(account) {
        return Verdict::Rejected { by: Rejection::RateLimit, penalty: policy.penalty_rate };
    }
    if quality::is_too_low(policy, coherence) {
        return Verdict::Rejected { by: Rejection::Quality, penalty: policy.penalty_quality };
    }
    if corpus::repeats(account, &facts.features) {
        return Verdict::Rejected { by: Rejection::Spam, penalty: policy.penalty_spam };
    }
    Verdict::Accepted { reward: atp::reward(policy, account, coherence) }
}
