//! Nodes that are linked only with those whom their operator knows.

use std::fs;

use serde_json::Value;

use super::support::{Node, QUALITY, assert_fails, code, json, out};

fn id(node: &Node) -> String {
    json(&node.ask(&["id", "--json"]))["id"].as_str().unwrap().to_owned()
}

fn is_linked_to(peers: &[Value], id: &str) -> bool {
    peers.iter().any(|peer| peer["verified"] == true && peer["id"] == id)
}

fn has_state(peers: &[Value], id: &str, state: &str) -> bool {
    peers.iter().any(|peer| peer["id"] == id && peer["state"] == state)
}

#[test]
fn a_pinned_node_takes_whom_it_knows_lists_who_asks_and_links_who_is_approved_for_good() {
    let legion = Node::start(&["--name", "legion", "--interface", "lo"]);
    let thor = Node::start(&["--name", "thor", "--interface", "lo", "--peer", &legion.address]);
    let (legion_id, thor_id) = (id(&legion), id(&thor));
    legion.wait_for(&["peers"], |peers| is_linked_to(peers, &thor_id));
    assert_fails(&legion.ask(&["peers", "approve", &thor_id]), 2, &["takes any peer", "--pin"]);
    assert_eq!(code(&legion.ask(&["submit", QUALITY])), 0);
    thor.wait_for(&["thoughts"], |thoughts| thoughts.len() == 1);
    legion.signal("TERM");
    let (_, _, _, dir) = legion.ended();

    // Whom it knew when it was pinned first is known from then on.
    let options = ["--name", "legion", "--interface", "lo", "--pin"];
    let legion = Node::start_in(dir, &options);
    legion.wait_for(&["peers"], |peers| is_linked_to(peers, &thor_id));
    let sprout = Node::start(&["--name", "sprout", "--interface", "lo", "--peer", &legion.address]);
    let sprout_id = id(&sprout);
    let peers = legion.wait_for(&["peers"], |peers| has_state(peers, &sprout_id, "pending"));
    let pending = peers.iter().find(|peer| peer["state"] == "pending").unwrap();
    assert!(pending["remedy"].as_str().unwrap().contains(&format!("cogmesh peers approve {sprout_id}")));
    let refused =
        sprout.wait_for(&["peers"], |peers| peers.iter().any(|peer| peer["state"] == "not_approved"));
    assert!(
        refused.iter().all(|peer| peer["verified"] == false || peer["id"] == thor_id.as_str()),
        "{refused:?}"
    );
    assert!(!is_linked_to(&legion.lines(&["peers"]), &sprout_id));
    assert!(out(&legion.ask(&["peers"])).contains("was not approved"));

    assert_fails(&legion.ask(&["peers", "approve", "sprout"]), 1, &["no node waits", "16"]);
    assert_fails(&legion.ask(&["peers", "approve", &sprout_id[..8]]), 1, &["no node waits"]);
    let approved = legion.lines(&["peers", "approve", &sprout_id[..16]]);
    assert_eq!(approved[0]["id"], sprout_id.as_str());
    legion.wait_for(&["peers"], |peers| is_linked_to(peers, &sprout_id));

    legion.signal("TERM");
    let (_, _, _, dir) = legion.ended();
    let kept = fs::read_to_string(dir.path().join("pinned.json")).unwrap();
    assert!(kept.contains(&sprout_id) && kept.contains(&thor_id), "{kept}");
    let legion = Node::start_in(dir, &options);
    assert_eq!(id(&legion), legion_id);
    legion.wait_for(&["peers"], |peers| is_linked_to(peers, &sprout_id) && is_linked_to(peers, &thor_id));
}

#[test]
fn an_id_that_the_user_names_needs_no_approval_and_an_address_alone_does() {
    let thor = Node::start(&["--name", "thor", "--interface", "lo"]);
    let named = format!("{}@{}", id(&thor), thor.address);
    let legion = Node::start(&["--name", "legion", "--interface", "lo", "--pin", "--peer", &named]);
    legion.wait_for(&["peers"], |peers| is_linked_to(peers, &id(&thor)));

    let sprout = Node::start(&["--name", "sprout", "--interface", "lo", "--pin", "--peer", &thor.address]);
    sprout.wait_for(&["peers"], |peers| has_state(peers, &id(&thor), "pending"));
    assert_eq!(code(&sprout.ask(&["peers", "approve", &id(&thor)])), 0);
    sprout.wait_for(&["peers"], |peers| is_linked_to(peers, &id(&thor)));
    let peers = sprout.lines(&["peers"]);
    assert!(!is_linked_to(&peers, &id(&legion)), "whom a peer knows is not dialled: {peers:?}");
}
