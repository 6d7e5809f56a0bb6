//! Bugs that are put in on purpose: chaos has to find each, or its checks are too weak.

#![allow(clippy::print_stdout, reason = "which seed found it is for people")]

use super::{plan::Plan, run::Run};
use crate::world::{Check, Plant, Trace};

/// A bug must be found within so many seeds.
const SEEDS: u64 = 60;

/// Runs seed after seed until one of those checks fails.
fn is_found_by(plant: Plant, checks: &[Check]) {
    if super::is_replayed() {
        return;
    }
    let finds = |seed: &u64| {
        let outcome = Run::new(*seed, Plan::draw(*seed), Trace::Off).planted(plant).outcome();
        outcome.faults.iter().any(|fault| checks.contains(&fault.check))
    };
    let seed = (0..SEEDS).find(finds);
    println!("{plant:?}: found by seed {seed:?}");
    assert!(seed.is_some(), "{SEEDS} seeds did not find {plant:?}");
}

#[test]
fn chaos_finds_a_disk_that_says_too_early_that_something_is_stored() {
    is_found_by(Plant::StoredTooEarly, &[Check::SignedOnce]);
    is_found_by(Plant::StoredTooEarly, &[Check::NothingLost]);
}

#[test]
fn chaos_finds_a_log_that_lost_its_end() {
    is_found_by(Plant::LastEntryLost, &[Check::NoSuspicion]);
    is_found_by(Plant::LastEntryLost, &[Check::NothingLost]);
    is_found_by(Plant::OthersEntryLost, &[Check::Durability, Check::NoPanic]);
}

#[test]
fn chaos_finds_a_balance_that_is_another() {
    is_found_by(Plant::BalanceChanged, &[Check::NoDivergence]);
    is_found_by(Plant::BalanceChanged, &[Check::Agreement]);
}

#[test]
fn chaos_finds_entries_that_never_come() {
    is_found_by(Plant::WantsDropped, &[Check::Agreement]);
    is_found_by(Plant::TailCutOff, &[Check::Agreement]);
    is_found_by(Plant::FullUntold, &[Check::Agreement]);
}

#[test]
fn chaos_finds_what_is_sent_or_asked_for_twice() {
    is_found_by(Plant::ServedFromStart, &[Check::Thrift]);
    is_found_by(Plant::AskedTwice, &[Check::AskedTwice]);
    is_found_by(Plant::AlwaysFull, &[Check::Rest]);
}

#[test]
fn chaos_finds_honest_peers_that_are_blamed() {
    is_found_by(Plant::FalselyAccused, &[Check::NoBlame]);
}
