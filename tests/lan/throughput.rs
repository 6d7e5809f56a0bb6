//! `cogmesh bench throughput` on a LAN of link-local IPv6 alone: the throw-away nodes must find each other at addresses that mean something
//! on one link only.

use serde_json::Value;

use super::{
    lab::{Lab, Node, measured, wait_until},
    load::are_even,
};

const HOSTS: [&str; 2] = ["legion", "thor"];

#[test]
fn throughput_is_measured_over_link_local_addresses_and_changes_nobodys_books() {
    let Some(lab) = Lab::start(&["--hosts", &HOSTS.join(","), "--ipv6-only"]) else { return };
    let nodes: Vec<Node> = HOSTS.iter().map(|host| lab.node(host)).collect();
    let [legion, thor] = nodes.as_slice() else { unreachable!() };
    wait_until("they meet", || legion.verified() == ["thor"] && thor.verified() == ["legion"]);
    wait_until("they hold each other's logs", || are_even(&[legion, thor], HOSTS.len()));
    let before = (legion.books(), thor.books());
    let output = legion.cli(&["bench", "throughput", "thor", "--duration", "1s", "--json"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["address"].as_str().unwrap().starts_with("[fe80::"), "{found}");
    assert_eq!((&found["lost"], &found["why"]), (&0.into(), &Value::Null), "{found}");
    measured(&format!("throughput on the lab's LAN, link-local addresses: {}", said.trim_end()));
    assert_eq!(before, (legion.books(), thor.books()));
}
