//! Chaos: whatever the network, the disks and the clocks do, all honest nodes end with the same books. Every seed is another
//! plan of what happens; the same seed gives the same run.
//!
//! `COGMESH_SIM_SEEDS=10000 cargo test --test sim chaos` runs more seeds than usual, `COGMESH_SIM_FIRST=N` begins with
//! another one, and `COGMESH_SIM_SEED=N cargo test --test sim chaos -- --nocapture` runs one and shows all that happens in it.

#![allow(clippy::print_stdout, reason = "a trace is for people")]

mod plan;
mod plants;
mod run;

use self::{
    plan::Plan,
    run::{Outcome, Run},
};
use crate::world::Trace;

/// Seeds that every test run looks at.
const SEEDS: u64 = 500;
/// Tests among which they are divided, so that they use several cores.
const PARTS: u64 = 4;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Whether one seed is to be shown, and nothing else.
fn is_replayed() -> bool {
    number("COGMESH_SIM_SEED").is_some()
}

fn run(seed: u64, trace: Trace) -> Outcome {
    Run::new(seed, Plan::draw(seed), trace).outcome()
}

fn run_part(part: u64) {
    if let Some(seed) = number("COGMESH_SIM_SEED") {
        if seed % PARTS == part {
            show(seed);
        }
        return;
    }
    let first = number("COGMESH_SIM_FIRST").unwrap_or(0);
    let end = first + number("COGMESH_SIM_SEEDS").unwrap_or(SEEDS);
    let mut failures = String::new();
    let mut totals = [0_u64; 6];
    for seed in (first..end).filter(|seed| seed % PARTS == part) {
        let outcome = run(seed, Trace::Off);
        let these =
            [1, outcome.settled_ms, outcome.caught_up, outcome.caught_up_new, outcome.live, outcome.live_new];
        totals.iter_mut().zip(these).for_each(|(total, one)| *total += one);
        if let Some(fault) = outcome.faults.first() {
            failures += &format!(
                "seed {seed}: {:?} at {} ms: {}\n  to see it: COGMESH_SIM_SEED={seed} cargo test --test sim chaos -- --nocapture\n",
                fault.check, fault.at, fault.what
            );
        }
    }
    let [count, settled, caught_up, caught_up_new, live, live_new] = totals;
    println!(
        "{count} seeds: settled after {} ms on average; {caught_up} entries on catch-up streams, {caught_up_new} of them new; {live} \
         live, {live_new} of them new",
        settled / count.max(1)
    );
    assert!(failures.is_empty(), "\n{failures}");
}

/// Runs one seed and prints all that happens.
fn show(seed: u64) {
    let plan = Plan::draw(seed);
    let header = format!("{plan:#?}");
    let outcome = Run::new(seed, plan, Trace::Kept(vec![])).outcome();
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("{}", header.lines().take_while(|line| !line.contains("deeds")).collect::<Vec<_>>().join("\n"));
    println!("settled after {} ms, trace {:016x}", outcome.settled_ms, outcome.trace);
    assert!(outcome.faults.is_empty(), "{:#?}", outcome.faults);
}

#[test]
fn chaos_leaves_all_with_the_same_books_part_one() {
    run_part(0);
}

#[test]
fn chaos_leaves_all_with_the_same_books_part_two() {
    run_part(1);
}

#[test]
fn chaos_leaves_all_with_the_same_books_part_three() {
    run_part(2);
}

#[test]
fn chaos_leaves_all_with_the_same_books_part_four() {
    run_part(3);
}

#[test]
fn in_chaos_too_the_same_seed_gives_the_same_trace() {
    if is_replayed() {
        return;
    }
    for seed in 0..4 {
        let first = run(seed, Trace::hashed());
        let again = run(seed, Trace::hashed());
        assert_eq!(first.trace, again.trace, "seed {seed}");
        assert_ne!(first.trace, run(seed + 1, Trace::hashed()).trace, "another seed is another run");
    }
}
