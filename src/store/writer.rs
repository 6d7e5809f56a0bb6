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
    log::{NodeId, books::Record},
};

/// Groups of records that may wait. A group is one thought or one segment, so 4,096 of the longest thoughts are 64 MiB.
const WAITING_MAX: usize = 4_096;
/// Records that one transaction takes, so that a commit stays a matter of milliseconds.
const RECORDS_PER_COMMIT_MAX: usize = 4_096;

/// Hands records to the writer thread.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<Vec<Record>>,
    waiting: Arc<AtomicUsize>,
    thread: thread::JoinHandle<Result<(), StoreError>>,
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
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        let thread = thread::spawn(move || write(&*store, own, &groups, &counted, done));
        Self {
            queue,
            waiting,
            thread,
        }
    }

    /// Takes records that are to be committed together. Never blocks.
    ///
    /// # Errors
    /// Where too much waits already or the thread has ended.
    pub fn send(&self, records: Vec<Record>) -> Result<(), WriterFull> {
        if self.waiting.load(Ordering::Acquire) >= WAITING_MAX {
            return Err(WriterFull { records });
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.queue
            .send(records)
            .map_err(|mpsc::SendError(records)| WriterFull { records })
    }

    /// Commits what waits and ends the thread. Blocks.
    ///
    /// # Errors
    /// The failure that ended the writer, where it had failed and `done` could not be told.
    pub fn finish(self) -> Result<(), StoreError> {
        drop(self.queue);
        // A panic there was printed by its thread; what it had not committed was never acknowledged.
        self.thread.join().unwrap_or(Ok(()))
    }
}

fn write(
    store: &dyn Store,
    own: NodeId,
    groups: &mpsc::Receiver<Vec<Record>>,
    waiting: &AtomicUsize,
    done: impl Fn(Result<Committed, StoreError>),
) -> Result<(), StoreError> {
    while let Ok(mut records) = groups.recv() {
        waiting.fetch_sub(1, Ordering::AcqRel);
        while records.len() < RECORDS_PER_COMMIT_MAX
            && let Ok(mut more) = groups.try_recv()
        {
            waiting.fetch_sub(1, Ordering::AcqRel);
            records.append(&mut more);
        }
        match store.commit(&records) {
            Ok(()) => done(Ok(Committed {
                records: records.len(),
                own_through: own_through(&records, own),
            })),
            Err(error) => {
                // Nothing later may be written: it would build on what is not there.
                done(Err(error));
                return Ok(());
            }
        }
    }
    Ok(())
}

fn own_through(records: &[Record], own: NodeId) -> Option<Seq> {
    let own_seq = |record: &Record| match record {
        Record::Entries { author, book, .. } => (*author == own).then(|| book.seq()),
        Record::Submission { .. } | Record::Peer { .. } | Record::NewestTime(_) => None,
    };
    records.iter().filter_map(own_seq).max()
}
