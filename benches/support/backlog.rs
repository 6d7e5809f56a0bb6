//! What was missed: a store full of others' logs, written through the library as a node that had heard them would have.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
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
        identity::work_bits,
    },
    store::{CorpusBounds, CorpusSize, Durability, SqliteStore, Store, StoreOptions},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// As many as an author that writes in bursts signs together.
const SEGMENT: u64 = 64;
const RECORDS_PER_COMMIT: usize = 64;
const START: u64 = 1_767_225_600_000;
const EVERY_MS: u64 = 10_000;
const CONTENTS: usize = 8_192;
const VOCABULARY: u64 = 20_000;
/// Nothing is let go: what arrives is what was sent.
pub(crate) const KEEP_ALL: CorpusBounds = CorpusBounds { thoughts_max: u64::MAX, bytes_max: u64::MAX };

/// What a node that lacks all of it is to get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    pub(crate) entries: u64,
    /// Of headers, contents and one signature for each segment.
    pub(crate) bytes: u64,
    /// The corpus after it.
    pub(crate) corpus: CorpusSize,
}

/// Fills the store of a node, while that does not run, with the logs of others. What it writes now follows what it wrote before.
pub(crate) struct Filling {
    store: PathBuf,
    options: StoreOptions,
    authors: Vec<Author>,
    contents: Vec<(Thought, String)>,
}

impl Filling {
    /// The store of the node `own` in that data directory, and so many authors.
    pub(crate) fn new(
        dir: &Path,
        (own, federation): (NodeId, FederationId),
        policy: &Policy,
        authors: u8,
    ) -> Self {
        let options = StoreOptions {
            corpus: KEEP_ALL,
            durability: Durability::Normal,
            ..StoreOptions::new(federation, own, policy.clone())
        };
        let authors = (0..authors).map(|number| Author::new(number, federation, policy)).collect();
        Self { store: dir.join("store.db"), options, authors, contents: contents() }
    }

    /// Writes so many thoughts more, of all authors in equal shares: what that was, and the corpus after it.
    pub(crate) fn write(&mut self, thoughts: u64) -> Backlog {
        let store = SqliteStore::open(&self.store, self.options.clone()).unwrap();
        let mut backlog = Backlog { entries: 0, bytes: 0, corpus: CorpusSize::default() };
        let unknown = self.authors.iter_mut().filter(|author| author.book.hash == Hash::ZERO);
        store.commit(&unknown.map(|author| backlog.count(author.genesis())).collect::<Vec<_>>()).unwrap();
        let share = thoughts / self.authors.len() as u64;
        let mut records = vec![];
        for first in (0..share).step_by(SEGMENT as usize) {
            for author in &mut self.authors {
                records.push(backlog.count(author.segment(SEGMENT.min(share - first), &self.contents)));
                if records.len() == RECORDS_PER_COMMIT {
                    store.commit(&records).unwrap();
                    records.clear();
                }
            }
        }
        store.commit(&records).unwrap();
        backlog.corpus = store.corpus();
        backlog
    }

    /// Where each author's log ends.
    pub(crate) fn ends(&self) -> Vec<(NodeId, Seq)> {
        self.authors.iter().map(|author| (author.id, author.book.seq())).collect()
    }
}

impl Backlog {
    fn count(&mut self, record: Record) -> Record {
        if let Record::Entries { entries, .. } = &record {
            self.entries += entries.len() as u64;
            self.bytes += entries.iter().map(|judged| judged.entry.byte_len() as u64).sum::<u64>() + 64;
        }
        record
    }
}

/// Writes one author's log.
struct Author {
    identity: Identity,
    id: NodeId,
    federation: FederationId,
    policy: Policy,
    number: u8,
    nonce: Nonce,
    book: AuthorBook,
}

impl Author {
    fn new(number: u8, federation: FederationId, policy: &Policy) -> Self {
        let identity = Identity::from_seed(&[number + 100; 32]).unwrap();
        let id = identity.node_id();
        let time = Millis(START + u64::from(number) * 100);
        let arch: Architecture = "x86_64".parse().unwrap();
        let is_enough = |nonce: &Nonce| work_bits(&federation, &id, *nonce) >= u32::from(policy.pow_bits);
        let book = AuthorBook {
            name: format!("author-{number}").parse().unwrap(),
            hardware: Hardware::Software,
            arch,
            hash: Hash::ZERO,
            signature: None,
            account: Account::open(policy, Level::MAX, time),
            known_since: time,
        };
        let nonce = (0..).map(Nonce).find(is_enough).unwrap();
        Self { id, identity, federation, policy: policy.clone(), number, nonce, book }
    }

    fn genesis(&mut self) -> Record {
        let body = Body::Genesis(Genesis {
            name: self.book.name.clone(),
            hardware: self.book.hardware,
            level: Level::MAX,
            arch: self.book.arch.clone(),
            nonce: self.nonce,
        });
        let time = self.book.account.time;
        let entry = self.entry(Seq::GENESIS, time, body, None);
        self.record(vec![Judged { entry, thought: None, received: time }])
    }

    fn segment(&mut self, count: u64, contents: &[(Thought, String)]) -> Record {
        let judged = (0..count).map(|_| self.thought(contents)).collect();
        self.record(judged)
    }

    fn thought(&mut self, contents: &[(Thought, String)]) -> Judged {
        let seq = self.book.seq().next();
        let number = usize::try_from(seq.0 * 31 + u64::from(self.number)).unwrap();
        let (thought, content) = &contents[number % contents.len()];
        let time = self.book.account.time.plus(Millis(EVERY_MS));
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

    fn record(&mut self, entries: Vec<Judged>) -> Record {
        let head = Head::sign(&self.identity, &self.federation, self.book.seq(), self.book.hash);
        self.book.signature = Some(head.signature);
        Record::Entries { author: self.id, entries, book: Arc::new(self.book.clone()) }
    }
}

/// Thoughts of 12 to 40 words, common ones more often than rare ones.
fn contents() -> Vec<(Thought, String)> {
    let mut random = ChaCha8Rng::from_seed([7; 32]);
    let one = |random: &mut ChaCha8Rng| {
        let words: Vec<String> = (0..12 + random.next_u64() % 28).map(|_| word(rank(random))).collect();
        words.join(" ")
    };
    let thought = |random: &mut ChaCha8Rng| {
        let content = one(random);
        (Thought::new("main".parse().unwrap(), Mode::Exploring, &content), content)
    };
    (0..CONTENTS).map(|_| thought(&mut random)).collect()
}

/// Half of all words are among the first 140, as in real texts.
fn rank(random: &mut ChaCha8Rng) -> u64 {
    let uniform = random.next_u64() % 1_000_000;
    let exponent = f64::from(u32::try_from(uniform).unwrap()) / 1_000_000.0;
    // A power of a uniform number is near enough to Zipf's law.
    (VOCABULARY as f64).powf(exponent) as u64
}

/// The word of that rank: letters only, so that it is a concept.
pub(crate) fn word(rank: u64) -> String {
    let syllables = ["ka", "to", "mi", "re", "su", "no", "li", "va", "den", "por"];
    let digits = format!("{rank:05}");
    digits.bytes().map(|digit| syllables[usize::from(digit - b'0')]).collect()
}
