//! The stores from outside: one suite of promises, kept by each of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail where it likes"
)]

mod bounds;
mod convictions;
mod copies;
mod corpus;
mod damage;
mod flips;
mod migration;
mod refusals;
mod writing;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Condvar, Mutex, mpsc},
};

use cogmesh::{
    ledger::{
        Account, Facts, Policy, Verdict,
        economy::Session,
        fold,
        types::{Level, MicroAtp, Millis, Ppm, Seq},
    },
    log::{
        Architecture, Body, Entry, FederationId, Genesis, Hardware, Hash, Header, Identity, Mode, NodeId,
        Nonce, Signature, Thought,
        books::{
            AuthorBook, Books, Judged, JudgedThought, KnownPeer, Record, Recorded, SUBMISSION_KEYS_MAX, Span,
            StoredEntry,
        },
    },
    store::{
        CopyError, CorpusBounds, CorpusSize, Existing, ExportedThought, MemoryStore, PEERS_MAX, Pruned,
        Rates, Scrubbed, SqliteStore, Store, StoreError, StoreOptions, ThoughtQuery, ThoughtRow, backup,
        export, restore,
        writer::{Writer, WriterSetup},
    },
};

const FEDERATION: FederationId = FederationId([7; 32]);
const START: u64 = 1_795_478_400_000;

/// Writes one author's log.
struct Author {
    id: NodeId,
    book: Option<AuthorBook>,
    policy: Policy,
}

impl Author {
    fn new(seed: u8) -> Self {
        let identity = Identity::from_seed(&[seed; 32]).unwrap();
        Self { id: identity.node_id(), book: None, policy: Policy::default() }
    }

    /// The record of the next entry: the genesis entry, then thoughts.
    fn next(&mut self, content: &str) -> Record {
        let seq = self.book.as_ref().map_or(Seq::GENESIS, |book| book.seq().next());
        let time = Millis(START + seq.0 * 10_000);
        let prev = self.book.as_ref().map_or(Hash::ZERO, |book| book.hash);
        let arch: Architecture = "x86_64".parse().unwrap();
        let (body, content) = match &self.book {
            None => {
                let genesis = Genesis {
                    name: "legion".parse().unwrap(),
                    hardware: Hardware::Tpm2,
                    level: Level::MAX,
                    arch: arch.clone(),
                    nonce: Nonce(1),
                };
                (Body::Genesis(genesis), None)
            }
            Some(_) => {
                let session = if seq.0.is_multiple_of(2) { "even" } else { "odd" };
                (
                    Body::Thought(Thought::new(session.parse().unwrap(), Mode::Exploring, content)),
                    Some(content),
                )
            }
        };
        let entry = Entry::new(&FEDERATION, Header { author: self.id, seq, prev, time, body }, content);
        let (mut book, thought) = self.judge(&entry, arch);
        book.hash = entry.hash();
        book.signature = Some(Signature([u8::try_from(seq.0 % 250).unwrap(); 64]));
        self.book = Some(book.clone());
        let judged = Judged { entry, thought, received: Millis(time.0 + 5) };
        Record::Entries { author: self.id, entries: vec![judged], book: Arc::new(book) }
    }

    /// Of its last entry.
    fn time(&self) -> Millis {
        self.book.as_ref().map_or(Millis::ZERO, |book| book.account.time)
    }

    fn judge(&self, entry: &Entry, arch: Architecture) -> (AuthorBook, Option<JudgedThought>) {
        let header = entry.header();
        let (Some(book), Body::Thought(thought)) = (&self.book, &header.body) else {
            let book = AuthorBook {
                name: "legion".parse().unwrap(),
                hardware: Hardware::Tpm2,
                arch,
                hash: Hash::ZERO,
                signature: None,
                account: Account::open(&self.policy, Level::MAX, header.time),
                known_since: Millis(START),
            };
            return (book, None);
        };
        let mut book = book.clone();
        let facts =
            Facts { time: header.time, content_bytes: thought.content_bytes, features: thought.features };
        let outcome = fold(&self.policy, &mut book.account, &facts).unwrap();
        let judged = JudgedThought {
            session: thought.session.clone(),
            mode: thought.mode,
            verdict: outcome.verdict,
            coherence: outcome.coherence,
            delta: outcome.delta,
            weight: outcome.weight,
        };
        (book, Some(judged))
    }
}

fn good(number: u32) -> String {
    let tag: String = number.to_string().bytes().map(|digit| char::from(b'a' + digit - b'0')).collect();
    format!(
        "Observation tag{tag} compares measured latency against predicted budgets, noticing where careful batching \
         preserves ordering while federated machines continue sharing evidence"
    )
}

fn sqlite(dir: &Path) -> SqliteStore {
    let own = Author::new(1).id;
    SqliteStore::open(&dir.join("store.db"), StoreOptions::new(FEDERATION, own, Policy::default())).unwrap()
}

/// Runs a promise against each kind of store.
fn each_store(promise: impl Fn(&dyn Store)) {
    promise(&MemoryStore::default());
    let dir = tempfile::tempdir().unwrap();
    promise(&sqlite(dir.path()));
}

#[test]
fn what_was_committed_is_what_is_loaded() {
    each_store(|store| {
        assert_eq!(store.load().unwrap(), Books::default());
        let (mut one, mut other) = (Author::new(1), Author::new(2));
        let peer = KnownPeer {
            name: "thor".parse().unwrap(),
            addresses: vec!["10.1.2.3:8888".parse().unwrap(), "[fe80::1%3]:8888".parse().unwrap()],
            seen: Millis(START),
        };
        let recorded = Recorded {
            seq: Seq(1),
            verdict: Verdict::Accepted { reward: MicroAtp(1_500_000) },
            coherence: Ppm(900_000),
            delta: MicroAtp(1_500_000),
            balance: MicroAtp(101_500_000),
            trust: Ppm(300_000),
        };
        let records = [
            one.next(""),
            one.next(&good(1)),
            other.next(""),
            Record::Peer { id: other.id, peer: peer.clone() },
            Record::Submission { key: "once".into(), recorded: recorded.clone() },
            Record::NewestTime(Millis(START + 7)),
            Record::NewestTime(Millis(START)),
        ];
        store.commit(&records).unwrap();
        let books = Books {
            authors: BTreeMap::from([(one.id, one.book.unwrap()), (other.id, other.book.unwrap())]),
            peers: BTreeMap::from([(other.id, peer)]),
            submissions: vec![("once".into(), recorded)],
            newest_time: Millis(START + 7),
            missing: BTreeMap::new(),
            restored: false,
            faults: BTreeMap::new(),
        };
        assert_eq!(store.load().unwrap(), books);
    });
}

#[test]
fn entries_come_back_verbatim_in_order_and_within_their_budget() {
    each_store(|store| {
        let mut author = Author::new(3);
        let records: Vec<Record> = (0..40).map(|number| author.next(&good(number))).collect();
        store.commit(&records).unwrap();
        let all = store.entries(author.id, Seq::GENESIS, usize::MAX).unwrap();
        assert_eq!(all.len(), 40);
        for (record, stored) in records.iter().zip(&all) {
            let Record::Entries { entries, book, .. } = record else { unreachable!() };
            let entry = &entries[0].entry;
            let wanted = StoredEntry {
                header: entry.header_bytes().clone(),
                content: entry.content().cloned(),
                signature: book.signature,
            };
            assert_eq!(*stored, wanted);
        }
        let mut paged = vec![];
        while let Some(from) = u64::try_from(paged.len()).ok().filter(|from| *from < 40) {
            let page = store.entries(author.id, Seq(from), 1_000).unwrap();
            let bytes: usize = page
                .iter()
                .map(|entry| entry.header.len() + entry.content.as_ref().map_or(0, |c| c.len()))
                .sum();
            assert!(page.len() == 1 || bytes <= 1_000);
            paged.extend(page);
        }
        assert_eq!(paged, all);
        assert_eq!(store.entries(author.id, Seq(40), 1_000).unwrap(), []);
        assert_eq!(store.entries(Author::new(9).id, Seq::GENESIS, 1_000).unwrap(), []);
    });
}

#[test]
fn the_corpus_holds_accepted_thoughts_and_is_asked_by_session_author_and_time() {
    each_store(|store| {
        let (mut one, mut other) = (Author::new(4), Author::new(5));
        let mut records = vec![one.next(""), other.next("")];
        for number in 0..6 {
            records.push(one.next(&good(number)));
            records.push(other.next("spam"));
        }
        store.commit(&records).unwrap();
        let ask = |query: ThoughtQuery| -> Vec<ThoughtRow> { store.thoughts(&query).unwrap() };
        let all = ask(ThoughtQuery::default());
        assert_eq!(all.iter().map(|row| row.seq.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert!(all.iter().all(|row| row.author == one.id && row.content.starts_with("Observation")));
        let odd = ask(ThoughtQuery { session: Some("odd".parse().unwrap()), ..ThoughtQuery::default() });
        assert_eq!(odd.iter().map(|row| row.seq.0).collect::<Vec<_>>(), [1, 3, 5]);
        let last_two = ask(ThoughtQuery { limit: 2, ..ThoughtQuery::default() });
        assert_eq!(last_two, all[4..]);
        let since = ask(ThoughtQuery { since: Some(all[3].time), ..ThoughtQuery::default() });
        assert_eq!(since, all[3..]);
        assert_eq!(ask(ThoughtQuery { author: Some(other.id), ..ThoughtQuery::default() }), []);
        assert_eq!(ask(ThoughtQuery { since: Some(Millis(u64::MAX)), ..ThoughtQuery::default() }), []);
        assert_eq!(store.rates(Millis::ZERO).unwrap(), Rates { rewards: 6, penalties: 6 });
        assert_eq!(store.rates(Millis(u64::MAX)).unwrap(), Rates::default());
    });
}

#[test]
fn a_store_opened_again_holds_what_it_held_and_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut author = Author::new(1);
    let first = sqlite(dir.path());
    first.commit(&[author.next(""), author.next(&good(1))]).unwrap();
    let before = first.load().unwrap();
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    drop(first);
    assert_eq!(sqlite(dir.path()).load().unwrap(), before);
}

#[test]
fn a_store_of_another_node_federation_version_or_kind_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    drop(sqlite(dir.path()));
    let own = Author::new(1).id;
    let open =
        |federation, own| SqliteStore::open(&path, StoreOptions::new(federation, own, Policy::default()));
    assert!(matches!(open(FederationId([8; 32]), own), Err(StoreError::OtherFederation { .. })));
    assert!(matches!(open(FEDERATION, Author::new(2).id), Err(StoreError::OtherNode { .. })));
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let newer = open(FEDERATION, own).unwrap_err();
    assert!(
        matches!(newer, StoreError::Newer { found: 99, .. }) && newer.to_string().contains("newer version")
    );
    fs::write(
        &path,
        b"these are no bytes of a database, but there are enough of them to be read as a header",
    )
    .unwrap();
    assert!(matches!(open(FEDERATION, own), Err(StoreError::Foreign { .. })));
    fs::remove_file(&path).unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("CREATE TABLE somebodys (x)", []).unwrap();
    drop(raw);
    assert!(matches!(open(FEDERATION, own), Err(StoreError::Foreign { .. })));
}
