//! Three nodes under load, of which some are killed at random moments and started again, over and over.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    load::Load,
    nodes::{Dice, Node, PATIENCE, number},
    witness::Witness,
};

/// Kills where the environment says nothing.
const KILLS: u64 = 12;
const KILLS_PER_FEDERATION: usize = 20;
const NAMES: [&str; 3] = ["legion", "thor", "sprout"];
/// Who has not caught up by then says how far it is.
const SLOW: Duration = Duration::from_secs(1);
/// At each node.
const SUBMITTERS: usize = 2;

/// One kill: after how long, whom, and how long after its restart began it is killed once more.
#[derive(Debug)]
struct Kill {
    after: Duration,
    victims: Vec<usize>,
    again_after: Option<Duration>,
}

fn schedule(seed: u64, kills: u64) -> Vec<Kill> {
    let mut dice = Dice(seed);
    let mut next = || {
        let after = Duration::from_micros(10_000 + dice.below(290_000));
        let one = usize::try_from(dice.below(NAMES.len() as u64)).unwrap();
        let victims = if dice.once_in(5) { (0..NAMES.len()).collect() } else { vec![one] };
        let again = dice.once_in(4).then(|| Duration::from_micros(dice.below(120_000)));
        Kill { after, victims, again_after: again }
    };
    (0..kills).map(|_| next()).collect()
}

#[test]
fn what_killed_nodes_acknowledged_is_in_their_logs_and_no_seq_is_used_twice() {
    let seed = number("COGMESH_CRASH_SEED").unwrap_or(1);
    let kills = number("COGMESH_CRASH_KILLS").unwrap_or(KILLS);
    println!("COGMESH_CRASH_SEED={seed} COGMESH_CRASH_KILLS={kills}");
    let begun = Instant::now();
    let mut acked = 0;
    // A new federation now and then: every kill is followed by a look through the whole log, which grows.
    let schedule = schedule(seed, kills);
    for kills in schedule.chunks(KILLS_PER_FEDERATION) {
        acked += survive(kills, begun);
    }
    println!("{kills} kills, {acked} thoughts acknowledged, in {:?}", begun.elapsed());
}

/// How many thoughts were acknowledged meanwhile.
fn survive(kills: &[Kill], begun: Instant) -> usize {
    let world = tempfile::tempdir().unwrap();
    let mut nodes = Node::federation(world.path(), &NAMES);
    nodes.iter_mut().for_each(Node::start);
    let load = Load::start(&nodes, SUBMITTERS);
    let mut witness = Witness::default();
    for kill in kills {
        println!("{:?}, {} acknowledged: {kill:?}", begun.elapsed(), load.acked().len());
        thread::sleep(kill.after);
        each(&mut nodes, &kill.victims, Node::kill);
        let acked = load.acked();
        for victim in &kill.victims {
            witness.check_store(*victim, &nodes[*victim], &acked);
        }
        if let Some(again_after) = kill.again_after {
            each(&mut nodes, &kill.victims, |node| node.spawn(&[]));
            thread::sleep(again_after);
            each(&mut nodes, &kill.victims, Node::kill);
        }
        each(&mut nodes, &kill.victims, |node| node.spawn(&[]));
        each(&mut nodes, &kill.victims, Node::wait_ready);
        load.pause();
        agree(&nodes, &mut witness);
        load.resume();
    }
    let acked = load.end();
    agree(&nodes, &mut witness);
    for (place, node) in nodes.iter_mut().enumerate() {
        assert!(node.stop().success(), "{}", node.log());
        witness.check_store(place, node, &acked);
    }
    acked.len()
}

fn each(nodes: &mut [Node], which: &[usize], act: impl Fn(&mut Node)) {
    which.iter().for_each(|place| act(&mut nodes[*place]));
}

/// Waits until every node has computed the same of everyone, which nobody contradicts; and audits each.
pub(crate) fn agree(nodes: &[Node], witness: &mut Witness) {
    let begun = Instant::now();
    let mut slow = false;
    loop {
        let lists: Vec<Value> = nodes.iter().map(|node| node.ask("/v1/authors").unwrap()).collect();
        for (node, list) in nodes.iter().zip(&lists) {
            witness.note_authors(list, &node.name);
        }
        let books: Vec<Vec<Value>> = lists.iter().map(books).collect();
        if books.iter().all(|book| book.len() == nodes.len() && *book == books[0]) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "they do not agree: {books:#?}\n{}", nodes[0].log());
        if !slow && begun.elapsed() > SLOW {
            slow = true;
            let told = |(node, list): (&Node, &Value)| println!("  slow: {} knows {}", node.name, ends(list));
            nodes.iter().zip(&lists).for_each(told);
        }
        thread::sleep(Duration::from_millis(10));
    }
    if slow {
        println!("  slow: they agree after {:?}", begun.elapsed());
    }
    for node in nodes {
        let alerts = node.ask("/v1/alerts").unwrap();
        for wrong in ["divergence", "fork", "clone"] {
            let raised =
                alerts["alerts"].as_array().unwrap().iter().any(|alert| alert["name"] == json!(wrong));
            assert!(!raised, "{}: {alerts}", node.name);
        }
        node.audit();
    }
}

/// Where each log ends, in a few words.
fn ends(list: &Value) -> String {
    let end = |author: &Value| format!("{} {} {}; ", author["name"], author["seq"], author["state"]);
    list["authors"].as_array().unwrap().iter().map(end).collect()
}

/// What nodes must agree about.
fn books(list: &Value) -> Vec<Value> {
    let keep = ["id", "seq", "hash", "balance_uatp", "trust_ppm", "digest", "state"];
    let authors = list["authors"].as_array().unwrap();
    authors.iter().map(|author| keep.iter().map(|name| author[name].clone()).collect()).collect()
}
