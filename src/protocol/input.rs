//! The vocabulary of the core: what comes in and what goes out (what is worth telling stands in `event.rs`).
//! One sentence each; `mod.rs` tells how they hang together.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::{
    event::Event,
    frame::{BalanceFrame, ControlFrame, StreamKind},
    refusal::Refusal,
};
use crate::{
    ledger::{
        fold::Inadmissible,
        types::{Millis, Seq},
    },
    log::{
        Mode, NodeId, Proof, ProofFault, Revocation, Segment, SegmentFault, SessionName, Verified,
        books::{AuthorBook, Record, Recorded, Span},
        stored::Comparison,
    },
};

/// Two clocks that can't be mixed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: milliseconds since some start of this process. All intervals are measured on it.
    pub mono: Millis,
    /// The node's time: milliseconds since the Unix epoch, never running backwards.
    pub wall: Millis,
}

/// One QUIC connection, as the shell numbers them; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One wish to dial, as the core numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// One submission that waits for its answer, as the shell numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Where a node may be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// An address; an IPv6 link-local one carries its interface as scope.
    Socket(SocketAddr),
    /// `host:port`, resolved anew at each try.
    Name(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => socket.fmt(f),
            Self::Name(name) => write!(f, "{}", name.escape_debug()),
        }
    }
}

/// Where a hint came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Heard over mDNS.
    Mdns,
    /// Named by the user with `--peer`.
    Seed,
    /// Connected in an earlier run.
    Remembered,
    /// Its own signed record, passed along by a peer.
    Record,
}

impl Source {
    /// Its name in logs and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mdns => "mdns",
            Self::Seed => "peer_option",
            Self::Remembered => "remembered",
            Self::Record => "peer_record",
        }
    }
}

/// Somebody may be there. Never an authority: who somebody is, only the handshake says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Where it came from.
    pub source: Source,
    /// Who is said to be there, where that is said.
    pub node: Option<NodeId>,
    /// What it is said to be called; foreign text.
    pub name: Option<String>,
    /// The first 16 hex digits of the federation that it is said to be in.
    pub federation: Option<String>,
    /// Where, the likeliest first.
    pub addresses: Vec<Address>,
}

/// A thought that somebody on this machine wants to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its text.
    pub content: String,
    /// Its session.
    pub session: SessionName,
    /// Its mode.
    pub mode: Mode,
    /// A repetition with the same key gets the first answer and records nothing; 1 to 128 bytes.
    pub key: Option<String>,
}

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// Somebody on this machine wants to publish a thought.
    Submit {
        /// Comes back in [`Effect::Answer`].
        ticket: Ticket,
        /// The thought.
        submission: Submission,
    },
    /// Somebody on this machine wants to know what a thought would get.
    DryRun {
        /// Comes back in [`Effect::Answer`].
        ticket: Ticket,
        /// The thought; its key is not looked at.
        submission: Submission,
    },
    /// Our own entries up to that one are durable: now they may be signed.
    Stored {
        /// The last of them.
        through: Seq,
    },
    /// A QUIC connection stands; TLS has proved the key of the other side.
    Connected {
        /// The connection.
        link: LinkId,
        /// The key that TLS proved.
        node: NodeId,
        /// Our attempt, where we dialled.
        attempt: Option<Attempt>,
        /// The other side's address.
        address: SocketAddr,
        /// The TLS exporter of this connection: both sides have the same, no other connection has it.
        exporter: [u8; 32],
    },
    /// None of an attempt's addresses led to a connection.
    DialFailed {
        /// Which attempt.
        attempt: Attempt,
        /// Why, address by address, for people.
        why: String,
    },
    /// A frame on the control stream.
    Control {
        /// From whom.
        link: LinkId,
        /// What.
        frame: ControlFrame,
    },
    /// A frame on the balance-sync stream.
    Balance {
        /// From whom.
        link: LinkId,
        /// What.
        frame: BalanceFrame,
    },
    /// A segment whose signature, hashes and features hold.
    Heard {
        /// From whom.
        link: LinkId,
        /// What.
        segment: Verified<Segment>,
    },
    /// A live segment came of which we hold everything; nothing of it was verified, so all that it says is that the peer
    /// claims to hold it.
    Known {
        /// From whom.
        link: LinkId,
        /// Whose.
        author: NodeId,
        /// Its last entry.
        last: Seq,
    },
    /// A segment that does not hold.
    HeardWrong {
        /// From whom.
        link: LinkId,
        /// What is wrong with it.
        fault: SegmentFault,
    },
    /// A catch-up stream with that author's entries ended; what was sent on it came in before.
    CaughtUp {
        /// From whom.
        link: LinkId,
        /// Whose entries.
        author: NodeId,
    },
    /// What convicts an author; it holds.
    Proof {
        /// From whom.
        link: LinkId,
        /// What.
        proof: Box<Verified<Proof>>,
    },
    /// What should convict an author, and does not.
    ProofWrong {
        /// From whom.
        link: LinkId,
        /// What is wrong with it.
        fault: ProofFault,
    },
    /// How a peer's entries compare with ours: what [`Effect::Compare`] asked for.
    Compared {
        /// Whose entries they were.
        link: LinkId,
        /// Of which author.
        author: NodeId,
        /// What came out.
        comparison: Comparison,
    },
    /// The store has cut a convicted author's log.
    Cut {
        /// Whose.
        author: NodeId,
        /// What is left of it; `None` where nothing is.
        book: Option<Box<AuthorBook>>,
    },
    /// An operator takes a convicted author's log again.
    Clear {
        /// Comes back in [`Effect::Answer`].
        ticket: Ticket,
        /// Whose.
        author: NodeId,
    },
    /// The CA says, here, that a node is a member no more.
    Revoke(Revocation),
    /// An operator approves of a node; only of use where nodes are pinned.
    Approve(NodeId),
    /// A frame did not fit that link's queue and was not sent.
    QueueFull {
        /// Whose queue.
        link: LinkId,
        /// Of which kind.
        kind: StreamKind,
    },
    /// A stored entry turned out to be damaged when it was read.
    Damaged {
        /// Whose.
        author: NodeId,
        /// Which.
        seq: Seq,
    },
    /// There is too little room on the disk, or enough again.
    Disk(Option<DiskLow>),
    /// All that a [`Effect::Serve`] asked for was sent, or can't be.
    Served {
        /// To whom.
        link: LinkId,
        /// Whose entries.
        author: NodeId,
    },
    /// A connection ended.
    Disconnected {
        /// Which.
        link: LinkId,
        /// Why.
        why: Ended,
    },
    /// Somebody may be there.
    Hint(Hint),
    /// An interface came, went or changed its addresses, or the machine woke up.
    NetworkChanged,
    /// Where this node can be reached from now on; it stands in its peer record.
    Addresses(Vec<SocketAddr>),
    /// The time of [`super::Federation::wake_at`] has come.
    Tick,
}

/// Too little room on the disk: what the node can't store it does not take in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLow {
    /// Bytes that are free where the store is.
    pub free: u64,
    /// Bytes that the node wants to be free.
    pub min: u64,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// We closed it.
    Closed,
    /// The other side closed it with a reason.
    Refused(Refusal),
    /// It broke: silence, a reset, or a TLS error; for people.
    Broke(String),
}

/// A wish to dial: all addresses side by side, 250 ms apart; the first that answers wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Comes back in [`Input::Connected`] or [`Input::DialFailed`].
    pub attempt: Attempt,
    /// The only key that will do, where we know whom we want.
    pub expect: Option<NodeId>,
    /// Where, the likeliest first; at most 16.
    pub addresses: Vec<Address>,
}

/// What goes out.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Keep that those nodes are members no more.
    Revoked(Vec<Revocation>),
    /// Keep these, all or none; where they hold our own entries, [`Input::Stored`] comes back.
    Store(Vec<Record>),
    /// Tell the submitter.
    Answer {
        /// Whose.
        ticket: Ticket,
        /// What.
        answer: Answer,
    },
    /// Dial.
    Dial(Dial),
    /// Send a control frame.
    Control {
        /// To whom.
        link: LinkId,
        /// What.
        frame: ControlFrame,
    },
    /// Send a balance-sync frame.
    Balance {
        /// To whom.
        link: LinkId,
        /// What.
        frame: BalanceFrame,
    },
    /// Send a balance-sync frame to all of these; it is encoded once.
    BalanceToAll {
        /// To whom.
        to: Vec<LinkId>,
        /// What.
        frame: BalanceFrame,
    },
    /// Send a live segment to these; it is encoded once.
    Publish {
        /// To whom.
        to: Vec<LinkId>,
        /// What.
        segment: Arc<Verified<Segment>>,
    },
    /// Send an author's stored entries on a catch-up stream; [`Input::Served`] comes back.
    Serve {
        /// To whom.
        link: LinkId,
        /// Whose.
        author: NodeId,
        /// Which; where the last has no signature of its author's, those behind it up to the next that has one as well.
        span: Span,
    },
    /// Send what convicts an author, on a stream of its own.
    Prove {
        /// To whom.
        link: LinkId,
        /// Whose fault.
        author: NodeId,
    },
    /// Compare a peer's entries with those that the store holds; [`Input::Compared`] comes back.
    Compare {
        /// Whose entries they are.
        link: LinkId,
        /// The entries.
        segment: Box<Verified<Segment>>,
    },
    /// The link is admitted: its other streams may be read and opened.
    Admit {
        /// Which.
        link: LinkId,
    },
    /// End a connection; the other side is told why, and has a moment to hear it.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        refusal: Refusal,
    },
    /// A connection died: ask discovery whether the node is still announced.
    Verify {
        /// Which node.
        node: NodeId,
    },
    /// Tell everyone who listens.
    Event(Event),
}

/// What a submission is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is recorded, stored and signed, whatever its verdict.
    Recorded {
        /// What the rules said.
        recorded: Recorded,
        /// How many peers it was sent to at once; the others catch up.
        peers_sent: u32,
    },
    /// What it would have got; nothing was recorded.
    Would(Recorded),
    /// It can't be part of the log now; nothing was recorded.
    Inadmissible(Inadmissible),
    /// The node does not take it; nothing was recorded.
    Refused(SubmitFault),
    /// Whether the author was convicted; if it was, its log is taken again.
    Cleared(bool),
}

/// Why a node does not take a submission. Nothing was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitFault {
    /// Too many submissions wait for the disk.
    #[error("the node is busy: {waiting} submissions wait for the disk; try again")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// Its own log may lack what it signed: it gets it back from its peers first.
    #[error("the node does not write yet: {why}")]
    OwnLogAwaited {
        /// What it waits for, and what to do.
        why: Box<str>,
    },
    /// While this node was writing, a peer got entries of its log that it never wrote: somebody else signs with its key.
    #[error(
        "this node's own log ends at entry {ours}, and a peer holds entry {theirs}, signed with the same key while this node was \
         running: its data directory is live in two places; stop the other one and start this one again, or give one of them a \
         new identity with `cogmesh id --renew`"
    )]
    OwnLogBehind {
        /// The last entry here.
        ours: Seq,
        /// One that the peer holds.
        theirs: Seq,
    },
    /// A peer holds another entry of this node's log at that seq than this node does. Which of the two was signed first can't be
    /// told here, so neither is built upon.
    #[error(
        "a peer holds another entry {seq} of this node's log than this node does: this data directory is an old copy that was \
         written to; `cogmesh start --rebuild-from-peers` sets its store aside and takes the log that the peers hold, or \
         `cogmesh id --renew` gives it a new identity"
    )]
    OwnLogConflict {
        /// Where.
        seq: Seq,
    },
    /// Another process with this node's key is running.
    #[error(
        "another process runs with this node's key: neither writes; stop one of them and start the other again, or give one a new \
         identity with `cogmesh id --renew`"
    )]
    Clone,
    /// There is too little room on the disk.
    #[error(
        "there is too little room on the disk: {} MiB are free, and {} MiB should be; the node only reads and serves until there is \
         more", .0.free >> 20, .0.min >> 20
    )]
    DiskLow(DiskLow),
    /// A commit failed, so the node stopped writing.
    #[error("the store failed, and the node takes nothing more; look at its log and start it again")]
    StoreFailed,
    /// The key is empty or too long.
    #[error("a submission key has 1 to 128 bytes")]
    Key,
}
