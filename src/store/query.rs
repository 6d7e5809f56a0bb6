//! Questions to the corpus, and their answers.

use crate::{
    ledger::types::{MicroAtp, Millis, Ppm, Seq},
    log::{Mode, NodeId, NodeName, SessionName},
};

/// Most thoughts that one query returns. At the longest content that is 160 MiB, so callers ask for fewer.
pub const THOUGHTS_MAX: u32 = 10_000;

/// Which accepted thoughts are wanted; the newest that fit, told oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThoughtQuery {
    /// Of that session only.
    pub session: Option<SessionName>,
    /// Of that author only.
    pub author: Option<NodeId>,
    /// Whose time, as its author wrote it, is not before that.
    pub since: Option<Millis>,
    /// At most so many, up to [`THOUGHTS_MAX`].
    pub limit: u32,
}

impl Default for ThoughtQuery {
    /// The last hundred.
    fn default() -> Self {
        Self {
            session: None,
            author: None,
            since: None,
            limit: 100,
        }
    }
}

/// An accepted thought as the corpus has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThoughtRow {
    /// Whose.
    pub author: NodeId,
    /// Its author's name, as the genesis entry says.
    pub name: NodeName,
    /// Its place in its author's log.
    pub seq: Seq,
    /// Its time, as its author wrote it.
    pub time: Millis,
    /// Its session.
    pub session: SessionName,
    /// Its mode.
    pub mode: Mode,
    /// Its text.
    pub content: String,
    /// Its coherence.
    pub coherence: Ppm,
    /// Its author's trust weight after it.
    pub weight: Ppm,
    /// What it earned.
    pub reward: MicroAtp,
    /// When this node got it: milliseconds since the Unix epoch.
    pub received: Millis,
}

/// How many thoughts earned and cost something in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Accepted ones that earned something.
    pub rewards: u64,
    /// Rejected ones.
    pub penalties: u64,
}
