//! A peer whose process stands still: the others go on as if it were not there, and it gets everything once it goes on.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::support::Node;

/// Rules under which a node takes whatever comes, as fast as it can.
const POLICY: &str =
    "pow_bits = 4\nrate_base = 1_000_000\npenalty_quality = 0\npenalty_spam = 0\nduplicate_window = 0\n";
/// As long as they may be.
const CONTENT_BYTES: usize = 16_000;
/// Published while all read, so that caches and allocator have what they want.
const WARM: u64 = 300;
/// Published while one does not read: ten megabytes, so that it shows where they are kept for it.
const STALLED: u64 = 650;
/// A queue of a mebibyte, half a mebibyte in QUIC, and what the allocator keeps: three measured; without a bound it is twenty.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

fn start(policy: &Path, name: &str, peers: &[&Node]) -> Node {
    let mut args = vec!["--name", name, "--policy", policy.to_str().unwrap()];
    for peer in peers {
        args.extend(["--peer", &peer.address]);
    }
    Node::start(&args)
}

fn submit(node: &Node, number: u64) {
    let content = format!("thought {number} {}", "words ".repeat(CONTENT_BYTES / 6));
    let body = json!({ "content": content }).to_string();
    let (status, answer) = node.http("POST /v1/thoughts", Some("application/json"), &body);
    assert_eq!(status, 200, "{answer}");
}

/// Waits until that node's log has that many thoughts there.
fn wait_for(node: &Node, author: &str, thoughts: u64) {
    node.wait_for(&["authors"], |authors: &[Value]| {
        authors.iter().any(|known| known["name"] == author && known["seq"].as_u64() >= Some(thoughts))
    });
}

fn memory_bytes(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_stopped_peer_neither_delays_nor_fattens_the_others_and_gets_everything_later() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    fs::write(&policy, POLICY).unwrap();
    let legion = start(&policy, "legion", &[]);
    let thor = start(&policy, "thor", &[&legion]);
    let sprout = start(&policy, "sprout", &[&legion]);
    legion.wait_for(&["peers"], |peers| peers.iter().filter(|peer| peer["verified"] == true).count() == 2);
    for number in 1..=WARM {
        submit(&legion, number);
    }
    for node in [&thor, &sprout] {
        wait_for(node, "legion", WARM);
    }
    let before = memory_bytes(&legion);
    let mut most = before;
    sprout.signal("STOP");
    for number in WARM + 1..=WARM + STALLED {
        submit(&legion, number);
        // On the way, because a link that is silent for long enough ends, and with it what was kept for it.
        if number % 50 == 0 {
            most = most.max(memory_bytes(&legion));
        }
    }
    wait_for(&thor, "legion", WARM + STALLED);
    let growth = most.saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes more for a peer that reads nothing");
    eprintln!("memory: {before} bytes before, at most {most} while a peer read nothing");
    sprout.signal("CONT");
    wait_for(&sprout, "legion", WARM + STALLED);
    let counters = &legion.lines(&["status"])[0]["counters"];
    assert!(counters["peers_behind"].is_u64() || counters["peers_lost"].is_u64(), "{counters}");
}
