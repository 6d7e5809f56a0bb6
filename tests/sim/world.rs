//! A federation in one thread on virtual time: real cores, a simulated network and simulated disks, one seed.

mod convictions;
mod crowd;
mod fate;

pub(crate) use convictions::Forger;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::disk::Disk;
use cogmesh::{
    ledger::{
        Policy,
        types::{Level, MicroAtp, Millis, Seq},
    },
    log::{
        Architecture, Claim, Entry, FederationId, FederationName, Hardware, Hash, Head, Identity, Mode,
        NodeId, NodeName, Rules, Search, Segment, Verified,
        books::{AuthorBook, Record, Span},
    },
    protocol::{
        Federation,
        event::Event,
        frame::{BalanceFrame, ControlFrame, HeadReport, Instance},
        hello::Setup,
        input::{
            Address, Answer, Attempt, Dial, Effect, Ended, Hint, Input, LinkId, Now, Source, Submission,
            Ticket,
        },
        own::is_overruled,
        recovery::Doubt,
        refusal::Refusal,
        view::{PeerState, View},
    },
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

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
    /// Every head that ever left a node: at one seq of one author there is one entry, or somebody forked.
    signed: BTreeMap<(NodeId, Seq), Hash>,
    policy: Policy,
}

pub(crate) struct Node {
    setup: Setup,
    core: Option<Federation>,
    pub(crate) disk: Disk,
    boots: u64,
    wake: Option<u64>,
    /// The disk writes in order.
    written_at: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) answers: BTreeMap<Ticket, Answer>,
    tickets: u64,
    clock_skew_ms: i64,
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
    open: bool,
    /// What came before this end was admitted.
    unread: Vec<Input>,
    /// Frames of one link never overtake each other.
    last_arrival: u64,
}

enum Action {
    Input(usize, u64, Input),
    Wake(usize, u64),
    OnLink(LinkId, Input),
    Written(usize, u64, Vec<Record>),
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
            policy: Policy { pow_bits: 4, rate_base: 100_000, ..Policy::default() },
        }
    }

    /// Adds a node that starts within `spread_ms`, and is told of every other after it.
    pub(crate) fn add(&mut self, name: &str) -> usize {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let identity = Arc::new(Identity::from_seed(&seed).unwrap());
        let name: NodeName = name.parse().unwrap();
        let federation_name: FederationName = "lan".parse().unwrap();
        let federation = FederationId::new(&federation_name, &self.policy, None);
        let search = Search {
            federation,
            node: identity.node_id(),
            bits_min: self.policy.pow_bits,
            first: 0,
            step: std::num::NonZeroU64::MIN,
        };
        let nonce = search.run(&std::sync::atomic::AtomicBool::new(false)).unwrap();
        let claim = Claim {
            hardware: Hardware::Software,
            level: Level::MAX,
            arch: "x86_64".parse::<Architecture>().unwrap(),
        };
        let setup = Setup {
            identity,
            federation,
            federation_name,
            policy: self.policy.clone(),
            name,
            claim,
            nonce,
            instance: Instance(0),
            addresses: vec![],
            peers_max: 256,
        };
        self.nodes.push(Node {
            setup,
            core: None,
            disk: Disk::default(),
            boots: 0,
            wake: None,
            written_at: 0,
            events: vec![],
            answers: BTreeMap::new(),
            tickets: 0,
            clock_skew_ms: 0,
            mark: None,
            doubt: None,
            write_without_peers: false,
        });
        self.nodes.len() - 1
    }

    /// Adds a node with a copy of another one's key and disk: what a cloned data directory gives.
    pub(crate) fn twin_of(&mut self, node: usize) -> usize {
        let original = &self.nodes[node];
        let twin = Node {
            setup: original.setup.clone(),
            core: None,
            disk: original.disk.clone(),
            boots: 0,
            wake: None,
            written_at: 0,
            events: vec![],
            answers: BTreeMap::new(),
            tickets: 0,
            clock_skew_ms: 0,
            mark: original.mark,
            doubt: None,
            write_without_peers: false,
        };
        self.nodes.push(twin);
        self.nodes.len() - 1
    }

    pub(crate) fn id(&self, node: usize) -> NodeId {
        self.nodes[node].setup.id()
    }

    pub(crate) fn set_clock(&mut self, node: usize, skew_ms: i64) {
        self.nodes[node].clock_skew_ms = skew_ms;
    }

    /// Starts a node on what its disk holds.
    pub(crate) fn start(&mut self, node: usize) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let instance = Instance(self.rng.next_u64());
        let now = self.clock(node);
        let state = &mut self.nodes[node];
        state.boots += 1;
        state.setup.instance = instance;
        let mut out = vec![];
        let books = state.disk.books.clone();
        let standing = state.standing(&books);
        let end = books.authors.get(&state.setup.id()).map(|book| (book.seq(), book.hash));
        if is_overruled(standing, end) {
            state.mark = end.map(|(seq, _)| seq);
        }
        state.core = Some(Federation::new(state.setup.clone(), books, standing, seed, now, &mut out));
        self.carry_out(node, out);
    }

    /// Ends a node between two instructions. What was not written is lost.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].core = None;
        self.nodes[node].wake = None;
        let ends: Vec<LinkId> =
            self.links.iter().filter(|(_, end)| end.node == node && end.open).map(|(id, _)| *id).collect();
        for id in ends {
            self.links.get_mut(&id).unwrap().open = false;
            let other = self.links[&id].other;
            let broke = Input::Disconnected { link: other, why: Ended::Broke("idle".into()) };
            self.later(IDLE_MAX, Action::OnLink(other, broke));
        }
    }

    /// Tells a node of another, as discovery would.
    pub(crate) fn hint(&mut self, node: usize, about: usize) {
        let hint = Hint {
            source: Source::Mdns,
            node: Some(self.id(about)),
            name: None,
            federation: Some(self.nodes[about].setup.federation.prefix_hex()),
            addresses: vec![Address::Socket(address(about))],
        };
        let boot = self.nodes[node].boots;
        self.later(0, Action::Input(node, boot, Input::Hint(hint)));
    }

    /// Tells a node that somebody may be at another's address, as `--peer` does.
    pub(crate) fn hint_address(&mut self, node: usize, about: usize) {
        let hint = Hint {
            source: Source::Seed,
            node: None,
            name: None,
            federation: None,
            addresses: vec![Address::Socket(address(about))],
        };
        let boot = self.nodes[node].boots;
        self.later(0, Action::Input(node, boot, Input::Hint(hint)));
    }

    /// All start within a moment, and each is told of every other within a moment of its start.
    pub(crate) fn start_all(&mut self, spread_ms: u64) {
        for node in 0..self.nodes.len() {
            let pause = self.random(spread_ms);
            self.run_for(pause);
            self.start(node);
            for other in 0..self.nodes.len() {
                if other != node {
                    self.hint_both(node, other);
                }
            }
        }
    }

    fn hint_both(&mut self, one: usize, other: usize) {
        self.hint(one, other);
        if self.nodes[other].core.is_some() {
            self.hint(other, one);
        }
    }

    pub(crate) fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert((one.min(other), one.max(other)));
        let over: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, end)| {
                let there = self.links.get(&end.other).map_or(usize::MAX, |end| end.node);
                (end.node, there) == (one, other) || (end.node, there) == (other, one)
            })
            .map(|(id, _)| *id)
            .collect();
        for link in over {
            self.links.get_mut(&link).unwrap().open = false;
            let broke = Input::Disconnected { link, why: Ended::Broke("idle".into()) };
            self.later(IDLE_MAX, Action::OnLink(link, broke));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        for node in 0..self.nodes.len() {
            let boot = self.nodes[node].boots;
            self.later(0, Action::Input(node, boot, Input::NetworkChanged));
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
        self.handle(node, Input::Submit { ticket, submission });
        ticket
    }

    pub(crate) fn view(&self, node: usize) -> View {
        self.nodes[node].core.as_ref().unwrap().view(self.clock(node))
    }

    /// The links over which that node lists each other node as verified.
    pub(crate) fn verified(&self, node: usize) -> BTreeMap<NodeId, LinkId> {
        let linked = |peer: cogmesh::protocol::view::PeerView| match peer.state {
            PeerState::Verified(verified) => Some((peer.id?, verified.link)),
            PeerState::Seen(_) => None,
        };
        self.view(node).peers.into_iter().filter_map(linked).collect()
    }

    /// Whether every pair of those is linked over the two ends of one and the same connection.
    pub(crate) fn is_meshed(&self, who: &[usize]) -> bool {
        who.iter().all(|one| {
            let peers = self.verified(*one);
            who.iter().filter(|other| *other != one).all(|other| {
                let there = self.verified(*other).get(&self.id(*one)).copied();
                let here = peers.get(&self.id(*other));
                here.is_some_and(|here| Some(self.links[here].other) == there)
            })
        })
    }

    /// One peer repeats the first entry of an author to another, after it claimed to hold more than there is. The author
    /// plays along: it signed a head that nobody holds.
    pub(crate) fn boast(&mut self, to: usize, from: usize, author: usize) {
        let link = self.verified(to)[&self.id(from)];
        let setup = &self.nodes[author].setup;
        let genesis = self.nodes[author].disk.entries[&setup.id()][0].0.entry.clone();
        let head = Head::sign(&setup.identity, &setup.federation, Seq(1_000_000), genesis.hash());
        let segment = Segment::own(vec![genesis], &setup.identity, &setup.federation).unwrap();
        let report = HeadReport { head, balance: MicroAtp::ZERO, digest: [0; 32] };
        self.handle(to, Input::Balance { link, frame: BalanceFrame::Heads(vec![report]) });
        self.handle(to, Input::Heard { link, segment });
    }

    /// Sends a frame of the hostile node's making over its link to another.
    pub(crate) fn forge(&mut self, from: usize, to: usize, frame: &BalanceFrame) {
        let link = self.verified(from)[&self.id(to)];
        self.send(link, |link| balance(link, frame));
    }

    /// How many connections are open between those two.
    pub(crate) fn connections(&self, one: usize, other: usize) -> usize {
        let joins = |end: &&End| {
            end.open
                && end.node == one
                && self.links.get(&end.other).is_some_and(|far| far.node == other && far.open)
        };
        self.links.values().filter(joins).count()
    }

    pub(crate) fn book(&self, node: usize, author: usize) -> Option<Arc<AuthorBook>> {
        self.view(node).authors.get(&self.id(author)).map(|author| author.book.clone())
    }

    /// Whether all of those hold the same account of every author.
    pub(crate) fn agree(&self, who: &[usize]) -> bool {
        let books = |node: usize| -> BTreeMap<NodeId, (Seq, [u8; 32])> {
            let view = self.view(node);
            view.authors
                .iter()
                .map(|(id, author)| (*id, (author.book.seq(), author.book.account.digest())))
                .collect()
        };
        let first = books(who[0]);
        who.iter().all(|node| books(*node) == first)
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
        match self.actions.remove(&id).unwrap() {
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
            Action::Written(node, boot, records) => self.written(node, boot, records),
            Action::Dialled(node, boot, dial, until) => self.dialled(node, boot, &dial, until),
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
        core.handle(now, input, &mut out);
        self.carry_out(node, out);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        let boot = self.nodes[node].boots;
        for effect in effects {
            match effect {
                Effect::Store(records) => {
                    let at = (self.now + 1 + self.random(5)).max(self.nodes[node].written_at);
                    self.nodes[node].written_at = at;
                    self.later(at - self.now, Action::Written(node, boot, records));
                }
                Effect::Answer { ticket, answer } => {
                    let twice = self.nodes[node].answers.insert(ticket, answer);
                    assert!(twice.is_none(), "a submission is answered once");
                }
                Effect::Dial(dial) => {
                    let pause = 2 + self.random(10);
                    let until = self.now + ATTEMPT_MAX;
                    self.later(pause, Action::Dialled(node, boot, dial, until));
                }
                Effect::Control { link, frame } => self.send(link, |link| control(link, &frame)),
                Effect::Balance { link, frame } => {
                    if let BalanceFrame::Heads(reports) = &frame {
                        reports.iter().for_each(|report| self.note_signed(&report.head));
                    }
                    self.send(link, |link| balance(link, &frame));
                }
                Effect::Publish { to, segment } => {
                    self.note_signed(segment.head());
                    for link in to {
                        self.send(link, |link| Input::Heard { link, segment: (*segment).clone() });
                    }
                }
                Effect::Serve { link, author, span } => self.serve(node, link, author, span),
                Effect::Prove { link, author } => self.prove(node, link, author),
                Effect::Compare { link, segment } => self.compare(node, link, segment.into_inner()),
                Effect::Admit { link } => self.admit(link),
                Effect::Close { link, refusal } => self.close(link, refusal),
                Effect::Verify { .. } => {}
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

    fn note_signed(&mut self, head: &Head) {
        // Only nodes are honest here.
        if self.nodes.iter().all(|node| node.setup.id() != head.author) {
            return;
        }
        let first = *self.signed.entry((head.author, head.seq)).or_insert(head.hash);
        assert_eq!(
            first, head.hash,
            "two entries at seq {} of {} left a node: a fork",
            head.seq, head.author
        );
    }

    fn dialled(&mut self, node: usize, boot: u64, dial: &Dial, until: u64) {
        if !self.lives(node, boot) {
            return;
        }
        let is_at = |other: usize, at: &Address| {
            *at == Address::Socket(address(other)) && self.nodes[other].core.is_some()
        };
        let found = dial.addresses.iter().find_map(|at| {
            (0..self.nodes.len()).find(|other| {
                is_at(*other, at)
                    && !self.cut.contains(&(node.min(*other), node.max(*other)))
                    && dial.expect.is_none_or(|expect| expect == self.id(*other))
            })
        });
        let Some(other) = found else {
            let is_cut_off =
                dial.addresses.iter().any(|at| (0..self.nodes.len()).any(|other| is_at(other, at)));
            if is_cut_off && self.now + SENT_AGAIN < until {
                return self.later(SENT_AGAIN, Action::Dialled(node, boot, dial.clone(), until));
            }
            let input = Input::DialFailed { attempt: dial.attempt, why: "nobody there".into() };
            return self.handle(node, input);
        };
        let (here, there) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        let mut exporter = [0; 32];
        self.rng.fill_bytes(&mut exporter);
        let end = |node: usize, boot, other| End {
            node,
            boot,
            other,
            admitted: false,
            open: true,
            unread: vec![],
            last_arrival: 0,
        };
        self.links.insert(here, end(node, boot, there));
        self.links.insert(there, end(other, self.nodes[other].boots, here));
        let connected = |link, peer: NodeId, attempt: Option<Attempt>, at: usize| Input::Connected {
            link,
            node: peer,
            attempt,
            address: address(at),
            exporter,
        };
        let (my_id, their_id) = (self.id(node), self.id(other));
        // The dialler's TLS is done first; what it sends follows in order.
        let pause = 1 + self.random(5);
        self.deliver(there, pause, connected(there, my_id, None, node));
        self.handle(node, connected(here, their_id, Some(dial.attempt), other));
    }

    fn send(&mut self, link: LinkId, input: impl FnOnce(LinkId) -> Input) {
        let Some(other) = self.links.get(&link).filter(|end| end.open).map(|end| end.other) else {
            return;
        };
        let pause = 1 + self.random(4);
        self.deliver(other, pause, input(other));
    }

    fn deliver(&mut self, link: LinkId, pause: u64, input: Input) {
        let end = self.links.get_mut(&link).unwrap();
        let at = (self.now + pause).max(end.last_arrival);
        end.last_arrival = at;
        self.later(at - self.now, Action::OnLink(link, input));
    }

    fn on_link(&mut self, link: LinkId, input: Input) {
        let end = self.links.get_mut(&link).unwrap();
        let ends = matches!(input, Input::Disconnected { .. });
        if !ends && !end.open {
            return;
        }
        let needs_admission = !ends && !matches!(input, Input::Connected { .. } | Input::Control { .. });
        if needs_admission && !end.admitted {
            end.unread.push(input);
            return;
        }
        if ends {
            end.open = false;
        }
        let (node, boot) = (end.node, end.boot);
        if self.lives(node, boot) {
            self.handle(node, input);
        }
    }

    fn admit(&mut self, link: LinkId) {
        let end = self.links.get_mut(&link).unwrap();
        end.admitted = true;
        for input in std::mem::take(&mut end.unread) {
            self.deliver(link, 0, input);
        }
    }

    fn close(&mut self, link: LinkId, refusal: Refusal) {
        let Some(end) = self.links.get_mut(&link) else {
            return;
        };
        if !end.open {
            return;
        }
        end.open = false;
        let other = end.other;
        self.later(0, Action::OnLink(link, Input::Disconnected { link, why: Ended::Closed }));
        let refused = Input::Disconnected { link: other, why: Ended::Refused(refusal) };
        let pause = 1 + self.random(4);
        self.deliver(other, pause, refused);
    }

    fn written(&mut self, node: usize, boot: u64, records: Vec<Record>) {
        if !self.lives(node, boot) {
            return;
        }
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

    fn serve(&mut self, node: usize, link: LinkId, author: NodeId, span: Span) {
        let mut from = span.first;
        let (identity, federation) =
            (self.nodes[node].setup.identity.clone(), self.nodes[node].setup.federation);
        let stored = self.nodes[node].disk.entries.get(&author).cloned().unwrap_or_default();
        loop {
            let own = author == identity.node_id();
            let segment = if own {
                let is_next = |entry: &&Entry| (from..=span.last).contains(&entry.seq());
                let entries: Vec<Entry> = stored
                    .iter()
                    .map(|(judged, _)| &judged.entry)
                    .filter(is_next)
                    .take(16)
                    .cloned()
                    .collect();
                (!entries.is_empty()).then(|| Segment::own(entries, &identity, &federation).unwrap())
            } else {
                let segment = self.segment_of(node, author, from, span.last);
                segment.map(|segment| segment.verify(&self.rules(federation)).unwrap())
            };
            let Some(segment) = segment else { break };
            self.note_signed(segment.head());
            from = segment.last().next();
            let is_done = from > span.last;
            self.send(link, |link| Input::Heard { link, segment: Verified::clone(&segment) });
            if is_done {
                break;
            }
        }
        self.send(link, |link| Input::CaughtUp { link, author });
        let boot = self.nodes[node].boots;
        self.later(3, Action::Input(node, boot, Input::Served { link, author }));
    }

    fn rules(&self, federation: FederationId) -> Rules {
        Rules { federation, pow_bits: self.policy.pow_bits, content_bytes_max: self.policy.content_max_bytes }
    }

    fn later(&mut self, pause: u64, action: Action) {
        self.order += 1;
        self.next_action += 1;
        self.actions.insert(self.next_action, action);
        self.queue.push(Reverse((self.now + pause, self.order, self.next_action)));
    }
}

fn address(node: usize) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1_000 + u16::try_from(node).unwrap()).into()
}

fn control(link: LinkId, frame: &ControlFrame) -> Input {
    Input::Control { link, frame: frame.clone() }
}

fn balance(link: LinkId, frame: &BalanceFrame) -> Input {
    Input::Balance { link, frame: frame.clone() }
}
