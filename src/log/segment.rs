//! Segments: consecutive entries of one author and the signed head that covers the last; what travels between nodes.

use std::ops::Deref;

use super::{
    entry::{Body, ContentFault, Entry, Hash},
    fault::Proof,
    federation::FederationId,
    head::Head,
    identity::{BadSignature, Identity, KeyFault, NodeId},
    work::{WorkFault, check_work},
};
use crate::ledger::types::Seq;

/// The most entries of a segment. One signature covers that many; at the longest header they fill nine tenths of a frame.
pub const SEGMENT_ENTRIES_MAX: usize = 1024;

/// Consecutive entries, chained by their hashes, and the head of the last. Sound in form, and not yet checked against keys.
/// A clone shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    entries: Vec<Entry>,
    head: Head,
}

/// A value that was checked. Only the checks of the log can make one, so nobody can pass on what was not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

/// What a segment is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The federation that it must have been signed for.
    pub federation: FederationId,
    /// Leading zero bits of a new author's proof of work (the policy's `pow_bits`).
    pub pow_bits: u8,
    /// The longest content in bytes (the policy's `content_max_bytes`).
    pub content_bytes_max: u32,
}

/// Why a segment was refused. Each is something that its sender could have seen itself. Nothing was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// No entry.
    #[error("a segment without entries")]
    Empty,
    /// More than [`SEGMENT_ENTRIES_MAX`].
    #[error("{entries} entries in one segment, {SEGMENT_ENTRIES_MAX} are allowed")]
    TooMany {
        /// How many.
        entries: usize,
    },
    /// An entry or the head is another author's than the first entry.
    #[error("{found:?} in a segment of {author:?}")]
    Author {
        /// The first entry's.
        author: NodeId,
        /// The other.
        found: NodeId,
    },
    /// A seq that does not follow the one before it.
    #[error("entry {found} follows entry {before}")]
    Gap {
        /// The entry before.
        before: Seq,
        /// The one that does not follow it.
        found: Seq,
    },
    /// An entry that does not name the hash of the one before it, or a first one that names any.
    #[error("entry {seq} is not chained to the one before it")]
    Chain {
        /// Which.
        seq: Seq,
    },
    /// A genesis entry after the start of a log, or something else at its start.
    #[error("entry {seq} is of the wrong kind: a log starts with its one genesis entry")]
    Place {
        /// Where.
        seq: Seq,
    },
    /// The head is not that of the last entry.
    #[error("the head is not that of entry {last}, the last of its segment")]
    Head {
        /// The last entry.
        last: Seq,
    },
    /// The genesis entry has too little proof of work.
    #[error(transparent)]
    Work(#[from] WorkFault),
    /// The author's key is none that a node may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// A content longer than the policy allows.
    #[error("entry {seq} has a content of {bytes} bytes, {bytes_max} are allowed")]
    TooLong {
        /// Which entry.
        seq: Seq,
        /// What its header says.
        bytes: u32,
        /// What the policy says.
        bytes_max: u32,
    },
    /// The head is not signed by the author.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// A content that does not belong to its header.
    #[error("entry {seq}: {fault}")]
    Content {
        /// Which entry.
        seq: Seq,
        /// What is wrong with it.
        fault: ContentFault,
    },
}

/// A segment that was refused, and what convicts its author, where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong with it.
    pub fault: SegmentFault,
    /// What convicts its author.
    pub proof: Option<Box<Verified<Proof>>>,
}

impl SegmentFault {
    /// Whether the segment convicts its *author*: contents are looked at only under a valid signature, so a header that lies
    /// about its content was signed by its author (protocol.md, Faults that can be proved).
    #[must_use]
    pub const fn is_proof_against_author(&self) -> bool {
        match self {
            Self::Content { fault, .. } => fault.is_proof_against_author(),
            Self::Empty
            | Self::TooMany { .. }
            | Self::Author { .. }
            | Self::Gap { .. }
            | Self::Chain { .. }
            | Self::Place { .. }
            | Self::Head { .. }
            | Self::Work(_)
            | Self::Key(_)
            | Self::TooLong { .. }
            | Self::Signature(_) => false,
        }
    }
}

impl Segment {
    /// Puts entries and head together where they fit.
    ///
    /// # Errors
    /// They are none, too many, of several authors, not consecutive, not chained or in the wrong place, or the head is another's.
    pub fn new(entries: Vec<Entry>, head: Head) -> Result<Self, SegmentFault> {
        let last = check_form(&entries)?;
        if head.author != last.author() {
            return Err(SegmentFault::Author { author: last.author(), found: head.author });
        }
        if (head.seq, head.hash) != (last.seq(), last.hash()) {
            return Err(SegmentFault::Head { last: last.seq() });
        }
        Ok(Self { entries, head })
    }

    /// Signs entries of our own. They must be durable before (see [`Head::sign`]).
    ///
    /// # Errors
    /// They do not fit together, or are another author's.
    pub fn own(
        entries: Vec<Entry>,
        identity: &Identity,
        federation: &FederationId,
    ) -> Result<Verified<Self>, SegmentFault> {
        let last = check_form(&entries)?;
        if last.author() != identity.node_id() {
            return Err(SegmentFault::Author { author: identity.node_id(), found: last.author() });
        }
        let head = Head::sign(identity, federation, last.seq(), last.hash());
        Ok(Verified(Self { entries, head }))
    }

    /// Checks the segment against keys and contents, cheapest first. It needs nothing but the segment, so any thread can do it;
    /// where it belongs in its author's log is checked at admission.
    ///
    /// # Errors
    /// See [`SegmentFault`].
    pub fn verify(self, rules: &Rules) -> Result<Verified<Self>, SegmentFault> {
        self.check(rules)?;
        Ok(Verified(self))
    }

    /// As [`Self::verify`]; where the segment convicts its author, the proof comes beside the fault.
    ///
    /// # Errors
    /// See [`SegmentFault`].
    pub fn verify_or_convict(self, rules: &Rules) -> Result<Verified<Self>, Unfit> {
        match self.check(rules) {
            Ok(()) => Ok(Verified(self)),
            Err(fault @ SegmentFault::Content { seq, .. }) if fault.is_proof_against_author() => {
                Err(Unfit { fault, proof: Proof::false_header(self, seq, rules).map(Box::new) })
            }
            Err(fault) => Err(Unfit { fault, proof: None }),
        }
    }

    fn check(&self, rules: &Rules) -> Result<(), SegmentFault> {
        for entry in &self.entries {
            check_cheaply(entry, rules)?;
        }
        NodeId::from_key(*self.author().as_bytes())?;
        self.head.verify(&rules.federation)?;
        for entry in &self.entries {
            let seq = entry.seq();
            entry.check_content().map_err(|fault| SegmentFault::Content { seq, fault })?;
        }
        Ok(())
    }

    /// The entries, at least one.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The head that covers the last of them.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Both, to be taken apart.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Entry>, Head) {
        (self.entries, self.head)
    }

    /// Whose they are.
    #[must_use]
    pub const fn author(&self) -> NodeId {
        self.head.author
    }

    /// The first entry's place.
    #[must_use]
    pub fn first(&self) -> Seq {
        // The entries are consecutive, and the head is the last one's.
        let others = self.entries.len().saturating_sub(1) as u64;
        Seq(self.head.seq.0.saturating_sub(others))
    }

    /// The last entry's place.
    #[must_use]
    pub const fn last(&self) -> Seq {
        self.head.seq
    }

    /// The entry at that place, where it is one of these.
    #[must_use]
    pub fn entry_at(&self, seq: Seq) -> Option<&Entry> {
        let place = seq.0.checked_sub(self.first().0)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// The same entries and head without contents.
    #[must_use]
    pub fn bare(mut self) -> Self {
        for entry in &mut self.entries {
            entry.strip();
        }
        self
    }

    /// Bytes of headers, contents and head.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let entries: usize = self.entries.iter().map(Entry::byte_len).sum();
        entries + Head::BYTES
    }
}

/// Checks what can be seen without a key, and gives the last entry.
fn check_form(entries: &[Entry]) -> Result<&Entry, SegmentFault> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(SegmentFault::Empty);
    };
    if entries.len() > SEGMENT_ENTRIES_MAX {
        return Err(SegmentFault::TooMany { entries: entries.len() });
    }
    if first.seq() == Seq::GENESIS && first.header().prev != Hash::ZERO {
        return Err(SegmentFault::Chain { seq: first.seq() });
    }
    for entry in entries {
        check_place(entry)?;
    }
    for (before, entry) in entries.iter().zip(entries.iter().skip(1)) {
        check_link(before, entry)?;
    }
    Ok(last)
}

/// protocol.md, The log: a log starts with its genesis entry, and has no other.
fn check_place(entry: &Entry) -> Result<(), SegmentFault> {
    let fits = match &entry.header().body {
        Body::Genesis(_) => entry.seq() == Seq::GENESIS,
        Body::Thought(_) => entry.seq() != Seq::GENESIS,
    };
    if !fits {
        return Err(SegmentFault::Place { seq: entry.seq() });
    }
    Ok(())
}

fn check_link(before: &Entry, entry: &Entry) -> Result<(), SegmentFault> {
    if entry.author() != before.author() {
        return Err(SegmentFault::Author { author: before.author(), found: entry.author() });
    }
    // Not Seq::next: it stays at the last seq, which would let an entry follow itself there.
    if before.seq().0.checked_add(1) != Some(entry.seq().0) {
        return Err(SegmentFault::Gap { before: before.seq(), found: entry.seq() });
    }
    if entry.header().prev != before.hash() {
        return Err(SegmentFault::Chain { seq: entry.seq() });
    }
    Ok(())
}

/// What costs at most one hash: a flood of invented authors ends here, before any signature is looked at.
fn check_cheaply(entry: &Entry, rules: &Rules) -> Result<(), SegmentFault> {
    match &entry.header().body {
        Body::Genesis(genesis) => {
            check_work(&rules.federation, &entry.author(), genesis.nonce, rules.pow_bits)?;
        }
        Body::Thought(thought) => {
            let (bytes, bytes_max) = (thought.content_bytes, rules.content_bytes_max);
            if bytes > bytes_max {
                return Err(SegmentFault::TooLong { seq: entry.seq(), bytes, bytes_max });
            }
        }
    }
    Ok(())
}

impl<T> Verified<T> {
    /// What was checked by another file of this room.
    pub(super) const fn checked(value: T) -> Self {
        Self(value)
    }

    /// The value, for reading.
    #[must_use]
    pub const fn get(&self) -> &T {
        &self.0
    }

    /// The value itself; what comes of it is no longer known to be checked.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
