//! Relaying: an author's live segments reach nodes that have no link to it through one that has. Each node asks one peer for them, the one
//! that had the author's news first, and that peer passes them on as they come: so they come once, and with no detour over heads.
//! A tree for each author grows of that (after "epidemic broadcast trees", Leitão, Pereira, Rodrigues 2007, with the choice on the receiving side); should
//! a branch break or fall behind, heads say so, and another peer is asked.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    authors::AUTHORS_MAX,
    frame::BalanceFrame,
    input::{Effect, LinkId},
};
use crate::log::NodeId;

/// Whose live segments go which way.
#[derive(Debug, Default)]
pub struct Relay {
    links: BTreeMap<LinkId, Link>,
    /// The peers that were asked to pass an author's live segments on to us.
    sources: BTreeMap<NodeId, LinkId>,
}

#[derive(Debug)]
struct Link {
    node: NodeId,
    /// Whose live segments the peer wants; at most [`AUTHORS_MAX`].
    followed: BTreeSet<NodeId>,
}

impl Relay {
    /// A peer is admitted. Its own segments come from itself from now on.
    pub fn established(&mut self, link: LinkId, node: NodeId, out: &mut Vec<Effect>) {
        self.links.insert(link, Link { node, followed: BTreeSet::new() });
        if let Some(source) = self.sources.remove(&node) {
            out.push(follow(source, node, false));
        }
    }

    /// A link is gone.
    pub fn gone(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.sources.retain(|_, source| *source != link);
    }

    /// A peer had an author's news before anybody else: it is to pass on what comes.
    pub fn had_news(&mut self, link: LinkId, author: NodeId, out: &mut Vec<Effect>) {
        let is_direct = self.links.values().any(|other| other.node == author);
        if is_direct || !self.links.contains_key(&link) || self.sources.get(&author) == Some(&link) {
            return;
        }
        if let Some(before) = self.sources.insert(author, link) {
            out.push(follow(before, author, false));
        }
        out.push(follow(link, author, true));
    }

    /// Asks a peer again for all that it is to pass on: it may not have heard of it.
    pub fn ask_again(&self, link: LinkId, out: &mut Vec<Effect>) {
        let here = self.sources.iter().filter(|(_, source)| **source == link);
        out.extend(here.map(|(author, _)| follow(link, *author, true)));
    }

    /// A peer wants an author's live segments, or no longer does.
    #[expect(clippy::fn_params_excessive_bools, reason = "as the frame says it")]
    pub fn follow(&mut self, link: LinkId, author: NodeId, on: bool) {
        let Some(link) = self.links.get_mut(&link) else { return };
        match on {
            true if link.followed.len() < AUTHORS_MAX => drop(link.followed.insert(author)),
            true => {}
            false => drop(link.followed.remove(&author)),
        }
    }

    /// Whence an author's live segments come: its own link, or that of the peer that passes them on.
    #[must_use]
    pub fn source_of(&self, author: NodeId) -> Option<LinkId> {
        let direct = self.links.iter().find(|(_, link)| link.node == author).map(|(id, _)| *id);
        direct.or_else(|| self.sources.get(&author).copied())
    }

    /// Who wants an author's live segments that came over that link.
    #[must_use]
    pub fn followers(&self, from: LinkId, author: NodeId) -> Vec<LinkId> {
        let wants = |(id, link): &(&LinkId, &Link)| **id != from && link.followed.contains(&author);
        self.links.iter().filter(wants).map(|(id, _)| *id).collect()
    }
}

#[expect(clippy::fn_params_excessive_bools, reason = "as the frame says it")]
fn follow(link: LinkId, author: NodeId, on: bool) -> Effect {
    Effect::Balance { link, frame: BalanceFrame::Follow { author, on } }
}
