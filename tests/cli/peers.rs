//! What `cogmesh peers` says of those that are linked, and of those that are not.

use std::net::UdpSocket;

use serde_json::Value;

use super::support::{Node, out};

fn not_linked<'a>(peers: &'a [Value], state: &str) -> Option<&'a Value> {
    peers.iter().find(|peer| peer["verified"] == false && peer["state"] == state)
}

#[test]
fn a_peer_that_does_not_answer_is_listed_with_the_reason_and_what_to_do() {
    // Taken, and silent.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let node = Node::start(&["--name", "legion", "--interface", "lo", "--peer", &address]);
    let peers = node.wait_for(&["peers"], |peers| not_linked(peers, "no_answer").is_some());
    let seen = not_linked(&peers, "no_answer").unwrap();
    assert!(seen["reason"].as_str().unwrap().contains(&address), "{seen}");
    assert!(seen["remedy"].as_str().unwrap().contains("firewall"), "{seen}");
    assert!(seen["retry_s"].as_u64() <= Some(30), "{seen}");
    assert_eq!((&seen["addresses"][0], &seen["sources"][0]), (&address.into(), &"peer_option".into()));
    let text = out(&node.ask(&["peers"]));
    assert!(text.contains("no peer is linked") && text.contains("nobody answers at"), "{text}");
    assert!(text.contains("again in") && text.contains("check that it runs"), "{text}");
}

#[test]
fn a_peer_of_another_federation_is_listed_with_what_it_said() {
    let other = Node::start(&["--name", "thor", "--interface", "lo", "--federation", "workshop"]);
    let node = Node::start(&["--name", "legion", "--interface", "lo", "--peer", &other.address]);
    let peers = node.wait_for(&["peers"], |peers| not_linked(peers, "wrong_federation").is_some());
    let seen = not_linked(&peers, "wrong_federation").unwrap();
    assert!(seen["reason"].as_str().unwrap().contains("refused this node"), "{seen}");
    assert!(seen["remedy"].as_str().unwrap().contains("--federation"), "{seen}");
    assert!(seen["retry_s"].as_u64() > Some(30), "{seen}");
}

#[test]
fn two_nodes_that_know_a_third_one_only_find_each_other_by_their_records() {
    let legion = Node::start(&["--name", "legion", "--interface", "lo"]);
    let args = |name| ["--name", name, "--interface", "lo", "--peer", &legion.address];
    let thor = Node::start(&args("thor"));
    let sprout = Node::start(&args("sprout"));
    let is_there = |peers: &[Value], name: &str| {
        peers.iter().any(|peer| peer["state"] == "linked" && peer["name"] == name)
    };
    thor.wait_for(&["peers"], |peers| is_there(peers, "legion") && is_there(peers, "sprout"));
    let peers = sprout.wait_for(&["peers"], |peers| is_there(peers, "legion") && is_there(peers, "thor"));
    let by_record = |peer: &Value| peer["sources"].as_array().unwrap().contains(&"peer_record".into());
    assert!(peers.iter().any(by_record), "{peers:?}");
}

#[test]
fn whoever_has_links_enough_keeps_the_others_as_spare_and_tells_them_of_its_peers() {
    let start = |args: &[&str]| Node::start(&[&["--interface", "lo"], args].concat());
    let thor = start(&["--name", "thor"]);
    // The link to a peer that was named is not given up.
    let legion = start(&["--name", "legion", "--max-peers", "1", "--peer", &thor.address]);
    legion.wait_for(&["peers"], |peers| peers.iter().any(|peer| peer["verified"] == true));
    let sprout = start(&["--name", "sprout", "--peer", &legion.address]);
    let is_linked_to_thor =
        |peers: &[Value]| peers.iter().any(|peer| peer["state"] == "linked" && peer["name"] == "thor");
    let peers = sprout.wait_for(&["peers"], |peers| {
        not_linked(peers, "too_many_peers").is_some() && is_linked_to_thor(peers)
    });
    let seen = not_linked(&peers, "too_many_peers").unwrap();
    assert!(seen["retry_s"].as_u64() > Some(20), "{seen}");
    assert!(seen["remedy"].as_str().unwrap().contains("another node"), "{seen}");
    assert_eq!(out(&sprout.ask(&["alerts", "--json"])), "", "it is nobody's fault");
    legion.wait_for(&["peers"], |peers| not_linked(peers, "spare").is_some());
}
