//! What a store costs as it grows: starting, searching, pruning and auditing with 10,000 thoughts and with a million.
//! `cargo bench --bench store [-- SIZES]`; the last size is built once more with bounds that keep every content.
//! Real entries of 50 authors, each with its chain, its account and a signature for each segment. What the project promises is that a
//! start with a million thoughts takes no more than half as long again as one with 10,000.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may fail where it likes"
)]

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use cogmesh::{
    ledger::{
        Account, Facts, Policy, fold,
        types::{Level, Millis, Seq},
    },
    log::{
        Architecture, Body, Entry, FederationId, Genesis, Hardware, Hash, Head, Header, Identity, Mode,
        NodeId, Nonce, Thought,
        books::{AuthorBook, Judged, JudgedThought, Record},
    },
    store::{CorpusBounds, SqliteStore, Store, StoreOptions, ThoughtQuery, audit},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

const SIZES: [u64; 2] = [10_000, 1_000_000];
const AUTHORS: u8 = 50;
/// As many as travel together in a catch-up.
const SEGMENT: u64 = 64;
const RECORDS_PER_COMMIT: usize = 64;
const START: u64 = 1_767_225_600_000;
/// Six a minute, below what the rate limit allows a new author.
const EVERY_MS: u64 = 10_000;
/// One thought of so many is spam: rarely enough that its author is never frozen.
const SPAM_EVERY: u64 = 500;
const CONTENTS: usize = 32_768;
const VOCABULARY: u64 = 20_000;
const STARTS: usize = 101;
const RATIO_MAX: f64 = 1.5;
const KEEP_ALL: CorpusBounds = CorpusBounds { thoughts_max: u64::MAX, bytes_max: u64::MAX };

fn main() -> ExitCode {
    let typed: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let sizes = if typed.is_empty() { SIZES.to_vec() } else { typed };
    let all = Bench::build(*sizes.last().unwrap(), KEEP_ALL);
    all.searches();
    drop(all);
    let mut benches = vec![];
    for size in &sizes {
        let bench = Bench::build(*size, CorpusBounds::default());
        bench.searches();
        bench.audits();
        benches.push(bench);
    }
    let starts = starts(&benches);
    let ratio = starts[starts.len() - 1].as_secs_f64() / starts[0].as_secs_f64();
    let held = ratio <= RATIO_MAX;
    let said = if held { "held" } else { "missed" };
    say(&format!(
        "start-up with {} : with {} thoughts = {ratio:.2} (at most {RATIO_MAX}: {said})",
        sizes[sizes.len() - 1],
        sizes[0]
    ));
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A store that was built and closed.
struct Bench {
    dir: tempfile::TempDir,
    name: String,
    options: StoreOptions,
}

impl Bench {
    fn build(size: u64, corpus: CorpusBounds) -> Self {
        let policy = Policy { pow_bits: 0, ..Policy::default() };
        let federation = FederationId::new(&"bench".parse().unwrap(), &policy, None);
        let bounds = if corpus == KEEP_ALL { "every content kept" } else { "default bounds" };
        let name = format!("{size} thoughts, {bounds}");
        let mut authors: Vec<Author> =
            (0..AUTHORS).map(|number| Author::new(number, federation, &policy)).collect();
        let options = StoreOptions { corpus, ..StoreOptions::new(federation, authors[0].id, policy) };
        let bench = Self { dir: tempfile::tempdir().unwrap(), name, options };
        let contents = contents();
        let store = bench.open();
        let begun = Instant::now();
        let (mut commits, mut prunes) = (vec![], vec![]);
        store.commit(&authors.iter_mut().map(Author::genesis).collect::<Vec<_>>()).unwrap();
        let (mut written, mut told) = (0, Instant::now());
        while written < size {
            let mut records = vec![];
            while written < size && records.len() < RECORDS_PER_COMMIT {
                let turn = usize::try_from(written / SEGMENT).unwrap() % authors.len();
                let count = SEGMENT.min(size - written);
                records.push(authors[turn].segment(count, &contents));
                written += count;
            }
            commits.push(taken(|| store.commit(&records).unwrap()));
            let now = authors.iter().map(Author::time).max().unwrap();
            let (took, pruned) = timed(|| store.prune(now).unwrap());
            if pruned.contents > 0 {
                prunes.push(took);
            }
            if told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                progress(&format!("{}: {} %", bench.name, written * 100 / size));
            }
        }
        let kept = store.corpus();
        drop(store);
        progress("");
        bench.say(&format!(
            "built in {} s, file {:.1} MB, {} contents with {:.1} MB kept",
            begun.elapsed().as_secs(),
            megabytes(std::fs::metadata(bench.path()).unwrap().len()),
            kept.thoughts,
            megabytes(kept.bytes)
        ));
        bench.tell(&format!("commit of {} thoughts", SEGMENT * 64), commits);
        bench.tell("prune", prunes);
        bench
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path(), self.options.clone()).unwrap()
    }

    /// As a node does when it starts: the store is opened and the books are loaded. To close it is no part of that.
    fn start(&self) -> Duration {
        let (took, (_store, books)) = timed(|| {
            let store = self.open();
            let books = store.load().unwrap();
            (store, books)
        });
        assert_eq!(books.authors.len(), usize::from(AUTHORS));
        took
    }

    fn searches(&self) {
        let store = self.open();
        for limit in [100, 10_000] {
            let query = ThoughtQuery { limit, ..ThoughtQuery::default() };
            let took = (0..10).map(|_| taken(|| drop(store.thoughts(&query).unwrap()))).collect();
            self.tell(&format!("the newest {limit}"), took);
        }
        for (kind, searches) in searches() {
            let mut found = 0;
            let took: Vec<Duration> = searches
                .iter()
                .map(|words| {
                    let query =
                        ThoughtQuery { search: Some(words.parse().unwrap()), ..ThoughtQuery::default() };
                    let (took, rows) = timed(|| store.thoughts(&query).unwrap());
                    found += rows.len();
                    took
                })
                .collect();
            self.tell(&format!("search for {kind}, {} found on average", found / searches.len()), took);
        }
    }

    fn audits(&self) {
        let begun = Instant::now();
        match audit(&self.path(), &|at| progress_rarely(begun, at.entries_done, at.entries_total)) {
            Ok(report) => self.say(&format!(
                "audit {:.1} s, {} mismatches",
                begun.elapsed().as_secs_f64(),
                report.mismatches.len()
            )),
            Err(error) => self.say(&format!("audit failed: {error}")),
        }
    }

    fn tell(&self, what: &str, mut took: Vec<Duration>) {
        took.sort();
        if !took.is_empty() {
            let [p50, p99, max] = [50, 99, 100].map(|share| at(&took, share).as_secs_f64() * 1_000.0);
            self.say(&format!("{what}: p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms ({})", took.len()));
        }
    }

    fn say(&self, what: &str) {
        say(&format!("{}: {what}", self.name));
    }
}

/// The median of each. They take turns, so that what else the machine does is the same for all.
fn starts(benches: &[Bench]) -> Vec<Duration> {
    let mut took = vec![vec![]; benches.len()];
    for _ in 0..STARTS {
        for (bench, took) in benches.iter().zip(&mut took) {
            took.push(bench.start());
        }
    }
    let medians = took.iter_mut().map(|took| {
        took.sort();
        at(took, 50)
    });
    let medians = medians.collect();
    for (bench, took) in benches.iter().zip(took) {
        bench.tell("start-up", took);
    }
    medians
}

/// Writes one author's log.
struct Author {
    identity: Identity,
    id: NodeId,
    federation: FederationId,
    policy: Policy,
    number: u8,
    book: AuthorBook,
}

impl Author {
    fn new(number: u8, federation: FederationId, policy: &Policy) -> Self {
        let identity = Identity::from_seed(&[number + 1; 32]).unwrap();
        let time = Millis(START + u64::from(number) * 100);
        let arch: Architecture = "x86_64".parse().unwrap();
        let book = AuthorBook {
            name: format!("author-{number}").parse().unwrap(),
            hardware: Hardware::Software,
            arch,
            hash: Hash::ZERO,
            signature: None,
            account: Account::open(policy, Level::MAX, time),
            known_since: time,
        };
        Self { id: identity.node_id(), identity, federation, policy: policy.clone(), number, book }
    }

    fn time(&self) -> Millis {
        self.book.account.time
    }

    fn genesis(&mut self) -> Record {
        let body = Body::Genesis(Genesis {
            name: self.book.name.clone(),
            hardware: self.book.hardware,
            level: Level::MAX,
            arch: self.book.arch.clone(),
            nonce: Nonce(0),
        });
        let time = self.time();
        let entry = self.entry(Seq::GENESIS, time, body, None);
        self.record(vec![Judged { entry, thought: None, received: time }])
    }

    fn segment(&mut self, count: u64, contents: &[(Thought, String)]) -> Record {
        let judged = (0..count).map(|_| self.thought(contents)).collect();
        self.record(judged)
    }

    fn thought(&mut self, contents: &[(Thought, String)]) -> Judged {
        let seq = self.book.seq().next();
        let number = usize::try_from(seq.0 * u64::from(AUTHORS) + u64::from(self.number)).unwrap();
        let is_spam = seq.0.is_multiple_of(SPAM_EVERY);
        let (thought, content) = &contents[if is_spam { 0 } else { 1 + number % (contents.len() - 1) }];
        let time = self.time().plus(Millis(EVERY_MS));
        let facts = Facts { time, content_bytes: thought.content_bytes, features: thought.features };
        let outcome = fold(&self.policy, &mut self.book.account, &facts).unwrap();
        let judged = JudgedThought {
            session: thought.session.clone(),
            mode: thought.mode,
            verdict: outcome.verdict,
            coherence: outcome.coherence,
            delta: outcome.delta,
            weight: outcome.weight,
        };
        let entry = self.entry(seq, time, Body::Thought(thought.clone()), Some(content));
        Judged { entry, thought: Some(judged), received: time.plus(Millis(5)) }
    }

    fn entry(&mut self, seq: Seq, time: Millis, body: Body, content: Option<&str>) -> Entry {
        let header = Header { author: self.id, seq, prev: self.book.hash, time, body };
        let entry = Entry::new(&self.federation, header, content);
        self.book.hash = entry.hash();
        entry
    }

    /// The first author is the node itself, which keeps no signatures of its own.
    fn record(&mut self, entries: Vec<Judged>) -> Record {
        let signed =
            || Head::sign(&self.identity, &self.federation, self.book.seq(), self.book.hash).signature;
        self.book.signature = (self.number > 0).then(signed);
        Record::Entries { author: self.id, entries, book: Arc::new(self.book.clone()) }
    }
}

/// Spam, and then thoughts of 12 to 40 words, common ones more often than rare ones.
fn contents() -> Vec<(Thought, String)> {
    let mut random = ChaCha8Rng::from_seed([7; 32]);
    let sessions = ["main", "lab", "review", "night-shift"];
    let modes = [Mode::Exploring, Mode::Questioning, Mode::Integrating, Mode::Verifying, Mode::Reframing];
    let one = |random: &mut ChaCha8Rng| {
        let words: Vec<String> = (0..12 + random.next_u64() % 28).map(|_| word(rank(random))).collect();
        words.join(" ")
    };
    std::iter::once("spam spam spam".to_owned())
        .chain((1..CONTENTS).map(|_| one(&mut random)))
        .enumerate()
        .map(|(number, content)| {
            let session = sessions[number % sessions.len()].parse().unwrap();
            (Thought::new(session, modes[number % modes.len()], &content), content)
        })
        .collect()
}

/// Half of all words are among the first 140, as in real texts.
fn rank(random: &mut ChaCha8Rng) -> u64 {
    let uniform = random.next_u64() % 1_000_000;
    let exponent = f64::from(u32::try_from(uniform).unwrap()) / 1_000_000.0;
    // A power of a uniform number is near enough to Zipf's law.
    let rank = (VOCABULARY as f64).powf(exponent);
    rank as u64
}

/// The word of that rank: letters only, so that it is a concept.
fn word(rank: u64) -> String {
    let syllables = ["ka", "to", "mi", "re", "su", "no", "li", "va", "den", "por"];
    let digits = format!("{rank:05}");
    digits.bytes().map(|digit| syllables[usize::from(digit - b'0')]).collect()
}

fn searches() -> Vec<(&'static str, Vec<String>)> {
    let words = |ranks: std::ops::Range<u64>| ranks.map(word).collect::<Vec<_>>();
    let pairs = (0..100).map(|number| format!("{} {}", word(10 + number), word(200 + 7 * number)));
    vec![
        ("the commonest words", words(1..11)),
        ("common words", words(20..120)),
        ("rare words", words(5_000..5_100)),
        ("two words", pairs.collect()),
        ("what is not there", (0..100).map(|number| format!("absent{number}")).collect()),
    ]
}

fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let done = run();
    (begun.elapsed(), done)
}

fn taken(run: impl FnOnce()) -> Duration {
    timed(run).0
}

fn at(sorted: &[Duration], share: usize) -> Duration {
    sorted[(sorted.len() * share).div_ceil(100).saturating_sub(1)]
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn say(line: &str) {
    writeln!(io::stdout().lock(), "{line}").unwrap();
}

fn progress(line: &str) {
    write!(io::stderr().lock(), "\r{line:<60}\r").unwrap();
}

fn progress_rarely(begun: Instant, done: u64, total: u64) {
    if begun.elapsed() > Duration::from_secs(1) && done.is_multiple_of(50_000) {
        progress(&format!("auditing: {} %", done * 100 / total.max(1)));
    }
}
