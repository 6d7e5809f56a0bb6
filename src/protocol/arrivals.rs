//! Arrivals: how many new authors are taken in. Each has paid a proof of work, but whoever has many cores can buy thousands; they
//! should not come faster than people can look, nor one peer's take the room of another's.
//! Local defence, not ledger: what is not taken now is asked for again later.

use std::collections::BTreeMap;

use super::bucket::{Allowance, Bucket};
use crate::{ledger::types::Millis, log::NodeId};

/// New authors that one peer may bring: a first meeting with a federation of a thousand comes at once, and then more than four a second.
const OF_A_PEER: Allowance = Allowance { burst: 1_024, per_minute: 256 };
/// New authors that all may bring together. Filling a node up with [`super::authors::AUTHORS_MAX`] takes six minutes at least.
const OF_ALL: Allowance = Allowance { burst: 4_096, per_minute: 1_024 };
/// Most peers that are remembered, about 80 bytes each; the one that has brought least goes first.
pub(crate) const PEERS_MAX: usize = 4_096;

/// Who has brought how many. Times are monotonic.
#[derive(Debug)]
pub struct Arrivals {
    all: Bucket,
    peers: BTreeMap<NodeId, Bucket>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { all: Bucket::full(OF_ALL, Millis::ZERO), peers: BTreeMap::new() }
    }
}

impl Arrivals {
    /// A peer brings a new author. Says whether it may come in now.
    pub fn take(&mut self, mono: Millis, peer: NodeId) -> bool {
        self.make_room(mono, peer);
        let bucket = self.peers.entry(peer).or_insert_with(|| Bucket::full(OF_A_PEER, mono));
        // A peer that has none left takes nothing from what all have.
        if !bucket.take(mono) {
            return false;
        }
        self.all.take(mono)
    }

    fn make_room(&mut self, mono: Millis, peer: NodeId) {
        if self.peers.len() < PEERS_MAX || self.peers.contains_key(&peer) {
            return;
        }
        let fullest = self.peers.iter().max_by_key(|(_, bucket)| bucket.units(mono)).map(|(id, _)| *id);
        if let Some(fullest) = fullest {
            self.peers.remove(&fullest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        NodeId::from_stored(bytes)
    }

    fn brought(arrivals: &mut Arrivals, mono: Millis, peer: u32) -> usize {
        (0..100_000).take_while(|_| arrivals.take(mono, node(peer))).count()
    }

    #[test]
    fn a_peer_brings_a_thousand_at_once_and_then_a_few_a_second() {
        let mut arrivals = Arrivals::default();
        assert_eq!(brought(&mut arrivals, Millis(0), 1), 1_024);
        assert_eq!(brought(&mut arrivals, Millis(60_000), 1), 256);
        assert_eq!(brought(&mut arrivals, Millis(60_000), 2), 1_024);
    }

    #[test]
    fn all_together_have_a_bound() {
        let mut arrivals = Arrivals::default();
        let brought: Vec<usize> = (0..6).map(|peer| brought(&mut arrivals, Millis(0), peer)).collect();
        assert_eq!(brought, [1_024, 1_024, 1_024, 1_024, 0, 0]);
    }

    #[test]
    fn a_crowd_of_peers_takes_bounded_room() {
        let mut arrivals = Arrivals::default();
        for peer in 0..5_000 {
            arrivals.take(Millis(u64::from(peer) * 1_000), node(peer));
        }
        assert_eq!(arrivals.peers.len(), PEERS_MAX);
    }
}
