//! What a seed draws: who can reach whom, how the network behaves, and what happens when.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::world::Weather;

/// A run as its seed draws it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) reach: Reach,
    pub(crate) nodes: usize,
    /// Whether each node is told of all that it can reach, or of one.
    pub(crate) knows: Knows,
    pub(crate) weather: Weather,
    /// How far each node's clock is off.
    pub(crate) skews_ms: Vec<i64>,
    /// In order of time.
    pub(crate) deeds: Vec<(u64, Deed)>,
    /// When all is mended.
    pub(crate) ends_at: u64,
}

/// Who can reach whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Mesh,
    Line,
    Ring,
    Star,
    /// Two subnets, and the first node in both.
    Subnets,
}

/// Of whom a node hears without its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knows {
    /// Of all that it can reach, as with mDNS.
    Everyone,
    /// Of the first that it can reach, as with one `--peer`; its peers tell it of others.
    One,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Thoughts are submitted.
    Think { node: usize, count: u64 },
    /// What is on the way between two nodes is lost, and their link with it.
    Break { one: usize, other: usize },
    /// Nothing gets from these to those.
    Block { pairs: Vec<(usize, usize)> },
    /// It does again.
    Unblock { pairs: Vec<(usize, usize)> },
    /// A node is killed after so many more effects.
    Doom { node: usize, effects: u64 },
    /// A node is started; where it runs, it is killed before.
    Start { node: usize },
    /// A node's process is stopped for a while.
    Sleep { node: usize, ms: u64 },
    /// Writing takes up to so much longer.
    SlowDisk { node: usize, lag_ms: u64 },
    /// A disk has too little room, or enough again.
    DiskLow { node: usize, low: bool },
    /// A clock jumps ahead.
    ClockJump { node: usize, ms: i64 },
    /// An interface changed.
    NetworkChanged { node: usize },
    /// A peer sends something again that it holds.
    Repeat { node: usize },
    /// A control frame does not fit its queue: the node gives that peer up.
    Choke { node: usize, peer: usize },
    /// A disk lets go of the contents of an author's log.
    Prune { node: usize, author: usize },
    /// An entry on a disk turns out to be damaged.
    Damage { node: usize, author: usize, seq: u64 },
    /// Somebody else signs with a node's key as well, and gives that to another node.
    Betray { node: usize, to: usize },
    /// An author that is no node gives one history to a node and another one to another.
    Fork { one: usize, other: usize, shared: u64 },
}

impl Reach {
    /// Whether the others reach each other without that one.
    pub(crate) fn spares(self, nodes: usize, node: usize) -> bool {
        match self {
            Self::Mesh | Self::Ring => true,
            Self::Line => node == 0 || node == nodes - 1,
            Self::Star | Self::Subnets => node != 0,
        }
    }

    /// Whether two nodes of so many can reach each other.
    pub(crate) fn joins(self, nodes: usize, one: usize, other: usize) -> bool {
        let (low, high) = (one.min(other), one.max(other));
        match self {
            Self::Mesh => true,
            Self::Line => high - low == 1,
            Self::Ring => high - low == 1 || (low, high) == (0, nodes - 1),
            Self::Star => low == 0,
            Self::Subnets => low == 0 || low % 2 == high % 2,
        }
    }
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed ^ 0xc0_97_e5_11));
        let nodes = 3 + dice.below(6).min(dice.below(6)) as usize;
        let reach =
            dice.one_of(&[Reach::Mesh, Reach::Mesh, Reach::Line, Reach::Ring, Reach::Star, Reach::Subnets]);
        let knows = dice.one_of(&[Knows::Everyone, Knows::Everyone, Knows::One]);
        let weather = Weather {
            latency_ms: 1 + dice.below(20),
            jitter_ms: 1 + dice.below(60),
            late_per_mille: dice.one_of(&[0, 20, 200]),
            late_ms: 1 + dice.below(3_000),
            overtaking: true,
            full_per_mille: dice.one_of(&[0, 0, 10, 100]),
            dial_fails_per_mille: dice.one_of(&[0, 100, 300]),
        };
        let skews_ms = (0..nodes)
            .map(|_| match dice.below(8) {
                // Two that are further apart than 120 s hold each other's entries, for as long as that lasts.
                0 => -i64::try_from(dice.below(50_000)).unwrap(),
                1 => i64::try_from(dice.below(50_000)).unwrap(),
                _ => i64::try_from(dice.below(4_000)).unwrap() - 2_000,
            })
            .collect();
        let ends_at = 20_000 + dice.below(60_000);
        let mut deeds = vec![];
        let mut at = 0;
        while at < ends_at {
            dice.draw_deed(&mut deeds, at, nodes);
            at += 1 + dice.below(2_500);
        }
        // At most one, and not the one through whom all know each other.
        let node = dice.below(nodes as u64) as usize;
        if dice.below(5) == 0 && reach.spares(nodes, node) && (node != 0 || knows == Knows::Everyone) {
            deeds.push((dice.below(ends_at), Deed::Betray { node, to: (node + 1) % nodes }));
        }
        deeds.sort_by_key(|(at, _)| *at);
        deeds.retain(|(at, _)| *at < ends_at);
        Self { reach, nodes, knows, weather, skews_ms, deeds, ends_at }
    }
}

struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len() as u64) as usize]
    }

    /// A short while mostly, and now and then longer than a link may be silent.
    fn while_ms(&mut self) -> u64 {
        let bound = self.one_of(&[300, 3_000, 9_000, 25_000]);
        1 + self.below(bound)
    }

    fn draw_deed(&mut self, deeds: &mut Vec<(u64, Deed)>, at: u64, nodes: usize) {
        let node = self.below(nodes as u64) as usize;
        let other = (node + 1 + self.below(nodes as u64 - 1) as usize) % nodes;
        let over = at + self.while_ms();
        match self.below(26) {
            0..=8 => {
                let count = self.one_of(&[1, 1, 1, 3, 8, 30]);
                deeds.push((at, Deed::Think { node, count }));
            }
            9 | 10 => deeds.push((at, Deed::Break { one: node, other })),
            11 | 12 => {
                let mut pairs = vec![(node, other)];
                if self.below(2) == 0 {
                    pairs.push((other, node));
                }
                deeds.push((at, Deed::Block { pairs: pairs.clone() }));
                deeds.push((over, Deed::Unblock { pairs }));
            }
            13 | 14 => {
                let sides: Vec<u64> = (0..nodes).map(|_| self.below(2)).collect();
                let apart = |one: &usize, other: &usize| sides[*one] != sides[*other];
                let pairs: Vec<(usize, usize)> = (0..nodes)
                    .flat_map(|one| (0..nodes).map(move |other| (one, other)))
                    .filter(|(one, other)| apart(one, other))
                    .collect();
                deeds.push((at, Deed::Block { pairs: pairs.clone() }));
                deeds.push((over, Deed::Unblock { pairs }));
            }
            15..=17 => {
                // In the middle of something.
                deeds.push((at, Deed::Think { node, count: 1 + self.below(4) }));
                deeds.push((at + self.below(30), Deed::Doom { node, effects: self.below(60) }));
                deeds.push((over, Deed::Start { node }));
            }
            18 => deeds.push((at, Deed::Sleep { node, ms: over - at })),
            19 => {
                deeds.push((at, Deed::SlowDisk { node, lag_ms: 1 + self.below(2_000) }));
                deeds.push((over, Deed::SlowDisk { node, lag_ms: 0 }));
            }
            20 => {
                deeds.push((at, Deed::DiskLow { node, low: true }));
                deeds.push((over, Deed::DiskLow { node, low: false }));
            }
            21 => match self.below(3) {
                0 => deeds.push((at, Deed::ClockJump { node, ms: self.below(130_000) as i64 })),
                _ => deeds.push((at, Deed::NetworkChanged { node })),
            },
            22 => deeds.push((at, Deed::Repeat { node })),
            23 => deeds.push((at, Deed::Choke { node, peer: other })),
            24 => {
                let author = self.below(nodes as u64) as usize;
                match self.below(3) {
                    0 => deeds.push((at, Deed::Prune { node, author })),
                    _ => deeds.push((at, Deed::Damage { node, author, seq: self.below(20) })),
                }
            }
            _ if at < 3_000 || self.below(2) == 0 => deeds.push((at, Deed::Repeat { node })),
            _ => deeds.push((at, Deed::Fork { one: node, other, shared: self.below(20) })),
        }
    }
}
