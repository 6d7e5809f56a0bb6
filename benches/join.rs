//! How long nodes take to find each other: real processes on a LAN of network namespaces, from the start of the last one
//! until every node lists all others as verified. `cargo bench --bench join [-- TRIALS]`; 20 trials for each layout.
//! Each trial starts from nothing: new keys, new proofs of work, no remembered peers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may fail where it likes"
)]
#![allow(dead_code, reason = "the lab is shared with the tests, which use all of it")]

#[path = "../tests/lan/lab.rs"]
mod lab;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use lab::{Lab, Node, wait_until};

const TRIO: [&str; 3] = ["legion", "thor", "sprout"];
/// What the project promises on any of these layouts.
const P95_MAX: Duration = Duration::from_millis(1_500);

const LAYOUTS: [(&str, &[&str]); 3] = [
    ("one LAN", &[]),
    ("two LANs", &["--second-interface"]),
    ("two LANs and a container bridge", &["--second-interface", "--docker-bridge"]),
];

fn main() -> ExitCode {
    let trials = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20);
    let mut holds = true;
    for (layout, options) in LAYOUTS {
        let Some(lab) = Lab::start(&[&["--hosts", "legion,thor,sprout"], options].concat()) else {
            return ExitCode::FAILURE;
        };
        let mut taken: Vec<Duration> = (0..trials).map(|trial| join(&lab, trial)).collect();
        taken.sort();
        let at = |share: usize| taken[(taken.len() * share).div_ceil(100).saturating_sub(1)];
        holds &= at(95) <= P95_MAX;
        writeln!(
            io::stdout().lock(),
            "{layout}: {} trials, p50 {} ms, p95 {} ms, max {} ms (p95 at most {} ms)",
            taken.len(),
            at(50).as_millis(),
            at(95).as_millis(),
            at(100).as_millis(),
            P95_MAX.as_millis()
        )
        .unwrap();
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn join(lab: &Lab, trial: usize) -> Duration {
    let dir = lab.dir().join(format!("trial-{trial}"));
    let nodes: Vec<Node> = TRIO.iter().map(|host| lab.node_in(host, &dir.join(host), &[])).collect();
    wait_until("everyone lists everyone", || {
        nodes.iter().all(|node| node.verified().len() == TRIO.len() - 1)
    });
    nodes.last().unwrap().started.elapsed()
}
