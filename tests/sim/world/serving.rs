//! Catch-up streams: a log is read from the disk piece by piece while it is sent.

use cogmesh::{
    ledger::types::Seq,
    log::{Entry, NodeId, Segment, Verified, books::Span},
    protocol::input::{Input, LinkId},
};

use super::{Action, Stream, World};

/// Entries of a piece: few, so that a catch-up has many.
const PIECE: usize = 16;

/// A want that is being served.
#[derive(Clone, Copy)]
pub(super) struct Serving {
    pub(super) node: usize,
    boot: u64,
    link: LinkId,
    author: NodeId,
    /// What is left of it.
    span: Span,
    stream: Stream,
    has_sent: bool,
}

impl World {
    pub(super) fn serve(&mut self, node: usize, link: LinkId, author: NodeId, span: Span) {
        let boot = self.nodes[node].boots;
        let stream = Stream::Own(self.next_stream());
        let span = Span { first: self.first_served(span.first), last: span.last };
        let serving = Serving { node, boot, link, author, span, stream, has_sent: false };
        self.serve_on(serving);
    }

    /// Sends one piece.
    pub(super) fn serve_on(&mut self, mut serving: Serving) {
        let Serving { node, boot, link, author, span, stream, has_sent } = serving;
        if !self.lives(node, boot) {
            return;
        }
        let is_open = self.links.get(&link).is_some_and(|end| end.open);
        let piece = if is_open { self.piece(node, author, span) } else { None };
        let Some(segment) = piece else {
            if has_sent {
                self.send_on(link, stream, |link| Input::CaughtUp { link, author });
            }
            // The other side acknowledges it all.
            let pause = if is_open && has_sent { 2 * self.latency() } else { 1 };
            return self.later(pause, Action::Input(node, boot, Input::Served { link, author }));
        };
        self.note_signed(segment.head());
        serving.span.first = segment.last().next();
        serving.has_sent = true;
        self.send_on(link, stream, |link| Input::Heard { link, segment });
        let pause = self.latency();
        self.later(pause.min(3), Action::Serving(serving));
    }

    /// A peer of that node sends it something again that it holds, or that somebody else was first with.
    pub(crate) fn repeat(&mut self, node: usize) {
        let peers: Vec<(usize, LinkId)> = (0..self.nodes.len())
            .filter(|from| *from != node && self.is_linked(*from, node))
            .map(|from| (from, self.verified(from)[&self.id(node)]))
            .collect();
        if peers.is_empty() {
            return;
        }
        let (from, link) = peers[self.random(peers.len() as u64) as usize];
        let logs: Vec<(NodeId, u64)> =
            self.nodes[from].disk.entries.iter().map(|(author, log)| (*author, log.len() as u64)).collect();
        if logs.is_empty() {
            return;
        }
        let (author, entries) = logs[self.random(logs.len() as u64) as usize];
        let span = Span { first: Seq(self.random(entries)), last: Seq(u64::MAX) };
        if let Some(segment) = self.piece(from, author, span) {
            self.send(link, |link| Input::Heard { link, segment });
        }
    }

    fn piece(&mut self, node: usize, author: NodeId, span: Span) -> Option<Verified<Segment>> {
        if span.first > span.last {
            return None;
        }
        let setup = &self.nodes[node].setup;
        let federation = setup.federation;
        if author == setup.id() {
            let log = self.nodes[node].disk.entries.get(&author)?;
            let first = usize::try_from(span.first.0).unwrap();
            let next = log.iter().skip(first).map(|(judged, _)| &judged.entry).take(PIECE);
            let entries: Vec<Entry> = next.filter(|entry| entry.seq() <= span.last).cloned().collect();
            return Segment::own(entries, &setup.identity, &federation).ok();
        }
        let segment = self.segment_of(node, author, span.first, span.last)?;
        // Checking signatures is most of what a world does, so the same segment is checked once.
        let key = (author, segment.first(), segment.head().hash);
        if let Some(known) = self.checked.get(&key).filter(|known| ***known == segment) {
            return Some(known.clone());
        }
        let checked = segment.verify(&self.rules(federation)).unwrap();
        self.checked.insert(key, checked.clone());
        Some(checked)
    }
}
