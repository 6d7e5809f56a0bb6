//! The one writer: a thread that commits what waits, all of it in one transaction. What arrives during a commit joins
//! the next one, so a burst of a thousand thoughts costs a few syncs. After a commit of our own entries it moves the sign mark
//! before it tells. A full disk makes it wait; any other failure ends it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{Store, StoreError, sign_mark::SignMark};
use crate::{
    failing::fail_point,
    ledger::types::Seq,
    log::{
        Entry, Hash, NodeId,
        books::{AuthorBook, Record},
        fault::PROOF_BYTES_MAX,
    },
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
/// How long a writer waits on a full disk before it tries again.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// What a record takes beside headers and contents: an account is the most of it, with its fingerprints.
const RECORD_BYTES: usize = 2_560;

const _: () = assert!(BYTES_PER_COMMIT_MAX * 2 <= WAITING_BYTES_MAX);

/// What the writer's thread works with.
#[derive(Debug)]
pub struct WriterSetup {
    /// Whose log is ours.
    pub own: NodeId,
    /// Moved before anything of our own that was committed is told.
    pub mark: Option<Arc<Mutex<SignMark>>>,
    /// The last entry of our own log, where it has one.
    pub end: Option<(Seq, Hash)>,
}

/// Hands records to the writer thread.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<Group>,
    waiting: Arc<Waiting>,
    ending: Arc<AtomicBool>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// How many records it took.
    pub records: usize,
    /// Convicted authors whose logs it cut, and what is left of each.
    pub cut: Vec<(NodeId, Option<AuthorBook>)>,
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
    /// Starts the thread. `done` hears of every commit, of a full disk each time it is tried again, and of the failure that ends
    /// the thread.
    pub fn start(
        store: Arc<dyn Store>,
        setup: WriterSetup,
        done: impl Fn(Result<Committed, StoreError>) + Send + 'static,
    ) -> Self {
        let (queue, groups) = mpsc::channel();
        let waiting = Arc::new(Waiting::default());
        let ending = Arc::new(AtomicBool::new(false));
        let desk = Desk { store, setup, waiting: Arc::clone(&waiting), ending: Arc::clone(&ending) };
        let thread = thread::spawn(move || desk.write(&groups, done));
        Self { queue, waiting, ending, thread }
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

    /// Commits what waits and ends the thread; on a full disk it gives up what waits, which was never acknowledged. Blocks. A commit that failed was told to `done`, and is no error here.
    /// A writer that is dropped instead still commits what waits, but nobody knows when.
    ///
    /// # Errors
    /// Where the thread panicked: what it had not committed is lost, and was never acknowledged.
    pub fn finish(self) -> Result<(), StoreError> {
        self.ending.store(true, Ordering::Release);
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

/// What the thread has.
struct Desk {
    store: Arc<dyn Store>,
    setup: WriterSetup,
    waiting: Arc<Waiting>,
    ending: Arc<AtomicBool>,
}

impl Desk {
    fn write(mut self, groups: &mpsc::Receiver<Group>, done: impl Fn(Result<Committed, StoreError>)) {
        while let Ok(first) = groups.recv() {
            let records = take(first, groups, &self.waiting);
            match self.commit(&records, &done) {
                Ok(Some(committed)) => done(Ok(committed)),
                // What was given up may have been a doubt: the mark says no stop.
                Ok(None) => return,
                Err(error) => {
                    // Nothing later may be written: it would build on what is not there.
                    done(Err(error));
                    return;
                }
            }
        }
        if let Err(error) = self.stop() {
            done(Err(error));
        }
    }

    /// Commits, and waits for room where there is none; `None` where the node ends first.
    fn commit(
        &mut self,
        records: &[Record],
        done: &impl Fn(Result<Committed, StoreError>),
    ) -> Result<Option<Committed>, StoreError> {
        fail_point("commit.begun");
        loop {
            match self.store.commit(records) {
                Ok(()) => break,
                Err(full @ StoreError::Full { .. }) => {
                    if self.ending.load(Ordering::Acquire) {
                        return Ok(None);
                    }
                    done(Err(full));
                    thread::sleep(FULL_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        fail_point("commit.done");
        let end = own_end(records, self.setup.own);
        self.mark(records, end)?;
        fail_point("mark.written");
        let cut = self.cut(records)?;
        Ok(Some(Committed { records: records.len(), cut, own_through: end.map(|(seq, _)| seq) }))
    }

    /// What is left of the logs that were cut.
    fn cut(&self, records: &[Record]) -> Result<Vec<(NodeId, Option<AuthorBook>)>, StoreError> {
        let cut = records.iter().filter_map(|record| match record {
            Record::Fault { author, .. } => Some(*author),
            Record::Entries { .. }
            | Record::Submission { .. }
            | Record::Peer { .. }
            | Record::NewestTime(_)
            | Record::Mended { .. }
            | Record::Doubted
            | Record::Recovered
            | Record::Cover { .. }
            | Record::Cleared { .. } => None,
        });
        cut.map(|author| Ok((author, self.store.book(author)?))).collect()
    }

    /// Before anybody hears of the commit: what is told may be signed.
    fn mark(&mut self, records: &[Record], end: Option<(Seq, Hash)>) -> Result<(), StoreError> {
        self.setup.end = end.or(self.setup.end);
        let own_end = self.setup.end;
        let Some(mut mark) = self.setup.mark() else { return Ok(()) };
        for record in records {
            match record {
                Record::Peer { .. } => mark.met_a_peer()?,
                Record::Doubted => mark.doubt(),
                Record::Recovered => mark.recovered(own_end)?,
                Record::Entries { .. }
                | Record::Submission { .. }
                | Record::NewestTime(_)
                | Record::Mended { .. }
                | Record::Fault { .. }
                | Record::Cover { .. }
                | Record::Cleared { .. } => {}
            }
        }
        match end {
            Some((seq, hash)) => mark.reached(seq, hash),
            None => Ok(()),
        }
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        match self.store.sync() {
            Ok(()) => {}
            // Nothing that was committed is lost; the next start takes it for an end without a stop.
            Err(StoreError::Full { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        match self.setup.mark() {
            Some(mut mark) => mark.stopped(self.setup.end),
            None => Ok(()),
        }
    }
}

impl WriterSetup {
    fn mark(&self) -> Option<MutexGuard<'_, SignMark>> {
        // A mark is written by one call that can't panic halfway.
        self.mark.as_ref().map(|mark| mark.lock().unwrap_or_else(PoisonError::into_inner))
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
        Record::Fault { .. } => PROOF_BYTES_MAX,
        Record::Cover { cover, .. } => cover.byte_len(),
        Record::Submission { .. }
        | Record::Peer { .. }
        | Record::NewestTime(_)
        | Record::Doubted
        | Record::Recovered
        | Record::Cleared { .. } => RECORD_BYTES,
    }
}

/// The last of our own entries among the records.
fn own_end(records: &[Record], own: NodeId) -> Option<(Seq, Hash)> {
    let own_end = |record: &Record| match record {
        Record::Entries { author, book, .. } => (*author == own).then(|| (book.seq(), book.hash)),
        Record::Submission { .. }
        | Record::Peer { .. }
        | Record::NewestTime(_)
        | Record::Mended { .. }
        | Record::Doubted
        | Record::Recovered
        | Record::Fault { .. }
        | Record::Cover { .. }
        | Record::Cleared { .. } => None,
    };
    records.iter().filter_map(own_end).max_by_key(|(seq, _)| *seq)
}
