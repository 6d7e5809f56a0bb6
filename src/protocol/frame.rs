//! Frames: what one node says to another, as values. `wire.rs` turns them into bytes and back.
//! Source: protocol.md, Connections.

use super::refusal::Refusal;
use crate::{
    ledger::types::{MicroAtp, Millis, Seq},
    log::{
        Alive, Claim, FederationId, Hash, Head, NodeId, NodeRecord, Nonce, Revocation, Segment, Signature,
        books::Span,
    },
};

/// The version of this protocol. Nodes of another one refuse each other by name.
pub const PROTOCOL_VERSION: u16 = 1;

/// Most heads in one frame: 1,024 of 176 bytes are 176 KiB, below the frame limit.
pub const HEADS_PER_FRAME_MAX: usize = 1_024;

/// Most peer records in one frame: 64 of at most 306 bytes are 19 KiB.
pub const RECORDS_PER_FRAME_MAX: usize = 64;

/// Most revocations in one frame: 256 of 104 bytes are 26 KiB.
pub const REVOCATIONS_PER_FRAME_MAX: usize = 256;

/// Longest policy that a Hello may carry, in bytes; ours has fewer than half of them.
pub const POLICY_BYTES_MAX: usize = 512;

/// Longest name and version of a program in [`ControlFrame::About`].
pub const SOFTWARE_BYTES_MAX: usize = 64;

/// This program's name and version.
pub const SOFTWARE: &str = concat!("cogmesh ", env!("CARGO_PKG_VERSION"));

const _: () = assert!(SOFTWARE.len() <= SOFTWARE_BYTES_MAX);

/// The kinds of streams. The first byte of a stream is its kind's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// Hello, ping and notices; bidirectional, opened by the dialler.
    Control,
    /// Live segments; one each way.
    Thought,
    /// Heads with balances, and wants; one each way.
    BalanceSync,
    /// Segments that were asked for; one for each want.
    CatchUp,
    /// Echo, for measurements; bidirectional.
    Probe,
    /// What convicts an author, for a peer that asked; one for each.
    Proof,
    /// What a measurement needs beside echoes: a bare UDP port, thoughts that are weighed and not kept, an arena; bidirectional.
    Measure,
}

impl StreamKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Control,
        Self::Thought,
        Self::BalanceSync,
        Self::CatchUp,
        Self::Probe,
        Self::Proof,
        Self::Measure,
    ];

    /// The byte that opens such a stream.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Thought => 1,
            Self::BalanceSync => 2,
            Self::CatchUp => 3,
            Self::Probe => 4,
            Self::Proof => 5,
            Self::Measure => 6,
        }
    }

    /// The kind with that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Its name in logs and counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Thought => "thought",
            Self::BalanceSync => "balance_sync",
            Self::CatchUp => "catch_up",
            Self::Probe => "probe",
            Self::Proof => "proof",
            Self::Measure => "measure",
        }
    }
}

/// A random number of one process instance: tells a restarted node from a cloned one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(pub u64);

/// Who a node says it is. TLS has proved its key; everything else here is checked against that key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's [`PROTOCOL_VERSION`].
    pub version: u16,
    /// The federation that it belongs to.
    pub federation: FederationId,
    /// Its rules, whole, so that a difference can be named.
    pub policy: Vec<u8>,
    /// Its name and addresses.
    pub record: NodeRecord,
    /// The signature of its key over the record.
    pub record_signature: Signature,
    /// The hardware that it claims.
    pub claim: Claim,
    /// The signature of its key over the claim and the TLS exporter of this connection.
    pub claim_signature: Signature,
    /// Its process instance.
    pub instance: Instance,
    /// Its proof of work.
    pub nonce: Nonce,
    /// Its clock: milliseconds since the Unix epoch.
    pub clock: Millis,
}

/// A peer record with the signature of the node that made it, so that anybody may pass it along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    /// What the node says of itself.
    pub record: NodeRecord,
    /// Its signature over that.
    pub signature: Signature,
}

/// What travels on the control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlFrame {
    /// The dialler introduces itself; always the first frame.
    Hello(Box<Hello>),
    /// The accepting side takes the dialler in, and introduces itself.
    Admitted(Box<Hello>),
    /// The sender ends this connection.
    Refused(Refusal),
    /// Are you there?
    Ping {
        /// Comes back in the pong.
        number: u64,
        /// The sender's clock.
        clock: Millis,
    },
    /// I am.
    Pong {
        /// The ping's.
        number: u64,
        /// The sender's clock.
        clock: Millis,
    },
    /// Another process with your key is here: prove to it that you are alive.
    Rival {
        /// The other process.
        instance: Instance,
    },
    /// The answer to [`ControlFrame::Rival`].
    Alive(Alive),
    /// What another process with your key answered: your key is live in two places.
    Clone(Alive),
    /// Where other nodes say that they can be reached; at most [`RECORDS_PER_FRAME_MAX`]. Also sent to a dialler that is about
    /// to be refused because there is no room for it, so that it learns of others.
    Records(Vec<SignedRecord>),
    /// What program the sender runs, for people who compare two of them.
    About {
        /// Name and version: at most [`SOFTWARE_BYTES_MAX`] printable ASCII bytes.
        software: String,
    },
    /// Who is a member no more; at most [`REVOCATIONS_PER_FRAME_MAX`].
    Revocations(Vec<Revocation>),
}

/// A head together with what its author's account holds after it, as the sender computed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadReport {
    /// The author's last entry that the sender holds.
    pub head: Head,
    /// The author's balance after it.
    pub balance: MicroAtp,
    /// The digest of the author's account after it.
    pub digest: [u8; 32],
}

/// That an author is convicted, and how much of its log the sender holds. What convicts it is asked for with [`BalanceFrame::Prove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultReport {
    /// Whose log ends.
    pub author: NodeId,
    /// The first entry at fault.
    pub cut: Seq,
    /// How many entries of the log the sender holds; never more than come before the cut.
    pub held: u64,
    /// The hash of the last of them; zeros where there are none.
    pub hash: Hash,
    /// The author's balance after it.
    pub balance: MicroAtp,
    /// The digest of the author's account after it; zeros where it has none.
    pub digest: [u8; 32],
}

impl BalanceFrame {
    /// About what it takes in memory.
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        match self {
            Self::Heads(reports) => reports.len().saturating_mul(size_of::<HeadReport>()),
            Self::Faults(reports) => reports.len().saturating_mul(size_of::<FaultReport>()),
            Self::Want { .. } | Self::Mend { .. } | Self::Prove { .. } | Self::Follow { .. } => 0,
        }
    }
}

/// What travels on a balance-sync stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BalanceFrame {
    /// What the sender holds; at most [`HEADS_PER_FRAME_MAX`].
    Heads(Vec<HeadReport>),
    /// The sender lacks this author's entries from that seq on.
    Want {
        /// Whose.
        author: NodeId,
        /// The first that it lacks.
        from: Seq,
    },
    /// The sender has this author's log so far, but some of these entries are damaged or without their contents there.
    Mend {
        /// Whose.
        author: NodeId,
        /// Which; the last may be followed by those up to the next signed head.
        span: Span,
    },
    /// Authors that are convicted, of whom the sender tells no heads; at most [`HEADS_PER_FRAME_MAX`].
    Faults(Vec<FaultReport>),
    /// The sender wants to see what convicts this author.
    Prove {
        /// Whom.
        author: NodeId,
    },
    /// Whether the sender wants this author's live segments passed on as they come. It asks that of one peer, and only where it has no link to
    /// the author itself.
    Follow {
        /// Whose.
        author: NodeId,
        /// From now on, or no longer.
        on: bool,
    },
}

/// Longest content of a thought that is weighed and not kept: what a measurement sends, with room.
pub const DRY_CONTENT_BYTES_MAX: usize = 2_048;

/// What travels on a measure stream. Whoever opened it asks, the other side answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeasureFrame {
    /// Asks for a bare UDP port; once a stream.
    Floor,
    /// There it is, on the address of this connection: what begins with the token and comes from the asker's address comes back.
    FloorAt {
        /// The UDP port.
        port: u16,
        /// Nobody else can know it.
        token: [u8; 16],
    },
    /// No UDP port can be had there.
    NoFloor,
    /// A signed thought, to be checked and folded like a live one and then forgotten.
    Dry {
        /// Comes back in the answer.
        number: u64,
        /// One entry, with a content of at most [`DRY_CONTENT_BYTES_MAX`].
        segment: Segment,
    },
    /// What came of it.
    Weighed {
        /// The thought's.
        number: u64,
        /// What.
        outcome: Weighed,
    },
    /// Asks for an arena: a throw-away node in the other side's process, of a federation that is made for the measurement. It ends with
    /// this stream.
    Arena(ArenaWanted),
    /// There it is, on the address of this connection. Only those who were named get into it.
    ArenaAt {
        /// Its key, made for this.
        node: NodeId,
        /// Its UDP port.
        port: u16,
    },
    /// There is none.
    NoArena(NoArena),
    /// Asks how many thoughts the arena has stored, once there are so many; whoever asked waits no longer than a second for that.
    Tally {
        /// So many.
        thoughts: u64,
    },
    /// How many there are now.
    Tallied(Tally),
    /// So many bytes follow, which are thrown away; only with an arena.
    Bulk {
        /// At most [`BULK_BLOCK_BYTES_MAX`].
        bytes: u32,
    },
    /// They have come.
    Taken {
        /// So many.
        bytes: u32,
    },
}

/// Most bytes behind one [`MeasureFrame::Bulk`].
pub const BULK_BLOCK_BYTES_MAX: u32 = 1 << 20;

/// What arena is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaWanted {
    /// Who will write there.
    pub writer: NodeId,
    /// Who will fetch what was written.
    pub reader: NodeId,
    /// For how long there will be written: milliseconds.
    pub duration_ms: u32,
    /// Whether each commit is synced before it counts.
    pub synced: bool,
}

/// What an arena has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Thoughts that its store holds.
    pub thoughts: u64,
    /// Processor time that its process has used since its start: microseconds.
    pub cpu_us: u64,
}

/// Why there is no arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoArena {
    /// Its operator gives none.
    #[error("its operator lets nobody measure throughput to it (`--no-bench-throughput`)")]
    Unwilling,
    /// There is one already: two would measure each other.
    #[error("it takes part in another measurement; try again when that is done")]
    Busy,
    /// There were too many within a while.
    #[error("it took part in too many measurements within the last minutes; try again later")]
    TooOften,
    /// The disk has too little room.
    #[error("its disk has too little room")]
    NoRoom,
    /// What was asked for can't be had.
    #[error("it does not measure for so long")]
    TooLong,
    /// It could not be started.
    #[error("it can't start what is needed; its log says more")]
    Failed,
}

impl NoArena {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Unwilling, Self::Busy, Self::TooOften, Self::NoRoom, Self::TooLong, Self::Failed];

    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unwilling => "peer_unwilling",
            Self::Busy => "peer_busy",
            Self::TooOften => "too_often",
            Self::NoRoom => "peer_no_room",
            Self::TooLong => "too_long",
            Self::Failed => "peer_failed",
        }
    }
}

/// What came of a thought that was only weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighed {
    /// The rules would accept it.
    Accepted,
    /// The rules would record and reject it.
    Rejected,
    /// The rules would not admit it.
    Inadmissible,
    /// Its signature, hashes or features do not hold.
    Unfit,
    /// It was not looked at: too many came.
    Busy,
}

impl Weighed {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Accepted, Self::Rejected, Self::Inadmissible, Self::Unfit, Self::Busy];

    /// Whether the thought went the whole way.
    #[must_use]
    pub const fn is_judged(self) -> bool {
        match self {
            Self::Accepted | Self::Rejected | Self::Inadmissible => true,
            Self::Unfit | Self::Busy => false,
        }
    }
}
