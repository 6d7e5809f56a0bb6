//! Checkpoints: the write-ahead log is copied back into the store. With durability `full` that happens between two commits: all of it is
//! synced already. With `normal` a checkpoint is what writes and syncs everything since the last one, some ten to thirty milliseconds for which
//! every thought would have to wait; so it runs beside the commits, which go on meanwhile. What is committed during one is left for the
//! next, so after a long one comes a short one, and the short rest is copied between two commits: only a log that is copied back to its
//! end begins anew. (Not with `full`, too: where a sync fails, it may be a commit's own pages that are lost in somebody else's.)

use std::{
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    super::{Durability, StoreError},
    faults::Fault,
};
use crate::failing::checkpoint_pages;

/// Pages of the write-ahead log from which on it is copied back: 16 MiB. SQLite's own default is a quarter of that; but while a node
/// catches up, the same pages of indexes change again and again, and copying them back four times as often cost a tenth of its
/// speed.
const PAGES: u32 = 4_000;
/// The rest that is copied between two commits: at most that part of [`PAGES`], 2 MiB, most of it written to the same few hundred pages.
const REST: i64 = 8;
/// A log of so many times [`PAGES`] waits for its checkpoint: a disk that is slower than commits must not fill up with it.
const BEHIND: i64 = 4;

/// The checkpoint that is under way beside the commits, if there is one. Whoever writes looks after it, so that none begins before it is
/// known how the one before it ended: the system may drop what it could not write, and says nothing of it at the next sync.
#[derive(Debug)]
pub(super) struct Checkpoints {
    durability: Durability,
    running: Option<JoinHandle<Result<(), Fault>>>,
}

/// How long the write-ahead log is, and how much of it is copied back, in pages.
#[derive(Clone, Copy)]
struct Log {
    written: i64,
    copied: i64,
}

impl Checkpoints {
    pub(super) const fn new(durability: Durability) -> Self {
        Self { durability, running: None }
    }

    /// Called after each commit, with the connection that wrote it.
    ///
    /// # Errors
    /// A checkpoint failed, this one or the last that ran beside commits. What is committed stands, and nothing may build on a
    /// sync that failed. Where there was no room the next one tries again.
    pub(super) fn after_commit(&mut self, path: &Path, writer: &Connection) -> Result<(), Fault> {
        let usual = i64::from(checkpoint_pages(PAGES));
        let is_far_behind = |log: Log| log.written >= usual.saturating_mul(BEHIND);
        let mut log = look(writer)?;
        if self.running.as_ref().is_some_and(|running| running.is_finished() || is_far_behind(log)) {
            self.end()?;
            log = look(writer)?;
        }
        let rest = log.written.saturating_sub(log.copied);
        if self.running.is_some() || log.written < usual || rest <= 0 {
            return Ok(());
        }
        let may_be_beside = match self.durability {
            Durability::Full => false,
            Durability::Normal => rest > usual / REST && !is_far_behind(log),
        };
        if may_be_beside && self.begin(path.to_owned()) {
            return Ok(());
        }
        copy_back(writer)
    }

    /// Waits for the one that is under way.
    ///
    /// # Errors
    /// It failed.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.join().map_err(|_| Fault::Refused(StoreError::WriterPanicked))?
    }

    /// Begins one; says whether there was a thread to be had for it.
    fn begin(&mut self, path: PathBuf) -> bool {
        // A thread and a connection for each: 16 MiB later that is nothing, and at rest there is neither.
        let thread = thread::Builder::new().name("checkpoint".to_owned());
        self.running = thread.spawn(move || copy_back(&open(&path)?)).ok();
        self.running.is_some()
    }
}

/// Copies all of the write-ahead log back and syncs, as far as no reader stands in the way: then the log itself is synced.
pub(super) fn full(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))
}

/// Copies back what no reader needs as it is. What SQLite does by itself after a commit, but for its silence about a sync that fails.
fn copy_back(connection: &Connection) -> Result<(), Fault> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}

fn look(connection: &Connection) -> Result<Log, Fault> {
    let log = |row: &rusqlite::Row<'_>| Ok(Log { written: row.get(1)?, copied: row.get(2)? });
    // After each commit, so that it is worth keeping.
    Ok(connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], log)?)
}

/// A connection that only copies back; it leaves the log alone when it closes.
fn open(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store of one table whose every commit writes several pages.
    fn store() -> (tempfile::TempDir, PathBuf, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let writer = Connection::open(&path).unwrap();
        for (name, value) in [("journal_mode", "wal"), ("synchronous", "normal"), ("wal_autocheckpoint", "0")]
        {
            writer.pragma_update_and_check(None, name, value, |_| Ok(())).ok();
        }
        writer.execute("CREATE TABLE t (bytes BLOB)", []).unwrap();
        (dir, path, writer)
    }

    fn commit(writer: &Connection, pages: u32) {
        writer.execute("INSERT INTO t VALUES (randomblob(?1))", [pages * 4_096]).unwrap();
    }

    #[test]
    fn the_log_is_copied_back_beside_commits_and_begins_anew() {
        let (_dir, path, writer) = store();
        let mut checkpoints = Checkpoints::new(Durability::Normal);
        let (mut longest, mut was_beside, mut begun_anew) = (0, 0, 0);
        let mut before = 0;
        for _ in 0..2_000 {
            commit(&writer, 20);
            let had_one = checkpoints.running.is_some();
            checkpoints.after_commit(&path, &writer).unwrap();
            was_beside += u32::from(!had_one && checkpoints.running.is_some());
            let log = look(&writer).unwrap();
            longest = longest.max(log.written);
            begun_anew += u32::from(log.written < before);
            before = log.written;
        }
        let bound = i64::from(PAGES) * BEHIND + 200;
        assert!(longest < bound, "{longest} pages");
        assert!(was_beside >= 3 && begun_anew >= 2, "{was_beside} beside commits, anew {begun_anew} times");
        checkpoints.end().unwrap();
    }

    #[test]
    fn a_log_that_a_slow_disk_lets_grow_waits_for_its_checkpoint() {
        let (_dir, path, writer) = store();
        let mut checkpoints = Checkpoints::new(Durability::Normal);
        commit(&writer, PAGES + 1);
        checkpoints.after_commit(&path, &writer).unwrap();
        assert!(checkpoints.running.is_some(), "so long a rest is copied beside commits");
        commit(&writer, PAGES * 4);
        checkpoints.after_commit(&path, &writer).unwrap();
        assert!(checkpoints.running.is_none(), "it was waited for");
        let log = look(&writer).unwrap();
        assert_eq!(log.written, log.copied, "and the rest was copied as well");
    }

    #[test]
    fn where_commits_are_synced_none_runs_beside_them() {
        let (_dir, path, writer) = store();
        let mut checkpoints = Checkpoints::new(Durability::Full);
        commit(&writer, PAGES + 1);
        checkpoints.after_commit(&path, &writer).unwrap();
        assert!(checkpoints.running.is_none());
        let log = look(&writer).unwrap();
        assert_eq!(log.written, log.copied);
    }

    #[test]
    fn one_that_fails_is_told_at_the_next_commit_and_none_follows_it() {
        let (dir, path, writer) = store();
        let mut checkpoints = Checkpoints::new(Durability::Normal);
        commit(&writer, PAGES + 1);
        // There is no store at that place.
        assert!(checkpoints.begin(dir.path().join("none.db")));
        let told = loop {
            commit(&writer, 1);
            match checkpoints.after_commit(&path, &writer) {
                Ok(()) => thread::yield_now(),
                Err(fault) => break fault,
            }
        };
        assert!(told.to_string().contains("unable to open"), "{told}");
        assert_eq!(look(&writer).unwrap().copied, 0, "nothing was copied after it");
    }
}
