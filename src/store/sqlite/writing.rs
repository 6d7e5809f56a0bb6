//! Commits: several records in one transaction, all or none.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{
    super::{CorpusSize, PEERS_MAX, StoreOptions, follows},
    books, convictions, corpus,
    faults::Fault,
    mend, meta,
    missing::{self, What},
    rows::{signed, unsigned, verdict_name},
    seal,
};
use crate::{
    failing::fail_point,
    ledger::{Verdict, types::Seq},
    log::{
        NodeId,
        books::{AuthorBook, Judged, KnownPeer, Record, Recorded, SUBMISSION_KEYS_MAX},
    },
};

/// Writes the records and syncs; gives the size of the corpus after them.
pub(super) fn commit(
    connection: &mut Connection,
    records: &[Record],
    options: &StoreOptions,
) -> Result<CorpusSize, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut submissions, mut peers, mut missing, mut mended) = (false, false, false, false);
    let mut corpus = corpus::Change::default();
    let mut ends = Ends::default();
    for record in records {
        if !matches!(record, Record::Entries { .. }) {
            ends.settle(&transaction)?;
        }
        match record {
            Record::Entries { author, entries, book } => {
                let last = ends.last(&transaction, *author)?;
                follows::check(*author, last, entries, book).map_err(Fault::Refused)?;
                let number = ends.reach(&transaction, *author, book)?;
                let put = put_entries(&transaction, number, entries, book)?;
                corpus = corpus.and(put.corpus);
                missing |= put.missing;
            }
            Record::Submission { key, recorded } => {
                submissions = true;
                put_submission(&transaction, key, recorded)?;
            }
            Record::Peer { id, peer } => {
                peers = true;
                put_peer(&transaction, *id, peer)?;
            }
            Record::NewestTime(time) => {
                meta::raise(&transaction, meta::NEWEST_TIME, &time.0.to_be_bytes())?;
            }
            Record::Recovered => meta::remove(&transaction, meta::RESTORED)?,
            Record::Mended { author, entries, signature } => {
                (missing, mended) = (true, true);
                mend::entries(&transaction, options, *author, entries, signature)?;
            }
            Record::Doubted => meta::put(&transaction, meta::RESTORED, &[1])?,
            Record::Fault { author, found, proof } => {
                mended = true;
                convictions::convict(&transaction, options, (*author, *found), proof)?;
            }
            Record::Cover { author, cover } => {
                convictions::cover(&transaction, *author, cover)?;
            }
            Record::Cleared { author } => convictions::clear(&transaction, *author)?,
        }
    }
    ends.settle(&transaction)?;
    if submissions {
        forget_old_submissions(&transaction)?;
    }
    if missing {
        missing::forget_surplus(&transaction)?;
    }
    if peers {
        forget_old_peers(&transaction)?;
    }
    // Mending puts contents back and lets go of some: they are counted anew.
    let size = if mended { corpus::recount(&transaction)? } else { corpus.settle(&transaction)? };
    fail_point("commit.written");
    transaction.commit()?;
    Ok(size)
}

/// Where logs end that this commit adds to. A burst is many segments of few authors; an account is 2 KiB with two hashes over it, and is
/// written once for each author and not once for each segment.
#[derive(Default)]
struct Ends<'a>(BTreeMap<NodeId, End<'a>>);

struct End<'a> {
    number: i64,
    book: &'a AuthorBook,
    is_written: bool,
}

impl<'a> Ends<'a> {
    fn last(&self, transaction: &Transaction<'_>, author: NodeId) -> rusqlite::Result<Option<Seq>> {
        match self.0.get(&author) {
            Some(end) => Ok(Some(end.book.seq())),
            None => last_seq(transaction, author),
        }
    }

    /// That author's log ends there from now on. Gives the number of its row, which is there.
    fn reach(
        &mut self,
        transaction: &Transaction<'_>,
        author: NodeId,
        book: &'a AuthorBook,
    ) -> Result<i64, Fault> {
        if let Some(end) = self.0.get_mut(&author) {
            (end.book, end.is_written) = (book, false);
            return Ok(end.number);
        }
        let known = books::number(transaction, author)?;
        let (number, is_written) = match known {
            Some(number) => (number, false),
            None => (insert_author(transaction, author, book)?, true),
        };
        self.0.insert(author, End { number, book, is_written });
        Ok(number)
    }

    /// Writes the rows that lag behind, before anything else may read or change them.
    fn settle(&mut self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        for (author, end) in std::mem::take(&mut self.0) {
            if !end.is_written {
                update_author(transaction, author, end.number, end.book)?;
            }
        }
        Ok(())
    }
}

fn last_seq(transaction: &Transaction<'_>, author: NodeId) -> rusqlite::Result<Option<Seq>> {
    let mut select = transaction.prepare_cached(
        "SELECT max(seq) FROM entries WHERE author = (SELECT number FROM authors WHERE id = ?1)",
    )?;
    let last: Option<i64> = select.query_row([author.as_bytes()], |row| row.get(0))?;
    let stored = last.map(|last| Seq(unsigned(last)));
    // An entry that is missing is still one of the log, though its row may be gone.
    let number = books::number(transaction, author)?;
    let missing = number.map(|number| missing::last_entry(transaction, number)).transpose()?.flatten();
    Ok(stored.max(missing))
}

pub(super) fn put_author(transaction: &Transaction<'_>, id: NodeId, book: &AuthorBook) -> Result<i64, Fault> {
    let Some(number) = books::number(transaction, id)? else {
        return Ok(insert_author(transaction, id, book)?);
    };
    update_author(transaction, id, number, book)?;
    Ok(number)
}

fn update_author(
    transaction: &Transaction<'_>,
    id: NodeId,
    number: i64,
    book: &AuthorBook,
) -> Result<(), Fault> {
    // By its number and without RETURNING: a statement that may change several rows is undone by a savepoint, and at each one
    // the full-text index is written out, which took a third of a commit while a node caught up.
    // What is not written anew must be what it was: a new seal over a damaged name would make it good.
    let sql = format!(
        "UPDATE authors SET hash = ?2, signature = ?3, account = ?4, \
         seal = seal_of('authors', number, id, name, hardware, arch, ?2, ?3, ?4, known_since) \
         WHERE number = ?1 AND {}",
        seal::whole("authors", seal::AUTHORS)
    );
    let mut update = transaction.prepare_cached(&sql)?;
    let signature = book.signature.map(|signature| signature.0);
    match update.execute(params![number, book.hash.0, signature, book.account.to_bytes()])? {
        0 => Err(Fault::Damaged(format!("the row of {id}"))),
        _ => Ok(()),
    }
}

fn insert_author(transaction: &Transaction<'_>, id: NodeId, book: &AuthorBook) -> rusqlite::Result<i64> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO authors (id, name, hardware, arch, hash, signature, account, known_since) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let number = insert.insert(params![
        id.as_bytes(),
        book.name.as_str(),
        book.hardware.number(),
        book.arch.as_str(),
        book.hash.0,
        book.signature.map(|signature| signature.0),
        book.account.to_bytes(),
        signed(book.known_since.0),
    ])?;
    // The row's number is part of what is sealed, and known only now.
    let sql = sealing("authors", seal::AUTHORS);
    transaction.prepare_cached(&sql)?.execute([number])?;
    Ok(number)
}

/// The statement that seals the row with that number.
fn sealing(table: &str, seal: &str) -> String {
    format!("UPDATE {table} SET seal = {seal} WHERE number = ?1")
}

/// What came of entries that were put.
#[derive(Default)]
struct Put {
    corpus: corpus::Change,
    /// Whether contents are missing.
    missing: bool,
}

/// Keeps entries, and lists those whose content is missing, because a peer had let go of it.
fn put_entries(
    transaction: &Transaction<'_>,
    author: i64,
    entries: &[Judged],
    book: &AuthorBook,
) -> rusqlite::Result<Put> {
    let mut put = Put::default();
    let mut put_entry = transaction.prepare_cached(
        "INSERT INTO entries (author, seq, hash, header, signature, time_ms, received_ms, \
         verdict, session, mode, coherence_ppm, weight_ppm, delta_uatp, seal) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
         seal_of('entries', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13))",
    )?;
    for judged in entries {
        let entry = &judged.entry;
        let seq = signed(entry.seq().0);
        // The signature covers the last entry of its segment; from there the log can be sent on.
        let signature = book.signature.filter(|_| entry.seq() == book.seq()).map(|signature| signature.0);
        let thought = judged.thought.as_ref();
        put_entry.execute(params![
            author,
            seq,
            entry.hash().0,
            &entry.header_bytes()[..],
            signature,
            signed(entry.header().time.0),
            signed(judged.received.0),
            thought.map(|thought| verdict_name(thought.verdict)),
            thought.map(|thought| thought.session.as_str()),
            thought.map(|thought| thought.mode.number()),
            thought.map(|thought| thought.coherence.0),
            thought.map(|thought| thought.weight.0),
            thought.map(|thought| thought.delta.0),
        ])?;
        if let Some(content) = entry.content() {
            let accepted = thought.is_some_and(|thought| matches!(thought.verdict, Verdict::Accepted { .. }));
            put.corpus = put.corpus.and(corpus::put(transaction, author, seq, content, accepted)?);
        } else if thought.is_some() {
            put.missing = true;
            missing::add(transaction, author, entry.seq(), What::Content)?;
        }
    }
    Ok(put)
}

fn put_submission(transaction: &Transaction<'_>, key: &str, recorded: &Recorded) -> rusqlite::Result<()> {
    let verdict: Verdict = recorded.verdict;
    let mut put = transaction.prepare_cached(
        "INSERT OR REPLACE INTO submissions \
         (key, seq, verdict, coherence_ppm, delta_uatp, balance_uatp, trust_ppm) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let number = put.insert(params![
        key,
        signed(recorded.seq.0),
        verdict_name(verdict),
        recorded.coherence.0,
        recorded.delta.0,
        recorded.balance.0,
        recorded.trust.0,
    ])?;
    let sql = sealing("submissions", seal::SUBMISSIONS);
    transaction.prepare_cached(&sql)?.execute([number]).map(drop)
}

fn forget_old_submissions(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut forget = transaction.prepare_cached(
        "DELETE FROM submissions WHERE number <= (SELECT max(number) FROM submissions) - ?1",
    )?;
    forget.execute([i64::try_from(SUBMISSION_KEYS_MAX).unwrap_or(i64::MAX)])?;
    Ok(())
}

fn put_peer(transaction: &Transaction<'_>, id: NodeId, peer: &KnownPeer) -> rusqlite::Result<()> {
    let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
    let mut put = transaction.prepare_cached(
        "INSERT OR REPLACE INTO peers (id, name, addresses, seen_ms, seal) \
         VALUES (?1, ?2, ?3, ?4, seal_of('peers', ?1, ?2, ?3, ?4))",
    )?;
    put.execute(params![id.as_bytes(), peer.name.as_str(), addresses.join(" "), signed(peer.seen.0)])?;
    Ok(())
}

fn forget_old_peers(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut forget = transaction.prepare_cached(
        "DELETE FROM peers WHERE id IN (SELECT id FROM peers ORDER BY seen_ms DESC, id DESC LIMIT -1 OFFSET ?1)",
    )?;
    forget.execute([i64::try_from(PEERS_MAX).unwrap_or(i64::MAX)])?;
    Ok(())
}
