//! The gate: whether we may write into our own log. Nothing is signed while it is in doubt whether we hold all that we ever
//! signed, or once somebody else was seen to sign with our key. Source: protocol.md, The log.

use std::sync::Arc;

use super::{Own, WAITING_MAX};
use crate::{
    ledger::types::{Millis, Seq},
    log::{
        Hash, Head, NodeId,
        books::{AuthorBook, Record},
        identity::BadSignature,
    },
    protocol::{
        event::Event,
        hello::Setup,
        input::{DiskLow, Effect, Now, SubmitFault},
        recovery::{Doubt, Recovery, Standing},
        view::OwnLogView,
    },
};

/// Whether we may write.
#[derive(Debug)]
pub(super) enum Writing {
    /// We may.
    Open,
    /// Our log may lack what we signed: first it comes back from our peers.
    Recovering(Recovery),
    /// Somebody signs with our key, or our log contradicts what we signed: nothing more is signed in this process.
    Halted(Halt),
}

/// Why nothing more is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// A peer holds an entry of our log that came into being while we were writing ourselves.
    Behind {
        /// The last one that it told of.
        theirs: Seq,
    },
    /// A peer holds another entry of ours than we do.
    Conflict {
        /// The first seq at which that is known.
        seq: Seq,
    },
    /// Another process with our key is alive.
    Clone,
}

/// What a head of our own log that a peer tells means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnHeard {
    /// We have it, or knew already.
    Nothing,
    /// It is not signed by our key.
    Unsigned(BadSignature),
    /// We lack it, and get our log back before we write.
    Recovering,
    /// We sign nothing more.
    Halted(Halt),
}

/// Whether the operator's word opens a log that is in doubt and ends there. Where the whole log is gone, its first entry was signed all
/// the same: nobody's word makes that place free again.
#[must_use]
pub fn is_overruled(standing: Standing, end: Option<(Seq, Hash)>) -> bool {
    standing.write_without_peers && (end.is_some() || standing.through.is_none())
}

impl Own {
    /// How it stands with our own log, for people.
    #[must_use]
    pub fn view(&self) -> OwnLogView {
        match &self.writing {
            Writing::Halted(halt) => OwnLogView::Halted(self.fault_of(*halt).to_string()),
            Writing::Recovering(recovery) => OwnLogView::Waiting(recovery.describe(self.end())),
            Writing::Open => match self.disk_low {
                Some(low) => OwnLogView::ReadOnly(SubmitFault::DiskLow(low).to_string()),
                None => OwnLogView::Open,
            },
        }
    }

    /// Entries that were signed and that nobody is known to hold any more.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Why our log was in doubt when the node started, where it was.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        match &self.writing {
            Writing::Recovering(recovery) => Some(recovery.describe(self.end())),
            Writing::Open | Writing::Halted(_) => None,
        }
    }

    /// There is too little room on the disk, or enough again.
    pub fn disk(&mut self, low: Option<DiskLow>) {
        self.disk_low = low;
    }

    /// A peer tells a head of our own log. Where we signed it and do not hold it, this data directory is an old copy or a
    /// clone. A process that has written nothing yet gets its log back; one that has must not sign anything more: whatever it
    /// signed next could be a second entry with a seq that is taken.
    pub fn heard_of(&mut self, setup: &Setup, peer: NodeId, told: &Head) -> OwnHeard {
        if !self.lacks(told) {
            if let Writing::Recovering(recovery) = &mut self.writing {
                recovery.told(peer, told.seq);
            }
            return OwnHeard::Nothing;
        }
        if let Err(fault) = told.verify(&setup.federation) {
            return OwnHeard::Unsigned(fault);
        }
        if self.is_halted() {
            return OwnHeard::Nothing;
        }
        if self.end() == Some(told.seq) {
            return OwnHeard::Halted(self.halt(Halt::Conflict { seq: told.seq }));
        }
        match &mut self.writing {
            Writing::Recovering(recovery) => {
                recovery.told(peer, told.seq);
                OwnHeard::Nothing
            }
            // An entry of ours is on its way: it may be the one that is told, or another one in its place.
            Writing::Open if self.has_written || !self.waiting.is_empty() => {
                OwnHeard::Halted(self.halt(Halt::Behind { theirs: told.seq }))
            }
            Writing::Open => {
                // How much is missing that one may not know; the others are heard out.
                let known = self.known_peers.iter().copied().chain([peer]).collect();
                let mut recovery = Recovery::new(Doubt::Restored, None, known);
                recovery.told(peer, told.seq);
                self.writing = Writing::Recovering(recovery);
                self.head = None;
                OwnHeard::Recovering
            }
            Writing::Halted(_) => OwnHeard::Nothing,
        }
    }

    /// Nothing more is signed by this process.
    pub fn halt(&mut self, halt: Halt) -> Halt {
        self.writing = Writing::Halted(halt);
        halt
    }

    /// Whether that is so already.
    #[must_use]
    pub const fn is_halted(&self) -> bool {
        matches!(self.writing, Writing::Halted(_))
    }

    /// Whether a head of our own log is one that this log does not end with, at or past its end.
    #[must_use]
    pub fn lacks(&self, told: &Head) -> bool {
        let ours = match (&self.head, &self.book) {
            (Some(head), _) => Some((head.seq, head.hash)),
            (None, Some(book)) if self.waiting.is_empty() => Some((book.seq(), book.hash)),
            // What waits for the disk is signed by nobody.
            (None, _) => None,
        };
        let is_other = |(seq, hash): (Seq, Hash)| told.seq > seq || (told.seq == seq && told.hash != hash);
        told.author == self.id && ours.is_none_or(is_other)
    }

    /// Whether entries of our own log may be asked for and taken from others.
    #[must_use]
    pub const fn takes_back(&self) -> bool {
        matches!(self.writing, Writing::Recovering(_))
    }

    /// Entries of our own log came back and were admitted.
    pub fn came_back(&mut self, book: Arc<AuthorBook>) {
        self.book = Some(book);
    }

    /// A peer is linked.
    pub fn linked(&mut self, mono: Millis, node: NodeId) {
        if let Writing::Recovering(recovery) = &mut self.writing {
            recovery.linked(mono, node);
        }
    }

    /// A peer is not linked any more.
    pub fn unlinked(&mut self, node: NodeId) {
        if let Writing::Recovering(recovery) = &mut self.writing {
            recovery.gone(node);
        }
    }

    /// A peer told all its heads.
    pub fn told_all(&mut self, node: NodeId) {
        if let Writing::Recovering(recovery) = &mut self.writing {
            recovery.told_all(node);
        }
    }

    /// Whether a peer that is linked now may be remembered. Not a stranger while our log is in doubt: at the next start it would
    /// count as one who knows our log.
    #[must_use]
    pub fn may_remember(&self, node: NodeId) -> bool {
        match &self.writing {
            Writing::Recovering(recovery) => recovery.is_known(node),
            Writing::Open | Writing::Halted(_) => true,
        }
    }

    /// Opens our log again where it is back. Returns whether that just happened; then it is to be told.
    pub fn try_to_open(&mut self, setup: &Setup, now: Now, out: &mut Vec<Effect>) -> bool {
        let have = self.end();
        let Writing::Recovering(recovery) = &mut self.writing else { return false };
        if !recovery.is_complete(now.mono, have) {
            return false;
        }
        self.writing = Writing::Open;
        self.sign_again(setup);
        out.push(Effect::Store(vec![Record::Recovered]));
        out.push(Effect::Event(Event::OwnLogRecovered { through: have }));
        self.open(setup, now, out);
        true
    }

    /// When [`Self::try_to_open`] may succeed, though nothing came in.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        match &self.writing {
            Writing::Recovering(recovery) => recovery.wake_at(),
            Writing::Open | Writing::Halted(_) => None,
        }
    }

    /// The last entry that stands in our log or waits for the disk.
    fn end(&self) -> Option<Seq> {
        self.book.as_ref().map(|book| book.seq())
    }

    pub(super) fn sign_again(&mut self, setup: &Setup) {
        let end = self.book.as_ref().map(|book| (book.seq(), book.hash));
        self.head = end.map(|(seq, hash)| Head::sign(&setup.identity, &setup.federation, seq, hash));
    }

    fn fault_of(&self, halt: Halt) -> SubmitFault {
        match halt {
            Halt::Behind { theirs } => {
                SubmitFault::OwnLogBehind { ours: self.head.map_or(Seq::GENESIS, |head| head.seq), theirs }
            }
            Halt::Conflict { seq } => SubmitFault::OwnLogConflict { seq },
            Halt::Clone => SubmitFault::Clone,
        }
    }

    /// Why nothing may be signed now.
    pub(super) fn forbidden(&self) -> Option<SubmitFault> {
        match &self.writing {
            Writing::Halted(halt) => Some(self.fault_of(*halt)),
            Writing::Recovering(recovery) => {
                Some(SubmitFault::OwnLogAwaited { why: recovery.describe(self.end()).into() })
            }
            Writing::Open => None,
        }
    }

    /// Why no submission is taken now.
    pub(super) fn closed(&self) -> Option<SubmitFault> {
        let is_busy = self.waiting.len() >= WAITING_MAX;
        let busy = || is_busy.then_some(SubmitFault::Busy { waiting: self.waiting.len() });
        self.forbidden().or_else(busy).or_else(|| self.disk_low.map(SubmitFault::DiskLow))
    }
}
