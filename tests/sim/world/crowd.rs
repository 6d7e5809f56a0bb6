//! Crowds: many nodes with few links each.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use cogmesh::{
    log::{Identity, NodeRecord},
    protocol::{
        Federation,
        event::Event,
        frame::SignedRecord,
        input::{Address, Attempt, Dial, Ended, Input, LinkId},
    },
};
use rand_chacha::rand_core::RngCore;

use super::{Action, End, IDLE_MAX, World, network::address};

/// So often the links of all nodes are counted while time passes.
const STEP_MS: u64 = 10;

impl World {
    /// So many nodes that may have so many links each. They listen on loopback only.
    pub(crate) fn crowd(seed: u64, count: usize, peers_max: usize) -> Self {
        let mut world = Self::new(seed);
        for number in 0..count {
            let node = world.add(&format!("node-{number}"));
            world.nodes[node].setup.addresses = vec![address(node)];
            world.nodes[node].setup.peers_max = peers_max;
        }
        world
    }

    /// Starts those within a moment; each knows nobody but one of them, as with `--peer`.
    pub(crate) fn start_around(&mut self, who: &[usize], seed: usize, spread_ms: u64) {
        for node in who {
            let pause = self.random(spread_ms);
            self.run_for(pause);
            self.start(*node);
            if *node != seed {
                self.hint_address(*node, seed);
            }
        }
    }

    /// How many links a node has that count.
    pub(crate) fn degree(&self, node: usize) -> usize {
        self.nodes[node].core.as_ref().map_or(0, Federation::links)
    }

    /// Runs until that holds, looked at every second, and checks at every moment that nobody has more links than it may.
    pub(crate) fn run_crowd_until(&mut self, ms: u64, what: &str, holds: impl Fn(&Self) -> bool) -> u64 {
        let next = Cell::new(self.now);
        self.run_until(ms, what, |world| {
            world.check_degrees();
            if world.now < next.get() {
                return false;
            }
            next.set(world.now + 1_000);
            holds(world)
        })
    }

    /// Runs for so long, and checks the same.
    pub(crate) fn run_crowd_for(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            self.run_for(STEP_MS);
            self.check_degrees();
        }
    }

    fn check_degrees(&self) {
        for node in 0..self.nodes.len() {
            let (degree, max) = (self.degree(node), self.nodes[node].setup.peers_max);
            assert!(degree <= max, "node {node} has {degree} links at {} ms", self.now);
        }
    }

    /// How many such events all nodes told of.
    pub(crate) fn count_events(&self, is_one: impl Fn(&Event) -> bool) -> usize {
        self.nodes.iter().flat_map(|node| &node.events).filter(|event| is_one(event)).count()
    }

    /// The sizes of the parts in which those are linked among each other, the largest first.
    pub(crate) fn parts(&self, who: &[usize]) -> Vec<usize> {
        let mut linked: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for end in self.links.values().filter(|end| end.open && end.admitted) {
            if let Some(far) = self.links.get(&end.other).filter(|far| far.open && far.admitted) {
                linked.entry(end.node).or_default().push(far.node);
            }
        }
        let mut left: BTreeSet<usize> = who.iter().copied().collect();
        let mut parts = vec![];
        while let Some(first) = left.pop_first() {
            let mut part = vec![first];
            let mut size = 0;
            while let Some(node) = part.pop() {
                size += 1;
                let neighbours = linked.get(&node).into_iter().flatten();
                part.extend(neighbours.filter(|node| left.remove(node)));
            }
            parts.push(size);
        }
        parts.sort_unstable_by(|one, other| other.cmp(one));
        parts
    }

    /// Whether each of those has the log of each of them.
    pub(crate) fn has_all_authors(&self, who: &[usize]) -> bool {
        who.iter().all(|node| self.view(*node).known.authors.len() == who.len())
    }

    /// The network between the two sides is cut.
    pub(crate) fn cut_between(&mut self, one: &[usize], other: &[usize]) {
        let pairs = one.iter().flat_map(|here| other.iter().map(move |there| (*here, *there)));
        self.cut.extend(pairs.map(|(here, there)| (here.min(there), here.max(there))));
        let is_over = |end: &End| {
            let there = self.links.get(&end.other).map_or(end.node, |far| far.node);
            end.open && self.cut.contains(&(end.node.min(there), end.node.max(there)))
        };
        let over: Vec<LinkId> =
            self.links.iter().filter(|(_, end)| is_over(end)).map(|(link, _)| *link).collect();
        for link in over {
            self.links.get_mut(&link).unwrap().open = false;
            let broke = Input::Disconnected { link, why: Ended::Broke("idle".into()) };
            self.later(IDLE_MAX, Action::OnLink(link, broke));
        }
    }

    /// What was cut is whole again, and nobody is told.
    pub(crate) fn heal_silently(&mut self) {
        self.cut.clear();
    }

    /// A node dials another though nothing in its core asks for it.
    pub(crate) fn redial(&mut self, from: usize, to: usize, number: u64) {
        let dial = Dial {
            attempt: Attempt(u64::MAX - number),
            expect: None,
            addresses: vec![Address::Socket(address(to))],
        };
        self.dialled(from, self.nodes[from].boots, &dial, self.now);
    }

    /// The record of a node that nobody ever saw, signed by its own key.
    pub(crate) fn ghost(&mut self) -> SignedRecord {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let identity = Identity::from_seed(&seed).unwrap();
        let addresses = vec!["192.0.2.1:8888".parse().unwrap()];
        let (name, time) = ("ghost".parse().unwrap(), self.clock(0).wall);
        let record = NodeRecord::new(identity.node_id(), name, addresses, time).unwrap();
        SignedRecord { signature: record.sign(&identity), record }
    }

    /// The same, signed by another key.
    pub(crate) fn forged_ghost(&mut self) -> SignedRecord {
        let SignedRecord { record, .. } = self.ghost();
        SignedRecord { signature: record.sign(&Identity::from_seed(&[1; 32]).unwrap()), record }
    }
}
