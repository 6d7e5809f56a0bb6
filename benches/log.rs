//! What the log costs: hashing a header, signing and verifying a head, verifying segments, and trying nonces.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to say")]

use std::{hint::black_box, num::NonZeroU64, sync::atomic::AtomicBool};

use bytes::Bytes;
use cogmesh::{
    ledger::types::{Level, Millis, Seq},
    log::{
        Body, Entry, FederationId, Genesis, Hardware, Hash, Head, Header, Identity, Mode, Nonce, Rules,
        Search, Segment, Thought, identity::work_bits,
    },
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const FEDERATION: FederationId = FederationId([7; 32]);
const CONTENT: &str = "What emerges when economic incentives align with epistemic quality in distributed consciousness networks?";

fn identity() -> Identity {
    Identity::from_seed(&[1; 32]).unwrap()
}

/// A log of that many entries, the first without proof of work.
fn entries(count: u64) -> Vec<Entry> {
    let author = identity().node_id();
    let mut prev = Hash::ZERO;
    let mut out = Vec::new();
    for seq in 0..count {
        let (body, content) = if seq == 0 { (genesis(), None) } else { (thought(), Some(CONTENT)) };
        let header = Header { author, seq: Seq(seq), prev, time: Millis(seq), body };
        let entry = Entry::new(&FEDERATION, header, content);
        prev = entry.hash();
        out.push(entry);
    }
    out
}

fn genesis() -> Body {
    Body::Genesis(Genesis {
        name: "legion".parse().unwrap(),
        hardware: Hardware::Software,
        level: Level::MAX,
        arch: "x86_64".parse().unwrap(),
        nonce: Nonce(0),
    })
}

fn thought() -> Body {
    Body::Thought(Thought::new("main".parse().unwrap(), Mode::Exploring, CONTENT))
}

/// Thoughts alone, as they travel once their author is known.
fn segment(count: u64) -> Segment {
    let thoughts = entries(count + 1).split_off(1);
    Segment::own(thoughts, &identity(), &FEDERATION).unwrap().into_inner()
}

fn headers(c: &mut Criterion) {
    let entry = entries(2).pop().unwrap();
    let header = entry.header().clone();
    c.bench_function("header/write", |b| b.iter(|| black_box(&header).to_bytes()));
    let bytes: Bytes = entry.header_bytes().clone();
    c.bench_function("header/parse_and_hash", |b| {
        b.iter(|| Entry::parse(&FEDERATION, black_box(&bytes).clone(), None));
    });
    c.bench_function("entry/check_content", |b| {
        b.iter(|| black_box(&entry).check_content());
    });
}

fn heads(c: &mut Criterion) {
    let identity = identity();
    let head = Head::sign(&identity, &FEDERATION, Seq(1), Hash([2; 32]));
    c.bench_function("head/sign", |b| {
        b.iter(|| Head::sign(&identity, &FEDERATION, black_box(Seq(1)), Hash([2; 32])));
    });
    c.bench_function("head/verify", |b| b.iter(|| black_box(&head).verify(&FEDERATION)));
}

fn segments(c: &mut Criterion) {
    let rules = Rules { federation: FEDERATION, pow_bits: 0, content_bytes_max: 16_384 };
    let mut group = c.benchmark_group("segment/verify");
    for count in [1, 64] {
        let segment = segment(count);
        group.throughput(Throughput::Elements(count));
        group.bench_function(count.to_string(), |b| {
            b.iter_batched(
                || segment.clone(),
                |segment| segment.verify(&rules),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn work(c: &mut Criterion) {
    let node = identity().node_id();
    c.bench_function("work/check", |b| {
        b.iter(|| work_bits(&FEDERATION, &node, black_box(Nonce(5))));
    });
    // No nonce has 255 leading zero bits, and the search ends with the last nonce: that many are tried.
    let nonces = 100_000;
    let search = Search {
        federation: FEDERATION,
        node,
        bits_min: 255,
        first: u64::MAX - nonces + 1,
        step: NonZeroU64::MIN,
    };
    let go = AtomicBool::new(false);
    let mut group = c.benchmark_group("work/search");
    group.throughput(Throughput::Elements(nonces));
    group.bench_function("nonces", |b| b.iter(|| black_box(&search).run(&go)));
    group.finish();
}

criterion_group!(benches, headers, heads, segments, work);
criterion_main!(benches);
