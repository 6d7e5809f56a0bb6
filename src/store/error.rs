//! What can go wrong with a store; each variant says whether anything changed and what to do.

use std::{error, fmt, io, path::PathBuf};

use crate::{ledger::types::Seq, log::NodeId};

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be made or opened. Nothing was changed.
    #[error("can't open the store `{}`", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite failed. A read changed nothing. A commit that failed kept nothing, but where it was the sync that failed
    /// nobody can know before the file is opened again; so the node stops writing and is started again, never retries.
    #[error("the store `{}` failed", path.display())]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: DatabaseFault,
    },
    /// The file is something else than a store of cogmesh. Nothing was changed; move it away.
    #[error("`{}` is no store of cogmesh; move it away, and the node makes a new one", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// A newer version wrote it. Nothing was changed; use that version again.
    #[error("the store `{}` was written by a newer version of cogmesh (schema {found}, this one knows {known}); use that version, or another data directory", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// It belongs to another federation, or to other rules. Nothing was changed.
    #[error("the store `{}` belongs to another federation ({found}, asked for was {wanted}): the federation's name and every value of its policy are part of that id; start with the ones it was made with, or with another `--data-dir`", path.display())]
    OtherFederation {
        /// Which.
        path: PathBuf,
        /// The first digits of its federation's id.
        found: String,
        /// The first digits of the one asked for.
        wanted: String,
    },
    /// It belongs to another key. Nothing was changed.
    #[error("the store `{}` belongs to another node key ({found}); put that key back, or use another `--data-dir`", path.display())]
    OtherNode {
        /// Which.
        path: PathBuf,
        /// Whose, in short form.
        found: String,
    },
    /// It holds what this program could not have written. Nothing was changed.
    #[error("the store `{}` is damaged: {what}; put a backup back (`cogmesh restore FILE`), or start with `cogmesh start --rebuild-from-peers`: it sets the damaged file aside and fetches everything again from the peers", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A stored entry is not what was written. Nothing else was changed; it is among what is missing now, and is fetched again.
    #[error("entry {seq} of {author} is damaged in the store")]
    DamagedEntry {
        /// Whose.
        author: NodeId,
        /// Which.
        seq: Seq,
    },
    /// The file that says how far the node has signed can't be used. Nothing may be signed without it; what was committed stays.
    #[error("can't use the sign mark `{}`", path.display())]
    SignMark {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is full. Nothing was changed; the same commit can be tried again once there is room.
    #[error("there is no space left for the store `{}`", path.display())]
    Full {
        /// Which.
        path: PathBuf,
    },
    /// A record's entries do not follow what is stored of their author, or its book is not the one after them. A fault
    /// of the program. Nothing was changed; the node stops writing, because what follows builds on that record.
    #[error(
        "entry {found} of {author} can't be stored where entry {wanted} is the next; start the node again and report this"
    )]
    DoesNotFollow {
        /// Whose.
        author: NodeId,
        /// The seq that would have been stored.
        found: Seq,
        /// The one that is missing.
        wanted: Seq,
    },
    /// The writer's thread panicked, which is a fault of the program. What it had not committed is lost, and was never
    /// acknowledged; the node ends and is started again.
    #[error("the thread that writes the store panicked; start the node again and report what it printed")]
    WriterPanicked,
    /// A test made it fail. Nothing was changed.
    #[error("the store failed because it was told to")]
    OnRequest,
}

/// An error of the database library, which stays behind the store's door.
#[derive(Debug)]
pub struct DatabaseFault(pub(super) Box<dyn error::Error + Send + Sync>);

impl fmt::Display for DatabaseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for DatabaseFault {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source()
    }
}
