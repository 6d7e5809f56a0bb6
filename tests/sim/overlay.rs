//! Stories of many nodes with few links: whoever knows one of them finds the others, and what is published reaches all.

use std::collections::BTreeSet;

use cogmesh::{
    ledger::types::Seq,
    log::NodeId,
    protocol::{
        event::Event,
        frame::ControlFrame,
        refusal::RefusalCode,
        view::{PeerState, Unlinked},
    },
};

use super::{stories::thought, world::World};

/// Most links of each node in these stories.
const LINKS_MAX: usize = 8;

/// Every node has the first thought of each of those.
fn have_thoughts(world: &World, who: &[usize], authors: &[usize]) -> bool {
    who.iter().all(|node| {
        let view = world.view(*node);
        authors.iter().all(|author| {
            view.known.authors.get(&world.id(*author)).is_some_and(|known| known.book.seq() == Seq(1))
        })
    })
}

#[test]
fn two_hundred_nodes_with_eight_links_each_that_know_one_of_them_end_with_the_same_books() {
    let mut world = World::crowd(1, 200, LINKS_MAX);
    let all: Vec<usize> = (0..200).collect();
    world.start_around(&all, 0, 20);
    world.run_crowd_until(60_000, "all linked", |world| world.parts(&all) == [200]);
    world.run_crowd_until(60_000, "all books", |world| world.has_all_authors(&all) && world.agree(&all));
    let authors: Vec<usize> = all.iter().copied().step_by(10).collect();
    for author in &authors {
        world.submit(*author, &thought(*author as u64), None);
    }
    world.run_crowd_until(10_000, "all thoughts", |world| have_thoughts(world, &all, &authors));
    assert!(world.agree(&all));

    // Links go on wearing out, and it stays one graph.
    let verified = |world: &World| world.count_events(|event| matches!(event, Event::PeerVerified { .. }));
    let before = verified(&world);
    for _ in 0..6 {
        world.run_crowd_for(10_000);
        assert_eq!(world.parts(&all), [200]);
    }
    let per_node = (verified(&world) - before) / 200;
    assert!((1..=12).contains(&per_node), "{per_node} new links of each node in a minute");
    let fewest = all.iter().map(|node| world.degree(*node)).min();
    assert!(fewest >= Some(3), "{fewest:?}");
}

#[test]
fn two_halves_that_were_cut_off_until_each_was_content_find_each_other_again() {
    let mut world = World::crowd(2, 201, LINKS_MAX);
    let with_entrance: Vec<usize> = (0..201).collect();
    let (entrance, all) = (200, &with_entrance[..200]);
    let (one, other) = all.split_at(100);
    world.start_around(&with_entrance, entrance, 20);
    world.run_crowd_until(60_000, "all books", |world| world.has_all_authors(&with_entrance));
    // Nobody comes together again only because all were told of one node.
    world.kill(entrance);
    world.cut_between(one, other);
    // The dead links are noticed after ten seconds.
    world.run_crowd_for(60_000);
    assert_eq!(world.parts(all), [100, 100]);
    for author in [3, 150] {
        world.submit(author, &thought(author as u64), None);
    }
    world.run_crowd_for(5_000);
    assert!(!world.agree(all));
    world.heal_silently();
    world.run_crowd_until(120_000, "one again", |world| have_thoughts(world, all, &[3, 150]));
    world.run_crowd_until(60_000, "one graph again", |world| world.parts(all) == [200]);
    assert!(world.agree(all));
}

#[test]
fn whoever_is_turned_away_by_a_full_node_is_told_of_others_and_finds_them() {
    for seed in 0..20 {
        let mut world = World::crowd(seed, 12, 4);
        let all: Vec<usize> = (0..12).collect();
        world.start_around(&all, 0, 50);
        world.run_crowd_until(60_000, "all books", |world| {
            world.has_all_authors(&all) && world.parts(&all) == [12]
        });
        let full = |event: &Event| matches!(event, Event::RefusedBy { refusal, .. } if refusal.code == RefusalCode::TooManyPeers);
        assert!(world.count_events(full) > 0, "seed {seed}: nobody was turned away");
        let punished = |event: &Event| matches!(event, Event::Refused { refusal, .. } if refusal.code == RefusalCode::BackingOff);
        assert_eq!(world.count_events(punished), 0, "seed {seed}: and it is nobody's fault");
    }
}

#[test]
fn the_link_to_a_node_that_the_user_named_is_dialled_in_a_crowd_and_not_given_up() {
    let mut world = World::crowd(5, 40, 6);
    let all: Vec<usize> = (0..40).collect();
    world.start_around(&all, 0, 50);
    world.run_crowd_until(60_000, "all linked", |world| world.parts(&all) == [40]);
    world.hint_address(20, 33);
    let named = world.id(33);
    world.run_crowd_until(300_000, "linked to the one that was named", |world| {
        world.verified(20).contains_key(&named)
    });
    world.run_crowd_for(5_000);
    let before = world.nodes[20].events.len();
    world.run_crowd_for(300_000);
    let events = &world.nodes[20].events[before..];
    let gave_up = |event: &Event| matches!(event, Event::Refused { id: Some(id), refusal } if *id == named && refusal.code == RefusalCode::TooManyPeers);
    assert!(!events.iter().any(gave_up));
    let gave_up_others = |event: &Event| matches!(event, Event::Refused { refusal, .. } if refusal.code == RefusalCode::TooManyPeers);
    assert!(events.iter().any(gave_up_others), "others are");
}

#[test]
fn records_that_nobody_signed_are_not_kept_and_their_teller_is_refused_for_a_while() {
    let mut world = World::crowd(6, 3, 64);
    world.start_around(&[0, 1, 2], 0, 50);
    world.run_crowd_until(10_000, "linked", |world| world.parts(&[0, 1, 2]) == [3]);
    world.run_crowd_for(5_000);
    for _ in 0..3 {
        let records = (0..64).map(|_| world.forged_ghost()).collect();
        world.forge_control(2, 0, &ControlFrame::Records(records));
        world.run_crowd_for(100);
    }
    let events = &world.nodes[0].events;
    let from = world.id(2);
    let strikes = events.iter().filter(|event| **event == Event::RecordsRefused { from }).count();
    assert_eq!(strikes, 3, "one a frame, and the rest of a frame is not looked at");
    let refused = |event: &Event| matches!(event, Event::Refused { id: Some(id), refusal } if *id == from && refusal.code == RefusalCode::BackingOff);
    assert!(events.iter().any(refused));
    assert_eq!(ghosts(&world, 0).len(), 0);
    let seen = world.view(0).peers.into_iter().find(|peer| peer.id == Some(from)).unwrap();
    assert!(matches!(seen.state, PeerState::Seen(Unlinked::BackingOff { .. })), "{:?}", seen.state);
}

#[test]
fn a_flood_of_signed_records_fills_a_bounded_table_and_costs_few_dials() {
    let mut world = World::crowd(7, 4, 64);
    let all = [0, 1, 2, 3];
    world.start_around(&all, 0, 50);
    world.run_crowd_until(10_000, "linked", |world| world.parts(&all) == [4]);
    world.run_crowd_for(5_000);
    for minute in 1..=6 {
        for _ in 0..10 {
            let records = (0..64).map(|_| world.ghost()).collect();
            world.forge_control(3, 0, &ControlFrame::Records(records));
            world.run_crowd_for(6_000);
        }
        let kept = ghosts(&world, 0).len();
        assert!(kept <= 256 * (minute + 1) && kept <= 1_024, "{kept} after {minute} minutes");
    }
    let is_ghost = |event: &&Event| matches!(event, Event::DialFailed { addresses, .. } if addresses.iter().any(|at| at.to_string().starts_with("192.0.2.")));
    let dials = world.nodes[0].events.iter().filter(is_ghost).count();
    assert!((1..=60 * 7).contains(&dials), "{dials} dials to nobody");
    // What was there before is there still.
    assert_eq!(world.parts(&all), [4]);
    world.submit(1, &thought(1), None);
    world.run_crowd_until(5_000, "one more thought", |world| have_thoughts(world, &all, &[1]));
}

/// The ids of those that were made up and are listed by that node.
fn ghosts(world: &World, node: usize) -> BTreeSet<NodeId> {
    let view = world.view(node);
    view.peers.into_iter().filter(|peer| peer.name == "ghost").filter_map(|peer| peer.id).collect()
}

#[test]
fn a_peer_that_dials_again_and_again_is_taken_in_so_often_and_then_refused() {
    let mut world = World::crowd(8, 2, 64);
    world.start_around(&[0, 1], 0, 50);
    world.run_crowd_until(10_000, "linked", |world| world.parts(&[0, 1]) == [2]);
    world.run_crowd_for(6_000);
    for number in 0..500 {
        world.redial(1, 0, number);
        world.run_crowd_for(100);
    }
    let taken_in = |event: &&Event| matches!(event, Event::PeerVerified { .. } | Event::LinkReplaced { .. });
    let events = &world.nodes[0].events;
    let count = events.iter().filter(taken_in).count();
    assert!((250..=300).contains(&count), "{count} times");
    let refused = |event: &Event| matches!(event, Event::Refused { refusal, .. } if refusal.code == RefusalCode::BackingOff);
    assert!(events.iter().any(refused));
    world.run_crowd_for(90_000);
    assert_eq!(world.parts(&[0, 1]), [2], "and it is a peer as before");
}

#[test]
fn whoever_is_not_linked_is_listed_with_the_reason() {
    let mut world = World::crowd(9, 30, 6);
    let all: Vec<usize> = (0..30).collect();
    world.start_around(&all, 0, 50);
    world.run_crowd_until(60_000, "all books", |world| world.has_all_authors(&all));
    world.run_crowd_for(30_000);
    let mut spare = 0;
    for node in &all {
        let (linked, seen): (Vec<_>, Vec<_>) = world
            .view(*node)
            .peers
            .into_iter()
            .partition(|peer| matches!(peer.state, PeerState::Verified(_)));
        assert_eq!(linked.len(), world.degree(*node));
        assert!(linked.len() + seen.len() > 6, "more are known than linked");
        spare += seen.iter().filter(|peer| peer.state == PeerState::Seen(Unlinked::Spare)).count();
    }
    assert!(spare > 60, "{spare} are kept as spare");
    let (up, down) = (1, 2);
    world.kill(down);
    world.run_crowd_for(120_000);
    let gone = world.id(down);
    let seen = world.view(up).peers.into_iter().find(|peer| peer.id == Some(gone)).unwrap();
    assert!(matches!(seen.state, PeerState::Seen(_)), "{:?}", seen.state);
}

#[test]
fn a_crowd_with_the_same_seed_has_the_same_links() {
    let links = |seed| {
        let mut world = World::crowd(seed, 30, 6);
        let all: Vec<usize> = (0..30).collect();
        world.start_around(&all, 0, 50);
        world.run_crowd_for(60_000);
        all.iter().map(|node| world.verified(*node)).collect::<Vec<_>>()
    };
    assert_eq!(links(10), links(10));
    assert_ne!(links(10), links(11));
}
