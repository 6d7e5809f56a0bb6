//! Authors that were convicted: every store cuts their logs at the same entry, and gives out the proof and what is left.

use cogmesh::{
    log::{
        FaultKind, Head, Proof, Rules, Segment,
        books::AuthorFault,
        stored::{covered_segment, signed_segment},
    },
    store::audit,
};

use super::*;

const RULES: Rules = Rules { federation: FEDERATION, pow_bits: 0, content_bytes_max: 16_384 };
const SEED: u8 = 5;

/// An author's log up to an entry, in records of so many entries, each signed at its end.
fn log(author: &mut Author, entries: u32, each: u32, tag: u32) -> Vec<Record> {
    let identity = Identity::from_seed(&[SEED; 32]).unwrap();
    let mut records = vec![];
    let mut batch: Vec<Judged> = vec![];
    for number in 0..entries {
        let Record::Entries { entries: next, .. } = author.next(&good(tag + number)) else { unreachable!() };
        batch.extend(next);
        if batch.len() == each as usize || number + 1 == entries {
            let book = author.book.as_mut().unwrap();
            book.signature = Some(Head::sign(&identity, &FEDERATION, book.seq(), book.hash).signature);
            let entries = std::mem::take(&mut batch);
            records.push(Record::Entries { author: author.id, entries, book: Arc::new(book.clone()) });
        }
    }
    records
}

fn entries_of(records: &[Record]) -> Vec<Entry> {
    let entries = records.iter().map(|record| {
        let Record::Entries { entries, .. } = record else { unreachable!() };
        entries.iter().map(|judged| judged.entry.clone())
    });
    entries.flatten().collect()
}

fn segment(entries: &[Entry]) -> Segment {
    Segment::own(entries.to_vec(), &Identity::from_seed(&[SEED; 32]).unwrap(), &FEDERATION)
        .unwrap()
        .into_inner()
}

/// Two histories that part at `cut`, and the proof of it.
fn fork(cut: u32, each: u32) -> (Author, Vec<Record>, Proof) {
    let mut one = Author::new(SEED);
    let mut records = log(&mut one, cut, each, 0);
    let mut other = Author { id: one.id, book: one.book.clone(), policy: one.policy.clone() };
    let more = log(&mut one, 12, each, 500);
    let others = entries_of(&log(&mut other, 7, each, 800));
    let ours = entries_of(&more);
    records.extend(more);
    let proof = Proof::fork(segment(&ours), segment(&others)).unwrap();
    (one, records, proof)
}

fn convicted(author: &Author, proof: &Proof) -> Record {
    Record::Fault { author: author.id, found: Millis(START), proof: Box::new(proof.clone()) }
}

#[test]
fn a_convicted_authors_log_ends_before_the_entry_at_fault_and_its_account_is_that_of_what_is_left() {
    for (cut, each) in [(1, 1), (4, 3), (10, 4), (30, 50)] {
        each_store(|store| {
            let (author, records, proof) = fork(cut, each);
            store.commit(&records).unwrap();
            store.commit(&[convicted(&author, &proof)]).unwrap();
            let mut left = Author::new(SEED);
            log(&mut left, cut, each, 0);
            let wanted = left.book.unwrap();
            let book = store.book(author.id).unwrap().unwrap();
            assert_eq!((book.seq(), book.hash), (wanted.seq(), wanted.hash));
            assert_eq!(book.account.digest(), wanted.account.digest());
            let books = store.load().unwrap();
            assert_eq!(books.authors[&author.id], book);
            let fault = books.faults[&author.id];
            assert_eq!(fault, AuthorFault::of(&proof, Millis(START)));
            assert_eq!((fault.cut, fault.kind), (Seq(u64::from(cut)), FaultKind::Fork));
            assert_eq!(store.entries(author.id, Seq::GENESIS, usize::MAX).unwrap().len(), cut as usize);
            assert_eq!(store.corpus().thoughts, u64::from(cut) - 1, "contents behind the cut are gone");
            assert!(store.proof(author.id).unwrap().unwrap().verify(&RULES).is_ok());
        });
    }
}

#[test]
fn every_entry_that_is_left_can_be_given_on_under_a_signed_head() {
    for (cut, each) in [(1, 1), (4, 3), (10, 4), (30, 50)] {
        each_store(|store| {
            let (author, records, proof) = fork(cut, each);
            store.commit(&records).unwrap();
            store.commit(&[convicted(&author, &proof)]).unwrap();
            let mut from = Seq::GENESIS;
            while from < Seq(u64::from(cut)) {
                let stored = store.entries(author.id, from, usize::MAX).unwrap();
                let signed = signed_segment(&FEDERATION, author.id, &stored, Seq(u64::MAX));
                let covered = || {
                    let cover = store.cover(author.id).unwrap().unwrap();
                    covered_segment(&FEDERATION, &stored, &cover, usize::MAX)
                };
                let segment = signed.or_else(covered).unwrap().verify(&RULES).unwrap();
                assert_eq!(segment.first(), from);
                from = segment.last().next();
            }
        });
    }
}

#[test]
fn of_a_log_that_parts_at_its_first_entry_nothing_is_left_and_it_may_begin_anew_once_it_was_cleared() {
    each_store(|store| {
        let mut author = Author::new(SEED);
        let records = log(&mut author, 5, 2, 0);
        store.commit(&records).unwrap();
        let mut header = entries_of(&records)[0].header().clone();
        header.time = Millis(START + 1);
        let other = segment(&[Entry::new(&FEDERATION, header, None)]);
        let proof = Proof::fork(segment(&entries_of(&records)[..2]), other).unwrap();
        store.commit(&[convicted(&author, &proof)]).unwrap();
        assert_eq!(store.book(author.id).unwrap(), None);
        let books = store.load().unwrap();
        assert!(books.authors.is_empty() && books.faults[&author.id].cut == Seq(0));
        assert_eq!(store.corpus(), CorpusSize::default());
        store.commit(&[Record::Cleared { author: author.id }]).unwrap();
        assert!(store.load().unwrap().faults[&author.id].cleared);
        store.commit(&records).unwrap();
        assert_eq!(store.load().unwrap().authors[&author.id], author.book.clone().unwrap());
    });
}

#[test]
fn a_deeper_cut_keeps_what_covers_the_log() {
    each_store(|store| {
        let (author, records, proof) = fork(30, 50);
        store.commit(&records).unwrap();
        store.commit(&[convicted(&author, &proof)]).unwrap();
        let (_, _, deeper) = fork(10, 50);
        store.commit(&[convicted(&author, &deeper)]).unwrap();
        assert_eq!(store.load().unwrap().faults[&author.id].cut, Seq(10));
        let stored = store.entries(author.id, Seq::GENESIS, usize::MAX).unwrap();
        let cover = store.cover(author.id).unwrap().unwrap();
        assert_eq!(stored.len(), 10);
        assert!(covered_segment(&FEDERATION, &stored, &cover, usize::MAX).unwrap().verify(&RULES).is_ok());
    });
}

#[test]
fn a_fault_against_somebody_who_wrote_nothing_yet_waits_for_the_log() {
    each_store(|store| {
        let (author, records, proof) = fork(10, 50);
        store.commit(&[convicted(&author, &proof)]).unwrap();
        assert_eq!(store.load().unwrap().faults[&author.id].cut, Seq(10));
        let mut shorter = Author::new(SEED);
        store.commit(&log(&mut shorter, 10, 50, 0)).unwrap();
        let all = entries_of(&records);
        store.commit(&[Record::Cover { author: author.id, cover: Box::new(segment(&all).bare()) }]).unwrap();
        assert_eq!(store.cover(author.id).unwrap().unwrap().last(), Seq(21));
    });
}

#[test]
fn an_audit_finds_nothing_wrong_with_what_is_left_and_a_damaged_row_of_a_fault_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path());
    let (author, records, proof) = fork(30, 50);
    store.commit(&records).unwrap();
    store.commit(&[convicted(&author, &proof)]).unwrap();
    let report = audit(&dir.path().join("store.db"), &|_| {}).unwrap();
    let about_the_end = report.mismatches.iter().any(|mismatch| mismatch.what.contains("covers the end"));
    assert!(!about_the_end, "{:?}", report.mismatches);
    drop(store);
    rusqlite::Connection::open(dir.path().join("store.db"))
        .unwrap()
        .execute_batch("UPDATE faults SET cut = 7")
        .unwrap();
    let store = sqlite(dir.path());
    let books = store.load().unwrap();
    assert!(books.faults.is_empty(), "a peer will say it again");
    assert_eq!(books.authors[&author.id].seq(), Seq(29));
}
