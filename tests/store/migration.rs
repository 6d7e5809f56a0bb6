//! A store of the first schema, opened by this version.

use rusqlite::{Connection, params};

use super::*;

/// The first schema as version 0.1.0 wrote it.
const SCHEMA_1: &str = "
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE authors (
  number INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  name TEXT NOT NULL,
  hardware INTEGER NOT NULL,
  arch TEXT NOT NULL,
  hash BLOB NOT NULL,
  signature BLOB,
  account BLOB NOT NULL,
  known_since INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
  author INTEGER NOT NULL REFERENCES authors (number),
  seq INTEGER NOT NULL,
  hash BLOB NOT NULL,
  header BLOB NOT NULL,
  signature BLOB,
  time_ms INTEGER NOT NULL,
  received_ms INTEGER NOT NULL,
  verdict TEXT,
  session TEXT,
  mode INTEGER,
  coherence_ppm INTEGER,
  weight_ppm INTEGER,
  delta_uatp INTEGER,
  PRIMARY KEY (author, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_by_time ON entries (time_ms, author, seq) WHERE verdict IS NOT NULL;
CREATE INDEX entries_by_author ON entries (author, time_ms) WHERE verdict = 'accepted';
CREATE INDEX entries_by_session ON entries (session, time_ms) WHERE verdict = 'accepted';
CREATE TABLE contents (
  author INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  content BLOB NOT NULL,
  PRIMARY KEY (author, seq),
  FOREIGN KEY (author, seq) REFERENCES entries (author, seq)
) STRICT;
CREATE TABLE submissions (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  seq INTEGER NOT NULL,
  verdict TEXT NOT NULL,
  coherence_ppm INTEGER NOT NULL,
  delta_uatp INTEGER NOT NULL,
  balance_uatp INTEGER NOT NULL,
  trust_ppm INTEGER NOT NULL
) STRICT;
CREATE TABLE peers (
  id BLOB PRIMARY KEY,
  name TEXT NOT NULL,
  addresses TEXT NOT NULL,
  seen_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

PRAGMA application_id = 1667722600;
PRAGMA user_version = 1;
";

/// Copies every row of a store of today into one of the first schema.
fn in_first_schema(new: &Path, old: &Path) {
    let file = Connection::open(old).unwrap();
    file.execute_batch(SCHEMA_1).unwrap();
    file.execute("ATTACH ?1 AS new", params![new.to_str().unwrap()]).unwrap();
    for (table, columns) in [
        ("meta", "key, value"),
        ("authors", "number, id, name, hardware, arch, hash, signature, account, known_since"),
        (
            "entries",
            "author, seq, hash, header, signature, time_ms, received_ms, verdict, session, mode, coherence_ppm, \
             weight_ppm, delta_uatp",
        ),
        ("contents", "author, seq, content"),
        ("submissions", "number, key, seq, verdict, coherence_ppm, delta_uatp, balance_uatp, trust_ppm"),
        ("peers", "id, name, addresses, seen_ms"),
    ] {
        let condition = if table == "meta" { "key IN ('federation', 'node', 'newest_time')" } else { "true" };
        file.execute_batch(&format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM new.{table} WHERE {condition}"
        ))
        .unwrap();
    }
}

#[test]
fn a_store_of_the_first_schema_is_brought_to_this_one_with_all_that_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path());
    let (mut one, mut other) = (Author::new(1), Author::new(2));
    let mut records = vec![one.next(""), other.next(""), Record::NewestTime(Millis(START))];
    for number in 0..20 {
        records.push(one.next(&good(number)));
        records.push(other.next(&good(number + 50)));
    }
    let peer = KnownPeer { name: "thor".parse().unwrap(), addresses: vec![], seen: Millis(START) };
    records.push(Record::Peer { id: other.id, peer });
    let recorded = Recorded {
        seq: Seq(1),
        verdict: Verdict::Accepted { reward: MicroAtp(1) },
        coherence: Ppm(2),
        delta: MicroAtp(1),
        balance: MicroAtp(3),
        trust: Ppm(4),
    };
    records.push(Record::Submission { key: "once".into(), recorded });
    store.commit(&records).unwrap();
    let ask = |store: &SqliteStore| {
        let entries = [one.id, other.id].map(|id| store.entries(id, Seq::GENESIS, usize::MAX).unwrap());
        (store.load().unwrap(), entries, store.thoughts(&ThoughtQuery::default()).unwrap())
    };
    let before = ask(&store);
    drop(store);

    let old_dir = tempfile::tempdir().unwrap();
    let path = old_dir.path().join("store.db");
    in_first_schema(&dir.path().join("store.db"), &path);
    let migrated = sqlite(old_dir.path());
    assert_eq!(ask(&migrated), before);
    drop(migrated);
    let raw = Connection::open(&path).unwrap();
    let version: i64 = raw.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 4);
    let merged: i64 =
        raw.query_row("SELECT v FROM words_config WHERE k = 'automerge'", [], |row| row.get(0)).unwrap();
    assert_eq!(merged, 64, "parts of the full-text index at a time");
    for table in ["meta", "authors", "entries", "submissions", "peers"] {
        let count = |condition: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
            raw.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert!(count("length(seal) = 8") > 0, "{table}");
        assert_eq!(count("seal IS NULL"), 0, "{table}");
    }
    let policy: Vec<u8> =
        raw.query_row("SELECT value FROM meta WHERE key = 'policy'", [], |row| row.get(0)).unwrap();
    assert_eq!(policy, Policy::default().to_bytes());
    drop(raw);
    assert_eq!(ask(&sqlite(old_dir.path())), before, "and it is opened as one of this schema");
}
