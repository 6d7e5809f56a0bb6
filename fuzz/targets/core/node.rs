//! A node around the core: a disk in memory, and what has to hold of whatever the core wants done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cogmesh::{
    ledger::types::{Millis, Seq},
    log::{
        Hash, Head, NodeId, Segment,
        books::{AuthorBook, Record},
        segment::Unfit,
        stored::{Comparison, compare},
    },
    protocol::{
        Federation,
        frame::{BalanceFrame, ControlFrame},
        hello::Setup,
        input::{Attempt, Effect, Ended, Input, LinkId, Now, Ticket},
        recovery::{Doubt, Standing},
        wire::{
            LENGTH_BYTES, decode_balance, decode_control, decode_segment, encode_balance, encode_control,
            encode_segment,
        },
    },
    store::{MemoryStore, Store},
};

use super::cast::{BEGINNING, CAST};

/// Most effects of one input: what somebody says to a node must not make it do ever more.
const EFFECTS_MAX: usize = 2_000;
/// Ticks until nothing is due any more.
const TICKS_MAX: usize = 64;

pub(super) struct Node {
    pub(super) setup: Setup,
    core: Federation,
    pub(super) store: MemoryStore,
    pub(super) mono: u64,
    pub(super) skew: i64,
    pub(super) links: BTreeMap<LinkId, Link>,
    next_link: u64,
    pub(super) dials: VecDeque<Attempt>,
    /// What is on its way to the disk.
    writes: VecDeque<Vec<Record>>,
    pub(super) compares: VecDeque<(LinkId, Segment)>,
    pub(super) serves: VecDeque<(LinkId, NodeId)>,
    /// Every entry of its own that it signed and nobody else had.
    signed: BTreeMap<Seq, Hash>,
    /// Entries that somebody else signed with its key.
    elsewhere: BTreeSet<(Seq, Hash)>,
    tickets: u64,
    unanswered: BTreeSet<Ticket>,
}

pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) exporter: [u8; 32],
    pub(super) admitted: bool,
    /// How it will end, once the core has ended it.
    closed: bool,
}

impl Node {
    pub(super) fn new(setup: Setup, doubt: Option<Doubt>) -> Self {
        let store = MemoryStore::default();
        let now = Now { mono: Millis(0), wall: Millis(BEGINNING) };
        let mut out = vec![];
        let books = store.load().unwrap();
        let standing = Standing { doubt, ..Standing::default() };
        let core = Federation::new(setup.clone(), books, standing, [3; 32], now, &mut out);
        let mut node = Self {
            setup,
            core,
            store,
            mono: 0,
            skew: 0,
            links: BTreeMap::new(),
            next_link: 0,
            dials: VecDeque::new(),
            writes: VecDeque::new(),
            compares: VecDeque::new(),
            serves: VecDeque::new(),
            signed: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
            tickets: 0,
            unanswered: BTreeSet::new(),
        };
        node.carry_out(out);
        node
    }

    /// Ends the process, with what was not written yet, and starts it on what the disk holds. It is told how far it had signed, and maybe that it
    /// may lack entries.
    pub(super) fn restart(&mut self, doubt: Option<Doubt>) {
        self.links.clear();
        self.dials.clear();
        self.writes.clear();
        self.compares.clear();
        self.serves.clear();
        self.unanswered.clear();
        let through = self.signed.keys().next_back().copied();
        let books = self.store.load().unwrap();
        let standing = Standing { through, doubt, ..Standing::default() };
        let mut out = vec![];
        self.core = Federation::new(self.setup.clone(), books, standing, [4; 32], self.now(), &mut out);
        self.carry_out(out);
    }

    pub(super) fn now(&self) -> Now {
        let wall = (BEGINNING + self.mono).saturating_add_signed(self.skew);
        Now { mono: Millis(self.mono), wall: Millis(wall) }
    }

    pub(super) fn handle(&mut self, input: Input) {
        let mut out = vec![];
        self.core.handle(self.now(), input, &mut out);
        self.carry_out(out);
    }

    /// Lets time pass, and the node do what is due.
    pub(super) fn pass(&mut self, ms: u64) {
        self.mono += ms;
        for _ in 0..TICKS_MAX {
            if self.core.wake_at().is_none_or(|at| at.0 > self.mono) {
                return;
            }
            self.handle(Input::Tick);
        }
        panic!(
            "a node that is awake for ever: it wants to be woken at {:?}, it is {}",
            self.core.wake_at(),
            self.mono
        );
    }

    pub(super) fn until_due(&self) -> u64 {
        self.core.wake_at().map_or(1, |at| at.0.saturating_sub(self.mono))
    }

    pub(super) fn connect(&mut self, node: NodeId, attempt: Option<Attempt>) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let exporter = [u8::try_from(link.0 % 256).unwrap(); 32];
        self.links.insert(link, Link { node, exporter, admitted: false, closed: false });
        let address = ([192, 0, 2, u8::try_from(link.0 % 8).unwrap()], 8_888).into();
        self.handle(Input::Connected { link, node, attempt, address, exporter });
        link
    }

    pub(super) fn disconnect(&mut self, link: LinkId, why: Ended) {
        let Some(ended) = self.links.remove(&link) else { return };
        let why = if ended.closed { Ended::Closed } else { why };
        self.handle(Input::Disconnected { link, why });
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.unanswered.insert(ticket);
        ticket
    }

    /// The disk is done with what has waited longest; says whether anything did.
    pub(super) fn written(&mut self) -> bool {
        let Some(records) = self.writes.pop_front() else { return false };
        for record in &records {
            if let Record::Entries { author, entries, .. } = record {
                let last = self.store.book(*author).unwrap().map_or(Hash::ZERO, |book| book.hash);
                let chained = entries.iter().try_fold(last, |before, judged| {
                    (judged.entry.header().prev == before).then(|| judged.entry.hash())
                });
                assert!(chained.is_some(), "entries that are kept are chained to what is kept");
            }
        }
        self.store.commit(&records).expect("what is to be kept follows what is kept");
        let own = self.setup.id();
        let mut through = None;
        let mut cut = vec![];
        for record in &records {
            match record {
                Record::Fault { author, .. } => cut.push(*author),
                Record::Entries { author, book, .. } if *author == own => through = Some(book.seq()),
                _ => {}
            }
        }
        for author in cut {
            let book = self.store.book(author).unwrap().map(Box::new);
            self.handle(Input::Cut { author, book });
        }
        if let Some(through) = through {
            self.handle(Input::Stored { through });
        }
        true
    }

    /// As `net/hearing.rs` does with a segment.
    pub(super) fn hear(&mut self, link: LinkId, segment: Segment) {
        if segment.author() == self.setup.id() {
            self.elsewhere.extend(segment.entries().iter().map(|entry| (entry.seq(), entry.hash())));
        }
        match segment.verify_or_convict(&CAST.rules()) {
            Ok(segment) => self.handle(Input::Heard { link, segment }),
            Err(Unfit { fault, proof }) => {
                if let Some(proof) = proof {
                    self.handle(Input::Proof { link, proof });
                }
                self.handle(Input::HeardWrong { link, fault });
            }
        }
    }

    /// Compares what the core wanted compared.
    pub(super) fn compared(&mut self) {
        let Some((link, theirs)) = self.compares.pop_front() else { return };
        let author = theirs.author();
        let read = |from| self.store.entries(author, from, usize::MAX).ok();
        let cover = || self.store.cover(author).ok()?;
        let comparison = compare(&CAST.rules(), read, cover, theirs);
        let comparison = comparison.unwrap_or(Comparison::Same { through: None });
        self.handle(Input::Compared { link, author, comparison });
    }

    /// At the end of it all: everything is on the disk, and the node would find there what it holds.
    pub(super) fn settle(&mut self) {
        while self.written() {}
        let books = self.store.load().unwrap();
        let view = self.core.view(self.now());
        let shown: BTreeMap<_, _> =
            view.known.authors.iter().map(|(id, author)| (*id, &*author.book)).collect();
        let kept: BTreeMap<_, _> = books.authors.iter().map(|(id, book)| (*id, book)).collect();
        let own = self.setup.id();
        for author in shown.keys().chain(kept.keys()).filter(|author| **author != own) {
            assert_eq!(shown.get(author), kept.get(author), "a node shows what its disk holds");
        }
        // While its own log is in doubt, what is written is not signed, and not shown.
        let seq = |book: Option<&&AuthorBook>| book.map(|book| book.seq());
        assert!(seq(shown.get(&own)) <= seq(kept.get(&own)), "what is not written is not shown");
        for (author, book) in kept {
            let stored = self.store.entries(author, Seq::GENESIS, usize::MAX).unwrap();
            let entries = cogmesh::log::stored::parsed(&self.setup.federation, &stored).unwrap();
            let again = book.refolded(&self.setup.policy, &entries, book.signature).unwrap();
            assert_eq!(&again, book, "folding a log gives its account");
        }
        assert_eq!(view.lost_thoughts, 0);
        // What an operator sees.
        let _text = format!("{view:?}");
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        assert!(effects.len() <= EFFECTS_MAX, "{} effects of one input", effects.len());
        for effect in effects {
            match effect {
                Effect::Store(records) => self.writes.push_back(records),
                Effect::Answer { ticket, .. } => {
                    assert!(self.unanswered.remove(&ticket), "a submission is answered once");
                }
                Effect::Dial(dial) => {
                    assert!(!dial.addresses.is_empty() && dial.addresses.len() <= 16);
                    self.dials.push_back(dial.attempt);
                }
                Effect::Control { link, frame } => {
                    assert!(self.links.contains_key(&link), "said to nobody: {frame:?}");
                    self.says(&frame);
                }
                Effect::Balance { link, frame } => {
                    self.is_peer(link);
                    self.tells(&frame);
                }
                Effect::BalanceToAll { to, frame } => {
                    to.into_iter().for_each(|link| self.is_peer(link));
                    self.tells(&frame);
                }
                Effect::Publish { to, segment } => {
                    to.into_iter().for_each(|link| self.is_peer(link));
                    self.sends(&segment);
                }
                Effect::Serve { link, author, span } => {
                    self.is_peer(link);
                    assert!(span.first <= span.last);
                    self.serves.push_back((link, author));
                }
                Effect::Compare { link, segment } => self.compares.push_back((link, segment.into_inner())),
                Effect::Admit { link } => {
                    if let Some(link) = self.links.get_mut(&link) {
                        link.admitted = true;
                    }
                }
                Effect::Close { link, refusal } => {
                    if let Some(link) = self.links.get_mut(&link) {
                        link.closed = true;
                    }
                    self.says(&ControlFrame::Refused(refusal));
                }
                Effect::Revoked(revocations) => assert!(!revocations.is_empty()),
                Effect::Event(event) => {
                    let _text = format!("{event:?}");
                }
                Effect::Prove { link, .. } => self.is_peer(link),
                Effect::Verify { .. } => {}
            }
        }
    }

    /// What the log holds is for admitted peers alone.
    fn is_peer(&self, link: LinkId) {
        assert!(self.links.get(&link).is_some_and(|link| link.admitted), "{link:?} is no peer's");
    }

    fn says(&self, frame: &ControlFrame) {
        let bytes = encode_control(frame).expect("what a node says fits a frame");
        assert_eq!(
            decode_control(&bytes[LENGTH_BYTES..]).as_ref(),
            Ok(frame),
            "what a node says is understood"
        );
    }

    fn tells(&mut self, frame: &BalanceFrame) {
        let bytes = encode_balance(frame).expect("what a node tells fits a frame");
        assert_eq!(
            decode_balance(&bytes[LENGTH_BYTES..]).as_ref(),
            Ok(frame),
            "what a node tells is understood"
        );
        if let BalanceFrame::Heads(reports) = frame {
            reports.iter().for_each(|report| self.shows(&report.head));
        }
    }

    fn sends(&mut self, segment: &Segment) {
        self.shows(segment.head());
        let bytes = encode_segment(segment).expect("what a node sends fits a frame");
        let heard = decode_segment(&bytes[LENGTH_BYTES..], &self.setup.federation).unwrap();
        assert!(heard.verify(&CAST.rules()).is_ok(), "what a node sends convinces everybody");
    }

    /// Nothing is shown that is not signed, and no seq of its own log is signed twice.
    fn shows(&mut self, head: &Head) {
        assert_eq!(head.verify(&self.setup.federation), Ok(()), "every head that is told is signed");
        if head.author == self.setup.id() && !self.elsewhere.contains(&(head.seq, head.hash)) {
            let before = *self.signed.entry(head.seq).or_insert(head.hash);
            assert_eq!(before, head.hash, "entry {} of its own log is signed twice", head.seq);
        }
    }
}
