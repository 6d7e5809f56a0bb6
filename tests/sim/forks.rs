//! Authors that sign two histories or lie about a content: every honest node comes to the same end.

use cogmesh::{
    ledger::types::{MicroAtp, Ppm, Seq},
    log::{FaultKind, NodeId, Proof, Segment},
    protocol::{
        event::Event,
        frame::{BalanceFrame, FaultReport, HeadReport},
        refusal::RefusalCode,
    },
};

use super::{
    stories::{thought, trio},
    world::{Forger, World},
};

/// Three nodes of which two pairs are linked: legion and thor, thor and sprout.
fn line(seed: u64) -> World {
    let mut world = trio(seed);
    world.cut(0, 2);
    world.start_all(10);
    world.run_until(5_000, "linked in a line", |world| world.is_meshed(&[0, 1]) && world.is_meshed(&[1, 2]));
    // Of two links that were dialled at once, the surplus one may still be on its way out.
    world.run_for(200);
    world
}

/// Lets a node write a segment of somebody else's into its log: a neighbour that belongs to nobody brings it.
fn give(world: &mut World, node: usize, forger: &Forger, from: usize) {
    let neighbour = if node == 0 { 1 } else { node - 1 };
    world.send_live(neighbour, node, &forger.segment(from));
}

/// The cut, what is left, the account's digest, and both hashes in whichever order.
fn end_of(world: &World, node: usize, author: NodeId) -> Option<(Seq, Option<Seq>, Option<[u8; 32]>)> {
    let view = world.view(node);
    match view.known.authors.get(&author) {
        Some(known) => {
            let fault = known.fault.filter(|fault| !fault.cleared)?;
            Some((fault.cut, Some(known.book.seq()), Some(known.book.account.digest())))
        }
        None => Some((view.known.erased.get(&author)?.cut, None, None)),
    }
}

fn all_cut(world: &World, who: &[usize], author: NodeId, at: u64) -> bool {
    let first = end_of(world, who[0], author);
    let left = at.checked_sub(1).map(Seq);
    first.is_some_and(|(cut, seq, _)| cut == Seq(at) && seq == left)
        && who.iter().all(|node| end_of(world, *node, author) == first)
}

fn told(forger: &Forger) -> BalanceFrame {
    let report = HeadReport { head: forger.head(), balance: MicroAtp::ZERO, digest: [0; 32] };
    BalanceFrame::Heads(vec![report])
}

#[test]
fn two_histories_that_were_given_to_two_nodes_end_at_the_same_entry_everywhere() {
    for seed in 0..150 {
        let mut world = trio(seed);
        for node in 0..3 {
            world.start(node);
        }
        let mut one = world.forger();
        let shared = seed % 30;
        one.think((0..shared).map(thought));
        let mut other = one.clone();
        one.think((100..100 + seed % 50).map(thought));
        one.think([thought(1_000)]);
        other.think((200..200 + seed % 7).map(thought));
        other.think([thought(2_000)]);
        // Each history reaches a node through a link that is gone when the two meet.
        world.hint(0, 1);
        world.run_until(3_000, "linked", |world| world.is_meshed(&[0, 1]));
        give(&mut world, 0, &one, 0);
        world.run_until(3_000, "taken", |world| world.view(0).known.authors.contains_key(&one.id()));
        world.cut(0, 1);
        world.run_for(11_000);
        world.hint(2, 1);
        world.run_until(3_000, "linked", |world| world.is_meshed(&[1, 2]));
        // Thor has the first history; sprout must not get it before it has the other.
        world.cut(1, 2);
        world.run_for(11_000);
        world.give_on_disk(2, &other);
        world.heal();
        world.hint(0, 2);
        let cut = shared + 1;
        let took = world.run_until(6_000, &format!("seed {seed}: cut at {cut} everywhere"), |world| {
            all_cut(world, &[0, 1, 2], one.id(), cut)
        });
        assert!(took < 4_000, "seed {seed}: {took} ms");
        for node in &world.nodes {
            let convicted: Vec<_> = node
                .events
                .iter()
                .filter_map(|event| {
                    let Event::AuthorFault { fault, .. } = event else { return None };
                    Some(*fault)
                })
                .collect();
            assert_eq!(convicted.len(), 1, "seed {seed}: told once");
            assert_eq!(convicted[0].kind, FaultKind::Fork);
            let ours = convicted[0].hashes;
            let both = [one.log[cut as usize].hash(), other.log[cut as usize].hash()];
            assert!(both.contains(&ours.0) && both.contains(&ours.1) && ours.0 != ours.1);
            let struck = node.events.iter().any(|event| matches!(event, Event::SegmentRefused { .. }));
            assert!(!struck, "seed {seed}: nobody is blamed for what the author did");
        }
    }
}

#[test]
fn a_deep_fork_is_found_by_halving_and_the_deepest_cut_counts() {
    let mut world = line(7);
    let mut one = world.forger();
    one.think((0..40).map(thought));
    let mut shallow = one.clone();
    let mut deep = one.clone();
    deep.log.truncate(11);
    one.think((100..500).map(thought));
    shallow.think((1_000..1_100).map(thought));
    deep.think((2_000..2_700).map(thought));
    give(&mut world, 1, &one, 0);
    world.run_until(5_000, "everywhere", |world| {
        (0..3).all(|node| world.view(node).known.authors.contains_key(&one.id()))
    });
    world.run_for(500);
    // A proof of the shallow fork comes first.
    let rules = world.rules_of(0);
    let proof = Proof::fork(one.segment(30).into_inner(), shallow.segment(30).into_inner()).unwrap();
    world.show(1, 2, &proof.verify(&rules).unwrap());
    world.run_until(3_000, "cut at the shallow fork", |world| all_cut(world, &[0, 1, 2], one.id(), 41));
    // A node comes along that knows the deep one only.
    let newcomer = world.add("newcomer");
    world.start(newcomer);
    world.run_for(100);
    world.give_on_disk(newcomer, &deep);
    world.hint(newcomer, 0);
    world.run_until(20_000, "cut at the deep fork", |world| all_cut(world, &[0, 1, 2, 3], one.id(), 11));
}

#[test]
fn who_comes_later_gets_what_is_left_and_the_proof_from_whoever_has_them() {
    for seed in 0..40 {
        let mut world = line(seed);
        let mut one = world.forger();
        one.think((0..20).map(thought));
        let mut other = one.clone();
        other.log.truncate(8 + (seed % 10) as usize);
        let cut = other.log.len() as u64;
        other.think((300..310).map(thought));
        give(&mut world, 1, &one, 0);
        world.run_until(5_000, "everywhere", |world| {
            (0..3).all(|node| world.view(node).known.authors.contains_key(&one.id()))
        });
        let rules = world.rules_of(0);
        let from = cut as usize;
        let proof = Proof::fork(one.segment(from).into_inner(), other.segment(from).into_inner()).unwrap();
        world.show(0, 1, &proof.verify(&rules).unwrap());
        world.run_until(3_000, "cut", |world| all_cut(world, &[0, 1, 2], one.id(), cut));
        let newcomer = world.add("newcomer");
        world.start(newcomer);
        world.hint(newcomer, 2);
        world.run_until(6_000, &format!("seed {seed}: the newcomer has the same"), |world| {
            all_cut(world, &[0, 1, 2, newcomer], one.id(), cut)
        });
        // And gives it on itself, after a restart, to somebody who only knows it.
        world.kill(newcomer);
        world.run_for(100);
        world.start(newcomer);
        let last = world.add("last");
        world.start(last);
        world.hint(last, newcomer);
        world.run_until(6_000, &format!("seed {seed}: so has the last"), |world| {
            let has_heard_of_the_first = world.nodes[last].disk.entries.contains_key(&world.id(0));
            has_heard_of_the_first && all_cut(world, &[0, newcomer, last], one.id(), cut)
        });
        let contents = world.contents(last, 0);
        assert_eq!(contents, 0, "nobody wrote a thought of its own");
        assert_eq!(
            world.contents_of(last, one.id()),
            cut as usize - 1,
            "seed {seed}: every content came along"
        );
    }
}

#[test]
fn a_fork_at_the_very_first_entry_leaves_nothing() {
    let mut world = line(3);
    let mut one = world.forger();
    let mut other = world.forger_again(&one);
    one.think([thought(1)]);
    other.think([thought(2), thought(3)]);
    give(&mut world, 1, &one, 0);
    world.run_until(5_000, "everywhere", |world| {
        (0..3).all(|node| world.view(node).known.authors.contains_key(&one.id()))
    });
    let newcomer = world.add("newcomer");
    world.start(newcomer);
    world.run_for(100);
    world.give_on_disk(newcomer, &other);
    world.hint(newcomer, 2);
    world.run_until(6_000, "nothing is left", |world| all_cut(world, &[0, 1, 2, 3], one.id(), 0));
    world.run_for(2_000);
    give(&mut world, 0, &one, 0);
    world.run_for(2_000);
    assert!(all_cut(&world, &[0, 1, 2, 3], one.id(), 0), "and nothing comes back");
}

#[test]
fn a_header_that_lies_about_its_content_ends_the_log_also_where_the_entry_came_bare() {
    let mut world = line(4);
    let mut forger = world.forger();
    forger.think((0..5).map(thought));
    forger.think_as(&thought(6), |thought| thought.features.diversity = Ppm(1));
    forger.think((7..9).map(thought));
    let bare = Segment::own(forger.log.clone(), forger.identity(), &world.federation(0)).unwrap();
    let bare = bare.into_inner().bare().verify(&world.rules_of(0)).unwrap();
    world.send_live(1, 0, &bare);
    world.run_until(3_000, "taken everywhere: without the content nobody can know", |world| {
        (0..3).all(|node| {
            world.view(node).known.authors.get(&forger.id()).is_some_and(|a| a.book.seq() == Seq(8))
        })
    });
    let unfit = forger.segment(0).into_inner().verify_or_convict(&world.rules_of(0)).unwrap_err();
    assert!(unfit.fault.is_proof_against_author());
    world.show(1, 2, &unfit.proof.unwrap());
    world.run_until(3_000, "cut before the lie", |world| all_cut(world, &[0, 1, 2], forger.id(), 6));
    let kinds = world.view(0).known.authors[&forger.id()].fault.unwrap().kind;
    assert_eq!(kinds, FaultKind::FalseHeader);
}

#[test]
fn a_node_that_forked_is_refused_by_that_name_and_writes_no_more() {
    let mut world = trio(5);
    world.start_all(10);
    world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]));
    world.submit(2, &thought(1), None);
    world.run_for(200);
    let mut other = world.forger_with_key_of(2);
    other.think([thought(77)]);
    let rules = world.rules_of(0);
    let ours = world.segment_on_disk(0, 2);
    let proof = Proof::fork(ours, other.segment(1).into_inner()).unwrap().verify(&rules).unwrap();
    world.show(0, 1, &proof);
    world.run_until(3_000, "refused", |world| {
        [0, 1].iter().all(|node| !world.verified(*node).contains_key(&world.id(2)))
    });
    let refused = |event: &Event| matches!(event, Event::RefusedBy { refusal, .. } if refusal.code == RefusalCode::Forked);
    assert!(world.nodes[2].events.iter().any(refused));
    world.run_for(40_000);
    assert!(world.is_meshed(&[0, 1]) && world.verified(2).is_empty());
    assert!(all_cut(&world, &[0, 1], world.id(2), 1));
}

#[test]
fn what_an_operator_cleared_is_taken_again_and_a_proof_that_is_passed_on_changes_nothing() {
    let mut world = line(6);
    let mut one = world.forger();
    one.think((0..10).map(thought));
    let mut other = one.clone();
    other.log.truncate(6);
    other.think((50..53).map(thought));
    give(&mut world, 1, &one, 0);
    world.run_until(5_000, "everywhere", |world| {
        (0..3).all(|node| world.view(node).known.authors.contains_key(&one.id()))
    });
    let rules = world.rules_of(0);
    let proof = Proof::fork(one.segment(6).into_inner(), other.segment(6).into_inner()).unwrap();
    let proof = proof.verify(&rules).unwrap();
    world.show(0, 1, &proof);
    world.run_until(3_000, "cut", |world| all_cut(world, &[0, 1, 2], one.id(), 6));
    // Until everyone has said so.
    world.run_for(100);
    for node in 0..3 {
        assert!(world.clear(node, one.id()));
        assert!(!world.clear(node, one.id()), "there is nothing more to clear");
    }
    give(&mut world, 0, &one, 6);
    world.run_until(5_000, "taken again everywhere", |world| {
        (0..3).all(|node| world.view(node).known.authors[&one.id()].book.seq() == Seq(10))
    });
    world.show(0, 1, &proof);
    world.run_for(2_000);
    assert_eq!(world.view(1).known.authors[&one.id()].book.seq(), Seq(10), "that one was cleared");
    // A peer that really has the other history is another matter.
    let newcomer = world.add("newcomer");
    world.start(newcomer);
    world.run_for(100);
    world.give_on_disk(newcomer, &other);
    world.hint(newcomer, 0);
    world.run_until(6_000, "cut where it was found again", |world| {
        end_of(world, newcomer, one.id()).is_some()
    });
}

#[test]
fn an_author_that_is_cleared_before_its_log_is_cut_is_taken_again_behind_the_cut() {
    let mut world = line(11);
    let mut one = world.forger();
    one.think((0..10).map(thought));
    let mut other = one.clone();
    other.log.truncate(6);
    other.think((50..53).map(thought));
    give(&mut world, 1, &one, 0);
    world.run_until(5_000, "everywhere", |world| {
        (0..3).all(|node| world.view(node).known.authors.contains_key(&one.id()))
    });
    // Written everywhere, too.
    world.run_for(100);
    let proof = Proof::fork(one.segment(6).into_inner(), other.segment(6).into_inner()).unwrap();
    let proof = proof.verify(&world.rules_of(0)).unwrap();
    world.nodes[0].disk_lag_ms = 500;
    world.show(1, 0, &proof);
    world.run_until(3_000, "convicted", |world| end_of(world, 0, one.id()).is_some());
    let on_disk = |world: &World| world.nodes[0].disk.books.authors[&one.id()].seq();
    assert_eq!(on_disk(&world), Seq(10), "the store has not cut it yet");
    assert!(world.clear(0, one.id()));
    world.run_until(3_000, "cut", |world| on_disk(world) < Seq(10));
    let known = |world: &World| world.view(0).known.authors[&one.id()].book.seq();
    assert_eq!((on_disk(&world), known(&world)), (Seq(5), Seq(5)));
    give(&mut world, 0, &one, 6);
    world.run_until(5_000, "taken again", |world| known(world) == Seq(10) && on_disk(world) == Seq(10));
}

#[test]
fn heads_of_a_history_that_nobody_gives_out_convict_nobody() {
    let mut world = line(8);
    let mut one = world.forger();
    one.think((0..5).map(thought));
    let mut other = one.clone();
    one.think([thought(8)]);
    other.think([thought(9)]);
    give(&mut world, 0, &one, 0);
    world.run_until(5_000, "everywhere", |world| {
        (0..3).all(|node| world.view(node).known.authors.contains_key(&one.id()))
    });
    world.forge(1, 0, &told(&other));
    world.run_for(12_000);
    assert!((0..3).all(|node| end_of(&world, node, one.id()).is_none()));
    assert!(world.agree(&[0, 1, 2]) && world.is_meshed(&[0, 1]));
}

#[test]
fn a_peer_that_tells_of_faults_and_never_shows_them_keeps_no_proof_of_others_away() {
    let mut world = trio(9);
    world.start_all(10);
    world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]));
    world.run_for(200);
    let mut forgers = vec![];
    for number in 0..40 {
        let mut forger = world.forger();
        forger.think([thought(number)]);
        give(&mut world, 0, &forger, 0);
        forgers.push(forger);
    }
    world.run_until(5_000, "all known", |world| {
        (0..3).all(|node| {
            forgers.iter().all(|forger| world.view(node).known.authors.contains_key(&forger.id()))
        })
    });
    let reports: Vec<FaultReport> = forgers
        .iter()
        .map(|forger| FaultReport {
            author: forger.id(),
            cut: Seq(1),
            held: 1,
            hash: forger.log[0].hash(),
            balance: MicroAtp::ZERO,
            digest: [0; 32],
        })
        .collect();
    world.forge(1, 0, &BalanceFrame::Faults(reports));
    world.run_for(100);
    // The last of them really is at fault, and another peer has the proof.
    let one = forgers.last().unwrap();
    let mut other = one.clone();
    other.log.truncate(1);
    other.think([thought(1_000)]);
    let proof = Proof::fork(one.segment(1).into_inner(), other.segment(1).into_inner()).unwrap();
    world.show(0, 2, &proof.verify(&world.rules_of(0)).unwrap());
    world.run_until(2_000, "believed at once", |world| all_cut(world, &[0, 2], one.id(), 1));
    world.run_for(60_000);
    let wrongly = forgers[..39].iter().filter(|forger| end_of(&world, 0, forger.id()).is_some()).count();
    assert_eq!(wrongly, 0, "nobody is convicted without a proof");
    assert!(world.is_meshed(&[0, 1, 2]));
}
