//! Rebuilding: a store that can't be trusted is set aside, and everything comes back from the peers, the node's own log
//! first. What the old file still tells of the peers' addresses is kept, so that they are found.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{STORE_FILE, StartError, opening::open_store};
use crate::{
    log::books::Record,
    store::{SqliteStore, Store, StoreError, StoreOptions},
};

/// Sets the store in that directory aside, and opens an empty one that knows the old one's peers.
///
/// # Errors
/// Where files can't be renamed or made. What was set aside stays so.
pub(super) fn open(data_dir: &Path, options: StoreOptions) -> Result<Arc<dyn Store>, StartError> {
    let path = data_dir.join(STORE_FILE);
    let aside = set_aside(&path).map_err(|source| StoreError::Open { path: path.clone(), source })?;
    let store = open_store(data_dir, options)?;
    if let Some(aside) = aside {
        let peers = SqliteStore::salvage_peers(&aside);
        tracing::warn!(
            aside = %aside.display(), peers = peers.len(),
            "the old store was set aside; everything is fetched again from the peers"
        );
        let peers = peers.into_iter().map(|(id, peer)| Record::Peer { id, peer });
        let records: Vec<Record> = peers.chain([Record::Doubted]).collect();
        store.commit(&records)?;
    }
    Ok(store)
}

/// Renames the store and the files beside it, never over anything. Returns its new name, where there was one.
fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    if !path.try_exists()? {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let aside = with_suffix(path, &format!(".aside-{now}"));
    for suffix in ["-wal", "-shm"] {
        let beside = with_suffix(path, suffix);
        if beside.try_exists()? {
            fs::rename(&beside, with_suffix(&aside, suffix))?;
        }
    }
    fs::rename(path, &aside)?;
    Ok(Some(aside))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
