//! Bytes on the wire, and nothing decided: QUIC connections between nodes, their streams, and what is read from them.
//!
//! An [`Endpoint`] owns the UDP sockets and a task for each connection. What happens comes out as [`NetEvent`]s through
//! an [`Inbox`] with a bound in bytes for each class: a full one stops the readers of that class, readers that stop stop the senders
//! by QUIC's flow control, and so a node that can't keep up slows its peers instead of losing what they say.
//!
//! A connection begins with its control stream alone. Nothing else is read, and no other stream may even be opened by
//! the peer, until the owner of the endpoint has called [`Endpoint::admit`]: who the peer is, TLS has proved by then,
//! but whether it is welcome is decided above this room.

mod apart;
pub mod bounds;
mod budget;
mod certificate_fault;
pub mod certificates;
mod config;
mod connection;
mod dial;
pub mod discovery;
pub mod endpoint;
mod event;
mod hearing;
mod held;
mod inbox;
mod incoming;
pub mod join;
mod links;
mod measure;
pub mod membership;
mod reader;
mod reset;
mod room;
mod segmented;
mod sending;
mod socket;
mod streams;
pub mod tls;
mod turns;
mod writer;

pub use apart::{Apart, Ending};
pub use budget::DoorBounds;
pub use config::{ListenOn, NetConfig, Timing};
pub use endpoint::{Endpoint, NetError};
pub use event::NetEvent;
pub use held::SegmentCounts;
pub use inbox::{Inbox, InboxBounds, InboxSender, Lane, inbox};
pub use incoming::DoorCounts;
pub use measure::{
    ArenaAsked, ArenaPlace, Borrowed, Bulk, Echo, Kind, MeasureCounts, MeasureError, Measuring,
    PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN, PING_BYTES_MAX, TallyAsked, Thoughts, local_address_towards,
};
pub use room::{BUFFER_BYTES, Room, batch_datagrams};
pub use sending::{CatchUpSender, LinkStats, PROBE_BYTES_MAX, ProbeError, SendFault};
pub use socket::{SocketError, free_port};
