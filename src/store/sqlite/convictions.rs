//! Convicted authors: what proves it, and their logs, which end before the first entry at fault.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{
    super::StoreOptions,
    books, corpus,
    faults::Fault,
    rows::{Columns, signed, unsigned},
    seal,
    walk::{Checked, Folding, Log, Step, Walk, rows},
    writing,
};
use crate::{
    ledger::types::{Millis, Seq},
    log::{
        FaultKind, Hash, NodeId, Proof, SEGMENT_ENTRIES_MAX, Segment,
        books::{AuthorBook, AuthorFault},
        fault::{cover_bytes, parse_cover},
        stored::covering,
    },
};

/// The seal of a row, and the columns that [`fault`] reads.
pub(super) const FAULTS: (&str, &str) = (seal::FAULTS, "id, cut, kind, first, second, found_ms, cleared");

/// Every author that is or was convicted.
pub(super) fn all(connection: &Connection) -> Result<BTreeMap<NodeId, AuthorFault>, Fault> {
    let (seal, columns) = FAULTS;
    let sql = format!("SELECT {}, {columns} FROM faults", seal::whole("faults", seal));
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([])?;
    let mut all = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (id, fault) = fault(&mut Columns::of(row))?;
        all.insert(id, fault);
    }
    Ok(all)
}

/// A fault from a row whose first column says whether it is whole.
pub(super) fn fault(columns: &mut Columns<'_, '_>) -> Result<(NodeId, AuthorFault), Fault> {
    if !columns.take::<bool>()? {
        return Err(Fault::Damaged("the row of a convicted author".to_owned()));
    }
    let id = NodeId::from_stored(columns.take()?);
    let cut = columns.seq()?;
    let name: String = columns.take()?;
    let kind = FaultKind::from_name(&name)
        .ok_or_else(|| Fault::Damaged(format!("there is no fault `{}`", name.escape_debug())))?;
    let hashes = (Hash(columns.take()?), Hash(columns.take()?));
    Ok((id, AuthorFault { cut, kind, hashes, found: columns.millis()?, cleared: columns.take()? }))
}

/// What convicts an author, as it is stored; `None` where nothing is, or it is damaged: a peer can give it again.
pub(super) fn proof(
    connection: &Connection,
    options: &StoreOptions,
    author: NodeId,
) -> Result<Option<Proof>, Fault> {
    let mut select = connection.prepare_cached("SELECT proof FROM proofs WHERE id = ?1")?;
    let stored: Option<Vec<u8>> = select.query_row([author.as_bytes()], |row| row.get(0)).optional()?;
    let parsed = stored.and_then(|bytes| Proof::parse(&bytes, &options.federation).ok());
    Ok(parsed.filter(|proof| proof.author() == author))
}

/// What covers the last entries of a convicted author's log; `None` where a signed head among them does, or it is damaged.
pub(super) fn stored_cover(
    connection: &Connection,
    options: &StoreOptions,
    author: NodeId,
) -> Result<Option<Segment>, Fault> {
    let mut select = connection.prepare_cached("SELECT cover FROM proofs WHERE id = ?1")?;
    let stored: Option<Option<Vec<u8>>> =
        select.query_row([author.as_bytes()], |row| row.get(0)).optional()?;
    let parsed = stored.flatten().and_then(|bytes| parse_cover(&bytes, &options.federation).ok());
    Ok(parsed.filter(|cover| cover.author() == author))
}

/// See [`crate::log::books::Record::Fault`].
pub(super) fn convict(
    transaction: &Transaction<'_>,
    options: &StoreOptions,
    (author, found): (NodeId, Millis),
    proof: &Proof,
) -> Result<(), Fault> {
    // What covered the log before it was cut once more still does.
    let mut covers = stored_cover(transaction, options, author)?;
    if let Some(number) = books::number(transaction, author)? {
        covers = covering_of(transaction, options, (author, number), proof.cut())?.or(covers);
        cut(transaction, options, (author, number), proof.cut())?;
    }
    put_fault(transaction, author, &AuthorFault::of(proof, found))?;
    let mut put =
        transaction.prepare_cached("INSERT OR REPLACE INTO proofs (id, proof, cover) VALUES (?1, ?2, ?3)")?;
    put.execute(params![author.as_bytes(), proof.to_bytes(), covers.as_ref().map(cover_bytes)])?;
    Ok(())
}

/// See [`crate::log::books::Record::Cover`].
pub(super) fn cover(transaction: &Transaction<'_>, author: NodeId, cover: &Segment) -> Result<(), Fault> {
    let mut put = transaction.prepare_cached("UPDATE proofs SET cover = ?2 WHERE id = ?1")?;
    put.execute(params![author.as_bytes(), cover_bytes(cover)])?;
    Ok(())
}

/// See [`crate::log::books::Record::Cleared`].
pub(super) fn clear(transaction: &Transaction<'_>, author: NodeId) -> Result<(), Fault> {
    match all(transaction)?.remove(&author) {
        Some(fault) => put_fault(transaction, author, &AuthorFault { cleared: true, ..fault }),
        None => Ok(()),
    }
}

fn put_fault(transaction: &Transaction<'_>, author: NodeId, fault: &AuthorFault) -> Result<(), Fault> {
    let mut put = transaction.prepare_cached(
        "INSERT OR REPLACE INTO faults (id, cut, kind, first, second, found_ms, cleared, seal) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, seal_of('faults', ?1, ?2, ?3, ?4, ?5, ?6, ?7))",
    )?;
    put.execute(params![
        author.as_bytes(),
        signed(fault.cut.0),
        fault.kind.name(),
        fault.hashes.0.0,
        fault.hashes.1.0,
        signed(fault.found.0),
        i64::from(fault.cleared),
    ])?;
    Ok(())
}

/// What covers the entries that a cut leaves without a signed head, as far as they are sound.
fn covering_of(
    transaction: &Transaction<'_>,
    options: &StoreOptions,
    (author, number): (NodeId, i64),
    cut: Seq,
) -> Result<Option<Segment>, Fault> {
    let signed_before: Option<i64> = transaction.query_row(
        "SELECT max(seq) FROM entries WHERE author = ?1 AND seq < ?2 AND signature IS NOT NULL",
        params![number, signed(cut.0)],
        |row| row.get(0),
    )?;
    let from = signed_before.map_or(Seq::GENESIS, |seq| Seq(unsigned(seq)).next());
    let rows = rows(transaction, number, from, SEGMENT_ENTRIES_MAX)?;
    let sound = rows.into_iter().map_while(|row| {
        let checked = Checked::of(&options.federation, author, row);
        let signature = checked.signature(&options.federation);
        Some((checked.entry.filter(|_| checked.hash_fits)?, signature))
    });
    Ok(covering(&sound.collect::<Vec<_>>(), cut))
}

/// Lets go of an author's entries from the cut on, and folds its account anew. Where an entry before the cut is damaged, the log ends
/// before that one; peers give the rest again.
fn cut(
    transaction: &Transaction<'_>,
    options: &StoreOptions,
    (author, number): (NodeId, i64),
    cut: Seq,
) -> Result<(), Fault> {
    let Some((_, book)) = books::author(transaction, number, &options.policy)? else { return Ok(()) };
    if book.seq() < cut {
        return Ok(());
    }
    drop_from(transaction, number, cut)?;
    let left = refold(transaction, options, (author, number), &book, cut)?;
    let Some(left) = left else {
        drop_from(transaction, number, Seq::GENESIS)?;
        transaction.execute("DELETE FROM authors WHERE number = ?1", [number])?;
        return Ok(());
    };
    drop_from(transaction, number, left.seq().next())?;
    writing::put_author(transaction, author, &left).map(drop)
}

fn drop_from(transaction: &Transaction<'_>, number: i64, from: Seq) -> Result<(), Fault> {
    let from = signed(from.0);
    let mut select =
        transaction.prepare_cached("SELECT seq FROM contents WHERE author = ?1 AND seq >= ?2")?;
    let contents: Vec<i64> =
        select.query_map([number, from], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for seq in contents {
        // The whole corpus is counted anew behind this.
        let _counted_later = corpus::remove(transaction, number, seq)?;
    }
    transaction.execute("DELETE FROM missing WHERE author = ?1 AND seq >= ?2", [number, from])?;
    transaction.execute("DELETE FROM entries WHERE author = ?1 AND seq >= ?2", [number, from])?;
    Ok(())
}

/// What an author's book is after the last sound entry before the cut; `None` where there is none.
fn refold(
    transaction: &Transaction<'_>,
    options: &StoreOptions,
    (author, number): (NodeId, i64),
    before: &AuthorBook,
    cut: Seq,
) -> Result<Option<AuthorBook>, Fault> {
    let log = Log { federation: options.federation, number, id: author, end: None };
    let mut walk = Walk::new(transaction, log, Seq::GENESIS);
    let mut folding = Folding::new(&options.policy);
    let mut left = None;
    while let Some(Step::Row { checked, .. }) = walk.step()? {
        let sound = checked.entry.as_ref().filter(|entry| checked.is_whole() && entry.seq() < cut);
        let Some(entry) = sound else { break };
        if folding.follow(entry).is_err() {
            break;
        }
        let signature = checked.signature(&options.federation);
        left = folding.account.as_ref().map(|account| (account.clone(), entry.hash(), signature));
    }
    Ok(left.map(|(account, hash, signature)| AuthorBook { account, hash, signature, ..before.clone() }))
}
