//! The books: read at start, and refused where a row of them is not what was written (then [`super::heal`] tries).

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    convictions,
    faults::Fault,
    meta, missing,
    rows::{Columns, parsed, signed, verdict},
    seal,
};
use crate::{
    ledger::{
        account::Account,
        policy::Policy,
        types::{Millis, Seq},
    },
    log::{
        Hardware, Hash, NodeId,
        books::{AuthorBook, Books, KnownPeer, Recorded, Span},
    },
};

/// All that a node remembers, as it was at one moment: a commit in between changes nothing of it.
pub(super) fn load(connection: &Connection, policy: &Policy) -> Result<Books, Fault> {
    let moment = connection.unchecked_transaction()?;
    check_meta(&moment)?;
    let authors = authors(&moment, policy)?;
    Ok(Books {
        missing: missing(&moment, &authors)?,
        authors,
        peers: peers(&moment)?,
        submissions: submissions(&moment)?,
        newest_time: newest_time(&moment)?,
        faults: convictions::all(&moment)?,
        restored: meta::get::<Vec<u8>>(&moment, meta::RESTORED)?.is_some(),
    })
}

/// Every row, and none but those that we write: one under another key is one of ours whose key was damaged.
pub(super) fn check_meta(connection: &Connection) -> Result<(), Fault> {
    let sql = format!("SELECT key, {} FROM meta", seal::whole("meta", seal::META));
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (key, whole): (String, bool) = (row.get(0)?, row.get(1)?);
        if !whole || !meta::KEYS.contains(&key.as_str()) {
            return Err(Fault::Damaged(format!("what the store says of itself (`{}`)", key.escape_debug())));
        }
    }
    Ok(())
}

fn authors(connection: &Connection, policy: &Policy) -> Result<BTreeMap<NodeId, AuthorBook>, Fault> {
    let mut authors = BTreeMap::new();
    for number in numbers(connection)? {
        match author(connection, number, policy)? {
            Some((id, book)) if ends_there(connection, number, &book)? => {
                authors.insert(id, book);
            }
            // An account that is ahead of its log or behind it would fold the next entry onto the wrong balance.
            Some((id, _)) => {
                return Err(Fault::Damaged(format!("the last entry of {id} is not the one of its account")));
            }
            None => return Err(Fault::Damaged(format!("author {number} of the log has no account"))),
        }
    }
    Ok(authors)
}

/// What is missing of the logs as far as they reach: nobody could give more.
fn missing(
    connection: &Connection,
    authors: &BTreeMap<NodeId, AuthorBook>,
) -> Result<BTreeMap<NodeId, Vec<Span>>, Fault> {
    let mut missing = missing::spans(connection)?;
    missing.retain(|id, spans| {
        let Some(last) = authors.get(id).map(AuthorBook::seq) else { return false };
        spans.retain(|span| span.first <= last);
        spans.iter_mut().for_each(|span| span.last = span.last.min(last));
        !spans.is_empty()
    });
    Ok(missing)
}

/// The numbers of all authors and of all logs. One jump a log, so that it does not grow with them.
pub(super) fn numbers(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut select = connection.prepare(
        "WITH RECURSIVE log (author) AS ( \
         SELECT min(author) FROM entries UNION ALL \
         SELECT (SELECT min(author) FROM entries WHERE author > log.author) FROM log WHERE log.author IS NOT NULL) \
         SELECT author FROM log WHERE author IS NOT NULL UNION SELECT number FROM authors ORDER BY 1",
    )?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// The author in that row; `None` where there is no such row.
pub(super) fn author(
    connection: &Connection,
    number: i64,
    policy: &Policy,
) -> Result<Option<(NodeId, AuthorBook)>, Fault> {
    let sql = format!(
        "SELECT {}, id, name, hardware, arch, hash, signature, account, known_since FROM authors WHERE number = ?1",
        seal::whole("authors", seal::AUTHORS)
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([number])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut columns = Columns::of(row);
    if !columns.take::<bool>()? {
        return Err(Fault::Damaged(format!("the row of author {number}")));
    }
    let id = NodeId::from_stored(columns.take()?);
    Ok(Some((id, book(id, &mut columns, policy)?)))
}

fn book(id: NodeId, columns: &mut Columns<'_, '_>, policy: &Policy) -> Result<AuthorBook, Fault> {
    let name: String = columns.take()?;
    let hardware: u8 = columns.take()?;
    let arch: String = columns.take()?;
    let hash = Hash(columns.take()?);
    let signature = columns.signature()?;
    let account: Vec<u8> = columns.take()?;
    Ok(AuthorBook {
        name: parsed(&name, "node name")?,
        hardware: Hardware::from_number(hardware)
            .ok_or_else(|| Fault::Damaged(format!("the hardware of {id}")))?,
        arch: parsed(&arch, "architecture")?,
        hash,
        signature,
        account: Account::from_bytes(&account, policy)
            .map_err(|error| Fault::Damaged(format!("the account of {id}: {error}")))?,
        known_since: columns.millis()?,
    })
}

/// Whether the log ends with the entry of that account, or that entry is known to be missing.
pub(super) fn ends_there(connection: &Connection, number: i64, book: &AuthorBook) -> Result<bool, Fault> {
    let sql = format!(
        "SELECT seq, hash, {} FROM entries WHERE author = ?1 ORDER BY seq DESC LIMIT 1",
        seal::whole("entries", seal::ENTRIES)
    );
    let mut select = connection.prepare_cached(&sql)?;
    let seq = signed(book.seq().0);
    let is_end = |row: &Row<'_>| -> rusqlite::Result<bool> {
        let hash = row.get_ref(1)?;
        Ok(row.get::<_, i64>(0)? == seq && hash.as_blob().ok() == Some(&book.hash.0[..]) && row.get(2)?)
    };
    if select.query_row([number], is_end).optional()?.unwrap_or(false) {
        return Ok(true);
    }
    let mut listed = connection
        .prepare_cached("SELECT 1 FROM missing WHERE author = ?1 AND seq = ?2 AND what = 'entry'")?;
    Ok(listed.exists(params![number, seq])?)
}

/// The seal of a peer's row, and the columns that [`peer`] reads.
pub(super) const PEERS: (&str, &str) = (seal::PEERS, "id, name, addresses, seen_ms");
/// The seal of a submission's row, and the columns that [`submission`] reads.
pub(super) const SUBMISSIONS: (&str, &str) =
    (seal::SUBMISSIONS, "key, seq, verdict, coherence_ppm, delta_uatp, balance_uatp, trust_ppm");

pub(super) fn peers(connection: &Connection) -> Result<BTreeMap<NodeId, KnownPeer>, Fault> {
    let mut peers = BTreeMap::new();
    let (seal, columns) = PEERS;
    let sql = format!("SELECT {}, {columns} FROM peers", seal::whole("peers", seal));
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (id, peer) = peer(&mut Columns::of(row))?;
        peers.insert(id, peer);
    }
    Ok(peers)
}

/// A peer from a row whose first column says whether it is whole.
pub(super) fn peer(columns: &mut Columns<'_, '_>) -> Result<(NodeId, KnownPeer), Fault> {
    if !columns.take::<bool>()? {
        return Err(Fault::Damaged("the row of a peer".to_owned()));
    }
    let id = NodeId::from_stored(columns.take()?);
    let name: String = columns.take()?;
    let addresses: String = columns.take()?;
    let addresses: Result<Vec<_>, _> =
        addresses.split_whitespace().map(|address| parsed(address, "address")).collect();
    let name = parsed(&name, "node name")?;
    Ok((id, KnownPeer { name, addresses: addresses?, seen: columns.millis()? }))
}

fn submissions(connection: &Connection) -> Result<Vec<(String, Recorded)>, Fault> {
    let (seal, columns) = SUBMISSIONS;
    let sql =
        format!("SELECT {}, {columns} FROM submissions ORDER BY number", seal::whole("submissions", seal));
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([])?;
    let mut submissions = vec![];
    while let Some(row) = rows.next()? {
        submissions.push(submission(&mut Columns::of(row))?);
    }
    Ok(submissions)
}

/// A submission from a row whose first column says whether it is whole.
pub(super) fn submission(columns: &mut Columns<'_, '_>) -> Result<(String, Recorded), Fault> {
    if !columns.take::<bool>()? {
        return Err(Fault::Damaged("the row of a submission".to_owned()));
    }
    let key: String = columns.take()?;
    let seq = columns.seq()?;
    let name: String = columns.take()?;
    let coherence = columns.ppm()?;
    let delta = columns.micro_atp()?;
    let recorded = Recorded {
        seq,
        verdict: verdict(&name, delta)?,
        coherence,
        delta,
        balance: columns.micro_atp()?,
        trust: columns.ppm()?,
    };
    Ok((key, recorded))
}

fn newest_time(connection: &Connection) -> Result<Millis, Fault> {
    let stored: Option<[u8; 8]> = meta::get(connection, meta::NEWEST_TIME)?;
    Ok(stored.map_or(Millis::ZERO, |bytes| Millis(u64::from_be_bytes(bytes))))
}

/// The number of that author's row.
pub(super) fn number(connection: &Connection, id: NodeId) -> rusqlite::Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT number FROM authors WHERE id = ?1")?;
    select.query_row([id.as_bytes()], |row| row.get(0)).optional()
}

/// Where that author's log ends, as its row says.
pub(super) const fn end(book: &AuthorBook) -> (Seq, Hash) {
    (book.seq(), book.hash)
}
