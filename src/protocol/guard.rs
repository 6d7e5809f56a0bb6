//! Guard: whom this node refuses for a while, because it sent what it could have seen to be wrong.
//! Local defence, not ledger: it protects this process and changes no balance.
//! Source: protocol.md, Admission of entries.

use std::collections::BTreeMap;

use crate::{ledger::types::Millis, log::NodeId};

/// So many wrong segments within [`WINDOW`] end the connection.
const STRIKES_MAX: usize = 3;
/// The window in which they count.
const WINDOW: Millis = Millis(60_000);
/// The first refusal's length; each further one is twice as long.
const REFUSAL_FIRST: Millis = Millis(60_000);
/// The longest refusal.
const REFUSAL_MAX: Millis = Millis(3_600_000);
/// Most nodes that are remembered here, about 100 bytes each; the one that was refused longest ago goes first.
pub(crate) const NODES_MAX: usize = 4_096;

/// Who sent what was wrong, and who is refused until when. Times are monotonic.
#[derive(Debug, Default)]
pub struct Guard {
    nodes: BTreeMap<NodeId, Offender>,
}

#[derive(Debug, Default)]
struct Offender {
    strikes: Vec<Millis>,
    refused_until: Millis,
    refusals: u32,
}

impl Guard {
    /// A node sent a wrong segment. Returns whether it has to go now.
    pub fn strike(&mut self, mono: Millis, node: NodeId) -> bool {
        self.make_room(node);
        let offender = self.nodes.entry(node).or_default();
        offender.strikes.retain(|at| mono.since(*at) < WINDOW);
        offender.strikes.push(mono);
        if offender.strikes.len() < STRIKES_MAX {
            return false;
        }
        offender.strikes.clear();
        let doubled = REFUSAL_FIRST.0.saturating_mul(1 << offender.refusals.min(16));
        offender.refused_until = mono.plus(Millis(doubled.min(REFUSAL_MAX.0)));
        offender.refusals = offender.refusals.saturating_add(1);
        true
    }

    /// For how long yet that node is refused.
    #[must_use]
    pub fn refused_for(&self, mono: Millis, node: NodeId) -> Option<Millis> {
        let left = self.nodes.get(&node)?.refused_until.since(mono);
        (left > Millis::ZERO).then_some(left)
    }

    fn make_room(&mut self, node: NodeId) {
        if self.nodes.len() < NODES_MAX || self.nodes.contains_key(&node) {
            return;
        }
        let oldest = self.nodes.iter().min_by_key(|(_, offender)| offender.refused_until).map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.nodes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_stored([number; 32])
    }

    #[test]
    fn the_third_wrong_segment_within_a_minute_ends_the_connection() {
        let mut guard = Guard::default();
        assert!(!guard.strike(Millis(0), node(1)));
        assert!(!guard.strike(Millis(59_999), node(1)));
        assert!(!guard.strike(Millis(60_000), node(1)), "the first is a minute old and no longer counts");
        assert!(guard.strike(Millis(60_001), node(1)));
        assert_eq!(guard.refused_for(Millis(60_001), node(1)), Some(REFUSAL_FIRST));
        assert_eq!(guard.refused_for(Millis(60_001), node(2)), None);
    }

    #[test]
    fn each_refusal_is_twice_as_long_up_to_an_hour() {
        let mut guard = Guard::default();
        let mut mono = Millis(0);
        let mut lengths = vec![];
        for _ in 0..9 {
            while !guard.strike(mono, node(1)) {}
            let length = guard.refused_for(mono, node(1)).unwrap();
            lengths.push(length.0 / 60_000);
            mono = mono.plus(length);
            assert_eq!(guard.refused_for(mono, node(1)), None);
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_crowd_of_offenders_takes_bounded_room() {
        let mut guard = Guard::default();
        for number in 0..10_000_u32 {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            guard.strike(Millis(0), NodeId::from_stored(bytes));
        }
        assert_eq!(guard.nodes.len(), NODES_MAX);
    }
}
