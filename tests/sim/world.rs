//! A federation in one thread on virtual time: real cores, a simulated network and simulated disks, one seed.

mod checks;
mod convictions;
mod crowd;
mod fate;
mod network;
mod nodes;
mod plant;
mod serving;
mod tally;
mod trace;
mod weather;

pub(crate) use self::{
    checks::{Check, Fault},
    convictions::Forger,
    plant::Plant,
    tally::Tally,
    trace::Trace,
    weather::Weather,
};

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
};

use cogmesh::{
    ledger::{
        Policy,
        types::{Millis, Seq},
    },
    log::{Hash, Mode, NodeId, Revocation, Segment, Verified, books::Record},
    protocol::{
        Federation,
        event::Event,
        frame::StreamKind,
        hello::Setup,
        input::{Answer, Dial, Effect, Input, LinkId, Now, Submission, Ticket},
        recovery::Doubt,
    },
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use self::{network::control, serving::Serving};
use crate::disk::Disk;

/// When the simulated world begins: 2026-11-24.
const BEGINNING: u64 = 1_795_478_400_000;
/// A dead link is noticed after this, unless the other side resets it.
const IDLE_MAX: u64 = 10_000;
/// An attempt to dial where nothing answers lasts so long, and its packets are sent again so often.
const ATTEMPT_MAX: u64 = 5_000;
const SENT_AGAIN: u64 = 1_100;

pub(crate) struct World {
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    actions: BTreeMap<usize, Action>,
    next_action: usize,
    pub(crate) nodes: Vec<Node>,
    links: BTreeMap<LinkId, End>,
    next_link: u64,
    rng: ChaCha8Rng,
    /// Pairs that can't reach each other.
    cut: BTreeSet<(usize, usize)>,
    /// From whom to whom nothing gets through for a while.
    blocked: BTreeMap<(usize, usize), Block>,
    pub(crate) weather: Weather,
    streams: u64,
    /// Every head that ever left a node: at one seq of one author there is one entry, or somebody forked.
    signed: BTreeMap<(NodeId, Seq), Hash>,
    /// Segments whose signatures were checked.
    checked: BTreeMap<(NodeId, Seq, Hash), Verified<Segment>>,
    pub(crate) trace: Trace,
    pub(crate) tally: Tally,
    /// What was found wrong, where that is collected and does not end the run.
    pub(crate) faults: Option<Vec<Fault>>,
    /// Nodes whose key somebody else signs with, too.
    pub(crate) traitors: BTreeSet<usize>,
    pub(crate) plant: Option<Plant>,
    policy: Policy,
}

pub(crate) struct Node {
    pub(crate) setup: Setup,
    core: Option<Federation>,
    pub(crate) disk: Disk,
    boots: u64,
    wake: Option<u64>,
    /// The disk writes in order.
    written_at: u64,
    pub(crate) events: Vec<Event>,
    /// What it has kept of those that were revoked.
    pub(crate) revoked: Vec<Revocation>,
    pub(crate) answers: BTreeMap<Ticket, Answer>,
    tickets: u64,
    /// Contents whose answers are awaited.
    submitted: BTreeMap<Ticket, String>,
    clock_skew_ms: i64,
    /// While its process is stopped: what happens to it when it goes on.
    asleep: Option<Vec<Action>>,
    /// What is on its way to the disk, in order.
    writes: VecDeque<Vec<Record>>,
    /// It will be killed after so many more effects.
    doomed: Option<u64>,
    /// Writing takes so much longer than usual.
    pub(crate) disk_lag_ms: u64,
    /// The sign mark: outside the disk that backups are taken of.
    pub(crate) mark: Option<Seq>,
    /// Whether the data directory was copied or the node ended without syncing.
    pub(crate) doubt: Option<Doubt>,
    pub(crate) write_without_peers: bool,
}

/// One end of a link.
struct End {
    node: usize,
    boot: u64,
    other: LinkId,
    admitted: bool,
    /// Whether frames still come and go.
    open: bool,
    /// Whether the core knows that it is over.
    ended: bool,
    lanes: BTreeMap<Stream, Lane>,
    /// Of any frame.
    last_arrival: u64,
}

/// A stream of a link: frames of one never overtake each other, those of several do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    Control,
    Thought,
    Balance,
    /// One that was opened for one purpose.
    Own(u64),
}

/// What is on its way to an end on one stream.
#[derive(Default)]
struct Lane {
    /// Each with the time at which it comes.
    queue: VecDeque<(u64, Input)>,
    /// Of its last frame.
    last_arrival: u64,
    /// How many frames have come and are not read yet.
    waiting: usize,
}

struct Block {
    count: usize,
    since: u64,
}

enum Action {
    Input(usize, u64, Input),
    Wake(usize, u64),
    OnLink(LinkId, Input),
    Arrive(LinkId, Stream),
    Silence(LinkId, u64),
    Serving(Serving),
    Written(usize, u64),
    WakeUp(usize, u64),
    /// Until when the attempt lasts where nothing answers.
    Dialled(usize, u64, Dial, u64),
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            actions: BTreeMap::new(),
            next_action: 0,
            nodes: vec![],
            links: BTreeMap::new(),
            next_link: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            cut: BTreeSet::new(),
            signed: BTreeMap::new(),
            blocked: BTreeMap::new(),
            weather: Weather::default(),
            streams: 0,
            checked: BTreeMap::new(),
            trace: Trace::default(),
            tally: Tally::default(),
            faults: None,
            traitors: BTreeSet::new(),
            plant: None,
            policy: Policy { pow_bits: 4, rate_base: 100_000, ..Policy::default() },
        }
    }

    pub(crate) fn submit(&mut self, node: usize, content: &str, key: Option<&str>) -> Ticket {
        self.nodes[node].tickets += 1;
        let ticket = Ticket(self.nodes[node].tickets);
        let submission = Submission {
            content: content.to_owned(),
            session: "main".parse().unwrap(),
            mode: Mode::Exploring,
            key: key.map(str::to_owned),
        };
        // What a key repeats is not the content that is recorded.
        if key.is_none() {
            self.nodes[node].submitted.insert(ticket, content.to_owned());
        }
        self.handle(node, Input::Submit { ticket, submission });
        ticket
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.rng.next_u64() % below }
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(Reverse((at, _, _))) = self.queue.peek() {
            if *at > end {
                break;
            }
            self.step();
        }
        self.now = end;
    }

    /// Runs until that holds; the time it took, or a panic after `ms`.
    pub(crate) fn run_until(&mut self, ms: u64, what: &str, holds: impl Fn(&Self) -> bool) -> u64 {
        let start = self.now;
        while !holds(self) {
            assert!(self.now < start + ms, "not within {ms} ms: {what}");
            let Some(Reverse((at, _, _))) = self.queue.peek() else { panic!("nothing more happens: {what}") };
            let at = *at;
            while self.queue.peek().is_some_and(|Reverse((next, _, _))| *next <= at) {
                self.step();
            }
        }
        self.now - start
    }

    fn step(&mut self) {
        let Some(Reverse((at, _, id))) = self.queue.pop() else {
            return;
        };
        self.now = at;
        let action = self.actions.remove(&id).unwrap();
        if let Some(node) = self.actor(&action)
            && let Some(waiting) = &mut self.nodes[node].asleep
        {
            return waiting.push(action);
        }
        match action {
            Action::Input(node, boot, input) => {
                if self.lives(node, boot) {
                    self.handle(node, input);
                }
            }
            Action::Wake(node, boot) => {
                if self.lives(node, boot) && self.nodes[node].wake == Some(at) {
                    self.nodes[node].wake = None;
                    self.handle(node, Input::Tick);
                }
            }
            Action::OnLink(link, input) => self.on_link(link, input),
            Action::Arrive(link, stream) => self.arrive(link, stream),
            Action::Silence(link, since) => self.silence(link, since),
            Action::Serving(serving) => self.serve_on(serving),
            Action::Written(node, boot) => self.written(node, boot),
            Action::WakeUp(node, boot) => {
                if self.lives(node, boot) {
                    self.wake_up(node);
                }
            }
            Action::Dialled(node, boot, dial, until) => self.dialled(node, boot, &dial, until),
        }
    }

    /// Who has to be awake for that.
    fn actor(&self, action: &Action) -> Option<usize> {
        match action {
            Action::Input(node, ..)
            | Action::Wake(node, _)
            | Action::Written(node, ..)
            | Action::Dialled(node, ..) => Some(*node),
            Action::OnLink(link, _) | Action::Arrive(link, _) => self.links.get(link).map(|end| end.node),
            Action::Serving(serving) => Some(serving.node),
            Action::Silence(..) | Action::WakeUp(..) => None,
        }
    }

    fn lives(&self, node: usize, boot: u64) -> bool {
        self.nodes[node].core.is_some() && self.nodes[node].boots == boot
    }

    fn clock(&self, node: usize) -> Now {
        let wall = BEGINNING.saturating_add(self.now).saturating_add_signed(self.nodes[node].clock_skew_ms);
        Now { mono: Millis(self.now), wall: Millis(wall) }
    }

    fn handle(&mut self, node: usize, input: Input) {
        let now = self.clock(node);
        let mut out = vec![];
        let Some(core) = &mut self.nodes[node].core else {
            return;
        };
        self.trace.input(self.now, node, &input);
        core.handle(now, input, &mut out);
        self.carry_out(node, out);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        let boot = self.nodes[node].boots;
        for effect in effects {
            if self.is_due(node) {
                return self.kill(node);
            }
            self.trace.effect(self.now, node, &effect);
            self.count(node, &effect);
            match effect {
                Effect::Store(records) => self.store(node, records),
                Effect::Answer { ticket, answer } => self.answered(node, ticket, answer),
                Effect::Dial(dial) => {
                    let pause = 2 + self.random(10);
                    let until = self.now + ATTEMPT_MAX;
                    self.later(pause, Action::Dialled(node, boot, dial, until));
                }
                Effect::Control { link, frame } => self.send(link, |link| control(link, &frame)),
                Effect::Balance { link, frame } => self.send_balance(node, link, &frame),
                Effect::BalanceToAll { to, frame } => {
                    to.into_iter().for_each(|link| self.send_balance(node, link, &frame));
                }
                Effect::Publish { to, segment } => {
                    self.note_signed(segment.head());
                    for link in to {
                        if !self.finds_full(node, link, StreamKind::Thought) {
                            self.send(link, |link| Input::Heard { link, segment: (*segment).clone() });
                        }
                    }
                }
                Effect::Serve { link, author, span } => self.serve(node, link, author, span),
                Effect::Prove { link, author } => self.prove(node, link, author),
                Effect::Compare { link, segment } => self.compare(node, link, segment.into_inner()),
                Effect::Admit { link } => self.admit(link),
                Effect::Close { link, refusal } => self.close(link, refusal),
                Effect::Verify { .. } => {}
                Effect::Revoked(revocations) => self.nodes[node].revoked.extend(revocations),
                Effect::Event(event) => self.nodes[node].events.push(event),
            }
        }
        let wake = self.nodes[node].core.as_ref().and_then(Federation::wake_at).map(|at| at.0.max(self.now));
        if let Some(at) = wake
            && self.nodes[node].wake.is_none_or(|set| set > at || set < self.now)
        {
            self.nodes[node].wake = Some(at);
            self.later(at - self.now, Action::Wake(node, boot));
        }
    }

    /// Whether a node dies before its next effect.
    fn is_due(&mut self, node: usize) -> bool {
        match &mut self.nodes[node].doomed {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn answered(&mut self, node: usize, ticket: Ticket, answer: Answer) {
        let content = self.nodes[node].submitted.remove(&ticket);
        if let (Answer::Recorded { recorded, .. }, Some(content)) = (&answer, content) {
            self.tally.acknowledged.insert((self.id(node), recorded.seq), content);
        }
        let twice = self.nodes[node].answers.insert(ticket, answer);
        assert!(twice.is_none(), "a submission is answered once");
    }

    /// The disk writes in order.
    fn store(&mut self, node: usize, records: Vec<Record>) {
        let boot = self.nodes[node].boots;
        let lag = self.nodes[node].disk_lag_ms;
        let pause = 1 + self.random(5) + self.random(lag);
        let at = (self.now + pause).max(self.nodes[node].written_at);
        self.nodes[node].written_at = at;
        self.store_too_early(node, &records);
        self.nodes[node].writes.push_back(records);
        self.later(at - self.now, Action::Written(node, boot));
    }

    fn written(&mut self, node: usize, boot: u64) {
        if !self.lives(node, boot) {
            return;
        }
        let Some(records) = self.nodes[node].writes.pop_front() else { return };
        let own = self.id(node);
        let mut through = None;
        let is_back = records.iter().any(|record| matches!(record, Record::Recovered));
        let mut cut = vec![];
        for record in records {
            if let Record::Fault { author, .. } = &record {
                cut.push(*author);
            }
            if let Record::Entries { author, book, .. } = &record
                && *author == own
            {
                through = Some(book.seq());
            }
            self.nodes[node].disk.write(record, own, &self.policy);
        }
        for author in cut {
            let book = self.nodes[node].disk.books.authors.get(&author).cloned().map(Box::new);
            self.handle(node, Input::Cut { author, book });
        }
        if is_back {
            self.nodes[node].doubt = None;
        }
        if let Some(through) = through {
            self.nodes[node].mark = self.nodes[node].mark.max(Some(through));
            self.handle(node, Input::Stored { through });
        }
    }

    fn later(&mut self, pause: u64, action: Action) {
        self.order += 1;
        self.next_action += 1;
        self.actions.insert(self.next_action, action);
        self.queue.push(Reverse((self.now + pause, self.order, self.next_action)));
    }
}
