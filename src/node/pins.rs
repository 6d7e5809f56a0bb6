//! Whom a node with `--pin` may be linked with, on disk: those that it knew when it was pinned first, and those that its operator has
//! approved since. A list that is written whole and synced; whoever wants somebody off it takes the line out while the node is stopped.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use super::{
    Config, identity_file,
    membership::{MembershipError, read},
};
use crate::log::{NodeId, books::Books};

/// The file in the data directory.
const PINS_FILE: &str = "pinned.json";
/// Most nodes that can be approved; each is an operator's doing.
const PINS_MAX: usize = 20_000;
/// Above the length of the longest list: an id in its quotes takes less than 60 bytes.
const FILE_BYTES_MAX: u64 = 60 * PINS_MAX as u64;

/// The list, and where it is.
#[derive(Debug)]
pub(super) struct PinFile {
    data_dir: PathBuf,
    pinned: BTreeSet<NodeId>,
}

impl PinFile {
    /// Reads it. Where there is none yet, it begins with the nodes in the books.
    ///
    /// # Errors
    /// It can't be read or written, or holds something else.
    pub(super) fn open(data_dir: &Path, books: &Books) -> Result<Self, MembershipError> {
        let path = data_dir.join(PINS_FILE);
        let damaged = || MembershipError::Damaged { path: path.clone(), what: "list of approved nodes" };
        let Some(bytes) = read(&path, FILE_BYTES_MAX)? else {
            let pinned = books.authors.keys().chain(books.peers.keys()).copied().take(PINS_MAX).collect();
            let file = Self { data_dir: data_dir.to_owned(), pinned };
            file.write()?;
            return Ok(file);
        };
        let lines: Vec<String> = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        let pinned = lines.iter().map(|line| line.parse().ok()).collect::<Option<_>>().ok_or_else(damaged)?;
        Ok(Self { data_dir: data_dir.to_owned(), pinned })
    }

    /// Those in the list, and those that the user named by their ids for this start.
    pub(super) fn all(&self, config: &Config) -> Vec<NodeId> {
        let named = config.peers.iter().filter_map(|peer| peer.node);
        self.pinned.iter().copied().chain(named).collect()
    }

    /// Adds one, for good. Blocks for a sync; that happens when an operator says so.
    ///
    /// # Errors
    /// It can't be written; nothing is changed.
    pub(super) fn add(&mut self, node: NodeId) -> Result<(), MembershipError> {
        if self.pinned.len() >= PINS_MAX || !self.pinned.insert(node) {
            return Ok(());
        }
        self.write().inspect_err(|_| {
            self.pinned.remove(&node);
        })
    }

    fn write(&self) -> Result<(), MembershipError> {
        let io = |source: io::Error| MembershipError::Io { path: self.data_dir.join(PINS_FILE), source };
        let lines: Vec<String> = self.pinned.iter().map(|node| node.to_text()).collect();
        let text = serde_json::to_vec_pretty(&lines).map_err(|error| io(error.into()))?;
        identity_file::write(&self.data_dir, PINS_FILE, &text).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Identity;

    #[test]
    fn who_was_approved_stays_so_and_a_damaged_list_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let id = |seed| Identity::from_seed(&[seed; 32]).unwrap().node_id();
        let mut file = PinFile::open(dir.path(), &Books::default()).unwrap();
        file.add(id(1)).unwrap();
        file.add(id(2)).unwrap();
        file.add(id(1)).unwrap();
        assert_eq!(
            PinFile::open(dir.path(), &Books::default()).unwrap().pinned,
            BTreeSet::from([id(1), id(2)])
        );
        for damaged in ["", "{}", "[\"thor\"]", "[7]"] {
            std::fs::write(dir.path().join(PINS_FILE), damaged).unwrap();
            let refused = PinFile::open(dir.path(), &Books::default());
            assert!(matches!(refused, Err(MembershipError::Damaged { .. })), "{damaged}");
        }
    }
}
