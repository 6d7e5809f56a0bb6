//! Numbers that the store keeps about itself, one a key.

use rusqlite::{Connection, OptionalExtension, params};

/// The number under that key.
pub(super) fn number(connection: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    let mut select = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    let stored: Option<[u8; 8]> = select.query_row([key], |row| row.get(0)).optional()?;
    Ok(stored.map(u64::from_be_bytes))
}

/// Keeps a number under that key. Big-endian, so that the larger number is also the larger value.
pub(super) fn put_number(connection: &Connection, key: &str, number: u64) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?;
    put.execute(params![key, number.to_be_bytes()]).map(drop)
}
