//! The nine layers of defence, one file each. A layer's arithmetic is a plain function that the fold calls at its step;
//! beside it stands what the layer says for itself when somebody asks why a thought got its verdict.
//!
//! There is no trait `Layer`: the layers read and write different fields at different steps, and the order of the
//! steps *is* the specification. Source: ledger.md, The nine layers.

pub mod atp;
pub mod corpus;
pub mod decay;
pub mod hardware;
pub mod proof_of_work;
pub mod quality;
pub mod rate_limit;
pub mod reputation;
pub mod trust_quota;

use super::{
    account::Account,
    fold::{Facts, Inadmissible, Outcome, fold},
    policy::Policy,
    types::MicroAtp,
};

/// One of the nine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// 1: a new identity costs work.
    ProofOfWork,
    /// 2: so many thoughts a window.
    RateLimit,
    /// 3: a thought must be coherent enough.
    Quality,
    /// 4: who is trusted may say more.
    TrustQuota,
    /// 5: what an author did stays with it.
    Reputation,
    /// 6: hardware that can prove itself counts for more.
    Hardware,
    /// 7: the corpus is bounded, and holds no author's thought twice.
    Corpus,
    /// 8: trust fades in silence.
    Decay,
    /// 9: good thinking earns, noise costs.
    Atp,
}

impl Layer {
    /// All nine, in order.
    pub const ALL: [Self; 9] = [
        Self::ProofOfWork,
        Self::RateLimit,
        Self::Quality,
        Self::TrustQuota,
        Self::Reputation,
        Self::Hardware,
        Self::Corpus,
        Self::Decay,
        Self::Atp,
    ];

    /// Its number, 1 to 9.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::ProofOfWork => 1,
            Self::RateLimit => 2,
            Self::Quality => 3,
            Self::TrustQuota => 4,
            Self::Reputation => 5,
            Self::Hardware => 6,
            Self::Corpus => 7,
            Self::Decay => 8,
            Self::Atp => 9,
        }
    }

    /// Its name in JSON, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProofOfWork => "proof_of_work",
            Self::RateLimit => "rate_limit",
            Self::Quality => "quality",
            Self::TrustQuota => "trust_quota",
            Self::Reputation => "reputation",
            Self::Hardware => "hardware",
            Self::Corpus => "corpus",
            Self::Decay => "decay",
            Self::Atp => "atp",
        }
    }
}

/// What a thought can be rejected for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    /// Too many thoughts in one window (layer 2).
    RateLimit,
    /// Too little coherence (layer 3).
    Quality,
    /// The author repeats itself (layer 7).
    Spam,
}

impl Rejection {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RateLimit, Self::Quality, Self::Spam];

    /// Its name in JSON, where it stands as `layer`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Quality => "quality",
            Self::Spam => "spam",
        }
    }

    /// The one with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rejection| rejection.name() == name)
    }

    /// The layer that rejects for it.
    #[must_use]
    pub const fn layer(self) -> Layer {
        match self {
            Self::RateLimit => Layer::RateLimit,
            Self::Quality => Layer::Quality,
            Self::Spam => Layer::Corpus,
        }
    }
}

/// What one layer had to do with one thought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// Which layer.
    pub layer: Layer,
    /// What it looked at: name and value, in the ledger's raw units (the name says which).
    pub inputs: Vec<(&'static str, i128)>,
    /// What it measured that against, where it has a threshold.
    pub threshold: Option<i128>,
    /// What it did about the thought.
    pub effect: LayerEffect,
    /// The ATP that it changed.
    pub delta: MicroAtp,
    /// The trust that it changed, in parts per million.
    pub delta_trust_ppm: i64,
    /// For people.
    pub sentence: String,
}

/// What a layer did about a thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerEffect {
    /// It let the thought pass.
    Passed,
    /// It rejected the thought.
    Rejected,
    /// It was not asked: an earlier step had rejected the thought.
    NotAsked,
    /// It judges no thoughts; it set numbers that other layers use.
    Informed,
}

impl LayerEffect {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Rejected => "rejected",
            Self::NotAsked => "not_asked",
            Self::Informed => "informed",
        }
    }
}

/// What each layer explains with: the account before and after, and what the fold said.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The rules.
    pub policy: &'a Policy,
    /// The thought.
    pub facts: &'a Facts,
    /// The account before it.
    pub before: &'a Account,
    /// The account after it.
    pub after: &'a Account,
    /// What the fold said.
    pub outcome: Outcome,
}

/// Why a thought got its verdict: each layer with its inputs, threshold, outcome, and the ATP and trust it changed.
/// The changes of the nine add up to the fold's.
///
/// # Errors
/// Where the thought is inadmissible: then no layer looks at it.
pub fn explain(
    policy: &Policy,
    before: &Account,
    facts: &Facts,
) -> Result<(Outcome, [LayerReport; 9]), Inadmissible> {
    let mut after = before.clone();
    let outcome = fold(policy, &mut after, facts)?;
    let case = Case { policy, facts, before, after: &after, outcome };
    let reports = [
        proof_of_work::explain(case),
        rate_limit::explain(case),
        quality::explain(case),
        trust_quota::explain(case),
        reputation::explain(case),
        hardware::explain(case),
        corpus::explain(case),
        decay::explain(case),
        atp::explain(case),
    ];
    Ok((outcome, reports))
}

impl Case<'_> {
    /// What the thought was rejected for.
    pub(super) const fn rejection(&self) -> Option<Rejection> {
        match self.outcome.verdict {
            super::fold::Verdict::Accepted { .. } => None,
            super::fold::Verdict::Rejected { by, .. } => Some(by),
        }
    }

    /// What a layer that rejects for one thing did, given what comes before it in the order of verdicts.
    pub(super) fn effect_of(&self, own: Rejection, earlier: &[Rejection]) -> LayerEffect {
        match self.rejection() {
            Some(by) if by == own => LayerEffect::Rejected,
            Some(by) if earlier.contains(&by) => LayerEffect::NotAsked,
            Some(_) | None => LayerEffect::Passed,
        }
    }
}
