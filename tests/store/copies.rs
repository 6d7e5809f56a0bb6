//! Backups, restores and exports: what they copy, what they refuse, and what they leave alone.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;

const NOW: Millis = Millis(1_795_417_302_000);

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn back_up(store: &Path, to: &Path) -> Result<cogmesh::store::Copied, CopyError> {
    backup(store, to, Existing::Keep, &mut |_| {})
}

fn put_back(from: &Path, store: &Path, own: NodeId) -> Result<cogmesh::store::Restored, CopyError> {
    restore(from, store, own, NOW, &mut |_| {})
}

/// A store with a log of 41 entries, and where it and its backup are.
fn filled(dir: &Path) -> (SqliteStore, Author, PathBuf, PathBuf) {
    fs::create_dir(dir.join("data")).unwrap();
    let store = sqlite(&dir.join("data"));
    let mut author = Author::new(1);
    let records: Vec<Record> = (0..41).map(|number| author.next(&good(number))).collect();
    store.commit(&records).unwrap();
    (store, author, dir.join("data/store.db"), dir.join("copy.db"))
}

#[test]
fn a_backup_of_an_open_store_is_one_private_file_with_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut author, path, copy) = filled(dir.path());
    let mut told = vec![];
    let copied = backup(&path, &copy, Existing::Keep, &mut |progress| told.push(progress)).unwrap();
    assert_eq!((copied.authors, copied.entries), (1, 41));
    assert_eq!(copied.bytes, fs::metadata(&copy).unwrap().len());
    assert_eq!(told.last().unwrap().pages_done, told.last().unwrap().pages_total);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(files(dir.path()), ["copy.db", "data"], "nothing stands beside it");
    let header = fs::read(&copy).unwrap();
    assert_eq!(header[18..20], [1, 1], "it has no write-ahead log");
    store.commit(&[author.next(&good(41))]).unwrap();
    // As a store of its own it holds what was there when it was made.
    fs::create_dir(dir.path().join("other")).unwrap();
    fs::copy(&copy, dir.path().join("other/store.db")).unwrap();
    let other = sqlite(&dir.path().join("other"));
    assert_eq!(other.load().unwrap().authors[&author.id].seq(), Seq(40));
    assert_eq!(other.corpus().thoughts, 40);
}

#[test]
fn a_backup_under_load_ends_and_is_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut author, path, copy) = filled(dir.path());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 41.. {
                store.commit(&[author.next(&good(number)), Record::NewestTime(author.time())]).unwrap();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for number in 0..5 {
            let to = copy.with_extension(number.to_string());
            let copied = back_up(&path, &to).unwrap();
            fs::rename(&to, dir.path().join("store.db")).unwrap();
            let books = sqlite(dir.path()).load().unwrap();
            let book = books.authors.values().next().unwrap();
            assert_eq!(copied.entries, book.seq().0 + 1);
            assert!(books.newest_time == Millis::ZERO || books.newest_time == book.account.time);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_backup_never_overwrites_a_file_unasked_nor_the_store_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _, path, copy) = filled(dir.path());
    fs::write(&copy, "precious").unwrap();
    assert!(matches!(back_up(&path, &copy), Err(CopyError::Exists { .. })));
    assert_eq!(fs::read(&copy).unwrap(), b"precious");
    std::os::unix::fs::symlink(&path, dir.path().join("link.db")).unwrap();
    for own in [path.clone(), path.with_extension("db-wal"), dir.path().join("link.db")] {
        let error = backup(&path, &own, Existing::Replace, &mut |_| {}).unwrap_err();
        assert!(matches!(error, CopyError::IsTheStore { .. }), "{error:?}");
    }
    backup(&path, &copy, Existing::Replace, &mut |_| {}).unwrap();
    assert!(fs::metadata(&copy).unwrap().len() > 4_096);
    assert_eq!(files(dir.path()), ["copy.db", "data", "link.db"]);
}

#[test]
fn what_can_not_be_backed_up_is_told_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, path, copy) = filled(dir.path());
    drop(store);
    assert!(matches!(back_up(&dir.path().join("none.db"), &copy), Err(CopyError::NoStore { .. })));
    let nowhere = dir.path().join("nowhere/copy.db");
    assert!(matches!(back_up(&path, &nowhere), Err(CopyError::Write { .. })));
    assert!(matches!(back_up(&path, Path::new("/")), Err(CopyError::Exists { .. })));
    let whole = fs::read(&path).unwrap();
    fs::write(
        &path,
        "these are no bytes of a database, but there are enough of them to be read as a header, or so",
    )
    .unwrap();
    assert!(matches!(back_up(&path, &copy), Err(CopyError::Store(StoreError::Foreign { .. }))));
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2 / 4_096 * 4_096;
    damaged[middle..middle + 64].fill(0x55);
    fs::write(&path, damaged).unwrap();
    let error = back_up(&path, &copy).unwrap_err();
    assert!(matches!(error, CopyError::StoreDamaged { .. }), "{error:?}");
    assert!(error.to_string().contains("cogmesh audit"), "{error}");
    assert!(!copy.exists() && files(dir.path()) == ["data"], "{:?}", files(dir.path()));
}

#[test]
fn a_restored_store_is_the_backup_and_keeps_what_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut author, path, copy) = filled(dir.path());
    let backed_up = store.load().unwrap();
    back_up(&path, &copy).unwrap();
    store.commit(&[author.next(&good(41))]).unwrap();
    let later = store.load().unwrap();
    drop(store);
    let bytes = fs::read(&copy).unwrap();
    let restored = put_back(&copy, &path, author.id).unwrap();
    assert_eq!(fs::read(&copy).unwrap(), bytes, "the backup stays as it was");
    assert_eq!((restored.store.authors, restored.store.entries), (1, 41));
    let before = restored.before.unwrap();
    assert_eq!(before.file_name().unwrap(), "store.db.before-restore-20261123T070142Z");
    assert_eq!(files(path.parent().unwrap()), ["store.db", "store.db.before-restore-20261123T070142Z"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let raw = rusqlite::Connection::open(&path).unwrap();
    let mark: Vec<u8> =
        raw.query_row("SELECT value FROM meta WHERE key = 'restored'", [], |row| row.get(0)).unwrap();
    assert_eq!(mark, NOW.0.to_be_bytes());
    drop(raw);
    let books = sqlite(path.parent().unwrap()).load().unwrap();
    assert_eq!(books.authors, backed_up.authors);
    // The other way round: what was put aside is a store that can be put back. In the same second it gets another name.
    let again = put_back(&before, &path, author.id).unwrap();
    assert!(again.before.unwrap().ends_with("store.db.before-restore-20261123T070142Z-2"));
    assert_eq!(sqlite(path.parent().unwrap()).load().unwrap().authors, later.authors);
}

#[test]
fn a_write_ahead_log_is_never_left_beside_a_restored_store() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut author, path, copy) = filled(dir.path());
    back_up(&path, &copy).unwrap();
    store.commit(&[author.next(&good(41))]).unwrap();
    // As after a kill: the last commit stands in the log only.
    let crashed = dir.path().join("crashed");
    fs::create_dir(&crashed).unwrap();
    for name in ["store.db", "store.db-wal"] {
        fs::copy(path.with_file_name(name), crashed.join(name)).unwrap();
    }
    let at = crashed.join("store.db");
    let before = put_back(&copy, &at, author.id).unwrap().before.unwrap();
    assert_eq!(files(&crashed).len(), 2, "{:?}", files(&crashed));
    assert_eq!(sqlite(&crashed).load().unwrap().authors[&author.id].seq(), Seq(40));
    let put_aside = dir.path().join("aside");
    fs::create_dir(&put_aside).unwrap();
    fs::rename(before, put_aside.join("store.db")).unwrap();
    assert_eq!(sqlite(&put_aside).load().unwrap().authors[&author.id].seq(), Seq(41), "its last commit too");
    // What can't be opened keeps its files together under their new names.
    fs::write(
        &at,
        "no database at all, though it stands where one was, and is long enough for a header of one",
    )
    .unwrap();
    fs::write(crashed.join("store.db-wal"), "nor a log").unwrap();
    let before = put_back(&copy, &at, author.id).unwrap().before.unwrap();
    assert_eq!(
        fs::read(before.with_file_name(format!("{}-wal", before.file_name().unwrap().display()))).unwrap(),
        b"nor a log"
    );
    assert_eq!(sqlite(&crashed).load().unwrap().authors[&author.id].seq(), Seq(40));
}

#[test]
fn what_is_no_backup_of_this_node_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, author, path, copy) = filled(dir.path());
    drop(store);
    back_up(&path, &copy).unwrap();
    let (whole, there) = (fs::read(&path).unwrap(), files(path.parent().unwrap()));
    let refused = |from: &Path, own| {
        let error = put_back(from, &path, own).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), whole, "{error}");
        assert_eq!(files(path.parent().unwrap()), there, "{error}");
        error
    };
    assert!(matches!(refused(&copy, Author::new(2).id), CopyError::OtherNode { .. }));
    assert!(matches!(refused(&path, author.id), CopyError::IsTheStore { .. }));
    assert!(matches!(refused(&dir.path().join("none"), author.id), CopyError::NoStore { .. }));
    let broken = dir.path().join("broken.db");
    let bytes = fs::read(&copy).unwrap();
    fs::write(&broken, &bytes[..bytes.len() / 2 / 4_096 * 4_096]).unwrap();
    assert!(matches!(refused(&broken, author.id), CopyError::BackupDamaged { .. }));
    let mut flipped = bytes.clone();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    flipped[middle..middle + 64].fill(0x55);
    fs::write(&broken, flipped).unwrap();
    assert!(matches!(refused(&broken, author.id), CopyError::BackupDamaged { .. }));
    fs::write(
        &broken,
        "a text that is no database and is long enough to have been one, if it had wanted to be one",
    )
    .unwrap();
    assert!(matches!(refused(&broken, author.id), CopyError::NotABackup { .. }));
    fs::write(&broken, "").unwrap();
    assert!(matches!(refused(&broken, author.id), CopyError::NotABackup { .. }));
    fs::write(&broken, &bytes).unwrap();
    rusqlite::Connection::open(&broken).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let newer = refused(&broken, author.id);
    assert!(matches!(newer, CopyError::Store(StoreError::Newer { found: 99, .. })), "{newer:?}");
}

#[test]
fn an_export_has_every_thought_of_each_author_in_order_and_null_for_what_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path());
    let mut authors = [Author::new(1), Author::new(2)];
    let mut records = vec![];
    for author in &mut authors {
        records.push(author.next(""));
        for number in 0..600 {
            records.push(author.next(&if number % 40 == 0 { "spam".to_owned() } else { good(number) }));
        }
    }
    store.commit(&records).unwrap();
    let raw = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    raw.execute("DELETE FROM contents WHERE seq = 5", []).unwrap();
    let mut thoughts: Vec<ExportedThought> = vec![];
    export(&dir.path().join("store.db"), &mut |thought| {
        thoughts.push(thought);
        Ok(())
    })
    .unwrap();
    assert_eq!(thoughts.len(), 1_200);
    assert!(thoughts.is_sorted_by_key(|thought| (thought.author, thought.seq)));
    assert!(thoughts.iter().all(|thought| thought.content.is_none() == (thought.seq == Seq(5))));
    let rejected =
        thoughts.iter().filter(|thought| matches!(thought.verdict, Verdict::Rejected { .. })).count();
    assert!(rejected >= 30, "{rejected}");
    let mut given = 0;
    let ended = export(&dir.path().join("store.db"), &mut |_| {
        given += 1;
        if given == 3 { Err(io::Error::from(io::ErrorKind::BrokenPipe)) } else { Ok(()) }
    });
    assert!(ended.is_err() && given == 3);
}
