//! One process per data directory: two with one key would sign two histories.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// The lock file's name in the data directory.
const LOCK_FILE: &str = "lock";

/// Holds a data directory for this process. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DataDirLock {
    file: File,
}

/// Why a data directory can't be had. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another node runs on the data directory `{}`", path.display())]
    Held {
        /// Which.
        path: PathBuf,
    },
    /// The lock file can't be opened.
    #[error("can't lock the data directory `{}`", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DataDirLock {
    /// Takes the directory, or says who has it.
    ///
    /// # Errors
    /// Where another process has it, or the lock file can't be opened.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: data_dir.to_owned(), source };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(data_dir.join(LOCK_FILE))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held { path: data_dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

/// Whether a process holds that data directory. Nothing is made where there is no lock file yet.
///
/// A shared lock tells it for an instant; a node that is started in just that instant would be turned away, so ask only where no node answers.
#[must_use]
pub fn is_held(data_dir: &Path) -> bool {
    let Ok(file) = File::open(data_dir.join(LOCK_FILE)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

impl Drop for DataDirLock {
    fn drop(&mut self) {
        // Closing alone lets go only once every process that was being started meanwhile has closed its copy, too. Where this fails, closing does.
        let _kept = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_held_until_its_lock_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_held(dir.path()) && !dir.path().join(LOCK_FILE).exists());
        let lock = DataDirLock::take(dir.path()).unwrap();
        assert!(matches!(DataDirLock::take(dir.path()), Err(LockError::Held { .. })));
        assert!(is_held(dir.path()));
        // As a process that is just being started has it.
        let copy = lock.file.try_clone().unwrap();
        drop(lock);
        DataDirLock::take(dir.path()).unwrap();
        assert!(!is_held(dir.path()));
        drop(copy);
    }
}
