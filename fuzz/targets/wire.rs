//! Whatever bytes come on a stream or in a frame of any kind: no panic, no large allocation, what decodes is written again as it was, and
//! what is let through by a check stands it.

use bytes::{Bytes, BytesMut};
use cogmesh::{
    ledger::types::{Level, MicroAtp, Millis, Seq},
    log::{
        Alive, Body, Claim, Entry, FederationId, Genesis, Hardware, Hash, Header, Identity, Mode, NodeRecord,
        Nonce, Proof, Revocation, Rules, Segment, Thought,
        books::Span,
        fault::{PROOF_BYTES_MAX, cover_bytes, parse_cover},
        segment::Unfit,
    },
    protocol::{
        frame::{
            ArenaWanted, BalanceFrame, ControlFrame, FaultReport, HeadReport, Hello, Instance, MeasureFrame,
            NoArena, PROTOCOL_VERSION, SignedRecord, Tally, Weighed,
        },
        refusal::{ABOUT_BYTES_MAX, Refusal, RefusalCode},
        wire::{
            FRAME_BYTES_MAX, LENGTH_BYTES, WireFault, decode_balance, decode_control, decode_measure,
            decode_segment, encode_balance, encode_control, encode_measure, encode_proof, encode_segment,
            peek_segment, take_frame,
        },
    },
};

const FEDERATION: FederationId = FederationId([7; 32]);
const RULES: Rules = Rules { federation: FEDERATION, pow_bits: 0, content_bytes_max: 16_384 };

/// What the first byte says that the others are.
const KINDS: u8 = 8;

/// Says whether the bytes were taken for what they are said to be.
pub(crate) fn check(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    match kind % KINDS {
        0 => same(decode_control(bytes).ok().map(|frame| encode_control(&frame)), bytes),
        1 => same(decode_balance(bytes).ok().map(|frame| encode_balance(&frame)), bytes),
        2 => segment(bytes),
        3 => proof(bytes),
        4 => cover(bytes),
        5 => stream(bytes),
        6 => refusal(bytes),
        _ => measure(bytes),
    }
}

/// What decoded must be written again as the same bytes: one value has one encoding.
fn same(again: Option<Result<Bytes, WireFault>>, bytes: &[u8]) -> bool {
    let Some(again) = again else { return false };
    let again = again.expect("what was decoded fits a frame");
    assert_eq!(&again[LENGTH_BYTES..], bytes);
    true
}

fn segment(bytes: &[u8]) -> bool {
    let seen = peek_segment(bytes);
    let Ok(segment) = decode_segment(bytes, &FEDERATION) else { return false };
    assert_eq!(seen, Some((segment.author(), segment.last())), "what is peeked is what is decoded");
    assert!(same(Some(encode_segment(&segment)), bytes));
    match segment.clone().verify_or_convict(&RULES) {
        Ok(verified) => assert_eq!(*verified, segment),
        Err(Unfit { fault, proof }) => {
            assert!(proof.is_none() || fault.is_proof_against_author());
            // Whoever is told of it must be convinced as well.
            if let Some(proof) = proof {
                let again = Proof::parse(&proof.to_bytes(), &FEDERATION).expect("a proof is sent as it is");
                assert!(again.verify(&RULES).is_ok());
            }
        }
    }
    true
}

fn measure(bytes: &[u8]) -> bool {
    same(decode_measure(bytes, &FEDERATION).ok().map(|frame| encode_measure(&frame)), bytes)
}

fn proof(bytes: &[u8]) -> bool {
    let Ok(proof) = Proof::parse(bytes, &FEDERATION) else { return false };
    assert_eq!(proof.to_bytes(), bytes);
    let frames = encode_proof(bytes).expect("whatever is a proof fits frames");
    assert_eq!(frames.iter().flat_map(|frame| frame[LENGTH_BYTES..].to_vec()).collect::<Vec<_>>(), bytes);
    if let Ok(proof) = proof.verify(&RULES) {
        assert!(bytes.len() <= PROOF_BYTES_MAX, "a peer would not read it");
        assert!(proof.cover().entry_at(proof.cut()).is_some());
    }
    true
}

fn cover(bytes: &[u8]) -> bool {
    let Ok(cover) = parse_cover(bytes, &FEDERATION) else { return false };
    assert_eq!(cover_bytes(&cover), bytes);
    assert!(cover.entries().iter().all(|entry| entry.content().is_none()));
    true
}

/// The same bytes are the same frames, in however large pieces they come.
fn stream(bytes: &[u8]) -> bool {
    let Some((step, bytes)) = bytes.split_first() else { return false };
    let whole = frames_of(std::iter::once(bytes));
    assert_eq!(frames_of(bytes.chunks(usize::from(*step).max(1))), whole);
    let read: usize = whole.0.iter().map(|frame| LENGTH_BYTES + frame.len()).sum();
    assert!(read <= bytes.len());
    !whole.0.is_empty()
}

fn frames_of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<WireFault>) {
    let (mut buffer, mut frames) = (BytesMut::new(), vec![]);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match take_frame(&mut buffer) {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= FRAME_BYTES_MAX);
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(fault) => return (frames, Some(fault)),
            }
        }
    }
    (frames, None)
}

/// The code and the reason with which the other side closed.
fn refusal(bytes: &[u8]) -> bool {
    let Some((code, about)) = bytes.split_first() else { return false };
    let Some(code) = RefusalCode::from_number(u64::from(*code)) else { return false };
    let refusal = Refusal::about(code, String::from_utf8_lossy(about));
    assert!(refusal.about.len() <= ABOUT_BYTES_MAX);
    assert!(!refusal.to_string().chars().any(char::is_control), "a terminal would obey it");
    let frame = encode_control(&ControlFrame::Refused(refusal.clone())).expect("every refusal can be told");
    assert_eq!(decode_control(&frame[LENGTH_BYTES..]), Ok(ControlFrame::Refused(refusal)));
    true
}

/// One value of each kind, as bytes that are taken.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let body = |frame: Result<Bytes, WireFault>| frame.unwrap()[LENGTH_BYTES..].to_vec();
    let mut seeds = vec![];
    let mut seed = |kind: u8, bytes: Vec<u8>| seeds.push([vec![kind], bytes].concat());
    for frame in control_frames() {
        seed(0, body(encode_control(&frame)));
    }
    for frame in balance_frames() {
        seed(1, body(encode_balance(&frame)));
    }
    let (long, other) = (log(&["one thought", "another", "a third"]), log(&["one thought", "not the other"]));
    let (long, other) = (own(&long), own(&other));
    for segment in [own(&log(&[])), long.clone(), long.clone().bare(), lie()] {
        seed(2, body(encode_segment(&segment)));
    }
    let fork = Proof::fork(long.clone(), other).unwrap();
    let Err(Unfit { proof: Some(lie), .. }) = lie().verify_or_convict(&RULES) else {
        panic!("a lie that holds")
    };
    seed(3, fork.to_bytes());
    seed(3, lie.to_bytes());
    seed(4, cover_bytes(&long.clone().bare()));
    let (ping, segment) = (encode_control(&control_frames()[2]).unwrap(), encode_segment(&long).unwrap());
    seed(5, [&[9][..], &ping, &ping].concat());
    seed(5, [&[64][..], &segment, &ping[..7]].concat());
    let measures = [
        MeasureFrame::Floor,
        MeasureFrame::FloorAt { port: 40_000, token: [9; 16] },
        MeasureFrame::NoFloor,
        MeasureFrame::Dry { number: 3, segment: own(&log(&["a thought that nobody keeps"])[1..]) },
        MeasureFrame::Weighed { number: 3, outcome: Weighed::Accepted },
        MeasureFrame::Arena(ArenaWanted {
            writer: identity().node_id(),
            reader: identity().node_id(),
            duration_ms: 5_000,
            synced: true,
        }),
        MeasureFrame::ArenaAt { node: identity().node_id(), port: 40_000 },
        MeasureFrame::NoArena(NoArena::Busy),
        MeasureFrame::Tally { thoughts: 7 },
        MeasureFrame::Tallied(Tally { thoughts: 7, cpu_us: 3 }),
        MeasureFrame::Bulk { bytes: 1 << 20 },
        MeasureFrame::Taken { bytes: 1 << 20 },
    ];
    for frame in measures {
        seed(7, body(encode_measure(&frame)));
    }
    seed(6, [&[15][..], "`rate_base` is é\u{1b}[2J".as_bytes()].concat());
    seeds
}

fn control_frames() -> Vec<ControlFrame> {
    let identity = identity();
    let addresses = ["192.168.1.4:8888", "[fd00::4]:8888"].map(|text| text.parse().unwrap()).to_vec();
    let record =
        NodeRecord::new(identity.node_id(), "legion".parse().unwrap(), addresses, Millis(3)).unwrap();
    let signed = SignedRecord { signature: record.sign(&identity), record };
    let claim = Claim { hardware: Hardware::Tpm2, level: Level::MAX, arch: "x86_64".parse().unwrap() };
    let hello = Hello {
        version: PROTOCOL_VERSION,
        federation: FEDERATION,
        policy: cogmesh::ledger::Policy::default().to_bytes(),
        record_signature: signed.signature,
        record: signed.record.clone(),
        claim_signature: claim.sign(&identity, &[1; 32]),
        claim,
        instance: Instance(6),
        nonce: Nonce(7),
        clock: Millis(8),
    };
    let alive = Alive::sign(&identity, &FEDERATION, 6, 7);
    let revocation = Revocation::sign(&identity, &FEDERATION, identity.node_id(), Millis(9));
    vec![
        ControlFrame::Hello(Box::new(hello.clone())),
        ControlFrame::Admitted(Box::new(hello)),
        ControlFrame::Ping { number: 1, clock: Millis(2) },
        ControlFrame::Pong { number: 3, clock: Millis(4) },
        ControlFrame::Rival { instance: Instance(5) },
        ControlFrame::Alive(alive),
        ControlFrame::Clone(alive),
        ControlFrame::Records(vec![signed.clone(), signed]),
        ControlFrame::About { software: "cogmesh 0.1.0".to_owned() },
        ControlFrame::Revocations(vec![revocation; 2]),
        ControlFrame::Refused(Refusal::about(RefusalCode::PolicyDiffers, "`rate_base` is é")),
    ]
}

fn balance_frames() -> Vec<BalanceFrame> {
    let segment = own(&log(&["one thought"]));
    let (author, head) = (segment.author(), *segment.head());
    let report = HeadReport { head, balance: MicroAtp(-3), digest: [4; 32] };
    let fault = FaultReport {
        author,
        cut: Seq(5),
        held: 5,
        hash: Hash([1; 32]),
        balance: MicroAtp(-3),
        digest: [4; 32],
    };
    vec![
        BalanceFrame::Heads(vec![report; 2]),
        BalanceFrame::Want { author, from: Seq(5) },
        BalanceFrame::Want { author, from: Seq(u64::MAX) },
        BalanceFrame::Mend { author, span: Span { first: Seq(5), last: Seq(6) } },
        BalanceFrame::Mend { author, span: Span { first: Seq(0), last: Seq(u64::MAX) } },
        BalanceFrame::Faults(vec![fault; 2]),
        BalanceFrame::Prove { author },
        BalanceFrame::Follow { author, on: true },
    ]
}

fn identity() -> Identity {
    Identity::from_seed(&[7; 32]).unwrap()
}

fn own(entries: &[Entry]) -> Segment {
    Segment::own(entries.to_vec(), &identity(), &FEDERATION).unwrap().into_inner()
}

/// A genesis entry and a thought for each content.
fn log(contents: &[&str]) -> Vec<Entry> {
    let genesis = Genesis {
        name: "legion".parse().unwrap(),
        hardware: Hardware::Software,
        level: Level::MAX,
        arch: "x86_64".parse().unwrap(),
        nonce: Nonce(0),
    };
    let header = Header {
        author: identity().node_id(),
        seq: Seq::GENESIS,
        prev: Hash::ZERO,
        time: Millis(1),
        body: Body::Genesis(genesis),
    };
    let mut entries = vec![Entry::new(&FEDERATION, header, None)];
    for content in contents {
        let thought = Thought::new("main".parse().unwrap(), Mode::Exploring, content);
        entries.push(after(&entries, thought, content));
    }
    entries
}

/// A segment whose signature holds, and whose last header says another length than its content has.
fn lie() -> Segment {
    let mut entries = log(&[]);
    let mut thought = Thought::new("main".parse().unwrap(), Mode::Exploring, "short");
    thought.content_bytes += 1;
    entries.push(after(&entries, thought, "short"));
    own(&entries)
}

fn after(entries: &[Entry], thought: Thought, content: &str) -> Entry {
    let before = entries.last().unwrap();
    let header = Header {
        author: before.author(),
        seq: before.seq().next(),
        prev: before.hash(),
        time: Millis(2),
        body: Body::Thought(thought),
    };
    Entry::new(&FEDERATION, header, Some(content))
}
