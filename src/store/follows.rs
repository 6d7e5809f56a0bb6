//! What every store checks before it keeps entries, whatever it is made of.

use super::StoreError;
use crate::{
    ledger::types::Seq,
    log::{
        NodeId,
        books::{AuthorBook, Judged},
    },
};

/// Whether those entries and the book after them continue a log whose last stored entry is `last`.
pub(super) fn check(
    author: NodeId,
    last: Option<Seq>,
    entries: &[Judged],
    book: &AuthorBook,
) -> Result<(), StoreError> {
    let mut wanted = last.map_or(Seq::GENESIS, Seq::next);
    for judged in entries {
        let (of, found) = (judged.entry.author(), judged.entry.seq());
        if of != author || found != wanted {
            return Err(StoreError::DoesNotFollow { author: of, found, wanted });
        }
        wanted = wanted.next();
    }
    let found = book.seq().next();
    if entries.is_empty() || found != wanted {
        return Err(StoreError::DoesNotFollow { author, found, wanted });
    }
    Ok(())
}
