//! The corpus: what is found by its words, and what is let go when there is too much: the same in each store.

use super::*;

/// Runs a promise against each kind of store with those bounds.
fn each_bounded_store(bounds: CorpusBounds, promise: impl Fn(&dyn Store)) {
    promise(&MemoryStore::with_corpus(bounds));
    let dir = tempfile::tempdir().unwrap();
    promise(&bounded(dir.path(), bounds));
}

fn bounded(dir: &Path, corpus: CorpusBounds) -> SqliteStore {
    let options = StoreOptions::new(FEDERATION, Author::new(1).id, Policy::default());
    SqliteStore::open(&dir.join("store.db"), StoreOptions { corpus, ..options }).unwrap()
}

/// Long after every thought, so that only coherence decides.
const LATER: Millis = Millis(START + 1_000 * 86_400_000);
const TEN: CorpusBounds = CorpusBounds { thoughts_max: 10, bytes_max: 100 << 20 };

fn seqs(store: &dyn Store, query: &ThoughtQuery) -> Vec<u64> {
    store.thoughts(query).unwrap().iter().map(|row| row.seq.0).collect()
}

fn kept(store: &dyn Store) -> Vec<u64> {
    seqs(store, &ThoughtQuery { limit: 10_000, ..ThoughtQuery::default() })
}

/// A content of less coherence than [`good`] ones, and accepted nevertheless.
fn weak(number: u32) -> String {
    good(number).split_whitespace().take(7).collect::<Vec<_>>().join(" ")
}

fn bytes(records: &[Record]) -> u64 {
    let contents = records.iter().filter_map(|record| match record {
        Record::Entries { entries, .. } => entries[0].entry.content().map(|content| content.len() as u64),
        Record::Submission { .. }
        | Record::Peer { .. }
        | Record::NewestTime(_)
        | Record::Mended { .. }
        | Record::Doubted
        | Record::Recovered
        | Record::Fault { .. }
        | Record::Cover { .. }
        | Record::Cleared { .. } => None,
    });
    contents.sum()
}

#[test]
fn thoughts_are_found_by_all_their_words_and_by_everything_else_at_once() {
    each_store(|store| {
        let (mut one, mut other) = (Author::new(4), Author::new(5));
        let mut records = vec![one.next(""), other.next("")];
        for number in 0..6 {
            records.push(one.next(&good(number)));
            records.push(other.next("measured spam"));
        }
        records.push(other.next(&good(1)));
        store.commit(&records).unwrap();
        let ask =
            |words: &str| ThoughtQuery { search: Some(words.parse().unwrap()), ..ThoughtQuery::default() };
        assert_eq!(
            seqs(store, &ask("MEASURED latency")),
            [1, 2, 3, 4, 5, 6, 7],
            "rejected ones are not in the corpus"
        );
        assert_eq!(seqs(store, &ask("tagb")), [2, 7]);
        assert_eq!(seqs(store, &ask("tagb missing")), [0_u64; 0]);
        assert_eq!(seqs(store, &ThoughtQuery { limit: 2, ..ask("evidence") }), [6, 7], "the newest of them");
        assert_eq!(seqs(store, &ThoughtQuery { author: Some(other.id), ..ask("evidence") }), [7]);
        assert_eq!(
            seqs(store, &ThoughtQuery { session: Some("odd".parse().unwrap()), ..ask("evidence") }),
            [1, 3, 5, 7]
        );
        let since = ThoughtQuery { since: Some(Millis(START + 50_000)), ..ask("evidence") };
        assert_eq!(seqs(store, &since), [5, 6, 7]);
    });
}

#[test]
fn a_corpus_that_is_nine_tenths_full_is_pruned_to_seven_by_priority() {
    each_bounded_store(TEN, |store| {
        let mut author = Author::new(1);
        let mut records = vec![author.next("")];
        for number in 0..8 {
            records.push(author.next(&if number % 4 == 2 { weak(number) } else { good(number) }));
        }
        store.commit(&records).unwrap();
        assert_eq!(store.corpus(), CorpusSize { thoughts: 8, bytes: bytes(&records) });
        assert_eq!(store.prune(LATER).unwrap(), Pruned::default(), "eight of ten are not too many");
        let last = author.next(&good(8));
        store.commit(std::slice::from_ref(&last)).unwrap();
        let pruned = store.prune(LATER).unwrap();
        assert_eq!(kept(store), [1, 2, 4, 5, 6, 8, 9], "the weak ones went");
        assert_eq!(pruned.contents, 2);
        let left = bytes(&records) + bytes(&[last]) - pruned.bytes;
        assert_eq!(store.corpus(), CorpusSize { thoughts: 7, bytes: left });
        assert_eq!(store.prune(LATER).unwrap(), Pruned::default());
        let words = ThoughtQuery { search: Some("observation".parse().unwrap()), ..ThoughtQuery::default() };
        assert_eq!(seqs(store, &words), kept(store), "what went is found no more");
    });
}

#[test]
fn of_equals_the_oldest_goes_and_what_is_a_minute_old_only_when_nothing_older_is_left() {
    let bounds = CorpusBounds { thoughts_max: 4, ..TEN };
    each_bounded_store(bounds, |store| {
        let (mut one, mut other) = (Author::new(1), Author::new(2));
        let mut records = vec![one.next(""), other.next("")];
        // The newest is the weakest: its turn comes last all the same.
        records.extend((0..7).map(|number| one.next(&if number == 6 { weak(number) } else { good(number) })));
        store.commit(&records).unwrap();
        store.prune(Millis(START + 110_000)).unwrap();
        assert_eq!(kept(store), [6, 7]);
        store.commit(&[one.next(&good(7)), one.next(&good(8))]).unwrap();
        store.prune(Millis(START + 90_000)).unwrap();
        assert_eq!(kept(store), [8, 9], "nothing older was left");
    });
}

#[test]
fn contents_of_rejected_thoughts_go_first_and_their_verdicts_stay() {
    each_bounded_store(CorpusBounds { bytes_max: 2_000, ..TEN }, |store| {
        let mut author = Author::new(1);
        let mut records = vec![author.next("")];
        records.extend((0..6).map(|number| author.next(&good(number))));
        records.extend((0..4).map(|_| author.next(&"spam ".repeat(200))));
        store.commit(&records).unwrap();
        let before = store.load().unwrap();
        assert_eq!(store.corpus().thoughts, 6);
        // A moment after the last of them: rejected ones are spared for no minute.
        let pruned = store.prune(Millis(START + 101_000)).unwrap();
        assert_eq!(pruned, Pruned { contents: 4, bytes: 4_000 });
        assert_eq!(kept(store), [1, 2, 3, 4, 5, 6]);
        let log = store.entries(author.id, Seq::GENESIS, usize::MAX).unwrap();
        assert_eq!(log.len(), 11, "the log is whole");
        let without: Vec<bool> = log.iter().map(|entry| entry.content.is_none()).collect();
        assert_eq!(without, [true, false, false, false, false, false, false, true, true, true, true]);
        for (record, stored) in records.iter().zip(&log) {
            let Record::Entries { entries, .. } = record else { unreachable!() };
            assert_eq!(stored.header, entries[0].entry.header_bytes());
        }
        assert_eq!(store.load().unwrap(), before, "nothing is missing that was let go");
        assert_eq!(store.rates(Millis::ZERO).unwrap(), Rates { rewards: 6, penalties: 4 });
        assert_eq!(store.sessions().unwrap().values().map(|session| session.thoughts).sum::<u64>(), 6);
    });
}

#[test]
fn each_store_lets_go_of_the_same_contents() {
    let mut authors: Vec<Author> = (1..=5).map(Author::new).collect();
    // Not in the order of their ids: the order of arrival must not show.
    authors.sort_by_key(|author| std::cmp::Reverse(author.id));
    let mut records: Vec<Record> = authors.iter_mut().map(|author| author.next("")).collect();
    for number in 0..20 {
        let content = match number % 5 {
            0 => weak(number),
            3 => "spam".to_owned(),
            _ => good(number),
        };
        records.extend(authors.iter_mut().map(|author| author.next(&content)));
    }
    let left = Mutex::new(vec![]);
    each_bounded_store(CorpusBounds { thoughts_max: 50, ..TEN }, |store| {
        store.commit(&records).unwrap();
        store.prune(Millis(START + 200_000)).unwrap();
        let rows = store.thoughts(&ThoughtQuery { limit: 10_000, ..ThoughtQuery::default() }).unwrap();
        assert_eq!(rows.len(), 35);
        left.lock().unwrap().push(rows);
    });
    let left = left.into_inner().unwrap();
    assert_eq!(left[0], left[1]);
}

#[test]
fn the_totals_are_right_after_a_restart_and_are_counted_again_where_they_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut author = Author::new(1);
    let store = bounded(dir.path(), TEN);
    let mut records = vec![author.next("")];
    records.extend((0..9).map(|number| author.next(&good(number))));
    records.push(author.next("spam"));
    store.commit(&records).unwrap();
    store.prune(LATER).unwrap();
    let size = store.corpus();
    assert_eq!(size.thoughts, 7);
    drop(store);
    assert_eq!(bounded(dir.path(), TEN).corpus(), size);
    let raw = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    raw.execute_batch("DELETE FROM meta WHERE key LIKE 'corpus%'; DELETE FROM words").unwrap();
    drop(raw);
    let store = bounded(dir.path(), TEN);
    assert_eq!(store.corpus(), size);
    let words = ThoughtQuery { search: Some("observation".parse().unwrap()), ..ThoughtQuery::default() };
    assert_eq!(seqs(&store, &words), kept(&store), "and so is the index");
}

#[test]
fn common_words_are_found_as_well_as_rare_ones_however_the_store_looks_for_them() {
    let mut authors: Vec<Author> = (1..=3).map(Author::new).collect();
    let mut records: Vec<Record> = authors.iter_mut().map(|author| author.next("")).collect();
    for number in 0..60 {
        records.extend(authors.iter_mut().map(|author| author.next(&good(number))));
    }
    let found = Mutex::new(vec![]);
    each_store(|store| {
        store.commit(&records).unwrap();
        for (words, limit) in
            [("evidence", 7), ("evidence", 10_000), ("tagbc latency", 7), ("tagbc", 2), ("absent", 7)]
        {
            let query =
                ThoughtQuery { search: Some(words.parse().unwrap()), limit, ..ThoughtQuery::default() };
            let rows = store.thoughts(&query).unwrap();
            assert!(rows.iter().all(|row| row.content.contains(words.split(' ').next().unwrap())));
            assert!(rows.is_sorted_by_key(|row| (row.time, row.author, row.seq)));
            found.lock().unwrap().push(rows);
        }
    });
    let found = found.into_inner().unwrap();
    let (memory, sqlite) = found.split_at(found.len() / 2);
    assert_eq!(memory, sqlite);
    assert_eq!(sqlite.iter().map(Vec::len).collect::<Vec<_>>(), [7, 180, 3, 2, 0]);
}
