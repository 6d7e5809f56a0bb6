//! The tables, their version, and what a file must be to be ours.

use std::{io, path::Path};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::{
    super::{Durability, StoreError, StoreOptions},
    corpus,
    faults::Fault,
    meta, seal,
};
use crate::log::{FederationId, NodeId, sha256};

/// Marks a SQLite file as ours: "cgmh".
pub(super) const APPLICATION_ID: i64 = 0x6367_6d68;
/// The schema that this version reads and writes: that of the last migration.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// What makes a schema of the one before it.
struct Migration {
    sql: &'static str,
    /// What SQL can't say of the rows that are there already.
    fill: fn(&Transaction<'_>) -> rusqlite::Result<()>,
}

/// From nothing to the newest schema; a new one is a line at the end. None is ever changed: files were made by it.
const MIGRATIONS: [Migration; 4] = [
    Migration { sql: VERSION_1, fill: |_| Ok(()) },
    Migration { sql: VERSION_2, fill: fill_version_2 },
    Migration { sql: VERSION_3, fill: |_| Ok(()) },
    Migration { sql: VERSION_4, fill: |_| Ok(()) },
];

/// The first schema. Contents stand apart from entries, because they may be pruned and headers may not.
const VERSION_1: &str = "
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
";

/// What the second schema adds. `seal`: a few bytes of a hash over the rest of its row, so that a bit that flipped is found
/// when the row is read. `missing`: entries (`what` = `entry`) and contents (`content`) that are to be fetched again. `words`: the full-text
/// index of accepted contents, by the number of their row; it keeps no copy of them. Contents get a number of their own,
/// because the index needs one that never changes.
const VERSION_2: &str = "
ALTER TABLE meta ADD COLUMN seal BLOB;
ALTER TABLE authors ADD COLUMN seal BLOB;
ALTER TABLE entries ADD COLUMN seal BLOB;
ALTER TABLE submissions ADD COLUMN seal BLOB;
ALTER TABLE peers ADD COLUMN seal BLOB;
CREATE TABLE contents_2 (
  number INTEGER PRIMARY KEY,
  author INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  content BLOB NOT NULL,
  UNIQUE (author, seq),
  FOREIGN KEY (author, seq) REFERENCES entries (author, seq)
) STRICT;
INSERT INTO contents_2 (author, seq, content) SELECT author, seq, content FROM contents ORDER BY rowid;
DROP TABLE contents;
ALTER TABLE contents_2 RENAME TO contents;
CREATE TABLE missing (
  author INTEGER NOT NULL REFERENCES authors (number),
  seq INTEGER NOT NULL,
  what TEXT NOT NULL,
  PRIMARY KEY (author, seq, what)
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (
  content, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
";

/// What the third schema adds: authors that were convicted, and apart from that what proves it and covers the last
/// entries that stay. Those may be half a megabyte, and need no seal: what they say is signed.
const VERSION_3: &str = "
CREATE TABLE faults (
  id BLOB PRIMARY KEY,
  cut INTEGER NOT NULL,
  kind TEXT NOT NULL,
  first BLOB NOT NULL,
  second BLOB NOT NULL,
  found_ms INTEGER NOT NULL,
  cleared INTEGER NOT NULL,
  seal BLOB
) STRICT, WITHOUT ROWID;
CREATE TABLE proofs (
  number INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  proof BLOB NOT NULL,
  cover BLOB
) STRICT;
";

/// What the fourth schema changes: the full-text index merges sixty-four of its parts at a time. Each commit adds a part, and by fours, as is
/// usual, merging them took a sixth of all processor time in a flood. A search looks into a few parts more.
const VERSION_4: &str = "
INSERT INTO words (words, rank) VALUES ('automerge', 64);
INSERT INTO words (words, rank) VALUES ('crisismerge', 128);
";

/// Seals the rows that the first schema had.
fn fill_version_2(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for (table, seal) in seal::TABLES {
        let rows = transaction.execute(&format!("UPDATE {table} SET seal = {seal}"), [])?;
        tracing::debug!(table, rows, "rows sealed");
    }
    corpus::index_all(transaction).map(drop)
}

/// Settings of the connection that writes. `synchronous = FULL`: without the sync, simulated power cuts lose
/// acknowledged commits in most states, and an own entry that was lost after it left is a fork. `fullfsync` matters on
/// macOS only, where a plain sync leaves the data in the disk's cache.
pub(super) fn configure(path: &Path, connection: &Connection, durability: Durability) -> Result<(), Fault> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let why = format!(
            "its file system can't hold a write-ahead log (journal mode is `{}`); \
             put the data directory on a local disk",
            mode.escape_debug()
        );
        return Err(Fault::Refused(StoreError::Open {
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::Unsupported, why),
        }));
    }
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // We do it ourselves (`checkpoint`): where a sync fails in its own, SQLite says nothing and tries again.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    Ok(())
}

/// Settings of every connection; none of them writes. No memory map: it widens what a stray write or a bad disk can do.
pub(super) fn configure_reader(connection: &Connection) -> rusqlite::Result<()> {
    seal::register(connection)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "busy_timeout", 5_000)
}

/// A file that may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is nothing in it.
    Empty,
    /// It is this node's store, in the schema that we know.
    Ours,
    /// It is this node's store, in that schema, which came before ours.
    Older(i64),
}

/// Looks what a file is, and writes nothing.
pub(super) fn identify(path: &Path, connection: &Connection, options: &StoreOptions) -> Result<Kind, Fault> {
    let version = version(path, connection)?;
    if version == 0 {
        return Ok(Kind::Empty);
    }
    if version < SEALED_SINCE {
        belongs(path, connection, options, "1")?;
        return Ok(Kind::Older(version));
    }
    belongs(path, connection, options, &seal::whole("meta", seal::META))?;
    is_as_made(connection)?;
    Ok(if version == VERSION { Kind::Ours } else { Kind::Older(version) })
}

/// The schema of a file of ours; 0 where there is nothing in it.
pub(super) fn version(path: &Path, connection: &Connection) -> Result<i64, Fault> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        return Err(Fault::Refused(StoreError::Foreign { path: path.to_owned() }));
    }
    if version > VERSION {
        return Err(Fault::Refused(StoreError::Newer {
            path: path.to_owned(),
            found: version,
            known: VERSION,
        }));
    }
    if version < 1 {
        return Err(Fault::Damaged(format!("there is no schema {version}")));
    }
    Ok(version)
}

/// The schema from which on rows have seals.
pub(super) const SEALED_SINCE: i64 = 2;

/// Whether the file is this node's; `is_whole` says it of a row of `meta`.
fn belongs(
    path: &Path,
    connection: &Connection,
    options: &StoreOptions,
    is_whole: &str,
) -> Result<(), Fault> {
    let meta = |key: &str| -> Result<([u8; 32], bool), Fault> {
        connection
            .query_row(&format!("SELECT value, {is_whole} FROM meta WHERE key = ?1"), [key], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?
            .ok_or_else(|| Fault::Damaged("it does not say whose it is".to_owned()))
    };
    let (found, whole) = meta(meta::FEDERATION)?;
    let found = FederationId(found);
    if found != options.federation && whole {
        return Err(Fault::Refused(StoreError::OtherFederation {
            path: path.to_owned(),
            found: found.prefix_hex(),
            wanted: options.federation.prefix_hex(),
        }));
    }
    let (node, node_whole) = meta(meta::NODE)?;
    let node = NodeId::from_stored(node);
    if node != options.own && node_whole {
        return Err(Fault::Refused(StoreError::OtherNode { path: path.to_owned(), found: node.short() }));
    }
    // A seal that is damaged beside the right value is written again at `load`.
    if found != options.federation || node != options.own {
        return Err(Fault::Damaged("it does not say whose it is".to_owned()));
    }
    Ok(())
}

/// Whether the tables are those that were made: a bit that flips in a definition changes what a statement means, and
/// the library notices only some of that.
pub(super) fn is_as_made(connection: &Connection) -> Result<(), Fault> {
    let made: Option<[u8; 32]> = meta::get(connection, meta::SCHEMA).unwrap_or_default();
    // Where that value is itself damaged the tables are not: one bit flips at a time.
    if made.is_some_and(|made| digest(connection).ok() != Some(made)) {
        return Err(Fault::Damaged("its tables are not those that were made".to_owned()));
    }
    Ok(())
}

/// A hash over the definitions of all tables and indexes. What the library itself adds (statistics) is none of ours.
pub(super) fn digest(connection: &Connection) -> rusqlite::Result<[u8; 32]> {
    let mut select = connection.prepare(
        "SELECT seal_of(type, name, tbl_name, sql), sql FROM sqlite_schema \
         WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let mut rows = select.query([])?;
    let mut definitions = vec![];
    while let Some(row) = rows.next()? {
        definitions.extend(row.get::<_, Vec<u8>>(0)?);
        definitions.extend(row.get_ref(1)?.as_bytes().unwrap_or_default());
    }
    Ok(sha256(&[b"cogmesh schema v1\0", &definitions]))
}

/// Brings a file from that schema (0: an empty file) to ours and writes down whose it is, in one transaction: a crash leaves
/// what was there or the whole.
pub(super) fn migrate(
    connection: &mut Connection,
    from: i64,
    options: &StoreOptions,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let is_new = from == 0;
    for (version, migration) in (1_i64..).zip(&MIGRATIONS).filter(|(version, _)| *version > from) {
        if !is_new {
            tracing::info!(
                from = version.saturating_sub(1),
                to = version,
                "the store gets a newer schema; this may take a while"
            );
        }
        transaction.execute_batch(migration.sql)?;
        (migration.fill)(&transaction)?;
    }
    meta::put(&transaction, meta::FEDERATION, &options.federation.0)?;
    meta::put(&transaction, meta::NODE, options.own.as_bytes())?;
    meta::put(&transaction, meta::POLICY, &options.policy.to_bytes())?;
    meta::put(&transaction, meta::SCHEMA, &digest(&transaction)?)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    if !is_new {
        tracing::info!(schema = VERSION, "the store has the newest schema");
    }
    Ok(())
}
