//! The corpus: contents, their full-text index, and what is let go when there are too many.

use rusqlite::{Transaction, params};

/// Keeps a content. That of an accepted thought can be searched for.
pub(super) fn put(
    transaction: &Transaction<'_>,
    author: i64,
    seq: i64,
    content: &[u8],
) -> rusqlite::Result<()> {
    let mut put =
        transaction.prepare_cached("INSERT INTO contents (author, seq, content) VALUES (?1, ?2, ?3)")?;
    put.execute(params![author, seq, content]).map(drop)
}

/// Makes the full-text index anew.
pub(super) fn index_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("INSERT INTO words (words) VALUES ('delete-all')", []).map(drop)
}
