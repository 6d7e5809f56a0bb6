//! Copies of a store: made while its node runs, checked before they count, and put back in its place.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{
    Connection, Error, ErrorCode, OpenFlags,
    backup::{Backup, StepResult},
};
use tempfile::{Builder, NamedTempFile};

use super::{super::StoreError, faults::Fault, rows::Columns, schema};
/// Pages that are copied between two looks at the progress: 4 MiB.
const PAGES_AT_ONCE: i32 = 1_024;
/// How long a copy waits where somebody holds the file for a moment.
const BUSY_WAIT: Duration = Duration::from_millis(10);
/// Files that SQLite puts beside a store, by what their names end with.
pub(super) const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of the file.
    pub bytes: u64,
    /// Whose logs are in it.
    pub authors: u64,
    /// How many entries.
    pub entries: u64,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyProgress {
    /// Pages that are copied.
    pub pages_done: u64,
    /// Pages in all.
    pub pages_total: u64,
}

/// What happens to a file that has the name of the backup already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and there is no backup.
    Keep,
    /// The backup takes its place once it is whole.
    Replace,
}

/// Why there is no backup, or a backup can't be put back. The store and a file that was there are as before.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is nothing to copy.
    #[error("there is no store `{}`", path.display())]
    NoStore {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The name is taken.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// The store would be its own backup.
    #[error("`{}` belongs to the store itself; a backup is another file, best on another disk", path.display())]
    IsTheStore {
        /// Which.
        path: PathBuf,
    },
    /// A copy can't be made there.
    #[error("can't write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store has damage that would be in the copy too.
    #[error("the store `{}` is damaged, and so would be its backup: {what}; run `cogmesh audit`, and keep the last good backup", path.display())]
    StoreDamaged {
        /// Which.
        path: PathBuf,
        /// What was found first.
        what: String,
    },
    /// The backup can't be trusted.
    #[error("the backup `{}` is damaged: {what}; use another one", path.display())]
    BackupDamaged {
        /// Which.
        path: PathBuf,
        /// What was found first.
        what: String,
    },
    /// It is some other file.
    #[error("`{}` is no backup of a store of cogmesh", path.display())]
    NotABackup {
        /// Which.
        path: PathBuf,
    },
    /// It belongs to another key.
    #[error("the backup `{}` belongs to another node key ({found}), not to the one in this data directory ({own})", path.display())]
    OtherNode {
        /// Which.
        path: PathBuf,
        /// Whose it is, in short form.
        found: String,
        /// Whose the data directory is, in short form.
        own: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies a store as it is at this moment into a file of its own, whether its node runs or not. The copy is written
/// beside `to`, checked, synced and only then given its name; it is one plain file, its owner's alone.
///
/// # Errors
/// See [`CopyError`]; then there is no new file.
pub fn backup(
    store: &Path,
    to: &Path,
    existing: Existing,
    progress: &mut dyn FnMut(CopyProgress),
) -> Result<Copied, CopyError> {
    refuse_store(store, to)?;
    if existing == Existing::Keep && fs::symlink_metadata(to).is_ok() {
        return Err(CopyError::Exists { path: to.to_owned() });
    }
    let source = open(store)?;
    let damaged = |what| CopyError::StoreDamaged { path: store.to_owned(), what };
    let about = |fault: Fault| match damage_of(fault.about(store)) {
        Ok(what) => damaged(what),
        Err(error) => error.into(),
    };
    match kind(&source).map_err(about)? {
        Kind::Ours => {}
        Kind::Foreign => return Err(StoreError::Foreign { path: store.to_owned() }.into()),
        Kind::Newer(found) => return Err(newer(store, found)),
    }
    let unfinished = Unfinished::beside(to)?;
    unfinished.fill(&source, &about, progress)?;
    drop(source);
    let copy = unfinished.open().map_err(about)?;
    if let Some(what) = damage(&copy, "quick_check").map_err(about)? {
        return Err(damaged(what));
    }
    let copied = unfinished.count(&copy).map_err(about)?;
    drop(copy);
    unfinished.finish(to, existing)?;
    Ok(copied)
}

/// What a file is, as far as its first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A store in a schema that we know.
    Ours,
    /// Anything else.
    Foreign,
    /// A store of that schema, which we don't know.
    Newer(i64),
}

pub(super) fn kind(connection: &Connection) -> Result<Kind, Fault> {
    let application: rusqlite::Result<i64> =
        connection.pragma_query_value(None, "application_id", |row| row.get(0));
    let application = match application {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Ok(Kind::Foreign);
        }
        application => application?,
    };
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(match version {
        _ if application != schema::APPLICATION_ID => Kind::Foreign,
        1..=schema::VERSION => Kind::Ours,
        found if found > schema::VERSION => Kind::Newer(found),
        _ => Kind::Foreign,
    })
}

pub(super) fn newer(path: &Path, found: i64) -> CopyError {
    StoreError::Newer { path: path.to_owned(), found, known: schema::VERSION }.into()
}

/// Opens a store for reading. Nothing in the file is changed.
pub(super) fn open(path: &Path) -> Result<Connection, CopyError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CopyError::NoStore { path: path.to_owned() });
        }
        Err(source) => return Err(StoreError::Open { path: path.to_owned(), source }.into()),
        Ok(_) => {}
    }
    super::open_reader(path).map_err(|fault| fault.about(path).into())
}

/// The store's own files are no place for a copy.
pub(super) fn refuse_store(store: &Path, other: &Path) -> Result<(), CopyError> {
    let place = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let Some(found) = place(other) else { return Ok(()) };
    let beside = BESIDE.iter().map(|suffix| with_suffix(store, suffix));
    if beside.chain([store.to_owned()]).any(|path| place(&path) == Some(found)) {
        return Err(CopyError::IsTheStore { path: other.to_owned() });
    }
    Ok(())
}

/// What is damaged, where that is what the error says.
pub(super) fn damage_of(error: StoreError) -> Result<String, StoreError> {
    if let StoreError::Damaged { what, .. } = error { Ok(what) } else { Err(error) }
}

/// What the database finds wrong with its file, if anything.
pub(super) fn damage(connection: &Connection, check: &str) -> Result<Option<String>, Fault> {
    let found: rusqlite::Result<String> =
        connection.query_row(&format!("PRAGMA {check}(1)"), [], |row| row.get(0));
    match found {
        Ok(found) if found == "ok" => Ok(None),
        Ok(found) => Ok(Some(found)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            Ok(Some(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// A copy that has no name yet. Where it gets none, nothing of it remains.
pub(super) struct Unfinished {
    file: NamedTempFile,
    dir: PathBuf,
}

impl Unfinished {
    /// An empty file with mode 0600 in the directory of `path`, so that it can take that name in one step.
    pub(super) fn beside(path: &Path) -> Result<Self, CopyError> {
        let write = |source| CopyError::Write { path: path.to_owned(), source };
        let no_name = || write(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"));
        let mut prefix = path.file_name().ok_or_else(no_name)?.to_owned();
        prefix.push(".");
        let dir = dir_of(path).to_owned();
        let file = Builder::new().prefix(&prefix).suffix(".part").tempfile_in(&dir).map_err(write)?;
        Ok(Self { file, dir })
    }

    /// Copies all of `source` as it is now. A read transaction is held meanwhile: without it a commit of the node would
    /// make the copy begin again, and under load it would never end.
    pub(super) fn fill(
        &self,
        source: &Connection,
        about: &dyn Fn(Fault) -> CopyError,
        progress: &mut dyn FnMut(CopyProgress),
    ) -> Result<(), CopyError> {
        let about = |error: Error| match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { path: self.file.path().to_owned() }.into(),
            Some(_) | None => about(error.into()),
        };
        let moment = source.unchecked_transaction().map_err(about)?;
        // A transaction begins with its first read.
        let _tables: i64 =
            moment.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(about)?;
        let mut copy = self.open_raw().map_err(about)?;
        // Whoever loses power now has no backup yet; it is synced as a whole before it gets its name.
        copy.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(())).map_err(about)?;
        copy.pragma_update(None, "synchronous", "OFF").map_err(about)?;
        let backup = Backup::new(&moment, &mut copy).map_err(about)?;
        loop {
            let step = backup.step(PAGES_AT_ONCE).map_err(about)?;
            let (left, total) = (backup.progress().remaining, backup.progress().pagecount);
            progress(CopyProgress {
                pages_done: u64::try_from(total.saturating_sub(left)).unwrap_or(0),
                pages_total: u64::try_from(total).unwrap_or(0),
            });
            if step == StepResult::Done {
                return Ok(());
            }
            if matches!(step, StepResult::Busy | StepResult::Locked) {
                thread::sleep(BUSY_WAIT);
            }
        }
    }

    /// Opens the copy as a plain file: the write-ahead log of the original is no part of it.
    pub(super) fn open(&self) -> Result<Connection, Fault> {
        let copy = self.open_raw()?;
        schema::configure_reader(&copy)?;
        let mode: String = copy.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
        if mode != "delete" {
            return Err(Fault::Damaged(format!("its journal mode stays `{}`", mode.escape_debug())));
        }
        Ok(copy)
    }

    fn open_raw(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(self.file.path(), flags)
    }

    /// How much is in it.
    pub(super) fn count(&self, copy: &Connection) -> Result<Copied, Fault> {
        let counted = "SELECT (SELECT count(*) FROM authors), (SELECT count(*) FROM entries)";
        let (authors, entries) = copy.query_row(counted, [], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.u64()?, columns.u64()?))
        })?;
        let bytes = fs::metadata(self.file.path()).map_or(0, |file| file.len());
        Ok(Copied { bytes, authors, entries })
    }

    /// Gives the copy its name; after a power cut there is the whole of it, or what was there before.
    pub(super) fn finish(self, to: &Path, existing: Existing) -> Result<(), CopyError> {
        let write = |source| CopyError::Write { path: to.to_owned(), source };
        self.file.as_file().sync_all().map_err(write)?;
        let named = match existing {
            Existing::Replace => self.file.persist(to),
            Existing::Keep => self.file.persist_noclobber(to),
        };
        match named {
            Ok(_) => sync_dir(&self.dir).map_err(write),
            Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CopyError::Exists { path: to.to_owned() })
            }
            Err(failed) => Err(write(failed.error)),
        }
    }
}

/// The directory that a name stands in.
pub(super) fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Names that were given or taken in a directory are on its disk.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The name of a file with something behind it.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
