//! Books: what a node remembers of every author, and the records by which they change.
//! The store keeps them; after a restart they are all that a node knows.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;

use super::{
    Architecture, Body, Entry, FaultKind, Hardware, Hash, Mode, NodeId, NodeName, Proof, Segment,
    SessionName, Signature,
};
use crate::ledger::{
    account::Account,
    fold::{Facts, Verdict, fold},
    policy::Policy,
    types::{Level, MicroAtp, Millis, Ppm, Seq},
};

/// What a node remembers of one author; its entries are in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorBook {
    /// As the author's genesis entry says.
    pub name: NodeName,
    /// As the author's genesis entry claims.
    pub hardware: Hardware,
    /// As the author's genesis entry says.
    pub arch: Architecture,
    /// The last entry's.
    pub hash: Hash,
    /// The last entry's author's signature over its head. `None` for our own log: whoever holds the key signs again.
    pub signature: Option<Signature>,
    /// After the last entry; its `seq` is the last entry's.
    pub account: Account,
    /// When this node first heard of it: milliseconds since the Unix epoch. Who had a name first keeps it.
    pub known_since: Millis,
}

/// An address at which a node was reached before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// Its name then.
    pub name: NodeName,
    /// Where it was reached, the latest first; at most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// When it was last connected: milliseconds since the Unix epoch.
    pub seen: Millis,
}

/// Most addresses that are remembered of one peer.
pub const ADDRESSES_MAX: usize = 8;

/// The answer to a submission that was recorded; what a repetition with the same key gets again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The entry's seq in our own log.
    pub seq: Seq,
    /// What the rules said.
    pub verdict: Verdict,
    /// The content's coherence.
    pub coherence: Ppm,
    /// What it earned or cost.
    pub delta: MicroAtp,
    /// Our balance after it.
    pub balance: MicroAtp,
    /// Our trust after it.
    pub trust: Ppm,
}

/// All that a node remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Every author known.
    pub authors: BTreeMap<NodeId, AuthorBook>,
    /// Every peer that was connected once.
    pub peers: BTreeMap<NodeId, KnownPeer>,
    /// The answers to submissions that came with a key, oldest first; at most [`SUBMISSION_KEYS_MAX`].
    pub submissions: Vec<(String, Recorded)>,
    /// The newest time that the node stored for itself: it never goes back behind it.
    pub newest_time: Millis,
    /// What of each author's log is to be fetched again: damaged entries, and contents that the node never had or whose
    /// row was damaged. In order, without overlap; at most [`MISSING_MAX`] in all. What was pruned is not missing.
    pub missing: BTreeMap<NodeId, Vec<Span>>,
    /// Whether the store was put back from a backup, or the node met a sign that it lacks entries of its own log, and it has not
    /// got its own log back from a peer since.
    pub restored: bool,
    /// Authors that were convicted, also of whom no entry is left.
    pub faults: BTreeMap<NodeId, AuthorFault>,
}

/// An author that was convicted: its log ends, and nothing more of it is taken until an operator clears it. The proof is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorFault {
    /// The first entry at fault: the log ends before it.
    pub cut: Seq,
    /// What the author did.
    pub kind: FaultKind,
    /// The hashes of the two entries at the cut; of a false header, its hash and that of its content.
    pub hashes: (Hash, Hash),
    /// When this node learnt of it: milliseconds since the Unix epoch.
    pub found: Millis,
    /// Whether an operator takes the author's log again. A proof that peers pass on for the same cut counts no longer then.
    pub cleared: bool,
}

impl AuthorFault {
    /// What a proof says.
    #[must_use]
    pub fn of(proof: &Proof, found: Millis) -> Self {
        Self { cut: proof.cut(), kind: proof.kind(), hashes: proof.hashes(), found, cleared: false }
    }
}

/// Consecutive entries of one author's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first.
    pub first: Seq,
    /// The last; not before the first.
    pub last: Seq,
}

/// How many missing entries and contents are remembered; of more the oldest are forgotten, and count as pruned.
pub const MISSING_MAX: usize = 10_000;

/// How many submission keys are remembered; older ones are forgotten, and their keys may be used again.
pub const SUBMISSION_KEYS_MAX: usize = 10_000;

/// A thought as it was judged: what the corpus is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The entry, with its content.
    pub entry: Entry,
    /// What the rules said; `None` for a genesis entry.
    pub thought: Option<JudgedThought>,
    /// When this node got it: milliseconds since the Unix epoch.
    pub received: Millis,
}

/// What the rules said of a thought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedThought {
    /// Its session.
    pub session: SessionName,
    /// Its mode.
    pub mode: Mode,
    /// Accepted or rejected.
    pub verdict: Verdict,
    /// Its content's coherence.
    pub coherence: Ppm,
    /// What it earned or cost.
    pub delta: MicroAtp,
    /// Its author's trust weight after it.
    pub weight: Ppm,
}

/// One change of the books; a commit takes several, all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Consecutive entries of one author, and the author's book after them.
    Entries {
        /// Whose.
        author: NodeId,
        /// At least one, in the order of their seqs.
        entries: Vec<Judged>,
        /// After the last of them. Its `signature` covers the last of them, and is stored beside that entry.
        book: Arc<AuthorBook>,
    },
    /// A submission with a key was recorded.
    Submission {
        /// The submitter's key, 1 to 128 bytes.
        key: String,
        /// What it was answered.
        recorded: Recorded,
    },
    /// A peer was connected.
    Peer {
        /// Which.
        id: NodeId,
        /// What to remember of it.
        peer: KnownPeer,
    },
    /// The node's time moved on.
    NewestTime(Millis),
    /// Entries that the node has already came again, because some of them were missing (see [`Books::missing`]): what is
    /// missing of them is put back where it fits the chain, the rest is left alone.
    Mended {
        /// Whose.
        author: NodeId,
        /// In the order of their seqs; verified.
        entries: Vec<Entry>,
        /// Their author's over the last of them.
        signature: Signature,
    },
    /// The node may lack entries of its own log, and must get it back before it writes, also after a restart (see [`Books::restored`]).
    Doubted,
    /// The node has its own log back.
    Recovered,
    /// An author is convicted: its entries from the cut on go, and its account is folded anew. The proof is kept, and what covers the last
    /// entries that stay (`log::stored::covering`), where there was something to cut.
    Fault {
        /// Whose.
        author: NodeId,
        /// When it was found.
        found: Millis,
        /// What convicts it.
        proof: Box<Proof>,
    },
    /// Verified entries of a convicted author that reach its cut: what covers the last entries that stay.
    Cover {
        /// Whose.
        author: NodeId,
        /// Bare.
        cover: Box<Segment>,
    },
    /// An operator takes a convicted author's log again. The proof stays: it may be all that covers the log's last entries.
    Cleared {
        /// Whose.
        author: NodeId,
    },
}

/// One entry as the store holds it, for sending it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its header, verbatim.
    pub header: Bytes,
    /// Its content, where the store still has it.
    pub content: Option<Bytes>,
    /// The author's signature over the head at this entry, where this node got one.
    pub signature: Option<Signature>,
}

impl AuthorBook {
    /// What is left of a log that consists of these entries now, from its first on; `None` where there is none. `signature` is the last
    /// one's author's, where it has one.
    #[must_use]
    pub fn refolded(&self, policy: &Policy, entries: &[Entry], signature: Option<Signature>) -> Option<Self> {
        let (genesis, thoughts) = entries.split_first()?;
        let mut account = Account::open(policy, self.account.level, genesis.header().time);
        for entry in thoughts {
            let Body::Thought(thought) = &entry.header().body else { return None };
            let (time, content_bytes) = (entry.header().time, thought.content_bytes);
            fold(policy, &mut account, &Facts { time, content_bytes, features: thought.features }).ok()?;
        }
        let hash = entries.last()?.hash();
        Some(Self { hash, signature, account, ..self.clone() })
    }

    /// The author's capability level.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.account.level
    }

    /// The seq of the author's last entry.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.account.seq
    }
}
