//! The lights come back: ten nodes start at the same moment and find each other without a storm.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    lab::{Lab, Node, measured, number, wait_until},
    load::{self, POLICY, are_meshed},
};

const NODES: usize = 10;
/// Handshakes that were begun between two nodes, whoever began them, until all are linked.
const HANDSHAKES_PER_PAIR_MAX: usize = 4;

#[test]
fn ten_nodes_that_start_at_once_shake_hands_a_few_times_a_pair_and_keep_one_connection_each() {
    let Some(lab) = Lab::start(&["--hosts", &NODES.to_string()]) else { return };
    let policy = lab.policy(POLICY);
    let hosts: Vec<String> = (1..=NODES).map(|number| format!("host{number}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let rounds = number("COGMESH_POWERUPS", 2);
    let (mut worst, mut slowest, mut handshakes) = (0, Duration::ZERO, 0);
    for round in 0..rounds {
        // At first they are new to each other; in every other round all have been there before, and the power failed.
        let read: Vec<usize> = hosts.iter().map(|host| lab.log(host).len()).collect();
        let begun = Instant::now();
        let mut nodes = load::start(&lab, &hosts, &["--policy", &policy, "-v"]);
        wait_until(&format!("round {round}: all are linked"), || {
            are_meshed(&nodes.iter().collect::<Vec<_>>())
        });
        slowest = slowest.max(begun.elapsed());
        wait_until(&format!("round {round}: one connection a pair"), || nodes.iter().all(has_one_link_each));
        let counted = handshakes_of(&lab, &hosts, &read);
        assert!(counted.len() >= NODES * (NODES - 1) / 2, "every pair shook hands: {counted:?}");
        handshakes += counted.values().sum::<usize>();
        let most = counted.values().copied().max().unwrap_or(0);
        assert!(most <= HANDSHAKES_PER_PAIR_MAX, "round {round}: {counted:?}");
        worst = worst.max(most);
        nodes.iter_mut().for_each(Node::kill_9);
    }
    measured(&format!(
        "powerups: {rounds} rounds of {NODES} nodes: all linked within {slowest:?}; {worst} handshakes at most for a pair, \
         {handshakes} in all for {} pairs",
        rounds * (NODES * (NODES - 1) / 2) as u64
    ));
}

fn has_one_link_each(node: &Node) -> bool {
    node.get("/v1/status").is_some_and(|status| status["connections"] == NODES - 1)
}

/// How many handshakes the nodes of each pair were asked for, as those who were asked wrote it down: every connection that somebody
/// opened, by the address that it came from, whether it came to anything or not.
fn handshakes_of(lab: &Lab, hosts: &[&str], read: &[usize]) -> BTreeMap<(String, String), usize> {
    let addresses = addresses(lab);
    let mut counted = BTreeMap::new();
    for (host, read) in hosts.iter().zip(read) {
        for line in lab.log(host)[*read..].lines().filter(|line| line.contains("somebody shakes hands")) {
            let from = line.split("address=").nth(1).unwrap().split(' ').next().unwrap();
            let from = from.trim_start_matches('[').split(['%', ']']).next().unwrap();
            let from = from.rsplit_once(':').filter(|_| from.contains('.')).map_or(from, |(ip, _)| ip);
            let other = addresses.get(from).unwrap_or_else(|| panic!("who is {from}? {addresses:?}"));
            let mut pair = [(*host).to_owned(), other.clone()];
            pair.sort();
            let [one, other] = pair;
            *counted.entry((one, other)).or_default() += 1;
        }
    }
    counted
}

/// Which host has an address.
fn addresses(lab: &Lab) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for line in lab.lan(&["hosts"]).lines() {
        let (host, cards) = line.split_once(": ").unwrap();
        for address in cards.split([' ', ';']).filter_map(|word| word.split_once('/')) {
            all.insert(address.0.to_owned(), host.to_owned());
        }
    }
    all
}
