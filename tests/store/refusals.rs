//! Files that are no store of ours, and stores that are damaged: each refused with a sentence, and left as it was.

use super::*;

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, StoreOptions::new(FEDERATION, Author::new(1).id, Policy::default()))
}

/// A store with 41 entries, closed, and its file.
fn closed_store(dir: &Path) -> std::path::PathBuf {
    let store = sqlite(dir);
    let mut author = Author::new(1);
    let records: Vec<Record> = (0..41).map(|number| author.next(&good(number))).collect();
    store.commit(&records).unwrap();
    // A reader that is open when the store is closed must not keep the write-ahead log from being folded back.
    store.load().unwrap();
    dir.join("store.db")
}

fn change(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_refused_file_stays_as_it_was() {
    for sql in ["CREATE TABLE somebodys (x)", "PRAGMA application_id = 7", "PRAGMA user_version = 3"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        change(&path, sql);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(open(&path), Err(StoreError::Foreign { .. })), "{sql}");
        assert_eq!(fs::read(&path).unwrap(), before, "{sql}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "{sql}");
    }
}

#[test]
fn a_closed_store_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["store.db"]);
}

#[test]
fn a_store_with_a_loose_mode_is_made_private_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed_store(dir.path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let store = open(&path).unwrap();
    store.load().unwrap();
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
}

#[test]
fn a_damaged_account_is_given_back_by_its_log() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        open(&closed_store(dir.path())).unwrap().load().unwrap()
    };
    for sql in [
        "UPDATE authors SET hash = x'00'",
        "UPDATE authors SET hash = zeroblob(32)",
        "UPDATE authors SET id = x'0102'",
        "UPDATE authors SET account = x'00'",
        "UPDATE authors SET name = 'NOT A NAME'",
        "UPDATE authors SET name = 'thor'",
        "UPDATE authors SET hardware = 99",
        "UPDATE authors SET hardware = -1",
        "UPDATE authors SET known_since = known_since | (1 << 40)",
        "UPDATE authors SET seal = x'00'",
        "INSERT INTO peers VALUES (zeroblob(32), 'thor', 'nowhere', 1, x'0011223344556677')",
        "INSERT INTO submissions VALUES (1, 'key', 1, 'wonderful', 1, 1, 1, 1, NULL)",
        "INSERT INTO submissions VALUES (1, 'key', 1, 'accepted', -1, 1, 1, 1, NULL)",
        "PRAGMA foreign_keys = OFF; INSERT INTO missing VALUES (7, 7, 'entry'), (1, 7, 'everything')",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = closed_store(dir.path());
        change(&path, sql);
        let mut books = open(&path).unwrap().load().unwrap_or_else(|error| panic!("{sql}: {error}"));
        // A seal that is gone can't say any more when the author was first heard of; its first entry can.
        if sql.contains("seal") || sql.contains("x'00'") {
            books.authors.values_mut().for_each(|book| book.known_since = Millis(START));
        }
        books
            .authors
            .values_mut()
            .for_each(|book| book.signature = whole.authors[&Author::new(1).id].signature);
        assert_eq!(books, whole, "{sql}");
        let again = open(&path).unwrap().load().unwrap();
        assert_eq!(
            again.authors.keys().collect::<Vec<_>>(),
            whole.authors.keys().collect::<Vec<_>>(),
            "{sql}"
        );
    }
}

#[test]
fn a_damaged_newest_time_becomes_that_of_the_last_entry_of_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed_store(dir.path());
    change(&path, "INSERT INTO meta VALUES ('newest_time', x'00', NULL)");
    assert_eq!(open(&path).unwrap().load().unwrap().newest_time, Millis(START + 400_000));
}

#[test]
fn a_last_entry_that_is_gone_is_missing_and_the_log_goes_on_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut author = Author::new(1);
    let records: Vec<Record> = (0..41).map(|number| author.next(&good(number))).collect();
    sqlite(dir.path()).commit(&records).unwrap();
    let path = dir.path().join("store.db");
    change(&path, "DELETE FROM contents WHERE seq = 40; DELETE FROM entries WHERE seq = 40");
    let store = open(&path).unwrap();
    let missing = store.load().unwrap().missing;
    assert_eq!(missing, BTreeMap::from([(author.id, vec![Span { first: Seq(40), last: Seq(40) }])]));
    let damaged = store.entries(author.id, Seq(40), 1_000).unwrap_err();
    assert!(matches!(damaged, StoreError::DamagedEntry { seq: Seq(40), .. }));
    store.commit(&[author.next(&good(41))]).unwrap();
    let Record::Entries { entries, .. } = &records[40] else { unreachable!() };
    let lost = vec![entries[0].entry.clone()];
    store
        .commit(&[Record::Mended { author: author.id, entries: lost, signature: Signature([0; 64]) }])
        .unwrap();
    assert_eq!(store.load().unwrap().missing, BTreeMap::new());
    assert_eq!(store.entries(author.id, Seq::GENESIS, usize::MAX).unwrap().len(), 42);
}

#[test]
fn an_account_that_is_damaged_together_with_its_log_is_refused_with_file_and_remedies() {
    for sql in [
        "UPDATE authors SET account = x'00'; UPDATE entries SET header = x'00' WHERE seq = 7",
        "UPDATE authors SET account = x'00'; DELETE FROM contents; DELETE FROM entries WHERE seq = 7",
        "UPDATE authors SET account = x'00'; DELETE FROM contents; DELETE FROM entries",
        "UPDATE authors SET account = x'00', hash = x'00', seal = x'00'",
        "UPDATE meta SET value = x'0011', seal = x'00' WHERE key = 'node'",
        "UPDATE meta SET key = 'nodf', value = x'00' WHERE key = 'policy'",
        "DROP INDEX entries_by_time",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = closed_store(dir.path());
        change(&path, sql);
        let error = open(&path).and_then(|store| store.load()).unwrap_err();
        let sentence = error.to_string();
        assert!(matches!(error, StoreError::Damaged { .. }), "{sql}: {error:?}");
        for said in ["store.db", "cogmesh restore FILE", "cogmesh start --rebuild-from-peers"] {
            assert!(sentence.contains(said), "{sentence}");
        }
    }
}

#[test]
fn a_store_that_does_not_say_whose_it_is_is_damaged() {
    for sql in ["DELETE FROM meta", "UPDATE meta SET value = x'00'", "PRAGMA user_version = 0"] {
        let dir = tempfile::tempdir().unwrap();
        let path = closed_store(dir.path());
        change(&path, sql);
        assert!(matches!(open(&path), Err(StoreError::Damaged { .. })), "{sql}");
    }
}

/// Every page in turn loses its beginning, as after a torn write or a bad block; the file's end is cut off besides.
#[test]
fn damaged_pages_are_told_or_harmless_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = closed_store(dir.path());
    let whole = fs::read(&path).unwrap();
    let author = Author::new(1).id;
    let mut told = 0;
    let damaged = (0..whole.len() / 4096).map(|page| {
        let mut bytes = whole.clone();
        bytes[page * 4096..page * 4096 + 64].fill(0x55);
        bytes
    });
    for bytes in damaged.chain([whole[..whole.len() / 2].to_vec(), whole[..50].to_vec()]) {
        for beside in ["store.db-wal", "store.db-shm"] {
            // There is none where the last one was closed.
            fs::remove_file(dir.path().join(beside)).unwrap_or_default();
        }
        fs::write(&path, bytes).unwrap();
        let read = || -> Result<(), StoreError> {
            let store = open(&path)?;
            store.load()?;
            store.entries(author, Seq::GENESIS, usize::MAX)?;
            store.thoughts(&ThoughtQuery::default())?;
            store.rates(Millis::ZERO)?;
            Ok(())
        };
        match read() {
            Ok(()) => {}
            Err(StoreError::Damaged { .. } | StoreError::Foreign { .. }) => told += 1,
            Err(error) => panic!("damage is named as what it is: {error:?}"),
        }
    }
    assert!(told > 5, "only {told} damaged files were noticed");
}
