//! What a world looks like from outside, and what must hold in every one.

use std::{collections::BTreeMap, sync::Arc};

use cogmesh::{
    ledger::types::Seq,
    log::{Entry, Head, NodeId, books::AuthorBook},
    protocol::{
        input::LinkId,
        view::{AuthorView, PeerState, PeerView, View},
    },
};

use super::{End, World};

/// What must hold in every world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// No two entries with one seq leave an honest node.
    SignedOnce,
    /// What was acknowledged is in every book.
    NothingLost,
    /// In the end all have the same logs, balances and accounts.
    Agreement,
    /// What memory holds, the disk holds in the end.
    Durability,
    /// Nobody ever computes another account from the same log.
    NoDivergence,
    /// Nobody is blamed who did nothing wrong.
    NoBlame,
    /// Nobody's log is doubted, cut or halted who did nothing wrong.
    NoSuspicion,
    /// Catching up costs about what is missing.
    Thrift,
    /// No range is asked of two peers at a time.
    AskedTwice,
    /// Where nothing is missing any more, nobody asks or tells.
    Rest,
    /// No core and no disk ever panics.
    NoPanic,
}

/// A check that failed.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) check: Check,
    pub(crate) at: u64,
    pub(crate) what: String,
}

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
        self.view(node).known.authors.get(&self.id(author)).map(|author| author.book.clone())
    }

    /// Whether all of those hold the same account of every author.
    pub(crate) fn agree(&self, who: &[usize]) -> bool {
        let books = |node: usize| -> BTreeMap<NodeId, (Seq, [u8; 32])> {
            let view = self.view(node);
            view.known
                .authors
                .iter()
                .map(|(id, author)| (*id, (author.book.seq(), author.book.account.digest())))
                .collect()
        };
        let first = books(who[0]);
        who.iter().all(|node| books(*node) == first)
    }

    pub(super) fn note_signed(&mut self, head: &Head) {
        if !self.is_honest(head.author) {
            return;
        }
        let first = *self.signed.entry((head.author, head.seq)).or_insert(head.hash);
        if first != head.hash {
            let what = format!("two entries at seq {} of {} left a node: a fork", head.seq, head.author);
            self.fault(Check::SignedOnce, what);
        }
    }

    /// A check failed: the end of a story.
    pub(crate) fn fault(&mut self, check: Check, what: String) {
        let at = self.now;
        match &mut self.faults {
            Some(faults) => faults.push(Fault { check, at, what }),
            // Who is asked how often is a question of thrift, and of stories of their own.
            None if check == Check::AskedTwice => {}
            None => panic!("{check:?} at {at} ms: {what}"),
        }
    }

    /// How many connections there were so far.
    pub(crate) const fn connections_made(&self) -> u64 {
        self.next_link / 2
    }

    pub(crate) const fn now(&self) -> u64 {
        self.now
    }

    /// Whether an author is one of the nodes, and nobody else has its key.
    pub(crate) fn is_honest(&self, author: NodeId) -> bool {
        let node = self.nodes.iter().position(|node| node.setup.id() == author);
        node.is_some_and(|node| !self.traitors.contains(&node))
    }

    /// Whether one node lists another as verified, over a link that is open.
    pub(crate) fn is_linked(&self, one: usize, other: usize) -> bool {
        self.is_up(one) && self.verified(one).get(&self.id(other)).is_some_and(|link| self.links[link].open)
    }

    /// What a node's memory holds and its disk does not.
    pub(crate) fn undurable(&self, node: usize) -> Option<String> {
        let disk = &self.nodes[node].disk;
        let view = self.view(node);
        let differs = |(author, known): (&NodeId, &AuthorView)| {
            let written = disk.books.authors.get(author);
            let entries = disk.entries.get(author).map_or(0, Vec::len) as u64;
            let is_same =
                written.is_some_and(|book| (book.seq(), book.hash) == (known.book.seq(), known.book.hash));
            let is_whole = entries == known.book.seq().0 + 1;
            (!is_same || !is_whole).then(|| {
                let on_disk = written.map(AuthorBook::seq);
                format!(
                    "node {node} holds {author} through {}, its disk through {on_disk:?}",
                    known.book.seq()
                )
            })
        };
        view.known.authors.iter().find_map(differs)
    }

    /// Whether an entry is on a node's disk.
    pub(crate) fn holds(&self, node: usize, author: usize, seq: Seq) -> bool {
        let log = self.nodes[node].disk.entries.get(&self.id(author));
        log.is_some_and(|log| log.len() as u64 > seq.0)
    }

    /// A thought that was acknowledged and is not on a node's disk.
    pub(crate) fn lost(&self, node: usize) -> Option<String> {
        let disk = &self.nodes[node].disk;
        let honest = self.tally.acknowledged.iter().filter(|((author, _), _)| self.is_honest(*author));
        honest.into_iter().find_map(|((author, seq), content)| {
            let place = usize::try_from(seq.0).unwrap();
            let entry =
                disk.entries.get(author).and_then(|log| log.get(place)).map(|(judged, _)| &judged.entry);
            let is_there = match entry.map(Entry::content) {
                Some(Some(kept)) => *kept == content.as_bytes(),
                Some(None) => self.tally.pruned,
                None => false,
            };
            (!is_there).then(|| format!("node {node} lacks what was acknowledged as {author} {seq}"))
        })
    }
}
