//! Damage that is made on purpose: what a store says of it, what it lists as missing, and what it takes back.

use cogmesh::{
    log::books::{MISSING_MAX, Span},
    store::{AuditReport, audit},
};

use super::*;

fn span(first: u64, last: u64) -> Span {
    Span { first: Seq(first), last: Seq(last) }
}

/// A policy under which the genesis entries of these tests have work enough.
fn options() -> StoreOptions {
    StoreOptions::new(FEDERATION, Author::new(1).id, Policy { pow_bits: 0, ..Policy::default() })
}

/// A store with 41 entries of our own, and their records.
fn store(dir: &Path) -> (SqliteStore, NodeId, Vec<Record>) {
    let store = SqliteStore::open(&dir.join("store.db"), options()).unwrap();
    let mut author = Author::new(1);
    let records: Vec<Record> = (0..41).map(|number| unsigned(author.next(&good(number)))).collect();
    store.commit(&records).unwrap();
    (store, author.id, records)
}

/// Our own entries have no signature of this made-up kind.
fn unsigned(record: Record) -> Record {
    let Record::Entries { author, entries, mut book } = record else { unreachable!() };
    Arc::make_mut(&mut book).signature = None;
    Record::Entries { author, entries, book }
}

fn change(dir: &Path, sql: &str) {
    rusqlite::Connection::open(dir.join("store.db")).unwrap().execute_batch(sql).unwrap();
}

fn look(dir: &Path) -> AuditReport {
    audit(&dir.join("store.db"), &|_| {}).unwrap()
}

fn mended(author: NodeId, records: &[Record]) -> Record {
    let entries = records.iter().map(|record| match record {
        Record::Entries { entries, .. } => entries[0].entry.clone(),
        Record::Submission { .. }
        | Record::Peer { .. }
        | Record::NewestTime(_)
        | Record::Mended { .. }
        | Record::Doubted
        | Record::Recovered
        | Record::Fault { .. }
        | Record::Cover { .. }
        | Record::Cleared { .. } => unreachable!(),
    });
    Record::Mended { author, entries: entries.collect(), signature: Signature([0; 64]) }
}

fn missing(store: &SqliteStore, author: NodeId) -> Vec<Span> {
    store.load().unwrap().missing.remove(&author).unwrap_or_default()
}

#[test]
fn a_damaged_entry_holds_up_the_log_until_a_peer_gives_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, author, records) = store(dir.path());
    let whole = store.entries(author, Seq::GENESIS, usize::MAX).unwrap();
    change(dir.path(), "UPDATE entries SET header = zeroblob(length(header)) WHERE seq IN (7, 8, 30)");
    let before = store.entries(author, Seq::GENESIS, usize::MAX).unwrap();
    assert_eq!(before, whole[..7], "what comes before it is given out");
    assert_eq!(missing(&store, author), [span(7, 7)]);
    let damaged = store.entries(author, Seq(7), usize::MAX).unwrap_err();
    assert!(matches!(damaged, StoreError::DamagedEntry { seq: Seq(7), author: of } if of == author));
    assert_eq!(store.entries(author, Seq(9), usize::MAX).unwrap(), whole[9..30]);
    let scrubbed = store.scrub(None, 1_000).unwrap();
    assert_eq!(scrubbed.damaged, [(author, Seq(7)), (author, Seq(8)), (author, Seq(30))]);
    assert_eq!(missing(&store, author), [span(7, 8), span(30, 30)]);
    let report = look(dir.path());
    assert!(
        report.is_clean() && report.missing == 3,
        "what is known to be missing is no mismatch: {report:?}"
    );

    // A peer sends the later one first, and then an entry that is no part of this log.
    store.commit(&[mended(author, &records[20..35])]).unwrap();
    assert_eq!(
        missing(&store, author),
        [span(7, 8), span(30, 30)],
        "its verdict follows from those before it"
    );
    let mut other = Author::new(1);
    let others: Vec<Record> = (0..10).map(|number| other.next(&good(number + 100))).collect();
    store.commit(&[mended(author, &others)]).unwrap();
    assert_eq!(missing(&store, author), [span(7, 8), span(30, 30)]);
    store.commit(&[mended(author, &records[..20])]).unwrap();
    assert_eq!(missing(&store, author), []);
    assert_eq!(store.entries(author, Seq::GENESIS, usize::MAX).unwrap(), whole);
    assert_eq!(look(dir.path()).mismatches, []);
}

#[test]
fn a_damaged_content_is_left_out_and_not_shown_until_it_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, author, records) = store(dir.path());
    let shown = store.thoughts(&ThoughtQuery::default()).unwrap();
    change(dir.path(), "UPDATE contents SET content = CAST('nonsense' AS BLOB) WHERE seq IN (3, 9)");
    let served = store.entries(author, Seq::GENESIS, usize::MAX).unwrap();
    assert!(served[3].content.is_none() && served[9].content.is_none() && served[4].content.is_some());
    assert_eq!(missing(&store, author), [span(3, 3), span(9, 9)]);
    change(dir.path(), "UPDATE contents SET content = CAST('nonsense' AS BLOB) WHERE seq = 20");
    let thoughts = store.thoughts(&ThoughtQuery::default()).unwrap();
    assert_eq!(thoughts.len(), shown.len() - 3);
    assert!(thoughts.iter().all(|thought| shown.contains(thought)));
    assert_eq!(missing(&store, author), [span(3, 3), span(9, 9), span(20, 20)]);
    store.commit(&[mended(author, &records)]).unwrap();
    assert_eq!(missing(&store, author), []);
    assert_eq!(store.thoughts(&ThoughtQuery::default()).unwrap(), shown);
    assert_eq!(look(dir.path()).mismatches, []);
}

#[test]
fn what_the_rules_give_is_written_again_without_any_peer() {
    for sql in [
        "UPDATE entries SET delta_uatp = delta_uatp + 64 WHERE seq = 5",
        "UPDATE entries SET verdict = 'spam' WHERE seq = 5",
        "UPDATE entries SET session = 'evil', mode = 3 WHERE seq = 5",
        "UPDATE entries SET time_ms = time_ms + 1024 WHERE seq = 40",
        "UPDATE entries SET received_ms = received_ms + 1 WHERE seq = 0",
        "UPDATE entries SET hash = zeroblob(32) WHERE seq = 40",
        "UPDATE entries SET seal = NULL",
        "UPDATE authors SET account = x'00'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, author, _) = store(dir.path());
        let shown = store.thoughts(&ThoughtQuery::default()).unwrap();
        change(dir.path(), sql);
        assert!(!look(dir.path()).is_clean(), "{sql}");
        let scrubbed = store.scrub(None, 1_000).unwrap();
        assert_eq!(scrubbed.damaged.is_empty(), sql.contains("authors"), "{sql}");
        assert_eq!(missing(&store, author), [], "{sql}");
        assert_eq!(look(dir.path()).mismatches, [], "{sql}");
        if !sql.contains("seal") {
            assert_eq!(store.thoughts(&ThoughtQuery::default()).unwrap(), shown, "{sql}");
        }
    }
}

#[test]
fn a_look_goes_through_the_log_piece_by_piece() {
    let dir = tempfile::tempdir().unwrap();
    let (store, author, _) = store(dir.path());
    let mut other = Author::new(2);
    let more: Vec<Record> = (0..20).map(|number| other.next(&good(number))).collect();
    store.commit(&more).unwrap();
    let (mut from, mut looks) = (None, 0);
    loop {
        let scrubbed = store.scrub(from, 10).unwrap();
        assert_eq!(scrubbed.damaged, []);
        looks += 1;
        let Some((id, seq)) = scrubbed.next else { break };
        assert!(id == author || id == other.id);
        assert_ne!(from, Some((id, seq)));
        from = scrubbed.next;
    }
    assert_eq!(looks, 7, "61 entries, ten at a time");
}

#[test]
fn a_content_that_a_peer_had_let_go_of_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("store.db"), options()).unwrap();
    let mut author = Author::new(2);
    let records: Vec<Record> = (0..10).map(|number| author.next(&good(number))).collect();
    let pruned = records.iter().cloned().map(|record| {
        let Record::Entries { author, mut entries, book } = record else { unreachable!() };
        for judged in &mut entries {
            judged.entry = Entry::parse(&FEDERATION, judged.entry.header_bytes().clone(), None).unwrap();
        }
        Record::Entries { author, entries, book }
    });
    store.commit(&pruned.collect::<Vec<_>>()).unwrap();
    assert_eq!(missing(&store, author.id), [span(1, 9)], "a genesis entry has no content");
    store.commit(&[mended(author.id, &records[..5])]).unwrap();
    assert_eq!(missing(&store, author.id), [span(5, 9)]);
    assert_eq!(store.thoughts(&ThoughtQuery::default()).unwrap().len(), 4);
}

#[test]
fn of_more_than_can_be_remembered_as_missing_the_oldest_contents_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (store, author, records) = store(dir.path());
    change(dir.path(), "UPDATE entries SET header = x'00' WHERE seq = 2");
    store.scrub(None, 1_000).unwrap();
    let many = MISSING_MAX;
    change(
        dir.path(),
        &format!(
            "WITH RECURSIVE n (n) AS (SELECT 3 UNION ALL SELECT n + 1 FROM n WHERE n < {many}) \
             INSERT INTO missing SELECT 1, n, 'content' FROM n"
        ),
    );
    change(dir.path(), "INSERT OR IGNORE INTO missing VALUES (1, 1, 'content'), (1, 2, 'content')");
    store.commit(&[mended(author, &records[10..11])]).unwrap();
    let raw = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    let count: i64 = raw.query_row("SELECT count(*) FROM missing", [], |row| row.get(0)).unwrap();
    assert_eq!(usize::try_from(count).unwrap(), MISSING_MAX);
    let kept: bool = raw
        .query_row("SELECT EXISTS (SELECT 1 FROM missing WHERE what = 'entry')", [], |row| row.get(0))
        .unwrap();
    assert!(kept, "an entry holds up the log, and is never forgotten for a content");
    assert_eq!(missing(&store, author).last().unwrap().last, Seq(40), "nobody has more than the log");
}

#[test]
fn an_audit_leaves_no_trace_and_tells_what_it_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    let before = fs::read(dir.path().join("store.db")).unwrap();
    let report = look(dir.path());
    let wanted = AuditReport { authors: 1, entries: 41, contents: 40, ..AuditReport::default() };
    assert_eq!(report, wanted);
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["store.db"]);
    assert_eq!(fs::read(dir.path().join("store.db")).unwrap(), before);
    let none = audit(&dir.path().join("none.db"), &|_| {}).unwrap_err();
    assert!(matches!(none, StoreError::Open { .. }));
}

#[test]
fn an_audit_is_clean_while_a_node_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = store(dir.path());
    let path = dir.path().join("store.db");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = Author::new(2);
            for number in 0..200 {
                let record = signed(other.next(&good(number)));
                store.commit(&[record]).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut seen = 0;
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let report =
                audit(&path, &|progress| assert!(progress.entries_done <= progress.entries_total)).unwrap();
            assert_eq!(report.mismatches, []);
            assert!(report.entries >= seen, "it only grows");
            seen = report.entries;
        }
    });
    assert_eq!(look(dir.path()).entries, 241);
}

/// The same record with a signature that is its author's.
fn signed(record: Record) -> Record {
    let Record::Entries { author, entries, mut book } = record else { unreachable!() };
    let identity = Identity::from_seed(&[2; 32]).unwrap();
    let head = cogmesh::log::Head::sign(&identity, &FEDERATION, book.seq(), book.hash);
    Arc::make_mut(&mut book).signature = Some(head.signature);
    Record::Entries { author, entries, book }
}
