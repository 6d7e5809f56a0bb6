//! Renewal: a data directory gets a new identity, and what belongs to the old one is put away beside it, never deleted.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{
    DataDirLock, LockError, STORE_FILE,
    identity_file::{self, KEY_FILE, KeyFileError, NewKey},
    membership::{CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, INVITER_FILE},
};
use crate::{
    log::NodeId,
    store::{
        Durability, StoreError,
        sign_mark::{SIGN_MARK_FILE, SignMark},
    },
};

/// What became of a renewal.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// Who the node was.
    pub before: NodeId,
    /// Who it is now.
    pub after: NodeId,
    /// Where the old key, store and sign mark are.
    pub aside: PathBuf,
}

/// Why there is no new identity.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The node runs, or its directory can't be locked. Nothing was changed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The key can't be used. Nothing was changed, unless the old one is put away already: then the next start makes a new one.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The new key's sign mark can't be written. The old identity is put away already; the next start makes a new one.
    #[error(transparent)]
    Mark(#[from] StoreError),
    /// There is no key that could be renewed. Nothing was changed.
    #[error("there is no node in the data directory `{}` yet", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// It holds the CA's key of a closed federation. Nothing was changed.
    #[error("the data directory `{}` holds the CA's key of a closed federation; give the other of the two nodes a new identity", path.display())]
    HoldsCa {
        /// Which.
        path: PathBuf,
    },
    /// A file can't be moved. Those before it, key, store and sign mark in this order, are put away; run it again.
    #[error("can't put `{}` away", path.display())]
    Move {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Puts key, store and sign mark of a stopped node away, and makes a new key. The next start begins a new log and gets the
/// others' logs from the peers.
///
/// # Errors
/// See [`RenewalError`].
pub fn renew(data_dir: &Path, now_ms: u64) -> Result<Renewed, RenewalError> {
    if !data_dir.join(KEY_FILE).exists() {
        return Err(RenewalError::NoKey { path: data_dir.to_owned() });
    }
    let _lock = DataDirLock::take(data_dir)?;
    if data_dir.join(CA_KEY_FILE).exists() {
        return Err(RenewalError::HoldsCa { path: data_dir.to_owned() });
    }
    let no_key = || RenewalError::NoKey { path: data_dir.to_owned() };
    let before = identity_file::load(data_dir)?.ok_or_else(no_key)?.node_id();
    let aside = data_dir.join(format!("retired-{}-{now_ms}", before.short()));
    let moved = |path: &Path, source| RenewalError::Move { path: path.to_owned(), source };
    DirBuilder::new().mode(0o700).create(&aside).map_err(|error| moved(&aside, error))?;
    // The key first: with it still there and the store gone, a start would begin the same node's log anew.
    let store_files = ["-wal", "-shm", ""].map(|suffix| format!("{STORE_FILE}{suffix}"));
    // A member's certificate is worth nothing without its key: the new node joins with a ticket of its own.
    let others = [SIGN_MARK_FILE, CERTIFICATE_FILE, CA_FILE, INVITER_FILE].map(str::to_owned);
    for name in [KEY_FILE.to_owned()].into_iter().chain(store_files).chain(others) {
        let path = data_dir.join(&name);
        match fs::rename(&path, aside.join(&name)) {
            Ok(()) => sync(&aside).and_then(|()| sync(data_dir)).map_err(|error| moved(&path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(moved(&path, error)),
        }
    }
    let key = NewKey::make()?;
    let after = key.node_id();
    SignMark::of_a_new_key(data_dir, after, Durability::default())?;
    key.save(data_dir)?;
    Ok(Renewed { before, after, aside })
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_directory_has_a_new_key_and_keeps_the_old_files_aside() {
        let dir = tempfile::tempdir().unwrap();
        let old = identity_file::load_or_create(dir.path()).unwrap().node_id();
        for name in [STORE_FILE, "store.db-wal", SIGN_MARK_FILE, CERTIFICATE_FILE, CA_FILE, "cogmesh.toml"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let renewed = renew(dir.path(), 7).unwrap();
        assert_eq!(renewed.before, old);
        assert_ne!(renewed.after, old);
        assert_eq!(identity_file::load(dir.path()).unwrap().unwrap().node_id(), renewed.after);
        assert_eq!(identity_file::load(&renewed.aside).unwrap().unwrap().node_id(), old);
        assert_eq!(fs::read_to_string(renewed.aside.join("store.db-wal")).unwrap(), "store.db-wal");
        for name in [STORE_FILE, CERTIFICATE_FILE, CA_FILE] {
            assert!(!dir.path().join(name).exists() && renewed.aside.join(name).exists(), "{name}");
        }
        assert_eq!(fs::read_to_string(renewed.aside.join(SIGN_MARK_FILE)).unwrap(), SIGN_MARK_FILE);
        assert!(dir.path().join("cogmesh.toml").exists(), "the configuration stays");
    }

    #[test]
    fn a_running_node_an_empty_directory_and_the_ca_of_a_federation_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(renew(dir.path(), 7), Err(RenewalError::NoKey { .. })));
        let old = identity_file::load_or_create(dir.path()).unwrap().node_id();
        let running = DataDirLock::take(dir.path()).unwrap();
        assert!(matches!(renew(dir.path(), 7), Err(RenewalError::Lock(LockError::Held { .. }))));
        assert_eq!(identity_file::load(dir.path()).unwrap().unwrap().node_id(), old);
        drop(running);
        fs::write(dir.path().join(CA_KEY_FILE), "").unwrap();
        assert!(matches!(renew(dir.path(), 7), Err(RenewalError::HoldsCa { .. })));
    }
}
