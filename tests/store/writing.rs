//! The writer: what waits is committed together, within bounds, and nothing is written after a failure.

use cogmesh::log::{Proof, Segment};

use super::*;

/// A store whose commits wait until they are let go, and are counted.
#[derive(Debug, Default)]
struct Gate {
    inner: MemoryStore,
    open: Mutex<bool>,
    opened: Condvar,
    commits: Mutex<Vec<usize>>,
}

impl Store for Gate {
    fn load(&self) -> Result<Books, StoreError> {
        self.inner.load()
    }
    fn commit(&self, records: &[Record]) -> Result<(), StoreError> {
        self.commits.lock().unwrap().push(records.len());
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
        self.inner.commit(records)
    }
    fn entries(&self, author: NodeId, from: Seq, bytes_max: usize) -> Result<Vec<StoredEntry>, StoreError> {
        self.inner.entries(author, from, bytes_max)
    }
    fn thoughts(&self, query: &ThoughtQuery) -> Result<Vec<ThoughtRow>, StoreError> {
        self.inner.thoughts(query)
    }
    fn rates(&self, since: Millis) -> Result<Rates, StoreError> {
        self.inner.rates(since)
    }
    fn sessions(&self) -> Result<BTreeMap<String, Session>, StoreError> {
        self.inner.sessions()
    }
    fn scrub(&self, from: Option<(NodeId, Seq)>, rows: usize) -> Result<Scrubbed, StoreError> {
        self.inner.scrub(from, rows)
    }
    fn prune(&self, now: Millis) -> Result<Pruned, StoreError> {
        self.inner.prune(now)
    }
    fn corpus(&self) -> CorpusSize {
        self.inner.corpus()
    }
    fn book(&self, author: NodeId) -> Result<Option<AuthorBook>, StoreError> {
        self.inner.book(author)
    }
    fn proof(&self, author: NodeId) -> Result<Option<Proof>, StoreError> {
        self.inner.proof(author)
    }
    fn cover(&self, author: NodeId) -> Result<Option<Segment>, StoreError> {
        self.inner.cover(author)
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }
}

fn desk(own: NodeId) -> WriterSetup {
    WriterSetup { own, mark: None, end: None }
}

#[test]
fn what_arrives_during_a_commit_joins_the_next_one() {
    let store = Arc::new(Gate::default());
    let mut author = Author::new(1);
    let (told, hears) = mpsc::channel();
    let writer = Writer::start(store.clone(), desk(author.id), move |done| {
        told.send(done.unwrap()).unwrap();
    });
    for number in 0..500 {
        writer.send(vec![author.next(&good(number))]).unwrap();
    }
    *store.open.lock().unwrap() = true;
    store.opened.notify_all();
    writer.finish().unwrap();
    let done: Vec<_> = hears.iter().collect();
    assert_eq!(done.iter().map(|commit| commit.records).sum::<usize>(), 500);
    assert_eq!(done.last().unwrap().own_through, Some(Seq(499)));
    let commits = store.commits.lock().unwrap().clone();
    assert!(commits.len() <= 3, "500 groups took {} commits", commits.len());
    assert_eq!(store.load().unwrap().authors[&author.id].seq(), Seq(499));
}

#[test]
fn a_failed_commit_is_told_once_and_nothing_is_written_after_it() {
    let store = Arc::new(MemoryStore::default());
    let mut author = Author::new(1);
    let (told, hears) = mpsc::channel();
    let writer = Writer::start(store.clone(), desk(author.id), move |done| {
        told.send(done.is_ok()).unwrap();
    });
    writer.send(vec![author.next("")]).unwrap();
    assert!(hears.recv().unwrap());
    store.fail();
    writer.send(vec![author.next(&good(1))]).unwrap();
    assert!(!hears.recv().unwrap());
    writer.finish().unwrap();
    assert!(hears.recv().is_err(), "told once");
    assert_eq!(store.copy().load().unwrap().authors[&author.id].seq(), Seq::GENESIS);
}

#[test]
fn the_queue_takes_no_more_than_its_bytes_and_gives_the_rest_back() {
    let store = Arc::new(Gate::default());
    let (mut author, mut peer) = (Author::new(1), Author::new(2));
    let (told, hears) = mpsc::channel();
    let writer = Writer::start(store.clone(), desk(author.id), move |done| told.send(done).unwrap());
    // Seventeen mebibytes a group, so that five are more than the queue's 64.
    let mut long = |number: u32| match author.next(&good(number)) {
        Record::Entries { author, entries, book } => {
            let entries = vec![entries[0].clone(); (17 << 20) / entries[0].entry.byte_len()];
            Record::Entries { author, entries, book }
        }
        Record::Submission { .. }
        | Record::Peer { .. }
        | Record::NewestTime(_)
        | Record::Mended { .. }
        | Record::Doubted
        | Record::Recovered
        | Record::Fault { .. }
        | Record::Cover { .. }
        | Record::Cleared { .. } => unreachable!(),
    };
    long(0);
    let group = vec![long(1)];
    let sent = (0..100).take_while(|_| writer.send(group.clone()).is_ok()).count();
    assert!((4..=5).contains(&sent), "{sent} groups of 17 MiB were taken");
    let refused = writer.send(group).unwrap_err();
    assert_eq!(refused.records.len(), 1, "what was not taken comes back");
    writer.send(vec![peer.next("")]).expect("others' entries have a bound of their own");
    *store.open.lock().unwrap() = true;
    store.opened.notify_all();
    writer.finish().unwrap();
    drop(hears);
    let first = store.commits.lock().unwrap()[0];
    assert_eq!(first, 1, "a group above the bound of a transaction goes alone");
}

#[test]
fn our_own_entry_waits_for_one_commit_of_others_and_not_for_all_that_came_before_it() {
    let store = Arc::new(Gate::default());
    let (mut author, mut peer) = (Author::new(1), Author::new(2));
    let (told, hears) = mpsc::channel();
    let writer = Writer::start(store.clone(), desk(author.id), move |done| told.send(done.unwrap()).unwrap());
    for number in 0..2_000 {
        let content = if number == 0 { String::new() } else { good(number) };
        writer.send(vec![peer.next(&content)]).unwrap();
    }
    assert!(writer.is_behind(), "five megabytes wait");
    writer.send(vec![author.next("")]).unwrap();
    *store.open.lock().unwrap() = true;
    store.opened.notify_all();
    writer.finish().unwrap();
    let done: Vec<_> = hears.iter().collect();
    // The first may have begun before there was anything of ours.
    let ours = done.iter().position(|commit| commit.own_through == Some(Seq::GENESIS)).unwrap();
    assert!(ours <= 1, "it came in commit {ours}");
    assert!(done.len() > 4, "others' entries are taken a part at a time: {done:?}");
    assert_eq!(store.load().unwrap().authors[&peer.id].seq(), Seq(1_999), "in their order");
}

#[test]
fn a_panic_of_the_writers_thread_is_told_at_the_end() {
    let mut author = Author::new(1);
    let writer = Writer::start(Arc::new(MemoryStore::default()), desk(author.id), |_| panic!("on purpose"));
    writer.send(vec![author.next("")]).unwrap();
    assert!(matches!(writer.finish(), Err(StoreError::WriterPanicked)));
}
