//! Scrubbing: a look through part of the log, whatever the node does meanwhile. What decays on a disk that nobody reads is
//! found while the peers still have it.

use std::collections::BTreeSet;

use rusqlite::{Connection, TransactionBehavior, params};

use super::{
    super::{Scrubbed, StoreOptions},
    books,
    faults::Fault,
    missing, repair,
    walk::{Log, Step, Walk},
};
use crate::{ledger::types::Seq, log::NodeId};

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) scrubbed: Scrubbed,
    /// The numbers of the authors whose logs are to be mended.
    pub(super) authors: BTreeSet<i64>,
}

/// See [`super::super::Store::scrub`]. Changes nothing.
pub(super) fn look(
    connection: &Connection,
    options: &StoreOptions,
    from: Option<(NodeId, Seq)>,
    rows: usize,
) -> Result<Looked, Fault> {
    let moment = connection.unchecked_transaction()?;
    let mut looked = Looked::default();
    let mut left = rows;
    for number in numbers(&moment, from)? {
        let Some((id, book)) = books::author(&moment, number, &options.policy)? else { continue };
        let first = from.filter(|(author, _)| *author == id).map_or(Seq::GENESIS, |(_, seq)| seq);
        let log = Log { federation: options.federation, number, id, end: Some(books::end(&book)) };
        let mut walk = Walk::new(&moment, log, first);
        while let Some(step) = walk.step()? {
            let seq = step.seq();
            if left == 0 {
                looked.scrubbed.next = Some((id, seq));
                return Ok(looked);
            }
            left = left.saturating_sub(1);
            if !is_right(&step) {
                looked.scrubbed.damaged.push((id, seq));
                looked.authors.insert(number);
            }
        }
    }
    Ok(looked)
}

/// The numbers of the authors from that one on, in the order of their ids.
fn numbers(connection: &Connection, from: Option<(NodeId, Seq)>) -> rusqlite::Result<Vec<i64>> {
    let from = from.map(|(id, _)| *id.as_bytes()).unwrap_or_default();
    let mut select = connection.prepare_cached("SELECT number FROM authors WHERE id >= ?1 ORDER BY id")?;
    select.query_map(params![from], |row| row.get(0))?.collect()
}

fn is_right(step: &Step) -> bool {
    match step {
        Step::Gap(_) => false,
        Step::Row { checked, .. } => step.sound().is_some() && checked.is_whole() && checked.content_fits,
    }
}

/// Mends the logs of those authors as far as they can be mended here, and lists the rest as missing.
pub(super) fn mend(
    writer: &mut Connection,
    options: &StoreOptions,
    authors: &BTreeSet<i64>,
) -> Result<(), Fault> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for number in authors {
        repair::author(&transaction, options, *number)?;
    }
    missing::forget_surplus(&transaction)?;
    Ok(transaction.commit()?)
}
