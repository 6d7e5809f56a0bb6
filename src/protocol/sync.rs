//! Sync: heads tell who lacks what, wants ask for it. An entry that was lost on the way for any reason is repaired the
//! same way as one that was missed in an absence. Source: protocol.md, Balance sync and catch-up.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    authors::{AUTHORS_MAX, Authors},
    event::Event,
    frame::{BalanceFrame, HEADS_PER_FRAME_MAX, HeadReport},
    input::{Effect, LinkId},
    relay::Relay,
};
use crate::{
    ledger::types::{Millis, Seq},
    log::{
        FederationId, Head, NodeId, SEGMENT_ENTRIES_MAX, Segment, Verified, books::Span,
        identity::BadSignature,
    },
};

/// For how long changed heads are gathered before they are sent.
const GATHER: Millis = Millis(50);
/// A want that brought nothing for so long is asked of another peer.
const WANT_SILENT_MAX: Millis = Millis(5_000);
/// An author whose entries lay too far ahead of our clock is asked for again after so long.
const HELD: Millis = Millis(15_000);
/// How long an author's live segments may be later than news of them from another peer.
const DEFERRED: Millis = Millis(100);
/// After a queue was full, all heads are sent again after so long.
const RESEND: Millis = Millis(500);
/// Wants that are out to one peer at a time; the peer serves as many at once and queues the rest.
const WANTS_PER_LINK_MAX: usize = 64;
/// Catch-up streams that are open to one peer at a time.
const SERVED_PER_LINK_MAX: usize = 4;
/// Of them, as many may be long. The last is kept for what a segment holds: somebody who is writing now, of whom a live segment was
/// lost on the way or came before what it builds on.
const SERVED_LONG_MAX: usize = 3;
const _: () = assert!(SERVED_LONG_MAX < SERVED_PER_LINK_MAX);
/// Wants of one peer that wait for a stream; what does not fit is asked for again by the peer.
const QUEUED_PER_LINK_MAX: usize = 256;

/// Who lacks what.
#[derive(Debug, Default)]
pub struct Sync {
    links: BTreeMap<LinkId, Link>,
    /// Entries that were asked for: of whom, and when something last came.
    asked: BTreeMap<NodeId, Asked>,
    /// Authors whose entries lie too far ahead of our clock: not asked for before that monotonic time.
    held: BTreeMap<NodeId, Millis>,
    /// While there is no room for what would come, nothing is asked for; these are when there is.
    postponed: BTreeSet<NodeId>,
    is_paused: bool,
    /// Authors whose news came from another peer than their live segments do: asked for if those don't come by that monotonic time.
    deferred: BTreeMap<NodeId, Millis>,
    /// Of whom an author's news was asked for since that was last looked at.
    news: Vec<(LinkId, NodeId)>,
    /// Authors whose heads changed since the last flush.
    changed: BTreeSet<NodeId>,
    flush_at: Option<Millis>,
}

#[derive(Debug)]
struct Link {
    node: NodeId,
    /// The last seq of each author that the peer is known to hold.
    holds: BTreeMap<NodeId, Seq>,
    /// Authors whose entries were asked for here and did not come: others are asked first.
    silent: BTreeSet<NodeId>,
    /// Authors whose entries are asked for here; at most [`WANTS_PER_LINK_MAX`].
    wanted: BTreeSet<NodeId>,
    /// Authors whose entries are to be asked for here when there is room.
    backlog: BTreeSet<NodeId>,
    serving: BTreeSet<NodeId>,
    queued: VecDeque<(NodeId, Span)>,
    resend_at: Option<Millis>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    link: LinkId,
    /// The first seq that was asked for.
    from: Seq,
    heard: Millis,
}

/// Over which link something was told, and when.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// When, on the monotonic clock.
    pub mono: Millis,
    /// By whom.
    pub link: LinkId,
}

/// What a head that does not match ours says.
#[derive(Debug)]
pub enum Finding {
    /// Two signed heads of that author at that seq.
    Fork(NodeId, Seq),
    /// A head that its author did not sign.
    Unsigned(BadSignature),
    /// Nothing that anyone else needs to know.
    Nothing,
}

impl Sync {
    /// A peer is admitted: tells it all heads.
    pub fn established(
        &mut self,
        link: LinkId,
        node: NodeId,
        authors: &mut Authors,
        own: Option<Head>,
        out: &mut Vec<Effect>,
    ) {
        let fresh = Link {
            node,
            holds: BTreeMap::new(),
            silent: BTreeSet::new(),
            wanted: BTreeSet::new(),
            backlog: BTreeSet::new(),
            serving: BTreeSet::new(),
            queued: VecDeque::new(),
            resend_at: None,
        };
        self.links.insert(link, fresh);
        let all: Vec<NodeId> = authors.iter().map(|(id, _)| id).collect();
        send_round(link, &all, authors, own, out);
    }

    /// A link is gone: what was asked of it is asked of others.
    pub fn gone(&mut self, told: Told, authors: &Authors, out: &mut Vec<Effect>) {
        let Told { mono, link } = told;
        self.links.remove(&link);
        let orphans: Vec<NodeId> =
            self.asked.iter().filter(|(_, asked)| asked.link == link).map(|(author, _)| *author).collect();
        for author in orphans {
            self.asked.remove(&author);
            self.ask_someone(mono, author, authors, out);
        }
    }

    /// An author's log grew: its head is told to everyone within 50 ms.
    pub fn grew(&mut self, mono: Millis, author: NodeId) {
        self.changed.insert(author);
        self.flush_at.get_or_insert_with(|| mono.plus(GATHER));
    }

    /// A segment of our own is to go to every peer that does not have it yet. Returns to how many it goes.
    pub fn publish(&mut self, segment: Arc<Verified<Segment>>, out: &mut Vec<Effect>) -> u32 {
        let all: Vec<LinkId> = self.links.keys().copied().collect();
        self.pass_on(all, segment, out)
    }

    /// A live segment is to go to those of these peers that do not have it yet. Returns to how many it goes.
    pub fn pass_on(
        &mut self,
        mut to: Vec<LinkId>,
        segment: Arc<Verified<Segment>>,
        out: &mut Vec<Effect>,
    ) -> u32 {
        let (author, last) = (segment.author(), segment.last());
        to.retain(|id| {
            let Some(link) = self.links.get_mut(id) else { return false };
            let lacks = link.holds.get(&author).is_none_or(|holds| *holds < last);
            if lacks {
                link.holds.insert(author, last);
            }
            lacks
        });
        let count = u32::try_from(to.len()).unwrap_or(u32::MAX);
        if !to.is_empty() {
            out.push(Effect::Publish { to, segment });
        }
        count
    }

    /// Whether an author's entries are being fetched over that link: what comes then is no news to pass on.
    #[must_use]
    pub fn is_asked(&self, link: LinkId, author: NodeId) -> bool {
        self.asked.get(&author).is_some_and(|asked| asked.link == link)
    }

    /// Of whom an author's news was asked for since the last call.
    pub fn take_news(&mut self) -> Vec<(LinkId, NodeId)> {
        std::mem::take(&mut self.news)
    }

    /// A peer holds an author's entries through that one; it told so, and not with a head.
    pub fn holds(&mut self, told: Told, author: NodeId, last: Seq, authors: &Authors, out: &mut Vec<Effect>) {
        let Some(link) = self.links.get_mut(&told.link) else { return };
        if link.holds.len() < AUTHORS_MAX || link.holds.contains_key(&author) {
            link.holds.insert(author, last);
        }
        if Some(last) > authors.seq(author) {
            self.ask(told, author, authors, out);
        }
    }

    /// A live segment or heads did not fit a peer's queue: it is told all heads again, and asks for what it lacks.
    pub fn queue_full(&mut self, mono: Millis, link: LinkId) -> Option<NodeId> {
        let link = self.links.get_mut(&link)?;
        let is_news = link.resend_at.is_none();
        link.resend_at.get_or_insert_with(|| mono.plus(RESEND));
        is_news.then_some(link.node)
    }

    /// A peer tells its heads.
    pub fn heads(
        &mut self,
        told: Told,
        reports: &[HeadReport],
        (federation, relay): (&FederationId, &Relay),
        authors: &mut Authors,
        out: &mut Vec<Effect>,
    ) -> Vec<Finding> {
        // Those of whom least is missing are asked for first: an author that is writing now does not wait behind a backlog.
        let mut reports: Vec<&HeadReport> = reports.iter().collect();
        reports.sort_by_key(|report| {
            report.head.seq.0.saturating_sub(authors.missing_from(report.head.author).0)
        });
        let by = (federation, relay);
        reports.into_iter().map(|report| self.head(told, report, by, authors, out)).collect()
    }

    fn head(
        &mut self,
        told: Told,
        report: &HeadReport,
        (federation, relay): (&FederationId, &Relay),
        authors: &mut Authors,
        out: &mut Vec<Effect>,
    ) -> Finding {
        let head = report.head;
        let have = authors.get(head.author).map(|ours| (ours.book.seq(), ours.book.hash));
        let is_closed = authors.is_closed(head.author);
        let is_news = !is_closed
            && have.is_none_or(|(seq, hash)| head.seq > seq || (head.seq == seq && head.hash != hash));
        // Heads that say nothing new are most of them, and need no look at their signatures.
        if is_news
            && !self.asked.contains_key(&head.author)
            && let Err(fault) = head.verify(federation)
        {
            return Finding::Unsigned(fault);
        }
        let Some(peer) = self.links.get_mut(&told.link) else {
            return Finding::Nothing;
        };
        if peer.holds.len() >= AUTHORS_MAX && !peer.holds.contains_key(&head.author) {
            return Finding::Nothing;
        }
        // A head that what came on other streams has overtaken takes nothing back.
        let before = peer.holds.get(&head.author).copied();
        peer.holds.insert(head.author, before.map_or(head.seq, |before| before.max(head.seq)));
        let is_update = before.is_some();
        let node = peer.node;
        let has_cut = authors.cut(head.author).is_some();
        let Some(ours) = authors.get_mut(head.author) else {
            self.ask(told, head.author, authors, out);
            return Finding::Nothing;
        };
        if is_closed || head.seq < ours.book.seq() {
            // Behind ours: the peer will ask.
            return Finding::Nothing;
        }
        if head.seq > ours.book.seq() {
            self.news(told, (head.author, is_update), relay, authors, out);
            return Finding::Nothing;
        }
        if head.hash != ours.book.hash {
            // Only a signature makes it a fork.
            let signed = head.verify(federation).is_ok();
            return if signed { Finding::Fork(head.author, head.seq) } else { Finding::Nothing };
        }
        if has_cut {
            // What is left of it is compared with those who cut it, too.
            return Finding::Nothing;
        }
        let balance = ours.book.account.balance;
        if balance != report.balance || ours.digest() != report.digest {
            out.push(Effect::Event(Event::Divergence {
                author: head.author,
                peer: node,
                seq: head.seq,
                ours: (balance, ours.digest()),
                theirs: (report.balance, report.digest),
            }));
        }
        Finding::Nothing
    }

    /// A peer has more of an author's log than we do. Where its live segments come another way, they may be on their way already; else they are asked
    /// for at once, and where this was news of new entries, the peer is the one to pass more of them on.
    fn news(
        &mut self,
        told: Told,
        (author, is_update): (NodeId, bool),
        relay: &Relay,
        authors: &Authors,
        out: &mut Vec<Effect>,
    ) {
        let source = relay.source_of(author).filter(|source| *source != told.link);
        if is_update && source.is_some() {
            self.deferred.entry(author).or_insert_with(|| told.mono.plus(DEFERRED));
            return;
        }
        self.ask(told, author, authors, out);
        if is_update && self.is_asked(told.link, author) {
            self.news.push((told.link, author));
        }
    }

    /// A peer asks for entries: all from one on (the span's last is then the last of all seqs), or some that it lost.
    pub fn want(
        &mut self,
        link: LinkId,
        author: NodeId,
        span: Span,
        through: Option<Seq>,
        out: &mut Vec<Effect>,
    ) {
        let Some(peer) = self.links.get_mut(&link) else {
            return;
        };
        let Some(through) = through.filter(|through| span.first <= *through) else {
            return;
        };
        let span = Span { first: span.first, last: span.last.min(through) };
        // A want that comes while the same author is being served asks for what came after that was read.
        if peer.serving.contains(&author) || !peer.has_turn(span) {
            let waits = peer.queued.iter().any(|(waiting, _)| *waiting == author);
            if !waits && peer.queued.len() < QUEUED_PER_LINK_MAX {
                peer.queued.push_back((author, span));
            }
            return;
        }
        peer.serve(link, author, span, out);
    }

    /// A catch-up stream is done: the next want gets its turn.
    pub fn served(&mut self, link: LinkId, author: NodeId, out: &mut Vec<Effect>) {
        let Some(peer) = self.links.get_mut(&link) else {
            return;
        };
        peer.serving.remove(&author);
        // The shortest first, so that who lacks little does not wait behind a backlog; who asks for little again and again makes only
        // its own backlog wait.
        while let Some((author, span)) = peer.next_queued() {
            peer.serve(link, author, span, out);
        }
    }

    /// A segment brought something new: the peer that was asked is sending.
    pub fn took(&mut self, told: Told, author: NodeId, last: Seq, authors: &Authors, out: &mut Vec<Effect>) {
        if let Some(peer) = self.links.get_mut(&told.link) {
            peer.silent.remove(&author);
        }
        if let Some(asked) = self.asked.get_mut(&author) {
            asked.heard = told.mono;
        }
        self.knew(told, author, last, authors, out);
    }

    /// A segment brought nothing new: the peer holds it all the same, and a want may be fulfilled. It is no sign of life of
    /// whoever was asked, or a peer that repeats itself could keep a want for ever.
    pub fn knew(&mut self, told: Told, author: NodeId, last: Seq, authors: &Authors, out: &mut Vec<Effect>) {
        let Told { mono, link } = told;
        if let Some(peer) = self.links.get_mut(&link) {
            peer.said(author, last);
        }
        let Some(asked) = self.asked.get(&author) else {
            return;
        };
        let target = self.links.get(&asked.link).and_then(|peer| peer.holds.get(&author)).copied();
        if target.is_none_or(|target| authors.seq(author) >= Some(target)) {
            self.unask(mono, author, authors, out);
            self.ask_someone(mono, author, authors, out);
        }
    }

    /// A catch-up stream ended. Live segments that came beside it did not fit yet and were dropped; so where it brought something
    /// and there is more, that is asked for at once.
    pub fn caught_up(&mut self, told: Told, author: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        let Some(asked) = self.asked.get(&author).filter(|asked| asked.link == told.link) else { return };
        if authors.missing_from(author) > asked.from {
            self.unask(told.mono, author, authors, out);
            self.ask_someone(told.mono, author, authors, out);
        }
    }

    /// Entries between ours and a live segment are missing: asks for them.
    pub fn gap(&mut self, told: Told, author: NodeId, last: Seq, authors: &Authors, out: &mut Vec<Effect>) {
        let link = told.link;
        if !self.links.get_mut(&link).is_some_and(|peer| peer.said(author, last)) {
            return;
        }
        self.ask(told, author, authors, out);
    }

    /// An author's entries lie too far ahead of our clock: asks again later, and not before.
    pub fn hold(&mut self, mono: Millis, author: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        // One that is not remembered is asked for again when a peer tells of it again.
        if self.held.len() < AUTHORS_MAX || self.held.contains_key(&author) {
            self.held.insert(author, mono.plus(HELD));
        }
        self.unask(mono, author, authors, out);
    }

    /// There is no room for what would come: nothing is asked for.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// There is room again for what had to be held back, whatever it was held for.
    pub fn release(&mut self, mono: Millis, authors: &Authors, out: &mut Vec<Effect>) {
        self.is_paused = false;
        let held = std::mem::take(&mut self.held).into_keys();
        let waiting: BTreeSet<NodeId> = held.chain(std::mem::take(&mut self.postponed)).collect();
        for author in waiting {
            self.ask_someone(mono, author, authors, out);
        }
    }

    /// An author's log is taken no further: it is neither asked for nor held.
    pub fn drop_author(&mut self, mono: Millis, author: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        self.held.remove(&author);
        self.unask(mono, author, authors, out);
    }

    /// Something is to be asked of that author that was not before.
    pub fn ask_again(&mut self, mono: Millis, author: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        self.ask_someone(mono, author, authors, out);
    }

    /// Whether a peer holds entries of that author that we lack.
    #[must_use]
    pub fn is_behind(&self, author: NodeId, have: Option<Seq>) -> bool {
        self.links.values().any(|link| link.holds.get(&author).copied() > have)
    }

    /// When [`Sync::tick`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        let asked = self.asked.values().map(|asked| asked.heard.plus(WANT_SILENT_MAX));
        let held = self.held.values().copied();
        let resend = self.links.values().filter_map(|link| link.resend_at);
        let deferred = self.deferred.values().copied();
        asked.chain(held).chain(resend).chain(deferred).chain(self.flush_at).min()
    }

    /// Does what is due: changed heads, silent wants, held authors. Returns the links that were told all heads again, because
    /// something did not fit their queues: whatever else was told of them may be lost as well.
    pub fn tick(
        &mut self,
        mono: Millis,
        authors: &mut Authors,
        own: Option<Head>,
        out: &mut Vec<Effect>,
    ) -> Vec<LinkId> {
        if self.flush_at.is_some_and(|at| at <= mono) {
            self.flush_at = None;
            let changed: Vec<NodeId> = std::mem::take(&mut self.changed).into_iter().collect();
            let links: Vec<LinkId> = self.links.keys().copied().collect();
            send_heads(&links, &changed, authors, own, out);
        }
        let all: Vec<NodeId> = match self.links.values().any(|link| link.resend_at.is_some()) {
            true => authors.iter().map(|(id, _)| id).collect(),
            false => vec![],
        };
        let mut resent = vec![];
        for (id, link) in &mut self.links {
            if link.resend_at.is_some_and(|at| at <= mono) {
                link.resend_at = None;
                send_round(*id, &all, authors, own, out);
                resent.push(*id);
            }
        }
        let silent = |asked: &Asked| asked.heard.plus(WANT_SILENT_MAX) <= mono;
        let due: Vec<NodeId> =
            self.asked.iter().filter(|(_, asked)| silent(asked)).map(|(author, _)| *author).collect();
        let held: Vec<NodeId> =
            self.held.iter().filter(|(_, at)| **at <= mono).map(|(author, _)| *author).collect();
        for author in &due {
            // Whoever said it had more and then sent nothing comes last, so that a liar can't stand between us and a
            // peer that has it.
            let link = self.asked.get(author).map(|asked| asked.link);
            if let Some(silent) = link.and_then(|link| self.links.get_mut(&link)) {
                silent.silent.insert(*author);
            }
            self.unask(mono, *author, authors, out);
        }
        for author in due.into_iter().chain(held) {
            self.held.remove(&author);
            self.ask_someone(mono, author, authors, out);
        }
        self.ask_deferred(mono, authors, out);
        resent
    }

    /// What did not come the way that it should have is asked for where the news came from.
    fn ask_deferred(&mut self, mono: Millis, authors: &Authors, out: &mut Vec<Effect>) {
        let due: Vec<NodeId> =
            self.deferred.iter().filter(|(_, at)| **at <= mono).map(|(author, _)| *author).collect();
        for author in due {
            self.deferred.remove(&author);
            self.ask_someone(mono, author, authors, out);
            if let Some(asked) = self.asked.get(&author).filter(|asked| asked.heard == mono) {
                self.news.push((asked.link, author));
            }
        }
    }

    /// A want is over, however it ended: there is room for one from the backlog.
    fn unask(&mut self, mono: Millis, author: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        let Some(Asked { link, .. }) = self.asked.remove(&author) else { return };
        let Some(peer) = self.links.get_mut(&link) else { return };
        peer.wanted.remove(&author);
        while let Some(next) = peer.backlog.pop_first() {
            let is_ahead = peer.holds.get(&next).copied() > authors.seq(next);
            if is_ahead && !self.asked.contains_key(&next) {
                return self.ask(Told { mono, link }, next, authors, out);
            }
        }
    }

    fn ask_someone(&mut self, mono: Millis, author: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        let have = authors.seq(author);
        let ahead = |link: &Link| link.holds.get(&author).copied() > have;
        let likeliest = |link: &Link| (!link.silent.contains(&author), link.holds.get(&author).copied());
        let furthest =
            self.links.iter().filter(|(_, link)| ahead(link)).max_by_key(|(_, link)| likeliest(link));
        if let Some(link) = furthest.map(|(id, _)| *id) {
            self.ask(Told { mono, link }, author, authors, out);
        }
    }

    fn ask(&mut self, told: Told, author: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        let Told { mono, link } = told;
        if authors.is_closed(author) || self.asked.contains_key(&author) || self.held.contains_key(&author) {
            return;
        }
        if self.is_paused {
            // No more than the authors that peers told of, which are bounded.
            self.postponed.insert(author);
            return;
        }
        let Some(peer) = self.links.get_mut(&link) else { return };
        if peer.wanted.len() >= WANTS_PER_LINK_MAX {
            // No more than the authors that the peer told of, which are bounded.
            peer.backlog.insert(author);
            return;
        }
        peer.wanted.insert(author);
        let from = authors.missing_from(author);
        self.asked.insert(author, Asked { link, from, heard: mono });
        let frame = BalanceFrame::Want { author, from };
        out.push(Effect::Balance { link, frame });
        out.push(Effect::Event(Event::Wanted { from: peer.node, author }));
    }
}

impl Link {
    /// The peer showed an entry: it holds the log so far. Keys cost nothing, so what is remembered of them is bounded; says whether
    /// there was room for it.
    fn said(&mut self, author: NodeId, last: Seq) -> bool {
        if self.holds.len() >= AUTHORS_MAX && !self.holds.contains_key(&author) {
            return false;
        }
        let holds = self.holds.entry(author).or_insert(last);
        *holds = last.max(*holds);
        true
    }

    /// Whether a stream may be opened for so many entries.
    fn has_turn(&self, span: Span) -> bool {
        let is_short = others(span) < SEGMENT_ENTRIES_MAX as u64;
        self.serving.len() < if is_short { SERVED_PER_LINK_MAX } else { SERVED_LONG_MAX }
    }

    /// Takes the shortest waiting want whose turn it is.
    fn next_queued(&mut self) -> Option<(NodeId, Span)> {
        let idle = self.queued.iter().enumerate().filter(|(_, (waiting, _))| !self.serving.contains(waiting));
        let (place, (_, span)) = idle.min_by_key(|(_, (_, span))| others(*span))?;
        if !self.has_turn(*span) {
            return None;
        }
        self.queued.remove(place)
    }

    fn serve(&mut self, link: LinkId, author: NodeId, span: Span, out: &mut Vec<Effect>) {
        self.serving.insert(author);
        out.push(Effect::Serve { link, author, span });
        out.push(Effect::Event(Event::Serving { to: self.node, author }));
    }
}

/// How many entries a span has beside its first.
const fn others(span: Span) -> u64 {
    span.last.0.saturating_sub(span.first.0)
}

/// Tells a link all heads. The last frame is one that is not full, if need be an empty one: by that the other side knows that it was
/// told all.
fn send_round(link: LinkId, all: &[NodeId], authors: &mut Authors, own: Option<Head>, out: &mut Vec<Effect>) {
    let reports: Vec<HeadReport> = all.iter().filter_map(|id| report(*id, authors, own)).collect();
    let rest = reports.chunks_exact(HEADS_PER_FRAME_MAX).remainder();
    for full in reports.chunks_exact(HEADS_PER_FRAME_MAX) {
        out.push(Effect::Balance { link, frame: BalanceFrame::Heads(full.to_vec()) });
    }
    out.push(Effect::Balance { link, frame: BalanceFrame::Heads(rest.to_vec()) });
}

/// Tells those links the heads of those authors, in frames of a bounded length.
fn send_heads(
    links: &[LinkId],
    of: &[NodeId],
    authors: &mut Authors,
    own: Option<Head>,
    out: &mut Vec<Effect>,
) {
    if links.is_empty() {
        return;
    }
    let reports: Vec<HeadReport> = of.iter().filter_map(|id| report(*id, authors, own)).collect();
    for chunk in reports.chunks(HEADS_PER_FRAME_MAX) {
        out.push(Effect::BalanceToAll { to: links.to_vec(), frame: BalanceFrame::Heads(chunk.to_vec()) });
    }
}

fn report(id: NodeId, authors: &mut Authors, own: Option<Head>) -> Option<HeadReport> {
    // Of a convicted author no head is told: it may have none that is signed.
    if authors.cut(id).is_some() {
        return None;
    }
    let author = authors.get_mut(id)?;
    let signature = match author.book.signature {
        Some(signature) => signature,
        // Our own log: only what was signed is told, and what is signed is stored.
        None => own.filter(|head| head.author == id && head.seq == author.book.seq())?.signature,
    };
    let head = Head { author: id, seq: author.book.seq(), hash: author.book.hash, signature };
    Some(HeadReport { head, balance: author.book.account.balance, digest: author.digest() })
}
