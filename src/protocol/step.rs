//! Steps: how far each peer's logs go, as it said itself, against ours. What we sent counts only when its heads say that it is there.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    authors::{AUTHORS_MAX, Authors},
    input::LinkId,
    view::InStep,
};
use crate::{
    ledger::types::{Millis, Seq},
    log::NodeId,
};

/// What every peer has told of its logs.
#[derive(Debug, Default)]
pub struct Steps {
    links: BTreeMap<LinkId, Link>,
}

#[derive(Debug, Default)]
struct Link {
    /// The last entry of each author that it told of; at most [`AUTHORS_MAX`].
    told: BTreeMap<NodeId, Seq>,
    /// Authors of whom one of us holds more than the other.
    unequal: BTreeSet<NodeId>,
    /// Whether it has told all its heads once.
    is_complete: bool,
    identical_since: Option<Millis>,
}

impl Steps {
    /// A peer is admitted: it has told nothing yet.
    pub fn established(&mut self, link: LinkId, authors: &Authors) {
        let unequal = authors.iter().map(|(id, _)| id).filter(|id| authors.cut(*id).is_none()).collect();
        self.links.insert(link, Link { unequal, ..Link::default() });
    }

    /// A link is gone.
    pub fn gone(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// A peer told a head.
    pub fn told(&mut self, wall: Millis, link: LinkId, author: NodeId, seq: Seq, authors: &Authors) {
        let Some(link) = self.links.get_mut(&link) else { return };
        if link.told.len() < AUTHORS_MAX || link.told.contains_key(&author) {
            link.told.insert(author, seq);
            link.compare(wall, author, authors);
        }
    }

    /// A peer has told all its heads.
    pub fn told_all(&mut self, wall: Millis, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.is_complete = true;
            link.settle(wall);
        }
    }

    /// An author's log grew here, was cut, or ends now.
    pub fn changed(&mut self, wall: Millis, author: NodeId, authors: &Authors) {
        for link in self.links.values_mut() {
            link.compare(wall, author, authors);
        }
    }

    /// How it stands with one peer.
    #[must_use]
    pub fn view(&self, link: LinkId, authors: &Authors) -> Option<InStep> {
        let link = self.links.get(&link)?;
        let mut step = InStep {
            identical_since: link.identical_since,
            acknowledged: link.told.clone(),
            ..InStep::default()
        };
        for author in &link.unequal {
            let held = link.told.get(author).map_or(0, |seq| seq.0.saturating_add(1));
            let ours = authors.missing_from(*author).0;
            step.missing_here = step.missing_here.saturating_add(held.saturating_sub(ours));
            step.missing_there = step.missing_there.saturating_add(ours.saturating_sub(held));
        }
        Some(step)
    }
}

impl Link {
    fn compare(&mut self, wall: Millis, author: NodeId, authors: &Authors) {
        let is_equal = self.told.get(&author).copied() == authors.seq(author);
        // Of a convicted author nothing more is taken: there is nothing to be behind with.
        if is_equal || authors.cut(author).is_some() {
            self.unequal.remove(&author);
        } else {
            self.unequal.insert(author);
        }
        self.settle(wall);
    }

    fn settle(&mut self, wall: Millis) {
        match self.is_complete && self.unequal.is_empty() {
            true => drop(self.identical_since.get_or_insert(wall)),
            false => self.identical_since = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_told_nothing_yet_is_not_in_step() {
        let mut steps = Steps::default();
        let authors = Authors::default();
        steps.established(LinkId(1), &authors);
        assert_eq!(steps.view(LinkId(1), &authors).unwrap().identical_since, None);
        steps.told_all(Millis(5), LinkId(1));
        assert_eq!(steps.view(LinkId(1), &authors).unwrap().identical_since, Some(Millis(5)));
        let author = NodeId::from_stored([1; 32]);
        steps.told(Millis(6), LinkId(1), author, Seq(4), &authors);
        let step = steps.view(LinkId(1), &authors).unwrap();
        assert_eq!((step.missing_here, step.missing_there, step.identical_since), (5, 0, None));
        assert_eq!(step.acknowledged.get(&author), Some(&Seq(4)));
        assert_eq!(steps.view(LinkId(2), &authors), None);
    }
}
