//! The one writer: a thread that commits what waits, all of it in one transaction. What arrives during a commit joins
//! the next one, so a burst of a thousand thoughts costs a few syncs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use super::{Store, StoreError};
use crate::{
    ledger::types::Seq,
    log::{Entry, NodeId, books::Record},
};

/// Groups of records that may wait. A group is one thought or one segment.
const WAITING_MAX: usize = 4_096;
/// Bytes that may wait. Thoughts alone stay within it by their number (4,096 of the longest), but a catch-up brings
/// segments of 256 KiB, and 4,096 of those would be a gigabyte where the disk is slow.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Records that one transaction takes, so that a commit stays a matter of milliseconds.
const RECORDS_PER_COMMIT_MAX: usize = 4_096;
/// Bytes that one transaction takes; the group that reaches it still goes along, because a group is never split.
const BYTES_PER_COMMIT_MAX: usize = 8 << 20;
/// What a record takes beside headers and contents: an account is the most of it, with its fingerprints.
const RECORD_BYTES: usize = 2_560;

const _: () = assert!(BYTES_PER_COMMIT_MAX * 2 <= WAITING_BYTES_MAX);

/// Hands records to the writer thread.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<Group>,
    waiting: Arc<Waiting>,
    thread: thread::JoinHandle<()>,
}

/// Records that are committed together.
#[derive(Debug)]
struct Group {
    records: Vec<Record>,
    bytes: usize,
}

/// What was sent and not yet taken up by the thread.
#[derive(Debug, Default)]
struct Waiting {
    groups: AtomicUsize,
    bytes: AtomicUsize,
}

/// A commit that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// How many records it took.
    pub records: usize,
    /// The last of our own entries in it, where it had any.
    pub own_through: Option<Seq>,
}

/// The writer has no room, or has failed. Nothing was taken; the records come back.
#[derive(Debug)]
pub struct WriterFull {
    /// What was to be written.
    pub records: Vec<Record>,
}

impl Writer {
    /// Starts the thread. `done` hears of every commit, and of the failure that ends it.
    pub fn start(
        store: Arc<dyn Store>,
        own: NodeId,
        done: impl Fn(Result<Committed, StoreError>) + Send + 'static,
    ) -> Self {
        let (queue, groups) = mpsc::channel();
        let waiting = Arc::new(Waiting::default());
        let counted = Arc::clone(&waiting);
        let thread = thread::spawn(move || write(&*store, own, &groups, &counted, done));
        Self { queue, waiting, thread }
    }

    /// Takes records that are to be committed together. Never blocks.
    ///
    /// # Errors
    /// Where too much waits already or the thread has ended. In the first case something waits, so a commit is still
    /// to come, and with it room; in the second `done` has heard of the failure.
    pub fn send(&self, records: Vec<Record>) -> Result<(), WriterFull> {
        if self.waiting.is_full() {
            return Err(WriterFull { records });
        }
        let bytes = records.iter().map(record_bytes).sum();
        self.waiting.add(bytes);
        self.queue
            .send(Group { records, bytes })
            .map_err(|mpsc::SendError(group)| WriterFull { records: group.records })
    }

    /// Commits what waits and ends the thread. Blocks. A commit that failed was told to `done`, and is no error here.
    /// A writer that is dropped instead still commits what waits, but nobody knows when.
    ///
    /// # Errors
    /// Where the thread panicked: what it had not committed is lost, and was never acknowledged.
    pub fn finish(self) -> Result<(), StoreError> {
        drop(self.queue);
        self.thread.join().map_err(|_| StoreError::WriterPanicked)
    }
}

impl Waiting {
    /// Asked before a group is added, so that one which alone exceeds the bound is taken where nothing waits.
    fn is_full(&self) -> bool {
        self.groups.load(Ordering::Acquire) >= WAITING_MAX
            || self.bytes.load(Ordering::Acquire) >= WAITING_BYTES_MAX
    }

    fn add(&self, bytes: usize) {
        self.groups.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn remove(&self, bytes: usize) {
        self.groups.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

fn write(
    store: &dyn Store,
    own: NodeId,
    groups: &mpsc::Receiver<Group>,
    waiting: &Waiting,
    done: impl Fn(Result<Committed, StoreError>),
) {
    while let Ok(first) = groups.recv() {
        let records = take(first, groups, waiting);
        match store.commit(&records) {
            Ok(()) => done(Ok(Committed { records: records.len(), own_through: own_through(&records, own) })),
            Err(error) => {
                // Nothing later may be written: it would build on what is not there.
                done(Err(error));
                return;
            }
        }
    }
}

/// The records of `first` and of what waits behind it, as far as one transaction takes them.
fn take(first: Group, groups: &mpsc::Receiver<Group>, waiting: &Waiting) -> Vec<Record> {
    let Group { mut records, mut bytes } = first;
    waiting.remove(bytes);
    while records.len() < RECORDS_PER_COMMIT_MAX
        && bytes < BYTES_PER_COMMIT_MAX
        && let Ok(mut more) = groups.try_recv()
    {
        waiting.remove(more.bytes);
        bytes = bytes.saturating_add(more.bytes);
        records.append(&mut more.records);
    }
    records
}

fn record_bytes(record: &Record) -> usize {
    match record {
        Record::Entries { entries, .. } => {
            entries.iter().map(|judged| judged.entry.byte_len()).sum::<usize>().saturating_add(RECORD_BYTES)
        }
        Record::Mended { entries, .. } => {
            entries.iter().map(Entry::byte_len).sum::<usize>().saturating_add(RECORD_BYTES)
        }
        Record::Submission { .. } | Record::Peer { .. } | Record::NewestTime(_) | Record::Recovered => {
            RECORD_BYTES
        }
    }
}

fn own_through(records: &[Record], own: NodeId) -> Option<Seq> {
    let own_seq = |record: &Record| match record {
        Record::Entries { author, book, .. } => (*author == own).then(|| book.seq()),
        Record::Submission { .. }
        | Record::Peer { .. }
        | Record::NewestTime(_)
        | Record::Mended { .. }
        | Record::Recovered => None,
    };
    records.iter().filter_map(own_seq).max()
}
