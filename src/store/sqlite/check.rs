//! What the database library says of its own file: whether pages, tables and indexes agree.

use rusqlite::Connection;

use super::faults::Fault;

/// Tables that are bounded, and so can be looked through whenever a store is opened.
const SMALL: [&str; 5] = ["meta", "authors", "peers", "submissions", "missing"];

/// Looks through the small tables, whose rows everything else hangs on. Takes no longer where the log is longer.
pub(super) fn small_tables(writer: &mut Connection) -> Result<(), Fault> {
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

/// Makes the indexes anew, because rows have seals and indexes have none. What still contradicts itself then is refused.
pub(super) fn mend(writer: &mut Connection, table: Option<&str>) -> Result<(), Fault> {
    tracing::warn!(table, "an index of the store is damaged; indexes are made anew");
    // The words of accepted contents too: `corpus::index_all(writer)?;`
    match writer.execute_batch(&format!("REINDEX {}", table.unwrap_or_default())) {
        Err(error) => Err(Fault::Damaged(error.to_string())),
        Ok(()) => match faults(writer, table)?.into_iter().next() {
            Some(fault) => Err(Fault::Damaged(fault)),
            None => Ok(()),
        },
    }
}
