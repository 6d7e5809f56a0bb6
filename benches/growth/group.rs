//! A source and the nodes that fetch from it, as they grow together.

use std::time::Instant;

use cogmesh::{
    log::{FederationId, NodeId},
    node,
    store::{CorpusBounds, SqliteStore, Store, StoreOptions},
};

use crate::support::{
    backlog::{Filling, KEEP_ALL, word},
    cost::Cost,
    median,
    process::{Process, config, policy},
};

/// Thoughts of a batch that is submitted or published.
const BATCH: u64 = 1_000;
/// Bytes of each.
const BYTES: usize = 256;
/// Thoughts of a batch that is caught up on.
const CATCH_UP: u64 = 5_000;
const OPENS: usize = 5;
const QUERIES: usize = 7;
/// The rank of a word that some of a hundred contents have.
const SEARCHED: u64 = 2_000;

/// How a thought comes to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Submitted,
    Live,
    CaughtUp,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Submitted, Self::Live, Self::CaughtUp];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Live => "from a peer",
            Self::CaughtUp => "caught up",
        }
    }
}

/// How many contents a node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    Usual,
    All,
}

impl Bounds {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Usual => "10,000 kept",
            Self::All => "all kept",
        }
    }

    fn corpus(self) -> CorpusBounds {
        match self {
            Self::Usual => CorpusBounds::default(),
            Self::All => KEEP_ALL,
        }
    }
}

/// What was found out about one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Of each way, of each round: processor time of a thought in µs, bytes written and read for one, and how many stood in a commit.
    cpu_us: [Vec<f64>; 3],
    moved: [Vec<(f64, f64)>; 3],
    per_commit: [Vec<f64>; 3],
    /// How long the store takes to be opened and its books to be read.
    pub(crate) open_ms: Vec<f64>,
    pub(crate) rss_mib: f64,
    pub(crate) anon_mib: f64,
    pub(crate) newest_us: Vec<f64>,
    pub(crate) search_us: Vec<f64>,
}

impl Figures {
    pub(crate) fn cpu_us(&self, way: Way) -> &[f64] {
        &self.cpu_us[way as usize]
    }

    /// Bytes written and read for a thought.
    pub(crate) fn moved(&self, way: Way) -> (f64, f64) {
        let of = |part: fn(&(f64, f64)) -> f64| {
            median(&self.moved[way as usize].iter().map(part).collect::<Vec<_>>())
        };
        (of(|moved| moved.0), of(|moved| moved.1))
    }

    /// Thoughts of a commit.
    pub(crate) fn per_commit(&self, way: Way) -> f64 {
        median(&self.per_commit[way as usize])
    }

    fn add(&mut self, way: Way, before: &Sample, after: &Sample, thoughts: u64) {
        let thoughts = thoughts as f64;
        let (before, commits, after) = (&before.cost, after.commits - before.commits, &after.cost);
        let cpu_us = (after.cpu.saturating_sub(before.cpu)).as_secs_f64() * 1e6;
        self.cpu_us[way as usize].push(cpu_us / thoughts);
        let (written, read) = (after.written - before.written, after.read - before.read);
        self.moved[way as usize].push((written as f64 / thoughts, read as f64 / thoughts));
        self.per_commit[way as usize].push(thoughts / commits.max(1) as f64);
    }
}

/// What a node has cost and done so far.
struct Sample {
    cost: Cost,
    commits: u64,
}

/// One that was measured.
struct Measured {
    dir: tempfile::TempDir,
    bounds: Bounds,
    process: Option<Process>,
}

impl Measured {
    /// How long its store takes to be opened and its books to be read. It is opened a second time, beside the node: one that starts again looks
    /// through all that it has, which would be in every figure after that.
    fn open_ms(&self, authors: u8) -> f64 {
        let federation = FederationId::new(&"bench".parse().unwrap(), &policy(), None);
        let id = self.process.as_ref().unwrap().id;
        let corpus = self.bounds.corpus();
        let options = StoreOptions { corpus, ..StoreOptions::new(federation, id, policy()) };
        let begun = Instant::now();
        let store = SqliteStore::open(&self.dir.path().join("store.db"), options).unwrap();
        let books = store.load().unwrap();
        assert!(books.authors.len() > usize::from(authors));
        begun.elapsed().as_secs_f64() * 1e3
    }
}

/// A source and the nodes that are measured, which are linked with nobody else.
pub(crate) struct Group {
    pub(crate) authors: u8,
    /// Of the source's store, but for what was published in rounds.
    pub(crate) thoughts: u64,
    dir: tempfile::TempDir,
    filling: Filling,
    source: Option<Process>,
    nodes: Vec<Measured>,
    published: u64,
}

impl Group {
    pub(crate) async fn new(authors: u8, bounds: &[Bounds]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (own, federation) = identity(&dir).await;
        let filling = Filling::new(dir.path(), (own, federation), &policy(), authors);
        let measured =
            |bounds: &Bounds| Measured { dir: tempfile::tempdir().unwrap(), bounds: *bounds, process: None };
        let nodes = bounds.iter().map(measured).collect();
        Self { authors, thoughts: 0, dir, filling, source: None, nodes, published: 0 }
    }

    pub(crate) fn bounds(&self) -> Vec<Bounds> {
        self.nodes.iter().map(|node| node.bounds).collect()
    }

    /// Fills the source's store to that size, and has the nodes fetch it; says what that cost.
    pub(crate) async fn grow(&mut self, thoughts: u64) -> String {
        let begun = Instant::now();
        self.stop_source().await;
        let more = thoughts - self.thoughts;
        self.filling.write(more);
        self.thoughts = thoughts;
        let filled = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        self.start_source().await;
        let mut before = vec![];
        for node in 0..self.nodes.len() {
            self.start_node(node).await;
            before.push(Cost::of(self.process(node).pid));
        }
        self.all_held().await;
        let mut said =
            vec![format!("filled in {filled:.0} s, fetched in {:.0} s", begun.elapsed().as_secs_f64())];
        for (node, before) in before.into_iter().enumerate() {
            let cpu = Cost::of(self.process(node).pid).cpu.saturating_sub(before.cpu);
            let each = cpu.as_secs_f64() * 1e6 / more as f64;
            said.push(format!("{each:.0} CPU µs a thought ({})", self.nodes[node].bounds.name()));
        }
        said.join(", ")
    }

    /// Brings the nodes to where a round begins.
    pub(crate) async fn warm(&mut self) -> Vec<Figures> {
        let mut found = vec![Figures::default(); self.nodes.len()];
        // Whatever is done once, for the link and the first thoughts, is done before the first round.
        self.live(&mut found, BATCH / 10).await;
        vec![Figures::default(); self.nodes.len()]
    }

    /// A batch of each way.
    pub(crate) async fn round(&mut self, found: &mut [Figures]) {
        for (node, found) in found.iter_mut().enumerate() {
            let first = self.numbers(BATCH);
            let before = self.sample(node).await;
            self.process(node).publish(first, BATCH, BYTES).await;
            found.add(Way::Submitted, &before, &self.sample(node).await, BATCH);
        }
        self.live(found, BATCH).await;
        self.stop_source().await;
        self.filling.write(CATCH_UP);
        let before = self.samples().await;
        self.start_source().await;
        self.all_held().await;
        for (node, after) in self.samples().await.iter().enumerate() {
            found[node].add(Way::CaughtUp, &before[node], after, CATCH_UP);
        }
    }

    /// What is measured once.
    pub(crate) async fn rest(&mut self, found: &mut [Figures]) {
        for (node, found) in found.iter_mut().enumerate() {
            for _ in 0..QUERIES {
                let (newest, search) = self.process(node).query(&word(SEARCHED)).await;
                found.newest_us.push(newest as f64);
                found.search_us.push(search as f64);
            }
            found.open_ms = (0..OPENS).map(|_| self.nodes[node].open_ms(self.authors)).collect();
            let cost = Cost::of(self.process(node).pid);
            (found.rss_mib, found.anon_mib) = (cost.rss_kib as f64 / 1024.0, cost.anon_kib as f64 / 1024.0);
        }
    }

    pub(crate) async fn stop(mut self) {
        self.stop_source().await;
        for node in &mut self.nodes {
            node.process.take().unwrap().stop().await;
        }
    }

    async fn live(&mut self, found: &mut [Figures], count: u64) {
        let first = self.numbers(count);
        let before = self.samples().await;
        let source = self.source.as_mut().unwrap();
        let (id, last) = (source.id, source.publish(first, count, BYTES).await);
        for node in 0..self.nodes.len() {
            self.process(node).holds(id, last).await;
        }
        for (node, after) in self.samples().await.iter().enumerate() {
            found[node].add(Way::Live, &before[node], after, count);
        }
    }

    async fn all_held(&mut self) {
        let ends = self.filling.ends();
        for node in 0..self.nodes.len() {
            for (author, seq) in &ends {
                self.process(node).holds(*author, *seq).await;
            }
        }
    }

    async fn samples(&mut self) -> Vec<Sample> {
        let mut samples = vec![];
        for node in 0..self.nodes.len() {
            samples.push(self.sample(node).await);
        }
        samples
    }

    async fn sample(&mut self, node: usize) -> Sample {
        let process = self.process(node);
        // What was caught up on fast is let go of for seconds after that; each batch has its own.
        process.settled().await;
        Sample { commits: process.commits().await, cost: Cost::of(process.pid) }
    }

    fn process(&mut self, node: usize) -> &mut Process {
        self.nodes[node].process.as_mut().unwrap()
    }

    /// Numbers of thoughts that were not there before.
    fn numbers(&mut self, count: u64) -> u64 {
        self.published += count;
        self.published - count
    }

    async fn start_node(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        let source = self.source.as_ref().unwrap();
        let (peer, Measured { dir, bounds, .. }) = ((source.id, source.address), &self.nodes[node]);
        let process = Process::start_pinned(dir.path(), "node", peer, bounds.corpus()).await;
        self.nodes[node].process = Some(process);
    }

    async fn start_source(&mut self) {
        let running = self.nodes.iter().filter_map(|node| Some(node.process.as_ref()?.address));
        let nodes: Vec<_> = running.collect();
        self.source = Some(Process::start(self.dir.path(), "source", &nodes, None).await);
    }

    async fn stop_source(&mut self) {
        if let Some(source) = self.source.take() {
            source.stop().await;
        }
    }
}

/// Has a node make its key and its empty store.
async fn identity(dir: &tempfile::TempDir) -> (NodeId, FederationId) {
    let node = node::start(config(dir.path(), "source", &[])).await.unwrap();
    let found = (node.about().id, node.about().federation);
    node.stop();
    node.stopped().await.unwrap();
    found
}
