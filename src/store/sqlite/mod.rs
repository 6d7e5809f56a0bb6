//! The store on SQLite: write-ahead log, every commit synced, one connection that writes and a few that read.

mod audit;
mod backup;
mod books;
mod check;
mod checkpoint;
mod contents;
mod convictions;
mod corpus;
mod export;
mod faults;
mod heal;
mod mend;
mod meta;
mod missing;
mod reader;
mod repair;
mod restore;
mod rows;
mod schema;
mod scrub;
mod seal;
mod thoughts;
mod walk;
mod writing;

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};

pub use self::{
    audit::audit,
    backup::{Copied, CopyError, CopyProgress, Existing, backup},
    export::{ExportError, ExportedThought, export},
    restore::{Restored, restore},
};
use self::{checkpoint::Checkpoints, faults::Fault};
use super::{
    CorpusSize, Pruned, Rates, Scrubbed, Store, StoreError, StoreOptions, ThoughtQuery, ThoughtRow, pruning,
};
use crate::{
    ledger::{
        economy::Session,
        types::{Millis, Seq},
    },
    log::{
        NodeId, Proof, Segment,
        books::{AuthorBook, Books, KnownPeer, Record, StoredEntry},
    },
};

/// Read connections that are kept open for the next reader; more are opened when more read at once.
const READERS_KEPT: usize = 4;
/// Memory that a read connection keeps pages in. SQLite's own 2 MB each was what a node at rest had most of: after a scrub and a
/// peer's catch-up, readers kept 10 MB, and the arenas of the threads that they had read in as much again. Few pages are read twice, any
/// commit makes all of them worthless, and the system keeps the file's pages, too.
const READER_CACHE_KIB: i64 = 256;

/// A node's store in a file of its own.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    options: StoreOptions,
    // Before the writer, so that it closes last: a connection that only reads can't fold the write-ahead log back.
    readers: Mutex<Vec<Connection>>,
    writer: Mutex<Connection>,
    // Locked by whoever has the writer.
    checkpoints: Mutex<Checkpoints>,
    // As it was after the last commit, so that whoever asks waits for none.
    corpus: Mutex<CorpusSize>,
    was_mended: AtomicBool,
}

impl SqliteStore {
    /// Opens the store in that file, or makes it, with mode 0600. A file that is refused stays as it was.
    ///
    /// # Errors
    /// Where the file is no store, is damaged, was written by a newer version, or belongs to another node or federation.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let cannot = |source| StoreError::Open { path: path.to_owned(), source };
        make_private(path).map_err(cannot)?;
        let mut writer = open_writer(path, &options).map_err(|fault| fault.about(path))?;
        let corpus = corpus_size(&mut writer).map_err(|fault| fault.about(path))?;
        keep_private(path).map_err(cannot)?;
        sync_names(path).map_err(cannot)?;
        Ok(Self {
            path: path.to_owned(),
            checkpoints: Mutex::new(Checkpoints::new(options.durability)),
            options,
            readers: Mutex::default(),
            writer: Mutex::new(writer),
            corpus: Mutex::new(corpus),
            was_mended: AtomicBool::new(false),
        })
    }

    /// Runs a change on the connection that writes, which also tells how large the corpus is after it.
    fn write<T>(
        &self,
        write: impl FnOnce(&mut Connection) -> Result<(T, CorpusSize), Fault>,
    ) -> Result<T, Fault> {
        let mut writer = self.writer();
        let written = write(&mut writer).and_then(|written| {
            // What is written stands, also where there is no room to copy it back.
            match self.checkpoints().after_commit(&self.path, &writer) {
                Ok(()) => Ok(written),
                Err(fault) if fault.is_of_a_full_disk() => Ok(written),
                Err(fault) => Err(fault),
            }
        });
        let (written, size) = written.inspect_err(|fault| {
            if fault.is_of_the_disk() {
                leave_alone(&writer);
            }
        })?;
        *self.corpus.lock().unwrap_or_else(PoisonError::into_inner) = size;
        Ok(written)
    }

    /// The peers that a store remembers which can't be used any more, as far as they can be read.
    #[must_use]
    pub fn salvage_peers(path: &Path) -> Vec<(NodeId, KnownPeer)> {
        let read = || books::peers(&open_reader(path)?);
        read().map(|peers| peers.into_iter().collect()).unwrap_or_default()
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkpoints(&self) -> MutexGuard<'_, Checkpoints> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a repair, which may have put contents back or let go of some: they are counted anew.
    fn mend<T>(&self, mend: impl FnOnce(&mut Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let mended = self.write(|writer| {
            let mended = mend(writer)?;
            Ok((mended, corpus::count(writer)?))
        });
        mended.map_err(Fault::in_repair)
    }

    /// What a read gives; where what it reads is damaged, after that was healed: the books first, then the whole file.
    fn healed<T>(&self, read: impl Fn(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        let read = || self.try_read(&read);
        let result = read().or_else(|fault| {
            if !fault.is_damage() {
                return Err(fault);
            }
            tracing::warn!(%fault, "the store is damaged");
            self.mend(|writer| heal::books(writer, &self.options)).and_then(|()| read())
        });
        let result = result.or_else(|fault| {
            if !fault.is_damage() {
                return Err(fault);
            }
            self.mend_all()?;
            // What could not be put right is refused now.
            read()
        });
        result.map_err(|fault| fault.about(&self.path))
    }

    /// Mends the whole file; once while it is open, because what was not mended then will not be the next time.
    fn mend_all(&self) -> Result<(), Fault> {
        if self.was_mended.swap(true, Ordering::AcqRel) {
            return Err(Fault::Damaged("it can't be mended".to_owned()));
        }
        self.mend(|writer| {
            check::mend_all(writer, &self.options)?;
            heal::books(writer, &self.options)
        })
    }

    /// Lists what a read found damaged.
    fn quarantine(&self, author: NodeId, damaged: &[Seq]) -> Result<(), StoreError> {
        if damaged.is_empty() {
            return Ok(());
        }
        let listed = self.mend(|writer| repair::quarantine(writer, &self.options, author, damaged));
        listed.map_err(|fault| fault.about(&self.path))
    }

    /// Makes the full-text index anew where it lacks a content: its pages have no seals, and may be sound and incomplete.
    fn mend_index(&self) -> Result<(), Fault> {
        let is_whole = self.try_read(|connection| {
            let (kept, indexed) = corpus::searchable(connection)?;
            Ok(kept == indexed)
        });
        if is_whole? {
            return Ok(());
        }
        tracing::warn!("not every content can be searched; the index is made anew");
        self.mend(|writer| {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            corpus::index_all(&transaction)?;
            Ok(transaction.commit()?)
        })
    }

    /// Runs a read on a connection of its own: a short one, because a long one keeps the write-ahead log from shrinking.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.try_read(read).map_err(|fault| fault.about(&self.path))
    }

    fn try_read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => {
                let connection = open_reader(&self.path)?;
                // Negative: KiB, not pages.
                connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
                connection
            }
        };
        let result = read(&connection)?;
        // After a failure the connection is not kept: the next reader begins afresh.
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_KEPT {
            readers.push(connection);
        }
        Ok(result)
    }
}

/// The file is looked at before anything is set: to turn on the write-ahead log is to write to somebody's file.
fn open_writer(path: &Path, options: &StoreOptions) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut writer = Connection::open_with_flags(path, flags)?;
    schema::configure_reader(&writer)?;
    let kind = schema::identify(path, &writer, options)?;
    schema::configure(path, &writer, options.durability)?;
    match kind {
        schema::Kind::Empty => schema::migrate(&mut writer, 0, options)?,
        schema::Kind::Older(version) => schema::migrate(&mut writer, version, options)?,
        schema::Kind::Ours => {}
    }
    check::small_tables(&writer)?;
    Ok(writer)
}

/// How large the corpus is. Where that was never counted, nothing was indexed either.
fn corpus_size(writer: &mut Connection) -> Result<CorpusSize, Fault> {
    if let Some(size) = corpus::size(writer)? {
        return Ok(size);
    }
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let size = corpus::index_all(&transaction)?;
    transaction.commit()?;
    Ok(size)
}

fn open_reader(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    schema::configure_reader(&connection)?;
    Ok(connection)
}

impl Store for SqliteStore {
    fn load(&self) -> Result<Books, StoreError> {
        self.healed(|connection| books::load(connection, &self.options.policy))
    }

    fn commit(&self, records: &[Record]) -> Result<(), StoreError> {
        let committed = self.write(|writer| Ok(((), writing::commit(writer, records, &self.options)?)));
        committed.map_err(|fault| fault.about(&self.path))
    }

    fn entries(&self, author: NodeId, from: Seq, bytes_max: usize) -> Result<Vec<StoredEntry>, StoreError> {
        let served =
            self.healed(|connection| reader::entries(connection, &self.options, author, from, bytes_max))?;
        self.quarantine(author, &served.damaged)?;
        if served.is_first_damaged {
            return Err(StoreError::DamagedEntry { author, seq: from });
        }
        Ok(served.entries)
    }

    fn thoughts(&self, query: &ThoughtQuery) -> Result<Vec<ThoughtRow>, StoreError> {
        let federation = &self.options.federation;
        let kept = self.corpus();
        let found = self.healed(|connection| thoughts::thoughts(connection, federation, query, kept))?;
        for (author, seq) in found.damaged {
            self.quarantine(author, &[seq])?;
        }
        Ok(found.thoughts)
    }

    fn rates(&self, since: Millis) -> Result<Rates, StoreError> {
        self.read(|connection| reader::rates(connection, since))
    }

    fn sessions(&self) -> Result<BTreeMap<String, Session>, StoreError> {
        self.read(reader::sessions)
    }

    fn scrub(&self, from: Option<(NodeId, Seq)>, rows: usize) -> Result<Scrubbed, StoreError> {
        let looked = self.healed(|connection| scrub::look(connection, &self.options, from, rows))?;
        if !looked.authors.is_empty() {
            let mended = self.mend(|writer| scrub::mend(writer, &self.options, &looked.authors));
            mended.map_err(|fault| fault.about(&self.path))?;
        }
        if looked.scrubbed.next.is_none() {
            let faults = self.try_read(|connection| check::faults(connection, None));
            if !matches!(&faults, Ok(faults) if faults.is_empty()) {
                tracing::warn!(?faults, "the store's file contradicts itself");
                self.mend_all().map_err(|fault| fault.about(&self.path))?;
            }
            self.mend_index().map_err(|fault| fault.about(&self.path))?;
        }
        Ok(looked.scrubbed)
    }

    fn prune(&self, now: Millis) -> Result<Pruned, StoreError> {
        if !pruning::is_due(self.corpus(), self.options.corpus) {
            return Ok(Pruned::default());
        }
        // What is committed meanwhile stays: it was not looked at.
        let surplus = pruning::choose(self.read(corpus::kept)?, self.options.corpus, now);
        if surplus.is_empty() {
            // The totals are wrong: counted once more, they don't ask for a look through all contents again.
            let counted = self.write(|writer| Ok((Pruned::default(), corpus::count(writer)?)));
            return counted.map_err(|fault| fault.about(&self.path));
        }
        let mut pruned = Pruned::default();
        for part in surplus.chunks(corpus::LET_GO_AT_ONCE) {
            let gone = self.write(|writer| corpus::let_go(writer, part));
            let gone = gone.map_err(|fault| fault.about(&self.path))?;
            pruned.contents = pruned.contents.saturating_add(gone.contents);
            pruned.bytes = pruned.bytes.saturating_add(gone.bytes);
        }
        Ok(pruned)
    }

    fn corpus(&self) -> CorpusSize {
        *self.corpus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self, author: NodeId) -> Result<Option<AuthorBook>, StoreError> {
        self.read(|connection| match books::number(connection, author)? {
            Some(number) => {
                Ok(books::author(connection, number, &self.options.policy)?.map(|(_, book)| book))
            }
            None => Ok(None),
        })
    }

    fn proof(&self, author: NodeId) -> Result<Option<Proof>, StoreError> {
        self.read(|connection| convictions::proof(connection, &self.options, author))
    }

    fn cover(&self, author: NodeId) -> Result<Option<Segment>, StoreError> {
        self.read(|connection| convictions::stored_cover(connection, &self.options, author))
    }

    fn sync(&self) -> Result<(), StoreError> {
        let writer = self.writer();
        let ended = self.checkpoints().end();
        let synced = ended.and_then(|()| Ok(checkpoint::full(&writer)?)).inspect_err(|fault| {
            if fault.is_of_the_disk() {
                leave_alone(&writer);
            }
        });
        synced.map_err(|fault| fault.about(&self.path))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if self.checkpoints().end().is_err_and(|fault| fault.is_of_the_disk()) {
            leave_alone(&self.writer());
        }
    }
}

/// Once the disk has failed, nothing more is written: as it closes, SQLite would copy the write-ahead log back, and sync what
/// could not be synced.
fn leave_alone(writer: &Connection) {
    // It can't fail for an open connection, and the node ends with what went wrong first.
    let _unlikely = writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
}

/// The names of the store's files, for good: SQLite syncs the directory when it makes the write-ahead log, but says nothing
/// where that fails, and a log without a name is lost with all that was synced in it.
fn sync_names(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(dir)?.sync_all()
}

/// Makes the file with mode 0600 before SQLite sees it: the files beside it (`-wal`, `-shm`) get the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path).map(drop)
}

/// Takes from others what they may do with a store that was copied or restored with another mode.
fn keep_private(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::set_permissions(&file, Permissions::from_mode(0o600)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::policy::Policy, log::FederationId};

    fn options() -> StoreOptions {
        StoreOptions::new(FederationId([7; 32]), NodeId::from_stored([1; 32]), Policy::default())
    }

    fn setting(connection: &Connection, name: &str) -> String {
        let answer = connection.pragma_query_value(None, name, |row| {
            let value = row.get_ref(0)?;
            let text = value.as_str().map(str::to_owned);
            Ok(value.as_i64().map(|number| number.to_string()).or(text))
        });
        answer.unwrap().unwrap()
    }

    /// A misspelt setting is no error for the library, so what counts is what it answers.
    #[test]
    fn both_kinds_of_connection_have_their_settings_and_readers_can_not_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let store = SqliteStore::open(&path, options()).unwrap();
        let writer = store.writer.lock().unwrap();
        let reader = open_reader(&path).unwrap();
        for (name, wanted) in [
            ("journal_mode", "wal"),
            ("synchronous", "2"),
            ("fullfsync", "1"),
            ("checkpoint_fullfsync", "1"),
            ("foreign_keys", "1"),
            ("wal_autocheckpoint", "0"),
            ("journal_size_limit", "67108864"),
        ] {
            assert_eq!(setting(&writer, name), wanted, "{name}");
        }
        for connection in [&*writer, &reader] {
            assert_eq!(setting(connection, "mmap_size"), "0");
            assert_eq!(setting(connection, "trusted_schema"), "0");
            assert_eq!(setting(connection, "cell_size_check"), "1");
            assert_eq!(setting(connection, "busy_timeout"), "5000");
        }
        assert!(reader.execute("DELETE FROM meta", []).is_err());
    }

    #[test]
    fn a_read_does_not_wait_for_a_commit_and_sees_none_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let store = SqliteStore::open(&path, options()).unwrap();
        let writer = store.writer.lock().unwrap();
        writer
            .execute_batch(
                "BEGIN IMMEDIATE; INSERT INTO meta VALUES ('newest_time', x'0000000000000007', \
                 seal_of('meta', 'newest_time', x'0000000000000007'))",
            )
            .unwrap();
        assert_eq!(store.load().unwrap().newest_time, Millis::ZERO);
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(store.load().unwrap().newest_time, Millis(7));
    }

    #[test]
    fn a_store_that_was_restored_says_so_until_the_node_has_its_log_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let store = SqliteStore::open(&path, options()).unwrap();
        meta::put(&store.writer(), meta::RESTORED, &[1]).unwrap();
        assert!(store.load().unwrap().restored);
        store.writer().execute("UPDATE meta SET seal = NULL WHERE key = 'restored'", []).unwrap();
        assert!(store.load().unwrap().restored, "in doubt the node asks its peers before it signs");
        store.commit(&[Record::Recovered]).unwrap();
        assert!(!store.load().unwrap().restored);
    }
}
