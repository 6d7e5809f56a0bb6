//! What a node must not forget, on disk.
//!
//! A [`Store`] keeps the books and the log: [`Store::commit`] takes several records, all or none, and they are durable
//! when it returns. [`SqliteStore`] is what nodes use; [`MemoryStore`] is for tests and simulations, and fails on request.
//! One thread ([`writer::Writer`]) commits; what arrives during a commit joins the next one. Reads never wait for it.
//!
//! **Invariant.** The process keeps no second truth: after a restart memory is rebuilt from here.

mod audit;
mod error;
mod follows;
mod memory;
mod options;
mod pruning;
mod query;
pub mod sign_mark;
mod sqlite;
pub mod writer;

use std::collections::BTreeMap;

pub(crate) use self::pruning::is_overfull;
pub use self::{
    audit::{AuditProgress, AuditReport, MISMATCHES_MAX, Mismatch},
    error::{DatabaseFault, StoreError},
    memory::MemoryStore,
    options::{CorpusBounds, Durability, StoreOptions},
    query::{
        Rates, SEARCH_BYTES_MAX, SEARCH_WORDS_MAX, SearchFault, SearchWords, THOUGHTS_MAX, ThoughtQuery,
        ThoughtRow,
    },
    sqlite::{
        Copied, CopyError, CopyProgress, Existing, ExportError, ExportedThought, Restored, SqliteStore,
        audit, backup, export, restore,
    },
};
use crate::{
    ledger::{
        economy::Session,
        types::{Millis, Seq},
    },
    log::{
        NodeId, Proof, Segment,
        books::{AuthorBook, Books, Record, StoredEntry},
    },
};

/// Most entries that one read returns: as many as a segment holds.
pub const ENTRIES_MAX: usize = crate::log::SEGMENT_ENTRIES_MAX;

/// Most peers that are remembered; those that were connected longest ago are forgotten first. A peer takes about 200
/// bytes, and more than these can't be dialled in any useful time.
pub const PEERS_MAX: usize = 1_024;

/// Most thoughts that [`Store::sessions`] looks at, the newest: about 20 MiB while it runs.
pub const SESSION_THOUGHTS_MAX: usize = 100_000;

/// What a look through part of the log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where the next look begins; `None` after the last entry.
    pub next: Option<(NodeId, Seq)>,
    /// Entries whose row, content or account is not what was written. They are among [`Books::missing`] now, or were
    /// mended at once where the store itself could do it.
    pub damaged: Vec<(NodeId, Seq)>,
}

/// What of the corpus was let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many contents.
    pub contents: u64,
    /// How many bytes they had.
    pub bytes: u64,
}

/// How large the corpus is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorpusSize {
    /// Accepted thoughts whose contents are kept.
    pub thoughts: u64,
    /// Bytes of all contents that are kept, those of rejected thoughts among them.
    pub bytes: u64,
}

/// Where a node keeps what it must not forget. All calls block.
pub trait Store: std::fmt::Debug + Send + Sync + 'static {
    /// All that a node remembers. What of it is damaged is put right first, where the rest of the store says what it was.
    ///
    /// # Errors
    /// Where the store can't be read or holds what it could not have written, and can't put right.
    fn load(&self) -> Result<Books, StoreError>;

    /// Keeps those records, all or none; they are durable when it returns. Each author's entries follow what is stored of
    /// it without a gap, and none is written twice: that is checked here once more, because a log with a hole or a
    /// second entry at one seq can't be mended later.
    ///
    /// # Errors
    /// Where they can't be kept; then none of them is.
    fn commit(&self, records: &[Record]) -> Result<(), StoreError>;

    /// Consecutive entries of an author from `from` on: at least one where there is one, then as many as stay within
    /// `bytes_max` bytes of headers and contents, at most [`ENTRIES_MAX`]. Each is checked against its hash, its content
    /// against its header, before it is given out; entries before a damaged one are given out without it. A damaged content is left
    /// out, and is missing from then on.
    ///
    /// # Errors
    /// Where the store can't be read. [`StoreError::DamagedEntry`] where the first of them is damaged; it is missing from
    /// then on.
    fn entries(&self, author: NodeId, from: Seq, bytes_max: usize) -> Result<Vec<StoredEntry>, StoreError>;

    /// The accepted thoughts that a query asks for, the oldest first.
    ///
    /// # Errors
    /// Where the store can't be read.
    fn thoughts(&self, query: &ThoughtQuery) -> Result<Vec<ThoughtRow>, StoreError>;

    /// How many thoughts were rewarded and how many were penalised since that time (as their authors wrote it).
    ///
    /// # Errors
    /// Where the store can't be read.
    fn rates(&self, since: Millis) -> Result<Rates, StoreError>;

    /// Every session of the newest [`SESSION_THOUGHTS_MAX`] accepted thoughts, by its name; participants are node ids as
    /// text. Contents are not read, and count though they were pruned.
    ///
    /// # Errors
    /// Where the store can't be read.
    fn sessions(&self) -> Result<BTreeMap<String, Session>, StoreError>;

    /// Looks through at most `rows` entries from `from` on (`None`: from the first author's first), in the order of authors
    /// and seqs, and quarantines what is damaged.
    ///
    /// # Errors
    /// Where the store can't be read, or its file is damaged so that entries can't be told apart.
    fn scrub(&self, from: Option<(NodeId, Seq)>, rows: usize) -> Result<Scrubbed, StoreError>;

    /// Where the corpus is fuller than nine tenths of its bounds, lets go of contents of the lowest priority until it is seven tenths full
    /// (ledger.md, Layer 7). Headers, verdicts and accounts stay. Costs nothing where it is not so full.
    ///
    /// # Errors
    /// Where the store can't be read or written. What was let go before that stays let go.
    fn prune(&self, now: Millis) -> Result<Pruned, StoreError>;

    /// How large the corpus is.
    fn corpus(&self) -> CorpusSize;

    /// What is remembered of one author.
    ///
    /// # Errors
    /// Where the store can't be read.
    fn book(&self, author: NodeId) -> Result<Option<AuthorBook>, StoreError>;

    /// What convicts an author, where it was convicted.
    ///
    /// # Errors
    /// Where the store can't be read.
    fn proof(&self, author: NodeId) -> Result<Option<Proof>, StoreError>;

    /// What covers the last entries of a convicted author's log, where no signed head among them does: bare entries through a signed head behind
    /// the cut.
    ///
    /// # Errors
    /// Where the store can't be read.
    fn cover(&self, author: NodeId) -> Result<Option<Segment>, StoreError>;

    /// Everything that was committed is on the disk when it returns, also where commits themselves are not synced.
    ///
    /// # Errors
    /// Where that can't be had.
    fn sync(&self) -> Result<(), StoreError>;
}
