//! Bounds: what this room can be made to hold at worst, from the constants that bound it. `node/bounds.rs` adds the rest.

use super::{
    budget, discovery,
    endpoint::INCOMING_BYTES_TOTAL_MAX,
    inbox::InboxBounds,
    measure::FLOOR_BYTES,
    reader::CHUNK_BYTES_MAX,
    streams::{
        BIDI_STREAMS_MAX, DATAGRAMS_BYTES_MAX, SEND_WINDOW_BYTES, UNI_STREAMS_MAX, WINDOW_BYTES,
        WINDOW_BYTES_BEFORE_ADMISSION, row,
    },
};
use crate::{
    log::{entry::HEADER_BYTES_MAX, fault::PROOF_BYTES_MAX},
    protocol::{
        frame::{DRY_CONTENT_BYTES_MAX, StreamKind},
        wire::{FRAME_BYTES_MAX, SEGMENT_BYTES_MAX},
    },
};

/// What a connection takes that says nothing: TLS, QUIC and the tasks. Measured: 60 to 70 KiB each with a thousand admitted peers, of which
/// quinn and rustls hold some 42; and 16 KiB for batches of datagrams (`segmented.rs`) where there are few.
const CONNECTION_BYTES: usize = 96 << 10;
/// A frame that is being put together, and what was read of the next.
const PARTIAL_BYTES: usize = FRAME_BYTES_MAX + CHUNK_BYTES_MAX;
/// A segment while it is verified: its frame, and its entries as they are decoded, each with its own allocations.
const VERIFYING_BYTES: usize = 3 * FRAME_BYTES_MAX;

/// Connections that are not admitted yet, at a time.
pub const STRANGERS_MAX: usize = budget::STRANGERS_MAX;

/// What one admitted peer can make this room hold, whether or not it reads.
pub const PEER_BYTES: usize = CONNECTION_BYTES
    // Sent by it and read by nobody.
    + WINDOW_BYTES as usize
    + (UNI_STREAMS_MAX + BIDI_STREAMS_MAX) as usize * PARTIAL_BYTES
    + (row(StreamKind::Thought).incoming_max + row(StreamKind::CatchUp).incoming_max) as usize * VERIFYING_BYTES
    + row(StreamKind::Proof).incoming_max as usize * PROOF_BYTES_MAX
    // Datagrams each way, a bare socket's buffer, and a thought that is weighed.
    + 2 * DATAGRAMS_BYTES_MAX
    + FLOOR_BYTES
    + 3 * (DRY_CONTENT_BYTES_MAX + HEADER_BYTES_MAX)
    // For it, and not acknowledged.
    + SEND_WINDOW_BYTES as usize
    + row(StreamKind::Control).queue_bytes_max
    + row(StreamKind::BalanceSync).queue_bytes_max
    + row(StreamKind::Thought).queue_bytes_max
    + row(StreamKind::CatchUp).incoming_max as usize * SEGMENT_BYTES_MAX;

/// What one stranger can: it has a control stream and nothing else.
pub const STRANGER_BYTES: usize = CONNECTION_BYTES
    + WINDOW_BYTES_BEFORE_ADMISSION as usize
    + PARTIAL_BYTES
    + DATAGRAMS_BYTES_MAX
    + SEND_WINDOW_BYTES as usize
    + row(StreamKind::Control).queue_bytes_max;

/// Packets of connections that were not begun.
pub const INCOMING_BYTES: usize = INCOMING_BYTES_TOTAL_MAX as usize;

/// Budgets of addresses, 100 bytes each.
pub const BUDGET_BYTES: usize = budget::ADDRESSES_MAX * 100;

/// What was heard and not told, on all interfaces: two tables of records of at most 1 KiB.
pub const HEARD_BYTES: usize = discovery::LISTENERS_MAX * 2 * discovery::RECORDS_MAX * 1_024;

/// What an mDNS daemon grows to before it is replaced, and what the allocator keeps of it: measured 40 MiB in a flood of 16,000 packets
/// a second for a minute. One interface is flooded at a time, or a machine on several hostile LANs has as many.
pub const MDNS_BYTES: usize = 64 << 20;

/// Heard and verified, and not looked at yet.
#[must_use]
pub fn inbox_bytes() -> usize {
    let InboxBounds { control_bytes_max, live_bytes_max, catch_up_bytes_max } = InboxBounds::default();
    control_bytes_max + live_bytes_max + catch_up_bytes_max
}
