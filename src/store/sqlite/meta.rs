//! The few values that a store says of itself.

use rusqlite::{Connection, OptionalExtension, params};

use super::{faults::Fault, seal};

/// Whose log it is: the federation's id.
pub(super) const FEDERATION: &str = "federation";
/// Whose store it is: the node's id.
pub(super) const NODE: &str = "node";
/// The federation's rules, so that an audit needs nothing but the file.
pub(super) const POLICY: &str = "policy";
/// What the tables are (see [`super::schema`]).
pub(super) const SCHEMA: &str = "schema";
/// The newest time that the node stored for itself. Big-endian, so that the larger time is also the larger value.
pub(super) const NEWEST_TIME: &str = "newest_time";
/// There where the store was put back from a backup and the node has not got its own log back since.
pub(super) const RESTORED: &str = "restored";

/// How many accepted thoughts are kept with their contents.
pub(super) const CORPUS_THOUGHTS: &str = "corpus_thoughts";
/// How many bytes of contents are kept.
pub(super) const CORPUS_BYTES: &str = "corpus_bytes";

/// All of them: a row with another key had another one before a bit of it flipped.
pub(super) const KEYS: [&str; 8] =
    [FEDERATION, NODE, POLICY, SCHEMA, NEWEST_TIME, RESTORED, CORPUS_THOUGHTS, CORPUS_BYTES];

/// Writes a value.
pub(super) fn put(connection: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO meta (key, value, seal) VALUES (?1, ?2, seal_of('meta', ?1, ?2)) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, seal = excluded.seal",
    )?;
    put.execute(params![key, value]).map(drop)
}

/// Writes a value where the one that stands there is smaller.
pub(super) fn raise(connection: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO meta (key, value, seal) VALUES (?1, ?2, seal_of('meta', ?1, ?2)) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, seal = excluded.seal \
         WHERE excluded.value > meta.value",
    )?;
    put.execute(params![key, value]).map(drop)
}

/// Takes a value away.
pub(super) fn remove(connection: &Connection, key: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key]).map(drop)
}

/// A value, where there is one.
pub(super) fn get<T: rusqlite::types::FromSql>(
    connection: &Connection,
    key: &str,
) -> Result<Option<T>, Fault> {
    let sql = format!("SELECT value, {} FROM meta WHERE key = ?1", seal::whole("meta", seal::META));
    let mut select = connection.prepare_cached(&sql)?;
    let found = select.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match found {
        Some((_, false)) => Err(Fault::Damaged(format!("the value of `{key}`"))),
        Some((value, true)) => Ok(Some(value)),
        None => Ok(None),
    }
}

/// A number; none where there is none, or its row is damaged.
pub(super) fn number(connection: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    match get::<[u8; 8]>(connection, key) {
        Ok(stored) => Ok(stored.map(u64::from_be_bytes)),
        Err(Fault::Database(error)) => Err(error),
        Err(Fault::Damaged(_) | Fault::Refused(_)) => Ok(None),
    }
}

/// Writes a number. Big-endian, so that the larger number is also the larger value.
pub(super) fn put_number(connection: &Connection, key: &str, number: u64) -> rusqlite::Result<()> {
    put(connection, key, &number.to_be_bytes())
}
