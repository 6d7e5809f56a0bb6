//! A hostile neighbour floods the LAN with mDNS: nodes that know each other do not notice, memory stays bounded, and new nodes are
//! found once it ends.

use std::{
    fs,
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::{
    lab::{Lab, Node, beside, installed, measured, number, skip, wait_until},
    load::{self, POLICY, are_even, are_meshed},
};

/// What a flood may add to a node.
const GROWTH_KIB_MAX: u64 = 128 << 10;
const PACKETS_PER_SECOND: u64 = 16_000;
/// From the end of the flood until a new node is known.
const FOUND_MAX: Duration = Duration::from_secs(10);

/// A field of `/proc/PID/status`, in KiB.
fn memory_kib(node: &Node, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

fn counter(node: &Node, name: &str) -> u64 {
    node.status()["counters"][name].as_u64().unwrap_or_default()
}

fn federation_of(node: &Node) -> String {
    node.status()["node"]["federation"]["id"].as_str().unwrap()[..16].to_owned()
}

/// Floods for so long; what it prints is read at its end.
fn flood(lab: &Lab, victims: &[Node], seconds: u64) -> Child {
    let ids: Vec<String> =
        victims.iter().map(|node| node.status()["node"]["id"].as_str().unwrap().to_owned()).collect();
    lab.command("oak", "python3")
        .arg(beside("mdns_flood.py"))
        .args([seconds.to_string(), PACKETS_PER_SECOND.to_string(), "10.77.0.4".to_owned()])
        .arg(federation_of(&victims[0]))
        .args(ids)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn an_mdns_flood_costs_little_memory_and_no_link_and_afterwards_a_new_node_is_found_within_seconds() {
    if !installed("python3") {
        return skip("python3 is missing");
    }
    // The lab's own switch does not pass so many packets.
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout,oak", "--switch", "bridge"]) else { return };
    let policy = lab.policy(POLICY);
    let nodes = load::start(&lab, &["legion", "thor"], &["--policy", &policy]);
    wait_until("they meet", || are_meshed(&nodes.iter().collect::<Vec<_>>()));
    load::submit(&nodes[0], 1);
    let before: Vec<u64> = nodes.iter().map(|node| memory_kib(node, "VmRSS")).collect();

    let mut flooder = flood(&lab, &nodes, number("COGMESH_FLOOD_SECONDS", 10));
    let mut thoughts = 1;
    while flooder.try_wait().unwrap().is_none() {
        thoughts += 1;
        load::submit(&nodes[thoughts % 2], thoughts);
        wait_until("the other has it, in the middle of the flood", || {
            are_even(&nodes.iter().collect::<Vec<_>>(), 2)
        });
        std::thread::sleep(Duration::from_millis(50));
    }
    let said: Value = serde_json::from_slice(&flooder.wait_with_output().unwrap().stdout).unwrap();

    let options = ["--policy", &policy];
    let late = lab.node_in("sprout", &lab.dir().join("sprout"), &options);
    let found = wait_until(&format!("all know sprout\n{}", lab.log("legion")), || {
        nodes.iter().all(|node| node.verified().contains(&"sprout".to_owned())) && late.verified().len() == 2
    });

    for (node, before) in nodes.iter().zip(before) {
        let grown = memory_kib(node, "VmHWM").saturating_sub(before);
        let recycled = counter(node, "mdns_recycled");
        measured(&format!(
            "flood: {said}; {}: {before} KiB before, {grown} KiB more at most, {recycled} daemons recycled, \
             {thoughts} thoughts meanwhile, sprout found {found:?} after the flood",
            node.host
        ));
        assert!(grown < GROWTH_KIB_MAX, "{} grew by {grown} KiB", node.host);
        assert!(recycled > 0, "the flood did not reach {}", node.host);
        assert_eq!(counter(node, "peers_lost"), 0, "{}: {}", node.host, lab.log(&node.host));
        let alerts = node.status()["alerts"].to_string();
        assert!(alerts.contains("mDNS"), "a person is told: {alerts}");
    }
    assert!(found < FOUND_MAX, "found {found:?} after the flood");
}
