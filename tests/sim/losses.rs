//! What was lost or late on the way is told, asked and looked for again. Each of these was found by chaos.

use cogmesh::{ledger::types::Seq, log::Proof};

use super::{
    stories::{thought, trio},
    world::{Forger, World},
};

const ALL: [usize; 3] = [0, 1, 2];

fn meshed(seed: u64) -> World {
    let mut world = trio(seed);
    world.start_all(10);
    world.run_until(3_000, "meshed", |world| world.is_meshed(&ALL) && world.agree(&ALL));
    world.run_for(500);
    world
}

/// Two histories of one author that part after some entries.
fn histories(world: &mut World, shared: u64) -> (Forger, Forger) {
    let mut one = world.forger();
    one.think((0..shared).map(thought));
    let mut other = one.clone();
    one.think((100..110).map(thought));
    other.think((200..210).map(thought));
    (one, other)
}

fn proof(one: &Forger, other: &Forger, cut: usize) -> Proof {
    Proof::fork(one.segment(cut).into_inner(), other.segment(cut).into_inner()).unwrap()
}

fn is_cut(world: &World, node: usize, author: &Forger) -> bool {
    let view = world.view(node);
    view.known.authors.get(&author.id()).is_some_and(|known| known.fault.is_some())
}

#[test]
fn nobody_asks_for_contents_that_were_cut_off() {
    for seed in 0..20 {
        let mut world = meshed(seed);
        let (one, other) = histories(&mut world, 5);
        world.send_live(0, 1, &one.segment(0));
        world.run_until(3_000, "everywhere", |world| {
            ALL.iter().all(|node| world.view(*node).known.authors.contains_key(&one.id()))
        });
        let proof = proof(&one, &other, 6).verify(&world.rules_of(0)).unwrap();
        world.show(0, 1, &proof);
        world.run_until(3_000, "cut", |world| ALL.iter().all(|node| is_cut(world, *node, &one)));
        // It gets what covers the entries that are left as well, and that without contents.
        let newcomer = world.add("newcomer");
        world.start(newcomer);
        world.hint(newcomer, 2);
        world.run_until(6_000, "cut there, too", |world| is_cut(world, newcomer, &one));
        world.run_for(1_000);
        assert_eq!(world.view(newcomer).missing, 0, "seed {seed}");
    }
}

#[test]
fn a_conviction_that_did_not_fit_a_queue_is_told_again() {
    for seed in 0..20 {
        let mut world = meshed(seed);
        let (one, other) = histories(&mut world, 5);
        world.send_live(0, 1, &one.segment(0));
        world.run_until(3_000, "everywhere", |world| {
            ALL.iter().all(|node| world.view(*node).known.authors.contains_key(&one.id()))
        });
        world.run_for(500);
        let proof = proof(&one, &other, 6).verify(&world.rules_of(0)).unwrap();
        world.show(0, 1, &proof);
        world.weather.full_per_mille = 1_000;
        world.run_until(1_000, "cut at one", |world| is_cut(world, 1, &one));
        world.run_for(100);
        assert!(!is_cut(&world, 0, &one) && !is_cut(&world, 2, &one), "seed {seed}: nobody was told");
        world.weather.full_per_mille = 0;
        let is_cut = |world: &World| ALL.iter().all(|node| is_cut(world, *node, &one));
        world.run_until(3_000, &format!("seed {seed}: cut at all"), is_cut);
    }
}

#[test]
fn a_fork_is_found_however_long_the_answers_take() {
    for seed in 0..20 {
        let mut world = meshed(seed);
        let (one, other) = histories(&mut world, 5);
        world.send_live(2, 0, &one.segment(0));
        world.send_live(0, 2, &one.segment(0));
        world.send_live(0, 1, &other.segment(0));
        world.run_for(30);
        // From now on an answer takes longer than it is waited for.
        world.weather.latency_ms = 3_000;
        world.run_for(30_000);
        world.weather.latency_ms = 1;
        world.run_until(30_000, &format!("seed {seed}: cut at all"), |world| {
            ALL.iter().all(|node| is_cut(world, *node, &one))
        });
    }
}

#[test]
fn a_fork_is_found_though_the_disk_is_behind_memory() {
    for seed in 0..20 {
        let mut world = meshed(seed);
        let (one, other) = histories(&mut world, 5);
        world.cut(0, 2);
        // What sprout takes in is on its disk seconds after it has told and asked about it.
        world.nodes[2].disk_lag_ms = 3_000;
        world.send_live(1, 0, &one.segment(0));
        world.send_live(1, 2, &other.segment(0));
        world.run_for(5_000);
        world.nodes[2].disk_lag_ms = 0;
        world.run_until(30_000, &format!("seed {seed}: cut at all"), |world| {
            ALL.iter().all(|node| is_cut(world, *node, &one))
        });
    }
}

#[test]
fn who_is_convicted_is_not_dialled_again_and_again() {
    for seed in 0..20 {
        let mut world = meshed(seed);
        world.submit(1, &thought(1), None);
        world.run_for(500);
        let log = world.forger_after(1, Seq(1)).unwrap();
        let mut other = world.forger_with_key_of(1);
        other.think([thought(2)]);
        let proof = proof(&log, &other, 1).verify(&world.rules_of(0)).unwrap();
        world.show(2, 0, &proof);
        world.run_until(3_000, "both others know", |world| {
            [0, 2].iter().all(|node| world.view(*node).known.authors[&log.id()].fault.is_some())
        });
        world.run_for(1_000);
        let before = world.connections_made();
        world.run_for(120_000);
        // Each of the three may look once a minute whether the other side has changed its mind.
        let made = world.connections_made() - before;
        assert!(made <= 12, "seed {seed}: {made} connections");
    }
}
