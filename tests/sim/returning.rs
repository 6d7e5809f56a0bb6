//! How soon nodes find each other again after a network failed and came back without a word to them.

use cogmesh::protocol::event::Event;

use super::{stories::trio, world::World};

/// Far longer than it takes until pauses have grown as long as they get.
const CUT_FOR: u64 = 300_000;
/// What people notice (docs/protocol.md, Discovery).
const LINKED_AGAIN_MAX: u64 = 3_000;

fn dials_failed(world: &World, node: usize) -> usize {
    world.nodes[node].events.iter().filter(|event| matches!(event, Event::DialFailed { .. })).count()
}

#[test]
fn two_nodes_whose_switch_was_off_for_five_minutes_are_linked_again_within_three_seconds() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        let both = [world.add("legion"), world.add("thor")];
        world.start_all(30);
        world.run_until(3_000, "meshed", |world| world.is_meshed(&both));
        world.cut(0, 1);
        world.run_for(CUT_FOR + seed * 37);
        assert!(world.verified(0).is_empty(), "seed {seed}: the cut is noticed");
        let failed = dials_failed(&world, 0);
        assert!(
            (40..70).contains(&failed),
            "seed {seed}: tried without a pause worth naming, and no storm: {failed}"
        );
        world.heal_silently();
        world.run_until(LINKED_AGAIN_MAX, &format!("seed {seed}: linked again"), |world| {
            world.is_meshed(&both)
        });
    }
}

#[test]
fn one_of_three_that_was_cut_off_is_linked_again_with_both_within_three_seconds() {
    for seed in 0..100 {
        let mut world = trio(seed);
        world.start_all(30);
        world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]));
        world.cut(0, 1);
        world.cut(0, 2);
        world.run_for(30_000 + seed * 37);
        world.heal_silently();
        world.run_until(LINKED_AGAIN_MAX, &format!("seed {seed}: linked again"), |world| {
            world.is_meshed(&[0, 1, 2])
        });
    }
}

#[test]
fn who_has_been_gone_for_long_is_dialled_seldom_again() {
    let mut world = World::new(3);
    let both = [world.add("legion"), world.add("thor")];
    world.start_all(30);
    world.run_until(3_000, "meshed", |world| world.is_meshed(&both));
    world.cut(0, 1);
    // It is awaited for ten minutes.
    world.run_for(640_000);
    let before = dials_failed(&world, 0);
    world.run_for(600_000);
    let failed = dials_failed(&world, 0) - before;
    assert!((20..45).contains(&failed), "about one in 20 s: {failed}");
}
