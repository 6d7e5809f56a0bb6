//! Healing the books: rows that are damaged are built again from the log where that says what they were, and dropped where
//! a node does without them.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params, types::Value};

use super::{
    super::StoreOptions, books, convictions, faults::Fault, meta, missing, repair, rows::Columns, schema,
    seal, walk::lenient,
};

/// Puts right what can be. What can't be is refused: by an error, or by the next load.
pub(super) fn books(connection: &mut Connection, options: &StoreOptions) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    authors(&transaction, options)?;
    meta_rows(&transaction, options)?;
    drop_unreadable(&transaction, "peers", "id", books::PEERS, |columns| books::peer(columns).map(drop))?;
    drop_unreadable(&transaction, "submissions", "number", books::SUBMISSIONS, |columns| {
        books::submission(columns).map(drop)
    })?;
    drop_unreadable(&transaction, "faults", "id", convictions::FAULTS, |columns| {
        convictions::fault(columns).map(drop)
    })?;
    if missing::forget_impossible(&transaction)? > 0 {
        tracing::warn!(
            "the list of what is missing was damaged in the store; it is made anew as damage is found"
        );
    }
    missing::forget_surplus(&transaction)?;
    Ok(transaction.commit()?)
}

fn authors(transaction: &Transaction<'_>, options: &StoreOptions) -> Result<(), Fault> {
    for number in books::numbers(transaction)? {
        let is_right = match books::author(transaction, number, &options.policy) {
            Ok(Some((_, book))) => books::ends_there(transaction, number, &book)?,
            Ok(None) => drop_stray(transaction, number)?,
            Err(fault) if fault.is_damage() => false,
            Err(fault) => return Err(fault),
        };
        if !is_right {
            let repaired = repair::author(transaction, options, number)?;
            tracing::warn!(
                author = number,
                damaged = repaired.damaged.len(),
                "a log of the store was repaired"
            );
        }
    }
    Ok(())
}

/// Drops rows of a log that has no account, where none of them is one that we wrote: the author in them was damaged. Says whether
/// they were such.
fn drop_stray(transaction: &Transaction<'_>, number: i64) -> Result<bool, Fault> {
    let whole = seal::whole("entries", seal::ENTRIES);
    let sql = format!("SELECT EXISTS (SELECT 1 FROM entries WHERE author = ?1 AND {whole})");
    let is_log: bool = transaction.query_row(&sql, [number], |row| row.get(0))?;
    if !is_log {
        repair::again_after_reindex(transaction, "entries", || {
            transaction.execute("DELETE FROM entries WHERE author = ?1", [number]).map(drop)
        })?;
    }
    Ok(!is_log)
}

/// Puts values right whose seal says what they were, and writes again what we know anyway. The newest time is that of our own last entry; we never wrote a later one.
fn meta_rows(transaction: &Transaction<'_>, options: &StoreOptions) -> Result<(), Fault> {
    let sql = format!("SELECT key, value, seal FROM meta WHERE NOT ({})", seal::whole("meta", seal::META));
    let mut select = transaction.prepare(&sql)?;
    let mut rows = select.query([])?;
    let mut damaged = vec![];
    while let Some(row) = rows.next()? {
        damaged.push([lenient(row.get_ref(0)?), lenient(row.get_ref(1)?), lenient(row.get_ref(2)?)]);
    }
    for [key, value, seal] in damaged {
        let sealed_as = meta::KEYS.into_iter().find(|known| {
            let row = [Value::Text((*known).to_owned()), value.clone()];
            seal == Value::Blob(seal::of("meta", &row))
        });
        transaction.execute("DELETE FROM meta WHERE key = ?1", [&key])?;
        let mut row = [sealed_as.map_or(key, |known| Value::Text(known.to_owned())), value];
        let is_healed = seal::unflip("meta", &mut row, &seal, &[1]);
        match row {
            [Value::Text(key), Value::Blob(value)] if is_healed => meta::put(transaction, &key, &value)?,
            [Value::Text(key), _] => meta_row(transaction, options, &key)?,
            [Value::Null | Value::Integer(_) | Value::Real(_) | Value::Blob(_), _] => {
                return Err(Fault::Damaged("what the store says of itself".to_owned()));
            }
        }
    }
    Ok(())
}

fn meta_row(transaction: &Transaction<'_>, options: &StoreOptions, key: &str) -> Result<(), Fault> {
    tracing::warn!(key = %key.escape_debug(), "a value of the store was damaged; it is set anew");
    match key {
        // The store was opened with these.
        meta::FEDERATION => meta::put(transaction, key, &options.federation.0)?,
        meta::NODE => meta::put(transaction, key, options.own.as_bytes())?,
        meta::POLICY => meta::put(transaction, key, &options.policy.to_bytes())?,
        meta::SCHEMA => meta::put(transaction, key, &schema::digest(transaction)?)?,
        meta::RESTORED => meta::put(transaction, key, &[1])?,
        // What is missing is counted anew.
        meta::CORPUS_THOUGHTS | meta::CORPUS_BYTES => {}
        meta::NEWEST_TIME => {
            let own: Option<i64> = transaction
                .query_row(
                    "SELECT time_ms FROM entries WHERE author = (SELECT number FROM authors WHERE id = ?1) \
                     ORDER BY seq DESC LIMIT 1",
                    params![options.own.as_bytes()],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(time) = own {
                meta::put(transaction, key, &time.to_be_bytes())?;
            }
        }
        _ => return Err(Fault::Damaged("what the store says of itself".to_owned())),
    }
    Ok(())
}

/// Drops the rows of a table that `read` can't read. Known peers are met again, and a submission that is repeated is then recorded
/// again: better than a wrong answer.
fn drop_unreadable(
    transaction: &Transaction<'_>,
    table: &str,
    key: &str,
    (seal, columns): (&str, &str),
    read: impl Fn(&mut Columns<'_, '_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let sql = format!("SELECT {}, {columns}, {key} AS key_ FROM {table}", seal::whole(table, seal));
    let mut select = transaction.prepare(&sql)?;
    let mut rows = select.query([])?;
    let mut damaged = vec![];
    while let Some(row) = rows.next()? {
        if read(&mut Columns::of(row)).is_err() {
            damaged.push(lenient(row.get_ref("key_")?));
        }
    }
    for value in damaged {
        tracing::warn!(table, "a row of the store was damaged; it is dropped");
        repair::again_after_reindex(transaction, table, || {
            transaction.execute(&format!("DELETE FROM {table} WHERE {key} = ?1"), [&value]).map(drop)
        })?;
    }
    Ok(())
}
