//! Nothing is lost and nothing forks, whatever becomes of a node's disk. The world itself checks that no two entries with one
//! seq ever leave a node.

use cogmesh::{
    ledger::types::{MicroAtp, Seq},
    log::{Alive, Hash, Head, Signature},
    protocol::{
        event::Event,
        frame::{BalanceFrame, ControlFrame, HeadReport, Instance},
        input::{Answer, DiskLow, SubmitFault, Ticket},
        recovery::Doubt,
        view::OwnLogView,
    },
};

use super::{
    disk::Disk,
    stories::{thought, trio},
    world::World,
};

const ALL: [usize; 3] = [0, 1, 2];

/// Legion, thor and sprout, meshed, with some thoughts of thor everywhere.
fn begun(seed: u64, thoughts: u64) -> World {
    let mut world = trio(seed);
    world.start_all(10);
    world.run_until(3_000, "meshed", |world| world.is_meshed(&ALL));
    write(&mut world, 1, 0..thoughts);
    world
}

fn write(world: &mut World, node: usize, numbers: std::ops::Range<u64>) {
    for number in numbers {
        world.submit(node, &thought(number), None);
        let pause = world.random(60);
        world.run_for(pause);
    }
    world.run_for(500);
}

fn start_and_tell(world: &mut World, node: usize, others: &[usize]) {
    world.start(node);
    for other in others {
        world.hint(node, *other);
    }
}

fn answer(world: &World, node: usize, ticket: Ticket) -> &Answer {
    &world.nodes[node].answers[&ticket]
}

/// What a submission is answered within half a second.
fn submitted(world: &mut World, node: usize, number: u64) -> Answer {
    let ticket = world.submit(node, &thought(number), None);
    world.run_for(500);
    answer(world, node, ticket).clone()
}

fn recorded_at(answer: &Answer) -> Option<Seq> {
    match answer {
        Answer::Recorded { recorded, .. } => Some(recorded.seq),
        Answer::Would(_) | Answer::Inadmissible(_) | Answer::Refused(_) | Answer::Cleared(_) => None,
    }
}

fn is_open(world: &World, node: usize) -> bool {
    world.view(node).own_log == OwnLogView::Open
}

#[test]
fn a_restored_backup_gets_its_own_log_back_before_it_signs() {
    for seed in 0..200 {
        let mut world = begun(seed, 3);
        let yesterday = world.backup(1);
        write(&mut world, 1, 10..15);
        world.kill(1);
        world.restore(1, yesterday);
        start_and_tell(&mut world, 1, &[0, 2]);
        assert!(!is_open(&world, 1), "seed {seed}: it waits");
        world.run_until(15_000, &format!("seed {seed}: it writes again"), |world| is_open(world, 1));
        assert_eq!(recorded_at(&submitted(&mut world, 1, 20)), Some(Seq(9)), "seed {seed}: after all eight");
        world.run_until(20_000, "all agree", |world| world.is_meshed(&ALL) && world.agree(&ALL));
        assert!(!world.nodes[1].disk.books.restored, "and the next start need not ask");
    }
}

#[test]
fn with_its_peers_down_a_restored_backup_waits_and_says_so_until_one_is_back() {
    for seed in 0..50 {
        let mut world = begun(seed, 3);
        let yesterday = world.backup(1);
        write(&mut world, 1, 10..15);
        for node in ALL {
            world.kill(node);
        }
        world.restore(1, yesterday);
        start_and_tell(&mut world, 1, &[0, 2]);
        world.run_for(60_000);
        let Answer::Refused(SubmitFault::OwnLogAwaited { why }) = submitted(&mut world, 1, 20) else {
            panic!("seed {seed}: refused");
        };
        assert!(why.contains("none of the 2 peers") && why.contains("--write-without-peers"), "{why}");
        start_and_tell(&mut world, 2, &[1]);
        world.run_until(60_000, &format!("seed {seed}: one peer is enough"), |world| is_open(world, 1));
        assert_eq!(recorded_at(&submitted(&mut world, 1, 21)), Some(Seq(9)));
    }
}

#[test]
fn in_doubt_a_node_gives_out_nothing_of_its_own_log_whoever_asks() {
    let mut world = begun(1, 3);
    let same = world.backup(1);
    for node in ALL {
        world.kill(node);
    }
    world.restore(1, same);
    world.start(1);
    let stranger = world.add("stranger");
    start_and_tell(&mut world, stranger, &[1]);
    world.run_until(5_000, "linked", |world| world.is_meshed(&[1, stranger]));
    world.forge(stranger, 1, &BalanceFrame::Want { author: world.id(1), from: Seq(0) });
    world.run_for(10_000);
    assert!(world.book(stranger, 1).is_none() && !is_open(&world, 1));
    start_and_tell(&mut world, 0, &[1]);
    world.run_until(20_000, "once its log is whole it does", |world| world.book(stranger, 1).is_some());
}

#[test]
fn an_old_store_put_back_by_hand_is_known_by_its_mark() {
    for seed in 0..50 {
        let mut world = begun(seed, 3);
        let yesterday = world.backup(1);
        write(&mut world, 1, 10..15);
        for node in ALL {
            world.kill(node);
        }
        world.nodes[1].disk = yesterday;
        world.start(1);
        world.run_for(20_000);
        assert!(!is_open(&world, 1), "seed {seed}: nobody told it anything yet");
        start_and_tell(&mut world, 0, &[1]);
        world.run_until(15_000, "its log is back", |world| is_open(world, 1));
        assert_eq!(recorded_at(&submitted(&mut world, 1, 20)), Some(Seq(9)), "seed {seed}");
    }
}

#[test]
fn the_operator_may_answer_for_it_that_nobody_has_more() {
    let mut world = begun(1, 3);
    for node in ALL {
        world.kill(node);
    }
    let same = world.backup(1);
    world.restore(1, same);
    world.nodes[1].write_without_peers = true;
    world.start(1);
    assert_eq!(recorded_at(&submitted(&mut world, 1, 20)), Some(Seq(4)));
    start_and_tell(&mut world, 0, &[1]);
    world.run_until(20_000, "both agree", |world| world.is_meshed(&[0, 1]) && world.agree(&[0, 1]));
}

#[test]
fn a_store_that_was_set_aside_comes_back_whole_with_its_first_entry() {
    for seed in 0..50 {
        let mut world = begun(seed, 5);
        world.kill(1);
        world.empty_disk(1);
        start_and_tell(&mut world, 1, &[0, 2]);
        world.run_until(15_000, "its log is back", |world| is_open(world, 1));
        assert_eq!(recorded_at(&submitted(&mut world, 1, 20)), Some(Seq(6)), "seed {seed}");
        world.run_until(20_000, "all agree", |world| world.is_meshed(&ALL) && world.agree(&ALL));
    }
}

#[test]
fn where_the_whole_log_is_gone_not_even_the_operator_can_begin_it_anew() {
    let mut world = begun(1, 5);
    for node in ALL {
        world.kill(node);
    }
    world.empty_disk(1);
    world.nodes[1].write_without_peers = true;
    world.start(1);
    world.run_for(5_000);
    assert!(!is_open(&world, 1));
}

#[test]
fn commits_that_a_power_cut_took_come_back_from_the_peers_that_had_them() {
    for seed in 0..100 {
        let mut world = begun(seed, 3);
        let synced = world.backup(1);
        write(&mut world, 1, 10..14);
        world.kill(1);
        world.lose_unsynced(1, synced);
        start_and_tell(&mut world, 1, &[0, 2]);
        world.run_until(15_000, "its log is back", |world| is_open(world, 1));
        assert_eq!(recorded_at(&submitted(&mut world, 1, 20)), Some(Seq(8)), "seed {seed}");
    }
}

#[test]
fn a_clone_is_told_to_both_within_five_seconds_and_neither_writes() {
    for seed in 0..100 {
        let mut world = begun(seed, 3);
        let twin = world.twin_of(1);
        start_and_tell(&mut world, twin, &[0]);
        let told = |world: &World, node: usize| {
            let own = |event: &Event| matches!(event, Event::Clone { own: true, .. });
            world.nodes[node].events.iter().any(own)
        };
        world.run_until(5_000, "both know", |world| told(world, 1) && told(world, twin));
        for node in [1, twin] {
            assert_eq!(submitted(&mut world, node, 20), Answer::Refused(SubmitFault::Clone), "seed {seed}");
        }
        let seen = |event: &Event| matches!(event, Event::Clone { own: false, .. });
        assert!(world.nodes[0].events.iter().any(seen), "and the peer says so, too");
        assert!(world.is_meshed(&ALL), "the first one stays linked");
        world.kill(twin);
        world.kill(1);
        start_and_tell(&mut world, 1, &[0, 2]);
        world.run_until(20_000, "alone again, it writes", |world| is_open(world, 1));
        assert_eq!(recorded_at(&submitted(&mut world, 1, 21)), Some(Seq(4)), "seed {seed}");
    }
}

/// It does not dial anybody: a peer finds it at an address that the peer was told.
#[test]
fn a_clone_that_a_peer_dials_is_found_out_as_well() {
    for seed in 0..50 {
        let mut world = begun(seed, 3);
        let twin = world.twin_of(1);
        world.start(twin);
        world.hint_address(0, twin);
        world.run_for(5_000);
        for node in [1, twin] {
            assert_eq!(submitted(&mut world, node, 20), Answer::Refused(SubmitFault::Clone), "seed {seed}");
        }
        assert!(world.is_meshed(&ALL), "seed {seed}: the first one stays linked");
        world.kill(1);
        world.run_until(90_000, "the other takes its place", |world| world.is_meshed(&[0, twin]));
    }
}

#[test]
fn two_clones_that_meet_each_other_and_nobody_else_know_it() {
    for seed in 0..50 {
        let mut world = trio(seed);
        world.start(1);
        world.run_for(100);
        let twin = world.twin_of(1);
        start_and_tell(&mut world, twin, &[1]);
        world.run_for(2_000);
        for node in [1, twin] {
            assert_eq!(submitted(&mut world, node, 1), Answer::Refused(SubmitFault::Clone), "seed {seed}");
        }
    }
}

#[test]
fn a_node_that_dials_itself_is_no_clone() {
    let mut world = trio(1);
    start_and_tell(&mut world, 1, &[1]);
    world.run_for(5_000);
    assert_eq!(recorded_at(&submitted(&mut world, 1, 1)), Some(Seq(1)));
}

#[test]
fn nobody_can_talk_a_node_into_believing_that_it_was_cloned() {
    let mut world = begun(1, 1);
    let (thor, federation) = (world.instance(1), world.federation(1));
    let hostile = world.identity(0);
    // Signed by another key; and by the right one, but for a process that is gone.
    let forged = Alive::sign(&hostile, &federation, 9, thor.0);
    world.forge_control(0, 1, &ControlFrame::Clone(forged));
    world.run_for(500);
    assert_eq!(recorded_at(&submitted(&mut world, 1, 2)), Some(Seq(2)));
    let stale = Alive::sign(&world.identity(1), &federation, 9, thor.0.wrapping_add(1));
    world.run_until(60_000, "linked", |world| world.is_meshed(&[1, 2]));
    world.forge_control(2, 1, &ControlFrame::Clone(stale));
    world.run_for(500);
    assert_eq!(recorded_at(&submitted(&mut world, 1, 3)), Some(Seq(3)));
}

#[test]
fn who_is_asked_for_a_sign_of_life_gives_none_that_names_itself() {
    let mut world = begun(1, 1);
    let thor = world.instance(1);
    world.forge_control(0, 1, &ControlFrame::Rival { instance: thor });
    world.forge_control(0, 1, &ControlFrame::Rival { instance: Instance(5) });
    world.run_for(500);
    assert_eq!(recorded_at(&submitted(&mut world, 1, 2)), Some(Seq(2)));
}

/// A disk that was cloned whole has the mark of the original. As long as it has not written, it gets its log back; once it has,
/// entries that it never wrote stop it.
#[test]
fn a_copy_that_nothing_tells_from_the_original_never_forks_what_left_it() {
    for seed in 0..50 {
        let mut world = begun(seed, 1);
        let copy = world.twin_of(1);
        write(&mut world, 1, 2..4);
        world.kill(1);
        world.start(copy);
        world.hint(copy, 0);
        world.run_until(10_000, "linked", |world| !world.verified(copy).is_empty());
        world.run_for(3_000);
        assert_eq!(recorded_at(&submitted(&mut world, copy, 20)), Some(Seq(4)), "seed {seed}");
        let behind = |event: &Event| matches!(event, Event::OwnLogBehind { .. });
        assert!(world.nodes[copy].events.iter().any(behind), "seed {seed}: and that was told");
    }
}

#[test]
fn entries_on_their_way_to_the_disk_are_not_signed_once_somebody_else_wrote_the_same_seq() {
    for seed in 0..50 {
        let mut world = begun(seed, 1);
        let ticket = world.submit(1, &thought(30), None);
        // Before the disk has it, a peer tells of an entry far ahead that thor's key signed and this process did not.
        world.boast(1, 0, 1);
        world.run_for(500);
        let halted = Answer::Refused(SubmitFault::OwnLogBehind { ours: Seq(1), theirs: Seq(1_000_000) });
        assert_eq!(*answer(&world, 1, ticket), halted, "seed {seed}");
        assert_eq!(world.book(0, 1).unwrap().seq(), Seq(1), "seed {seed}: nothing left");
        // After a restart its peers are asked first; nobody has more, so what is on the disk may be signed.
        world.kill(1);
        start_and_tell(&mut world, 1, &[0, 2]);
        assert!(!is_open(&world, 1), "seed {seed}");
        world.run_until(15_000, "it writes again", |world| is_open(world, 1));
        assert_eq!(recorded_at(&submitted(&mut world, 1, 31)), Some(Seq(3)), "seed {seed}");
    }
}

#[test]
fn an_unclean_stop_of_a_node_whose_commits_are_synced_is_no_doubt() {
    let mut world = begun(1, 3);
    for node in ALL {
        world.kill(node);
    }
    world.start(1);
    assert_eq!(recorded_at(&submitted(&mut world, 1, 20)), Some(Seq(4)));
}

#[test]
fn a_copied_directory_waits_while_its_original_goes_on() {
    let mut world = begun(1, 3);
    world.cut(0, 1);
    world.cut(1, 2);
    let copy = world.twin_of(1);
    world.nodes[copy].doubt = Some(Doubt::Copied);
    world.start(copy);
    world.run_for(20_000);
    assert!(!is_open(&world, copy));
    assert_eq!(recorded_at(&submitted(&mut world, 1, 20)), Some(Seq(4)));
}

#[test]
fn with_too_little_room_a_node_serves_and_refuses_and_catches_up_by_itself() {
    for seed in 0..20 {
        let mut world = begun(seed, 2);
        let low = DiskLow { free: 1 << 20, min: 256 << 20 };
        world.disk_low(1, Some(low));
        assert_eq!(submitted(&mut world, 1, 20), Answer::Refused(SubmitFault::DiskLow(low)), "seed {seed}");
        write(&mut world, 0, 30..34);
        world.run_for(20_000);
        assert_eq!(world.book(1, 0).unwrap().seq(), Seq(0), "seed {seed}: nothing is taken in");
        assert!(world.is_meshed(&ALL), "seed {seed}: and nobody is blamed");
        let newcomer = world.add("newcomer");
        start_and_tell(&mut world, newcomer, &[1]);
        world.run_until(10_000, "it still serves", |world| world.book(newcomer, 1).is_some());
        world.disk_low(1, None);
        world.run_until(5_000, "it caught up", |world| world.agree(&ALL));
        assert_eq!(recorded_at(&submitted(&mut world, 1, 21)), Some(Seq(3)), "seed {seed}");
    }
}

#[test]
fn a_damaged_entry_is_fetched_from_a_peer_and_the_next_one_is_asked_where_it_is_silent() {
    for seed in 0..50 {
        let mut world = begun(seed, 8);
        world.prune(0, 1);
        assert_eq!(world.contents(0, 1), 0);
        for seq in [3, 4, 7] {
            world.damage(0, 1, Seq(seq));
        }
        world.run_until(20_000, &format!("seed {seed}: mended"), |world| world.view(0).missing == 0);
        world.run_for(500);
        assert!(world.contents(0, 1) >= 3, "seed {seed}");
    }
}

#[test]
fn a_late_joiner_gets_the_books_whole_and_the_contents_that_somebody_still_has() {
    for seed in 0..50 {
        let mut world = begun(seed, 40);
        world.run_until(5_000, "all agree", |world| world.agree(&ALL));
        world.run_for(1_000);
        // Thor's contents are left on sprout only.
        for node in [0, 1] {
            world.prune(node, 1);
        }
        let late = world.add("late");
        start_and_tell(&mut world, late, &[0]);
        world.run_until(10_000, "it has the books", |world| world.agree(&[0, late]));
        world.run_for(1_000);
        assert_eq!(world.contents(late, 1), 0, "seed {seed}: legion had none");
        world.hint(late, 2);
        world.run_until(20_000, &format!("seed {seed}: sprout has them"), |world| {
            world.view(late).missing == 0
        });
        world.run_for(1_000);
        assert_eq!(world.contents(late, 1), 40, "seed {seed}");
    }
}

/// A stranger that was met while waiting counts as a peer of an earlier run after a second start.
#[test]
fn a_stranger_that_was_met_while_waiting_is_no_peer_of_an_earlier_run_at_the_next_start() {
    let mut world = begun(1, 3);
    let yesterday = world.backup(1);
    write(&mut world, 1, 10..15);
    for node in ALL {
        world.kill(node);
    }
    world.restore(1, yesterday);
    // A new machine: the mark is gone with the old one.
    world.nodes[1].mark = None;
    let stranger = world.add("stranger");
    world.start(stranger);
    world.start(1);
    world.hint(1, stranger);
    world.run_for(10_000);
    assert!(!is_open(&world, 1), "first start: it waits");
    world.kill(1);
    world.start(1);
    world.hint(1, stranger);
    world.run_for(30_000);
    let opened = is_open(&world, 1);
    world.submit(1, &thought(77), None);
    world.run_for(500);
    assert!(!opened, "second start: a stranger's silence opened it");
}

/// A repetition with its key, after the node halted while the first one waited for the disk, is never answered.
#[test]
fn a_repetition_is_answered_after_a_halt() {
    let mut world = begun(1, 1);
    let first = world.submit(1, &thought(30), Some("k"));
    world.boast(1, 0, 1);
    world.run_for(500);
    assert!(matches!(world.nodes[1].answers[&first], Answer::Refused(_)));
    let again = world.submit(1, &thought(30), Some("k"));
    world.run_for(60_000);
    assert!(world.nodes[1].answers.contains_key(&again), "never answered");
}

/// A disk cloned whole: one peer tells a bit, another, linked half a second later, would tell more.
#[test]
fn a_whole_copy_that_was_told_of_one_entry_hears_the_others_out() {
    let mut world = begun(1, 1);
    let copy = world.twin_of(1);
    write(&mut world, 1, 2..3);
    world.cut(1, 2);
    world.cut(0, 2);
    world.run_for(15_000);
    write(&mut world, 1, 3..6);
    assert_eq!(world.book(0, 1).unwrap().seq(), Seq(5));
    assert_eq!(world.book(2, 1).unwrap().seq(), Seq(2));
    world.kill(1);
    world.start(copy);
    world.hint(copy, 2);
    world.run_for(300);
    assert!(world.nodes[copy].events.iter().any(|event| matches!(event, Event::OwnLogBehind { .. })));
    world.submit(copy, &thought(50), None);
    world.hint(copy, 0);
    world.run_for(5_000);
}

/// A board without a clock battery gets its own log back.
#[test]
fn own_entries_come_back_though_the_clock_is_behind() {
    let mut world = begun(1, 3);
    world.kill(1);
    world.empty_disk(1);
    world.set_clock(1, -3_600_000);
    world.start(1);
    world.hint(1, 0);
    world.hint(1, 2);
    world.run_for(120_000);
    assert!(is_open(&world, 1), "{:?}", world.view(1).own_log);
}

/// Under `normal` the mark is ahead and not exact: `through` is then not known. The whole store is lost, with its peers.
#[test]
fn a_log_that_is_gone_whole_is_not_begun_anew_where_the_mark_is_not_exact() {
    let mut world = begun(1, 3);
    world.kill(1);
    world.kill(0);
    world.kill(2);
    world.lose_unsynced(1, Disk::default());
    let stranger = world.add("stranger");
    world.start(stranger);
    world.start(1);
    world.hint(1, stranger);
    world.run_for(10_000);
    assert!(world.book(1, 1).is_none(), "a second genesis");
}

/// Heads of the receiver's own log that nobody signed count against their sender.
#[test]
fn forged_heads_of_our_own_log_count_against_their_sender() {
    let mut world = begun(1, 1);
    let head = Head { author: world.id(0), seq: Seq(99), hash: Hash([1; 32]), signature: Signature([2; 64]) };
    let report = HeadReport { head, balance: MicroAtp::from_atp(1), digest: [3; 32] };
    for _ in 0..10 {
        world.forge(1, 0, &BalanceFrame::Heads(vec![report; 1_024]));
    }
    world.run_for(1_000);
    assert_eq!(world.verified(0).len(), 1, "thor has to go");
}

/// With --write-without-peers a log behind its mark is written on; the next start need not ask again.
#[test]
fn what_the_operator_answered_for_stays_answered() {
    let mut world = begun(1, 3);
    let yesterday = world.backup(1);
    write(&mut world, 1, 10..15);
    for node in ALL {
        world.kill(node);
    }
    world.nodes[1].disk = yesterday;
    world.nodes[1].write_without_peers = true;
    world.start(1);
    assert!(is_open(&world, 1));
    world.kill(1);
    world.nodes[1].write_without_peers = false;
    world.start(1);
    assert!(is_open(&world, 1), "it waits for entries that nobody has");
}

/// While the disk is low, what can't be kept is not asked for again and again.
#[test]
fn a_full_node_asks_for_nothing_that_it_could_not_keep() {
    let mut world = begun(1, 1);
    world.disk_low(0, Some(DiskLow { free: 1, min: 2 }));
    write(&mut world, 1, 10..20);
    world.run_for(300_000);
    let asked = world.nodes[0].events.iter().filter(|event| matches!(event, Event::Wanted { .. })).count();
    assert!(asked < 3, "asked {asked} times");
}
