//! Hints that need no network: peers that were connected before, and peers that the user named.
//! Either is enough to come together where multicast is blocked.

use std::collections::BTreeMap;

use crate::{
    log::{NodeId, books::KnownPeer},
    protocol::input::{Address, Hint, Source},
};

/// The peers of earlier runs, the one last connected first. A peer without an address is no hint.
#[must_use]
pub fn remembered(peers: &BTreeMap<NodeId, KnownPeer>) -> Vec<Hint> {
    let mut known: Vec<(&NodeId, &KnownPeer)> =
        peers.iter().filter(|(_, peer)| !peer.addresses.is_empty()).collect();
    known.sort_by_key(|(_, peer)| std::cmp::Reverse(peer.seen));
    known
        .into_iter()
        .map(|(id, peer)| Hint {
            source: Source::Remembered,
            node: Some(*id),
            name: Some(peer.name.to_string()),
            federation: None,
            addresses: peer.addresses.iter().copied().map(Address::Socket).collect(),
        })
        .collect()
}

/// The peers that the user named with `--peer`, as `host:port`, in the user's order.
pub fn seeds(options: impl Iterator<Item = (Option<NodeId>, String)>) -> Vec<Hint> {
    options
        .map(|(node, address)| Hint {
            source: Source::Seed,
            node,
            name: None,
            federation: None,
            addresses: vec![seed(address)],
        })
        .collect()
}

/// A name stays a name: it is resolved anew at each try, for what it stands for may change.
fn seed(address: String) -> Address {
    address.parse().map_or(Address::Name(address), Address::Socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::types::Millis;

    fn peer(seen: u64, addresses: &[&str]) -> KnownPeer {
        KnownPeer {
            name: "thor".parse().unwrap(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            seen: Millis(seen),
        }
    }

    #[test]
    fn the_peer_last_connected_is_tried_first_and_one_without_an_address_never() {
        let peers = BTreeMap::from([
            (NodeId::from_stored([1; 32]), peer(10, &["192.168.1.2:8888"])),
            (NodeId::from_stored([2; 32]), peer(20, &["192.168.1.3:8888", "[fe80::1%2]:8888"])),
            (NodeId::from_stored([3; 32]), peer(30, &[])),
        ]);
        let hints = remembered(&peers);
        assert_eq!(
            hints.iter().map(|h| h.node).collect::<Vec<_>>(),
            [Some(NodeId::from_stored([2; 32])), Some(NodeId::from_stored([1; 32]))]
        );
        let first = hints.first().unwrap();
        assert_eq!(
            (first.source, first.name.as_deref(), first.addresses.len()),
            (Source::Remembered, Some("thor"), 2)
        );
    }

    #[test]
    fn a_named_peer_is_a_socket_or_stays_a_name() {
        let id = NodeId::from_stored([1; 32]);
        let options = [
            (None, "192.168.1.2:8888".to_owned()),
            (Some(id), "thor.lan:8888".to_owned()),
            (None, "[fd00::2]:8888".to_owned()),
        ];
        let hints = seeds(options.into_iter());
        let addresses: Vec<_> = hints.iter().flat_map(|h| h.addresses.clone()).collect();
        assert_eq!(
            addresses,
            [
                Address::Socket("192.168.1.2:8888".parse().unwrap()),
                Address::Name("thor.lan:8888".to_owned()),
                Address::Socket("[fd00::2]:8888".parse().unwrap()),
            ]
        );
        assert_eq!(hints.iter().map(|h| h.node).collect::<Vec<_>>(), [None, Some(id), None]);
    }
}
