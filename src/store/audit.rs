//! What an audit of a store says.

use std::fmt;

use crate::{ledger::types::Seq, log::NodeId};

/// Most mismatches that a report names; of more only the number is told.
pub const MISMATCHES_MAX: usize = 1_000;

/// What an audit looked at, and what of it is not what follows from the signed logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Authors whose logs were folded.
    pub authors: u64,
    /// Entries whose hash, place and verdict were checked.
    pub entries: u64,
    /// Signatures that were verified, each of which covers all entries before it.
    pub signatures: u64,
    /// Contents that were measured.
    pub contents: u64,
    /// Thoughts whose contents are not there: pruned, or missing.
    pub contents_absent: u64,
    /// What the node knows to be missing; it is fetched again, and no mismatch.
    pub missing: u64,
    /// The first [`MISMATCHES_MAX`] mismatches.
    pub mismatches: Vec<Mismatch>,
    /// How many more there were.
    pub mismatches_more: u64,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// In whose log; none where it is elsewhere in the store.
    pub author: Option<NodeId>,
    /// At which entry; none where it is the log or account as a whole.
    pub seq: Option<Seq>,
    /// What.
    pub what: String,
}

/// How far an audit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditProgress {
    /// Entries that were checked.
    pub entries_done: u64,
    /// Entries that there are.
    pub entries_total: u64,
}

impl AuditReport {
    /// Whether nothing is wrong. What is known to be missing is not.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.mismatches.is_empty()
    }

    pub(super) fn add(&mut self, author: Option<NodeId>, seq: Option<Seq>, what: impl Into<String>) {
        if self.mismatches.len() < MISMATCHES_MAX {
            self.mismatches.push(Mismatch { author, seq, what: what.into() });
        } else {
            self.mismatches_more = self.mismatches_more.saturating_add(1);
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.author, &self.seq) {
            (Some(author), Some(seq)) => write!(f, "entry {seq} of {author}: {}", self.what),
            (Some(author), None) => write!(f, "author {author}: {}", self.what),
            (None, Some(_) | None) => self.what.fmt(f),
        }
    }
}
