//! What framing costs: heads, which are exchanged by the thousand when two nodes meet, and segments, which are every thought.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros make functions without docs; a bench fails by panicking"
)]

use std::hint::black_box;

use cogmesh::{
    ledger::types::{Level, MicroAtp, Millis, Seq},
    log::{
        Architecture, Body, Entry, FederationId, Genesis, Hardware, Head, Header, Identity, Mode, Nonce,
        Rules, Segment, Signature, Thought, Verified, entry::Hash,
    },
    protocol::{
        frame::{BalanceFrame, HEADS_PER_FRAME_MAX, HeadReport},
        wire,
    },
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const FEDERATION: FederationId = FederationId([5; 32]);

fn heads(count: usize) -> BalanceFrame {
    let author = Identity::from_seed(&[7; 32]).unwrap().node_id();
    let head = Head { author, seq: Seq(1), hash: Hash([1; 32]), signature: Signature([2; 64]) };
    BalanceFrame::Heads(vec![HeadReport { head, balance: MicroAtp(3), digest: [4; 32] }; count])
}

/// A genesis entry and that many thoughts of 240 bytes.
fn segment(thoughts: usize) -> Verified<Segment> {
    let identity = Identity::from_seed(&[7; 32]).unwrap();
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
    for number in 0..thoughts {
        let content = format!("thought {number}: {}", "networks remember what members forget ".repeat(6));
        header.seq = header.seq.next();
        header.prev = entries.last().unwrap().hash();
        header.body = Body::Thought(Thought::new("main".parse().unwrap(), Mode::Exploring, &content));
        entries.push(Entry::new(&FEDERATION, header.clone(), Some(&content)));
    }
    Segment::own(entries, &identity, &FEDERATION).unwrap()
}

fn framing(c: &mut Criterion) {
    for count in [1, HEADS_PER_FRAME_MAX] {
        let frame = heads(count);
        let bytes = wire::encode_balance(&frame).unwrap();
        let (_, body) = bytes.split_at(wire::LENGTH_BYTES);
        let mut group = c.benchmark_group(format!("{count} heads"));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function("encode", |b| b.iter(|| wire::encode_balance(black_box(&frame))));
        group.bench_function("decode", |b| b.iter(|| wire::decode_balance(black_box(body))));
    }
    for thoughts in [1, 500] {
        let segment = segment(thoughts);
        let bytes = wire::encode_segment(&segment).unwrap();
        let (_, body) = bytes.split_at(wire::LENGTH_BYTES);
        let rules = Rules { federation: FEDERATION, pow_bits: 0, content_bytes_max: 10_000 };
        let mut group = c.benchmark_group(format!("segment of {thoughts} thoughts"));
        group.throughput(Throughput::Elements(thoughts as u64));
        group.bench_function("encode", |b| b.iter(|| wire::encode_segment(black_box(&segment))));
        group.bench_function("decode", |b| {
            b.iter(|| wire::decode_segment(black_box(body), &FEDERATION));
        });
        group.bench_function("verify", |b| {
            b.iter(|| segment.get().clone().verify(black_box(&rules)));
        });
    }
}

criterion_group!(benches, framing);
criterion_main!(benches);
