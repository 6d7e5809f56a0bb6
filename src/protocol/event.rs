//! Events: what is worth telling. Metrics, alerts, log lines and tests are folds over them; no counter is touched in the core.

use std::net::SocketAddr;

use super::{
    input::{Address, DiskLow, Ended, Source},
    refusal::Refusal,
};
use crate::{
    ledger::{
        fold::{Inadmissible, Verdict},
        types::{MicroAtp, Millis, Seq},
    },
    log::{
        NodeId, NodeName, ProofFault, SegmentFault,
        books::{AuthorFault, Span},
    },
};

/// Everything worth telling. Metrics, alerts, log lines and tests are folds over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An entry stands in the log: our own once it is durable, another's once it is admitted.
    Entry(EntryEvent),
    /// A peer is admitted and verified.
    PeerVerified {
        /// Which.
        id: NodeId,
        /// Its name.
        name: NodeName,
        /// Where.
        address: SocketAddr,
        /// Whether we dialled it.
        dialled: bool,
    },
    /// What program a peer runs, as it says; printable ASCII.
    PeerSoftware {
        /// Which peer.
        id: NodeId,
        /// Name and version.
        software: String,
    },
    /// The last link to a peer ended.
    PeerLost {
        /// Which.
        id: NodeId,
        /// Why.
        why: Ended,
    },
    /// A second link between the same two nodes was closed; the other one stays.
    LinkReplaced {
        /// To whom.
        id: NodeId,
    },
    /// This node refused a connection.
    Refused {
        /// Whose; nobody's where it never said.
        id: Option<NodeId>,
        /// Why.
        refusal: Refusal,
    },
    /// The other side refused this node.
    RefusedBy {
        /// Which.
        id: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// An attempt to dial led nowhere.
    DialFailed {
        /// Whom, where known.
        id: Option<NodeId>,
        /// Where it was tried.
        addresses: Vec<Address>,
        /// Why.
        why: String,
    },
    /// A node was heard of for the first time.
    Seen {
        /// Who, where that is said.
        id: Option<NodeId>,
        /// By what.
        source: Source,
        /// Whether its federation is ours.
        ours: bool,
    },
    /// A segment was not taken.
    SegmentRefused {
        /// Who sent it.
        from: NodeId,
        /// Why.
        why: SegmentRefusal,
    },
    /// A node is a member of this closed federation no more.
    MemberRevoked {
        /// Who.
        node: NodeId,
        /// Whether it is this one.
        own: bool,
    },
    /// A node asks to be linked that no operator has approved.
    PeerPending {
        /// Who.
        id: NodeId,
        /// What it is said to be called; foreign text.
        name: Option<String>,
    },
    /// A peer record was passed along that its node did not sign.
    RecordsRefused {
        /// By whom.
        from: NodeId,
    },
    /// An author's entries lie too far ahead of this node's clock, and are held.
    ClockSkew {
        /// Whose.
        author: NodeId,
        /// How far ahead of this node's time.
        ahead: Millis,
    },
    /// This node's clock is ahead of its peers'; it writes with theirs.
    OwnClockSkew {
        /// How far ahead.
        ahead: Millis,
    },
    /// Two nodes computed different accounts from the same log. It must never happen.
    Divergence {
        /// Whose account.
        author: NodeId,
        /// Which peer's differs.
        peer: NodeId,
        /// At which entry.
        seq: Seq,
        /// Our balance and the digest of the account.
        ours: (MicroAtp, [u8; 32]),
        /// The peer's.
        theirs: (MicroAtp, [u8; 32]),
    },
    /// This node's own log is in doubt: it gets it back from its peers before it writes.
    OwnLogAwaited {
        /// Why, and what to do, for people.
        why: String,
    },
    /// This node has its own log back, and writes.
    OwnLogRecovered {
        /// The last entry of it; `None` where it has none yet.
        through: Option<Seq>,
    },
    /// A peer holds entries of this node's own log that its data directory does not.
    OwnLogBehind {
        /// Who holds them.
        peer: NodeId,
        /// The last one that it told of.
        theirs: Seq,
    },
    /// This node signs nothing more in this process.
    WritingHalted {
        /// Why, and what to do, for people.
        why: String,
    },
    /// A key is live in two places: this node's own, or a peer's.
    Clone {
        /// Whose.
        id: NodeId,
        /// Whether it is our own.
        own: bool,
    },
    /// The node only reads and serves: there is too little room on the disk.
    DiskLow(DiskLow),
    /// There is enough room again.
    DiskRoomy,
    /// A stored entry turned out to be damaged; it is not given out, and is fetched again.
    EntryDamaged {
        /// Whose.
        author: NodeId,
        /// Which.
        seq: Seq,
    },
    /// The store can't be read through: more of it is damaged than single entries.
    StoreUnreadable {
        /// What is wrong and what to do, for people.
        what: String,
    },
    /// Entries that are damaged, or whose contents are missing, are asked for.
    Mending {
        /// Whose.
        author: NodeId,
        /// Which.
        span: Span,
    },
    /// An author is convicted: its log ends, and nothing more is taken of it.
    AuthorFault {
        /// Whose log.
        author: NodeId,
        /// Where it ends, and why.
        fault: AuthorFault,
    },
    /// An operator takes a convicted author's log again.
    AuthorCleared {
        /// Whose.
        author: NodeId,
    },
    /// A peer's log of an author differs from ours, and it is being found out where.
    ForkSuspected {
        /// Whose log.
        author: NodeId,
        /// Whose copy differs.
        peer: NodeId,
        /// An entry that differs; not always the first.
        seq: Seq,
    },
    /// Two node ids claim one name; the second is shown with its short id.
    NameTaken {
        /// The second.
        id: NodeId,
        /// The name.
        name: NodeName,
    },
    /// A peer is too slow for live segments; it will catch up by heads.
    PeerBehind {
        /// Which.
        id: NodeId,
    },
    /// Entries were asked for.
    Wanted {
        /// Of whom.
        from: NodeId,
        /// Whose.
        author: NodeId,
    },
    /// A connection came to nothing before it was known whose it is: no TLS, no certificate, or another protocol.
    HandshakeFailed {
        /// From where.
        address: SocketAddr,
        /// Why, for programs.
        fault: HandshakeFault,
        /// Why, for people.
        why: String,
    },
    /// Something outside the protocol hampers this node: multicast, an interface, a socket.
    Trouble {
        /// What, and what to do, for people.
        what: String,
    },
    /// Entries are being sent that were asked for.
    Serving {
        /// To whom.
        to: NodeId,
        /// Whose.
        author: NodeId,
    },
}

/// Why a connection of somebody else came to nothing before it was known whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFault {
    /// It shows no certificate.
    NoCertificate,
    /// Its certificate can't be read.
    Unreadable,
    /// Its key is none of Ed25519.
    NotEd25519,
    /// Its key is one that no honest node has.
    WeakKey,
    /// Its certificate is not of this federation's CA.
    NotAMember,
    /// The time of its certificate is over.
    Expired,
    /// The time of its certificate has not come.
    NotYetValid,
    /// The CA gave it for something else.
    OtherPurpose,
    /// Its certificate names another node.
    OtherName,
    /// It shows several certificates in an open federation.
    Chain,
    /// It does not hold the key of its certificate.
    NotItsKey,
    /// It speaks no protocol of ours.
    OtherProtocol,
    /// It does not speak TLS 1.3.
    OtherTls,
    /// It broke another rule of QUIC or TLS.
    BrokeRules,
    /// It was not done in time.
    Timeout,
    /// One of the sides gave it up.
    GivenUp,
}

impl HandshakeFault {
    /// Its code, in the log and in the names of counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Unreadable => "unreadable",
            Self::NotEd25519 => "not_ed25519",
            Self::WeakKey => "weak_key",
            Self::NotAMember => "not_a_member",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::OtherPurpose => "other_purpose",
            Self::OtherName => "other_name",
            Self::Chain => "chain",
            Self::NotItsKey => "not_its_key",
            Self::OtherProtocol => "other_protocol",
            Self::OtherTls => "other_tls",
            Self::BrokeRules => "broke_rules",
            Self::Timeout => "timeout",
            Self::GivenUp => "given_up",
        }
    }
}

/// An entry that now stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryEvent {
    /// Whose.
    pub author: NodeId,
    /// Its author's name.
    pub name: NodeName,
    /// Its place.
    pub seq: Seq,
    /// Its time, as its author wrote it.
    pub time: Millis,
    /// Whether it is our own.
    pub own: bool,
    /// What the rules said; `None` for a genesis entry.
    pub verdict: Option<Verdict>,
    /// What it earned or cost.
    pub delta: MicroAtp,
    /// The author's balance after it.
    pub balance: MicroAtp,
}

/// Why a segment was not taken. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentRefusal {
    /// Its bytes, hashes, features or signature do not hold.
    #[error(transparent)]
    Wrong(#[from] SegmentFault),
    /// What should convict an author does not.
    #[error(transparent)]
    Proof(#[from] ProofFault),
    /// Its first new entry does not follow our last one.
    #[error("entry {seq} does not follow the entry before it")]
    DoesNotFollow {
        /// Which.
        seq: Seq,
    },
    /// The rules do not admit one of its entries.
    #[error("entry {seq} is inadmissible: {why}")]
    Inadmissible {
        /// Which.
        seq: Seq,
        /// Why.
        why: Inadmissible,
    },
    /// Too many new authors came in too little time; the peer is asked for this one again later.
    #[error("too many new authors at once: this one is asked for again later")]
    TooManyNewAuthors,
    /// This node holds as many authors as it takes.
    #[error("this node holds {max} authors and takes no more")]
    TooManyAuthors {
        /// How many.
        max: usize,
    },
}
