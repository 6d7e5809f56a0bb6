//! The corpus: contents, their full-text index, how large they are, and what is let go when there are too many.
//!
//! Every content that comes or goes passes through here, so that index and totals are those of the contents that are
//! kept, after each commit.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{
    super::{CorpusSize, Pruned, SearchWords, pruning::Kept},
    faults::Fault,
    meta,
    rows::{Columns, signed},
};
use crate::ledger::{
    coherence::is_cjk,
    types::{Ppm, Seq},
};

/// Contents that one transaction lets go: some milliseconds, so that commits in between don't wait longer.
pub(super) const LET_GO_AT_ONCE: usize = 256;

/// By how much the corpus grew or shrank; [`Change::settle`] writes it down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the totals are wrong where it is not settled"]
pub(super) struct Change {
    thoughts: i64,
    bytes: i64,
}

impl Change {
    /// Both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            thoughts: self.thoughts.saturating_add(other.thoughts),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// Counts it into the totals, once a transaction, whatever it kept and let go; gives them as they will be.
    pub(super) fn settle(self, transaction: &Transaction<'_>) -> rusqlite::Result<CorpusSize> {
        let Some(before) = size(transaction)? else {
            return recount(transaction);
        };
        let after = CorpusSize {
            thoughts: before.thoughts.saturating_add_signed(self.thoughts),
            bytes: before.bytes.saturating_add_signed(self.bytes),
        };
        if after != before {
            put_size(transaction, after)?;
        }
        Ok(after)
    }
}

/// Keeps a content. That of an accepted thought can be searched for.
#[expect(clippy::fn_params_excessive_bools, reason = "it says which row it is, not what to do")]
pub(super) fn put(
    transaction: &Transaction<'_>,
    author: i64,
    seq: i64,
    content: &[u8],
    accepted: bool,
) -> rusqlite::Result<Change> {
    let mut put =
        transaction.prepare_cached("INSERT INTO contents (author, seq, content) VALUES (?1, ?2, ?3)")?;
    let number = put.insert(params![author, seq, content])?;
    if accepted {
        put_words(transaction, number, content)?;
    }
    Ok(Change { thoughts: i64::from(accepted), bytes: length(content.len()) })
}

/// Lets a content go, where it is kept.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    author: i64,
    seq: i64,
) -> rusqlite::Result<Option<Change>> {
    let mut find = transaction
        .prepare_cached("SELECT number, length(content) FROM contents WHERE author = ?1 AND seq = ?2")?;
    let found = find.query_row([author, seq], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((number, bytes)): Option<(i64, i64)> = found else {
        return Ok(None);
    };
    // By its number and without RETURNING: at each savepoint the full-text index is written out, as `writing::put_author` says.
    transaction.prepare_cached("DELETE FROM contents WHERE number = ?1")?.execute([number])?;
    let mut is_accepted = transaction
        .prepare_cached("SELECT verdict IS 'accepted' FROM entries WHERE author = ?1 AND seq = ?2")?;
    let accepted: bool = is_accepted.query_row([author, seq], |row| row.get(0)).optional()?.unwrap_or(false);
    if accepted {
        transaction.prepare_cached("DELETE FROM words WHERE rowid = ?1")?.execute([number])?;
    }
    Ok(Some(Change { thoughts: -i64::from(accepted), bytes: bytes.saturating_neg() }))
}

/// How many accepted contents are kept, and how many can be searched: the same, where the index is whole.
pub(super) fn searchable(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM contents JOIN entries ON entries.author = contents.author \
         AND entries.seq = contents.seq WHERE verdict = 'accepted'), (SELECT count(*) FROM words)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Makes the full-text index and the totals again, from the contents that are kept: after a migration, or where they were damaged.
pub(super) fn index_all(transaction: &Transaction<'_>) -> rusqlite::Result<CorpusSize> {
    transaction.execute("INSERT INTO words (words) VALUES ('delete-all')", [])?;
    let mut select = transaction.prepare(
        "SELECT contents.number, content FROM contents JOIN entries \
         ON entries.author = contents.author AND entries.seq = contents.seq \
         WHERE verdict = 'accepted' ORDER BY contents.number",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        put_words(transaction, row.get(0)?, row.get_ref(1)?.as_blob()?)?;
    }
    recount(transaction)
}

fn put_words(transaction: &Transaction<'_>, number: i64, content: &[u8]) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached("INSERT INTO words (rowid, content) VALUES (?1, ?2)")?;
    put.execute(params![number, set_apart(&String::from_utf8_lossy(content))]).map(drop)
}

/// Texts without spaces between words would be one word for the index: each scalar of theirs becomes one by itself.
fn set_apart(text: &str) -> Cow<'_, str> {
    // Most texts have none, and every content that comes in is looked through.
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut apart = String::with_capacity(text.len());
    for scalar in text.chars() {
        if is_cjk(scalar) {
            apart.extend([' ', scalar, ' ']);
        } else {
            apart.push(scalar);
        }
    }
    Cow::Owned(apart)
}

/// What the index is asked: every word quoted, so that nothing in it is syntax, and all of them to be found. A word that
/// the index takes apart (several CJK scalars, `don't`) is a phrase.
pub(super) fn match_of(search: &SearchWords) -> String {
    let quoted = |word: &String| {
        // The library reads the question to its first NUL.
        let word = set_apart(&word.replace('\0', " ")).replace('"', "\"\"");
        format!("\"{word}\"")
    };
    search.words().iter().map(quoted).collect::<Vec<_>>().join(" AND ")
}

/// Whether at most so many contents have the words; it looks at no more than that.
pub(super) fn is_in_at_most(
    connection: &Connection,
    search: &SearchWords,
    most: u64,
) -> rusqlite::Result<bool> {
    let mut count = connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ?1 LIMIT ?2)")?;
    let limit = i64::try_from(most.saturating_add(1)).unwrap_or(i64::MAX);
    let found: i64 = count.query_row(params![match_of(search), limit], |row| row.get(0))?;
    Ok(found < limit)
}

/// The totals; `None` where they were never counted.
pub(super) fn size(connection: &Connection) -> rusqlite::Result<Option<CorpusSize>> {
    let totals =
        (meta::number(connection, meta::CORPUS_THOUGHTS)?, meta::number(connection, meta::CORPUS_BYTES)?);
    let (Some(thoughts), Some(bytes)) = totals else {
        return Ok(None);
    };
    Ok(Some(CorpusSize { thoughts, bytes }))
}

/// Counts what is kept, and writes it down, in a transaction of its own.
pub(super) fn count(connection: &mut Connection) -> Result<CorpusSize, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let size = recount(&transaction)?;
    transaction.commit()?;
    Ok(size)
}

/// Counts what is kept, and writes it down.
pub(super) fn recount(transaction: &Transaction<'_>) -> rusqlite::Result<CorpusSize> {
    let counted = "SELECT count(*) FILTER (WHERE verdict = 'accepted'), coalesce(sum(length(content)), 0) \
         FROM contents JOIN entries ON entries.author = contents.author AND entries.seq = contents.seq";
    let size = transaction.query_row(counted, [], |row| {
        let mut columns = Columns::of(row);
        Ok(CorpusSize { thoughts: columns.u64()?, bytes: columns.u64()? })
    })?;
    put_size(transaction, size)?;
    Ok(size)
}

fn put_size(transaction: &Transaction<'_>, size: CorpusSize) -> rusqlite::Result<()> {
    meta::put_number(transaction, meta::CORPUS_THOUGHTS, size.thoughts)?;
    meta::put_number(transaction, meta::CORPUS_BYTES, size.bytes)
}

/// Whose content it is. Authors are compared by the order of their ids, so that all stores let go of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    rank: i64,
    seq: Seq,
    author: i64,
}

/// Every content that is kept.
pub(super) fn kept(connection: &Connection) -> Result<Vec<Kept<Place>>, Fault> {
    let mut select = connection.prepare_cached(
        "WITH ranked AS MATERIALIZED (SELECT number, row_number() OVER (ORDER BY id) AS rank FROM authors) \
         SELECT ranked.rank, contents.seq, contents.author, time_ms, length(content), \
         iif(verdict = 'accepted', coherence_ppm, NULL) \
         FROM contents CROSS JOIN entries ON entries.author = contents.author AND entries.seq = contents.seq \
         CROSS JOIN ranked ON ranked.number = contents.author",
    )?;
    let mut rows = select.query([])?;
    let mut kept = vec![];
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let which = Place { rank: columns.take()?, seq: columns.seq()?, author: columns.take()? };
        kept.push(Kept {
            which,
            time: columns.millis()?,
            bytes: columns.u64()?,
            coherence: columns.take::<Option<u32>>()?.map(Ppm),
        });
    }
    Ok(kept)
}

/// Lets those contents go, in one transaction.
pub(super) fn let_go(
    connection: &mut Connection,
    contents: &[Kept<Place>],
) -> Result<(Pruned, CorpusSize), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut change = Change::default();
    let mut pruned = Pruned::default();
    for content in contents {
        let place = content.which;
        if let Some(removed) = remove(&transaction, place.author, signed(place.seq.0))? {
            pruned.contents = pruned.contents.saturating_add(1);
            pruned.bytes = pruned.bytes.saturating_add(removed.bytes.unsigned_abs());
            change = change.and(removed);
        }
    }
    let size = change.settle(&transaction)?;
    transaction.commit()?;
    Ok((pruned, size))
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::StoreOptions, schema},
        *,
    };
    use crate::{
        ledger::policy::Policy,
        log::{FederationId, NodeId},
    };

    /// An author with those thoughts, every content kept; the ones at odd places were rejected.
    fn corpus(contents: &[&str]) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::configure_reader(&connection).unwrap();
        let own = NodeId::from_stored([1; 32]);
        let options = StoreOptions::new(FederationId([7; 32]), own, Policy::default());
        schema::migrate(&mut connection, 0, &options).unwrap();
        let transaction = connection.transaction().unwrap();
        transaction
            .execute(
                "INSERT INTO authors (number, id, name, hardware, arch, hash, account, known_since) \
                 VALUES (1, zeroblob(32), 'legion', 0, 'x86_64', zeroblob(32), x'', 0)",
                [],
            )
            .unwrap();
        let mut change = Change::default();
        for (seq, content) in (0..).zip(contents) {
            let accepted = seq % 2 == 0;
            let verdict = if accepted { "accepted" } else { "spam" };
            transaction
                .execute(
                    "INSERT INTO entries (author, seq, hash, header, time_ms, received_ms, verdict, coherence_ppm) \
                     VALUES (1, ?1, zeroblob(32), x'', ?1, ?1, ?2, 500000)",
                    params![seq, verdict],
                )
                .unwrap();
            change = change.and(put(&transaction, 1, seq, content.as_bytes(), accepted).unwrap());
        }
        change.settle(&transaction).unwrap();
        transaction.commit().unwrap();
        connection
    }

    fn found(connection: &Connection, typed: &str) -> Vec<i64> {
        let mut select = connection
            .prepare("SELECT seq FROM words JOIN contents ON number = words.rowid WHERE words MATCH ?1")
            .unwrap();
        let asked = match_of(&typed.parse().unwrap());
        select.query_map([asked], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn words_are_found_whatever_their_case_accents_and_script() {
        let connection =
            corpus(&["Ça va? DON'T panic, 意識の流れ emerges", "don't 意識", "意 in 識", "서울 GPU意識"]);
        for (typed, seqs) in [
            ("ca VA", &[0][..]),
            ("don't", &[0]),
            ("t don", &[0]),
            ("意識", &[0]),
            ("識", &[0, 2]),
            ("流意", &[]),
            ("流れ 意識 panic", &[0]),
            ("panic missing", &[]),
            ("pan", &[]),
        ] {
            assert_eq!(found(&connection, typed), seqs, "{typed}");
        }
    }

    #[test]
    fn nothing_that_is_typed_is_syntax() {
        let connection = corpus(&["plain words and (nothing) else"]);
        for typed in [
            "\"",
            "a\"b",
            "\"\"a",
            "AND",
            "a OR",
            "NOT a",
            "NEAR(a b)",
            "content:a",
            "^a",
            "a*",
            "a + b",
            "{a b}",
            "-a",
            "(a",
            "a)",
            "'a",
            "a;--",
            "a\0b",
            "\0a",
            "\u{24b6}",
            "\u{0903}",
            "!a",
            "#a",
            "a.b.c",
        ] {
            // Signs alone are no search.
            if let Ok(search) = typed.parse() {
                let asked = match_of(&search);
                let answer = connection.query_row(
                    "SELECT count(*) FROM words WHERE words MATCH ?1",
                    [&asked],
                    |row| row.get::<_, i64>(0),
                );
                assert!(answer.is_ok(), "{typed:?} became {asked:?}: {answer:?}");
            }
        }
        assert_eq!(found(&connection, "words AND"), [0], "`AND` is a word");
        assert_eq!(found(&connection, "plain NOT else"), [0_i64; 0]);
        assert_eq!(found(&connection, "word*"), [0_i64; 0]);
    }

    #[test]
    fn what_is_removed_is_found_no_more_and_what_is_indexed_again_is_found_again() {
        let mut connection = corpus(&["one thought", "rejected thought", "another thought"]);
        assert_eq!(size(&connection).unwrap(), Some(CorpusSize { thoughts: 2, bytes: 42 }));
        let transaction = connection.transaction().unwrap();
        let gone = remove(&transaction, 1, 0).unwrap().unwrap();
        assert_eq!(remove(&transaction, 1, 0).unwrap(), None, "it is gone");
        let gone = gone.and(remove(&transaction, 1, 1).unwrap().unwrap());
        assert_eq!(gone.settle(&transaction).unwrap(), CorpusSize { thoughts: 1, bytes: 15 });
        transaction.commit().unwrap();
        assert_eq!(found(&connection, "thought"), [2]);
        connection.execute("DELETE FROM words", []).unwrap();
        connection.execute("DELETE FROM meta WHERE key = 'corpus_bytes'", []).unwrap();
        let transaction = connection.transaction().unwrap();
        assert_eq!(index_all(&transaction).unwrap(), CorpusSize { thoughts: 1, bytes: 15 });
        transaction.commit().unwrap();
        assert_eq!(found(&connection, "thought"), [2]);
        assert_eq!(size(&connection).unwrap(), Some(CorpusSize { thoughts: 1, bytes: 15 }));
    }
}
