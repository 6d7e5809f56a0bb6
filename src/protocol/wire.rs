//! Wire: frames as bytes and back. The only file that knows bincode.
//!
//! A frame is a length (u32) and that many bytes: a kind (u32), then the fields in the order of the types in `mirror.rs`, integers
//! little-endian and of fixed width, a list as its length (u64) and its elements, an option as 0 or 1 (u8) and its value.
//! No value has two encodings, so what decodes is written again as the same bytes. What comes from outside is never
//! believed about a length: every list has a bound of its own, and byte strings are borrowed from the frame, not copied.
//!
//! Of a segment's head only the signature travels: author, seq and hash are the last entry's, and can't contradict it.

mod bounded;
mod mirror;

use bincode::{
    config::{Configuration, Fixint, Limit, LittleEndian},
    serde::{borrow_decode_from_slice, encode_into_std_write},
};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use self::{
    bounded::{Blob, Bounded},
    mirror::{
        RECORD_BYTES_MAX, WireAlive, WireBalance, WireControl, WireEntry, WireFaultReport, WireHello,
        WireMeasure, WireRecord, WireReport, WireRevocation, WireSegment, halves, whole,
    },
};
use super::{
    frame::{
        ArenaWanted, BULK_BLOCK_BYTES_MAX, BalanceFrame, ControlFrame, HEADS_PER_FRAME_MAX, Instance,
        MeasureFrame, NoArena, PROTOCOL_VERSION, RECORDS_PER_FRAME_MAX, Tally, Weighed,
    },
    refusal::{Refusal, RefusalCode},
};
use crate::{
    ledger::types::{Millis, Seq},
    log::{
        Entry, FederationId, Head, NodeId, SEGMENT_ENTRIES_MAX, Segment, SegmentFault,
        books::Span,
        entry::{HEADER_BYTES_MAX, HeaderFault},
        identity::KeyFault,
    },
};

/// The longest frame, without its length.
pub const FRAME_BYTES_MAX: usize = 262_144;
/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;
/// Headers and contents of so many bytes (`Entry::byte_len`), in at most [`SEGMENT_ENTRIES_MAX`] entries, certainly fit.
pub const SEGMENT_BYTES_MAX: usize =
    FRAME_BYTES_MAX - KIND_BYTES - COUNT_BYTES - SIGNATURE_BYTES - ENTRIES_BYTES;

const KIND_BYTES: usize = 4;
const COUNT_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 64;
/// What entries need besides their bytes: two lengths and the option's byte each.
const ENTRIES_BYTES: usize = SEGMENT_ENTRIES_MAX * (2 * COUNT_BYTES + 1);

const _: () = assert!(SEGMENT_ENTRIES_MAX * HEADER_BYTES_MAX <= SEGMENT_BYTES_MAX);
const _: () = assert!(KIND_BYTES + COUNT_BYTES + HEADS_PER_FRAME_MAX * 176 <= FRAME_BYTES_MAX);
const _: () = assert!(
    RECORDS_PER_FRAME_MAX * (COUNT_BYTES + RECORD_BYTES_MAX + SIGNATURE_BYTES) <= FRAME_BYTES_MAX / 8
);

/// The limit counts what a frame claims, not only what it has, so that a claimed length is refused before it is kept.
const CONFIG: Configuration<LittleEndian, Fixint, Limit<FRAME_BYTES_MAX>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<FRAME_BYTES_MAX>();

/// Why bytes are not a frame, or a value does not fit one. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireFault {
    /// Longer than a frame may be.
    #[error("{bytes} bytes, {FRAME_BYTES_MAX} allowed")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// The bytes are no frame: too few, too many, or a value out of its range.
    #[error("{0}")]
    Malformed(&'static str),
    /// A kind of frame, or a reason of a refusal, that this version does not know.
    #[error("a frame of kind {0}")]
    UnknownKind(u32),
    /// A Hello of another version, whose fields are not ours.
    #[error("version {0} there, version {PROTOCOL_VERSION} here")]
    Version(u16),
    /// A key that no node may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// An entry's header that is none.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// Entries that are no segment.
    #[error(transparent)]
    Segment(#[from] SegmentFault),
}

impl WireFault {
    /// What the sender of such a frame is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            Self::TooLarge { .. } => RefusalCode::FrameTooLarge,
            Self::UnknownKind(_) => RefusalCode::UnknownKind,
            Self::Version(_) => RefusalCode::Version,
            Self::Malformed(_) | Self::Key(_) | Self::Header(_) | Self::Segment(_) => RefusalCode::Malformed,
        };
        Refusal::about(code, self)
    }
}

/// Takes the next frame out of what came on a stream, without its length; `None` where it has not come whole.
///
/// # Errors
/// It is longer than any may be; that is said before anything is kept for it.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, WireFault> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if bytes > FRAME_BYTES_MAX {
        return Err(WireFault::TooLarge { bytes });
    }
    if buffer.len() < LENGTH_BYTES + bytes {
        return Ok(None);
    }
    let mut frame = buffer.split_to(LENGTH_BYTES + bytes);
    drop(frame.split_to(LENGTH_BYTES));
    Ok(Some(frame.freeze()))
}

/// A control frame with its length before it.
///
/// # Errors
/// It does not fit a frame, or a field is longer than it may be; none that this node makes does.
pub fn encode_control(frame: &ControlFrame) -> Result<Bytes, WireFault> {
    match frame {
        ControlFrame::Hello(hello) => {
            let record = hello.record.to_bytes();
            encode(&WireControl::Hello(WireHello::new(hello, &record)?))
        }
        ControlFrame::Admitted(hello) => {
            let record = hello.record.to_bytes();
            encode(&WireControl::Admitted(WireHello::new(hello, &record)?))
        }
        ControlFrame::Refused(refusal) => {
            let about = Blob::new(refusal.about.as_bytes())?;
            encode(&WireControl::Refused { code: refusal.code.number(), about })
        }
        ControlFrame::Ping { number, clock } => {
            encode(&WireControl::Ping { number: *number, clock: clock.0 })
        }
        ControlFrame::Pong { number, clock } => {
            encode(&WireControl::Pong { number: *number, clock: clock.0 })
        }
        ControlFrame::Rival { instance } => encode(&WireControl::Rival { instance: instance.0 }),
        ControlFrame::Alive(alive) => encode(&WireControl::Alive(WireAlive::new(alive))),
        ControlFrame::Clone(alive) => encode(&WireControl::Clone(WireAlive::new(alive))),
        ControlFrame::About { software } => {
            encode(&WireControl::About { software: Blob::new(software.as_bytes())? })
        }
        ControlFrame::Revocations(revocations) => {
            let list = revocations.iter().map(WireRevocation::new).collect();
            encode(&WireControl::Revocations(Bounded::new(list)?))
        }
        ControlFrame::Records(records) => {
            let bytes: Vec<Vec<u8>> = records.iter().map(|signed| signed.record.to_bytes()).collect();
            let each = records.iter().zip(&bytes);
            let list = each.map(|(signed, bytes)| WireRecord::new(&signed.signature, bytes));
            encode(&WireControl::Records(Bounded::new(list.collect::<Result<_, _>>()?)?))
        }
    }
}

/// A control frame from its bytes, which come without their length.
///
/// # Errors
/// They are none.
pub fn decode_control(bytes: &[u8]) -> Result<ControlFrame, WireFault> {
    let frame =
        decode::<WireControl<'_>>(bytes, WireControl::KINDS).map_err(|fault| other_version(bytes, fault))?;
    Ok(match frame {
        WireControl::Hello(hello) => ControlFrame::Hello(Box::new(hello.read()?)),
        WireControl::Admitted(hello) => ControlFrame::Admitted(Box::new(hello.read()?)),
        WireControl::Refused { code, about } => {
            let unknown = WireFault::UnknownKind(u32::from(code));
            let code = RefusalCode::from_number(u64::from(code)).ok_or(unknown)?;
            let about =
                str::from_utf8(about.0).map_err(|_| WireFault::Malformed("a refusal that is no text"))?;
            ControlFrame::Refused(Refusal { code, about: about.to_owned() })
        }
        WireControl::Ping { number, clock } => ControlFrame::Ping { number, clock: Millis(clock) },
        WireControl::Pong { number, clock } => ControlFrame::Pong { number, clock: Millis(clock) },
        WireControl::Rival { instance } => ControlFrame::Rival { instance: Instance(instance) },
        WireControl::Alive(alive) => ControlFrame::Alive(alive.read()),
        WireControl::Clone(alive) => ControlFrame::Clone(alive.read()),
        WireControl::About { software } => {
            let text = str::from_utf8(software.0).ok();
            let text = text.filter(|text| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            let software = text.ok_or(WireFault::Malformed("a program's name that is not ASCII"))?;
            ControlFrame::About { software: software.to_owned() }
        }
        WireControl::Revocations(revocations) => {
            let list = revocations.0.into_iter().map(WireRevocation::read);
            ControlFrame::Revocations(list.collect::<Result<_, _>>()?)
        }
        WireControl::Records(records) => {
            ControlFrame::Records(records.0.into_iter().map(WireRecord::read).collect::<Result<_, _>>()?)
        }
    })
}

/// A balance-sync frame with its length before it.
///
/// # Errors
/// It has more heads than a frame may have.
pub fn encode_balance(frame: &BalanceFrame) -> Result<Bytes, WireFault> {
    encode(&match frame {
        BalanceFrame::Heads(reports) => {
            WireBalance::Heads(Bounded::new(reports.iter().map(WireReport::new).collect())?)
        }
        BalanceFrame::Want { author, from } => WireBalance::Want { author: *author.as_bytes(), from: from.0 },
        BalanceFrame::Mend { author, span } => {
            WireBalance::Mend { author: *author.as_bytes(), first: span.first.0, last: span.last.0 }
        }
        BalanceFrame::Faults(reports) => {
            WireBalance::Faults(Bounded::new(reports.iter().map(WireFaultReport::new).collect())?)
        }
        BalanceFrame::Prove { author } => WireBalance::Prove { author: *author.as_bytes() },
        BalanceFrame::Follow { author, on } => WireBalance::Follow { author: *author.as_bytes(), on: *on },
    })
}

/// A balance-sync frame from its bytes, which come without their length.
///
/// # Errors
/// They are none.
pub fn decode_balance(bytes: &[u8]) -> Result<BalanceFrame, WireFault> {
    Ok(match decode(bytes, WireBalance::KINDS)? {
        WireBalance::Heads(reports) => {
            BalanceFrame::Heads(reports.0.into_iter().map(WireReport::read).collect::<Result<_, _>>()?)
        }
        WireBalance::Want { author, from } => {
            BalanceFrame::Want { author: NodeId::from_key(author)?, from: Seq(from) }
        }
        WireBalance::Mend { author, first, last } => {
            if first > last {
                return Err(WireFault::Malformed("a span that ends before it begins"));
            }
            let span = Span { first: Seq(first), last: Seq(last) };
            BalanceFrame::Mend { author: NodeId::from_key(author)?, span }
        }
        WireBalance::Faults(reports) => {
            BalanceFrame::Faults(reports.0.into_iter().map(WireFaultReport::read).collect::<Result<_, _>>()?)
        }
        WireBalance::Prove { author } => BalanceFrame::Prove { author: NodeId::from_key(author)? },
        WireBalance::Follow { author, on } => BalanceFrame::Follow { author: NodeId::from_key(author)?, on },
    })
}

/// The bytes of a proof as frames, each with its length before it: a proof may be longer than one.
///
/// # Errors
/// None that a proof of ours can have.
pub fn encode_proof(proof: &[u8]) -> Result<Vec<Bytes>, WireFault> {
    proof.chunks(FRAME_BYTES_MAX).map(with_length).collect()
}

/// A segment with its length before it.
///
/// # Errors
/// It does not fit a frame: whoever makes segments keeps to [`SEGMENT_BYTES_MAX`].
pub fn encode_segment(segment: &Segment) -> Result<Bytes, WireFault> {
    let entries = segment.entries().iter().map(WireEntry::new).collect::<Result<_, _>>()?;
    let signature = halves(&segment.head().signature);
    encode(&WireSegment::Segment { entries: Bounded::new(entries)?, signature })
}

/// A segment from its bytes, which come without their length: sound in form, and not yet checked against keys.
///
/// # Errors
/// They are none; [`WireFault::Segment`] where they are entries that don't make a segment.
pub fn decode_segment(bytes: &[u8], federation: &FederationId) -> Result<Segment, WireFault> {
    let WireSegment::Segment { entries, signature } = decode(bytes, WireSegment::KINDS)?;
    let entries = entries.0.into_iter().map(|entry| entry.read(federation)).collect::<Result<Vec<_>, _>>()?;
    let last = entries.last().ok_or(SegmentFault::Empty)?;
    let head =
        Head { author: last.author(), seq: last.seq(), hash: last.hash(), signature: whole(signature) };
    Ok(Segment::new(entries, head)?)
}

/// Whose entries a segment's bytes hold and which is the last, as they say themselves; `None` where they can't be a segment. Nothing is
/// checked: whoever believes it must lose nothing where it is not so.
#[must_use]
pub fn peek_segment(bytes: &[u8]) -> Option<(NodeId, Seq)> {
    let (kind, rest) = bytes.split_first_chunk::<KIND_BYTES>()?;
    let (count, rest) = rest.split_first_chunk::<COUNT_BYTES>()?;
    let (header, rest) = rest.split_first_chunk::<COUNT_BYTES>()?;
    let (author, rest) = rest.split_first_chunk::<32>()?;
    let (first, _) = rest.split_first_chunk::<8>()?;
    let is_one = *kind == [0; KIND_BYTES] && u64::from_le_bytes(*header) <= HEADER_BYTES_MAX as u64;
    let others =
        u64::from_le_bytes(*count).checked_sub(1).filter(|others| *others < SEGMENT_ENTRIES_MAX as u64)?;
    let last = u64::from_le_bytes(*first).checked_add(others)?;
    is_one.then(|| (NodeId::from_stored(*author), Seq(last)))
}

/// A measure frame with its length before it.
///
/// # Errors
/// A dry thought that is not one entry with its content, or too long.
pub fn encode_measure(frame: &MeasureFrame) -> Result<Bytes, WireFault> {
    encode(&match frame {
        MeasureFrame::Floor => WireMeasure::Floor,
        MeasureFrame::FloorAt { port, token } => WireMeasure::FloorAt { port: *port, token: *token },
        MeasureFrame::NoFloor => WireMeasure::NoFloor,
        MeasureFrame::Dry { number, segment } => {
            let [entry] = segment.entries() else {
                return Err(WireFault::Malformed("a dry thought that is not one entry"));
            };
            let content = entry.content().ok_or(WireFault::Malformed("a dry thought without its content"))?;
            let (header, content) = (Blob::new(entry.header_bytes())?, Blob::new(content)?);
            let signature = halves(&segment.head().signature);
            WireMeasure::Dry { number: *number, header, content, signature }
        }
        MeasureFrame::Weighed { number, outcome } => {
            WireMeasure::Weighed { number: *number, outcome: place(&Weighed::ALL, outcome) }
        }
        MeasureFrame::Arena(ArenaWanted { writer, reader, duration_ms, synced }) => WireMeasure::Arena {
            writer: *writer.as_bytes(),
            reader: *reader.as_bytes(),
            duration_ms: *duration_ms,
            synced: *synced,
        },
        MeasureFrame::ArenaAt { node, port } => WireMeasure::ArenaAt { node: *node.as_bytes(), port: *port },
        MeasureFrame::NoArena(why) => WireMeasure::NoArena { why: place(&NoArena::ALL, why) },
        MeasureFrame::Tally { thoughts } => WireMeasure::Tally { thoughts: *thoughts },
        MeasureFrame::Tallied(Tally { thoughts, cpu_us }) => {
            WireMeasure::Tallied { thoughts: *thoughts, cpu_us: *cpu_us }
        }
        MeasureFrame::Bulk { bytes } => WireMeasure::Bulk { bytes: *bytes },
        MeasureFrame::Taken { bytes } => WireMeasure::Taken { bytes: *bytes },
    })
}

/// Where it stands in the list of all there are.
fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    let place = all.iter().position(|other| other == one);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

/// A measure frame from its bytes, which come without their length. A dry thought is sound in form, and not yet checked against keys.
///
/// # Errors
/// They are none.
pub fn decode_measure(bytes: &[u8], federation: &FederationId) -> Result<MeasureFrame, WireFault> {
    Ok(match decode(bytes, WireMeasure::KINDS)? {
        WireMeasure::Floor => MeasureFrame::Floor,
        WireMeasure::FloorAt { port, token } => MeasureFrame::FloorAt { port, token },
        WireMeasure::NoFloor => MeasureFrame::NoFloor,
        WireMeasure::Dry { number, header, content, signature } => {
            let content = Some(Bytes::copy_from_slice(content.0));
            let entry = Entry::parse(federation, Bytes::copy_from_slice(header.0), content)?;
            let signature = whole(signature);
            let head = Head { author: entry.author(), seq: entry.seq(), hash: entry.hash(), signature };
            MeasureFrame::Dry { number, segment: Segment::new(vec![entry], head)? }
        }
        WireMeasure::Weighed { number, outcome } => {
            let known = Weighed::ALL.get(usize::from(outcome)).copied();
            let outcome = known.ok_or(WireFault::Malformed("an outcome that there is not"))?;
            MeasureFrame::Weighed { number, outcome }
        }
        WireMeasure::Arena { writer, reader, duration_ms, synced } => {
            let (writer, reader) = (NodeId::from_key(writer)?, NodeId::from_key(reader)?);
            MeasureFrame::Arena(ArenaWanted { writer, reader, duration_ms, synced })
        }
        WireMeasure::ArenaAt { node, port } => MeasureFrame::ArenaAt { node: NodeId::from_key(node)?, port },
        WireMeasure::NoArena { why } => {
            let known = NoArena::ALL.get(usize::from(why)).copied();
            MeasureFrame::NoArena(known.ok_or(WireFault::Malformed("a reason that there is not"))?)
        }
        WireMeasure::Tally { thoughts } => MeasureFrame::Tally { thoughts },
        WireMeasure::Tallied { thoughts, cpu_us } => MeasureFrame::Tallied(Tally { thoughts, cpu_us }),
        WireMeasure::Bulk { bytes } if bytes > BULK_BLOCK_BYTES_MAX => {
            return Err(WireFault::Malformed("more bytes at once than may be"));
        }
        WireMeasure::Bulk { bytes } => MeasureFrame::Bulk { bytes },
        WireMeasure::Taken { bytes } => MeasureFrame::Taken { bytes },
    })
}

fn encode(frame: &impl Serialize) -> Result<Bytes, WireFault> {
    let mut bytes = vec![0; LENGTH_BYTES];
    encode_into_std_write(frame, &mut bytes, CONFIG)
        .map_err(|_| WireFault::Malformed("a value that has no bytes"))?;
    put_length(&mut bytes)?;
    Ok(Bytes::from(bytes))
}

fn with_length(frame: &[u8]) -> Result<Bytes, WireFault> {
    let mut bytes = vec![0; LENGTH_BYTES];
    bytes.extend_from_slice(frame);
    put_length(&mut bytes)?;
    Ok(Bytes::from(bytes))
}

/// Writes the length of what stands behind the place for it.
fn put_length(bytes: &mut [u8]) -> Result<(), WireFault> {
    let length = bytes.len() - LENGTH_BYTES;
    let written = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX);
    let written = written.ok_or(WireFault::TooLarge { bytes: length })?;
    if let Some(place) = bytes.first_chunk_mut::<LENGTH_BYTES>() {
        *place = written.to_le_bytes();
    }
    Ok(())
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], kinds: u32) -> Result<T, WireFault> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(WireFault::TooLarge { bytes: bytes.len() });
    }
    let kind = bytes.first_chunk::<KIND_BYTES>().ok_or(WireFault::Malformed("a frame without a kind"))?;
    let kind = u32::from_le_bytes(*kind);
    if kind >= kinds {
        return Err(WireFault::UnknownKind(kind));
    }
    let (value, used) = borrow_decode_from_slice(bytes, CONFIG)
        .map_err(|_| WireFault::Malformed("bytes that are no frame"))?;
    if used != bytes.len() {
        return Err(WireFault::Malformed("a frame with bytes left over"));
    }
    Ok(value)
}

/// A Hello that does not decode is named for its version, where that differs: the two nodes should hear
/// "update", not "garbage". The version stands right behind the kind, and always will.
fn other_version(bytes: &[u8], fault: WireFault) -> WireFault {
    let hello = matches!(bytes, [0 | 1, 0, 0, 0, ..]);
    match (fault, bytes.get(KIND_BYTES..).and_then(|rest| rest.first_chunk())) {
        (WireFault::Malformed(_), Some(version)) if hello && *version != PROTOCOL_VERSION.to_le_bytes() => {
            WireFault::Version(u16::from_le_bytes(*version))
        }
        (fault, _) => fault,
    }
}

#[cfg(test)]
mod tests;
