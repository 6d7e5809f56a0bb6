//! Peers that bring far more than anybody has use for.

use cogmesh::{
    ledger::types::Seq,
    protocol::event::{Event, SegmentRefusal},
};

use super::stories::{thought, trio};

/// More than a peer may bring at once.
const MANY: usize = 1_100;

#[test]
fn a_flood_of_new_authors_is_slowed_down_and_counts_against_nobody() {
    let mut world = trio(1);
    world.start(0);
    world.start(1);
    world.hint(0, 1);
    world.run_until(5_000, "linked", |world| world.is_meshed(&[0, 1]));
    for _ in 0..MANY {
        let author = world.forger();
        world.send_live(0, 1, &author.segment(0));
    }
    world.run_for(1_000);
    let held = world.view(1).known.authors.len();
    assert!((1_000..=1_026).contains(&held), "{held}");
    let slowed =
        |event: &Event| matches!(event, Event::SegmentRefused { why: SegmentRefusal::TooManyNewAuthors, .. });
    assert!(world.nodes[1].events.iter().any(slowed));
    assert!(world.is_meshed(&[0, 1]), "the link stays");
    // A minute later there is room for some of them, whoever brings them.
    world.run_for(60_000);
    let late: Vec<_> = (0..10).map(|_| world.forger()).collect();
    for author in &late {
        world.send_live(0, 1, &author.segment(0));
    }
    world.run_for(1_000);
    let authors = world.view(1).known.authors;
    assert!(late.iter().all(|author| authors.contains_key(&author.id())));
}

#[test]
fn segments_of_authors_that_nobody_knows_are_remembered_up_to_a_bound() {
    let mut world = trio(2);
    world.start(0);
    world.start(1);
    world.hint(0, 1);
    world.run_until(5_000, "linked", |world| world.is_meshed(&[0, 1]));
    for _ in 0..200 {
        let mut author = world.forger();
        author.think([thought(1)]);
        // Its beginning never comes.
        world.send_live(0, 1, &author.segment(1));
    }
    world.run_for(20_000);
    assert_eq!(world.view(1).known.authors.len(), 2);
    assert!(world.is_meshed(&[0, 1]), "it is no reproach: the beginning may be on its way");
    world.submit(0, &thought(7), None);
    world.run_until(5_000, "what is real arrives all the same", |world| world.holds(1, 0, Seq(1)));
}
