//! Live segments that reach nodes through others, and what each node knows of how far its peers are.

use cogmesh::{
    ledger::types::{Millis, Seq},
    protocol::{event::Event, view::InStep},
};

use super::{
    stories::{thought, trio},
    world::World,
};

/// Legion and sprout reach each other through thor alone.
fn line(seed: u64) -> World {
    let mut world = trio(seed);
    world.cut(0, 2);
    world.start_all(10);
    world.run_until(5_000, "linked in a line", |world| {
        world.is_meshed(&[0, 1]) && world.is_meshed(&[1, 2]) && world.agree(&[0, 1, 2])
    });
    world.run_for(500);
    world
}

fn wants(world: &World, node: usize) -> usize {
    world.nodes[node].events.iter().filter(|event| matches!(event, Event::Wanted { .. })).count()
}

fn seq(world: &World, node: usize, author: usize) -> u64 {
    world.book(node, author).map_or(0, |book| book.seq().0)
}

fn step(world: &World, node: usize, peer: usize) -> InStep {
    let view = world.view(node);
    let found = view.peers.into_iter().find(|known| known.id == Some(world.id(peer)));
    found.unwrap().step.unwrap()
}

#[test]
fn after_the_first_news_an_authors_thoughts_are_passed_on_as_they_come() {
    for seed in 0..100 {
        let mut world = line(seed);
        world.submit(0, &thought(0), None);
        world.run_until(2_000, "the first comes by its head", |world| seq(world, 2, 0) == 1);
        world.run_for(200);
        let before = wants(&world, 2);
        for number in 1..=20 {
            world.submit(0, &thought(number), None);
            let took = world.run_until(1_000, "and the others", |world| seq(world, 2, 0) == number + 1);
            // Two commits are not waited for, and no head: own commit 1 to 5 ms, two links of 1 to 4 ms each.
            assert!(took <= 20, "seed {seed}: thought {number} took {took} ms");
        }
        assert_eq!(wants(&world, 2), before, "seed {seed}: nothing was asked for");
    }
}

#[test]
fn where_the_peer_that_passes_on_is_gone_another_does() {
    for seed in 0..100 {
        let mut world = trio(seed);
        let last = world.add("last");
        world.cut(0, last);
        world.cut(1, 2);
        world.start_all(10);
        let pairs = [[0, 1], [0, 2], [1, last], [2, last]];
        world.run_until(5_000, "a ring", |world| pairs.iter().all(|pair| world.is_meshed(pair)));
        world.run_for(500);
        for number in 1..=3 {
            world.submit(0, &thought(number), None);
            world.run_for(200);
        }
        assert_eq!(seq(&world, last, 0), 3, "seed {seed}");
        world.kill(1);
        world.submit(0, &thought(4), None);
        // Should the dead one have been the source, heads of the other bring the news.
        let took = world.run_until(3_000, "through the other", |world| seq(world, last, 0) == 4);
        assert!(took < 300, "seed {seed}: {took} ms");
        world.run_for(300);
        let before = wants(&world, last);
        world.submit(0, &thought(5), None);
        let took = world.run_until(3_000, "and live", |world| seq(world, last, 0) == 5);
        assert!(took <= 25 && wants(&world, last) == before, "seed {seed}: {took} ms");
    }
}

#[test]
fn in_a_full_mesh_nobody_passes_on_what_its_author_sends_itself() {
    for seed in 0..100 {
        let mut world = trio(seed);
        world.start_all(10);
        world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]) && world.agree(&[0, 1, 2]));
        world.run_for(500);
        let before: Vec<usize> = (0..3).map(|node| wants(&world, node)).collect();
        for number in 0..30 {
            world.submit((number % 3) as usize, &thought(number), None);
            world.run_for(40);
        }
        world.run_for(500);
        assert!(world.agree(&[0, 1, 2]));
        let after: Vec<usize> = (0..3).map(|node| wants(&world, node)).collect();
        assert_eq!(before, after, "seed {seed}: no entry was asked for, so none came twice");
    }
}

#[test]
fn each_node_knows_what_its_peers_have_said_that_they_hold() {
    for seed in 0..50 {
        let mut world = trio(seed);
        world.start_all(10);
        world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]) && world.agree(&[0, 1, 2]));
        world.run_for(500);
        for (node, peer) in [(0, 1), (1, 0), (2, 0), (2, 1)] {
            let step = step(&world, node, peer);
            assert_eq!((step.missing_here, step.missing_there), (0, 0), "seed {seed}");
            assert!(step.identical_since.is_some_and(|since| since > Millis::ZERO));
            assert_eq!(step.acknowledged.len(), 3);
        }
        let before = step(&world, 0, 1).identical_since;
        world.submit(0, &thought(1), None);
        world.run_until(100, "its own book has it", |world| seq(world, 0, 0) == 1);
        let sent = step(&world, 0, 1);
        assert_eq!((sent.missing_there, sent.identical_since), (1, None), "sent is not yet acknowledged");
        world.run_for(300);
        let told = step(&world, 0, 1);
        assert_eq!(told.missing_there, 0);
        assert!(told.identical_since > before);
        assert_eq!(told.acknowledged[&world.id(0)], Seq(1));
        assert!((0..3).all(|node| world.view(node).lost_thoughts == 0));
    }
}

#[test]
fn who_is_cut_off_is_behind_by_what_the_others_wrote() {
    let mut world = line(3);
    world.cut(1, 2);
    for number in 0..7 {
        world.submit(2, &thought(number), None);
        world.run_for(30);
    }
    world.run_for(12_000);
    world.uncut(1, 2);
    world.run_until(40_000, "linked again", |world| world.is_meshed(&[1, 2]));
    world.run_until(1_000, "and in step", |world| {
        let step = step(world, 1, 2);
        step.identical_since.is_some() && step.acknowledged.get(&world.id(2)) == Some(&Seq(7))
    });
}
