//! Plants: bugs in a node's shell, put in on purpose to see whether the checks find them.

#![allow(clippy::wildcard_enum_match_arm, reason = "a bug is about a few things")]

use cogmesh::{
    ledger::types::{MicroAtp, Seq},
    log::{
        Entry, NodeId, Segment, SegmentFault,
        books::{Books, Record},
    },
    protocol::{
        frame::{BalanceFrame, ControlFrame, StreamKind},
        input::{Input, LinkId},
    },
};

use super::World;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The disk says that entries are stored before they are.
    StoredTooEarly,
    /// A restart loses the last own entry, and the sign mark does not know it.
    LastEntryLost,
    /// A restart loses the last entry of another's log, and the book does not know it.
    OthersEntryLost,
    /// A restart finds another balance in a book than was written.
    BalanceChanged,
    /// One node's wants for one author never leave it.
    WantsDropped,
    /// One node never gets the last entry of one author's segments.
    TailCutOff,
    /// Nobody is told that a frame did not fit its queue.
    FullUntold,
    /// A want is served from the first entry on, whatever it asks for.
    ServedFromStart,
    /// A want goes to two peers.
    AskedTwice,
    /// Good segments are said to be wrong now and then.
    FalselyAccused,
    /// A queue is said to be full for ever.
    AlwaysFull,
}

/// The node that has the bug, where only one has it, and whose entries it is about.
const VICTIM: usize = 1;
const ABOUT: usize = 0;

impl World {
    fn has(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Books and disk as a restarted node finds them.
    pub(super) fn spoil_disk(&mut self, node: usize) {
        let is_first_start = self.nodes[node].boots == 0;
        if is_first_start || self.plant.is_none() {
            return;
        }
        let own = self.id(node);
        let other = self.id(if node == ABOUT { VICTIM } else { ABOUT });
        if self.has(Plant::LastEntryLost) {
            self.lose_last(node, own);
            let end = self.nodes[node].disk.books.authors.get(&own).map(|book| book.seq());
            self.nodes[node].mark = end;
        }
        if self.has(Plant::OthersEntryLost)
            && let Some(log) = self.nodes[node].disk.entries.get_mut(&other)
        {
            log.pop();
        }
        if self.has(Plant::BalanceChanged)
            && let Some(book) = self.nodes[node].disk.books.authors.get_mut(&other)
        {
            book.account.balance = MicroAtp(book.account.balance.0 + 1);
        }
    }

    fn lose_last(&mut self, node: usize, author: NodeId) {
        let disk = &mut self.nodes[node].disk;
        let Some(log) = disk.entries.get_mut(&author).filter(|log| log.len() > 1) else { return };
        log.pop();
        let left: Vec<Entry> = log.iter().map(|(judged, _)| judged.entry.clone()).collect();
        let Books { authors, .. } = &mut disk.books;
        let book = authors.remove(&author).unwrap();
        authors.extend(book.refolded(&self.policy, &left, None).map(|book| (author, book)));
    }

    pub(super) fn store_too_early(&mut self, node: usize, records: &[Record]) {
        let own = self.id(node);
        let through = records.iter().find_map(|record| match record {
            Record::Entries { author, book, .. } if *author == own => Some(book.seq()),
            _ => None,
        });
        if let Some(through) = through.filter(|_| self.has(Plant::StoredTooEarly)) {
            self.tell(node, Input::Stored { through });
        }
    }

    /// Whether a frame never leaves its node.
    pub(super) fn swallows(&mut self, node: usize, link: LinkId, frame: &BalanceFrame) -> bool {
        let BalanceFrame::Want { author, from } = frame else { return false };
        if self.has(Plant::AskedTwice) {
            let second = self.verified(node).into_values().find(|other| *other != link);
            if let Some(second) = second {
                self.send(second, |link| Input::Balance { link, frame: frame.clone() });
                self.wanted(node, second, *author, *from);
            }
        }
        self.has(Plant::WantsDropped) && node == VICTIM && *author == self.id(ABOUT)
    }

    pub(super) fn tells_of_full_queues(&self) -> bool {
        !self.has(Plant::FullUntold)
    }

    pub(super) fn first_served(&self, asked: Seq) -> Seq {
        if self.has(Plant::ServedFromStart) { Seq::GENESIS } else { asked }
    }

    /// What comes in instead of a frame; nothing where it is lost.
    pub(super) fn spoil(&mut self, node: usize, input: Input) -> Option<Input> {
        match input {
            Input::Heard { link, .. } if self.has(Plant::FalselyAccused) && self.chance(20) => {
                Some(Input::HeardWrong { link, fault: SegmentFault::Empty })
            }
            Input::Heard { link, segment }
                if self.has(Plant::TailCutOff) && node == VICTIM && segment.author() == self.id(ABOUT) =>
            {
                let (mut entries, _) = segment.into_inner().into_parts();
                entries.pop();
                let setup = &self.nodes[ABOUT].setup;
                let segment = Segment::own(entries, &setup.identity, &setup.federation).ok()?;
                Some(Input::Heard { link, segment })
            }
            Input::Control { link, frame: ControlFrame::Pong { .. } } if self.has(Plant::AlwaysFull) => {
                self.tell(node, Input::QueueFull { link, kind: StreamKind::BalanceSync });
                Some(input)
            }
            other => Some(other),
        }
    }
}
