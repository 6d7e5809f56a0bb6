//! Views: immutable snapshots of what the core knows, for whoever shows it.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::{
    input::{Address, LinkId, Source},
    refusal::Refusal,
};
use crate::{
    ledger::types::{Millis, Seq},
    log::{
        Architecture, Hardware, NodeId,
        books::{AuthorBook, AuthorFault},
    },
};

/// How a peer was verified. A claim is never shown as more than it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// TLS proved its key, and it signed its hardware claim for this connection.
    SoftwareBridge,
}

impl Method {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftwareBridge => "software_bridge",
        }
    }
}

/// How things stand with a node that is known or heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Linked and verified.
    Verified(VerifiedPeer),
    /// Not linked, and why.
    Seen(Unlinked),
}

/// Why a node that is known or heard of is not linked. `again` is the time until it is tried again, at the earliest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// It announces another federation, with these first hex digits of its id.
    OtherFederation {
        /// Foreign text.
        prefix: String,
    },
    /// This node itself answers there.
    Ourselves,
    /// Nobody said where it is.
    NoAddress,
    /// It is being dialled, or will be in a moment.
    Dialling,
    /// Nobody answers at its addresses.
    NoAnswer {
        /// What happened, for people.
        what: String,
        /// Until the next try.
        again: Millis,
    },
    /// It refused this node.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Until the next try.
        again: Millis,
    },
    /// There was a connection, and it ended.
    Lost {
        /// How, for people.
        what: String,
        /// Until the next try.
        again: Millis,
    },
    /// This node refuses it for a while, for what it sent.
    BackingOff {
        /// For so long yet.
        left: Millis,
    },
    /// This node has links enough, and keeps it for when it needs one.
    Spare,
    /// This node takes only peers that its operator has approved, and it is not among them.
    Pending,
    /// Only a peer record says that it is there, and it was not dialled yet.
    ByRecord {
        /// Until it may be.
        again: Millis,
    },
}

/// A linked peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPeer {
    /// The connection.
    pub link: LinkId,
    /// Its other end.
    pub address: SocketAddr,
    /// Whether we dialled.
    pub dialled: bool,
    /// How it was verified.
    pub method: Method,
    /// How long ago it was admitted.
    pub connected: Millis,
    /// What it claims to be.
    pub hardware: Hardware,
    /// The level that it claims.
    pub level: u8,
    /// The architecture that it claims.
    pub arch: Architecture,
    /// How far its clock was ahead of ours when it last told, in milliseconds; negative where it was behind.
    pub clock_ahead_ms: i64,
}

/// One peer of a [`View`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Who, where known.
    pub id: Option<NodeId>,
    /// Its name as shown: with its short id where another node had the name first; foreign text where it is not linked.
    pub name: String,
    /// Where it may be reached.
    pub addresses: Vec<Address>,
    /// How that became known.
    pub sources: Vec<Source>,
    /// How things stand.
    pub state: PeerState,
    /// How far the two logs of everybody go; `None` where it is not linked.
    pub step: Option<InStep>,
}

/// How far a peer's logs go, as it said itself, against ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InStep {
    /// Entries that it has told of and that are missing here.
    pub missing_here: u64,
    /// Entries that it has not yet told of.
    pub missing_there: u64,
    /// Since when nothing is missing on either side: milliseconds since the Unix epoch.
    pub identical_since: Option<Millis>,
    /// The last entry of each author's log that it has told of.
    pub acknowledged: BTreeMap<NodeId, Seq>,
}

/// One author of a [`View`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorView {
    /// Its name as shown.
    pub name: String,
    /// What is known of it.
    pub book: Arc<AuthorBook>,
    /// Whether some peer has announced entries that this node lacks.
    pub behind: bool,
    /// Where its log was cut off and why, where it was; also one that an operator cleared.
    pub fault: Option<AuthorFault>,
}

/// How it stands with the node's own log: whether it may write. The texts are for people, and say what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnLogView {
    /// It may.
    #[default]
    Open,
    /// It gets its own log back from its peers first.
    Waiting(String),
    /// The disk has too little room.
    ReadOnly(String),
    /// It must not.
    Halted(String),
}

impl OwnLogView {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Waiting(_) => "waiting",
            Self::ReadOnly(_) => "read_only",
            Self::Halted(_) => "halted",
        }
    }

    /// Why it may not write, and what to do.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Open => None,
            Self::Waiting(why) | Self::ReadOnly(why) | Self::Halted(why) => Some(why),
        }
    }
}

/// Whose logs a node knows. A snapshot of that alone costs nothing for each peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Every author known.
    pub authors: BTreeMap<NodeId, AuthorView>,
    /// Convicted authors of whose log nothing is left.
    pub erased: BTreeMap<NodeId, AuthorFault>,
}

/// An immutable snapshot of what the core knows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Linked peers, and those only heard of.
    pub peers: Vec<PeerView>,
    /// Whose logs it knows.
    pub known: Known,
    /// Who is a member of this closed federation no more.
    pub revoked: Vec<NodeId>,
    /// Own thoughts that were acknowledged and are in nobody's log any more, as far as this node knows. It must stay 0.
    pub lost_thoughts: u64,
    /// How many submissions wait for the disk.
    pub waiting: usize,
    /// Whether it may write.
    pub own_log: OwnLogView,
    /// Entries and contents that are missing here and are asked for, as far as is known.
    pub missing: u64,
}
