//! The table of stream kinds: who opens them, which goes first, how much may wait.
//! Source: protocol.md, Connections: streams.

use crate::protocol::{frame::StreamKind, wire::FRAME_BYTES_MAX};

/// Who opens a stream, and which way it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opener {
    /// The dialler; both ways.
    DiallerBoth,
    /// Either side, as often as the limit allows; both ways.
    EitherBoth,
    /// Each side one; one way.
    EachOneWay,
    /// The side that has what was asked for; one way.
    EitherOneWay,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Who opens it.
    pub(super) opener: Opener,
    /// quinn sends what has a higher priority first, always.
    pub(super) priority: i32,
    /// Most bytes that wait in our own queue for this kind; 0 where the sender waits instead.
    pub(super) queue_bytes_max: usize,
    /// Most streams of this kind that a peer may have open towards us.
    pub(super) incoming_max: u32,
}

/// The row of that kind.
pub(super) const fn row(kind: StreamKind) -> Row {
    let (opener, priority, queue_bytes_max, incoming_max) = match kind {
        StreamKind::Control => (Opener::DiallerBoth, 4, SMALL_QUEUE_BYTES_MAX, 1),
        StreamKind::Thought => (Opener::EachOneWay, 3, QUEUE_BYTES_MAX, 1),
        StreamKind::Probe => (Opener::EitherBoth, 3, 0, 4),
        StreamKind::BalanceSync => (Opener::EachOneWay, 2, SMALL_QUEUE_BYTES_MAX, 1),
        StreamKind::CatchUp => (Opener::EitherOneWay, 1, 0, 4),
        StreamKind::Proof => (Opener::EitherOneWay, 2, 0, 1),
        // As high as what it is a measure of, and no higher.
        StreamKind::Measure => (Opener::EitherBoth, 3, 0, 1),
    };
    Row { opener, priority, queue_bytes_max, incoming_max }
}

/// Bytes of live segments that wait for one peer. 64 peers at this bound are 64 MiB.
pub(super) const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Bytes of control or balance-sync frames that wait for one peer.
const SMALL_QUEUE_BYTES_MAX: usize = 1 << 19;

// A frame of full length must fit an empty queue, else it could never be sent.
const _: () = assert!(FRAME_BYTES_MAX + 1024 <= SMALL_QUEUE_BYTES_MAX);

/// Streams of one way that a peer may have open towards us once it is admitted; before, none.
pub(super) const UNI_STREAMS_MAX: u32 = row(StreamKind::Thought).incoming_max
    + row(StreamKind::BalanceSync).incoming_max
    + row(StreamKind::CatchUp).incoming_max
    + row(StreamKind::Proof).incoming_max;

/// Streams of both ways that a peer may have open towards us once it is admitted, its control stream among them.
pub(super) const BIDI_STREAMS_MAX: u32 = row(StreamKind::Control).incoming_max
    + row(StreamKind::Probe).incoming_max
    + row(StreamKind::Measure).incoming_max;

/// Bytes that a peer may have under way on one stream: a whole frame and the start of the next, so that a
/// sender never waits for a round trip in the middle of a frame.
pub(super) const STREAM_WINDOW_BYTES: u32 = 320 << 10;
/// Bytes that a peer may have under way before it is admitted: one frame, its length, and the kind of its stream.
pub(super) const WINDOW_BYTES_BEFORE_ADMISSION: u32 = 320 << 10;
/// Bytes that an admitted peer may have under way on all streams; they are what it can make us hold. All catch-up streams may be
/// full and unread without the others' running dry: QUIC counts what nobody has read yet, and this is where a backlog would
/// otherwise stop what is live.
pub(super) const WINDOW_BYTES: u32 = 2_560 << 10;
/// Bytes of datagrams that wait to be echoed, and that wait to be sent. Both drop the oldest: whoever measures counts it as lost. quinn keeps the
/// whole batch of packets that a datagram came in as long as the datagram: of two floods of tiny ones a node grew by 77 MiB with 64 KiB here,
/// and by 26 with this.
pub(super) const DATAGRAMS_BYTES_MAX: usize = 16 << 10;
/// Bytes that we hold for a peer until it has acknowledged them. Larger ones made small writes slower in measurements.
pub(super) const SEND_WINDOW_BYTES: u64 = 1 << 19;

const _: () = assert!(FRAME_BYTES_MAX + 4 <= STREAM_WINDOW_BYTES as usize);
// Catch-up, and one each for control, live, balance and a probe.
const _: () = assert!((row(StreamKind::CatchUp).incoming_max + 4) * STREAM_WINDOW_BYTES <= WINDOW_BYTES);
const _: () = assert!(FRAME_BYTES_MAX + 5 <= WINDOW_BYTES_BEFORE_ADMISSION as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_goes_before_everything_and_catch_up_after_everything() {
        for kind in StreamKind::ALL {
            assert!(row(kind).priority <= row(StreamKind::Control).priority);
            assert!(row(kind).priority >= row(StreamKind::CatchUp).priority);
        }
        assert_eq!((UNI_STREAMS_MAX, BIDI_STREAMS_MAX), (7, 6));
    }
}
