//! What a world looks like from outside, and what must hold in every one.

use std::{collections::BTreeMap, sync::Arc};

use cogmesh::{
    ledger::types::Seq,
    log::{Head, NodeId, books::AuthorBook},
    protocol::{
        input::LinkId,
        view::{PeerState, PeerView, View},
    },
};

use super::{End, World};

impl World {
    pub(crate) fn view(&self, node: usize) -> View {
        self.nodes[node].core.as_ref().unwrap().view(self.clock(node))
    }

    /// The links over which that node lists each other node as verified.
    pub(crate) fn verified(&self, node: usize) -> BTreeMap<NodeId, LinkId> {
        let linked = |peer: PeerView| match peer.state {
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

    pub(super) fn note_signed(&mut self, head: &Head) {
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
}
