//! Who was revoked, on disk: a list that is written whole and synced before anybody acts on a change.

use std::{
    io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{
    identity_file,
    membership::{MembershipError, read},
};
use crate::{
    ledger::types::Millis,
    log::{Revocation, Signature},
    protocol::revocations::REVOCATIONS_MAX,
};

/// The file in the data directory.
const REVOCATIONS_FILE: &str = "revocations.json";
/// Above the length of the longest list: each takes less than 300 bytes.
const FILE_BYTES_MAX: u64 = 300 * REVOCATIONS_MAX as u64;

/// The list, and where it is.
#[derive(Debug)]
pub(super) struct RevocationFile {
    data_dir: PathBuf,
    list: Vec<Revocation>,
}

/// One of them, as it is written.
#[derive(Serialize, Deserialize)]
struct Line {
    node: String,
    time_ms: u64,
    signature: String,
}

impl RevocationFile {
    /// Reads it.
    ///
    /// # Errors
    /// It can't be read, or holds something else.
    pub(super) fn load(data_dir: &Path) -> Result<Self, MembershipError> {
        let path = data_dir.join(REVOCATIONS_FILE);
        let damaged = || MembershipError::Damaged { path: path.clone(), what: "list of revocations" };
        let list = match read(&path, FILE_BYTES_MAX)? {
            None => vec![],
            Some(bytes) => {
                let lines: Vec<Line> = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
                lines.iter().map(parsed).collect::<Option<_>>().ok_or_else(damaged)?
            }
        };
        Ok(Self { data_dir: data_dir.to_owned(), list })
    }

    /// All of them.
    pub(super) fn list(&self) -> &[Revocation] {
        &self.list
    }

    /// Adds some, for good. Blocks for a sync; that happens when nodes are thrown out, and when one that was away hears of it.
    ///
    /// # Errors
    /// It can't be written. It counts until the node stops all the same.
    pub(super) fn add(&mut self, revocations: Vec<Revocation>) -> Result<(), MembershipError> {
        self.list.extend(revocations);
        let lines: Vec<Line> = self.list.iter().map(line).collect();
        let io =
            |source: io::Error| MembershipError::Io { path: self.data_dir.join(REVOCATIONS_FILE), source };
        let text = serde_json::to_vec_pretty(&lines).map_err(|error| io(error.into()))?;
        identity_file::write(&self.data_dir, REVOCATIONS_FILE, &text).map_err(io)
    }
}

fn line(revocation: &Revocation) -> Line {
    Line {
        node: revocation.node.to_text(),
        time_ms: revocation.time.0,
        signature: HEXLOWER.encode(&revocation.signature.0),
    }
}

fn parsed(line: &Line) -> Option<Revocation> {
    let signature = HEXLOWER.decode(line.signature.as_bytes()).ok()?.try_into().ok()?;
    Some(Revocation {
        node: line.node.parse().ok()?,
        time: Millis(line.time_ms),
        signature: Signature(signature),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{FederationId, Identity, NodeId};

    #[test]
    fn the_longest_list_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let one = |number: u32| {
            let mut key = [255; 32];
            key[..4].copy_from_slice(&number.to_le_bytes());
            let (node, time) = (NodeId::from_stored(key), Millis(u64::MAX));
            Revocation { node, time, signature: Signature([255; 64]) }
        };
        let longest: Vec<Revocation> =
            (0..REVOCATIONS_MAX as u32).map(one).filter(has_readable_key).collect();
        assert!(longest.len() > REVOCATIONS_MAX / 2);
        RevocationFile::load(dir.path()).unwrap().add(longest.clone()).unwrap();
        assert_eq!(RevocationFile::load(dir.path()).unwrap().list(), longest);
    }

    fn has_readable_key(revocation: &Revocation) -> bool {
        NodeId::from_key(*revocation.node.as_bytes()).is_ok()
    }

    #[test]
    fn what_was_revoked_is_there_after_a_restart_and_a_damaged_list_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Identity::from_seed(&[1; 32]).unwrap();
        let revocations: Vec<Revocation> = [2, 3]
            .map(|seed| Identity::from_seed(&[seed; 32]).unwrap().node_id())
            .map(|node| Revocation::sign(&ca, &FederationId([5; 32]), node, Millis(7)))
            .to_vec();
        for revocation in &revocations {
            RevocationFile::load(dir.path()).unwrap().add(vec![*revocation]).unwrap();
        }
        assert_eq!(RevocationFile::load(dir.path()).unwrap().list(), revocations);
        let path = dir.path().join(REVOCATIONS_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        for damaged in ["", "[{}]", &text.replacen('a', "x", 9), &text[..text.len() - 1]] {
            std::fs::write(&path, damaged).unwrap();
            assert!(
                matches!(RevocationFile::load(dir.path()), Err(MembershipError::Damaged { .. })),
                "{damaged}"
            );
        }
    }
}
