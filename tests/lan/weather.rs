//! Bad weather: packets are lost, late and there twice, while all nodes write.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    lab::{Lab, Node, measured, number, wait_until},
    load::{self, Acked, POLICY, are_even, are_meshed, submit},
};

const HOSTS: [&str; 3] = ["legion", "thor", "sprout"];
const LOSS_PERCENT: &str = "20";
/// Three pings in a row and their answers may be lost once in a while; links that come and go would be lost many times.
const PEERS_LOST_MAX: u64 = 2;

#[test]
fn nothing_is_lost_and_links_stay_while_a_fifth_of_all_packets_is_lost_and_others_are_late_or_doubled() {
    let Some(lab) = Lab::start(&["--hosts", &HOSTS.join(",")]) else { return };
    let storm = Duration::from_secs(number("COGMESH_WEATHER_SECONDS", 12));
    let policy = lab.policy(POLICY);
    let nodes = load::start(&lab, &HOSTS, &["--policy", &policy]);
    let nodes: Vec<&Node> = nodes.iter().collect();
    wait_until("they meet", || are_meshed(&nodes));
    lab.lan(&["drop", LOSS_PERCENT]);
    lab.lan(&["reorder", "20", "8"]);
    lab.lan(&["duplicate", "10"]);
    let acked = write_for(&nodes, storm);
    let calm = wait_until("all are even, in the same weather", || are_even(&nodes, HOSTS.len()));
    let lost: Vec<u64> = nodes.iter().map(|node| counter(node, "peers_lost")).collect();
    let count: Vec<usize> = nodes.iter().map(|node| acked[&node.host].len()).collect();
    measured(&format!(
        "weather: {storm:?} with {LOSS_PERCENT} % lost each way; {count:?} thoughts acknowledged, all even {calm:?} after the last; \
         peers lost: {lost:?}"
    ));
    for node in &nodes {
        let output = node.cli(&["export"]);
        let rows: BTreeMap<(String, u64), String> =
            String::from_utf8(output.stdout).unwrap().lines().map(keyed).collect();
        for (author, thoughts) in &acked {
            for Acked { seq, content } in thoughts {
                let kept = rows.get(&(author.clone(), *seq));
                assert_eq!(kept, Some(content), "entry {seq} of {author} at {}", node.host);
            }
        }
    }
    assert!(lost.iter().all(|lost| *lost <= PEERS_LOST_MAX), "{lost:?}");
}

/// Each node writes, one thought after the other's answer, and has been given an answer to each at the end.
fn write_for(nodes: &[&Node], time: Duration) -> BTreeMap<String, Vec<Acked>> {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        let writers: Vec<_> = nodes
            .iter()
            .map(|node| {
                let write = move || {
                    (0..).take_while(|_| Instant::now() < end).map(|number| submit(node, number)).collect()
                };
                (node.host.clone(), scope.spawn(write))
            })
            .collect();
        writers.into_iter().map(|(host, writer)| (host, writer.join().unwrap())).collect()
    })
}

fn keyed(row: &str) -> ((String, u64), String) {
    let row: Value = serde_json::from_str(row).unwrap();
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    ((text("name"), row["seq"].as_u64().unwrap()), text("content"))
}

fn counter(node: &Node, name: &str) -> u64 {
    node.status()["counters"][name].as_u64().unwrap_or(0)
}
