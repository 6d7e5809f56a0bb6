//! Pins: a node that runs with them is linked with nodes that its operator knows or has approved, and with no others, whatever federation
//! they belong to. Who else comes, or announces itself, waits here until an operator has looked at it.
//! Whose *logs* are taken is another matter: what approved peers pass on counts, whoever wrote it.
//! Source: protocol.md, Membership.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{
    input::{Address, Hint, Source},
    view::{PeerState, PeerView, Unlinked},
};
use crate::{ledger::types::Millis, log::NodeId};

/// Most that wait for an operator. Keys are cheap, so the one that was silent for longest goes when another one comes.
pub const PENDING_MAX: usize = 64;
/// Most addresses that are kept of one that waits.
const ADDRESSES_MAX: usize = 8;

/// Who may be linked, and who asks to be. By default everybody may.
#[derive(Debug, Default)]
pub struct Pins {
    approved: Option<BTreeSet<NodeId>>,
    pending: BTreeMap<NodeId, Pending>,
}

#[derive(Debug)]
struct Pending {
    name: Option<String>,
    addresses: Vec<Address>,
    sources: BTreeSet<Source>,
    /// When it was heard of last.
    last: Millis,
}

impl Pins {
    /// With a list, only who stands in it may be linked.
    #[must_use]
    pub fn new(approved: Option<&[NodeId]>) -> Self {
        Self { approved: approved.map(|nodes| nodes.iter().copied().collect()), pending: BTreeMap::new() }
    }

    /// Whether that node may be linked.
    #[must_use]
    pub fn allow(&self, node: NodeId) -> bool {
        self.approved.as_ref().is_none_or(|approved| approved.contains(&node))
    }

    /// A node was heard of that may not; whether that is news.
    pub fn heard_of(&mut self, mono: Millis, node: NodeId, hint: &Hint) -> bool {
        self.wait(mono, node, Some(hint.source), hint.name.clone(), hint.addresses.clone())
    }

    /// A node connected that may not; whether that is news.
    pub fn knocked(&mut self, mono: Millis, node: NodeId, address: SocketAddr) -> bool {
        self.wait(mono, node, None, None, vec![Address::Socket(address)])
    }

    fn wait(
        &mut self,
        mono: Millis,
        node: NodeId,
        source: Option<Source>,
        name: Option<String>,
        addresses: Vec<Address>,
    ) -> bool {
        let is_new = !self.pending.contains_key(&node);
        if is_new && self.pending.len() >= PENDING_MAX {
            let oldest = self.pending.iter().min_by_key(|(_, pending)| pending.last).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.pending.remove(&oldest));
        }
        let fresh = Pending { name: None, addresses: vec![], sources: BTreeSet::new(), last: mono };
        let pending = self.pending.entry(node).or_insert(fresh);
        pending.last = mono;
        pending.name = name.or_else(|| pending.name.take());
        pending.sources.extend(source);
        for address in addresses {
            if !pending.addresses.contains(&address) {
                pending.addresses.push(address);
            }
        }
        let surplus = pending.addresses.len().saturating_sub(ADDRESSES_MAX);
        pending.addresses.drain(..surplus);
        is_new
    }

    /// An operator approves of a node. Comes back as a hint where it is, if it waited.
    pub fn approve(&mut self, node: NodeId) -> Option<Hint> {
        self.approved.as_mut()?.insert(node);
        let Pending { name, addresses, .. } = self.pending.remove(&node)?;
        Some(Hint { source: Source::Seed, node: Some(node), name, federation: None, addresses })
    }

    /// Those that wait, for a snapshot.
    pub fn pending(&self) -> impl Iterator<Item = PeerView> {
        self.pending.iter().map(|(node, pending)| PeerView {
            id: Some(*node),
            name: pending.name.clone().unwrap_or_default(),
            addresses: pending.addresses.clone(),
            sources: pending.sources.iter().copied().collect(),
            state: PeerState::Seen(Unlinked::Pending),
            step: None,
        })
    }

    /// Whether that node waits.
    #[must_use]
    pub fn is_pending(&self, node: NodeId) -> bool {
        self.pending.contains_key(&node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_stored([number; 32])
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn without_a_list_everybody_may_come_and_with_one_only_who_is_in_it() {
        assert!(Pins::default().allow(node(1)));
        let mut pins = Pins::new(Some(&[node(1)]));
        assert!(pins.allow(node(1)) && !pins.allow(node(2)));
        assert!(pins.knocked(Millis(1), node(2), address(1)));
        assert!(!pins.knocked(Millis(2), node(2), address(2)), "no news");
        let hint = pins.approve(node(2)).unwrap();
        assert_eq!(hint.addresses.len(), 2);
        assert!(pins.allow(node(2)) && !pins.is_pending(node(2)));
        assert!(pins.approve(node(3)).is_none() && pins.allow(node(3)), "before it ever came");
    }

    #[test]
    fn however_many_knock_only_so_many_wait_and_each_with_few_addresses() {
        let mut pins = Pins::new(Some(&[]));
        for number in 0..200 {
            for port in 1..50 {
                pins.knocked(Millis(u64::from(number)), node(number), address(port));
            }
        }
        assert_eq!(pins.pending().count(), PENDING_MAX);
        assert!(pins.pending().all(|peer| peer.addresses.len() == ADDRESSES_MAX));
        assert!(pins.is_pending(node(199)) && !pins.is_pending(node(0)), "the newest ones");
    }
}
