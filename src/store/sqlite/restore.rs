//! Putting a backup back in a store's place. The store that was there is kept beside it.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{
    backup::{
        BESIDE, Copied, CopyError, CopyProgress, Existing, Kind, Unfinished, damage, damage_of, dir_of, kind,
        newer, open, refuse_store, sync_dir, with_suffix,
    },
    faults::Fault,
    meta, schema,
};
use crate::{ledger::types::Millis, log::NodeId};

/// How every file of the database begins.
const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What is in the store now.
    pub store: Copied,
    /// Where the store that was there before is now; `None` where there was none.
    pub before: Option<PathBuf>,
}

/// Puts a backup in the place of a store, whose node does not run. The backup stays as it is; what was in the store's
/// place is kept beside it. The store remembers that it was restored: its node gets its own log back from its peers before it
/// writes again, because what it signed after the backup was made must not be signed another way.
///
/// # Errors
/// See [`CopyError`]. Until the backup was found whole and of the node `own`, and was copied, nothing has changed. Where
/// only the last step fails, the store that was there has its new name already.
pub fn restore(
    backup: &Path,
    store: &Path,
    own: NodeId,
    now: Millis,
    progress: &mut dyn FnMut(CopyProgress),
) -> Result<Restored, CopyError> {
    refuse_store(store, backup)?;
    let source = open(backup)?;
    let damaged = |what| CopyError::BackupDamaged { path: backup.to_owned(), what };
    let about = |fault: Fault| match damage_of(fault.about(backup)) {
        Ok(what) => damaged(what),
        Err(error) => error.into(),
    };
    match kind(&source).map_err(about)? {
        Kind::Ours => {}
        Kind::Foreign => return Err(CopyError::NotABackup { path: backup.to_owned() }),
        Kind::Newer(found) => return Err(newer(backup, found)),
    }
    belongs(backup, &source, own, about)?;
    let unfinished = Unfinished::beside(store)?;
    unfinished.fill(&source, &about, progress)?;
    drop(source);
    // The copy is what counts: so is found what the backup's disk reads wrongly.
    let copy = unfinished.open().map_err(about)?;
    if let Some(what) = damage(&copy, "integrity_check").map_err(about)? {
        return Err(damaged(what));
    }
    let about = |fault: Fault| CopyError::from(fault.about(store));
    mark(&copy, now).map_err(|error| about(error.into()))?;
    let copied = unfinished.count(&copy).map_err(about)?;
    let stamp = stamp(&copy, now).map_err(|error| about(error.into()))?;
    drop(copy);
    let before =
        put_aside(store, &stamp).map_err(|source| CopyError::Write { path: store.to_owned(), source })?;
    unfinished.finish(store, Existing::Keep)?;
    Ok(Restored { store: copied, before })
}

/// The store says that it was restored, and when.
fn mark(copy: &Connection, now: Millis) -> rusqlite::Result<()> {
    let version: i64 = copy.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version >= schema::SEALED_SINCE {
        return meta::put_number(copy, meta::RESTORED, now.0);
    }
    // Sealed when the node brings it to the newest schema.
    let unsealed = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
    copy.execute(unsealed, params![meta::RESTORED, now.0.to_be_bytes()]).map(drop)
}

fn belongs(
    path: &Path,
    backup: &Connection,
    own: NodeId,
    about: impl Fn(Fault) -> CopyError,
) -> Result<(), CopyError> {
    let select = "SELECT value FROM meta WHERE key = 'node'";
    let node: rusqlite::Result<Option<[u8; 32]>> = backup.query_row(select, [], |row| row.get(0)).optional();
    let Some(node) = node.map_err(|error| about(error.into()))? else {
        return Err(CopyError::BackupDamaged {
            path: path.to_owned(),
            what: "it does not say whose it is".into(),
        });
    };
    let found = NodeId::from_stored(node);
    if found != own {
        let path = path.to_owned();
        return Err(CopyError::OtherNode { path, found: found.short(), own: own.short() });
    }
    Ok(())
}

/// `20261123T071502Z`
fn stamp(connection: &Connection, now: Millis) -> rusqlite::Result<String> {
    let seconds = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
    connection.query_row("SELECT strftime('%Y%m%dT%H%M%SZ', ?1, 'unixepoch')", [seconds], |row| row.get(0))
}

/// Gives the store and the files beside it another name. A write-ahead log that stayed would be taken for one of the
/// restored store, and would destroy it.
fn put_aside(store: &Path, stamp: &str) -> io::Result<Option<PathBuf>> {
    fold_log(store);
    let aside = free_name(&with_suffix(store, &format!(".before-restore-{stamp}")));
    let mut before = None;
    for suffix in [""].iter().chain(&BESIDE) {
        match fs::rename(with_suffix(store, suffix), with_suffix(&aside, suffix)) {
            Ok(()) => before = Some(aside.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    sync_dir(dir_of(store))?;
    Ok(before)
}

/// Where the store is one that can be opened, one file is all of it. Where it can't, its files keep together.
fn fold_log(store: &Path) {
    // Looked at by hand: the library throws away the log of a file that it can't read, and there may be something to save.
    if !has_header(store) {
        return;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(connection) = Connection::open_with_flags(store, flags) else { return };
    // Where it is not done, the files are moved together.
    let _folded = connection.pragma_query(None, "wal_checkpoint", |_| Ok(()));
}

fn has_header(store: &Path) -> bool {
    let mut header = [0; HEADER.len()];
    File::open(store).and_then(|mut file| file.read_exact(&mut header)).is_ok() && header == *HEADER
}

fn free_name(wanted: &Path) -> PathBuf {
    let is_free = |path: &Path| fs::symlink_metadata(path).is_err();
    let others = (2_u32..).map(|number| with_suffix(wanted, &format!("-{number}")));
    std::iter::once(wanted.to_owned())
        .chain(others)
        .find(|path| is_free(path))
        .unwrap_or_else(|| wanted.to_owned())
}
