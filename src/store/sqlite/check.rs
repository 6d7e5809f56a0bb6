//! What the database library says of its own file: whether pages, tables and indexes agree.

use rusqlite::{Connection, TransactionBehavior};

use super::{super::StoreOptions, contents, corpus, faults::Fault};

/// Tables that are bounded, and so can be looked through whenever a store is opened.
const SMALL: [&str; 5] = ["meta", "authors", "peers", "submissions", "missing"];

/// Looks through the small tables, whose rows everything else hangs on. Takes no longer where the log is longer.
pub(super) fn small_tables(writer: &Connection) -> Result<(), Fault> {
    for table in SMALL {
        if !faults(writer, Some(table))?.is_empty() {
            mend(writer, Some(table))?;
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

/// Makes indexes anew, because rows have seals and indexes have none. What still contradicts itself then is refused.
fn mend(writer: &Connection, table: Option<&str>) -> Result<(), Fault> {
    tracing::warn!(table, "an index of the store is damaged; it is made anew");
    let made = writer.execute_batch(&format!("REINDEX {}", table.unwrap_or_default()));
    made.map_err(|error| Fault::Damaged(error.to_string()))?;
    match faults(writer, table)?.into_iter().next() {
        Some(fault) => Err(Fault::Damaged(fault)),
        None => Ok(()),
    }
}

/// Makes all indexes anew, that of contents with care, in one transaction.
pub(super) fn mend_all(writer: &mut Connection, options: &StoreOptions) -> Result<(), Fault> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    contents::reconcile(&transaction, options)?;
    corpus::index_all(&transaction)?;
    mend(&transaction, None)?;
    Ok(transaction.commit()?)
}
