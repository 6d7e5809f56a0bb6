//! Mending: entries that came again are put back where they were missing, and where they fit what the store still has.

use rusqlite::{Transaction, params, types::Value};

use super::{
    super::StoreOptions,
    books, contents, corpus,
    faults::Fault,
    missing::{self, What},
    repair,
    rows::signed,
    seal,
    walk::{Checked, rows},
};
use crate::{
    ledger::types::Seq,
    log::{Entry, Hash, Head, NodeId, Signature, books::AuthorBook},
};

/// See [`crate::log::books::Record::Mended`].
pub(super) fn entries(
    transaction: &Transaction<'_>,
    options: &StoreOptions,
    author: NodeId,
    entries: &[Entry],
    signature: &Signature,
) -> Result<(), Fault> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
    let Some(number) = books::number(transaction, author)? else { return Ok(()) };
    let Some((id, book)) = books::author(transaction, number, &options.policy)? else { return Ok(()) };
    let log = Log { options, number, id, book };
    let listed = missing::between(transaction, number, (first.seq(), last.seq()))?;
    let is_listed = |entry: &Entry, what: What| listed.contains(&(entry.seq(), what));
    // From the last to the first: a header is the right one where the next, which is right, names its hash. What that hash
    // covers, the hash of the one before among it, needs no check of its own.
    let mut placed: Option<&Entry> = None;
    for entry in entries.iter().rev().filter(|entry| entry.author() == author) {
        let link = log.link_to(transaction, entry.seq(), placed)?;
        let fits = link == Some(entry.hash());
        placed = fits.then_some(entry);
        if fits && is_listed(entry, What::Entry) {
            repair::place(transaction, number, entry)?;
        }
    }
    if listed.iter().any(|(_, what)| *what == What::Entry) {
        repair::author(transaction, options, number)?;
    }
    for entry in entries.iter().filter(|entry| entry.author() == author) {
        if is_listed(entry, What::Content) || is_listed(entry, What::Entry) {
            log.put_content(transaction, entry)?;
        }
    }
    log.put_signature(transaction, last, signature)
}

struct Log<'o> {
    options: &'o StoreOptions,
    number: i64,
    id: NodeId,
    book: AuthorBook,
}

impl Log<'_> {
    /// The hash that the entry at that place must have: as the account says, or the next entry, `placed` or stored.
    fn link_to(
        &self,
        transaction: &Transaction<'_>,
        seq: Seq,
        placed: Option<&Entry>,
    ) -> Result<Option<Hash>, Fault> {
        if seq == self.book.seq() {
            return Ok(Some(self.book.hash));
        }
        if let Some(next) = placed.filter(|next| next.seq() == seq.next()) {
            return Ok(Some(next.header().prev));
        }
        let next = self.stored(transaction, seq.next())?.filter(|next| next.hash_fits);
        Ok(next.and_then(|next| next.entry).map(|next| next.header().prev))
    }

    /// Where an entry has no signature, and this one is its author's over it, from now on the log can be sent up to there. The one that was
    /// lost may have been the only one for a long stretch.
    fn put_signature(
        &self,
        transaction: &Transaction<'_>,
        entry: &Entry,
        signature: &Signature,
    ) -> Result<(), Fault> {
        let head = Head { author: self.id, seq: entry.seq(), hash: entry.hash(), signature: *signature };
        let is_own = self.id == self.options.own;
        if is_own || head.verify(&self.options.federation).is_err() {
            return Ok(());
        }
        let sql = format!(
            "UPDATE entries SET signature = ?3 WHERE author = ?1 AND seq = ?2 AND signature IS NULL AND hash = ?4 AND {}",
            seal::whole("entries", seal::ENTRIES)
        );
        let place = (self.number, signed(entry.seq().0));
        let put = transaction.execute(&sql, params![place.0, place.1, signature.0, entry.hash().0])?;
        if put > 0 {
            let sql = format!("UPDATE entries SET seal = {} WHERE author = ?1 AND seq = ?2", seal::ENTRIES);
            transaction.execute(&sql, params![place.0, place.1])?;
        }
        Ok(())
    }

    fn stored(&self, transaction: &Transaction<'_>, seq: Seq) -> Result<Option<Checked>, Fault> {
        let row = rows(transaction, self.number, seq, 1)?.into_iter().find(|row| row.seq == seq);
        Ok(row.map(|row| Checked::of(&self.options.federation, self.id, row)))
    }

    /// Puts the content back beside a row that is whole. One that does not fit there is let go first; where the row was
    /// damaged and there is no content, it was pruned before, and stays so.
    fn put_content(&self, transaction: &Transaction<'_>, entry: &Entry) -> Result<(), Fault> {
        let seq = entry.seq();
        let Some(stored) = self.stored(transaction, seq)?.filter(Checked::is_whole) else { return Ok(()) };
        if !stored.content_fits {
            contents::drop_damaged(transaction, self.options, (self.number, seq))?;
        } else if stored.has_content() {
            return Ok(missing::remove(transaction, self.number, seq, What::Content)?);
        }
        let listed = missing::between(transaction, self.number, (seq, seq))?;
        if !listed.contains(&(seq, What::Content)) {
            return Ok(());
        }
        let Some(content) =
            entry.content().filter(|_| stored.row.hash == Value::Blob(entry.hash().0.to_vec()))
        else {
            return Ok(());
        };
        if entry.is_content(content) {
            let accepted = stored.is_accepted();
            // Repairs count what is kept once they are done.
            let _counted_later = corpus::put(transaction, self.number, signed(seq.0), content, accepted)?;
            missing::remove(transaction, self.number, seq, What::Content)?;
        }
        Ok(())
    }
}
