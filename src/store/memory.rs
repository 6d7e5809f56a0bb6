//! A store in memory, for tests and simulations: it keeps what a real one keeps, and fails on request.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    CorpusBounds, CorpusSize, ENTRIES_MAX, PEERS_MAX, Pruned, Rates, SESSION_THOUGHTS_MAX, Scrubbed,
    SearchWords, Store, StoreError, THOUGHTS_MAX, ThoughtQuery, ThoughtRow, follows, pruning,
    query::{self, SessionRow},
};
use crate::{
    ledger::{
        Verdict,
        economy::Session,
        policy::Policy,
        types::{Millis, Ppm, Seq},
    },
    log::{
        Entry, NodeId, Proof, Segment, Signature,
        books::{AuthorBook, AuthorFault, Books, Judged, Record, SUBMISSION_KEYS_MAX, StoredEntry},
        stored::covering,
    },
};

/// A store that is gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
    bounds: CorpusBounds,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    books: Books,
    log: BTreeMap<(NodeId, Seq), (Judged, Option<Signature>)>,
    /// Whose contents were let go; the log keeps them, and nobody is told.
    pruned: BTreeSet<(NodeId, Seq)>,
    size: CorpusSize,
    proofs: BTreeMap<NodeId, Proof>,
    covers: BTreeMap<NodeId, Segment>,
    policy: Policy,
    fails: bool,
}

impl MemoryStore {
    /// An empty one that keeps so many contents.
    #[must_use]
    pub fn with_corpus(bounds: CorpusBounds) -> Self {
        Self { kept: Mutex::default(), bounds }
    }

    /// The next commit fails, and every one after it: a disk that has gone.
    pub fn fail(&self) {
        self.lock().fails = true;
    }

    /// A copy of what it holds now, for a restart or a restored backup.
    #[must_use]
    pub fn copy(&self) -> Self {
        let kept = Kept { fails: false, ..self.lock().clone() };
        Self { kept: Mutex::new(kept), bounds: self.bounds }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every change is made by one call that can't panic halfway.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, record: &Record) {
        match record {
            Record::Entries { author, entries, book } => {
                for judged in entries {
                    let seq = judged.entry.seq();
                    let signature = book.signature.filter(|_| seq == book.seq());
                    self.size.bytes += content_bytes(judged);
                    self.size.thoughts += u64::from(coherence_of_accepted(judged).is_some());
                    self.log.insert((*author, seq), (judged.clone(), signature));
                }
                self.books.authors.insert(*author, (**book).clone());
            }
            Record::Submission { key, recorded } => {
                self.books.submissions.retain(|(known, _)| known != key);
                self.books.submissions.push((key.clone(), recorded.clone()));
                let surplus = self.books.submissions.len().saturating_sub(SUBMISSION_KEYS_MAX);
                self.books.submissions.drain(..surplus);
            }
            Record::Peer { id, peer } => {
                self.books.peers.insert(*id, peer.clone());
                self.forget_old_peers();
            }
            Record::NewestTime(time) => self.books.newest_time = self.books.newest_time.max(*time),
            // Nothing in memory gets damaged.
            Record::Mended { .. } => {}
            Record::Doubted => self.books.restored = true,
            Record::Recovered => self.books.restored = false,
            Record::Fault { author, found, proof } => {
                self.convict(*author, AuthorFault::of(proof, *found), proof);
            }
            Record::Cover { author, cover } => drop(self.covers.insert(*author, (**cover).clone())),
            Record::Cleared { author } => {
                if let Some(fault) = self.books.faults.get_mut(author) {
                    fault.cleared = true;
                }
            }
        }
    }

    fn convict(&mut self, author: NodeId, fault: AuthorFault, proof: &Proof) {
        let log = |kept: &Self| -> Vec<(Entry, Option<Signature>)> {
            let range = kept.log.range((author, Seq::GENESIS)..=(author, Seq(u64::MAX)));
            range.map(|(_, (judged, signature))| (judged.entry.clone(), *signature)).collect()
        };
        let before = log(self);
        self.covers.extend(covering(&before, fault.cut).map(|cover| (author, cover)));
        self.proofs.insert(author, proof.clone());
        self.books.faults.insert(author, fault);
        self.log.retain(|(of, seq), _| *of != author || *seq < fault.cut);
        let left = log(self);
        if left.len() < before.len()
            && let Some(book) = self.books.authors.remove(&author)
        {
            let signature = left.last().and_then(|(_, signature)| *signature);
            let entries: Vec<Entry> = left.into_iter().map(|(entry, _)| entry).collect();
            let left = book.refolded(&self.policy, &entries, signature);
            self.books.authors.extend(left.map(|book| (author, book)));
        }
        let kept = self.log.iter().filter(|(place, _)| !self.pruned.contains(*place));
        let kept: Vec<&Judged> = kept.map(|(_, (judged, _))| judged).collect();
        self.size = CorpusSize {
            thoughts: kept.iter().map(|judged| u64::from(coherence_of_accepted(judged).is_some())).sum(),
            bytes: kept.iter().map(|judged| content_bytes(judged)).sum(),
        };
    }

    /// Whether every record follows what stands here or in a record before it.
    fn check(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut after: BTreeMap<NodeId, Option<Seq>> = BTreeMap::new();
        for record in records {
            match record {
                Record::Entries { author, entries, book } => {
                    let stored = || self.books.authors.get(author).map(AuthorBook::seq);
                    let last = after.get(author).copied().unwrap_or_else(stored);
                    follows::check(*author, last, entries, book)?;
                    after.insert(*author, Some(book.seq()));
                }
                Record::Fault { author, proof, .. } => {
                    let stored = || self.books.authors.get(author).map(AuthorBook::seq);
                    let last = after.get(author).copied().unwrap_or_else(stored);
                    let end = proof.cut().0.checked_sub(1).map(Seq);
                    after.insert(*author, last.min(end));
                }
                Record::Submission { .. }
                | Record::Peer { .. }
                | Record::NewestTime(_)
                | Record::Mended { .. }
                | Record::Doubted
                | Record::Recovered
                | Record::Cover { .. }
                | Record::Cleared { .. } => {}
            }
        }
        Ok(())
    }

    fn forget_old_peers(&mut self) {
        while self.books.peers.len() > PEERS_MAX
            && let Some((_, oldest)) = self.books.peers.iter().map(|(id, peer)| (peer.seen, *id)).min()
        {
            self.books.peers.remove(&oldest);
        }
    }

    fn session_row(&self, author: NodeId, judged: &Judged) -> Option<SessionRow> {
        let thought = judged.thought.as_ref()?;
        let Verdict::Accepted { .. } = thought.verdict else {
            return None;
        };
        Some(SessionRow {
            session: thought.session.clone(),
            author,
            mode: thought.mode,
            hardware: self.books.authors.get(&author)?.hardware,
            coherence: thought.coherence,
            weight: thought.weight,
        })
    }

    fn row(&self, author: NodeId, judged: &Judged) -> Option<ThoughtRow> {
        if self.pruned.contains(&(author, judged.entry.seq())) {
            return None;
        }
        let thought = judged.thought.as_ref()?;
        let Verdict::Accepted { reward } = thought.verdict else {
            return None;
        };
        Some(ThoughtRow {
            author,
            name: self.books.authors.get(&author)?.name.clone(),
            seq: judged.entry.seq(),
            time: judged.entry.header().time,
            session: thought.session.clone(),
            mode: thought.mode,
            content: judged.entry.content_text()?.to_owned(),
            coherence: thought.coherence,
            weight: thought.weight,
            reward,
            received: judged.received,
        })
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Result<Books, StoreError> {
        Ok(self.lock().books.clone())
    }

    fn commit(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut kept = self.lock();
        if kept.fails {
            return Err(StoreError::OnRequest);
        }
        kept.check(records)?;
        records.iter().for_each(|record| kept.keep(record));
        Ok(())
    }

    fn entries(&self, author: NodeId, from: Seq, bytes_max: usize) -> Result<Vec<StoredEntry>, StoreError> {
        let kept = self.lock();
        let mut bytes = 0_usize;
        let mut entries = vec![];
        for (judged, signature) in
            kept.log.range((author, from)..=(author, Seq(u64::MAX))).map(|(_, kept)| kept)
        {
            let pruned = kept.pruned.contains(&(author, judged.entry.seq()));
            let content = judged.entry.content().filter(|_| !pruned).cloned();
            let length =
                judged.entry.header_bytes().len() + content.as_ref().map_or(0, |content| content.len());
            bytes = bytes.saturating_add(length);
            if !entries.is_empty() && (bytes > bytes_max || entries.len() >= ENTRIES_MAX) {
                break;
            }
            entries.push(StoredEntry {
                header: judged.entry.header_bytes().clone(),
                content,
                signature: *signature,
            });
        }
        Ok(entries)
    }

    fn thoughts(&self, query: &ThoughtQuery) -> Result<Vec<ThoughtRow>, StoreError> {
        let kept = self.lock();
        let fits = |row: &ThoughtRow| {
            query.session.as_ref().is_none_or(|session| row.session == *session)
                && query.author.is_none_or(|author| row.author == author)
                && query.since.is_none_or(|since| row.time >= since)
                && query.search.as_ref().is_none_or(|search| has_all(&row.content, search))
        };
        let mut rows: Vec<ThoughtRow> = kept
            .log
            .iter()
            .filter_map(|((author, _), (judged, _))| kept.row(*author, judged))
            .filter(fits)
            .collect();
        rows.sort_by_key(|row| (row.time, row.author, row.seq));
        let surplus =
            rows.len().saturating_sub(usize::try_from(query.limit.min(THOUGHTS_MAX)).unwrap_or(usize::MAX));
        Ok(rows.split_off(surplus))
    }

    fn rates(&self, since: Millis) -> Result<Rates, StoreError> {
        let mut rates = Rates::default();
        for (judged, _) in self.lock().log.values().filter(|(judged, _)| judged.entry.header().time >= since)
        {
            match judged.thought.as_ref().map(|thought| thought.verdict) {
                Some(Verdict::Accepted { reward }) if reward.0 > 0 => rates.rewards += 1,
                Some(Verdict::Rejected { .. }) => rates.penalties += 1,
                Some(Verdict::Accepted { .. }) | None => {}
            }
        }
        Ok(rates)
    }

    fn sessions(&self) -> Result<BTreeMap<String, Session>, StoreError> {
        let kept = self.lock();
        let mut rows: Vec<(Millis, SessionRow)> = kept
            .log
            .iter()
            .filter_map(|((author, _), (judged, _))| {
                Some((judged.entry.header().time, kept.session_row(*author, judged)?))
            })
            .collect();
        rows.sort_by_key(|(time, _)| *time);
        let surplus = rows.len().saturating_sub(SESSION_THOUGHTS_MAX);
        let rows: Vec<SessionRow> = rows.into_iter().skip(surplus).map(|(_, row)| row).collect();
        Ok(query::sessions(&rows))
    }

    fn scrub(&self, _from: Option<(NodeId, Seq)>, _rows: usize) -> Result<Scrubbed, StoreError> {
        Ok(Scrubbed::default())
    }

    fn prune(&self, now: Millis) -> Result<Pruned, StoreError> {
        let mut kept = self.lock();
        if !pruning::is_due(kept.size, self.bounds) {
            return Ok(Pruned::default());
        }
        let contents = kept
            .log
            .iter()
            .filter(|(place, (judged, _))| judged.entry.content().is_some() && !kept.pruned.contains(*place));
        let contents = contents.map(|(place, (judged, _))| pruning::Kept {
            which: *place,
            time: judged.entry.header().time,
            bytes: content_bytes(judged),
            coherence: coherence_of_accepted(judged),
        });
        let mut pruned = Pruned::default();
        for content in pruning::choose(contents.collect(), self.bounds, now) {
            pruned.contents += 1;
            pruned.bytes += content.bytes;
            kept.size.bytes -= content.bytes;
            kept.size.thoughts -= u64::from(content.coherence.is_some());
            kept.pruned.insert(content.which);
        }
        Ok(pruned)
    }

    fn corpus(&self) -> CorpusSize {
        self.lock().size
    }

    fn book(&self, author: NodeId) -> Result<Option<AuthorBook>, StoreError> {
        Ok(self.lock().books.authors.get(&author).cloned())
    }

    fn proof(&self, author: NodeId) -> Result<Option<Proof>, StoreError> {
        Ok(self.lock().proofs.get(&author).cloned())
    }

    fn cover(&self, author: NodeId) -> Result<Option<Segment>, StoreError> {
        Ok(self.lock().covers.get(&author).cloned())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn content_bytes(judged: &Judged) -> u64 {
    judged.entry.content().map_or(0, |content| u64::try_from(content.len()).unwrap_or(u64::MAX))
}

/// `None` where it was rejected, or has no content.
fn coherence_of_accepted(judged: &Judged) -> Option<Ppm> {
    let thought = judged.thought.as_ref().filter(|_| judged.entry.content().is_some())?;
    matches!(thought.verdict, Verdict::Accepted { .. }).then_some(thought.coherence)
}

/// Whether a content has all the words, or longer ones that they stand in: less strict than a real index, and enough for
/// simulations.
fn has_all(content: &str, search: &SearchWords) -> bool {
    let content = content.to_lowercase();
    search.words().iter().all(|word| content.contains(&word.to_lowercase()))
}
