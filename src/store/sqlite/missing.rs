//! What is to be fetched again: entries and contents that are damaged or that the node never had.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Transaction, params};

use super::{
    faults::Fault,
    rows::{signed, unsigned},
};
use crate::{
    ledger::types::Seq,
    log::{
        NodeId,
        books::{MISSING_MAX, Span},
    },
};

/// What is missing of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// All of it: its row is damaged.
    Entry,
    /// Its content.
    Content,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Content => "content",
        }
    }
}

/// Lists it as missing.
pub(super) fn add(connection: &Connection, author: i64, seq: Seq, what: What) -> rusqlite::Result<()> {
    let mut add =
        connection.prepare_cached("INSERT OR IGNORE INTO missing (author, seq, what) VALUES (?1, ?2, ?3)")?;
    add.execute(params![author, signed(seq.0), what.name()]).map(drop)
}

/// It is there again.
pub(super) fn remove(connection: &Connection, author: i64, seq: Seq, what: What) -> rusqlite::Result<()> {
    let mut remove =
        connection.prepare_cached("DELETE FROM missing WHERE author = ?1 AND seq = ?2 AND what = ?3")?;
    remove.execute(params![author, signed(seq.0), what.name()]).map(drop)
}

/// What is missing of that author between two seqs, both among them.
pub(super) fn between(
    connection: &Connection,
    author: i64,
    (first, last): (Seq, Seq),
) -> rusqlite::Result<BTreeSet<(Seq, What)>> {
    let mut select = connection.prepare_cached(
        "SELECT seq, what = 'entry' FROM missing WHERE author = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq",
    )?;
    let rows = select.query_map(params![author, signed(first.0), signed(last.0)], |row| {
        let what = if row.get(1)? { What::Entry } else { What::Content };
        Ok((Seq(unsigned(row.get(0)?)), what))
    })?;
    rows.collect()
}

/// The entries of that author that are missing.
pub(super) fn entries(connection: &Connection, author: i64) -> rusqlite::Result<BTreeSet<Seq>> {
    let all = between(connection, author, (Seq::GENESIS, Seq(u64::MAX >> 1)))?;
    Ok(all.into_iter().filter(|(_, what)| *what == What::Entry).map(|(seq, _)| seq).collect())
}

/// The largest seq whose entry is missing: the log reaches that far, though its row may be gone.
pub(super) fn last_entry(connection: &Connection, author: i64) -> rusqlite::Result<Option<Seq>> {
    let mut select =
        connection.prepare_cached("SELECT max(seq) FROM missing WHERE author = ?1 AND what = 'entry'")?;
    let last: Option<i64> = select.query_row([author], |row| row.get(0))?;
    Ok(last.map(|last| Seq(unsigned(last))))
}

/// All that is missing, entries and contents alike, as spans.
pub(super) fn spans(connection: &Connection) -> Result<BTreeMap<NodeId, Vec<Span>>, Fault> {
    let is_damaged = format!("SELECT 1 FROM missing WHERE {IMPOSSIBLE}");
    if connection.prepare(&is_damaged)?.exists([])? {
        return Err(Fault::Damaged("the list of what is missing".to_owned()));
    }
    let mut select = connection.prepare(
        "SELECT DISTINCT id, seq FROM missing JOIN authors ON authors.number = missing.author ORDER BY id, seq",
    )?;
    let mut rows = select.query([])?;
    let mut missing: BTreeMap<NodeId, Vec<Span>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let seq = Seq(unsigned(row.get(1)?));
        let spans = missing.entry(NodeId::from_stored(row.get(0)?)).or_default();
        match spans.last_mut() {
            Some(span) if span.last.next() == seq => span.last = seq,
            Some(_) | None => spans.push(Span { first: seq, last: seq }),
        }
    }
    Ok(missing)
}

/// Forgets the oldest of more than [`MISSING_MAX`]. Contents first: they then count as pruned, while an entry that is missing
/// holds up the log for everyone who asks for it.
pub(super) fn forget_surplus(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let count: i64 =
        transaction.prepare_cached("SELECT count(*) FROM missing")?.query_row([], |row| row.get(0))?;
    let surplus = count.saturating_sub(i64::try_from(MISSING_MAX).unwrap_or(i64::MAX));
    if surplus <= 0 {
        return Ok(());
    }
    let mut forget = transaction.prepare_cached(
        "DELETE FROM missing WHERE (author, seq, what) IN ( \
         SELECT missing.author, missing.seq, what FROM missing LEFT JOIN entries \
         ON entries.author = missing.author AND entries.seq = missing.seq \
         ORDER BY what = 'entry', time_ms, missing.author, missing.seq LIMIT ?1)",
    )?;
    forget.execute([surplus]).map(drop)
}

/// A row that can't be meant: a bit of it flipped.
const IMPOSSIBLE: &str = "typeof(seq) <> 'integer' OR typeof(author) <> 'integer' \
    OR what NOT IN ('entry', 'content') \
    OR NOT EXISTS (SELECT 1 FROM authors WHERE authors.number = missing.author)";

/// Drops rows that can't be meant. What was meant is found again by the next look through the log.
pub(super) fn forget_impossible(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction.execute(&format!("DELETE FROM missing WHERE {IMPOSSIBLE}"), [])
}
