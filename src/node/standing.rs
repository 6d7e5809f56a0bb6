//! Standing: what a start makes of the sign mark and the store, before anything is signed. Source: protocol.md, The log.

use crate::{
    ledger::types::Seq,
    log::{NodeId, books::Books},
    protocol::recovery::{Doubt, Standing},
    store::sign_mark::{FoundMark, Mark},
};

/// What is known of our own log beside the books.
#[must_use]
pub fn of(found: FoundMark, books: &Books, own: NodeId) -> Standing {
    let end = books.authors.get(&own).map(|book| (book.seq(), book.hash));
    let (mark, doubt) = match found {
        FoundMark::Here(mark) => (Some(mark), of_mark(&mark)),
        FoundMark::Copied(mark) => (Some(mark), Some(Doubt::Copied)),
        FoundMark::New => return Standing::default(),
        // A log that was begun before there were marks, and that nobody was told of.
        FoundMark::Nothing if end.is_some() && books.peers.is_empty() => (None, None),
        FoundMark::Nothing | FoundMark::Damaged => (None, Some(Doubt::MarkLost)),
    };
    // One ahead of the log, where commits are not synced, says nothing about what was signed.
    let exact = mark.filter(|mark| mark.hash.is_some()).and_then(|mark| mark.through.zip(mark.hash));
    let is_other = exact.is_some_and(|mark| end.is_some_and(|end| end.0 == mark.0 && end.1 != mark.1));
    let doubt = match books.restored || is_other {
        true => Some(Doubt::Restored),
        false => doubt,
    };
    // One that is ahead says at least that the log was begun.
    let begun = mark.and_then(|mark| mark.through).map(|_| Seq::GENESIS);
    let through = exact.map(|(seq, _)| seq).or(begun);
    // Where nobody was ever met, nobody has more of this log than we.
    let alone = mark.is_some_and(|mark| !mark.met) && doubt != Some(Doubt::Copied);
    match alone {
        true => Standing::default(),
        false => Standing { through, doubt, write_without_peers: false },
    }
}

const fn of_mark(mark: &Mark) -> Option<Doubt> {
    let is_ahead = mark.hash.is_none() && mark.through.is_some();
    if is_ahead && !mark.stopped { Some(Doubt::UncleanStop) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{
            account::Account,
            policy::Policy,
            types::{Level, Millis},
        },
        log::{Hardware, Hash, books::AuthorBook},
    };

    const OWN: [u8; 32] = [1; 32];

    fn books(end: Option<u64>) -> Books {
        let own = NodeId::from_stored(OWN);
        let mut books = Books::default();
        if let Some(end) = end {
            let mut account = Account::open(&Policy::default(), Level::MAX, Millis(1));
            account.seq = Seq(end);
            let book = AuthorBook {
                name: "legion".parse().unwrap(),
                hardware: Hardware::Software,
                arch: "x86_64".parse().unwrap(),
                hash: Hash([7; 32]),
                signature: None,
                account,
                known_since: Millis(1),
            };
            books.authors.insert(own, book);
        }
        books
    }

    fn standing(found: FoundMark, books: &Books) -> (Option<u64>, Option<Doubt>) {
        let standing = of(found, books, NodeId::from_stored(OWN));
        (standing.through.map(|seq| seq.0), standing.doubt)
    }

    fn mark(through: Option<u64>, hash: Option<u8>) -> Mark {
        Mark { through: through.map(Seq), hash: hash.map(|hash| Hash([hash; 32])), stopped: false, met: true }
    }

    #[test]
    fn a_synced_log_is_in_no_doubt_however_the_node_ended() {
        assert_eq!(standing(FoundMark::New, &books(None)), (None, None), "a new node");
        let exact = mark(Some(5), Some(7));
        assert_eq!(standing(FoundMark::Here(exact), &books(Some(5))), (Some(5), None));
        assert_eq!(
            standing(FoundMark::Here(exact), &books(Some(9))),
            (Some(5), None),
            "the mark lags behind"
        );
    }

    #[test]
    fn whatever_may_have_lost_entries_is_a_doubt() {
        let exact = mark(Some(5), Some(7));
        assert_eq!(standing(FoundMark::Copied(exact), &books(Some(5))), (Some(5), Some(Doubt::Copied)));
        let ahead = mark(Some(1_000), None);
        assert_eq!(standing(FoundMark::Here(ahead), &books(Some(5))), (Some(0), Some(Doubt::UncleanStop)));
        assert_eq!(standing(FoundMark::Damaged, &books(Some(5))).1, Some(Doubt::MarkLost));
        let emptied = standing(FoundMark::Nothing, &books(None)).1;
        assert_eq!(emptied, Some(Doubt::MarkLost), "a key whose store and mark are gone");
        let restored = Books { restored: true, ..books(Some(5)) };
        assert_eq!(standing(FoundMark::Here(exact), &restored).1, Some(Doubt::Restored));
        let other = mark(Some(5), Some(8));
        assert_eq!(standing(FoundMark::Here(other), &books(Some(5))).1, Some(Doubt::Restored));
    }

    #[test]
    fn a_node_that_never_met_anyone_has_nobody_to_ask() {
        let alone = Mark { met: false, ..mark(Some(1_000), None) };
        assert_eq!(standing(FoundMark::Here(alone), &books(Some(5))), (None, None));
        assert_eq!(standing(FoundMark::Copied(alone), &books(Some(5))).1, Some(Doubt::Copied));
    }
}
