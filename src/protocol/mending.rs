//! Mending: entries that are damaged in the store, and contents that it never had, are asked for again, of one peer after
//! the other. What comes is verified like every segment, and the store puts it back where it fits the chain.

use std::collections::BTreeMap;

use super::{
    event::Event,
    frame::BalanceFrame,
    input::{Effect, LinkId},
};
use crate::{
    ledger::types::{Millis, Seq},
    log::{
        Body, Entry, NodeId, Segment,
        books::{Judged, MISSING_MAX, Record, Span},
    },
};

/// A peer that sends nothing for so long is not waited for...
const SILENT_MAX: Millis = Millis(5_000);
/// ... and asked again after so long: it may have been busy.
const RETRY: Millis = Millis(60_000);

/// What is missing, and who is asked for it.
#[derive(Debug, Default)]
pub struct Mending {
    /// In order, without overlap.
    missing: BTreeMap<NodeId, Vec<Span>>,
    /// Linked peers, and the authors for which each was asked: to the end (`None`), or until when it is left alone.
    links: BTreeMap<LinkId, BTreeMap<NodeId, Option<Millis>>>,
    /// One author at a time of each link, and each author of one link at a time.
    asked: BTreeMap<LinkId, Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    author: NodeId,
    /// What is still to come.
    span: Span,
    /// Whether something came.
    has_begun: bool,
    heard: Millis,
}

impl Mending {
    /// What the books say is missing.
    #[must_use]
    pub fn load(missing: BTreeMap<NodeId, Vec<Span>>) -> Self {
        Self { missing, ..Self::default() }
    }

    /// How many entries or contents are missing, as far as is known.
    #[must_use]
    pub fn count(&self) -> u64 {
        let spans = self.missing.values().flatten();
        spans.map(|span| span.last.0.saturating_sub(span.first.0).saturating_add(1)).sum()
    }

    /// An entry turned out to be damaged: everyone is asked anew.
    pub fn damaged(&mut self, mono: Millis, author: NodeId, seq: Seq, out: &mut Vec<Effect>) {
        self.lack(author, seq);
        for tried in self.links.values_mut() {
            tried.remove(&author);
        }
        self.ask(mono, out);
    }

    /// Entries came without their contents from a peer that has let go of them; another one may still have them.
    pub fn came_bare(&mut self, mono: Millis, link: LinkId, entries: &[Judged], out: &mut Vec<Effect>) {
        let bare = entries.iter().map(|judged| &judged.entry).filter(|entry| is_bare(entry));
        for entry in bare.clone() {
            self.lack(entry.author(), entry.seq());
        }
        if let (Some(entry), Some(tried)) = (bare.last(), self.links.get_mut(&link)) {
            tried.insert(entry.author(), None);
        }
        self.ask(mono, out);
    }

    /// An author's log ends before that entry: nobody will ever send what is missing from there on.
    pub fn cut(&mut self, author: NodeId, cut: Seq) {
        let Some(spans) = self.missing.get_mut(&author) else { return };
        spans.retain(|span| span.first < cut);
        for span in spans.iter_mut() {
            span.last = span.last.min(Seq(cut.0.saturating_sub(1)));
        }
        if spans.is_empty() {
            self.missing.remove(&author);
        }
    }

    /// A peer is linked.
    pub fn established(&mut self, mono: Millis, link: LinkId, out: &mut Vec<Effect>) {
        self.links.insert(link, BTreeMap::new());
        self.ask(mono, out);
    }

    /// A link is gone.
    pub fn gone(&mut self, mono: Millis, link: LinkId, out: &mut Vec<Effect>) {
        self.links.remove(&link);
        self.asked.remove(&link);
        self.ask(mono, out);
    }

    /// A segment brought only what is known. Where something of it is missing, it goes to the store, whoever sent it.
    pub fn heard(&mut self, mono: Millis, link: LinkId, segment: &Segment, out: &mut Vec<Effect>) {
        let author = segment.author();
        if segment.entries().iter().any(|entry| !is_bare(entry) && self.lacks(author, entry.seq())) {
            let (entries, head) = (segment.entries().to_vec(), *segment.head());
            for entry in entries.iter().filter(|entry| !is_bare(entry)) {
                self.has(author, entry.seq());
            }
            out.push(Effect::Store(vec![Record::Mended { author, entries, signature: head.signature }]));
        }
        let Some(asked) = self.asked.get_mut(&link) else { return };
        if asked.author != author || segment.last() < asked.span.first || segment.first() > asked.span.last {
            return;
        }
        asked.heard = mono;
        asked.has_begun = true;
        let next = segment.last().next();
        let is_done = next > asked.span.last;
        asked.span.first = next;
        if is_done {
            self.next_span(mono, link, author, out);
        }
    }

    /// A catch-up stream of that author's entries ended: there is nothing more to come of what was asked for.
    pub fn ended(&mut self, mono: Millis, link: LinkId, author: NodeId, out: &mut Vec<Effect>) {
        let is_it = self.asked.get(&link).is_some_and(|asked| asked.author == author);
        let is_begun = self.asked.get(&link).is_some_and(|asked| asked.has_begun);
        if is_it && is_begun {
            self.done(link, author, None);
            self.ask(mono, out);
        }
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        let silent = self.asked.values().map(|asked| asked.heard.plus(SILENT_MAX));
        let retries = self
            .links
            .values()
            .flatten()
            .filter_map(|(author, retry)| (*retry).filter(|_| self.missing.contains_key(author)));
        silent.chain(retries).min()
    }

    /// Asks others where somebody is silent.
    pub fn tick(&mut self, mono: Millis, out: &mut Vec<Effect>) {
        let silent = |asked: &Asked| asked.heard.plus(SILENT_MAX) <= mono;
        let due: Vec<(LinkId, NodeId)> = self
            .asked
            .iter()
            .filter(|(_, asked)| silent(asked))
            .map(|(link, asked)| (*link, asked.author))
            .collect();
        for (link, author) in due {
            self.done(link, author, Some(mono.plus(RETRY)));
        }
        for tried in self.links.values_mut() {
            tried.retain(|_, retry| retry.is_none_or(|at| at > mono));
        }
        self.ask(mono, out);
    }

    /// The same peer is asked for the next span of that author, if there is one behind what it sent.
    fn next_span(&mut self, mono: Millis, link: LinkId, author: NodeId, out: &mut Vec<Effect>) {
        let after = self.asked.get(&link).map_or(Seq::GENESIS, |asked| asked.span.first);
        let spans = self.missing.get(&author).map_or(&[][..], Vec::as_slice);
        let next = spans
            .iter()
            .find(|span| span.last >= after)
            .map(|span| Span { first: span.first.max(after), last: span.last });
        match next {
            Some(span) => self.send(mono, link, author, span, out),
            None => {
                self.done(link, author, None);
                self.ask(mono, out);
            }
        }
    }

    fn done(&mut self, link: LinkId, author: NodeId, retry: Option<Millis>) {
        self.asked.remove(&link);
        if let Some(tried) = self.links.get_mut(&link) {
            tried.insert(author, retry);
        }
    }

    fn ask(&mut self, mono: Millis, out: &mut Vec<Effect>) {
        let idle: Vec<LinkId> =
            self.links.keys().filter(|link| !self.asked.contains_key(link)).copied().collect();
        for link in idle {
            let tried = self.links.get(&link);
            let is_asked = |author: &NodeId| self.asked.values().any(|asked| asked.author == *author);
            let wanted = self.missing.iter().find(|(author, _)| {
                tried.is_some_and(|tried| !tried.contains_key(author)) && !is_asked(author)
            });
            if let Some((author, span)) = wanted.and_then(|(author, spans)| Some((*author, *spans.first()?)))
            {
                self.send(mono, link, author, span, out);
            }
        }
    }

    fn send(&mut self, mono: Millis, link: LinkId, author: NodeId, span: Span, out: &mut Vec<Effect>) {
        self.asked.insert(link, Asked { author, span, has_begun: false, heard: mono });
        out.push(Effect::Balance { link, frame: BalanceFrame::Mend { author, span } });
        out.push(Effect::Event(Event::Mending { author, span }));
    }

    fn lacks(&self, author: NodeId, seq: Seq) -> bool {
        let spans = self.missing.get(&author).map_or(&[][..], Vec::as_slice);
        spans.iter().any(|span| span.first <= seq && seq <= span.last)
    }

    /// Adds one seq to the spans of an author.
    fn lack(&mut self, author: NodeId, seq: Seq) {
        // The store forgets the oldest beyond its bound; here they are simply not taken up before the next start.
        if self.count() >= u64::try_from(MISSING_MAX).unwrap_or(u64::MAX) {
            return;
        }
        let spans = self.missing.entry(author).or_default();
        if spans.iter().any(|span| span.first <= seq && seq <= span.last) {
            return;
        }
        if let Some(before) = spans.iter_mut().find(|span| span.last.next() == seq) {
            before.last = seq;
        } else if let Some(after) = spans.iter_mut().find(|span| span.first == seq.next()) {
            after.first = seq;
        } else {
            spans.push(Span { first: seq, last: seq });
            spans.sort_unstable();
        }
    }

    /// Takes one seq out of the spans of an author.
    fn has(&mut self, author: NodeId, seq: Seq) {
        let Some(spans) = self.missing.get_mut(&author) else { return };
        let split = |span: &Span| {
            let before =
                (span.first < seq).then(|| Span { first: span.first, last: Seq(seq.0.saturating_sub(1)) });
            let after = (span.last > seq).then(|| Span { first: seq.next(), last: span.last });
            before.into_iter().chain(after)
        };
        if let Some(place) = spans.iter().position(|span| span.first <= seq && seq <= span.last) {
            let span = spans.remove(place);
            spans.extend(split(&span));
            spans.sort_unstable();
        }
        if spans.is_empty() {
            self.missing.remove(&author);
        }
    }
}

/// Whether an entry is a thought without its content.
fn is_bare(entry: &Entry) -> bool {
    entry.content().is_none() && matches!(entry.header().body, Body::Thought(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(mending: &Mending) -> Vec<(u64, u64)> {
        mending.missing.values().flatten().map(|span| (span.first.0, span.last.0)).collect()
    }

    #[test]
    fn spans_grow_and_split_and_stay_apart() {
        let author = NodeId::from_stored([1; 32]);
        let mut mending = Mending::default();
        for seq in [5, 3, 4, 9, 10, 5] {
            mending.lack(author, Seq(seq));
        }
        let seqs: u64 = spans(&mending).iter().map(|(first, last)| last - first + 1).sum();
        assert_eq!((seqs, mending.count()), (5, 5));
        for seq in [4, 10, 7] {
            mending.has(author, Seq(seq));
        }
        assert_eq!(mending.count(), 3);
        mending.cut(author, Seq(9));
        assert_eq!((mending.count(), spans(&mending)), (2, vec![(3, 3), (5, 5)]));
        for seq in [3, 5] {
            mending.has(author, Seq(seq));
        }
        assert!(mending.missing.is_empty());
    }
}
