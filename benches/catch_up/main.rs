//! How fast a node catches up, what that costs those who go on talking, and what a stalled peer costs the others.
//! `cargo bench --bench catch_up [-- speed|live|stalled]`. Real nodes, real stores with every commit synced, QUIC on loopback.
//! What the project promises: 50,000 missed entries a second until they are durable, 1.3 bytes for each byte that is missing,
//! live thoughts at most three times as slow (p99) beside a catch-up, and at most half as slow again beside a stalled peer.
//!
//! Both ends of each measurement share one machine, so each figure is what two nodes do with its processors together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may fail where it likes"
)]

#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use cogmesh::{
    ledger::types::Seq,
    log::{FederationId, NodeId},
    node::{self, Handle},
    protocol::{event::Event, view::PeerState},
};
use support::{
    at_least, at_most,
    backlog::{Backlog, Filling},
    cost::{Cost, cpu_ms},
    process::{self, Process, ROLE, Said, config, now_ns, policy, submit},
    say,
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

const AUTHORS: u8 = 20;
const MISSED: u64 = 10_000;
const MISSED_LONG: u64 = 200_000;
const TRIALS: usize = 5;
const ENTRIES_PER_SECOND_MIN: f64 = 50_000.0;
const BYTES_RATIO_MAX: f64 = 1.3;
const LIVE_RATIO_MAX: f64 = 3.0;
const STALLED_RATIO_MAX: f64 = 1.5;
/// Queues, windows and what the allocator keeps; a queue without a bound takes more than that in every stall.
const STALLED_GROWTH_BYTES_MAX: u64 = 24 << 20;
const LIVE_EVERY: Duration = Duration::from_millis(10);
/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let [role, words @ ..] = &words[..]
        && role == ROLE
    {
        runtime.block_on(process::run(words));
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let mut held = true;
    if wanted("speed") {
        held &= runtime.block_on(speed());
    }
    if wanted("live") {
        held &= runtime.block_on(live());
    }
    if wanted("stalled") {
        held &= runtime.block_on(stalled());
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A node that was away, and one that has what it missed.
async fn speed() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let backlog = prepared(dir.path(), MISSED).await;
    let mut rates = vec![];
    let mut ratios = vec![];
    for trial in 0..TRIALS {
        let server = Process::start(dir.path(), "legion", &[], None).await;
        let away = tempfile::tempdir().unwrap();
        let cpu = (cpu_ms(server.pid), cpu_ms(std::process::id()));
        let node = node::start(config(away.path(), "thor", &[server.address])).await.unwrap();
        let linked = linked(&mut node.events()).await;
        let taken = caught_up(&node, &backlog).await.duration_since(linked);
        let received = received(&node).await;
        let rate = backlog.entries as f64 / taken.as_secs_f64();
        let ratio = received as f64 / backlog.bytes as f64;
        let per_entry = |before: u64, after: u64| (after - before) as f64 * 1e3 / backlog.entries as f64;
        say(&format!(
            "catch-up {trial}: {} entries in {:.0} ms: {rate:.0} entries/s; {received} bytes for {} ({ratio:.2}); processor time \
             {:.0} µs an entry there, {:.0} µs here",
            backlog.entries,
            taken.as_secs_f64() * 1e3,
            backlog.bytes,
            per_entry(cpu.0, cpu_ms(server.pid)),
            per_entry(cpu.1, cpu_ms(std::process::id())),
        ));
        rates.push(rate);
        ratios.push(ratio);
        node.stop();
        node.stopped().await.unwrap();
        server.end().await;
    }
    rates.sort_by(f64::total_cmp);
    let (median, ratio) = (rates[rates.len() / 2], ratios.iter().copied().fold(0.0, f64::max));
    let fast = at_least("catch-up, entries/s (median)", median, ENTRIES_PER_SECOND_MIN);
    fast & at_most("catch-up, bytes received for each missing one", ratio, BYTES_RATIO_MAX)
}

/// A node that catches up, and thoughts that are published meanwhile.
async fn live() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let backlog = prepared(dir.path(), MISSED_LONG).await;
    let mut server = Process::start(dir.path(), "legion", &[], None).await;
    let away = tempfile::tempdir().unwrap();
    let node = node::start(config(away.path(), "thor", &[server.address])).await.unwrap();
    let mut events = node.events();
    let linked = linked(&mut events).await;
    let catching_up = async {
        let done = caught_up(&node, &backlog).await;
        say(&format!(
            "catch-up beside live thoughts: {} entries in {:.1} s: {:.0} entries/s",
            backlog.entries,
            done.duration_since(linked).as_secs_f64(),
            backlog.entries as f64 / done.duration_since(linked).as_secs_f64()
        ));
    };
    let busy = both_ways(&mut server, &node, 0, catching_up).await;
    sleep(Duration::from_millis(500)).await;
    let idle = both_ways(&mut server, &node, 1_000_000, sleep(Duration::from_secs(6))).await;
    let ratio = Latencies::tell("live thoughts to the node that catches up", &busy.to_us, &idle.to_us);
    Latencies::tell("live thoughts of the node that catches up", &busy.from_us, &idle.from_us);
    node.stop();
    node.stopped().await.unwrap();
    server.end().await;
    at_most("live thoughts beside a catch-up: p99 to the idle one", ratio, LIVE_RATIO_MAX)
}

struct BothWays {
    to_us: Latencies,
    from_us: Latencies,
}

/// Publishes at both ends, one thought every few milliseconds, for as long as `meanwhile` takes.
async fn both_ways(
    server: &mut Process,
    node: &Handle,
    first: u64,
    meanwhile: impl Future<Output = ()>,
) -> BothWays {
    let (mut events, theirs) = (node.events(), server.id);
    let heard = tokio::spawn(async move {
        let mut heard = BTreeMap::new();
        let mut own = BTreeMap::new();
        loop {
            match timeout(Duration::from_secs(3), events.recv()).await {
                Ok(Ok(event)) => {
                    if let Event::Entry(entry) = &*event {
                        if entry.author == theirs {
                            heard.insert(entry.seq, now_ns());
                        } else if entry.own {
                            own.insert(entry.seq, now_ns());
                        }
                    }
                }
                Ok(Err(RecvError::Lagged(missed))) => panic!("{missed} events were missed"),
                Ok(Err(RecvError::Closed)) | Err(_) => return (heard, own),
            }
        }
    });
    let mut number = first;
    let (mut submitted, mut own_submitted) = (BTreeMap::new(), vec![]);
    let node = node.clone();
    let mut ticks = interval(LIVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(meanwhile);
    loop {
        tokio::select! {
            () = &mut meanwhile => break,
            _ = ticks.tick() => {
                number += 1;
                server.submit(number, 0).await;
                let (node, number) = (node.clone(), number + 500_000);
                own_submitted.push(tokio::spawn(async move { submit(&node, number, 0).await }));
            }
        }
    }
    let (heard, own) = heard.await.unwrap();
    while let Ok(said) = server.said.try_recv() {
        if let Said::Submitted(seq, at) = said {
            submitted.insert(seq, at);
        }
    }
    let mut from_us = vec![];
    for task in own_submitted {
        let (seq, at) = task.await.unwrap();
        from_us.push(own[&seq].saturating_sub(at));
    }
    BothWays { to_us: Latencies::between(&submitted, &heard), from_us: Latencies::of(from_us) }
}

/// Three nodes, of which one is stopped every second round.
async fn stalled() -> bool {
    const ROUNDS: usize = 8;
    const THOUGHTS: u64 = 250;
    /// Long, so that a stopped peer's queue is full before its round is over.
    const BYTES: usize = 8_192;
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let legion = node::start(config(dirs[0].path(), "legion", &[])).await.unwrap();
    let mut events = legion.events();
    let (address, id) = (legion.listen()[0], legion.about().id);
    let mut thor = Process::start(dirs[1].path(), "thor", &[address], Some(id)).await;
    let mut sprout = Process::start(dirs[2].path(), "sprout", &[address, thor.address], Some(id)).await;
    linked(&mut events).await;
    linked(&mut events).await;
    let (mut free, mut beside) = (vec![], vec![]);
    let mut number = 0;
    let mut rss = vec![rss_bytes()];
    for round in 0..ROUNDS {
        let is_stalled = round % 2 == 1;
        if is_stalled {
            sprout.signal("STOP");
        }
        let mut submitted = BTreeMap::new();
        let mut ticks = interval(LIVE_EVERY);
        let mut tasks = vec![];
        for _ in 0..THOUGHTS {
            ticks.tick().await;
            number += 1;
            let legion = legion.clone();
            tasks.push(tokio::spawn(async move { submit(&legion, number, BYTES).await }));
        }
        for task in tasks {
            let (seq, at) = task.await.unwrap();
            submitted.insert(seq, at);
        }
        let last = *submitted.keys().last().unwrap();
        let heard = heard_through(&mut thor, last).await;
        let latencies = Latencies::between(&submitted, &heard);
        if is_stalled {
            beside.extend(latencies.sorted);
        } else {
            free.extend(latencies.sorted);
        };
        rss.push(rss_bytes());
        if is_stalled {
            sprout.signal("CONT");
            let begun = Instant::now();
            heard_through(&mut sprout, last).await;
            say(&format!("sprout has what it missed {} ms after it went on", begun.elapsed().as_millis()));
        }
    }
    let (free, beside) = (Latencies::of(free), Latencies::of(beside));
    let ratio = Latencies::tell("live thoughts beside a stopped peer", &beside, &free);
    let megabytes: Vec<String> = rss.iter().map(|bytes| format!("{:.1}", *bytes as f64 / 1e6)).collect();
    say(&format!("legion's memory in MB at the start and after each round: {}", megabytes.join(", ")));
    // The first round warms everything up; then rounds with a stopped peer take turns with others.
    let growth = rss[rss.len() - 1].saturating_sub(rss[1]);
    legion.stop();
    legion.stopped().await.unwrap();
    thor.end().await;
    sprout.end().await;
    let holds = at_most("live thoughts beside a stopped peer: p99 to that without", ratio, STALLED_RATIO_MAX);
    holds & at_most("growth of memory, MB", growth as f64 / 1e6, STALLED_GROWTH_BYTES_MAX as f64 / 1e6)
}

/// A data directory of a node with so many thoughts of others in its store.
async fn prepared(dir: &Path, thoughts: u64) -> Backlog {
    let node = node::start(config(dir, "legion", &[])).await.unwrap();
    let (own, federation): (NodeId, FederationId) = (node.about().id, node.about().federation);
    node.stop();
    node.stopped().await.unwrap();
    drop(node);
    Filling::new(dir, (own, federation), &policy(), AUTHORS).write(thoughts)
}

/// Waits for a link; when it stood.
async fn linked(events: &mut broadcast::Receiver<Arc<Event>>) -> Instant {
    let waiting = async {
        loop {
            if let Event::PeerVerified { .. } = &*events.recv().await.unwrap() {
                return Instant::now();
            }
        }
    };
    timeout(PATIENCE, waiting).await.unwrap()
}

/// Waits until all of it stands in the node's store; when that was.
async fn caught_up(node: &Handle, backlog: &Backlog) -> Instant {
    let (store, mut commits) = (node.store(), node.commits());
    let waiting = async {
        loop {
            let corpus = store.corpus();
            if corpus.thoughts >= backlog.corpus.thoughts && corpus.bytes >= backlog.corpus.bytes {
                return Instant::now();
            }
            commits.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, waiting).await.unwrap()
}

/// What the node's only link has brought.
async fn received(node: &Handle) -> u64 {
    let view = node.view().await.unwrap();
    let links = view.peers.iter().filter_map(|peer| match &peer.state {
        PeerState::Verified(peer) => node.link_stats(peer.link),
        PeerState::Seen(_) => None,
    });
    links.map(|stats| stats.bytes_received).sum()
}

async fn heard_through(process: &mut Process, last: Seq) -> BTreeMap<Seq, u64> {
    let mut heard = BTreeMap::new();
    while heard.keys().last() < Some(&last) {
        match timeout(PATIENCE, process.said.recv()).await.unwrap().unwrap() {
            Said::Heard(seq, at) => drop(heard.insert(seq, at)),
            Said::Submitted(..) | Said::Done(..) => {}
        }
    }
    heard
}

/// How long thoughts took.
struct Latencies {
    sorted: Vec<u64>,
}

impl Latencies {
    fn of(mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        Self { sorted: nanoseconds }
    }

    fn between(submitted: &BTreeMap<Seq, u64>, heard: &BTreeMap<Seq, u64>) -> Self {
        let taken = submitted.iter().map(|(seq, at)| heard[seq].saturating_sub(*at));
        Self::of(taken.collect())
    }

    fn ms(&self, share: usize) -> f64 {
        let place = (self.sorted.len() * share).div_ceil(100).saturating_sub(1);
        self.sorted[place] as f64 / 1e6
    }

    /// Prints both; gives the ratio of their p99.
    fn tell(what: &str, busy: &Self, idle: &Self) -> f64 {
        let line = |latencies: &Self| {
            let [p50, p99, max] = [50, 99, 100].map(|share| latencies.ms(share));
            format!("p50 {p50:.2}, p99 {p99:.2}, max {max:.2} ms ({})", latencies.sorted.len())
        };
        say(&format!("{what}: {}; otherwise {}", line(busy), line(idle)));
        busy.ms(99) / idle.ms(99)
    }
}

/// Memory of this process that is in use.
fn rss_bytes() -> u64 {
    Cost::of(std::process::id()).rss_kib * 1024
}
