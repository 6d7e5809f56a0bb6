//! Load: submitters that want an answer to each thought, and ask again with its key until they have one.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;

use super::nodes::{Node, PATIENCE, request};

/// A thought that a node has acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Acked {
    /// Whose: the node's place in its federation.
    pub(crate) node: usize,
    pub(crate) key: String,
    pub(crate) content: String,
    pub(crate) seq: u64,
}

/// Threads that submit.
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

type Tell = Box<dyn Fn(&Acked) + Send + Sync>;

#[derive(Default)]
struct Shared {
    paused: AtomicBool,
    ended: AtomicBool,
    /// Submitters that wait for the pause to end.
    resting: AtomicUsize,
    acked: Mutex<Vec<Acked>>,
    /// Why somebody asks again, for whoever wonders why nothing goes on.
    last_refusal: Mutex<Option<(Instant, String)>>,
    tell: Option<Tell>,
}

impl Load {
    /// So many submitters at each node.
    pub(crate) fn start(nodes: &[Node], submitters: usize) -> Self {
        Self::start_telling(nodes, submitters, |_| {})
    }

    /// So many submitters at each node; `tell` hears of each answer before the next submission.
    pub(crate) fn start_telling(
        nodes: &[Node],
        submitters: usize,
        tell: impl Fn(&Acked) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared { tell: Some(Box::new(tell)), ..Shared::default() });
        let mut threads = vec![];
        for (node, dir) in nodes.iter().map(|node| node.dir.clone()).enumerate() {
            for submitter in 0..submitters {
                let (shared, dir) = (Arc::clone(&shared), dir.clone());
                threads.push(thread::spawn(move || submit_all(&shared, node, &dir, submitter)));
            }
        }
        Self { shared, threads }
    }

    /// Lets every submission that is under way end with an answer, and no other begin.
    pub(crate) fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        while self.shared.resting.load(Ordering::SeqCst) < self.threads.len() {
            let patient = begun.elapsed() < PATIENCE;
            let last = self.shared.last_refusal.lock().unwrap().clone();
            assert!(patient, "no answer; the last refusal: {:?}", last.map(|(at, why)| (at.elapsed(), why)));
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a submitter has failed");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Goes on.
    pub(crate) fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    /// All that was acknowledged until now.
    pub(crate) fn acked(&self) -> Vec<Acked> {
        self.shared.acked.lock().unwrap().clone()
    }

    /// Ends it; every submission has its answer.
    pub(crate) fn end(mut self) -> Vec<Acked> {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.resume();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.acked()
    }
}

impl Drop for Load {
    /// A test that fails must not leave threads behind that ask dead nodes for ever.
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn refused(&self, why: &str) {
        *self.last_refusal.lock().unwrap() = Some((Instant::now(), why.to_owned()));
    }
}

fn submit_all(shared: &Shared, node: usize, dir: &Path, submitter: usize) {
    let mut mine: Vec<Acked> = vec![];
    for number in 0_usize.. {
        rest(shared);
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        // Now and then an earlier one again: it has its first answer for ever.
        if number % 8 == 7 {
            let again = &mine[number * 31 % mine.len()];
            let Some(seq) = submit(shared, dir, &again.key, &again.content) else { return };
            assert_eq!(seq, again.seq, "a repetition of {again:?} got another answer");
            continue;
        }
        let key = format!("{node}-{submitter}-{number}");
        let content = content(&key, number);
        let Some(seq) = submit(shared, dir, &key, &content) else { return };
        let acked = Acked { node, key, content, seq };
        {
            // Told in the order in which they stand in the list.
            let mut all = shared.acked.lock().unwrap();
            shared.tell.iter().for_each(|tell| tell(&acked));
            all.push(acked.clone());
        }
        mine.push(acked);
    }
}

fn rest(shared: &Shared) {
    if !shared.paused.load(Ordering::SeqCst) {
        return;
    }
    shared.resting.fetch_add(1, Ordering::SeqCst);
    while shared.paused.load(Ordering::SeqCst) && !shared.ended.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
    shared.resting.fetch_sub(1, Ordering::SeqCst);
}

/// The seq under which a thought was recorded; asks until there is an answer, or the load ends.
fn submit(shared: &Shared, dir: &Path, key: &str, content: &str) -> Option<u64> {
    let body = json!({ "content": content, "key": key }).to_string();
    let dir: PathBuf = dir.to_owned();
    loop {
        match request(&dir, "POST", "/v1/thoughts", &body) {
            Ok((200, answer)) => {
                assert_eq!(answer["recorded"].as_bool(), Some(true), "{answer}");
                return answer["seq"].as_u64();
            }
            // It is stopping, or its store has failed: nobody knows what became of it.
            Ok((503, answer)) => shared.refused(&format!("{}: {answer}", dir.display())),
            Err(error) => shared.refused(&format!("{}: {error:?}", dir.display())),
            Ok((status, answer)) => panic!("{status}: {answer}"),
        }
        if shared.ended.load(Ordering::SeqCst) {
            return None;
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// No two are the same. Most are accepted; one in five is rejected, and recorded all the same.
fn content(key: &str, number: usize) -> String {
    let tag: String = key
        .chars()
        .map(|c| c.to_digit(10).map_or('x', |digit| char::from(b"abcdefghij"[digit as usize])))
        .collect();
    if number.is_multiple_of(5) {
        return format!("spam spam {tag}");
    }
    format!(
        "Observation tag{tag} compares measured latency against predicted budgets, noticing where careful batching \
         preserves ordering while federated machines continue sharing evidence"
    )
}
