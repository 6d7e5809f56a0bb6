//! What the ledger costs: measuring a content, folding a thought, hashing an account. `cargo bench --bench ledger`

use std::hint::black_box;

use cogmesh::ledger::{
    Account, Facts, Policy, fold, measure,
    types::{Level, Millis},
};
use criterion::{Criterion, criterion_group, criterion_main};

const THOUGHT: &str = "Signed logs let every machine recompute balances alone, so agreement needs neither leader nor voting \
                       rounds, and catching up after an absence is a matter of comparing heads and asking for segments.";

fn ledger(criterion: &mut Criterion) {
    let longest = THOUGHT.repeat(84);
    criterion.bench_function("measure 200 bytes", |bencher| bencher.iter(|| measure(black_box(THOUGHT))));
    criterion.bench_function("measure 16 KiB", |bencher| bencher.iter(|| measure(black_box(&longest))));

    let policy = Policy { rate_base: 1_000_000, ..Policy::default() };
    let mut account = Account::open(&policy, Level::MAX, Millis(0));
    let mut features = measure(THOUGHT);
    let mut number = 0_u64;
    let mut next = || {
        number += 1;
        features.fingerprint[..8].copy_from_slice(&number.to_le_bytes());
        Facts { time: Millis(number), content_bytes: 200, features }
    };
    for _ in 0..policy.duplicate_window {
        let _filled = fold(&policy, &mut account, &next());
    }
    criterion.bench_function("fold a thought, full window of fingerprints", |bencher| {
        bencher.iter(|| fold(&policy, &mut account, &next()));
    });
    criterion.bench_function("digest of an account", |bencher| bencher.iter(|| account.digest()));
}

criterion_group!(benches, ledger);
criterion_main!(benches);
