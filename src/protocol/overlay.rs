//! The overlay: which links a node has where there are more nodes than links (`max_peers`).
//!
//! While a node knows no more nodes than it may have links, it dials all of them, as always. Above that it dials some at
//! random, and lets others dial it. Why the whole stays connected:
//!
//! * Each node has at least `DIALLED_MIN` links that it dialled itself, to nodes that it chose at random among all that it
//!   knows. A graph in which every vertex chooses k others at random is connected with a probability that goes to 1 as it
//!   grows, for k of 2 already, and stays so when any k - 1 vertices are taken out (Fenner and Frieze, "On the connectivity of
//!   random m-orientable graphs and digraphs", 1982). Places for links that others dialled are limited so that these
//!   always fit: nobody can talk a node out of choosing for itself.
//! * What it knows is a random part of the federation: `address_book.rs`, a peer-sampling service (Jelasity et al., 2007).
//! * Nodes stop dialling before they are full, so that there is room for who comes next. Where there is none, a newcomer
//!   takes the place of a random link, now and then (as in HyParView, Leitao et al., 2007), or is told of others and turned
//!   away.
//! * Links wear out: about every `EXCHANGE_EVERY` one that this node dialled gives way to another random one. So two parts
//!   that were cut off from each other for long, and are each full and content, still find each other afterwards.
//!
//! A place that the user named is always dialled, and its link never given up by this side.
//! With fewer than six links the first two points are no more than likely; with one or two they are wrong.

use rand_chacha::ChaCha8Rng;

use super::{
    chance::{around, one_of},
    dialling::Dialling,
    frame::SignedRecord,
    hello::Setup,
    input::Now,
    peers::{Peers, Side, Standing},
};
use crate::{ledger::types::Millis, log::NodeId};

/// Links that a node dialled itself, at least, where it may have six or more.
const DIALLED_MIN: usize = 3;
/// So often a full node takes a newcomer in and gives another link up for it. A new link costs both sides all heads.
const SWAP_EVERY: Millis = Millis(5_000);
/// About so often a link gives way to another one.
const EXCHANGE_EVERY: Millis = Millis(30_000);
/// A younger link is not given up: it has hardly told its heads.
const LINK_AGE_MIN: Millis = Millis(10_000);

/// When links are exchanged.
#[derive(Debug, Default)]
pub struct Overlay {
    exchange_at: Option<Millis>,
    swap_at: Millis,
}

/// Whether one more node may be linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is room.
    Free,
    /// In that one's place.
    InPlaceOf(NodeId),
    /// There is none; a dialler that has to go is told where else to try.
    Full(Vec<SignedRecord>),
}

/// What to do for a random graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// This link is given up first.
    pub give_up: Option<NodeId>,
    /// So many more are dialled than would be otherwise.
    pub extra: usize,
}

/// How many links there may be of each sort, from the most that there may be at all.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// In all.
    max: usize,
    /// Dialled by this node, whatever else there is.
    dialled_min: usize,
    /// Dialled by this node, where there is room.
    dialled_target: usize,
    /// With so many in all, it dials no more than `dialled_min`: a quarter is left for who comes next.
    content: usize,
}

impl Bounds {
    fn of(max: usize) -> Self {
        Self {
            max,
            dialled_min: DIALLED_MIN.min(max / 2),
            dialled_target: max.div_ceil(2).max(DIALLED_MIN.min(max)),
            content: max.saturating_sub(max / 4),
        }
    }

    /// How many more links it wants to dial, when it does not know all that it could have.
    fn lacking(self, total: usize, dialled: usize) -> usize {
        let needed = self.dialled_min.saturating_sub(dialled);
        let welcome = self.dialled_target.saturating_sub(dialled).min(self.content.saturating_sub(total));
        needed.max(welcome).min(self.max.saturating_sub(total))
    }
}

/// What links are weighed with.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// This node.
    pub setup: &'a Setup,
    /// When.
    pub now: Now,
    /// The links.
    pub peers: &'a Peers,
    /// The places.
    pub dialling: &'a Dialling,
}

impl Scene<'_> {
    fn bounds(self) -> Bounds {
        Bounds::of(self.setup.peers_max)
    }

    /// Whether more nodes are known than may be linked.
    fn is_partial(self) -> bool {
        self.dialling.count() > self.setup.peers_max
    }

    fn dialled(self) -> usize {
        self.peers.standing().filter(|standing| standing.side == Side::Dialler).count()
    }

    /// A random link that may be given up, of those that are at least that old.
    fn victim(
        self,
        rng: &mut ChaCha8Rng,
        age_min: Millis,
        spare: impl Fn(&Standing) -> bool,
    ) -> Option<NodeId> {
        let is_old = |standing: &Standing| self.now.mono.since(standing.since) >= age_min;
        let may_go = |standing: &Standing| {
            is_old(standing) && spare(standing) && !self.dialling.is_named(standing.node)
        };
        let candidates: Vec<NodeId> =
            self.peers.standing().filter(may_go).map(|standing| standing.node).collect();
        one_of(rng, &candidates)
    }
}

impl Overlay {
    /// How many more links this node wants to dial; what the user named comes on top.
    #[must_use]
    pub fn lacking(&self, scene: Scene<'_>) -> usize {
        let bounds = scene.bounds();
        match scene.is_partial() {
            false => bounds.max.saturating_sub(scene.peers.count()),
            true => bounds.lacking(scene.peers.count(), scene.dialled()),
        }
    }

    /// Whether a node that introduced itself well may be linked, by the side that we are.
    pub fn room(&self, scene: Scene<'_>, node: NodeId, side: Side, rng: &mut ChaCha8Rng) -> Room {
        let bounds = scene.bounds();
        let (total, dialled) = (scene.peers.count(), scene.dialled());
        let named = scene.dialling.is_named(node);
        let has_place = match side {
            Side::Dialler => true,
            // What is left of the places is for links of our own choice.
            Side::Acceptor => {
                let accepted_max = bounds.max.saturating_sub(bounds.dialled_min);
                total.saturating_sub(dialled) < accepted_max || named || !scene.is_partial()
            }
        };
        if has_place && total < bounds.max {
            return Room::Free;
        }
        if !named && scene.now.mono < self.swap_at {
            return Room::Full(vec![]);
        }
        // Of those that dialled us, so that those of our own choice stay.
        let spare = |standing: &Standing| standing.side == Side::Acceptor || dialled > bounds.dialled_min;
        // Whom the user named waits for nobody to grow old.
        let age_min = if named { Millis(0) } else { LINK_AGE_MIN };
        match scene.victim(rng, age_min, spare) {
            Some(victim) => Room::InPlaceOf(victim),
            None => Room::Full(vec![]),
        }
    }

    /// A link was given up for a newcomer.
    pub fn swapped(&mut self, now: Now) {
        self.swap_at = now.mono.plus(SWAP_EVERY);
    }

    /// A link that we dialled counts: which other one it replaces, where there are enough.
    pub fn surplus(&self, scene: Scene<'_>, newest: NodeId, rng: &mut ChaCha8Rng) -> Option<NodeId> {
        let bounds = scene.bounds();
        let dialled = scene.dialled();
        let is_much = dialled > bounds.dialled_target
            || (dialled > bounds.dialled_min && scene.peers.count() > bounds.content);
        if !is_much || !scene.is_partial() {
            return None;
        }
        scene.victim(rng, LINK_AGE_MIN, |standing| standing.side == Side::Dialler && standing.node != newest)
    }

    /// When [`Overlay::exchange`] has something to do.
    #[must_use]
    pub const fn wake_at(&self) -> Option<Millis> {
        self.exchange_at
    }

    /// Winds the clock up or down, as nodes come to be known.
    pub fn settle(&mut self, scene: Scene<'_>, rng: &mut ChaCha8Rng) {
        if !scene.is_partial() {
            self.exchange_at = None;
        } else if self.exchange_at.is_none() {
            self.exchange_at = Some(scene.now.mono.plus(around(rng, EXCHANGE_EVERY)));
        }
    }

    /// Exchanges a link where it is time to, and there are enough, and somebody else is there to be dialled.
    pub fn exchange(&mut self, scene: Scene<'_>, rng: &mut ChaCha8Rng) -> Exchange {
        if self.exchange_at.is_none_or(|at| at > scene.now.mono) {
            return Exchange::default();
        }
        self.exchange_at = Some(scene.now.mono.plus(around(rng, EXCHANGE_EVERY)));
        let bounds = scene.bounds();
        let (total, dialled) = (scene.peers.count(), scene.dialled());
        // A full node lacks none, however few it dialled itself.
        let is_content = bounds.lacking(total, dialled) == 0;
        if !is_content || !scene.dialling.has_another(scene.now, scene.peers) {
            return Exchange::default();
        }
        if total < bounds.max {
            // The new one first: `surplus` says which one goes.
            return Exchange { give_up: None, extra: 1 };
        }
        // Too few of our own choice, where those that dialled us were there first: one of theirs goes.
        let ours_go = dialled >= bounds.dialled_min && dialled > 0;
        let give_up = scene.victim(rng, LINK_AGE_MIN, |standing| (standing.side == Side::Dialler) == ours_go);
        Exchange { give_up, extra: usize::from(give_up.is_some()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_leave_room_for_who_comes_next_and_always_for_links_of_our_own_choice() {
        for max in 1..=1_024 {
            let bounds = Bounds::of(max);
            assert!(bounds.dialled_min <= bounds.dialled_target && bounds.dialled_target <= max);
            assert!(bounds.content <= max && bounds.content >= bounds.dialled_min);
            assert_eq!(bounds.lacking(max, 0), 0, "a full node dials nobody");
            assert!(bounds.lacking(0, 0) >= 1);
            // Everyone dials as many as it lacks: the places for that are there, with some to spare.
            let places = max - bounds.dialled_min;
            assert!(places >= bounds.content.saturating_sub(bounds.dialled_target), "{max}");
        }
        let bounds = Bounds::of(8);
        assert_eq!((bounds.dialled_min, bounds.dialled_target, bounds.content), (3, 4, 6));
        assert_eq!(bounds.lacking(0, 0), 4);
        assert_eq!(bounds.lacking(5, 3), 1);
        assert_eq!(bounds.lacking(6, 3), 0);
        assert_eq!(bounds.lacking(7, 2), 1, "too few of our own choice");
    }
}
