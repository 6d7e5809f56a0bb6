//! Recovery: our own log comes first. A node whose disk may have lost entries that it had signed gets its own log back from
//! its peers before it signs anything again, because a second entry at a seq that is taken would be a fork.
//! Source: protocol.md, The log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    ledger::types::{Millis, Seq},
    log::NodeId,
};

/// How long the other peers of earlier runs have for turning up once one has told its heads.
const GRACE: Millis = Millis(2_000);
/// How long a peer of an earlier run that is linked is waited for. Heads are the first thing that is said on a new link, so one that
/// takes longer tells nothing.
const SILENT_MAX: Millis = Millis(10_000);

/// What is known of our own log beside the books when a node starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last entry that was signed, where that is known: nothing new is signed before the log reaches it.
    pub through: Option<Seq>,
    /// Why entries that were signed may be missing here.
    pub doubt: Option<Doubt>,
    /// Whether the operator said that nobody can have more of this log than this node.
    pub write_without_peers: bool,
}

/// Why our own log may lack entries that were signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The store was put back from a backup, or the node doubted it when it stopped.
    Restored,
    /// The data directory is a copy of the one in which the node ran before.
    Copied,
    /// The file that says how far the node has signed is gone or damaged.
    MarkLost,
    /// The node was ended without a stop, and its commits were not synced.
    UncleanStop,
    /// The log ends before what is known to be signed.
    Behind,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restored => "the store was restored from a backup or is in doubt since an earlier run",
            Self::Copied => "the data directory is a copy of the one in which the node ran",
            Self::MarkLost => "the file `sign.mark` is missing or damaged",
            Self::UncleanStop => "the node was not stopped cleanly, and its commits were not synced",
            Self::Behind => "its own log ends before what it has signed",
        })
    }
}

/// A recovery that is under way.
#[derive(Debug)]
pub struct Recovery {
    doubt: Doubt,
    /// What the log must reach.
    through: Option<Seq>,
    /// Peers of earlier runs: they hold our log as far as they were told.
    known: BTreeSet<NodeId>,
    /// Peers that are linked now, and since when on the monotonic clock.
    linked: BTreeMap<NodeId, Millis>,
    /// Those of them that told all their heads, or one of our log.
    told: BTreeSet<NodeId>,
    /// When the first peer of an earlier run had its say.
    answered_at: Option<Millis>,
    /// When it was last looked whether all is there.
    looked: Millis,
}

impl Recovery {
    /// Begins. `known` are the peers of earlier runs.
    #[must_use]
    pub fn new(doubt: Doubt, through: Option<Seq>, known: BTreeSet<NodeId>) -> Self {
        Self {
            doubt,
            through,
            known,
            linked: BTreeMap::new(),
            told: BTreeSet::new(),
            answered_at: None,
            looked: Millis::ZERO,
        }
    }

    /// A peer is linked.
    pub fn linked(&mut self, mono: Millis, node: NodeId) {
        self.linked.entry(node).or_insert(mono);
    }

    /// A peer is not linked any more.
    pub fn gone(&mut self, node: NodeId) {
        self.linked.remove(&node);
    }

    /// A peer told all its heads: had it one of our log, that is told as well.
    pub fn told_all(&mut self, node: NodeId) {
        self.told.insert(node);
    }

    /// Whether a peer is one of an earlier run. Others may never have met us.
    #[must_use]
    pub fn is_known(&self, node: NodeId) -> bool {
        self.known.contains(&node)
    }

    /// A peer told a head of our log that we signed.
    pub fn told(&mut self, node: NodeId, head: Seq) {
        self.told.insert(node);
        self.through = self.through.max(Some(head));
    }

    /// Whether our log, which now ends with `have`, is back: it reaches what we know to be signed, and a peer that would know
    /// of more had its say.
    pub fn is_complete(&mut self, mono: Millis, have: Option<Seq>) -> bool {
        self.looked = mono;
        // A stranger's word that there is nothing more is worth nothing: it may never have met us. Where we know of nobody, it has
        // to do.
        let mut answered = self.told.iter().filter(|node| self.known.is_empty() || self.known.contains(node));
        if answered.next().is_some() {
            self.answered_at.get_or_insert(mono);
        }
        if have < self.through {
            return false;
        }
        let Some(answered_at) = self.answered_at else { return self.doubt == Doubt::Behind };
        let is_awaited = |node: &NodeId| {
            !self.told.contains(node)
                && match self.linked.get(node) {
                    Some(since) => since.plus(SILENT_MAX) > mono,
                    None => answered_at.plus(GRACE) > mono,
                }
        };
        match self.doubt {
            // What is missing is known exactly.
            Doubt::Behind => true,
            Doubt::Restored | Doubt::Copied | Doubt::MarkLost | Doubt::UncleanStop => {
                !self.known.iter().any(is_awaited)
            }
        }
    }

    /// When [`Self::is_complete`] may say something else, though nothing came in.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        let silences = self.linked.values().map(|since| since.plus(SILENT_MAX));
        let graces = silences.chain(self.answered_at.map(|since| since.plus(GRACE)));
        graces.filter(|at| *at > self.looked).min()
    }

    /// How it stands, for people.
    #[must_use]
    pub fn describe(&self, have: Option<Seq>) -> String {
        let doubt = self.doubt;
        let here = have
            .map_or_else(|| "nothing of it is".to_owned(), |have| format!("it is here through entry {have}"));
        let here = format!("{here}{}", if have.is_none() { " here" } else { "" });
        if self.linked.is_empty() {
            let known = match self.known.len() {
                0 => "no peer is linked".to_owned(),
                1 => "the peer that it was connected to is not reached".to_owned(),
                count => format!("none of the {count} peers that it was connected to is reached"),
            };
            return format!(
                "{doubt}, and {known}: {here}; the node writes again once a peer has told what it holds, or when it is started \
                 with --write-without-peers"
            );
        }
        match self.through {
            Some(through) if have < Some(through) => format!(
                "{doubt}: {here}, and entry {through} was signed; the node writes again once a peer has sent the rest, or when it \
                 is started with --write-without-peers"
            ),
            Some(_) | None => format!("{doubt}: {here}, and the peers are asked whether there is more"),
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
    fn without_a_peer_of_an_earlier_run_a_restored_log_is_never_complete() {
        let mut recovery = Recovery::new(Doubt::Restored, None, BTreeSet::from([node(1), node(2)]));
        assert!(!recovery.is_complete(Millis(1_000_000), Some(Seq(5))));
        recovery.linked(Millis(0), node(9));
        recovery.told(node(9), Seq(3));
        recovery.told_all(node(9));
        for mono in [1_000_000, 2_000_000] {
            assert!(!recovery.is_complete(Millis(mono), Some(Seq(5))), "a stranger's word does not count");
        }
    }

    #[test]
    fn it_is_complete_once_all_have_told_or_the_late_ones_had_their_time() {
        let mut recovery = Recovery::new(Doubt::Restored, None, BTreeSet::from([node(1), node(2)]));
        recovery.linked(Millis(0), node(1));
        assert!(!recovery.is_complete(Millis(10), Some(Seq(5))));
        recovery.told(node(1), Seq(7));
        assert!(!recovery.is_complete(Millis(20), Some(Seq(5))), "it lacks two entries");
        assert!(!recovery.is_complete(Millis(30), Some(Seq(7))), "the other may know of more");
        assert_eq!(recovery.wake_at(), Some(Millis(2_020)));
        assert!(recovery.is_complete(Millis(2_020), Some(Seq(7))), "the other had its time");
        recovery.linked(Millis(2_021), node(2));
        assert!(!recovery.is_complete(Millis(2_022), Some(Seq(7))), "now that it is there, it is heard out");
        recovery.told_all(node(2));
        assert!(recovery.is_complete(Millis(2_023), Some(Seq(7))));
    }

    #[test]
    fn silence_is_no_word() {
        let mut recovery = Recovery::new(Doubt::Restored, None, BTreeSet::from([node(1)]));
        recovery.linked(Millis(0), node(1));
        for mono in [2_000, 20_000, 200_000] {
            assert!(!recovery.is_complete(Millis(mono), Some(Seq(3))));
        }
        recovery.told_all(node(1));
        assert!(recovery.is_complete(Millis(200_001), Some(Seq(3))), "it knows of nothing more");
    }

    #[test]
    fn a_log_that_is_known_to_be_behind_needs_its_entries_and_nobodys_word() {
        let mut recovery = Recovery::new(Doubt::Behind, Some(Seq(9)), BTreeSet::from([node(1)]));
        assert!(!recovery.is_complete(Millis(1_000_000), Some(Seq(8))));
        assert!(recovery.is_complete(Millis(1_000_000), Some(Seq(9))));
    }
}
