//! Contents and their index: where the two name different places for one content, it goes where its hash says.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Transaction, params, types::Value};

use super::{
    super::StoreOptions,
    books, corpus,
    faults::Fault,
    missing::{self, What},
    rows::{signed, unsigned},
    walk::{Checked, blob, lenient, rows},
};
use crate::ledger::types::Seq;

/// The number of an author and a seq.
type Place = (i64, Seq);

/// A content whose place is in doubt.
struct Doubtful {
    number: i64,
    content: Value,
    /// By its row, and by the index.
    places: Vec<Place>,
}

/// Lets go of the content there, which is not the one that its header names, and lists it as missing.
pub(super) fn drop_damaged(
    transaction: &Transaction<'_>,
    options: &StoreOptions,
    place: Place,
) -> Result<(), Fault> {
    // The index may have led to another entry's content, which is not to be let go.
    if !is_agreed(transaction, place)? {
        reconcile(transaction, options)?;
        if stored(transaction, options, place)?.is_some_and(|of| of.has_content() && of.content_fits) {
            return Ok(());
        }
    }
    let (author, seq) = (place.0, signed(place.1.0));
    // Repairs count what is kept once they are done.
    let _counted_later = corpus::remove(transaction, author, seq)?;
    Ok(missing::add(transaction, author, place.1, What::Content)?)
}

/// Whether the row that the index names for that place is one for that place.
fn is_agreed(transaction: &Transaction<'_>, (author, seq): Place) -> rusqlite::Result<bool> {
    let seq = signed(seq.0);
    let mut by_index =
        transaction.prepare_cached("SELECT number FROM contents WHERE author = ?1 AND seq = ?2")?;
    let number: Option<i64> = by_index.query_row(params![author, seq], |row| row.get(0)).optional()?;
    let mut by_row = transaction.prepare_cached(
        "SELECT 1 FROM contents NOT INDEXED WHERE number = ?1 AND author = ?2 AND seq = ?3",
    )?;
    by_row.exists(params![number, author, seq])
}

/// Makes contents and their index agree. Never just the index from the rows: a row whose seq was damaged would then take its content
/// from the entry that it belongs to, and nobody would know that this one had any.
pub(super) fn reconcile(transaction: &Transaction<'_>, options: &StoreOptions) -> Result<(), Fault> {
    // Else a row can't be deleted whose entry in the index is another.
    transaction.pragma_update(None, "writable_schema", true)?;
    let reconciled = reconcile_all(transaction, options);
    transaction.pragma_update(None, "writable_schema", false)?;
    reconciled
}

fn reconcile_all(transaction: &Transaction<'_>, options: &StoreOptions) -> Result<(), Fault> {
    let mut index = places(transaction, "INDEXED BY sqlite_autoindex_contents_1")?;
    let mut doubtful = vec![];
    for (number, place) in places(transaction, "NOT INDEXED")? {
        let by_index = index.remove(&number);
        if by_index != Some(place) {
            let content = content(transaction, number)?;
            let places = [Some(place), by_index].into_iter().flatten().collect();
            doubtful.push(Doubtful { number, content, places });
        }
    }
    // What is left in the index belongs to rows that are gone.
    let mut lost: Vec<Place> = index.into_values().collect();
    for Doubtful { number, .. } in &doubtful {
        tracing::warn!(content = number, "a content and its index disagreed");
        transaction.execute("DELETE FROM words WHERE rowid = ?1", [number])?;
        transaction.execute("DELETE FROM contents NOT INDEXED WHERE number = ?1", [number])?;
    }
    transaction.execute_batch("REINDEX contents")?;
    for doubtful in doubtful {
        lost.extend(put_back(transaction, options, doubtful)?);
    }
    for (author, seq) in lost {
        let of = stored(transaction, options, (author, seq))?;
        if of.is_some_and(|of| !of.has_content() && of.is_thought()) {
            missing::add(transaction, author, seq, What::Content)?;
        }
    }
    Ok(missing::forget_surplus(transaction)?)
}

/// Where each content stands, by its number, as the index or the table has it.
fn places(transaction: &Transaction<'_>, by: &str) -> Result<BTreeMap<i64, Place>, Fault> {
    let mut select = transaction.prepare(&format!("SELECT number, author, seq FROM contents {by}"))?;
    let mut rows = select.query([])?;
    let mut places = BTreeMap::new();
    while let Some(row) = rows.next()? {
        // One that is no number any more is no place.
        let place = (row.get(1).unwrap_or_default(), Seq(unsigned(row.get(2).unwrap_or_default())));
        places.insert(row.get(0)?, place);
    }
    Ok(places)
}

fn content(transaction: &Transaction<'_>, number: i64) -> Result<Value, Fault> {
    let mut select =
        transaction.prepare_cached("SELECT content FROM contents NOT INDEXED WHERE number = ?1")?;
    Ok(select.query_row(params![number], |row| Ok(lenient(row.get_ref(0)?)))?)
}

/// Puts a content where it belongs; gives the places that may lack one where it belongs nowhere.
fn put_back(
    transaction: &Transaction<'_>,
    options: &StoreOptions,
    doubtful: Doubtful,
) -> Result<Vec<Place>, Fault> {
    for place in &doubtful.places {
        let Some(of) = stored(transaction, options, *place)? else { continue };
        let fitting = blob(&doubtful.content)
            .filter(|content| of.entry.as_ref().is_some_and(|entry| entry.is_content(content)));
        if let (Some(content), false) = (fitting, of.has_content()) {
            let accepted = of.is_accepted();
            // Repairs count what is kept once they are done.
            let _counted_later = corpus::put(transaction, place.0, signed(place.1.0), content, accepted)?;
            return Ok(vec![]);
        }
    }
    Ok(doubtful.places)
}

fn stored(
    transaction: &Transaction<'_>,
    options: &StoreOptions,
    (author, seq): Place,
) -> Result<Option<Checked>, Fault> {
    let Some((id, _)) = books::author(transaction, author, &options.policy)? else { return Ok(None) };
    let row = rows(transaction, author, seq, 1)?.into_iter().find(|row| row.seq == seq);
    Ok(row.map(|row| Checked::of(&options.federation, id, row)))
}
