//! Nodes that are away for a while: the cable is out, the process stands still, the address is another. Nobody restarts anything.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    lab::{Lab, Node, measured, number, wait_until},
    load::{self, POLICY, are_even, are_meshed, seq_of, submit},
};

const HOSTS: [&str; 3] = ["legion", "thor", "sprout"];
/// From the moment when the network or the process is back, until both others are linked with it again.
const BACK_MAX: Duration = Duration::from_secs(3);
/// A link is given up after so long a silence.
const IDLE: u64 = 8;

/// How long somebody is away: beyond the idle limit, so that links are given up.
fn absence() -> Duration {
    Duration::from_secs(number("COGMESH_ABSENCE_SECONDS", IDLE + 2))
}

struct Trio {
    lab: Lab,
    nodes: Vec<Node>,
}

impl Trio {
    fn start() -> Option<Self> {
        let lab = Lab::start(&["--hosts", &HOSTS.join(",")])?;
        let policy = lab.policy(POLICY);
        let nodes = load::start(&lab, &HOSTS, &["--policy", &policy]);
        wait_until("they meet", || are_meshed(&nodes.iter().collect::<Vec<_>>()));
        Some(Self { lab, nodes })
    }

    fn all(&self) -> Vec<&Node> {
        self.nodes.iter().collect()
    }

    fn thor(&self) -> &Node {
        &self.nodes[1]
    }

    /// Thor is away for so long, and the others have noticed.
    fn wait_out(&self) {
        let gone = Instant::now();
        wait_until("thor is missed", || {
            self.nodes[0].verified() == ["sprout"] && self.nodes[2].verified() == ["legion"]
        });
        submit(&self.nodes[0], 1);
        // How long an absence lasts is what this is about.
        thread::sleep(absence().saturating_sub(gone.elapsed()));
    }

    /// Thor is back since then: links, and what all wrote.
    fn is_back(&self, what: &str, since: Instant) {
        wait_until(&format!("thor is linked again\n{}", self.lab.log("thor")), || are_meshed(&self.all()));
        let linked = since.elapsed();
        submit(self.thor(), 2);
        wait_until("all are even", || {
            are_even(&self.all(), HOSTS.len())
                && seq_of(&self.nodes[2], "thor") == seq_of(self.thor(), "thor")
        });
        let even = since.elapsed();
        measured(&format!("absence: {what}: linked again {linked:?}, even {even:?} after the return"));
        assert!(linked < BACK_MAX, "{what}: linked again after {linked:?}");
    }
}

#[test]
fn a_node_whose_cable_was_out_is_linked_again_seconds_after_it_is_back() {
    let Some(trio) = Trio::start() else { return };
    trio.lab.lan(&["link", "thor", "down"]);
    trio.wait_out();
    submit(trio.thor(), 1);
    trio.lab.lan(&["link", "thor", "up"]);
    trio.is_back("cable out", Instant::now());
}

#[test]
fn a_process_that_stood_still_is_linked_again_seconds_after_it_goes_on() {
    let Some(trio) = Trio::start() else { return };
    trio.thor().signal("STOP");
    trio.wait_out();
    trio.thor().signal("CONT");
    trio.is_back("process stopped", Instant::now());
}

#[test]
fn a_node_that_gets_another_address_is_linked_again_over_it_within_seconds() {
    let Some(trio) = Trio::start() else { return };
    // Of links that are younger, another one might be the same node's, dialled at the same time.
    wait_until("the links are as old as links are", || {
        let is_old = |peer: &Value| peer["verified"] == false || peer["connected_s"].as_u64().unwrap() > 5;
        trio.all().iter().all(|node| node.status()["peers"].as_array().unwrap().iter().all(is_old))
    });
    trio.lab.lan(&["address", "thor", "10.77.0.77"]);
    let changed = Instant::now();
    // A link may live on over the new address, or over IPv6, whose address stays.
    submit(trio.thor(), 2);
    wait_until("its thoughts arrive, and others' come", || are_even(&trio.all(), HOSTS.len()));
    let even = changed.elapsed();
    let old = "10.77.0.2:8888";
    let at_old =
        |node: &Node| node.status()["peers"].as_array().unwrap().iter().any(|peer| peer["address"] == old);
    wait_until("nobody is linked over the old address", || {
        are_meshed(&trio.all()) && !at_old(&trio.nodes[0]) && !at_old(&trio.nodes[2])
    });
    let linked = changed.elapsed();
    measured(&format!(
        "absence: address changed: even {even:?}, linked over another address {linked:?} after the change"
    ));
    assert!(even < BACK_MAX && linked < BACK_MAX, "{even:?}, {linked:?}");
}
