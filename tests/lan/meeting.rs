//! Nodes that nobody gave an address find each other, prove themselves and share what they think.

use std::time::{Duration, Instant};

use super::lab::{Lab, Node, wait_until};

const TRIO: [&str; 3] = ["legion", "thor", "sprout"];

const THOUGHTS: [&str; 3] = [
    "What emerges when economic incentives align with epistemic quality across distributed machines that remember?",
    "Signed logs let every machine recompute balances alone, so agreement needs neither leader nor voting rounds.",
    "Hardware anchors identity while reputation grows slowly, therefore patience outperforms sudden bursts of output.",
];

pub(super) fn trio(lab: &Lab) -> Vec<Node> {
    TRIO.iter().map(|host| lab.node(host)).collect()
}

pub(super) fn meet(lab: &Lab, nodes: &[Node]) {
    for node in nodes {
        let others: Vec<&str> = others(&node.host);
        wait_until(&format!("{} lists {others:?} as verified\n{}", node.host, lab.log(&node.host)), || {
            node.verified() == others
        });
    }
}

fn others(host: &str) -> Vec<&'static str> {
    let mut others: Vec<&str> = TRIO.into_iter().filter(|name| *name != host).collect();
    others.sort_unstable();
    others
}

pub(super) fn agree(nodes: &[Node]) {
    wait_until("the same seq, hash, balance and digest for each author everywhere", || {
        let books: Vec<_> = nodes.iter().map(Node::books).collect();
        books[0].len() == nodes.len() && books.windows(2).all(|pair| pair[0] == pair[1])
    });
}

#[test]
fn a_thought_of_each_host_stands_in_the_corpus_of_the_two_others_with_the_same_books_everywhere() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout"]) else {
        return;
    };
    let mut nodes = trio(&lab);
    meet(&lab, &nodes);
    for (node, thought) in nodes.iter().zip(THOUGHTS) {
        let output = node.cli(&["submit", thought, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&answer["verdict"], &answer["peers_sent"]), (&"accepted".into(), &2.into()));
    }
    for receiver in &nodes {
        wait_until("all three thoughts in the corpus", || {
            let output = receiver.cli(&["thoughts", "--json"]);
            let text = String::from_utf8(output.stdout).unwrap();
            let rows: Vec<serde_json::Value> =
                text.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
            TRIO.iter().zip(THOUGHTS).all(|(author, thought)| {
                rows.iter().any(|row| {
                    row["name"] == *author && row["content"] == thought && row["coherence_ppm"].is_u64()
                })
            })
        });
    }
    agree(&nodes);
    for node in &mut nodes {
        let taken = node.terminate();
        assert!(taken < Duration::from_secs(2), "{} took {taken:?} to stop", node.host);
    }
}

#[test]
fn hosts_with_a_second_lan_and_a_container_bridge_meet_over_one_connection_a_pair() {
    let options = ["--hosts", "legion,thor,sprout", "--second-interface", "--docker-bridge"];
    let Some(lab) = Lab::start(&options) else { return };
    let nodes = trio(&lab);
    meet(&lab, &nodes);
    one_connection_a_pair(&nodes);
    for node in &nodes {
        let status = node.get("/v1/status").unwrap();
        for peer in status["peers"].as_array().unwrap() {
            let address = peer["address"].as_str().unwrap();
            assert!(!address.starts_with("172.17."), "a container bridge leads nowhere: {address}");
        }
    }
}

#[test]
fn nodes_that_are_told_one_interface_meet_on_that_one_only() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout", "--second-interface", "--ipv4-only"])
    else {
        return;
    };
    let on_second = |host: &str| lab.node_in(host, &lab.dir().join(host), &["--interface", "eth1"]);
    let nodes: Vec<Node> = TRIO.iter().map(|host| on_second(host)).collect();
    meet(&lab, &nodes);
    for node in &nodes {
        let status = node.get("/v1/status").unwrap();
        for peer in status["peers"].as_array().unwrap() {
            assert!(peer["address"].as_str().unwrap().starts_with("10.78.0."), "{status}");
        }
    }
    let unused = lab.dir().join("unused");
    let wrong = lab.run(
        "legion",
        super::lab::cogmesh(),
        &["start", "--data-dir", unused.to_str().unwrap(), "--interface", "eth9"],
    );
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(!wrong.status.success() && said.contains("eth9") && said.contains("hint:"), "{said}");
}

#[test]
fn nodes_without_any_ipv4_address_meet_over_link_local_ipv6() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout", "--ipv6-only"]) else {
        return;
    };
    let nodes = trio(&lab);
    meet(&lab, &nodes);
    let status = nodes[0].get("/v1/status").unwrap();
    assert!(status["peers"][0]["address"].as_str().unwrap().starts_with("[fe80::"), "{status}");
}

#[test]
fn many_simultaneous_starts_each_end_with_exactly_one_connection_a_pair() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout"]) else {
        return;
    };
    for trial in 0..50 {
        let dir = lab.dir().join(format!("trial-{trial}"));
        let nodes: Vec<Node> = TRIO.iter().map(|host| lab.node_in(host, &dir.join(host), &[])).collect();
        meet(&lab, &nodes);
        one_connection_a_pair(&nodes);
    }
}

/// Each node ends with as many connections as peers, over the very same sockets as the other end.
fn one_connection_a_pair(nodes: &[Node]) {
    wait_until("one connection a pair", || {
        nodes.iter().all(|node| node.get("/v1/status").is_some_and(|status| status["connections"] == 2))
    });
    for node in nodes {
        assert_eq!(node.verified(), others(&node.host), "{} still lists both", node.host);
    }
}

#[test]
fn a_killed_node_is_missed_within_ten_seconds_and_is_back_within_three_with_its_balance() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout"]) else {
        return;
    };
    let mut nodes = trio(&lab);
    meet(&lab, &nodes);
    for (node, thought) in nodes.iter().zip(THOUGHTS) {
        assert!(node.cli(&["submit", thought]).status.success());
    }
    agree(&nodes);
    let before = nodes[1].books();
    nodes[1].kill_9();
    let killed = Instant::now();
    let missed = |nodes: &[Node]| nodes[0].verified() == ["sprout"] && nodes[2].verified() == ["legion"];
    wait_until("the others notice", || missed(&nodes));
    assert!(killed.elapsed() < Duration::from_secs(11), "noticed after {:?}", killed.elapsed());
    assert!(nodes[0].cli(&["submit", &THOUGHTS[0].replace("What", "Whatever")]).status.success());
    wait_until("the others go on", || nodes[0].books() == nodes[2].books());
    nodes[1] = lab.node("thor");
    meet(&lab, &nodes);
    let back = nodes[1].started.elapsed();
    assert!(back < Duration::from_secs(3), "verified again after {back:?}");
    agree(&nodes);
    let own = nodes[1].get("/v1/status").unwrap()["node"]["id"].clone();
    let of_thor = |books: &[serde_json::Value]| books.iter().find(|book| book[0] == own).cloned();
    assert_eq!(of_thor(&before), of_thor(&nodes[1].books()), "its own book is what it was");
    assert!(of_thor(&before).is_some());
}

#[test]
fn a_host_that_was_cut_off_catches_up_without_a_restart() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout"]) else {
        return;
    };
    let nodes = trio(&lab);
    meet(&lab, &nodes);
    lab.lan(&["cut", "thor"]);
    wait_until("thor is missed", || nodes[0].verified() == ["sprout"]);
    assert!(nodes[0].cli(&["submit", THOUGHTS[0]]).status.success());
    assert!(nodes[1].cli(&["submit", THOUGHTS[1]]).status.success());
    lab.lan(&["heal"]);
    // Its own queries and the retries back off during the silence, so this may take a while.
    meet(&lab, &nodes);
    agree(&nodes);
}

#[test]
fn a_tenth_of_all_packets_may_be_lost() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout"]) else {
        return;
    };
    lab.lan(&["drop", "10"]);
    let nodes = trio(&lab);
    meet(&lab, &nodes);
    for (node, thought) in nodes.iter().zip(THOUGHTS) {
        assert!(node.cli(&["submit", thought]).status.success());
    }
    agree(&nodes);
}

#[test]
fn multicast_is_not_needed_once_nodes_know_each_other() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout"]) else {
        return;
    };
    let mut nodes = trio(&lab);
    meet(&lab, &nodes);
    for node in &mut nodes {
        node.terminate();
    }
    lab.lan(&["block-mdns", "on"]);
    let nodes = trio(&lab);
    meet(&lab, &nodes);
}

#[test]
fn nodes_of_another_federation_or_with_other_rules_are_seen_and_say_why_they_do_not_join() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout"]) else {
        return;
    };
    let policy = lab.dir().join("policy.toml");
    std::fs::write(&policy, "rate_base = 100\n").unwrap();
    let dir = |host: &str| lab.dir().join(host);
    let legion = lab.node("legion");
    let thor = lab.node_in("thor", &dir("thor"), &["--federation", "elsewhere", "--peer", "10.77.0.1:8888"]);
    let rules = policy.to_str().unwrap();
    let sprout = lab.node_in("sprout", &dir("sprout"), &["--policy", rules, "--peer", "10.77.0.1:8888"]);
    for (node, named) in [(&thor, "federation"), (&sprout, "rate_base")] {
        let reason = |node: &Node| {
            node.get("/v1/status").map(|status| status["peers"].to_string()).unwrap_or_default()
        };
        wait_until(&format!("{} says why: {}", node.host, reason(node)), || {
            reason(node).contains("refused") && reason(node).contains(named)
        });
    }
    assert_eq!(legion.verified(), [""; 0]);
    wait_until("legion counts both refusals", || {
        let counters = &legion.get("/v1/status").unwrap()["counters"];
        counters["refused_wrong_federation"].is_u64() && counters["refused_policy_differs"].is_u64()
    });
}
