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
fn a_row_that_we_could_not_have_written_is_damage_with_file_and_remedy() {
    for sql in [
        "UPDATE authors SET hash = x'00'",
        "UPDATE authors SET hash = zeroblob(32)",
        "UPDATE authors SET id = x'0102'",
        "UPDATE authors SET account = x'00'",
        "UPDATE authors SET name = 'NOT A NAME'",
        "UPDATE authors SET hardware = 99",
        "UPDATE authors SET hardware = -1",
        "UPDATE authors SET signature = x'00'",
        "DELETE FROM contents WHERE seq = 40; DELETE FROM entries WHERE seq = 40",
        "INSERT INTO peers VALUES (zeroblob(32), 'thor', 'nowhere', 1)",
        "INSERT INTO submissions VALUES (1, 'key', 1, 'wonderful', 1, 1, 1, 1)",
        "INSERT INTO submissions VALUES (1, 'key', 1, 'accepted', -1, 1, 1, 1)",
        "INSERT INTO meta VALUES ('newest_time', x'00')",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = closed_store(dir.path());
        change(&path, sql);
        let error = open(&path).unwrap().load().unwrap_err();
        let sentence = error.to_string();
        assert!(matches!(error, StoreError::Damaged { .. }), "{sql}: {error:?}");
        assert!(sentence.contains("store.db") && sentence.contains("restore a backup"), "{sentence}");
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
