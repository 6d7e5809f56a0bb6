//! The tables, their version, and what a file must be to be ours.

use std::{io, path::Path};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{
    super::{Durability, StoreError},
    faults::Fault,
};
use crate::log::{FederationId, NodeId};

/// Marks a SQLite file as ours: "cgmh".
pub(super) const APPLICATION_ID: i64 = 0x6367_6d68;
/// The schema that this version reads and writes.
pub(super) const VERSION: i64 = 2;

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
    // We do it ourselves (`writing::checkpoint`): where a sync fails in its own, SQLite says nothing and tries again.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    Ok(())
}

/// Folds the write-ahead log back and syncs, as far as no reader stands in the way: then the log itself is synced.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))
}

/// Settings of every connection; none of them writes. No memory map: it widens what a stray write or a bad disk can do.
pub(super) fn configure_reader(connection: &Connection) -> rusqlite::Result<()> {
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
}

/// Looks what a file is, and writes nothing.
pub(super) fn identify(
    path: &Path,
    connection: &Connection,
    federation: FederationId,
    own: NodeId,
) -> Result<Kind, Fault> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(Kind::Empty);
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
    if version < VERSION {
        return Err(Fault::Damaged(format!("there is no schema {version}")));
    }
    belongs(path, connection, federation, own).map(|()| Kind::Ours)
}

fn belongs(path: &Path, connection: &Connection, federation: FederationId, own: NodeId) -> Result<(), Fault> {
    let meta = |key: &str| -> Result<[u8; 32], Fault> {
        connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
            .optional()?
            .ok_or_else(|| Fault::Damaged("it does not say whose it is".to_owned()))
    };
    let found = FederationId(meta("federation")?);
    if found != federation {
        return Err(Fault::Refused(StoreError::OtherFederation {
            path: path.to_owned(),
            found: found.prefix_hex(),
            wanted: federation.prefix_hex(),
        }));
    }
    let found = NodeId::from_stored(meta("node")?);
    if found != own {
        return Err(Fault::Refused(StoreError::OtherNode { path: path.to_owned(), found: found.short() }));
    }
    Ok(())
}

/// Makes the tables and writes down whose they are, in one transaction: a crash leaves an empty file or a whole store.
pub(super) fn create(
    connection: &mut Connection,
    federation: FederationId,
    own: NodeId,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(VERSION_1)?;
    transaction.execute_batch(VERSION_2)?;
    let mut insert = transaction.prepare("INSERT INTO meta (key, value) VALUES (?1, ?2)")?;
    insert.execute(params!["federation", federation.0])?;
    insert.execute(params!["node", own.as_bytes()])?;
    drop(insert);
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
