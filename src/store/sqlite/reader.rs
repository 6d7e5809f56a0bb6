//! Reads: the books at start, the log for peers, the corpus for people.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{Connection, Row, params, types::ValueRef};

use super::{
    super::{
        ENTRIES_MAX, Rates, SESSION_THOUGHTS_MAX, StoreOptions,
        query::{self, SessionRow},
    },
    books,
    faults::Fault,
    rows::{Columns, parsed, signed},
    seal,
};
use crate::{
    ledger::{
        economy::Session,
        policy::Policy,
        types::{Millis, Seq},
    },
    log::{Entry, FederationId, Hardware, Hash, Mode, NodeId, Signature, books::StoredEntry},
};

/// What a read of the log gives out, and what it found damaged on the way.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) entries: Vec<StoredEntry>,
    /// Whose rows or contents are damaged.
    pub(super) damaged: Vec<Seq>,
    /// Whether nothing can be given out because of that.
    pub(super) is_first_damaged: bool,
}

/// See [`super::super::Store::entries`].
pub(super) fn entries(
    connection: &Connection,
    options: &StoreOptions,
    author: NodeId,
    from: Seq,
    bytes_max: usize,
) -> Result<Served, Fault> {
    let sql = format!(
        "SELECT entries.seq, {}, hash, header, content, entries.signature FROM entries \
         LEFT JOIN contents ON contents.author = entries.author AND contents.seq = entries.seq \
         WHERE entries.author = (SELECT number FROM authors WHERE id = ?1) AND entries.seq >= ?2 \
         ORDER BY entries.seq LIMIT ?3",
        seal::whole("entries", seal::ENTRIES)
    );
    let mut select = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(ENTRIES_MAX).unwrap_or(i64::MAX);
    let mut rows = select.query(params![author.as_bytes(), signed(from.0), limit])?;
    let mut served = Served::default();
    let (mut bytes, mut next) = (0_usize, from);
    while let Some(row) = rows.next()? {
        let Some(stored) = stored_entry(row, &options.federation, author, next)? else {
            served.damaged.push(next);
            break;
        };
        let length =
            stored.entry.header.len().saturating_add(stored.entry.content.as_ref().map_or(0, Bytes::len));
        bytes = bytes.saturating_add(length);
        if !served.entries.is_empty() && bytes > bytes_max {
            break;
        }
        if stored.is_content_damaged {
            served.damaged.push(next);
        }
        served.entries.push(stored.entry);
        next = next.next();
    }
    if served.entries.is_empty()
        && served.damaged.is_empty()
        && reaches(connection, &options.policy, author, from)?
    {
        // There are later ones, or it is known to be missing: its row is gone.
        served.damaged.push(from);
    }
    served.is_first_damaged = served.entries.is_empty() && !served.damaged.is_empty();
    Ok(served)
}

struct Stored {
    entry: StoredEntry,
    is_content_damaged: bool,
}

/// The entry in that row; none where it is not the one that was written at that place.
fn stored_entry(
    row: &Row<'_>,
    federation: &FederationId,
    author: NodeId,
    seq: Seq,
) -> Result<Option<Stored>, Fault> {
    let mut columns = Columns::of(row);
    if columns.take::<i64>()? != signed(seq.0) || !columns.take::<bool>()? {
        return Ok(None);
    }
    let hash = Hash(columns.take()?);
    let header: Vec<u8> = columns.take()?;
    let content = row.get_ref(4)?;
    let Ok(parsed) = Entry::parse(federation, Bytes::from(header), None) else { return Ok(None) };
    if (parsed.author(), parsed.seq(), parsed.hash()) != (author, seq, hash) {
        return Ok(None);
    }
    let content = match content {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(content) if parsed.is_content(content) => Ok(Some(Bytes::copy_from_slice(content))),
        ValueRef::Blob(_) | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => Err(()),
    };
    let signature: Option<[u8; 64]> = row.get(5)?;
    let entry = StoredEntry {
        header: parsed.header_bytes().clone(),
        content: content.clone().unwrap_or_default(),
        signature: signature.map(Signature),
    };
    Ok(Some(Stored { entry, is_content_damaged: content.is_err() }))
}

/// Whether the author's log goes up to that entry, as its account says: where its rows are gone, they can't say it.
fn reaches(connection: &Connection, policy: &Policy, author: NodeId, seq: Seq) -> Result<bool, Fault> {
    let Some(number) = books::number(connection, author)? else { return Ok(false) };
    let known = books::author(connection, number, policy)?;
    Ok(known.is_some_and(|(_, book)| book.seq() >= seq))
}

/// See [`super::super::Store::rates`].
pub(super) fn rates(connection: &Connection, since: Millis) -> Result<Rates, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT count(*) FILTER (WHERE verdict = 'accepted' AND delta_uatp > 0), \
         count(*) FILTER (WHERE verdict <> 'accepted') FROM entries \
         WHERE verdict IS NOT NULL AND time_ms >= ?1",
    )?;
    let rates = select.query_row([signed(since.0.min(signed_max()))], |row| {
        let mut columns = Columns::of(row);
        Ok(Rates { rewards: columns.u64()?, penalties: columns.u64()? })
    })?;
    Ok(rates)
}

/// See [`super::super::Store::sessions`].
pub(super) fn sessions(connection: &Connection) -> Result<BTreeMap<String, Session>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT session, id, mode, hardware, coherence_ppm, weight_ppm FROM entries INDEXED BY entries_by_time \
         JOIN authors ON authors.number = entries.author WHERE verdict = 'accepted' \
         ORDER BY time_ms DESC, id DESC, entries.seq DESC LIMIT ?1",
    )?;
    let mut rows = select.query([i64::try_from(SESSION_THOUGHTS_MAX).unwrap_or(i64::MAX)])?;
    let mut thoughts = vec![];
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let session: String = columns.take()?;
        let author = NodeId::from_stored(columns.take()?);
        let (mode, hardware): (u8, u8) = (columns.take()?, columns.take()?);
        let damaged = |what: &str| Fault::Damaged(format!("the {what} of a thought of {author}"));
        thoughts.push(SessionRow {
            session: parsed(&session, "session name")?,
            author,
            mode: Mode::from_number(mode).ok_or_else(|| damaged("mode"))?,
            hardware: Hardware::from_number(hardware).ok_or_else(|| damaged("hardware"))?,
            coherence: columns.ppm()?,
            weight: columns.ppm()?,
        });
    }
    Ok(query::sessions(&thoughts))
}

/// The largest time that compares as a signed integer; later ones are three hundred million years away.
pub(super) const fn signed_max() -> u64 {
    i64::MAX.unsigned_abs()
}
