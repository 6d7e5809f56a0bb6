//! What an endpoint tells its owner.

use std::net::SocketAddr;

use tokio::sync::oneshot;

use super::measure::ArenaAsked;
use crate::{
    ledger::types::Seq,
    log::{NodeId, Proof, ProofFault, Segment, SegmentFault, Verified},
    protocol::{
        event::HandshakeFault,
        frame::{BalanceFrame, ControlFrame, StreamKind, Weighed},
        input::{Attempt, Ended, LinkId},
        refusal::Refusal,
    },
};

/// What happened. All that concerns one link begins with its `Connected` and ends with its only `Disconnected`; what came
/// on one stream stands in the order in which it was sent, and what came on several in no order.
#[derive(Debug)]
pub enum NetEvent {
    /// A connection stands, and TLS has proved the key of the other side. A dialler does not know yet whether the other
    /// side takes its certificate: it counts as connected only when the protocol above says so.
    Connected {
        /// The connection.
        link: LinkId,
        /// The key that TLS proved.
        node: NodeId,
        /// Our attempt, where we dialled.
        attempt: Option<Attempt>,
        /// The other side's address; IPv4 never in IPv6 clothes.
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
    /// A thought that a peer sent to be measured: it holds, and is to be weighed and forgotten.
    Dry {
        /// From whom.
        link: LinkId,
        /// What.
        segment: Verified<Segment>,
        /// Takes what came of it. The peer waits for that.
        answer: oneshot::Sender<Weighed>,
    },
    /// A peer wants an arena, to measure throughput. Nothing of it reaches the node's own federation.
    Arena(Box<ArenaAsked>),
    /// A live segment of which the node holds everything; nothing of it was verified.
    Known {
        /// From whom.
        link: LinkId,
        /// Whose, as the segment says.
        author: NodeId,
        /// Its last entry, as the segment says.
        last: Seq,
    },
    /// A segment that does not hold. The link stays.
    HeardWrong {
        /// From whom.
        link: LinkId,
        /// What is wrong with it.
        fault: SegmentFault,
    },
    /// What convicts an author; it holds.
    Proof {
        /// From whom.
        link: LinkId,
        /// What.
        proof: Box<Verified<Proof>>,
    },
    /// What should convict an author, and does not. The link stays.
    ProofWrong {
        /// From whom.
        link: LinkId,
        /// What is wrong with it.
        fault: ProofFault,
    },
    /// A catch-up stream with that author's entries ended; what was sent on it has been told.
    CaughtUp {
        /// From whom.
        link: LinkId,
        /// Whose entries.
        author: NodeId,
    },
    /// A frame did not fit that link's queue and was not sent. Several may be told as one.
    QueueFull {
        /// Whose queue.
        link: LinkId,
        /// Of which kind.
        kind: StreamKind,
    },
    /// The peer broke the protocol of bytes. The endpoint is closing the link with that refusal; `Disconnected` follows.
    Violated {
        /// Which link.
        link: LinkId,
        /// Whose.
        node: NodeId,
        /// What it is told.
        refusal: Refusal,
    },
    /// A connection ended.
    Disconnected {
        /// Which.
        link: LinkId,
        /// Why.
        why: Ended,
    },
    /// Somebody tried to connect, and the handshake failed. Whoever logs it must limit how often: anyone can cause it.
    HandshakeFailed {
        /// From where.
        address: SocketAddr,
        /// Why, for programs.
        fault: HandshakeFault,
        /// Why, for people.
        why: String,
    },
}
