//! What the database library says of its own file: whether pages, tables and indexes agree.

use rusqlite::{Connection, TransactionBehavior};

use super::{super::StoreOptions, books, contents, corpus, faults::Fault, missing, repair};

/// Tables that are bounded, and so can be looked through whenever a store is opened.
const SMALL: [&str; 6] = ["meta", "authors", "peers", "submissions", "missing", "faults"];

/// Looks through the small tables, whose rows everything else hangs on. Takes no longer where the log is longer.
pub(super) fn small_tables(writer: &Connection) -> Result<(), Fault> {
    for table in SMALL {
        if !faults(writer, Some(table))?.is_empty() {
            reindex(writer, table)?;
        }
    }
    Ok(())
}

/// The first contradictions that the library finds in a table and its indexes, or in the whole file.
pub(super) fn faults(connection: &Connection, table: Option<&str>) -> Result<Vec<String>, Fault> {
    let sql = match table {
        Some(table) => format!("PRAGMA integrity_check({table})"),
        None => format!("PRAGMA integrity_check({FAULTS_MAX})"),
    };
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([])?;
    let mut faults = vec![];
    while let Some(row) = rows.next()? {
        let fault: String = row.get(0)?;
        if fault != "ok" {
            faults.push(fault);
        }
    }
    Ok(faults)
}

/// Contradictions that are told of one file: the first says that there is damage, a few more where.
const FAULTS_MAX: usize = 20;

/// Makes a table's indexes anew, because rows have seals and indexes have none. What still contradicts itself then is refused.
fn reindex(writer: &Connection, table: &str) -> Result<(), Fault> {
    tracing::warn!(table, "an index of the store is damaged; it is made anew");
    let made = writer.execute_batch(&format!("REINDEX {table}"));
    made.map_err(|error| Fault::Damaged(error.to_string()))?;
    first_is_refused(faults(writer, Some(table))?)
}

fn first_is_refused(faults: Vec<String>) -> Result<(), Fault> {
    faults.into_iter().next().map_or(Ok(()), |fault| Err(Fault::Damaged(fault)))
}

/// What the library keeps of a full-text index that has no settings of ours.
const WORDS_VERSION: &str =
    "DELETE FROM words_config; INSERT INTO words_config (k, v) VALUES ('version', 4);";

/// Mends the whole file: first its indexes, that of contents with care; where pages contradict each other still, all of it is
/// written anew from the rows that can be read. Then every log is looked through for what was lost on the way.
pub(super) fn mend_all(writer: &mut Connection, options: &StoreOptions) -> Result<(), Fault> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Without its version the full-text index can't even be made anew.
    transaction.execute_batch(WORDS_VERSION)?;
    contents::reconcile(&transaction, options)?;
    corpus::index_all(&transaction)?;
    transaction.execute_batch("REINDEX")?;
    transaction.commit()?;
    if !faults(writer, None)?.is_empty() {
        tracing::warn!("the store's file is damaged; it is written anew from what can be read of it");
        writer.execute_batch("VACUUM")?;
        first_is_refused(faults(writer, None)?)?;
    }
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for number in books::numbers(&transaction)? {
        repair::author(&transaction, options, number)?;
    }
    missing::forget_surplus(&transaction)?;
    corpus::index_all(&transaction)?;
    Ok(transaction.commit()?)
}
