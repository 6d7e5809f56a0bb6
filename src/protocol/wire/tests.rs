//! What is asked of the wire: every frame comes back, nothing else decodes, and no bytes hurt.

use std::net::SocketAddr;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    ledger::types::{Level, MicroAtp},
    log::{
        Alive, Architecture, Body, Claim, Entry, Genesis, Hardware, Header, Identity, Mode, NodeRecord,
        Nonce, Revocation, Signature, Thought, Verified, entry::Hash,
    },
    protocol::frame::{
        DRY_CONTENT_BYTES_MAX, FaultReport, HeadReport, Hello, Instance, REVOCATIONS_PER_FRAME_MAX,
        SignedRecord,
    },
};

const FEDERATION: FederationId = FederationId([5; 32]);

fn identity() -> Identity {
    Identity::from_seed(&[7; 32]).unwrap()
}

fn hello() -> Hello {
    let identity = identity();
    let addresses: Vec<SocketAddr> =
        ["192.168.1.4:8888", "[fd00::4]:8888"].map(|a| a.parse().unwrap()).to_vec();
    let name = "legion".parse().unwrap();
    let record = NodeRecord::new(identity.node_id(), name, addresses, Millis(3)).unwrap();
    let claim =
        Claim { hardware: Hardware::Tpm2, level: Level::MAX, arch: Architecture::new("x86_64").unwrap() };
    Hello {
        version: PROTOCOL_VERSION,
        federation: FEDERATION,
        policy: vec![9; 200],
        record_signature: record.sign(&identity),
        record,
        claim_signature: claim.sign(&identity, &[1; 32]),
        claim,
        instance: Instance(6),
        nonce: Nonce(7),
        clock: Millis(8),
    }
}

fn signed_record() -> SignedRecord {
    let Hello { record, record_signature: signature, .. } = hello();
    SignedRecord { record, signature }
}

fn report(seq: u64) -> HeadReport {
    let author = identity().node_id();
    let head = Head { author, seq: Seq(seq), hash: Hash([1; 32]), signature: Signature([2; 64]) };
    HeadReport { head, balance: MicroAtp(-3), digest: [4; 32] }
}

fn fault_report(held: u64) -> FaultReport {
    let (author, hash) = (identity().node_id(), Hash([1; 32]));
    FaultReport { author, cut: Seq(5_000), held, hash, balance: MicroAtp(-3), digest: [4; 32] }
}

/// A genesis entry and a thought for each content.
fn segment<'a>(contents: impl IntoIterator<Item = &'a str>) -> Verified<Segment> {
    let identity = identity();
    let genesis = Genesis {
        name: "legion".parse().unwrap(),
        hardware: Hardware::Software,
        level: Level::MAX,
        arch: Architecture::new("x86_64").unwrap(),
        nonce: Nonce(0),
    };
    let mut header = Header {
        author: identity.node_id(),
        seq: Seq::GENESIS,
        prev: Hash::ZERO,
        time: Millis(1),
        body: Body::Genesis(genesis),
    };
    let mut entries = vec![Entry::new(&FEDERATION, header.clone(), None)];
    for content in contents {
        header.seq = header.seq.next();
        header.prev = entries.last().unwrap().hash();
        header.body = Body::Thought(Thought::new("main".parse().unwrap(), Mode::Exploring, content));
        entries.push(Entry::new(&FEDERATION, header.clone(), Some(content)));
    }
    Segment::own(entries, &identity, &FEDERATION).unwrap()
}

fn body(frame: &Bytes) -> &[u8] {
    let (length, body) = frame.split_first_chunk().unwrap();
    assert_eq!(usize::try_from(u32::from_le_bytes(*length)).unwrap(), body.len());
    body
}

fn revocation() -> Revocation {
    Revocation { node: identity().node_id(), time: Millis(9), signature: Signature([8; 64]) }
}

fn control_frames() -> Vec<ControlFrame> {
    let mut frames = vec![
        ControlFrame::Hello(Box::new(hello())),
        ControlFrame::Admitted(Box::new(hello())),
        ControlFrame::Ping { number: 1, clock: Millis(2) },
        ControlFrame::Pong { number: 3, clock: Millis(4) },
        ControlFrame::Rival { instance: Instance(5) },
        ControlFrame::Alive(Alive { instance: 6, other: 7, signature: Signature([8; 64]) }),
        ControlFrame::Clone(Alive { instance: 6, other: 7, signature: Signature([8; 64]) }),
        ControlFrame::About { software: "cogmesh 0.1.0".to_owned() },
        ControlFrame::Revocations(vec![]),
        ControlFrame::Revocations(vec![revocation(); REVOCATIONS_PER_FRAME_MAX]),
        ControlFrame::Records(vec![]),
        ControlFrame::Records(vec![signed_record(); 2]),
        ControlFrame::Records(vec![signed_record(); RECORDS_PER_FRAME_MAX]),
    ];
    frames
        .extend(RefusalCode::ALL.map(|code| ControlFrame::Refused(Refusal::about(code, "`rate_base` is é"))));
    frames
}

fn balance_frames() -> Vec<BalanceFrame> {
    vec![
        BalanceFrame::Heads(vec![]),
        BalanceFrame::Heads((0..HEADS_PER_FRAME_MAX as u64).map(report).collect()),
        BalanceFrame::Want { author: identity().node_id(), from: Seq(5) },
        BalanceFrame::Mend { author: identity().node_id(), span: Span { first: Seq(5), last: Seq(5) } },
        BalanceFrame::Faults((0..HEADS_PER_FRAME_MAX as u64).map(fault_report).collect()),
        BalanceFrame::Prove { author: identity().node_id() },
        BalanceFrame::Follow { author: identity().node_id(), on: true },
        BalanceFrame::Follow { author: identity().node_id(), on: false },
    ]
}

#[test]
fn every_frame_comes_back_as_it_went() {
    for frame in control_frames() {
        assert_eq!(decode_control(body(&encode_control(&frame).unwrap())), Ok(frame));
    }
    for frame in balance_frames() {
        assert_eq!(decode_balance(body(&encode_balance(&frame).unwrap())), Ok(frame));
    }
    for contents in [&[][..], &["one thought"], &["one thought", "and another one"]] {
        let sent = segment(contents.iter().copied());
        assert_eq!(
            decode_segment(body(&encode_segment(&sent).unwrap()), &FEDERATION).as_ref(),
            Ok(sent.get())
        );
    }
}

/// A thought without what came before it.
fn dry(content: &str) -> Segment {
    let (mut entries, head) = segment([content]).into_inner().into_parts();
    let entry = entries.pop().unwrap();
    Segment::new(vec![entry], head).unwrap()
}

fn measure_frames() -> Vec<MeasureFrame> {
    let mut frames = vec![
        MeasureFrame::Floor,
        MeasureFrame::FloorAt { port: 40_000, token: [9; 16] },
        MeasureFrame::NoFloor,
        MeasureFrame::Dry { number: 7, segment: dry("a dry thought") },
        MeasureFrame::Dry { number: 8, segment: dry(&"x".repeat(DRY_CONTENT_BYTES_MAX)) },
    ];
    frames.extend(Weighed::ALL.map(|outcome| MeasureFrame::Weighed { number: u64::MAX, outcome }));
    let [writer, reader] = [1, 2].map(|seed| Identity::from_seed(&[seed; 32]).unwrap().node_id());
    frames.extend(
        [true, false]
            .map(|synced| ArenaWanted { writer, reader, duration_ms: 5_000, synced })
            .map(MeasureFrame::Arena),
    );
    frames.push(MeasureFrame::ArenaAt { node: reader, port: 40_000 });
    frames.extend(NoArena::ALL.map(MeasureFrame::NoArena));
    frames.push(MeasureFrame::Tally { thoughts: 7 });
    frames.push(MeasureFrame::Tallied(Tally { thoughts: u64::MAX, cpu_us: 3 }));
    frames.push(MeasureFrame::Bulk { bytes: BULK_BLOCK_BYTES_MAX });
    frames.push(MeasureFrame::Taken { bytes: u32::MAX });
    frames
}

#[test]
fn every_measure_frame_comes_back_as_it_went() {
    for frame in measure_frames() {
        assert_eq!(decode_measure(body(&encode_measure(&frame).unwrap()), &FEDERATION), Ok(frame));
    }
}

#[test]
fn what_a_measure_frame_can_not_say_is_refused() {
    let reader = Identity::from_seed(&[1; 32]).unwrap().node_id();
    let spoiled = |frame, at: usize, bytes: &[u8]| {
        let mut spoiled = body(&encode_measure(&frame).unwrap()).to_vec();
        spoiled[at..at + bytes.len()].copy_from_slice(bytes);
        decode_measure(&spoiled, &FEDERATION)
    };
    let too_much = (BULK_BLOCK_BYTES_MAX + 1).to_le_bytes();
    let bulk = MeasureFrame::Bulk { bytes: BULK_BLOCK_BYTES_MAX };
    assert!(matches!(spoiled(bulk, 4, &too_much), Err(WireFault::Malformed(_))));
    assert!(matches!(spoiled(MeasureFrame::NoArena(NoArena::Failed), 4, &[6]), Err(WireFault::Malformed(_))));
    let arena = MeasureFrame::Arena(ArenaWanted { writer: reader, reader, duration_ms: 1, synced: true });
    assert!(matches!(spoiled(arena.clone(), 4, &[0; 32]), Err(WireFault::Key(_))), "a key of small order");
    assert!(matches!(spoiled(arena, 72, &[2]), Err(WireFault::Malformed(_))));
    let at = MeasureFrame::ArenaAt { node: reader, port: 1 };
    assert!(matches!(spoiled(at, 4, &[0; 32]), Err(WireFault::Key(_))));
}

#[test]
fn a_dry_thought_is_one_entry_with_a_short_content() {
    let dry_of = |segment| encode_measure(&MeasureFrame::Dry { number: 1, segment });
    let long = dry(&"x".repeat(DRY_CONTENT_BYTES_MAX + 1));
    assert!(matches!(dry_of(long), Err(WireFault::TooLarge { .. })));
    assert!(matches!(dry_of(segment(["one", "two"]).into_inner()), Err(WireFault::Malformed(_))));
    assert!(matches!(dry_of(dry("pruned").bare()), Err(WireFault::Malformed(_))));
    // What another program sends that keeps to no bound: the content's length stands behind kind, number, header and its length.
    let mut bytes = body(&dry_of(dry("x")).unwrap()).to_vec();
    let header = u64::from_le_bytes(bytes[12..20].try_into().unwrap()) as usize;
    let claimed = DRY_CONTENT_BYTES_MAX as u64 + 1;
    bytes[20 + header..28 + header].copy_from_slice(&claimed.to_le_bytes());
    bytes.resize(bytes.len() + DRY_CONTENT_BYTES_MAX, b'x');
    assert!(matches!(decode_measure(&bytes, &FEDERATION), Err(WireFault::Malformed(_))));
    let outcome = MeasureFrame::Weighed { number: 1, outcome: Weighed::Busy };
    let mut bytes = body(&encode_measure(&outcome).unwrap()).to_vec();
    *bytes.last_mut().unwrap() = 5;
    assert!(matches!(decode_measure(&bytes, &FEDERATION), Err(WireFault::Malformed(_))));
}

#[test]
fn a_fault_report_that_holds_more_than_its_cut_leaves_is_refused() {
    let frame = encode_balance(&BalanceFrame::Faults(vec![fault_report(5_001)])).unwrap();
    assert!(matches!(decode_balance(body(&frame)), Err(WireFault::Malformed(_))));
}

#[test]
fn a_long_proof_goes_in_several_frames() {
    let proof: Vec<u8> = (0..FRAME_BYTES_MAX + 7).map(|byte| byte as u8).collect();
    let frames = encode_proof(&proof).unwrap();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames.iter().flat_map(|frame| body(frame).to_vec()).collect::<Vec<_>>(), proof);
}

#[test]
fn a_pruned_content_is_not_an_empty_one() {
    let (mut entries, head) = segment(["gone"]).into_inner().into_parts();
    let last = entries.pop().unwrap();
    entries.push(Entry::parse(&FEDERATION, last.header_bytes().clone(), None).unwrap());
    let pruned = Segment::new(entries, head).unwrap();
    let heard = decode_segment(body(&encode_segment(&pruned).unwrap()), &FEDERATION).unwrap();
    assert_eq!(heard.entries()[1].content(), None);
    assert_eq!(heard, pruned);
}

#[test]
fn the_segment_budget_certainly_fits_and_what_is_over_a_frame_is_an_error() {
    let long = "x".repeat(4_000);
    let genesis = segment([]).byte_len() - Head::BYTES;
    let each = segment([long.as_str()]).byte_len() - Head::BYTES - genesis;
    let fitting = (SEGMENT_BYTES_MAX - genesis) / each;
    let frame = encode_segment(&segment((0..fitting).map(|_| long.as_str()))).unwrap();
    assert!(decode_segment(body(&frame), &FEDERATION).is_ok());
    let over = segment((0..fitting + 6).map(|_| long.as_str()));
    assert!(matches!(encode_segment(&over), Err(WireFault::TooLarge { .. })));

    // The other end of the budget: as many entries as there may be, so that what each needs besides its bytes counts most.
    let header = segment(["x"]).byte_len() - Head::BYTES - genesis - 1;
    let content_bytes = (SEGMENT_BYTES_MAX - genesis) / (SEGMENT_ENTRIES_MAX - 1) - header;
    let many: Vec<String> = (0..SEGMENT_ENTRIES_MAX - 1).map(|i| format!("{i:0content_bytes$}")).collect();
    let many = segment(many.iter().map(String::as_str));
    assert!(
        many.byte_len() > SEGMENT_BYTES_MAX - 1_000 && many.byte_len() - Head::BYTES <= SEGMENT_BYTES_MAX
    );
    let frame = encode_segment(&many).unwrap();
    assert_eq!(decode_segment(body(&frame), &FEDERATION).as_ref(), Ok(many.get()));
}

#[test]
fn a_byte_left_over_or_missing_is_malformed_and_an_unknown_kind_is_named() {
    let frame = encode_control(&ControlFrame::Ping { number: 1, clock: Millis(2) }).unwrap();
    let mut bytes = body(&frame).to_vec();
    bytes.push(0);
    assert!(matches!(decode_control(&bytes), Err(WireFault::Malformed(_))));
    bytes.truncate(bytes.len() - 2);
    assert!(matches!(decode_control(&bytes), Err(WireFault::Malformed(_))));
    assert!(matches!(decode_control(&[]), Err(WireFault::Malformed(_))));

    bytes[..4].copy_from_slice(&77_u32.to_le_bytes());
    let fault = decode_control(&bytes).unwrap_err();
    assert_eq!(fault, WireFault::UnknownKind(77));
    assert_eq!(fault.refusal().code, RefusalCode::UnknownKind);
    assert_eq!(decode_balance(&bytes), Err(WireFault::UnknownKind(77)));
    assert_eq!(decode_segment(&bytes, &FEDERATION), Err(WireFault::UnknownKind(77)));

    let long = vec![0; FRAME_BYTES_MAX + 1];
    assert_eq!(decode_control(&long).unwrap_err().refusal().code, RefusalCode::FrameTooLarge);
}

#[test]
fn a_hello_of_another_version_is_refused_for_its_version_and_not_as_garbage() {
    let frame = encode_control(&ControlFrame::Hello(Box::new(hello()))).unwrap();
    let mut bytes = body(&frame).to_vec();
    bytes[4..6].copy_from_slice(&2_u16.to_le_bytes());
    bytes.truncate(100);
    let fault = decode_control(&bytes).unwrap_err();
    assert_eq!(fault, WireFault::Version(2));
    assert_eq!(fault.refusal().code, RefusalCode::Version);
    // With our own version it is garbage.
    bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    assert!(matches!(decode_control(&bytes), Err(WireFault::Malformed(_))));
}

#[test]
fn a_weak_key_is_no_author() {
    let frame = encode_balance(&BalanceFrame::Want { author: identity().node_id(), from: Seq(5) }).unwrap();
    let mut bytes = body(&frame).to_vec();
    bytes[4..36].fill(0);
    assert_eq!(decode_balance(&bytes), Err(WireFault::Key(KeyFault::SmallOrder)));
}

#[test]
fn more_than_a_field_may_have_is_refused_both_ways() {
    let fat = Hello { policy: vec![0; 513], ..hello() };
    assert!(encode_control(&ControlFrame::Hello(Box::new(fat))).is_err());
    let heads = BalanceFrame::Heads((0..=HEADS_PER_FRAME_MAX as u64).map(report).collect());
    assert!(encode_balance(&heads).is_err());
    let records = ControlFrame::Records(vec![signed_record(); RECORDS_PER_FRAME_MAX + 1]);
    assert!(encode_control(&records).is_err());

    // A claim of 2^62 elements, or of a few more than allowed, is refused before room is made for it.
    for claimed in [u64::MAX >> 2, HEADS_PER_FRAME_MAX as u64 + 1, 1] {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&claimed.to_le_bytes());
        assert!(matches!(decode_balance(&bytes), Err(WireFault::Malformed(_))), "{claimed}");
        assert!(matches!(decode_segment(&bytes, &FEDERATION), Err(WireFault::Malformed(_))), "{claimed}");
    }
}

/// Bytes that are nearly a frame: a real one with some bytes changed.
fn mutated(frames: Vec<Bytes>) -> impl Strategy<Value = Vec<u8>> {
    let frame = proptest::sample::select(frames);
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6);
    (frame, changes, 0_usize..4).prop_map(|(frame, changes, cut)| {
        let mut bytes = body(&frame).to_vec();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - if cut == 1 { 1 } else { 0 });
        bytes
    })
}

fn small_frames() -> Vec<Bytes> {
    let control = control_frames().into_iter().map(|frame| encode_control(&frame).unwrap());
    let heads = BalanceFrame::Heads(vec![report(1), report(2)]);
    let want = BalanceFrame::Want { author: identity().node_id(), from: Seq(5) };
    let balance = [heads, want].map(|frame| encode_balance(&frame).unwrap());
    let segments = [encode_segment(&segment(["one", "two"])).unwrap()];
    let measure = measure_frames().into_iter().map(|frame| encode_measure(&frame).unwrap());
    control.chain(balance).chain(segments).chain(measure).collect()
}

/// What decodes is written again as the same bytes; nothing panics.
fn check(bytes: &[u8]) {
    if let Ok(frame) = decode_control(bytes) {
        assert_eq!(body(&encode_control(&frame).unwrap()), bytes);
    }
    if let Ok(frame) = decode_balance(bytes) {
        assert_eq!(body(&encode_balance(&frame).unwrap()), bytes);
    }
    if let Ok(segment) = decode_segment(bytes, &FEDERATION) {
        assert_eq!(body(&encode_segment(&segment).unwrap()), bytes);
    }
    if let Ok(frame) = decode_measure(bytes, &FEDERATION) {
        assert_eq!(body(&encode_measure(&frame).unwrap()), bytes);
    }
}

proptest! {
    #[test]
    fn whatever_bytes_come_nothing_panics_and_what_decodes_is_canonical(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        kind in 0_u8..10,
    ) {
        check(&bytes);
        let mut bytes = bytes;
        for (at, byte) in [kind, 0, 0, 0].into_iter().enumerate() {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        check(&bytes);
    }

    #[test]
    fn whatever_is_changed_in_a_frame_what_decodes_is_canonical(bytes in mutated(small_frames())) {
        check(&bytes);
    }
}
