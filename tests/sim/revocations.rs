//! Members that are thrown out of a closed federation: whoever hears of it turns them away, and everybody hears of it.

use cogmesh::{
    ledger::types::Millis,
    log::{CaKey, Identity, Revocation},
    protocol::{
        event::Event,
        frame::ControlFrame,
        hello::Closed,
        input::{Ended, Input},
        refusal::RefusalCode,
    },
};

use super::world::World;

fn ca() -> Identity {
    Identity::from_seed(&[200; 32]).unwrap()
}

/// Members of one closed federation.
fn members(seed: u64, count: usize) -> World {
    let mut world = World::new(seed);
    for number in 0..count {
        let node = world.add(&format!("node-{number}"));
        let key = CaKey::of(&ca());
        world.nodes[node].setup.closed = Some(Closed { ca: key.hash(), key: Some(key), revoked: vec![] });
    }
    world
}

fn revocation(world: &World, by: &Identity, node: usize) -> Revocation {
    Revocation::sign(by, &world.nodes[node].setup.federation, world.id(node), Millis(1))
}

fn has_thrown_out(world: &World, who: usize, whom: usize) -> bool {
    let id = world.id(whom);
    world.nodes[who].revoked.iter().any(|revocation| revocation.node == id)
        && !world.verified(who).contains_key(&id)
}

#[test]
fn all_members_throw_a_node_out_within_a_second_and_whoever_was_away_on_its_return() {
    for seed in 0..100 {
        let mut world = members(seed, 5);
        let all: Vec<usize> = (0..5).collect();
        world.start_all(30);
        world.run_until(3_000, "meshed", |world| world.is_meshed(&all));
        world.kill(2);
        world.run_for(500);
        let revoked = revocation(&world, &ca(), 4);
        world.tell(0, Input::Revoke(revoked));
        world.run_until(1_000, "thrown out", |world| {
            [0, 1, 3].iter().all(|who| has_thrown_out(world, *who, 4))
        });
        world.run_until(1_000, "alone", |world| {
            let linked = world.verified(4);
            [0, 1, 3].iter().all(|who| !linked.contains_key(&world.id(*who)))
        });
        let revoked = |event: &Event| matches!(event, Event::PeerLost { why: Ended::Refused(refusal), .. } if refusal.code == RefusalCode::Revoked);
        assert!(world.nodes[4].events.iter().any(revoked), "seed {seed}: it is told why");
        world.nodes[4].events.clear();
        // Who threw it out is gone when the one that was away comes back: another member tells it.
        world.kill(0);
        world.start(2);
        world.run_until(15_000, "told", |world| has_thrown_out(world, 2, 4));
        world.run_until(15_000, "and linked with the rest", |world| world.is_meshed(&[1, 2, 3]));
        // Also after a restart of everybody.
        for node in [1, 2, 3] {
            world.kill(node);
            world.start(node);
        }
        world.start(0);
        for (one, other) in all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other))) {
            if one != other {
                world.hint(one, other);
            }
        }
        world.run_until(30_000, "linked again", |world| world.is_meshed(&[0, 1, 2, 3]));
        world.run_for(20_000);
        assert!(world.verified(4).is_empty(), "seed {seed}: it is not let in again");
        let refused = |event: &Event| matches!(event, Event::RefusedBy { refusal, .. } if refusal.code == RefusalCode::Revoked);
        assert!(world.nodes[4].events.iter().any(refused), "seed {seed}: it is told why, whenever it comes");
        // Whoever knows and dials it tells it nothing of itself, or it would hold that for a link, for a moment.
        let away = world.id(2);
        let linked = |event: &&Event| matches!(event, Event::PeerVerified { id, .. } if *id != away);
        assert_eq!(world.nodes[4].events.iter().find(linked), None, "seed {seed}");
    }
}

#[test]
fn a_member_that_was_thrown_out_says_so_at_each_of_its_starts_though_nobody_is_there_to_tell_it() {
    let mut world = members(9, 2);
    world.start_all(30);
    world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1]));
    let revoked = revocation(&world, &ca(), 1);
    world.tell(0, Input::Revoke(revoked));
    world.run_until(1_000, "thrown out", |world| has_thrown_out(world, 0, 1));
    world.run_for(500);
    world.kill(0);
    world.kill(1);
    world.nodes[1].events.clear();
    world.start(1);
    world.run_for(100);
    let out = Event::MemberRevoked { node: world.id(1), own: true };
    assert!(world.nodes[1].events.contains(&out), "{:?}", world.nodes[1].events);
    world.start(0);
    world.run_for(100);
    let says_so = |event: &Event| matches!(event, Event::MemberRevoked { own: true, .. });
    assert!(!world.nodes[0].events.iter().any(says_so), "it is a member");
}

#[test]
fn nobody_is_thrown_out_by_a_revocation_that_the_ca_did_not_sign_and_its_teller_is_refused_for_a_while() {
    let mut world = members(7, 3);
    world.start_all(30);
    world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]));
    let forged = revocation(&world, &Identity::from_seed(&[201; 32]).unwrap(), 2);
    for _ in 0..3 {
        world.forge_control(1, 0, &ControlFrame::Revocations(vec![forged]));
        world.run_for(100);
    }
    assert!(world.verified(0).contains_key(&world.id(2)));
    assert!(world.nodes[0].revoked.is_empty());
    assert!(!world.verified(0).contains_key(&world.id(1)), "three times is too often");
}

#[test]
fn in_an_open_federation_nobody_can_be_revoked() {
    let mut world = World::new(8);
    let all = [world.add("legion"), world.add("thor"), world.add("sprout")];
    world.start_all(30);
    world.run_until(3_000, "meshed", |world| world.is_meshed(&all));
    let revoked = revocation(&world, &ca(), 2);
    world.forge_control(1, 0, &ControlFrame::Revocations(vec![revoked]));
    world.tell(1, Input::Revoke(revoked));
    world.run_for(1_000);
    assert!(world.is_meshed(&all));
}
