//! What a federation promises, each promise over many seeds.

use cogmesh::{
    ledger::{
        Verdict,
        types::{MicroAtp, Seq},
    },
    log::{Hash, Head, Signature},
    protocol::{
        event::Event,
        frame::{BalanceFrame, HeadReport},
        input::{Answer, Ticket},
        refusal::RefusalCode,
    },
};

use super::world::World;

pub(crate) const TRIO: [&str; 3] = ["legion", "thor", "sprout"];

pub(crate) fn trio(seed: u64) -> World {
    let mut world = World::new(seed);
    for name in TRIO {
        world.add(name);
    }
    world
}

pub(crate) fn thought(number: u64) -> String {
    let letters: String = number.to_string().bytes().map(|digit| char::from(b'a' + digit - b'0')).collect();
    format!(
        "Observation tag{letters} compares measured latency against predicted budgets, noticing where careful batching \
         preserves ordering while federated machines continue sharing evidence"
    )
}

#[test]
fn three_nodes_that_start_at_once_end_with_one_connection_a_pair() {
    for seed in 0..2_000 {
        let mut world = trio(seed);
        world.start_all(seed % 40);
        world.run_until(3_000, &format!("seed {seed}: everyone verified"), |world| {
            world.is_meshed(&[0, 1, 2])
        });
        world.run_for(4_000);
        assert!(world.is_meshed(&[0, 1, 2]), "seed {seed}: it stays that way");
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            let count = world.connections(one, other) + world.connections(other, one);
            assert_eq!(count, 2, "seed {seed}: the two ends of one connection");
        }
        for node in &world.nodes {
            let refused = node.events.iter().any(|event| matches!(event, Event::Refused { .. }));
            assert!(!refused, "seed {seed}: nobody is refused for dialling at the same time");
        }
    }
}

#[test]
fn twenty_nodes_that_start_at_once_all_meet() {
    let mut world = World::new(7);
    let all: Vec<usize> = (0..20).map(|number| world.add(&format!("node-{number}"))).collect();
    world.start_all(5);
    world.run_until(10_000, "all meshed", |world| world.is_meshed(&all));
    world.run_until(10_000, "all agree", |world| world.agree(&all));
}

#[test]
fn a_thought_of_each_reaches_the_others_with_the_same_books() {
    for seed in 0..300 {
        let mut world = trio(seed);
        world.start_all(30);
        world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]));
        // Of two links that were dialled at once, the surplus one may still be on its way out.
        world.run_for(200);
        let tickets: Vec<Ticket> =
            (0..3).map(|node| world.submit(node, &thought(node as u64), None)).collect();
        world.run_until(2_000, "books agree", |world| {
            (0..3).all(|author| world.book(0, author).is_some_and(|book| book.seq() == Seq(1)))
                && world.agree(&[0, 1, 2])
        });
        for (node, ticket) in tickets.into_iter().enumerate() {
            let Some(Answer::Recorded { recorded, peers_sent }) = world.nodes[node].answers.get(&ticket)
            else {
                panic!("seed {seed}: answered");
            };
            assert!(matches!(recorded.verdict, Verdict::Accepted { .. }));
            assert_eq!(*peers_sent, 2, "seed {seed}");
        }
    }
}

#[test]
fn who_was_cut_off_catches_up_with_everything() {
    for seed in 0..200 {
        let mut world = trio(seed);
        world.start_all(30);
        world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]));
        world.cut(0, 1);
        world.cut(1, 2);
        for number in 0..60 {
            world.submit((number % 3) as usize, &thought(number), None);
            let pause = world.random(100);
            world.run_for(pause);
        }
        world.run_for(12_000);
        assert_eq!(world.verified(1).len(), 0, "seed {seed}: it noticed");
        world.heal();
        world.run_until(40_000, "meshed again", |world| world.is_meshed(&[0, 1, 2]));
        world.run_until(10_000, &format!("seed {seed}: books agree"), |world| {
            world.agree(&[0, 1, 2]) && world.book(1, 0).is_some_and(|book| book.seq() == Seq(20))
        });
    }
}

#[test]
fn without_a_direct_link_entries_come_through_whoever_reaches_both() {
    for seed in 0..100 {
        let mut world = trio(seed);
        world.cut(0, 2);
        world.start_all(30);
        world.run_until(5_000, "linked through thor", |world| {
            world.is_meshed(&[0, 1]) && world.is_meshed(&[1, 2])
        });
        for number in 0..20 {
            world.submit(0, &thought(number), None);
            world.submit(2, &thought(number + 100), None);
        }
        world.run_until(10_000, &format!("seed {seed}: books agree"), |world| {
            world.agree(&[0, 1, 2]) && world.book(2, 0).is_some_and(|book| book.seq() == Seq(20))
        });
    }
}

#[test]
fn a_killed_node_comes_back_with_its_balance_and_replaces_its_old_link_within_a_moment() {
    for seed in 0..200 {
        let mut world = trio(seed);
        world.start_all(30);
        world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]));
        let answered: Vec<Ticket> = (0..10).map(|number| world.submit(1, &thought(number), None)).collect();
        let pause = world.random(20);
        world.run_for(pause);
        let before =
            answered.iter().filter(|ticket| world.nodes[1].answers.contains_key(ticket)).count() as u64;
        world.kill(1);
        let pause = world.random(8_000);
        world.run_for(pause);
        world.start(1);
        world.hint(1, 0);
        world.hint(1, 2);
        world.run_until(3_000, &format!("seed {seed}: verified again"), |world| world.is_meshed(&[0, 1, 2]));
        world.run_until(5_000, "books agree", |world| world.agree(&[0, 1, 2]));
        let seq = world.book(0, 1).unwrap().seq().0;
        assert!(seq >= before, "seed {seed}: {before} were acknowledged, {seq} are left");
        for node in [0, 2] {
            let forks =
                world.nodes[node].events.iter().any(|event| matches!(event, Event::AuthorFault { .. }));
            assert!(!forks, "seed {seed}: nothing was signed twice");
        }
    }
}

#[test]
fn a_repetition_with_the_same_key_gets_the_first_answer_and_records_nothing() {
    let mut world = trio(1);
    world.start_all(10);
    world.run_for(100);
    let first = world.submit(0, &thought(1), Some("once"));
    let while_it_waits = world.submit(0, &thought(1), Some("once"));
    world.run_for(100);
    let later = world.submit(0, &thought(2), Some("once"));
    world.run_for(100);
    world.kill(0);
    world.start(0);
    world.run_for(10);
    let after_a_restart = world.submit(0, &thought(3), Some("once"));
    world.run_for(100);
    let seqs: Vec<Seq> = [first, while_it_waits, later, after_a_restart]
        .iter()
        .map(|ticket| match &world.nodes[0].answers[ticket] {
            Answer::Recorded { recorded, .. } => recorded.seq,
            other
            @ (Answer::Would(_) | Answer::Inadmissible(_) | Answer::Refused(_) | Answer::Cleared(_)) => {
                panic!("{other:?}")
            }
        })
        .collect();
    assert_eq!(seqs, [Seq(1); 4]);
    assert_eq!(world.book(0, 0).unwrap().seq(), Seq(1));
}

#[test]
fn entries_from_a_clock_far_ahead_are_held_and_taken_when_their_time_comes() {
    let mut world = trio(3);
    world.set_clock(0, 150_000);
    world.start(0);
    world.run_for(50);
    world.submit(0, &thought(1), None);
    world.run_for(50);
    world.start(1);
    world.hint(1, 0);
    world.run_for(3_000);
    assert!(world.book(1, 0).is_none(), "150 s ahead is more than 120");
    assert!(world.nodes[1].events.iter().any(|event| matches!(event, Event::ClockSkew { .. })));
    assert!(world.nodes[1].events.iter().all(|event| !matches!(event, Event::SegmentRefused { .. })));
    world.run_until(60_000, "taken", |world| world.book(1, 0).is_some_and(|book| book.seq() == Seq(1)));
}

#[test]
fn a_node_whose_clock_is_ahead_writes_with_its_peers() {
    let mut world = trio(4);
    for node in 0..3 {
        world.start(node);
    }
    world.hint(1, 0);
    world.hint(2, 0);
    world.run_until(5_000, "linked", |world| world.verified(0).len() == 2);
    world.set_clock(0, 100_000);
    world.run_for(11_000);
    world.submit(0, &thought(1), None);
    world.run_until(3_000, "taken", |world| world.book(1, 0).is_some_and(|book| book.seq() == Seq(1)));
    assert!(world.nodes[0].events.iter().any(|event| matches!(event, Event::OwnClockSkew { .. })));
}

#[test]
fn a_clone_is_refused_while_the_first_one_answers() {
    let mut world = trio(5);
    world.start(0);
    world.start(1);
    world.hint(0, 1);
    world.run_until(3_000, "linked", |world| world.is_meshed(&[0, 1]));
    let twin = world.twin_of(1);
    world.start(twin);
    world.hint(twin, 0);
    world.run_for(3_000);
    assert!(world.is_meshed(&[0, 1]), "the first stays");
    let refused = world.nodes[0]
        .events
        .iter()
        .any(|event| matches!(event, Event::Refused { refusal, .. } if refusal.code == RefusalCode::Clone));
    assert!(refused);
}

#[test]
fn a_newcomer_gets_more_logs_than_it_may_ask_for_at_once() {
    let mut world = World::new(8);
    let hub = world.add("hub");
    world.start(hub);
    for number in 0..90 {
        let node = world.add(&format!("node-{number}"));
        world.start(node);
        world.hint(node, hub);
    }
    world.run_until(30_000, "the hub has all logs", |world| world.view(hub).known.authors.len() == 91);
    let newcomer = world.add("newcomer");
    world.start(newcomer);
    world.hint(newcomer, hub);
    // 64 wants at a time, of which the hub serves four at a time.
    let taken = world
        .run_until(30_000, "so has the newcomer", |world| world.view(newcomer).known.authors.len() == 92);
    assert!(taken < 5_000, "no want had to be repeated: {taken} ms");
}

#[test]
fn who_tells_heads_that_nobody_signed_is_refused_for_a_while_and_the_others_go_on() {
    let mut world = trio(6);
    world.start_all(10);
    world.run_until(3_000, "meshed", |world| world.is_meshed(&[0, 1, 2]));
    let head = Head { author: world.id(1), seq: Seq(99), hash: Hash([1; 32]), signature: Signature([2; 64]) };
    let report = HeadReport { head, balance: MicroAtp::from_atp(1_000_000), digest: [3; 32] };
    for _ in 0..3 {
        world.forge(1, 0, &BalanceFrame::Heads(vec![report]));
    }
    world.run_until(1_000, "thor has to go", |world| world.verified(0).len() == 1);
    let refused = |event: &&Event| matches!(event, Event::SegmentRefused { .. });
    assert_eq!(world.nodes[0].events.iter().filter(refused).count(), 3, "each is counted");
    world.run_for(30_000);
    assert!(world.is_meshed(&[0, 2]) && !world.is_meshed(&[0, 1]), "refused for a minute");
    assert_eq!(world.book(0, 1).unwrap().seq(), Seq(0), "and nothing of it is believed");
    world.run_until(120_000, "taken in again", |world| world.is_meshed(&[0, 1, 2]));
}

#[test]
fn a_peer_that_boasts_and_repeats_itself_keeps_nobody_from_catching_up() {
    let mut world = trio(8);
    for node in 0..3 {
        world.start(node);
    }
    world.hint(1, 0);
    world.hint(1, 2);
    world.run_until(5_000, "linked", |world| world.verified(1).len() == 2);
    world.run_for(500);
    world.cut(0, 1);
    world.submit(0, &thought(1), None);
    world.run_for(12_000);
    world.boast(1, 2, 0);
    world.heal();
    for _ in 0..20 {
        world.run_for(2_000);
        world.boast(1, 2, 0);
    }
    assert!(world.verified(1).contains_key(&world.id(0)), "linked again");
    assert_eq!(world.book(1, 0).unwrap().seq(), Seq(1));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = trio(42);
        world.start_all(30);
        for number in 0..30 {
            world.submit((number % 3) as usize, &thought(number), None);
            let pause = world.random(50);
            world.run_for(pause);
        }
        world.run_for(3_000);
        world.nodes.iter().map(|node| format!("{:?}", node.events)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn after_a_change_of_the_network_dead_links_are_replaced_within_two_seconds_and_live_ones_stay() {
    for seed in 0..20 {
        let mut world = trio(seed);
        world.start_all(10);
        world.run_until(5_000, "all linked", |world| world.is_meshed(&[0, 1, 2]));
        // Of links that are younger, another one might have been dialled at the same time.
        world.run_for(6_000);
        let before: Vec<_> = (0..3).map(|node| world.verified(node)).collect();
        let (thor, sprout) = (world.id(1), world.id(2));
        // No packet arrives any more over the link between the first two, and a new one is possible.
        world.cut(0, 1);
        world.heal();
        world.run_until(2_000, "another link", |world| {
            let now = world.verified(0);
            now.get(&thor).is_some_and(|link| *link != before[0][&thor]) && world.is_meshed(&[0, 1, 2])
        });
        world.run_for(1_000);
        assert_eq!(world.verified(0)[&sprout], before[0][&sprout], "seed {seed}: it answered");
        assert_eq!(world.verified(1)[&sprout], before[1][&sprout], "seed {seed}: it answered");
        assert_eq!((world.connections(0, 1), world.connections(1, 2)), (1, 1), "seed {seed}");
    }
}
