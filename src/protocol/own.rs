//! Our own log: a submission is folded, stored, and only then signed, published and answered.
//! Until `Input::Stored` comes back there is no signature in memory that could leak. And while it is in doubt whether our disk
//! has all that we ever signed, nothing is signed at all (`recovery.rs`). Source: protocol.md, The log.

mod gate;
mod keys;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

pub use self::gate::{Halt, OwnHeard, is_overruled};
use self::{
    gate::Writing,
    keys::{Keys, Known},
};
use super::{
    authors::{Authors, NameIs},
    event::EntryEvent,
    hello::Setup,
    input::{Answer, DiskLow, Effect, Now, Submission, SubmitFault, Ticket},
    recovery::{Doubt, Recovery, Standing},
    wire::SEGMENT_BYTES_MAX,
};
use crate::{
    ledger::{
        account::Account,
        fold::{Facts, Inadmissible, Outcome, admissible, fold},
        types::{MicroAtp, Millis, Seq},
    },
    log::{
        Body, Entry, Genesis, Hash, Head, Header, NodeId, SEGMENT_ENTRIES_MAX, Segment, Thought, Verified,
        books::{AuthorBook, Judged, JudgedThought, Record, Recorded},
    },
};

/// Most submissions that wait for the disk. At the longest content they hold 16 MiB.
pub const WAITING_MAX: usize = 1_024;
/// Longest submission key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;

/// Batches that are with the store at a time: one that it commits, and one that it finds when it is done. What comes meanwhile is gathered
/// into the next one, so that a burst costs a commit, an account and a signature a batch, and a lone thought waits for nothing.
const BATCHES_MAX: usize = 2;

/// Our own log.
#[derive(Debug)]
pub struct Own {
    id: NodeId,
    /// After the last entry that was folded, whether or not it is stored yet.
    book: Option<Arc<AuthorBook>>,
    /// Folded, but not known to be stored: what is with the store, then what is gathered.
    waiting: VecDeque<Waiting>,
    /// What is with the store.
    under_way: VecDeque<Batch>,
    gathered: Gathered,
    /// Our last signed head. None while our log is in doubt: what the disk holds may not be what was signed.
    head: Option<Head>,
    writing: Writing,
    /// Whether this process has taken a submission in.
    has_written: bool,
    disk_low: Option<DiskLow>,
    known_peers: BTreeSet<NodeId>,
    keys: Keys,
    /// Entries that were signed and that nobody is known to hold any more: an operator wrote without asking.
    lost: u64,
}

/// Entries that the store was given together. The last of them has the seq of the book after them.
#[derive(Debug)]
struct Batch {
    book: Arc<AuthorBook>,
}

/// What the store is given next.
#[derive(Debug, Default)]
struct Gathered {
    entries: Vec<Judged>,
    /// The keys of submissions among them. In the same commit: apart, a crash between them would record a repetition twice.
    keys: Vec<Record>,
}

/// An entry that waits for the disk.
#[derive(Debug)]
struct Waiting {
    entry: Entry,
    event: EntryEvent,
    /// For a thought: its answer, who waits for it, and the key that it came with.
    recorded: Option<Recorded>,
    tickets: Vec<Ticket>,
    key: Option<String>,
}

/// What became durable: our signed segments, in order.
#[derive(Debug)]
pub struct Published {
    /// Each signed, each short enough for one frame.
    pub segments: Vec<Arc<Verified<Segment>>>,
    /// Who is told once the segments are on their way.
    pub answers: Vec<(Ticket, Recorded)>,
    /// Whose entries are not signed, because meanwhile nothing may be.
    pub refused: Vec<(Ticket, SubmitFault)>,
    /// What happened, in order.
    pub events: Vec<EntryEvent>,
}

/// How many entries that were signed an operator has given up.
fn lost(standing: Standing, end: Option<Seq>) -> u64 {
    let signed = standing.through.map_or(0, |through| through.0.saturating_add(1));
    let held = end.map_or(0, |end| end.0.saturating_add(1));
    if standing.write_without_peers { signed.saturating_sub(held) } else { 0 }
}

impl Own {
    /// Our log as the books hold it. Where nothing is in doubt all of it is ours to sign, so its head is signed again.
    #[must_use]
    pub fn load(
        setup: &Setup,
        authors: &Authors,
        submissions: Vec<(String, Recorded)>,
        known_peers: BTreeSet<NodeId>,
        standing: Standing,
    ) -> Self {
        let id = setup.id();
        let book = authors.get(id).map(|author| author.book.clone());
        let have = book.as_ref().map(|book| book.seq());
        let is_behind = have < standing.through;
        let doubt = standing.doubt.or_else(|| is_behind.then_some(Doubt::Behind));
        let end = book.as_ref().map(|book| (book.seq(), book.hash));
        let writing = match doubt.filter(|_| !is_overruled(standing, end)) {
            Some(doubt) => Writing::Recovering(Recovery::new(doubt, standing.through, known_peers.clone())),
            None => Writing::Open,
        };
        let mut own = Self {
            id,
            book,
            waiting: VecDeque::new(),
            under_way: VecDeque::new(),
            gathered: Gathered::default(),
            head: None,
            writing,
            has_written: false,
            disk_low: None,
            known_peers,
            keys: Keys::load(submissions),
            lost: lost(standing, end.map(|(seq, _)| seq)),
        };
        if matches!(own.writing, Writing::Open) {
            own.sign_again(setup);
        }
        own
    }

    /// Our last signed head; `None` before the genesis entry is stored, and while our log is in doubt.
    #[must_use]
    pub const fn head(&self) -> Option<Head> {
        self.head
    }

    /// How many submissions wait for the disk.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Writes the genesis entry where there is none.
    pub fn open(&mut self, setup: &Setup, now: Now, out: &mut Vec<Effect>) {
        if self.book.is_some() || !matches!(self.writing, Writing::Open) {
            return;
        }
        let genesis = Genesis {
            name: setup.name.clone(),
            hardware: setup.claim.hardware,
            level: setup.claim.level,
            arch: setup.claim.arch.clone(),
            nonce: setup.nonce,
        };
        let header = Header {
            author: self.id,
            seq: Seq::GENESIS,
            prev: Hash::ZERO,
            time: now.wall,
            body: Body::Genesis(genesis),
        };
        let entry = Entry::new(&setup.federation, header, None);
        let book = Arc::new(AuthorBook {
            name: setup.name.clone(),
            hardware: setup.claim.hardware,
            arch: setup.claim.arch.clone(),
            hash: entry.hash(),
            signature: None,
            account: Account::open(&setup.policy, setup.claim.level, now.wall),
            known_since: now.wall,
        });
        self.book = Some(book);
        self.gather(entry, None, now);
        self.store(out);
    }

    /// Folds a submission and sends it to the store; where the rules do not admit it, says so at once.
    pub fn submit(
        &mut self,
        setup: &Setup,
        now: Now,
        ticket: Ticket,
        submission: Submission,
        out: &mut Vec<Effect>,
    ) {
        if let Some(key) = &submission.key {
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return out.push(Effect::Answer { ticket, answer: Answer::Refused(SubmitFault::Key) });
            }
            match self.keys.find(key) {
                Some(Known::Stored(recorded)) => {
                    let answer = Answer::Recorded { recorded, peers_sent: 0 };
                    return out.push(Effect::Answer { ticket, answer });
                }
                Some(Known::Waiting(seq)) => return self.wait_too(seq, ticket),
                None => {}
            }
        }
        if let Some(fault) = self.closed() {
            return out.push(Effect::Answer { ticket, answer: Answer::Refused(fault) });
        }
        match self.take(setup, now, &submission) {
            Err(why) => out.push(Effect::Answer { ticket, answer: Answer::Inadmissible(why) }),
            Ok(decided) => {
                self.record(ticket, submission, decided, now);
                self.store(out);
            }
        }
    }

    /// What a submission would get now.
    #[must_use]
    pub fn dry_run(&self, setup: &Setup, now: Now, submission: &Submission) -> Answer {
        let Some(book) = &self.book else { return Answer::Inadmissible(unopened(now)) };
        match decide(setup, &mut (**book).clone(), now, submission) {
            Err(why) => Answer::Inadmissible(why),
            Ok(decided) => Answer::Would(decided.recorded),
        }
    }

    /// Our entries up to `through` are durable: signs them, and says who is to be told.
    /// Where nothing may be signed any more, their submitters are told so: what is stored of them never leaves.
    pub fn stored(&mut self, setup: &Setup, through: Seq, authors: &mut Authors) -> Published {
        let mut published = Published { segments: vec![], answers: vec![], refused: vec![], events: vec![] };
        let mut through_batch = None;
        while let Some(batch) = self.under_way.pop_front_if(|batch| batch.book.seq() <= through) {
            through_batch = Some(batch.book);
        }
        if let Some(fault) = self.forbidden() {
            self.gathered = Gathered::default();
            for waiting in self.waiting.drain(..) {
                let refused = waiting.tickets.iter().map(|ticket| (*ticket, fault.clone()));
                published.refused.extend(refused);
                if let Some(key) = &waiting.key {
                    self.keys.forget(key);
                }
            }
            return published;
        }
        let mut batch = vec![];
        let mut batch_bytes = 0_usize;
        while self.waiting.front().is_some_and(|waiting| waiting.entry.header().seq <= through) {
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            let entry_bytes = waiting.entry.byte_len();
            let full = batch_bytes.saturating_add(entry_bytes) > SEGMENT_BYTES_MAX
                || batch.len() >= SEGMENT_ENTRIES_MAX;
            if full {
                self.sign(setup, std::mem::take(&mut batch), &mut published.segments);
                batch_bytes = 0;
            }
            batch_bytes = batch_bytes.saturating_add(entry_bytes);
            batch.push(waiting.entry);
            published.events.push(waiting.event);
            if let Some(recorded) = waiting.recorded {
                if let Some(key) = waiting.key {
                    self.keys.insert(key, Known::Stored(recorded.clone()));
                }
                published.answers.extend(waiting.tickets.iter().map(|ticket| (*ticket, recorded.clone())));
            }
        }
        if let Some(book) = through_batch {
            // Only what is durable stands in the books that others are told of.
            let _: NameIs = authors.put(self.id, book);
        }
        self.sign(setup, batch, &mut published.segments);
        published
    }

    /// Gives the store what is gathered, where it has not enough to do already. Called when something was gathered, and when the store has
    /// finished something.
    pub fn store(&mut self, out: &mut Vec<Effect>) {
        let Some(book) = &self.book else { return };
        if self.gathered.entries.is_empty() || self.under_way.len() >= BATCHES_MAX {
            return;
        }
        let Gathered { entries, keys } = std::mem::take(&mut self.gathered);
        let mut records = vec![Record::Entries { author: self.id, entries, book: Arc::clone(book) }];
        records.extend(keys);
        self.under_way.push_back(Batch { book: Arc::clone(book) });
        out.push(Effect::Store(records));
    }

    fn sign(&mut self, setup: &Setup, batch: Vec<Entry>, segments: &mut Vec<Arc<Verified<Segment>>>) {
        if batch.is_empty() {
            return;
        }
        // Our own entries chain by construction; where they did not, nothing of them may leave.
        if let Ok(segment) = Segment::own(batch, &setup.identity, &setup.federation) {
            self.head = Some(*segment.head());
            segments.push(Arc::new(segment));
        }
    }

    fn wait_too(&mut self, seq: Seq, ticket: Ticket) {
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.entry.header().seq == seq);
        if let Some(waiting) = waiting {
            waiting.tickets.push(ticket);
        }
    }

    /// Folds a submission into our book. Where it is not admitted, nothing is changed.
    fn take(&mut self, setup: &Setup, now: Now, submission: &Submission) -> Result<Decided, Inadmissible> {
        // `open` runs before any submission can come in.
        let book = self.book.as_mut().ok_or_else(|| unopened(now))?;
        // Copied once a batch: what the store was given stays as it is.
        decide(setup, Arc::make_mut(book), now, submission)
    }

    fn record(&mut self, ticket: Ticket, submission: Submission, decided: Decided, now: Now) {
        let Decided { entry, outcome, recorded } = decided;
        self.has_written = true;
        let thought = JudgedThought {
            session: submission.session,
            mode: submission.mode,
            verdict: outcome.verdict,
            coherence: outcome.coherence,
            delta: outcome.delta,
            weight: outcome.weight,
        };
        self.gather(entry, Some(thought), now);
        if let Some(key) = &submission.key {
            self.keys.insert(key.clone(), Known::Waiting(recorded.seq));
            self.gathered.keys.push(Record::Submission { key: key.clone(), recorded: recorded.clone() });
        }
        if let Some(waiting) = self.waiting.back_mut() {
            waiting.tickets.push(ticket);
            waiting.recorded = Some(recorded);
            waiting.key = submission.key;
        }
    }

    /// Takes an entry, the last of our book, into memory as waiting, and into what the store is given next.
    fn gather(&mut self, entry: Entry, thought: Option<JudgedThought>, now: Now) {
        let Some(book) = &self.book else { return };
        let event = EntryEvent {
            author: self.id,
            name: book.name.clone(),
            seq: book.seq(),
            time: entry.header().time,
            own: true,
            verdict: thought.as_ref().map(|thought| thought.verdict),
            delta: thought.as_ref().map_or(MicroAtp::ZERO, |thought| thought.delta),
            balance: book.account.balance,
        };
        self.gathered.entries.push(Judged { entry: entry.clone(), thought, received: now.wall });
        self.waiting.push_back(Waiting { entry, event, recorded: None, tickets: vec![], key: None });
    }
}

/// Without an account nothing is admissible.
const fn unopened(now: Now) -> Inadmissible {
    Inadmissible::TimeWentBack { at: Millis::ZERO, last: now.wall }
}

/// Folds a submission into a book and makes its entry. Where it is not admitted, nothing is changed.
fn decide(
    setup: &Setup,
    book: &mut AuthorBook,
    now: Now,
    submission: &Submission,
) -> Result<Decided, Inadmissible> {
    // A clock that was set back must not silence the node: its entries then carry its last one's time.
    let time = now.wall.max(book.account.time);
    let content_bytes = u32::try_from(submission.content.len()).unwrap_or(u32::MAX);
    admissible(&setup.policy, &book.account, time, content_bytes)?;
    let thought = Thought::new(submission.session.clone(), submission.mode, &submission.content);
    let facts = Facts { time, content_bytes, features: thought.features };
    let prev = book.hash;
    let outcome = fold(&setup.policy, &mut book.account, &facts)?;
    let seq = book.seq();
    let header = Header { author: setup.id(), seq, prev, time, body: Body::Thought(thought) };
    let entry = Entry::new(&setup.federation, header, Some(&submission.content));
    book.hash = entry.hash();
    let recorded = Recorded {
        seq,
        verdict: outcome.verdict,
        coherence: outcome.coherence,
        delta: outcome.delta,
        balance: book.account.balance,
        trust: book.account.trust,
    };
    Ok(Decided { entry, outcome, recorded })
}

/// A submission that the rules admit, folded.
struct Decided {
    entry: Entry,
    outcome: Outcome,
    recorded: Recorded,
}
