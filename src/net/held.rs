//! Held: how far the node has each author's log, as its owner says. A live segment that lies wholly within that is told as
//! known before anything of it is verified: it has come another way already.

use std::{
    collections::BTreeMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{ledger::types::Seq, log::NodeId};

/// How far each log is held, and how often that spared a look.
#[derive(Debug, Default)]
pub(super) struct Held {
    through: RwLock<BTreeMap<NodeId, Seq>>,
    verified: AtomicU64,
    known: AtomicU64,
}

/// How many segments came, since the endpoint was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentCounts {
    /// Whose signature, hashes and features were checked.
    pub verified: u64,
    /// That were known before any of that.
    pub known: u64,
}

impl Held {
    /// The node holds that author's log up to that entry, and no further.
    pub(super) fn set(&self, author: NodeId, through: Seq) {
        self.through.write().unwrap_or_else(PoisonError::into_inner).insert(author, through);
    }

    /// The node holds nothing of that author's log.
    pub(super) fn forget(&self, author: NodeId) {
        self.through.write().unwrap_or_else(PoisonError::into_inner).remove(&author);
    }

    /// Whether the node holds that entry. Where it does, that is counted.
    pub(super) fn knows(&self, author: NodeId, last: Seq) -> bool {
        let through = self.through.read().unwrap_or_else(PoisonError::into_inner).get(&author).copied();
        let knows = through.is_some_and(|through| last <= through);
        if knows {
            self.known.fetch_add(1, Ordering::Relaxed);
        }
        knows
    }

    pub(super) fn count_verified(&self) {
        self.verified.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> SegmentCounts {
        SegmentCounts {
            verified: self.verified.load(Ordering::Relaxed),
            known: self.known.load(Ordering::Relaxed),
        }
    }
}
