//! Commits: several records in one transaction, all or none.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{
    super::{CorpusSize, PEERS_MAX, follows},
    corpus,
    faults::Fault,
    rows::{signed, unsigned, verdict_name},
};
use crate::{
    failing::{checkpoint_pages, fail_point},
    ledger::{Verdict, types::Seq},
    log::{
        NodeId,
        books::{AuthorBook, Judged, KnownPeer, Record, Recorded, SUBMISSION_KEYS_MAX},
    },
};

/// Pages of the write-ahead log from which on it is copied back: 4 MiB, SQLite's own default.
const CHECKPOINT_PAGES: u32 = 1_000;

/// Writes the records and syncs; gives the size of the corpus after them.
pub(super) fn commit(connection: &mut Connection, records: &[Record]) -> Result<CorpusSize, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut submissions, mut peers) = (false, false);
    let mut corpus = corpus::Change::default();
    for record in records {
        match record {
            Record::Entries { author, entries, book } => {
                let last = last_seq(&transaction, *author)?;
                follows::check(*author, last, entries, book).map_err(Fault::Refused)?;
                let number = put_author(&transaction, *author, book)?;
                corpus = corpus.and(put_entries(&transaction, number, entries, book)?);
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
                let mut put = transaction.prepare_cached(
                    "INSERT INTO meta (key, value) VALUES ('newest_time', ?1) \
                     ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
                )?;
                // Big-endian, so that the larger time is also the larger value.
                put.execute([time.0.to_be_bytes()])?;
            }
            Record::Mended { .. } | Record::Doubted | Record::Recovered => {}
        }
    }
    if submissions {
        forget_old_submissions(&transaction)?;
    }
    if peers {
        forget_old_peers(&transaction)?;
    }
    let size = corpus.settle(&transaction)?;
    fail_point("commit.written");
    transaction.commit()?;
    Ok(size)
}

/// Copies the write-ahead log back where it is long: what SQLite does by itself after a commit, but for its silence about a
/// sync that fails. The system may drop what it could not write, and says nothing of it at the next sync; so nothing may
/// build on that one, and the node ends.
pub(super) fn checkpoint(connection: &Connection) -> Result<(), Fault> {
    let frames = |mode: &str| -> rusqlite::Result<(i64, i64)> {
        connection
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| Ok((row.get(1)?, row.get(2)?)))
    };
    let (written, copied) = frames("NOOP")?;
    if written >= i64::from(checkpoint_pages(CHECKPOINT_PAGES)) && written > copied {
        frames("PASSIVE")?;
    }
    Ok(())
}

fn last_seq(transaction: &Transaction<'_>, author: NodeId) -> rusqlite::Result<Option<Seq>> {
    let mut select = transaction.prepare_cached(
        "SELECT max(seq) FROM entries WHERE author = (SELECT number FROM authors WHERE id = ?1)",
    )?;
    let last: Option<i64> = select.query_row([author.as_bytes()], |row| row.get(0))?;
    Ok(last.map(|last| Seq(unsigned(last))))
}

fn put_author(transaction: &Transaction<'_>, id: NodeId, book: &AuthorBook) -> rusqlite::Result<i64> {
    let (account, signature) = (book.account.to_bytes(), book.signature.map(|signature| signature.0));
    let mut update = transaction.prepare_cached(
        "UPDATE authors SET hash = ?2, signature = ?3, account = ?4 WHERE id = ?1 RETURNING number",
    )?;
    let known = update
        .query_row(params![id.as_bytes(), book.hash.0, signature, account], |row| row.get(0))
        .optional()?;
    if let Some(number) = known {
        return Ok(number);
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO authors (id, name, hardware, arch, hash, signature, account, known_since) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    insert.insert(params![
        id.as_bytes(),
        book.name.as_str(),
        book.hardware.number(),
        book.arch.as_str(),
        book.hash.0,
        signature,
        account,
        signed(book.known_since.0),
    ])
}

fn put_entries(
    transaction: &Transaction<'_>,
    author: i64,
    entries: &[Judged],
    book: &AuthorBook,
) -> rusqlite::Result<corpus::Change> {
    let mut corpus = corpus::Change::default();
    let mut put_entry = transaction.prepare_cached(
        "INSERT INTO entries (author, seq, hash, header, signature, time_ms, received_ms, \
         verdict, session, mode, coherence_ppm, weight_ppm, delta_uatp) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
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
            corpus = corpus.and(corpus::put(transaction, author, seq, content, accepted)?);
        }
    }
    Ok(corpus)
}

fn put_submission(transaction: &Transaction<'_>, key: &str, recorded: &Recorded) -> rusqlite::Result<()> {
    let verdict: Verdict = recorded.verdict;
    let mut put = transaction.prepare_cached(
        "INSERT OR REPLACE INTO submissions \
         (key, seq, verdict, coherence_ppm, delta_uatp, balance_uatp, trust_ppm) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    put.execute(params![
        key,
        signed(recorded.seq.0),
        verdict_name(verdict),
        recorded.coherence.0,
        recorded.delta.0,
        recorded.balance.0,
        recorded.trust.0,
    ])?;
    Ok(())
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
        "INSERT OR REPLACE INTO peers (id, name, addresses, seen_ms) VALUES (?1, ?2, ?3, ?4)",
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
