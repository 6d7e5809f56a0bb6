//! The one writer: a thread that commits what waits, all of it in one transaction. What arrives during a commit joins
//! the next one, so a burst of a thousand thoughts costs a few syncs. What somebody waits for goes first: our own log and small notes
//! have a queue and commits of their own, which others' entries, however many, can't hold up for longer than one of theirs. After a commit of our own entries it moves the sign mark
//! before it tells. A full disk makes it wait; any other failure ends it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
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
pub(crate) const WAITING_BYTES_MAX: usize = 64 << 20;
/// Records that one transaction takes, so that a commit stays a matter of milliseconds.
const RECORDS_PER_COMMIT_MAX: usize = 4_096;
/// Bytes that one transaction takes; the group that reaches it still goes along, because a group is never split.
const BYTES_PER_COMMIT_MAX: usize = 8 << 20;
/// Bytes of others' entries that one transaction takes, likewise: some twenty milliseconds, for which a thought of our own may
/// have to wait.
const OTHERS_BYTES_PER_COMMIT_MAX: usize = 512 << 10;
/// From so many waiting bytes of others' entries on, the writer is behind: a few commits, so that it never runs out of work while
/// more is fetched.
const BEHIND_BYTES: usize = 2 << 20;
/// How long a writer waits on a full disk before it tries again.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// What a record takes beside headers and contents: an account is the most of it, with its fingerprints.
const RECORD_BYTES: usize = 2_560;

const _: () = assert!(BYTES_PER_COMMIT_MAX * 2 <= WAITING_BYTES_MAX);
const _: () =
    assert!(OTHERS_BYTES_PER_COMMIT_MAX * 2 <= BEHIND_BYTES && BEHIND_BYTES * 2 <= WAITING_BYTES_MAX);

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
    queue: Sending,
    own: NodeId,
    ending: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

/// The sender's end of the queue. Dropped, it lets the thread end behind what waits.
#[derive(Debug)]
struct Sending(Arc<Queue>);

/// The thread's end of the queue. Dropped, nothing more is taken.
#[derive(Debug)]
struct Taking(Arc<Queue>);

/// What was sent and not yet taken up by the thread.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Our own log, and notes of a few bytes.
    own: Lane,
    /// What concerns others' logs, in the order in which it came: each builds on what came before.
    others: Lane,
    /// The last commit was of our own.
    was_own: bool,
    /// Nothing more comes.
    is_closed: bool,
    /// Nothing more is taken.
    is_over: bool,
}

#[derive(Debug, Default)]
struct Lane {
    groups: VecDeque<Group>,
    bytes: usize,
}

/// Records that are committed together.
#[derive(Debug)]
struct Group {
    records: Vec<Record>,
    bytes: usize,
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
        let queue = Arc::new(Queue::default());
        let ending = Arc::new(AtomicBool::new(false));
        let own = setup.own;
        let desk = Desk { store, setup, ending: Arc::clone(&ending) };
        let taking = Taking(Arc::clone(&queue));
        let thread = thread::spawn(move || desk.write(&taking, done));
        Self { queue: Sending(queue), own, ending, thread }
    }

    /// Takes records that are to be committed together. Never blocks.
    ///
    /// # Errors
    /// Where too much waits already or the thread has ended. In the first case something waits, so a commit is still
    /// to come, and with it room; in the second `done` has heard of the failure.
    pub fn send(&self, records: Vec<Record>) -> Result<(), WriterFull> {
        let bytes = records.iter().map(record_bytes).sum();
        let is_others = records.iter().any(|record| is_of_others(record, self.own));
        let mut waiting = self.queue.0.lock();
        let is_over = waiting.is_over;
        let lane = if is_others { &mut waiting.others } else { &mut waiting.own };
        if is_over || lane.is_full() {
            return Err(WriterFull { records });
        }
        lane.push(Group { records, bytes });
        drop(waiting);
        self.queue.0.changed.notify_one();
        Ok(())
    }

    /// Whether so much of others' logs waits that nobody should ask for more.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.queue.0.lock().others.bytes >= BEHIND_BYTES
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

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that is done under this lock can leave the queue half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
    }
}

impl Taking {
    /// The records that the next transaction takes; waits for some. `None` where there are none and none will come.
    fn next(&self) -> Option<Vec<Record>> {
        let mut waiting = self.0.lock();
        while waiting.own.groups.is_empty() && waiting.others.groups.is_empty() {
            if waiting.is_closed {
                return None;
            }
            waiting = self.0.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        Some(waiting.take())
    }
}

impl Waiting {
    /// What the next transaction takes. Where both wait they take turns: somebody waits for ours, and
    /// together with others' it would take as long as theirs.
    fn take(&mut self) -> Vec<Record> {
        let ours = !self.own.groups.is_empty() && (self.others.groups.is_empty() || !self.was_own);
        self.was_own = ours;
        if ours {
            self.own.take(RECORDS_PER_COMMIT_MAX, BYTES_PER_COMMIT_MAX)
        } else {
            self.others.take(RECORDS_PER_COMMIT_MAX, OTHERS_BYTES_PER_COMMIT_MAX)
        }
    }
}

impl Lane {
    /// Asked before a group is added, so that one which alone exceeds the bound is taken where nothing waits.
    fn is_full(&self) -> bool {
        self.groups.len() >= WAITING_MAX || self.bytes >= WAITING_BYTES_MAX
    }

    fn push(&mut self, group: Group) {
        self.bytes = self.bytes.saturating_add(group.bytes);
        self.groups.push_back(group);
    }

    /// Records of whole groups, until there are so many.
    fn take(&mut self, records_max: usize, bytes_max: usize) -> Vec<Record> {
        let (mut records, mut bytes) = (vec![], 0_usize);
        while records.len() < records_max
            && bytes < bytes_max
            && let Some(mut group) = self.groups.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(group.bytes);
            bytes = bytes.saturating_add(group.bytes);
            records.append(&mut group.records);
        }
        records
    }
}

/// What the thread has.
struct Desk {
    store: Arc<dyn Store>,
    setup: WriterSetup,
    ending: Arc<AtomicBool>,
}

impl Desk {
    fn write(mut self, queue: &Taking, done: impl Fn(Result<Committed, StoreError>)) {
        while let Some(records) = queue.next() {
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

/// Whether a record belongs to another's log. All of those go one way, in order.
fn is_of_others(record: &Record, own: NodeId) -> bool {
    match record {
        Record::Entries { author, .. } | Record::Mended { author, .. } => *author != own,
        Record::Fault { .. } | Record::Cover { .. } | Record::Cleared { .. } => true,
        Record::Submission { .. }
        | Record::Peer { .. }
        | Record::NewestTime(_)
        | Record::Doubted
        | Record::Recovered => false,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::types::Millis;

    fn group(number: u64, bytes: usize) -> Group {
        Group { records: vec![Record::NewestTime(Millis(number))], bytes }
    }

    fn numbers(records: &[Record]) -> Vec<u64> {
        let number = |record: &Record| if let Record::NewestTime(time) = record { time.0 } else { u64::MAX };
        records.iter().map(number).collect()
    }

    #[test]
    fn ours_waits_for_one_commit_of_others_entries_and_they_wait_for_one_of_ours() {
        let mut waiting = Waiting::default();
        for number in 0..8 {
            waiting.others.push(group(number, OTHERS_BYTES_PER_COMMIT_MAX / 2));
        }
        assert_eq!(numbers(&waiting.take()), [0, 1], "as many as a commit may have");
        waiting.own.push(group(100, 100));
        waiting.own.push(group(101, 100));
        assert_eq!(numbers(&waiting.take()), [100, 101], "what came meanwhile, and nothing beside it");
        waiting.own.push(group(102, 100));
        assert_eq!(numbers(&waiting.take()), [2, 3], "however fast we write");
        waiting.own.push(group(103, 100));
        assert_eq!(numbers(&waiting.take()), [102, 103]);
        assert_eq!(numbers(&waiting.take()), [4, 5]);
        assert_eq!(numbers(&waiting.take()), [6, 7]);
        assert!(waiting.take().is_empty());
        waiting.own.push(group(104, 100));
        assert_eq!(numbers(&waiting.take()), [104]);
        waiting.own.push(group(105, 100));
        assert_eq!(numbers(&waiting.take()), [105], "two of ours in a row where nothing else waits");
    }
}
