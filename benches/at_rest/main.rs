//! What a node costs while nothing happens: processor time, memory, wake-ups and packets, with 1, 2 and 10 peers.
//! `cargo build --release && cargo bench --bench at_rest [-- SECONDS] [empty] [filled] [mdns]`; 30 seconds each. What users run is
//! measured, `target/release/cogmesh` or what `COGMESH_BINARY` names, each node a process of its own.
//! What the project promises: with ten peers less than 0.5 % of one core and 20 MiB, with two 15 MiB.
//!
//! `empty` and `filled` (with 10,000 thoughts, which the peers have fetched from the node) are linked by `--peer` on loopback, `mdns` finds its
//! peers by multicast, on a LAN of network namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may fail where it likes"
)]

#[allow(dead_code, reason = "the lab is shared with the tests, which use all of it")]
#[path = "../../tests/lan/lab.rs"]
mod lab;
#[path = "../support/mod.rs"]
mod support;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use cogmesh::log::{FederationId, NodeId};
use lab::Lab;
use serde_json::Value;
use support::{
    at_most,
    backlog::Filling,
    cost::{Cost, datagrams_sent},
    median, process, say, spread,
};

const PEERS: [usize; 3] = [1, 2, 10];
const SECONDS: u64 = 30;
/// Parts of the time that is measured, so that the noise of the machine shows.
const PARTS: u32 = 5;
const THOUGHTS: u64 = 10_000;
const AUTHORS: u8 = 20;
/// With ten peers.
const CPU_PERCENT_MAX: f64 = 0.5;
const RSS_MIB_MAX: f64 = 20.0;
/// With two.
const RSS_MIB_TWO_MAX: f64 = 15.0;
/// A node is quiet once it takes less than this of a second, twice in a row.
const QUIET: Duration = Duration::from_millis(10);
/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let seconds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(SECONDS);
    let named: Vec<&String> = words.iter().filter(|word| word.parse::<u64>().is_err()).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|word| *word == name);
    let binary = binary();
    say(&format!("{}, {seconds} s each", binary.display()));
    say(
        "| what | peers | % of a core (least–most) | RSS MiB | its own MiB | most of a peer MiB | threads | wake-ups/s | packets/s | bytes/s |",
    );
    say("|---|---|---|---|---|---|---|---|---|---|");
    let mut rows = vec![];
    for peers in PEERS {
        if wanted("empty") {
            rows.push(measured("empty store", &Federation::on_loopback(&binary, peers, 0), seconds));
        }
        if wanted("filled") {
            rows.push(measured(
                "10,000 thoughts",
                &Federation::on_loopback(&binary, peers, THOUGHTS),
                seconds,
            ));
        }
        if wanted("mdns")
            && let Some(federation) = Federation::by_mdns(&binary, peers)
        {
            rows.push(measured("found by mDNS", &federation, seconds));
        }
    }
    let held = rows.iter().map(Row::is_within).filter(|held| !held).count() == 0;
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What users run. The one that cargo makes for benches has fail points in it, which cost nothing, and is the last resort.
fn binary() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/cogmesh");
    let named = env::var_os("COGMESH_BINARY").map(PathBuf::from);
    let chosen = named.or_else(|| built.exists().then_some(built));
    fs::canonicalize(chosen.unwrap_or_else(|| env!("CARGO_BIN_EXE_cogmesh").into())).unwrap()
}

/// What was measured of one node.
struct Row {
    what: &'static str,
    peers: usize,
    /// Of each part.
    cpu_percent: Vec<f64>,
    rss_mib: f64,
}

impl Row {
    /// Says which promises it holds.
    fn is_within(&self) -> bool {
        let what = |which: &str| format!("{}, {} peers: {which}", self.what, self.peers);
        match self.peers {
            2 => at_most(&what("RSS MiB"), self.rss_mib, RSS_MIB_TWO_MAX),
            10 => {
                let cpu = at_most(&what("% of a core"), median(&self.cpu_percent), CPU_PERCENT_MAX);
                cpu & at_most(&what("RSS MiB"), self.rss_mib, RSS_MIB_MAX)
            }
            _ => true,
        }
    }
}

/// Waits until all is quiet, measures the first node, and says what it found.
fn measured(what: &'static str, federation: &Federation, seconds: u64) -> Row {
    let (node, peers) = (&federation.nodes[0], federation.nodes.len() - 1);
    federation.all_linked();
    node.quiet();
    let sent_before = node.bytes_sent();
    node.quiet();
    let datagrams = datagrams_sent(node.pid());
    let begun = Instant::now();
    let mut costs = vec![(begun, Cost::of(node.pid()))];
    for _ in 0..PARTS {
        sleep(Duration::from_secs(seconds) / PARTS);
        costs.push((Instant::now(), Cost::of(node.pid())));
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let datagrams = (datagrams_sent(node.pid()) - datagrams) as f64 / elapsed;
    let bytes = (node.bytes_sent() - sent_before) as f64 / begun.elapsed().as_secs_f64();
    let share = |pair: &[(Instant, Cost)]| {
        let cpu = pair[1].1.cpu.saturating_sub(pair[0].1.cpu).as_secs_f64();
        100.0 * cpu / (pair[1].0 - pair[0].0).as_secs_f64()
    };
    let cpu_percent: Vec<f64> = costs.windows(2).map(share).collect();
    let (first, last) = (costs[0].1, costs[costs.len() - 1].1);
    let mib = |kib: u64| kib as f64 / 1024.0;
    let of_a_peer = federation.nodes[1..].iter().map(|peer| Cost::of(peer.pid()).rss_kib).max().unwrap();
    // All nodes on loopback share one counter, and do the same.
    let datagrams = datagrams / if federation.is_apart() { 1.0 } else { (peers + 1) as f64 };
    say(&format!(
        "| {what} | {peers} | {} | {:.1} | {:.1} | {:.1} | {} | {:.0} | {datagrams:.1} | {bytes:.0} |",
        spread(&cpu_percent, 2),
        mib(last.rss_kib),
        mib(last.anon_kib),
        mib(of_a_peer),
        last.threads,
        (last.wakes - first.wakes) as f64 / elapsed,
    ));
    Row { what, peers, cpu_percent, rss_mib: mib(last.rss_kib) }
}

/// Nodes that are linked with each other, each with each. The first one is measured.
struct Federation {
    nodes: Vec<Node>,
    thoughts: u64,
    /// Gone after the nodes.
    place: Place,
}

enum Place {
    Loopback { _dir: tempfile::TempDir },
    Lab { _lab: Lab },
}

impl Federation {
    /// Nodes that look for the first one on loopback.
    fn on_loopback(binary: &Path, peers: usize, thoughts: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        fs::write(&policy, process::policy().to_toml()).unwrap();
        let start = |number: usize, peer: Option<String>| {
            let mut command = Command::new(binary);
            command.args(["start", "--no-mdns", "--interface", "lo", "--federation", "bench", "--policy"]);
            command.arg(&policy);
            if let Some(peer) = peer {
                command.args(["--peer", &peer]);
            }
            Node::start(command, binary, &dir.path().join(format!("node-{number}")))
        };
        if thoughts > 0 {
            let first = start(0, None);
            let own = first.id;
            let federation = FederationId::new(&"bench".parse().unwrap(), &process::policy(), None);
            let data_dir = first.data_dir.clone();
            first.stop();
            Filling::new(&data_dir, (own, federation), &process::policy(), AUTHORS).write(thoughts);
        }
        let first = start(0, None);
        let address = format!("127.0.0.1:{}", first.port);
        let mut nodes = vec![first];
        nodes.extend((1..=peers).map(|number| start(number, Some(address.clone()))));
        Self { nodes, thoughts, place: Place::Loopback { _dir: dir } }
    }

    /// Nodes on hosts of their own, as users start them; `None`, said aloud, where this system can't have such.
    fn by_mdns(binary: &Path, peers: usize) -> Option<Self> {
        let hosts: Vec<String> = (0..=peers).map(|number| format!("host-{number}")).collect();
        let lab = Lab::start(&["--hosts", &hosts.join(",")])?;
        let start = |host: &String| {
            let mut command = lab.command(host, binary);
            command.arg("start");
            Node::start(command, binary, &lab.dir().join(host))
        };
        let nodes = hosts.iter().map(start).collect();
        Some(Self { nodes, thoughts: 0, place: Place::Lab { _lab: lab } })
    }

    const fn is_apart(&self) -> bool {
        match &self.place {
            Place::Loopback { .. } => false,
            Place::Lab { .. } => true,
        }
    }

    /// Waits until every node is linked with all others, and none lacks anything.
    fn all_linked(&self) {
        let begun = Instant::now();
        let peers = self.nodes.len() - 1;
        while !self.nodes.iter().all(|node| node.is_in_step(peers, self.thoughts)) {
            assert!(begun.elapsed() < PATIENCE, "the nodes don't come together");
            // Other processes tell nobody; a look now and then is all there is.
            sleep(Duration::from_millis(100));
        }
    }
}

/// A running node.
struct Node {
    child: Child,
    binary: PathBuf,
    data_dir: PathBuf,
    id: NodeId,
    port: u16,
}

impl Node {
    /// Runs that command, which starts one, and waits until it is ready.
    fn start(mut command: Command, binary: &Path, data_dir: &Path) -> Self {
        command.args(["--json", "--data-dir"]).arg(data_dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ready: Value = serde_json::from_str(&ready).expect("the node did not start");
        let port = ready["listen"][0].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let id = ready["id"].as_str().unwrap().parse().unwrap();
        Self { child, binary: binary.to_owned(), data_dir: data_dir.to_owned(), id, port }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn status(&self) -> Value {
        let mut command = Command::new(&self.binary);
        let asked = command.args(["status", "--json", "--data-dir"]).arg(&self.data_dir).output().unwrap();
        serde_json::from_slice(&asked.stdout).expect("the node does not answer")
    }

    /// Whether it has so many peers and nothing is missing here or there. Of so many thoughts, a node with the usual bounds has let go of
    /// nearly a third.
    fn is_in_step(&self, peers: usize, thoughts: u64) -> bool {
        let status = self.status();
        let linked = status["peers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|peer| peer["verified"] == true && !peer["step"]["identical_since_ms"].is_null());
        linked.count() == peers && status["corpus"]["thoughts"].as_u64().unwrap() >= thoughts / 2
    }

    /// QUIC's bytes to all peers that are linked now.
    fn bytes_sent(&self) -> u64 {
        self.status()["peers"].as_array().unwrap().iter().filter_map(|peer| peer["bytes_sent"].as_u64()).sum()
    }

    /// Waits until it does nothing but what it does at rest.
    fn quiet(&self) {
        let (begun, mut quiet) = (Instant::now(), 0);
        let mut before = Cost::of(self.pid()).cpu;
        while quiet < 2 {
            assert!(begun.elapsed() < PATIENCE, "it does not come to rest");
            sleep(Duration::from_secs(1));
            let now = Cost::of(self.pid()).cpu;
            quiet = if now.saturating_sub(before) <= QUIET { quiet + 1 } else { 0 };
            before = now;
        }
    }

    fn stop(mut self) {
        let sent = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap();
        assert!(sent.success() && self.child.wait().unwrap().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have stopped already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
