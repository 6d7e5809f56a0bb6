//! What fate and hostile peers do to nodes and their disks.

use std::sync::Arc;

use cogmesh::{
    ledger::types::{MicroAtp, Seq},
    log::{Entry, FederationId, Head, Identity, Segment, books::Books},
    protocol::{
        frame::{BalanceFrame, ControlFrame, HeadReport, Instance},
        input::{DiskLow, Input},
        recovery::Doubt,
    },
};

use super::{
    World,
    network::{balance, control},
};
use crate::disk::Disk;

impl World {
    /// One peer repeats the first entry of an author to another, after it claimed to hold more than there is. The author
    /// plays along: it signed a head that nobody holds.
    pub(crate) fn boast(&mut self, to: usize, from: usize, author: usize) {
        let link = self.verified(to)[&self.id(from)];
        let setup = &self.nodes[author].setup;
        let genesis = self.nodes[author].disk.entries[&setup.id()][0].0.entry.clone();
        let head = Head::sign(&setup.identity, &setup.federation, Seq(1_000_000), genesis.hash());
        let segment = Segment::own(vec![genesis], &setup.identity, &setup.federation).unwrap();
        let report = HeadReport { head, balance: MicroAtp::ZERO, digest: [0; 32] };
        self.handle(to, Input::Balance { link, frame: BalanceFrame::Heads(vec![report]) });
        self.handle(to, Input::Heard { link, segment });
    }

    /// Sends a frame of the hostile node's making over its link to another.
    pub(crate) fn forge(&mut self, from: usize, to: usize, frame: &BalanceFrame) {
        let link = self.verified(from)[&self.id(to)];
        self.send(link, |link| balance(link, frame));
    }

    /// Two nodes can reach each other again, and nobody tells them.
    pub(crate) fn uncut(&mut self, one: usize, other: usize) {
        self.cut.remove(&(one.min(other), one.max(other)));
    }

    /// A backup of a node's disk.
    pub(crate) fn backup(&self, node: usize) -> Disk {
        self.nodes[node].disk.clone()
    }

    /// Puts a backup in the place of a stopped node's disk, as `cogmesh restore` does.
    pub(crate) fn restore(&mut self, node: usize, backup: Disk) {
        self.nodes[node].disk = backup;
        self.nodes[node].disk.books.restored = true;
    }

    /// Sets a stopped node's disk aside, as `cogmesh start --rebuild-from-peers` does.
    pub(crate) fn empty_disk(&mut self, node: usize) {
        let peers = std::mem::take(&mut self.nodes[node].disk).books.peers;
        self.nodes[node].disk.books = Books { peers, restored: true, ..Books::default() };
    }

    /// A power cut takes the last entries of a stopped node's own log, whose commits were not synced.
    pub(crate) fn lose_unsynced(&mut self, node: usize, backup: Disk) {
        self.nodes[node].disk = backup;
        // The mark is ahead: all that it says for sure is that the log was begun.
        self.nodes[node].mark = Some(Seq::GENESIS);
        self.nodes[node].doubt = Some(Doubt::UncleanStop);
    }

    /// Damages nothing really, but tells a node that an entry on its disk is damaged.
    pub(crate) fn damage(&mut self, node: usize, author: usize, seq: Seq) {
        let author = self.id(author);
        self.handle(node, Input::Damaged { author, seq });
    }

    /// A node lets go of the contents of an author's log on its disk.
    pub(crate) fn prune(&mut self, node: usize, author: usize) {
        let (author, federation) = (self.id(author), self.nodes[node].setup.federation);
        for (judged, _) in self.nodes[node].disk.entries.get_mut(&author).unwrap() {
            let header = judged.entry.header_bytes().clone();
            judged.entry = Entry::parse(&federation, header, None).unwrap();
        }
    }

    /// How many contents of an author's log are on a node's disk.
    pub(crate) fn contents(&self, node: usize, author: usize) -> usize {
        let log = &self.nodes[node].disk.entries[&self.id(author)];
        log.iter().filter(|(judged, _)| judged.entry.content().is_some()).count()
    }

    pub(crate) fn disk_low(&mut self, node: usize, low: Option<DiskLow>) {
        self.handle(node, Input::Disk(low));
    }

    /// A control frame of a hostile node's making.
    pub(crate) fn forge_control(&mut self, from: usize, to: usize, frame: &ControlFrame) {
        let link = self.verified(from)[&self.id(to)];
        self.send(link, |link| control(link, frame));
    }

    pub(crate) fn instance(&self, node: usize) -> Instance {
        self.nodes[node].setup.instance
    }

    pub(crate) fn federation(&self, node: usize) -> FederationId {
        self.nodes[node].setup.federation
    }

    pub(crate) fn identity(&self, node: usize) -> Arc<Identity> {
        self.nodes[node].setup.identity.clone()
    }
}
