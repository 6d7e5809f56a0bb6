//! A disk that lies: single bits of a store's file flip, anywhere. Never is a wrong byte given out; what changed is found; and
//! what the log or a peer can give back is there again afterwards.

use std::{collections::BTreeSet, env, path::PathBuf, sync::Arc, thread};

use cogmesh::{
    log::Head,
    store::{AuditReport, Durability, audit},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use rusqlite::{Connection, OpenFlags, types::ValueRef};

use super::*;

/// How many flips are tried, unless `COGMESH_FLIPS` says another number.
const FLIPS: usize = 1_500;
const SEED: u64 = 3;
const THREADS: usize = 2;

/// A table, the columns that are compared, and how its rows are counted.
const TABLES: [(&str, &str); 7] = [
    ("meta", "key, value, seal"),
    ("authors", "number, id, name, hardware, arch, hash, signature, account, known_since, seal"),
    (
        "entries",
        "author, seq, hash, header, time_ms, verdict, session, mode, coherence_ppm, weight_ppm, delta_uatp, \
         received_ms, signature, seal",
    ),
    ("contents", "author, seq, content"),
    ("missing", "author, seq, what"),
    ("submissions", "number, key, seq, verdict, coherence_ppm, delta_uatp, balance_uatp, trust_ppm, seal"),
    ("peers", "id, name, addresses, seen_ms, seal"),
];

/// Columns of an entry that are the same on every node; those after them are this node's own.
const ENTRY_COLUMNS_SHARED: usize = 11;

/// A row: of each column its kind and bytes.
type Row = Vec<Vec<u8>>;
/// Every row of every table.
type Dump = BTreeMap<&'static str, BTreeSet<Row>>;

struct Original {
    bytes: Vec<u8>,
    dump: Dump,
    books: Books,
    entries: BTreeMap<NodeId, Vec<StoredEntry>>,
    thoughts: Vec<ThoughtRow>,
}

fn policy() -> Policy {
    Policy { pow_bits: 0, ..Policy::default() }
}

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    // Nothing here is about power cuts, and a sync takes longer than all the rest.
    let options = StoreOptions::new(FEDERATION, Author::new(1).id, policy());
    SqliteStore::open(path, StoreOptions { durability: Durability::Normal, ..options })
}

/// A few entries of an author as one record, signed where they are not our own. A quarter of one author's contents never came.
fn batch(author: &mut Author, seed: u8, entries: u32) -> Record {
    let identity = Identity::from_seed(&[seed; 32]).unwrap();
    let mut all = vec![];
    for _ in 0..entries {
        let number = author.book.as_ref().map_or(0, |book| u32::try_from(book.seq().0).unwrap() + 1);
        let Record::Entries { entries, .. } = author.next(&good(number * 10 + u32::from(seed))) else {
            unreachable!()
        };
        all.extend(entries);
    }
    if seed == 3 && all[0].entry.seq() > Seq(35) {
        for judged in &mut all {
            judged.entry = Entry::parse(&FEDERATION, judged.entry.header_bytes().clone(), None).unwrap();
        }
    }
    let book = author.book.as_mut().unwrap();
    let signature = Head::sign(&identity, &FEDERATION, book.seq(), book.hash).signature;
    book.signature = (seed != 1).then_some(signature);
    Record::Entries { author: author.id, entries: all, book: Arc::new(book.clone()) }
}

fn records() -> Vec<Record> {
    let mut authors: Vec<(u8, Author)> = (1..=4).map(|seed| (seed, Author::new(seed))).collect();
    let mut records = vec![Record::NewestTime(Millis(START))];
    for round in 0..10_u32 {
        for (seed, author) in &mut authors {
            records.push(batch(author, *seed, 1 + (round + u32::from(*seed)) % 9));
        }
    }
    for number in 0..12_u8 {
        let peer = KnownPeer {
            name: "thor".parse().unwrap(),
            addresses: vec!["10.1.2.3:8888".parse().unwrap()],
            seen: Millis(START + u64::from(number)),
        };
        records.push(Record::Peer { id: NodeId::from_stored([number; 32]), peer });
        let recorded = Recorded {
            seq: Seq(u64::from(number) + 1),
            verdict: Verdict::Accepted { reward: MicroAtp(1_500_000) },
            coherence: Ppm(900_000),
            delta: MicroAtp(1_500_000),
            balance: MicroAtp(101_500_000),
            trust: Ppm(300_000),
        };
        records.push(Record::Submission { key: format!("key {number}"), recorded });
    }
    records
}

fn all_entries(store: &SqliteStore, author: NodeId) -> Vec<StoredEntry> {
    store.entries(author, Seq::GENESIS, usize::MAX).unwrap()
}

impl Original {
    fn build(dir: &Path) -> Self {
        let path = dir.join("original.db");
        let store = open(&path).unwrap();
        store.commit(&records()).unwrap();
        drop(store);
        let store = open(&path).unwrap();
        let books = store.load().unwrap();
        let entries = books.authors.keys().map(|id| (*id, all_entries(&store, *id))).collect();
        let query = ThoughtQuery { limit: 1_000, ..ThoughtQuery::default() };
        let thoughts = store.thoughts(&query).unwrap();
        drop(store);
        let report = audit(&path, &|_| {}).unwrap();
        assert!(report.is_clean(), "{:#?}", report.mismatches);
        Self { bytes: fs::read(&path).unwrap(), dump: dump(&path).unwrap(), books, entries, thoughts }
    }
}

fn read_only(path: &Path) -> Connection {
    let uri = format!("file:{}?immutable=1", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags).unwrap()
}

/// What stands in the file, by the database library alone.
fn dump(path: &Path) -> rusqlite::Result<Dump> {
    let connection = read_only(path);
    let mut dump = Dump::new();
    for (table, columns) in TABLES {
        let mut select = connection.prepare(&format!("SELECT {columns} FROM {table} NOT INDEXED"))?;
        let width = select.column_count();
        let mut rows = select.query([])?;
        let mut found = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let columns: Result<Row, _> = (0..width).map(|index| row.get_ref(index).map(bytes_of)).collect();
            found.insert(columns?);
        }
        dump.insert(table, found);
    }
    Ok(dump)
}

fn bytes_of(value: ValueRef<'_>) -> Vec<u8> {
    let (kind, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => (1, &number.to_be_bytes()),
        ValueRef::Real(number) => (2, &number.to_be_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    [&[kind], bytes].concat()
}

/// What became of one flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// No row and no index changed.
    Nothing,
    /// The store was refused when it was opened.
    Refused,
    /// It was refused by a later look at it.
    RefusedLater,
    /// All is there again, out of the file itself.
    HealedHere,
    /// All is there again, with what a peer gave.
    HealedFromPeer,
    /// As above, but a time of arrival, a signature in the middle of a log, or a known peer or submission is gone.
    HealedButForLocal,
}

#[derive(Debug)]
struct Told {
    fate: Fate,
    by_integrity_check_alone: bool,
}

fn try_flip(original: &Original, path: &Path, at: usize, bit: u8) -> Told {
    let context = format!("byte {at}, bit {bit}");
    for beside in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{beside}", path.display())).unwrap_or_default();
    }
    let mut bytes = original.bytes.clone();
    bytes[at] ^= 1_u8 << bit;
    fs::write(path, bytes).unwrap();

    let changed = !dump(path).is_ok_and(|dump| is_same_but_for_missing(&dump, &original.dump));
    let before = audit(path, &|_| {});
    let by_integrity_check_alone =
        before.as_ref().is_ok_and(|report| !report.is_clean() && only_structure(report));
    if let Ok(report) = &before
        && report.is_clean()
    {
        assert!(!changed, "{context}: a row changed, and the audit did not see it");
    }
    let told = |fate| Told { fate, by_integrity_check_alone };
    let loaded = open(path).and_then(|store| store.load().map(|books| (store, books)));
    let Ok((store, books)) = loaded else {
        return told(Fate::Refused);
    };
    assert_eq!(books.authors, original.books.authors, "{context}");
    if !is_served_right(original, &store, &context) || !scrub(&store) {
        return told(Fate::RefusedLater);
    }
    drop(store);
    if dump(path).unwrap() == original.dump && audit(path, &|_| {}).unwrap().is_clean() {
        return told(if changed || !before.unwrap().is_clean() { Fate::HealedHere } else { Fate::Nothing });
    }
    mend(original, path);
    let report = audit(path, &|_| {}).unwrap();
    assert!(report.is_clean(), "{context}: {:#?}", report.mismatches);
    let healed = dump(path).unwrap();
    if healed == original.dump {
        return told(Fate::HealedFromPeer);
    }
    differs_only_in_what_is_local(&healed, &original.dump, &context);
    told(Fate::HealedButForLocal)
}

/// The list of what is missing has no seals: what falls out of it counts as pruned, and what falls into it is asked for in vain.
fn is_same_but_for_missing(one: &Dump, other: &Dump) -> bool {
    TABLES.iter().filter(|(table, _)| *table != "missing").all(|(table, _)| one[table] == other[table])
}

/// Whether only the database library's own check told of it.
fn only_structure(report: &AuditReport) -> bool {
    report.mismatches.iter().all(|mismatch| {
        mismatch.author.is_none() && !mismatch.what.contains("store") && !mismatch.what.contains("seal")
    })
}

/// Asks for everything; whether all of it came. Not one wrong byte may.
fn is_served_right(original: &Original, store: &SqliteStore, context: &str) -> bool {
    for (author, entries) in &original.entries {
        let mut next = 0;
        while next < entries.len() {
            match store.entries(*author, Seq(next as u64), usize::MAX) {
                Ok(served) => {
                    assert!(
                        !served.is_empty(),
                        "{context}: nothing is given out at {next}, and nothing said"
                    );
                    for (served, wanted) in served.iter().zip(&entries[next..]) {
                        assert_eq!(served.header, wanted.header, "{context}");
                        assert_eq!(served.signature, wanted.signature, "{context}");
                        assert!(served.content.is_none() || served.content == wanted.content, "{context}");
                    }
                    next += served.len();
                }
                Err(StoreError::DamagedEntry { seq, .. }) => {
                    assert_eq!(seq, Seq(next as u64), "{context}");
                    next += 1;
                }
                Err(StoreError::Damaged { .. }) => return false,
                Err(error) => panic!("{context}: {error:?}"),
            }
        }
    }
    match store.thoughts(&ThoughtQuery { limit: 1_000, ..ThoughtQuery::default() }) {
        Ok(thoughts) => {
            assert!(thoughts.iter().all(|thought| original.thoughts.contains(thought)), "{context}");
            true
        }
        Err(StoreError::Damaged { .. }) => false,
        Err(error) => panic!("{context}: {error:?}"),
    }
}

/// Looks through the whole log, as a node does little by little; whether the file may be kept.
fn scrub(store: &SqliteStore) -> bool {
    let mut from = None;
    loop {
        match store.scrub(from, 100) {
            Ok(scrubbed) if scrubbed.next.is_none() => return true,
            Ok(scrubbed) => from = scrubbed.next,
            Err(StoreError::Damaged { .. }) => return false,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// What a peer does that has everything: gives all entries again.
fn mend(original: &Original, path: &Path) {
    let store = open(path).unwrap();
    let mut records = vec![];
    for (author, stored) in &original.entries {
        let parse = |stored: &StoredEntry| {
            Entry::parse(&FEDERATION, stored.header.clone(), stored.content.clone()).unwrap()
        };
        for entries in stored.chunks(50) {
            let entries = entries.iter().map(parse).collect();
            records.push(Record::Mended { author: *author, entries, signature: Signature([0; 64]) });
        }
    }
    store.commit(&records).unwrap();
    assert!(scrub(&store));
    assert_eq!(store.load().unwrap().authors, original.books.authors);
}

fn differs_only_in_what_is_local(healed: &Dump, original: &Dump, context: &str) {
    for (table, rows) in healed {
        let lost: Vec<&Row> = original[table].difference(rows).collect();
        let new: Vec<&Row> = rows.difference(&original[table]).collect();
        match *table {
            // A time of our own that is lost becomes that of our last entry.
            "meta" => {
                let key = bytes_of(ValueRef::Text(b"newest_time"));
                assert!(new.iter().all(|row| row[0] == key), "{context}: {new:?}");
            }
            // What was listed and is forgotten counts as pruned, or is found damaged again.
            "peers" | "submissions" | "missing" => assert!(new.is_empty(), "{context}: {new:?}"),
            "entries" => {
                let shared = |row: &&Row| row[..ENTRY_COLUMNS_SHARED].to_vec();
                let (lost, new): (Vec<_>, Vec<_>) =
                    (lost.iter().map(shared).collect(), new.iter().map(shared).collect());
                assert_eq!(lost, new, "{context}");
            }
            _ => assert!(lost.is_empty() && new.is_empty(), "{context}, {table}: {lost:#?} {new:#?}"),
        }
    }
}

#[test]
fn a_flipped_bit_is_never_given_out_and_is_found_and_healed() {
    let dir = tempfile::tempdir().unwrap();
    let original = Original::build(dir.path());
    let flips = env::var("COGMESH_FLIPS").ok().and_then(|number| number.parse().ok()).unwrap_or(FLIPS);
    let seed = env::var("COGMESH_SEED").ok().and_then(|number| number.parse().ok()).unwrap_or(SEED);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let places: Vec<(usize, u8)> = (0..flips)
        .map(|_| (random.next_u64() as usize % original.bytes.len(), (random.next_u32() % 8) as u8))
        .collect();
    let run = &|thread: usize| -> Vec<Told> {
        let path: PathBuf = dir.path().join(format!("flipped-{thread}.db"));
        let own = places.iter().skip(thread).step_by(THREADS);
        own.map(|(at, bit)| try_flip(&original, &path, *at, *bit)).collect()
    };
    let told: Vec<Told> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut fates: BTreeMap<Fate, usize> = BTreeMap::new();
    told.iter().for_each(|told| *fates.entry(told.fate).or_default() += 1);
    let alone = told.iter().filter(|told| told.by_integrity_check_alone).count();
    println!(
        "seed {seed}: {flips} flips in {} bytes: {fates:?}; found by SQLite's own check alone: {alone}",
        original.bytes.len()
    );
    assert!(fates.get(&Fate::Refused).copied().unwrap_or(0) * 4 < flips, "most damage is healed: {fates:?}");
}

#[test]
fn what_was_refused_is_rebuilt_from_the_entries_of_a_peer() {
    let dir = tempfile::tempdir().unwrap();
    let original = Original::build(dir.path());
    let rebuilt = open(&dir.path().join("rebuilt.db")).unwrap();
    rebuilt.commit(&records()).unwrap();
    assert_eq!(rebuilt.load().unwrap(), original.books);
    for (author, entries) in &original.entries {
        assert_eq!(all_entries(&rebuilt, *author), *entries);
    }
}
