//! Nodes: how they are made, start, end, and hear of each other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use cogmesh::{
    ledger::types::Level,
    log::{Architecture, Claim, FederationId, FederationName, Hardware, Identity, NodeId, NodeName, Search},
    protocol::{
        Federation,
        frame::Instance,
        hello::Setup,
        input::{Address, Hint, Input, LinkId, Source},
        own::is_overruled,
    },
};
use rand_chacha::rand_core::RngCore;

use super::{Action, End, IDLE_MAX, Node, World, network::address};
use crate::disk::Disk;

/// So often a link says that it is there.
const KEEP_ALIVE_MS: u64 = 2_000;

impl World {
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
            closed: None,
            policy: self.policy.clone(),
            name,
            claim,
            nonce,
            instance: Instance(0),
            addresses: vec![],
            peers_max: 256,
            pinned: None,
        };
        self.nodes.push(Node {
            setup,
            core: None,
            disk: Disk::default(),
            boots: 0,
            wake: None,
            written_at: 0,
            events: vec![],
            revoked: vec![],
            answers: BTreeMap::new(),
            tickets: 0,
            submitted: BTreeMap::new(),
            clock_skew_ms: 0,
            asleep: None,
            writes: VecDeque::new(),
            doomed: None,
            disk_lag_ms: 0,
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
            revoked: vec![],
            answers: BTreeMap::new(),
            tickets: 0,
            submitted: BTreeMap::new(),
            clock_skew_ms: 0,
            asleep: None,
            writes: VecDeque::new(),
            doomed: None,
            disk_lag_ms: 0,
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
        self.spoil_disk(node);
        if self.weather.overtaking {
            self.reset_old_links(node);
        }
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let instance = Instance(self.rng.next_u64());
        let now = self.clock(node);
        let state = &mut self.nodes[node];
        state.boots += 1;
        state.setup.instance = instance;
        if let Some(closed) = &mut state.setup.closed {
            closed.revoked.clone_from(&state.revoked);
        }
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

    /// Whoever still has a link to the process before is told by the new one that it knows of none, as QUIC does.
    fn reset_old_links(&mut self, node: usize) {
        let is_old = |end: &End| end.open && self.links.get(&end.other).is_some_and(|far| far.node == node);
        let old: Vec<LinkId> =
            self.links.iter().filter(|(_, end)| is_old(end)).map(|(link, _)| *link).collect();
        for link in old {
            let pause = self.random(KEEP_ALIVE_MS);
            self.broken_later(pause, link);
        }
    }

    /// Ends a node between two instructions. What was not written is lost.
    pub(crate) fn kill(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        (state.core, state.wake, state.doomed, state.asleep) = (None, None, None, None);
        // The next process writes to an idle disk.
        state.written_at = 0;
        state.writes.clear();
        let ends: Vec<LinkId> =
            self.links.iter().filter(|(_, end)| end.node == node && end.open).map(|(id, _)| *id).collect();
        for id in ends {
            self.links.get_mut(&id).unwrap().open = false;
            let other = self.links[&id].other;
            self.lose_late(other);
            self.broken_later(IDLE_MAX, other);
        }
    }

    /// Ends a node after so many more effects, wherever that is.
    pub(crate) fn doom(&mut self, node: usize, effects: u64) {
        self.nodes[node].doomed = Some(effects);
    }

    /// A node tells others where it listens.
    pub(crate) fn listens(&mut self, node: usize) {
        self.nodes[node].setup.addresses = vec![address(node)];
    }

    /// A node's clock jumps ahead. It never jumps back: a node's time does not.
    pub(crate) fn advance_clock(&mut self, node: usize, ms: i64) {
        self.nodes[node].clock_skew_ms += ms;
    }

    /// All clocks show what the furthest shows.
    pub(crate) fn set_clocks_right(&mut self) {
        let latest = self.nodes.iter().map(|node| node.clock_skew_ms).max().unwrap_or(0);
        self.nodes.iter_mut().for_each(|node| node.clock_skew_ms = latest);
    }

    /// A node is not to be killed any more.
    pub(crate) fn spare(&mut self, node: usize) {
        self.nodes[node].doomed = None;
    }

    /// A stopped process goes on.
    pub(crate) fn wake_up(&mut self, node: usize) {
        for action in self.nodes[node].asleep.take().unwrap_or_default() {
            self.later(0, action);
        }
    }

    pub(crate) fn is_awake(&self, node: usize) -> bool {
        self.is_up(node) && self.nodes[node].asleep.is_none()
    }

    /// Something that a node's shell finds out.
    pub(crate) fn tell(&mut self, node: usize, input: Input) {
        let boot = self.nodes[node].boots;
        self.later(0, Action::Input(node, boot, input));
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes[node].core.is_some()
    }

    /// Stops a node's process for a while, as SIGSTOP does. Where that is longer than a link may be silent, its links die.
    pub(crate) fn send_to_sleep(&mut self, node: usize, ms: u64) {
        if !self.is_awake(node) {
            return;
        }
        self.nodes[node].asleep = Some(vec![]);
        let boot = self.nodes[node].boots;
        self.later(ms, Action::WakeUp(node, boot));
        if ms <= IDLE_MAX {
            return;
        }
        let ends: Vec<LinkId> =
            self.links.iter().filter(|(_, end)| end.node == node && end.open).map(|(id, _)| *id).collect();
        for end in ends {
            let other = self.links[&end].other;
            self.broken_later(IDLE_MAX, other);
            self.broken_later(ms, end);
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
}
