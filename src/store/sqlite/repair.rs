//! Repair: one author's log is walked from its start, and what of it is not what was written is put right from the rest, as
//! far as the rest says it; what only a peer can give again is listed as missing.

use rusqlite::{
    Connection, Transaction, TransactionBehavior, params, params_from_iter,
    types::{Null, Value},
};

use super::{
    super::StoreOptions,
    books, contents,
    faults::{Fault, is_damage},
    missing::{self, What},
    rows::signed,
    seal,
    walk::{Checked, Derived, Folding, Log, Step, Walk, blob, lenient, rows},
};
use crate::{
    ledger::{account::Account, types::Seq},
    log::{Body, Entry, Genesis, Hash, NodeId, Signature},
};

/// Entries of one log that may be gone altogether before the file counts as damaged: then it is the table, not rows of it.
const GAPS_MAX: usize = 1_000;

/// Where a sealed row of `entries` has its signature.
const ENTRY_SIGNATURE: usize = 4;
/// Where it has its time of arrival.
const ENTRY_RECEIVED: usize = 6;
/// Where a sealed row of `authors` has its signature.
const AUTHOR_SIGNATURE: usize = 6;
/// Where it has when its author was first heard of.
const AUTHOR_KNOWN_SINCE: usize = 8;

/// What a repair found.
#[derive(Debug, Default)]
pub(super) struct Repaired {
    /// What was not what was written, put right or not.
    pub(super) damaged: Vec<Seq>,
    gaps: usize,
    /// The end of the log and what it comes to, where nothing is missing before it.
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    genesis: Genesis,
    known_since: Value,
    hash: Hash,
    signature: Option<Signature>,
    account: Account,
}

/// Repairs the log and the account of the author with that number. Gives what was found, none where there is no such log.
pub(super) fn author(
    transaction: &Transaction<'_>,
    options: &StoreOptions,
    number: i64,
) -> Result<Repaired, Fault> {
    let known = match books::author(transaction, number, &options.policy) {
        Ok(known) => known,
        Err(fault) if fault.is_damage() => None,
        Err(fault) => return Err(fault),
    };
    let federation = options.federation;
    let log = match &known {
        Some((id, book)) => Log { federation, number, id: *id, end: Some(books::end(book)) },
        None => Log { federation, number, id: author_of(transaction, number)?, end: None },
    };
    let mut repair = Repair { transaction, options, log, found: Repaired::default() };
    repair.run()?;
    match (&repair.found.end, &known) {
        (Some(_), _) => repair.put_author()?,
        // The log can't be folded to its end before what is missing is there again; until then the account is as it was sealed.
        (None, Some(_)) => {}
        (None, None) => {
            let id = repair.log.id;
            return Err(Fault::Damaged(format!(
                "the account of {id} is lost, and its log can't give it back"
            )));
        }
    }
    Ok(repair.found)
}

/// Whose log it is, as its first entry says.
fn author_of(transaction: &Transaction<'_>, number: i64) -> Result<NodeId, Fault> {
    let first = rows(transaction, number, Seq::GENESIS, 1)?;
    first
        .first()
        .and_then(|row| blob(&row.header)?.first_chunk().copied())
        .map(NodeId::from_stored)
        .ok_or_else(|| Fault::Damaged(format!("author {number} has neither account nor log")))
}

struct Repair<'t> {
    transaction: &'t Transaction<'t>,
    options: &'t StoreOptions,
    log: Log,
    found: Repaired,
}

impl Repair<'_> {
    fn run(&mut self) -> Result<(), Fault> {
        self.drop_beyond_end()?;
        let mut listed = missing::entries(self.transaction, self.log.number)?;
        let mut folding = Some(Folding::new(&self.options.policy));
        let mut genesis = None;
        let mut last = None;
        let mut walk = Walk::new(self.transaction, self.log, Seq::GENESIS);
        while let Some(step) = walk.step()? {
            let seq = step.seq();
            let derived = step.sound().and_then(|entry| folding.as_mut()?.follow(entry).ok());
            if derived.is_none() {
                folding = None;
            }
            let is_right = self.row(&step, derived)?;
            if is_right && listed.remove(&seq) {
                missing::remove(self.transaction, self.log.number, seq, What::Entry)?;
            }
            if let Step::Row { checked, .. } = step {
                if let Some(Body::Genesis(of)) = checked.entry.as_ref().map(|entry| &entry.header().body) {
                    genesis = Some((of.clone(), checked.row.received.clone()));
                }
                last = Some(checked);
            }
        }
        let account = folding.and_then(|folding| folding.account);
        if let (Some(account), Some((genesis, known_since)), Some(last)) = (account, genesis, last) {
            let signature = last.signature(&self.options.federation);
            let hash = last.entry.map_or(Hash::ZERO, |entry| entry.hash());
            self.found.end = Some(End { genesis, known_since, hash, signature, account });
        }
        Ok(())
    }

    /// Puts one row right, or lists it. Says whether it is right now.
    fn row(&mut self, step: &Step, derived: Option<Derived>) -> Result<bool, Fault> {
        let Step::Row { checked, .. } = step else {
            self.found.gaps += 1;
            if self.found.gaps > GAPS_MAX {
                let id = self.log.id;
                return Err(Fault::Damaged(format!("more than {GAPS_MAX} entries of {id} are gone")));
            }
            return self.list(step.seq(), What::Entry).map(|()| false);
        };
        if step.sound().is_some() && !checked.content_fits {
            self.found.damaged.push(checked.row.seq);
            contents::drop_damaged(self.transaction, self.options, (self.log.number, checked.row.seq))?;
        }
        let is_right =
            checked.is_whole() && derived.as_ref().is_none_or(|derived| *derived == checked.row.derived);
        match (step.sound(), derived) {
            (Some(_), _) if is_right => Ok(true),
            (Some(entry), Some(derived)) => {
                self.found.damaged.push(checked.row.seq);
                self.rewrite(checked, entry, derived).map(|()| true)
            }
            (Some(_), None) | (None, _) => self.list(checked.row.seq, What::Entry).map(|()| false),
        }
    }

    fn list(&mut self, seq: Seq, what: What) -> Result<(), Fault> {
        self.found.damaged.push(seq);
        Ok(missing::add(self.transaction, self.log.number, seq, what)?)
    }

    /// Rows after the end are none that we wrote: their seq was damaged, and they are missing where they stood.
    fn drop_beyond_end(&self) -> Result<(), Fault> {
        let Some((last, _)) = self.log.end else { return Ok(()) };
        let sql = format!(
            "DELETE FROM entries WHERE author = ?1 AND seq > ?2 AND NOT ({})",
            seal::whole("entries", seal::ENTRIES)
        );
        again_after_reindex(self.transaction, "entries", || {
            self.transaction.execute(&sql, params![self.log.number, signed(last.0)]).map(drop)
        })
    }

    /// Writes a row again whose header is beyond doubt.
    fn rewrite(&self, checked: &Checked, entry: &Entry, derived: Derived) -> Result<(), Fault> {
        let [time, verdict, session, mode, coherence, weight, delta] = derived.0;
        let mut values = [
            Value::Integer(self.log.number),
            Value::Integer(signed(entry.seq().0)),
            Value::Blob(entry.hash().0.to_vec()),
            Value::Blob(entry.header_bytes().to_vec()),
            checked.row.signature.clone(),
            time.clone(),
            checked.row.received.clone(),
            verdict,
            session,
            mode,
            coherence,
            weight,
            delta,
        ];
        // Signature and time of arrival stand nowhere else. Where the seal does not give them back, an entry does without
        // the first (a later one covers it), and counts as received when it was written.
        if !seal::unflip("entries", &mut values, &checked.row.seal, &[ENTRY_SIGNATURE, ENTRY_RECEIVED]) {
            if checked.signature(&self.options.federation).is_none() {
                values[ENTRY_SIGNATURE] = self.end_signature(entry.seq())?;
            }
            values[ENTRY_RECEIVED] = time;
        }
        put_entry(self.transaction, &values)
    }

    /// The signature that stands beside the account, where that is the last entry's.
    fn end_signature(&self, seq: Seq) -> Result<Value, Fault> {
        if self.log.end.is_none_or(|(last, _)| last != seq) {
            return Ok(Value::Null);
        }
        let mut select =
            self.transaction.prepare_cached("SELECT signature FROM authors WHERE number = ?1")?;
        Ok(select.query_row([self.log.number], |row| row.get(0))?)
    }

    /// Writes the author's row again where it is not what the log comes to.
    fn put_author(&self) -> Result<(), Fault> {
        let Some(end) = &self.found.end else { return Ok(()) };
        let mut select = self
            .transaction
            .prepare_cached("SELECT signature, known_since, seal FROM authors WHERE number = ?1")?;
        let mut found = select.query([self.log.number])?;
        let (signature, known_since, seal) = match found.next()? {
            Some(row) => (lenient(row.get_ref(0)?), lenient(row.get_ref(1)?), lenient(row.get_ref(2)?)),
            None => (Value::Null, Value::Null, Value::Null),
        };
        drop(found);
        let mut values = [
            Value::Integer(self.log.number),
            Value::Blob(self.log.id.as_bytes().to_vec()),
            Value::Text(end.genesis.name.as_str().to_owned()),
            Value::Integer(i64::from(end.genesis.hardware.number())),
            Value::Text(end.genesis.arch.as_str().to_owned()),
            Value::Blob(end.hash.0.to_vec()),
            signature,
            Value::Blob(end.account.to_bytes()),
            known_since,
        ];
        let is_right = seal == Value::Blob(seal::of("authors", &values));
        if is_right && self.log.end.is_some() {
            return Ok(());
        }
        tracing::warn!(author = %self.log.id, "the account of an author was damaged in the store; its log gives it back");
        let is_proved = seal::unflip("authors", &mut values, &seal, &[AUTHOR_SIGNATURE, AUTHOR_KNOWN_SINCE]);
        if !is_proved && self.log.end.is_none() {
            self.check_end(end)?;
            let is_own = self.log.id == self.options.own;
            let signature = end.signature.filter(|_| !is_own);
            values[AUTHOR_SIGNATURE] =
                signature.map_or(Value::Null, |signature| Value::Blob(signature.0.to_vec()));
            values[AUTHOR_KNOWN_SINCE] = end.known_since.clone();
        }
        put_author(self.transaction, &values)
    }

    /// Whether the log's end is the one that its account had, where the account's seal no longer says so. Another's needs the
    /// signature that covers it. Our own must not have lost its end: what we signed once must never be signed anew.
    fn check_end(&self, end: &End) -> Result<(), Fault> {
        let id = self.log.id;
        if id != self.options.own {
            return match end.signature {
                Some(_) => Ok(()),
                None => Err(Fault::Damaged(format!("the signature of the last entry of {id} is lost"))),
            };
        }
        let mut select = self
            .transaction
            .prepare_cached("SELECT 1 FROM authors WHERE number = ?1 AND (hash = ?2 OR account = ?3)")?;
        if select.exists(params![self.log.number, end.hash.0, end.account.to_bytes()])? {
            return Ok(());
        }
        Err(Fault::Damaged(
            "the account of this node is lost, and nothing says where its log ended".to_owned(),
        ))
    }
}

fn put_author(transaction: &Transaction<'_>, values: &[Value]) -> Result<(), Fault> {
    again_after_reindex(transaction, "authors", || {
        let mut put = transaction.prepare_cached(
            "INSERT OR REPLACE INTO authors \
             (number, id, name, hardware, arch, hash, signature, account, known_since, seal) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, \
             seal_of('authors', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9))",
        )?;
        put.execute(params_from_iter(values)).map(drop)
    })
}

/// Writes an entry's row, sealed, over the one that stands there.
fn put_entry(transaction: &Transaction<'_>, values: &[Value]) -> Result<(), Fault> {
    again_after_reindex(transaction, "entries", || {
        let mut put = transaction.prepare_cached(
            "UPDATE entries SET hash = ?3, header = ?4, signature = ?5, time_ms = ?6, received_ms = ?7, \
             verdict = ?8, session = ?9, mode = ?10, coherence_ppm = ?11, weight_ppm = ?12, delta_uatp = ?13, \
             seal = seal_of('entries', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
             WHERE author = ?1 AND seq = ?2",
        )?;
        put.execute(params_from_iter(values)).map(drop)
    })
}

/// Writes down a header that a peer gave again. The rest of its row follows from a repair.
pub(super) fn place(transaction: &Transaction<'_>, author: i64, entry: &Entry) -> Result<(), Fault> {
    let seq = signed(entry.seq().0);
    let (hash, header) = (entry.hash().0, &entry.header_bytes()[..]);
    let time = signed(entry.header().time.0);
    again_after_reindex(transaction, "entries", || {
        // Every column is written: the library checks the type of what it keeps, and a damaged one may have another. What is of its
        // type stays, because the seal may prove it right again.
        let mut put = transaction.prepare_cached(
            "INSERT INTO entries (author, seq, hash, header, time_ms, received_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?5) \
             ON CONFLICT (author, seq) DO UPDATE SET hash = excluded.hash, header = excluded.header, \
             time_ms = excluded.time_ms, verdict = ?6, session = ?6, mode = ?6, coherence_ppm = ?6, weight_ppm = ?6, \
             delta_uatp = ?6, signature = iif(typeof(signature) = 'blob', signature, ?6), \
             received_ms = iif(typeof(received_ms) = 'integer', received_ms, ?5), \
             seal = iif(typeof(seal) = 'blob', seal, ?6)",
        )?;
        put.execute(params![author, seq, hash, header, time, Null]).map(drop)
    })
}

/// Lists what a reader found damaged, where it still is.
pub(super) fn quarantine(
    connection: &mut Connection,
    options: &StoreOptions,
    author: NodeId,
    found: &[Seq],
) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(number) = books::number(&transaction, author)? else { return Ok(()) };
    for seq in found {
        let row = rows(&transaction, number, *seq, 1)?.into_iter().find(|row| row.seq == *seq);
        let checked = row.map(|row| Checked::of(&options.federation, author, row));
        if !checked.as_ref().is_some_and(Checked::is_whole) {
            tracing::warn!(%author, %seq, "an entry is damaged in the store; it is to be fetched again");
            missing::add(&transaction, number, *seq, What::Entry)?;
        } else if !checked.is_some_and(|checked| checked.content_fits) {
            tracing::warn!(%author, %seq, "a content is damaged in the store; it is to be fetched again");
            contents::drop_damaged(&transaction, options, (number, *seq))?;
        }
    }
    missing::forget_surplus(&transaction)?;
    Ok(transaction.commit()?)
}

/// Runs a change; where an index contradicts its table, once more after the index was made anew. The table is right: its rows
/// are those that have seals.
pub(super) fn again_after_reindex(
    transaction: &Transaction<'_>,
    table: &str,
    change: impl Fn() -> rusqlite::Result<()>,
) -> Result<(), Fault> {
    match change() {
        Err(error) if is_damage(&error) => {
            transaction.execute_batch(&format!("REINDEX {table}"))?;
            Ok(change()?)
        }
        done => Ok(done?),
    }
}
