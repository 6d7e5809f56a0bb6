//! What a node does with what it hears.
//!
//! [`Federation`] is the core of one node: a value that is driven by [`Input`]s and answers with [`Effect`]s. It does no
//! I/O, asks no clock and draws no randomness but from the seed that it was given, so the same inputs always give the
//! same effects: that is what lets us simulate it and replay any bug.
//!
//! **Our own log** (`own.rs`). A submission is scored and folded at once and goes to the store. Only when the store says
//! that it is durable (`Input::Stored`) is a head signed, the segment published and the submitter answered.
//!
//! **Others' logs** (`admission.rs`). A segment whose signature, hashes and features hold is folded into its author's
//! account; everything that its sender could have seen to be wrong counts against the sender (`guard.rs`).
//!
//! **Nothing is signed in doubt** (`recovery.rs`). A node whose disk may lack entries that it signed gets its own log back from its
//! peers first; one whose key is live in two places signs nothing.
//!
//! **Who lacks what** (`sync.rs`). Each node tells its peers a head for every author; who is behind asks, and gets the
//! missing segments. Balance and account digest travel with each head, so two nodes that computed different books find out.
//!
//! **What came another way** (`relay.rs`, `faults.rs`, `step.rs`). Live segments are passed on to peers that can't get them from their author. An
//! author that signs two histories is convicted by its own signatures, and its log ends. What each peer has said that it holds is kept
//! beside what we hold.
//!
//! **Who is there** (`neighbours.rs`, with `dialling.rs`, `peers.rs`, `hello.rs`, `overlay.rs`, `address_book.rs`). Hints say where somebody may be; both sides dial; TLS proves
//! keys; Hello proves federation, rules, work and claims; of two links between the same nodes one stays.
//!
//! **Many nodes** (`address_book.rs`, `overlay.rs`). Nodes pass signed records of each other along; who knows more of them than
//! it may be linked with keeps links to some at random, so that the whole stays connected.
//!
//! `wire.rs` turns [`frame`]s into bytes and back. No file but this one contains `impl Federation`: sub-machines return
//! what concerns another one, and `handle` passes it on.

pub mod address_book;
pub mod admission;
pub mod arrivals;
pub mod authors;
pub mod bucket;
pub mod chance;
pub mod dialling;
pub mod event;
pub mod faults;
pub mod frame;
pub mod guard;
pub mod hello;
pub mod input;
pub mod mending;
pub mod neighbours;
pub mod overlay;
pub mod own;
pub mod peers;
pub mod pins;
pub mod recovery;
pub mod refusal;
pub mod relay;
pub mod revocations;
pub mod step;
pub mod sync;
pub mod view;
pub mod weighing;
pub mod wire;

use std::{net::SocketAddr, sync::Arc};

use self::{
    admission::{Admission, admit},
    arrivals::Arrivals,
    authors::Authors,
    event::{Event, SegmentRefusal},
    faults::{Faults, Found, Reported},
    frame::{BalanceFrame, FaultReport, HEADS_PER_FRAME_MAX, HeadReport, StreamKind, Weighed},
    hello::Setup,
    input::{Answer, DiskLow, Effect, Input, LinkId, Now, Ticket},
    mending::Mending,
    neighbours::{LinkChange, Neighbours},
    own::{Halt, Own, OwnHeard},
    peers::{Arrival, Side},
    recovery::Standing,
    refusal::{Refusal, RefusalCode},
    relay::Relay,
    step::Steps,
    sync::{Finding, Sync, Told},
    view::{AuthorView, Known, PeerView, View},
};
use crate::{
    ledger::types::{Millis, Seq},
    log::{
        Head, NodeId, Proof, Segment, SegmentFault, Verified,
        books::{AuthorBook, Books, Record, Span},
        identity::BadSignature,
    },
};

/// A clock that is further ahead of its peers' median than this writes with theirs.
pub const CLOCK_AHEAD_MAX_MS: i64 = 5_000;
/// How often the node's time is stored, so that it never runs backwards across restarts.
const TIME_MARK_EVERY: Millis = Millis(60_000);

/// The core of one node.
#[derive(Debug)]
pub struct Federation {
    setup: Setup,
    authors: Authors,
    arrivals: Arrivals,
    own: Own,
    sync: Sync,
    mending: Mending,
    relay: Relay,
    faults: Faults,
    steps: Steps,
    neighbours: Neighbours,
    time_mark_at: Millis,
    clock_is_ahead: bool,
    /// While the disk has too little room, nothing is taken in.
    is_full: bool,
}

impl Federation {
    /// A node as its books left it, and what is known of its own log beside them. Where it has no log yet, its genesis entry
    /// goes to the store first; where its log is in doubt, it comes back from the peers first.
    #[must_use]
    pub fn new(
        setup: Setup,
        books: Books,
        standing: Standing,
        seed: [u8; 32],
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Self {
        let submissions = books.submissions.clone();
        let mending = Mending::load(books.missing.clone());
        let faults = Faults::load(books.faults.clone());
        let known_peers = books.peers.keys().copied().collect();
        let authors = Authors::load(books);
        let mut own = Own::load(&setup, &authors, submissions, known_peers, standing);
        match own.doubt() {
            Some(why) => out.push(Effect::Event(Event::OwnLogAwaited { why })),
            // The operator answers for it; the next start need not ask again.
            None if standing.doubt.is_some() => out.push(Effect::Store(vec![Record::Recovered])),
            None => {}
        }
        own.open(&setup, now, out);
        let neighbours = Neighbours::new(&setup, seed);
        // Nobody tells it again: whoever would is one that turns it away.
        if neighbours.revocations().contains(setup.id()) {
            out.push(Effect::Event(Event::MemberRevoked { node: setup.id(), own: true }));
        }
        Self {
            setup,
            authors,
            arrivals: Arrivals::default(),
            own,
            sync: Sync::default(),
            mending,
            relay: Relay::default(),
            faults,
            steps: Steps::default(),
            neighbours,
            time_mark_at: now.mono,
            clock_is_ahead: false,
            is_full: false,
        }
    }

    /// The only way in, the only way out. What is to be done is appended to `out`, in order.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Submit { ticket, submission } => {
                let now = self.writing_time(now, out);
                self.own.submit(&self.setup, now, ticket, submission, out);
            }
            Input::DryRun { ticket, submission } => {
                let now = self.writing_time(now, out);
                let answer = self.own.dry_run(&self.setup, now, &submission);
                out.push(Effect::Answer { ticket, answer });
            }
            Input::Stored { through } => self.stored(now, through, out),
            Input::Connected { link, node, attempt, address, exporter } => {
                let side = if attempt.is_some() { Side::Dialler } else { Side::Acceptor };
                let (arrival, cut) = (Arrival { node, address, exporter, side }, self.authors.cut(node));
                let at = (&self.setup, now);
                let changes = self.neighbours.connected(at, (link, attempt), arrival, cut, out);
                self.changed(now, changes, out);
            }
            Input::DialFailed { attempt, why } => {
                self.neighbours.dial_failed((&self.setup, now), attempt, why, out);
            }
            Input::Control { link, frame } => {
                let changes = self.neighbours.control((&self.setup, now), link, frame, out);
                self.changed(now, changes, out);
            }
            Input::Balance { link, frame } => self.balance(now, link, frame, out),
            Input::Heard { link, segment } => self.heard(now, link, segment, out),
            Input::Known { link, author, last } => self.heard_again(now, link, author, last, out),
            Input::HeardWrong { link, fault } => self.wrong(now, link, SegmentRefusal::Wrong(fault), out),
            Input::CaughtUp { link, author } => {
                self.sync.caught_up(Told { mono: now.mono, link }, author, &self.authors, out);
                self.mending.ended(now.mono, link, author, out);
            }
            Input::Revoke(revocation) => {
                let changes = self.neighbours.revoked((&self.setup, now), None, vec![revocation], out);
                self.changed(now, changes, out);
            }
            Input::Approve(node) => self.neighbours.approve((&self.setup, now), node, out),
            Input::QueueFull { link, kind } => self.queue_full(now, link, kind, out),
            Input::Served { link, author } => self.sync.served(link, author, out),
            Input::Damaged { author, seq } => {
                out.push(Effect::Event(Event::EntryDamaged { author, seq }));
                self.mending.damaged(now.mono, author, seq, out);
            }
            Input::Disk(low) => self.disk(now, low, out),
            Input::Disconnected { link, why } => {
                let changes = self.neighbours.disconnected((&self.setup, now), link, why, out);
                self.changed(now, changes, out);
            }
            Input::Hint(hint) => self.neighbours.hint((&self.setup, now), hint, out),
            Input::NetworkChanged => self.neighbours.network_changed((&self.setup, now), out),
            Input::Proof { link, proof } => self.proof(now, link, &proof, out),
            Input::ProofWrong { link, fault } => self.wrong(now, link, SegmentRefusal::Proof(fault), out),
            Input::Compared { link, author, comparison } => {
                let told = Told { mono: now.mono, link };
                if let Some(proof) = self.faults.compared(told, author, comparison, out) {
                    self.convict(now, &proof, Found::Here, out);
                }
            }
            Input::Cut { author, book } => self.cut(now, author, book, out),
            Input::Clear { ticket, author } => self.clear(now, ticket, author, out),
            Input::Addresses(addresses) => self.moved(now, addresses, out),
            Input::Tick => self.tick(now, out),
        }
        for (link, author) in self.sync.take_news() {
            self.relay.had_news(link, author, out);
        }
    }

    /// When [`Input::Tick`] is wanted, on the monotonic clock.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        [
            self.sync.wake_at(),
            self.mending.wake_at(),
            self.faults.wake_at(),
            self.own.wake_at(),
            self.neighbours.wake_at(),
            Some(self.time_mark_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// How many of our own entries wait for the disk.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.own.waiting()
    }

    /// How many links count.
    #[must_use]
    pub fn links(&self) -> usize {
        self.neighbours.peers().count()
    }

    /// What the rules say of a thought that nobody keeps. Nothing is changed.
    #[must_use]
    pub fn weigh(&self, segment: &Verified<Segment>) -> Weighed {
        weighing::weigh(&self.setup.policy, segment)
    }

    /// A snapshot. Accounts are shared, not copied.
    #[must_use]
    pub fn view(&self, now: Now) -> View {
        let complete = |id: NodeId, link: LinkId, peer: PeerView| {
            let known = self.authors.get(id).map(|author| self.authors.shown_name(id, &author.book.name));
            PeerView { name: known.unwrap_or(peer.name), step: self.steps.view(link, &self.authors), ..peer }
        };
        View {
            peers: self.neighbours.view((&self.setup, now), complete),
            known: self.known(),
            revoked: self.neighbours.revocations().all().map(|revocation| revocation.node).collect(),
            lost_thoughts: self.own.lost(),
            waiting: self.waiting(),
            own_log: self.own.view(),
            missing: self.mending.count(),
        }
    }

    /// Whether a submission would find room among those that wait for the disk.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.own.waiting() < own::WAITING_MAX
    }

    /// A snapshot of the authors alone.
    #[must_use]
    pub fn known(&self) -> Known {
        let authors = self.authors.iter().map(|(id, author)| {
            let view = AuthorView {
                name: self.authors.shown_name(id, &author.book.name),
                book: Arc::clone(&author.book),
                behind: self.sync.is_behind(id, Some(author.book.seq())),
                fault: self.faults.of(id),
            };
            (id, view)
        });
        let erased = self.faults.iter().filter(|(id, _)| self.authors.get(*id).is_none());
        Known { authors: authors.collect(), erased: erased.collect() }
    }

    fn stored(&mut self, now: Now, through: Seq, out: &mut Vec<Effect>) {
        let published = self.own.stored(&self.setup, through, &mut self.authors);
        let mut peers_sent = 0;
        for segment in published.segments {
            peers_sent = self.sync.publish(segment, out);
        }
        for (ticket, recorded) in published.answers {
            out.push(Effect::Answer { ticket, answer: Answer::Recorded { recorded, peers_sent } });
        }
        for (ticket, fault) in published.refused {
            out.push(Effect::Answer { ticket, answer: Answer::Refused(fault) });
        }
        if !published.events.is_empty() {
            self.grew(now, self.setup.id());
        }
        out.extend(published.events.into_iter().map(|event| Effect::Event(Event::Entry(event))));
        self.own.store(out);
    }

    /// This node is found elsewhere from now on: its peers are told at once.
    fn moved(&mut self, now: Now, addresses: Vec<SocketAddr>, out: &mut Vec<Effect>) {
        if self.setup.addresses != addresses {
            self.setup.addresses = addresses;
            self.neighbours.moved((&self.setup, now), out);
        }
    }

    fn balance(&mut self, now: Now, link: LinkId, frame: BalanceFrame, out: &mut Vec<Effect>) {
        if self.neighbours.peers().node_of(link).is_none() {
            return;
        }
        let told = Told { mono: now.mono, link };
        match frame {
            BalanceFrame::Faults(reports) => self.told_faults(now, link, reports, out),
            BalanceFrame::Prove { author } => self.faults.prove(told, author, out),
            BalanceFrame::Follow { author, on } => self.relay.follow(link, author, on),
            BalanceFrame::Want { author, from } => {
                let span = Span { first: from, last: Seq(u64::MAX) };
                self.sync.want(link, author, span, self.served_through(author), out);
            }
            BalanceFrame::Mend { author, span } => {
                self.sync.want(link, author, span, self.served_through(author), out);
            }
            BalanceFrame::Heads(mut reports) => {
                for report in &reports {
                    if let Err(fault) = self.heard_of_own(now, link, &report.head, out) {
                        let why = SegmentRefusal::Wrong(SegmentFault::Signature(fault));
                        return self.wrong(now, link, why, out);
                    }
                }
                for report in &reports {
                    let head = &report.head;
                    self.steps.told(now.wall, link, head.author, head.seq, &self.authors);
                }
                // The last frame of a round is never a full one.
                if reports.len() < HEADS_PER_FRAME_MAX
                    && let Some(peer) = self.neighbours.peers().node_of(link)
                {
                    self.own.told_all(peer);
                    self.steps.told_all(now.wall, link);
                }
                // What others hold of our own log is asked for only while we get it back.
                reports.retain(|report| self.own.takes_back() || !self.own.lacks(&report.head));
                self.told_heads(now, link, &reports, out);
                self.try_to_open(now, out);
            }
        }
    }

    fn told_heads(&mut self, now: Now, link: LinkId, reports: &[HeadReport], out: &mut Vec<Effect>) {
        let federation = self.setup.federation;
        let told = Told { mono: now.mono, link };
        for finding in self.sync.heads(told, reports, (&federation, &self.relay), &mut self.authors, out) {
            match finding {
                Finding::Fork(author, seq) => self.suspect(told, author, seq, out),
                Finding::Unsigned(fault) => {
                    let why = SegmentRefusal::Wrong(SegmentFault::Signature(fault));
                    self.wrong(now, link, why, out);
                }
                Finding::Nothing => {}
            }
        }
    }

    /// How far an author's log is given out. Of our own: what is signed.
    fn served_through(&self, author: NodeId) -> Option<Seq> {
        match author == self.setup.id() {
            true => self.own.head().map(|head| head.seq),
            false => self.authors.seq(author),
        }
    }

    fn heard_of_own(
        &mut self,
        now: Now,
        link: LinkId,
        head: &Head,
        out: &mut Vec<Effect>,
    ) -> Result<(), BadSignature> {
        let Some(peer) = self.neighbours.peers().node_of(link).filter(|_| head.author == self.setup.id())
        else {
            return Ok(());
        };
        match self.own.heard_of(&self.setup, peer, head) {
            OwnHeard::Nothing => {}
            OwnHeard::Unsigned(fault) => return Err(fault),
            OwnHeard::Recovering => {
                out.push(Effect::Store(vec![Record::Doubted]));
                out.push(Effect::Event(Event::OwnLogBehind { peer, theirs: head.seq }));
                let linked: Vec<NodeId> = self.neighbours.peers().nodes().collect();
                for node in linked {
                    self.own.linked(now.mono, node);
                }
            }
            OwnHeard::Halted(halt) => {
                out.push(Effect::Event(Event::OwnLogBehind { peer, theirs: head.seq }));
                self.halted(halt, out);
            }
        }
        Ok(())
    }

    /// Nothing more is signed by this process; and the next one gets its log back first.
    fn halted(&mut self, halt: Halt, out: &mut Vec<Effect>) {
        self.own.halt(halt);
        out.push(Effect::Store(vec![Record::Doubted]));
        let why = self.own.view().why().unwrap_or_default().to_owned();
        out.push(Effect::Event(Event::WritingHalted { why }));
    }

    fn clone_of_us(&mut self, out: &mut Vec<Effect>) {
        if !self.own.is_halted() {
            out.push(Effect::Event(Event::Clone { id: self.setup.id(), own: true }));
            self.halted(Halt::Clone, out);
        }
    }

    fn try_to_open(&mut self, now: Now, out: &mut Vec<Effect>) {
        let now = self.writing_time(now, out);
        if self.own.try_to_open(&self.setup, now, out) {
            self.grew(now, self.setup.id());
            // Strangers that were met meanwhile were not.
            let known = self.neighbours.peers().known(now);
            out.extend(known.into_iter().map(|(id, peer)| Effect::Store(vec![Record::Peer { id, peer }])));
        }
    }

    fn disk(&mut self, now: Now, low: Option<DiskLow>, out: &mut Vec<Effect>) {
        let was_full = std::mem::replace(&mut self.is_full, low.is_some());
        self.own.disk(low);
        match (was_full, low) {
            (false, Some(low)) => {
                self.sync.pause();
                out.push(Effect::Event(Event::DiskLow(low)));
            }
            (true, None) => {
                out.push(Effect::Event(Event::DiskRoomy));
                self.sync.release(now.mono, &self.authors, out);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn heard(&mut self, now: Now, link: LinkId, segment: Verified<Segment>, out: &mut Vec<Effect>) {
        let Some(peer) = self.neighbours.peers().node_of(link) else { return };
        let (author, last) = (segment.author(), segment.last());
        let told = Told { mono: now.mono, link };
        if self.faults.heard(told, &segment, out) {
            return;
        }
        if self.is_full {
            return self.sync.hold(now.mono, author, &self.authors, out);
        }
        let is_own = author == self.setup.id();
        let is_new = self.authors.seq(author) < Some(last);
        // What others hold of our own log is taken only while we get it back.
        if is_own && is_new && !self.own.takes_back() {
            // They may have been asked for while we still wanted them.
            return self.sync.drop_author(now.mono, author, &self.authors, out);
        }
        let is_met = self.authors.get(author).is_some();
        let is_arriving = !is_met && !is_own && segment.first() == Seq::GENESIS && !self.authors.is_full();
        if is_arriving && !self.arrivals.take(now.mono, peer) {
            self.sync.hold(now.mono, author, &self.authors, out);
            return self.wrong(now, link, SegmentRefusal::TooManyNewAuthors, out);
        }
        let followers = self.followers(link, author);
        let live = (!followers.is_empty()).then(|| Arc::new(segment.clone()));
        match admit(&self.setup.policy, now, segment, &mut self.authors, self.setup.id()) {
            Admission::Admitted { records, events } => {
                for record in &records {
                    if let Record::Entries { entries, .. } = record {
                        self.mending.came_bare(now.mono, link, entries, out);
                    }
                }
                out.push(Effect::Store(records));
                out.extend(events.into_iter().map(Effect::Event));
                if let Some(book) = self.authors.get(author).map(|author| author.book.clone())
                    && is_own
                {
                    self.own.came_back(book);
                }
                if let Some(live) = live.filter(|_| self.authors.cut(author).is_none()) {
                    self.sync.pass_on(followers, live, out);
                }
                self.grew(now, author);
                self.sync.took(told, author, last, &self.authors, out);
                if !is_met {
                    self.faults.met(now.mono, author, &self.authors, out);
                }
                if self.authors.is_closed(author) {
                    self.faults.changed(now.mono, author, &mut self.authors, out);
                }
            }
            Admission::Known(segment) => {
                self.mending.heard(now.mono, link, &segment, out);
                self.sync.knew(told, author, last, &self.authors, out);
            }
            Admission::Gap { .. } => self.sync.gap(told, author, last, &self.authors, out),
            Admission::Held { ahead } => {
                self.sync.hold(now.mono, author, &self.authors, out);
                out.push(Effect::Event(Event::ClockSkew { author, ahead }));
            }
            Admission::Fork { seq } if is_own => self.halted(Halt::Conflict { seq }, out),
            Admission::Fork { seq } => {
                // What it follows there is another entry than ours before it.
                self.suspect(told, author, Seq(seq.0.saturating_sub(1)), out);
            }
            Admission::Refused(why) => self.wrong(now, link, why, out),
        }
        if is_own {
            self.try_to_open(now, out);
        }
    }

    /// To whom what an author wrote just now is passed on: what is being caught up with goes the other way, by heads.
    fn followers(&self, from: LinkId, author: NodeId) -> Vec<LinkId> {
        match self.sync.is_asked(from, author) {
            true => vec![],
            false => self.relay.followers(from, author),
        }
    }

    /// An author's log grew: its head is told to everyone soon.
    fn grew(&mut self, now: Now, author: NodeId) {
        self.sync.grew(now.mono, author);
        self.steps.changed(now.wall, author, &self.authors);
    }

    /// What a peer says it holds is believed no further than we hold it ourselves.
    fn heard_again(&mut self, now: Now, link: LinkId, author: NodeId, last: Seq, out: &mut Vec<Effect>) {
        if self.neighbours.peers().node_of(link).is_some() && self.authors.seq(author) >= Some(last) {
            self.sync.knew(Told { mono: now.mono, link }, author, last, &self.authors, out);
        }
    }

    fn wrong(&mut self, now: Now, link: LinkId, why: SegmentRefusal, out: &mut Vec<Effect>) {
        let Some(from) = self.neighbours.peers().node_of(link) else {
            return;
        };
        // What is our own trouble is never counted against anyone.
        let is_theirs =
            !matches!(why, SegmentRefusal::TooManyAuthors { .. } | SegmentRefusal::TooManyNewAuthors);
        let about = why.to_string();
        out.push(Effect::Event(Event::SegmentRefused { from, why }));
        if is_theirs {
            let changes = self.neighbours.strike((&self.setup, now), from, about, out);
            self.changed(now, changes, out);
        }
    }

    fn expel(&mut self, now: Now, node: NodeId, refusal: &Refusal, out: &mut Vec<Effect>) {
        let changes = self.neighbours.expel((&self.setup, now), node, refusal, out);
        self.changed(now, changes, out);
    }

    fn told_faults(&mut self, now: Now, link: LinkId, reports: Vec<FaultReport>, out: &mut Vec<Effect>) {
        let told = Told { mono: now.mono, link };
        for report in reports {
            match self.faults.told(told, report, &mut self.authors, out) {
                Reported::Holds(last) if report.author != self.setup.id() => {
                    self.sync.holds(told, report.author, last, &self.authors, out);
                }
                Reported::Holds(_) | Reported::Nothing => {}
            }
        }
    }

    fn proof(&mut self, now: Now, link: LinkId, proof: &Proof, out: &mut Vec<Effect>) {
        if self.neighbours.peers().node_of(link).is_some() {
            self.convict(now, proof, Found::Told, out);
            self.faults.shown(Told { mono: now.mono, link }, proof, &self.authors, out);
        }
    }

    /// A peer's copy of a log differs from ours. Until it is known where, no more of it is asked for: it would not fit.
    fn suspect(&mut self, told: Told, author: NodeId, differs: Seq, out: &mut Vec<Effect>) {
        self.sync.hold(told.mono, author, &self.authors, out);
        self.faults.suspect(told, author, differs, out);
    }

    /// The author's own signatures say that it is at fault, whoever showed them.
    fn convict(&mut self, now: Now, proof: &Proof, found: Found, out: &mut Vec<Effect>) {
        let author = proof.author();
        if author == self.setup.id() {
            if !self.own.is_halted() {
                self.halted(Halt::Conflict { seq: proof.cut() }, out);
            }
            return;
        }
        // Only who is known: it has paid its proof of work, so such records are bounded.
        if self.authors.get(author).is_none() && self.faults.of(author).is_none() {
            return;
        }
        let Some(fault) = self.faults.convict(now, proof, found, out) else { return };
        self.authors.set_cut(author, Some(fault.cut));
        self.sync.drop_author(now.mono, author, &self.authors, out);
        self.mending.cut(author, fault.cut);
        self.steps.changed(now.wall, author, &self.authors);
        let refusal = Refusal::about(RefusalCode::Forked, format!("entry {}", fault.cut));
        self.expel(now, author, &refusal, out);
    }

    /// The store has cut a log. Where ours in memory had not reached the cut, nothing was cut off, and it may have grown since.
    fn cut(&mut self, now: Now, author: NodeId, book: Option<Box<AuthorBook>>, out: &mut Vec<Effect>) {
        let Some(cut) = self.faults.was_cut(author) else { return };
        if self.authors.missing_from(author) > cut {
            match book {
                Some(book) => drop(self.authors.put(author, Arc::new(*book))),
                None => self.authors.erase(author),
            }
        }
        if !self.faults.is_over(author) {
            self.authors.set_cut(author, None);
        }
        self.steps.changed(now.wall, author, &self.authors);
        self.faults.changed(now.mono, author, &mut self.authors, out);
        self.sync.ask_again(now.mono, author, &self.authors, out);
    }

    fn clear(&mut self, now: Now, ticket: Ticket, author: NodeId, out: &mut Vec<Effect>) {
        let was_convicted = self.faults.clear(author, out);
        if was_convicted && !self.faults.is_over(author) {
            self.authors.set_cut(author, None);
            self.steps.changed(now.wall, author, &self.authors);
            self.sync.ask_again(now.mono, author, &self.authors, out);
        }
        out.push(Effect::Answer { ticket, answer: Answer::Cleared(was_convicted) });
    }

    fn queue_full(&mut self, now: Now, link: LinkId, kind: StreamKind, out: &mut Vec<Effect>) {
        match kind {
            StreamKind::Control => {
                let Some(node) = self.neighbours.peers().node_of(link) else {
                    return;
                };
                self.expel(now, node, &Refusal::plain(RefusalCode::TooSlow), out);
            }
            StreamKind::Thought
            | StreamKind::BalanceSync
            | StreamKind::CatchUp
            | StreamKind::Probe
            | StreamKind::Proof
            | StreamKind::Measure => {
                if let Some(id) = self.sync.queue_full(now.mono, link) {
                    out.push(Effect::Event(Event::PeerBehind { id }));
                }
            }
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        let changes = self.neighbours.tick_links((&self.setup, now), out);
        self.changed(now, changes, out);
        for link in self.sync.tick(now.mono, &mut self.authors, self.own.head(), out) {
            self.faults.tell_all(link, &mut self.authors, out);
            self.relay.ask_again(link, out);
        }
        self.mending.tick(now.mono, out);
        self.faults.tick(now.mono, &self.authors, out);
        self.try_to_open(now, out);
        let changes = self.neighbours.tick_places((&self.setup, now), out);
        self.changed(now, changes, out);
        if self.time_mark_at <= now.mono {
            self.time_mark_at = now.mono.plus(TIME_MARK_EVERY);
            out.push(Effect::Store(vec![Record::NewestTime(now.wall)]));
        }
    }

    fn changed(&mut self, now: Now, changes: Vec<LinkChange>, out: &mut Vec<Effect>) {
        for change in changes {
            match change {
                LinkChange::Gone { link, node } => {
                    self.sync.gone(Told { mono: now.mono, link }, &self.authors, out);
                    self.mending.gone(now.mono, link, out);
                    self.faults.gone(Told { mono: now.mono, link }, &self.authors, out);
                    self.relay.gone(link);
                    self.steps.gone(link);
                    self.own.unlinked(node);
                }
                LinkChange::CloneOfUs => self.clone_of_us(out),
                LinkChange::Established { link, node, known } => {
                    if self.own.may_remember(node) {
                        out.push(Effect::Store(vec![Record::Peer { id: node, peer: known }]));
                    }
                    self.own.linked(now.mono, node);
                    self.relay.established(link, node, out);
                    self.steps.established(link, &self.authors);
                    self.faults.established(link, node, &mut self.authors, out);
                    self.sync.established(link, node, &mut self.authors, self.own.head(), out);
                    self.mending.established(now.mono, link, out);
                }
            }
        }
    }

    /// The time that our own entries carry. A clock far ahead of the peers' would freeze our log for them, so it
    /// gives way; being behind harms nobody. Source: protocol.md, Time.
    fn writing_time(&mut self, now: Now, out: &mut Vec<Effect>) -> Now {
        let behind = self.neighbours.peers().median_clock_ahead_ms().unwrap_or(0).saturating_neg();
        let was_ahead = std::mem::replace(&mut self.clock_is_ahead, behind > CLOCK_AHEAD_MAX_MS);
        if !self.clock_is_ahead {
            return now;
        }
        let ahead = Millis(behind.unsigned_abs());
        if !was_ahead {
            out.push(Effect::Event(Event::OwnClockSkew { ahead }));
        }
        Now { wall: now.wall.since(ahead), ..now }
    }
}
