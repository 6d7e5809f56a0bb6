//! `cogmesh bench latency` on a LAN whose delay and loss are known: they must be found again, in the floor as in everything else.

use std::process::Output;

use serde_json::Value;

use super::{
    lab::{Lab, Node, measured, wait_until},
    load::are_even,
};

const HOSTS: [&str; 2] = ["legion", "thor"];
/// Each way.
const DELAY_MS: u64 = 5;
const KINDS: [&str; 5] = ["floor_us", "probe_us", "datagram_us", "stream_us", "thought_us"];

#[test]
fn the_delay_of_the_network_is_found_in_every_kind_and_its_loss_where_nothing_is_sent_again() {
    let Some(lab) = Lab::start(&["--hosts", &HOSTS.join(",")]) else { return };
    let nodes: Vec<Node> = HOSTS.iter().map(|host| lab.node(host)).collect();
    let [legion, thor] = nodes.as_slice() else { unreachable!() };
    wait_until("they meet", || legion.verified() == ["thor"] && thor.verified() == ["legion"]);
    wait_until("they hold each other's logs", || are_even(&[legion, thor], HOSTS.len()));
    let before = (legion.books(), thor.books());
    let near = latency(legion);
    lab.lan(&["delay", &DELAY_MS.to_string()]);
    let far = latency(legion);
    lab.lan(&["drop", "20"]);
    let lossy = latency(legion);
    lab.lan(&["drop", "0"]);
    measured(&format!(
        "latency on the lab's LAN: {}; with {DELAY_MS} ms each way: {}; and 20 % lost each way: {}",
        shown(&near),
        shown(&far),
        shown(&lossy)
    ));
    let delay_us = (DELAY_MS * 1_000) as f64;
    for kind in &KINDS[..4] {
        let least = far[kind]["min"].as_f64().unwrap();
        assert!(least >= 2.0 * delay_us, "{kind}: {far}");
        assert!(near[kind]["min"].as_f64().unwrap() < least, "{kind}: {near}");
    }
    // One way: what is taken off for the other one is as exact as the probes are steady.
    let thought = far["thought_us"]["p50"].as_f64().unwrap();
    assert!(thought >= 0.8 * delay_us, "{far}");
    // Of a hundred that go there and back, 36 are lost.
    for kind in ["floor_us", "datagram_us"] {
        let lost = lossy[kind]["lost"].as_u64().unwrap();
        assert!((10..=70).contains(&lost), "{kind}: {lossy}");
    }
    assert_eq!(before, (legion.books(), thor.books()));
}

/// A hundred samples of each kind.
fn latency(node: &Node) -> Value {
    let output: Output =
        node.cli(&["bench", "latency", "thor", "--duration", "2s", "--rate", "50", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let latency: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&latency["floor_why"], &latency["ended"]), (&Value::Null, &Value::Null), "{latency}");
    latency
}

fn shown(latency: &Value) -> String {
    let kinds = KINDS.map(|kind| format!("{kind} {}, lost {}", latency[kind]["p50"], latency[kind]["lost"]));
    format!("{}, added {}", kinds.join("; "), latency["added_us"])
}
