//! Tally: what a run cost, and who was asked for what.

#![allow(clippy::wildcard_enum_match_arm, reason = "an onlooker takes notice of a few things")]

use std::collections::BTreeMap;

use cogmesh::{
    ledger::types::Seq,
    log::{NodeId, books::Record},
    protocol::{
        event::Event,
        frame::BalanceFrame,
        input::{Effect, Input, LinkId},
    },
};

use super::{Check, Stream, World};

/// A want that brings nothing for so long may be asked of somebody else.
const WANT_SILENT_MS: u64 = 5_000;

#[derive(Default)]
pub(crate) struct Tally {
    /// Own entries that a submitter was told to be recorded, and their contents.
    pub(crate) acknowledged: BTreeMap<(NodeId, Seq), String>,
    /// Whether some disk has let go of contents.
    pub(crate) pruned: bool,
    /// Entries that came on catch-up streams.
    pub(crate) caught_up: u64,
    /// Those of them that were not known.
    pub(crate) caught_up_new: u64,
    /// Entries that came live.
    pub(crate) live: u64,
    /// Those of them that were not known.
    pub(crate) live_new: u64,
    /// Heads, wants and whatever else travels on balance-sync streams.
    pub(crate) balance_frames: u64,
    /// What is being heard just now, if it is entries.
    hearing: Option<Way>,
    wants: BTreeMap<(usize, NodeId), Want>,
    /// The last entry of an author that came or was told of over a link.
    told: BTreeMap<(LinkId, NodeId), Seq>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// So many of them.
    CatchUp(u64),
    Live,
}

struct Want {
    boot: u64,
    link: LinkId,
    heard: u64,
}

impl World {
    /// A frame comes in.
    pub(super) fn hear(&mut self, node: usize, link: LinkId, stream: Stream, input: Input) {
        // Stories count for themselves, and have crowds in them.
        if self.faults.is_none() {
            return self.handle(node, input);
        }
        match &input {
            Input::Heard { segment, .. } => {
                let entries = segment.entries().len() as u64;
                let (author, last) = (segment.author(), segment.last());
                self.note_told(link, author, last);
                if let Stream::Own(_) = stream {
                    self.tally.caught_up += entries;
                    self.tally.hearing = Some(Way::CatchUp(entries));
                    self.wanted_came(node, author, link, last);
                } else {
                    self.tally.live += entries;
                    self.tally.hearing = Some(Way::Live);
                }
            }
            Input::Balance { frame: BalanceFrame::Heads(reports), .. } => {
                for report in reports {
                    self.note_told(link, report.head.author, report.head.seq);
                }
            }
            Input::CaughtUp { author, .. } => {
                let key = (node, *author);
                let is_over = self.tally.wants.get(&key).is_some_and(|want| want.link == link);
                is_over.then(|| self.tally.wants.remove(&key));
            }
            _ => {}
        }
        self.handle(node, input);
        self.tally.hearing = None;
    }

    /// Where all has come that its sender told of, a want is over.
    fn wanted_came(&mut self, node: usize, author: NodeId, link: LinkId, last: Seq) {
        let now = self.now;
        let is_all = self.tally.told.get(&(link, author)).is_none_or(|told| *told <= last);
        let Some(want) = self.tally.wants.get_mut(&(node, author)).filter(|want| want.link == link) else {
            return;
        };
        want.heard = now;
        if is_all {
            self.tally.wants.remove(&(node, author));
        }
    }

    /// The same, where the entries came another way.
    fn grew(&mut self, node: usize, author: NodeId, seq: Seq) {
        let Some(want) = self.tally.wants.get(&(node, author)) else { return };
        if self.tally.told.get(&(want.link, author)).is_none_or(|told| *told <= seq) {
            self.tally.wants.remove(&(node, author));
        }
    }

    fn note_told(&mut self, link: LinkId, author: NodeId, seq: Seq) {
        let told = self.tally.told.entry((link, author)).or_insert(seq);
        *told = seq.max(*told);
    }

    /// A core wants something done.
    pub(super) fn count(&mut self, node: usize, effect: &Effect) {
        if self.faults.is_none() {
            return;
        }
        match effect {
            Effect::Store(records) => {
                for record in records {
                    if let Record::Entries { author, entries, book } = record {
                        self.grew(node, *author, book.seq());
                        match self.tally.hearing {
                            Some(Way::CatchUp(_)) => self.tally.caught_up_new += entries.len() as u64,
                            Some(Way::Live) => self.tally.live_new += entries.len() as u64,
                            None => {}
                        }
                    }
                }
            }
            // What a full disk kept out is asked for again, of whomever.
            Effect::Event(Event::DiskLow(_)) => self.tally.wants.retain(|(who, _), _| *who != node),
            // What can't be taken now is asked for again: that is no waste of sync's.
            Effect::Event(Event::ClockSkew { author, .. }) => {
                self.tally.wants.remove(&(node, *author));
                if let Some(Way::CatchUp(entries)) = self.tally.hearing {
                    self.tally.caught_up -= entries;
                }
            }
            Effect::BalanceToAll { to, .. } => self.tally.balance_frames += to.len() as u64,
            Effect::Balance { link, frame } => {
                // Who lacks contents that others let go of may ask each of them once a minute.
                let is_in_vain = self.tally.pruned && matches!(frame, BalanceFrame::Mend { .. });
                self.tally.balance_frames += u64::from(!is_in_vain);
                if let BalanceFrame::Want { author, from } = frame {
                    self.wanted(node, *link, *author, *from);
                }
            }
            _ => {}
        }
    }

    /// No range is asked of two peers at the same time, unless the first was silent for long or is gone.
    pub(super) fn wanted(&mut self, node: usize, link: LinkId, author: NodeId, from: Seq) {
        let boot = self.nodes[node].boots;
        let want = Want { boot, link, heard: self.now };
        let Some(before) = self.tally.wants.insert((node, author), want) else { return };
        let is_open = self.links[&before.link].open && before.boot == boot;
        let is_awaited = self.now < before.heard + WANT_SILENT_MS;
        let was_to_come = self.tally.told.get(&(before.link, author)).is_some_and(|told| *told >= from);
        if before.link != link && is_open && is_awaited && was_to_come {
            let what = format!("node {node} asks two peers for {author} from {from}");
            self.fault(Check::AskedTwice, what);
        }
    }
}
