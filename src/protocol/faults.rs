//! Faults: authors that are convicted, and how that is found out and told.
//!
//! Whose copy of a log differs from a peer's (`suspect`) finds the first entry that differs, by halving the span in which it must lie and asking the
//! peer for what stands there; both sides' signed entries are then the proof. A proof is told of like a head, asked for like
//! entries, and believed by whoever verifies it. The log ends before the first entry at fault; of several proofs the one that cuts
//! deepest counts, so that all come to the same end. The account is folded anew by the store (`Effect::Store`, then `Input::Cut`).
//! Source: protocol.md, Faults that can be proved.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use super::{
    authors::{AUTHORS_MAX, Authors},
    event::Event,
    frame::{BalanceFrame, FaultReport, HEADS_PER_FRAME_MAX},
    input::{Effect, LinkId, Now},
    sync::Told,
};
use crate::{
    ledger::types::{MicroAtp, Millis, Seq},
    log::{
        Hash, NodeId, Proof, Segment, Verified,
        books::{AuthorFault, Record, Span},
        stored::Comparison,
    },
};

/// A proof or an entry that was asked for and did not come for so long is asked of another peer, or given up.
const SILENT_MAX: Millis = Millis(5_000);
/// A search whose answers do not come asks again this seldom at last.
const SILENT_LOOK_MAX: Millis = Millis(300_000);
/// Proofs that are asked of one peer at a time; each is at most half a megabyte. A bound for each peer, so that one that never answers keeps nobody
/// from learning of another's.
const ASKED_PER_LINK_MAX: usize = 4;
/// Differences between one peer's logs and ours that are searched for at a time.
const TRACES_PER_LINK_MAX: usize = 4;
/// Most forks are young: the first look goes back so far.
const FIRST_LOOK: u64 = 64;
/// The same proof is given to a peer once in so long.
const PROVE_EVERY: Millis = Millis(5_000);

/// Convicted authors, and what is being found out.
#[derive(Debug, Default)]
pub struct Faults {
    known: BTreeMap<NodeId, AuthorFault>,
    /// Where the store is to cut logs and has not yet, the first told first.
    cutting: BTreeMap<NodeId, VecDeque<Seq>>,
    links: BTreeMap<LinkId, Link>,
    /// Proofs that were asked for.
    asked: BTreeMap<NodeId, Asked>,
    traces: BTreeMap<NodeId, Trace>,
}

#[derive(Debug)]
struct Link {
    node: NodeId,
    /// What the peer said last of each convicted author; at most [`AUTHORS_MAX`].
    reports: BTreeMap<NodeId, FaultReport>,
    /// When it got a proof last; as many as there are convicted authors.
    proved: BTreeMap<NodeId, Millis>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    link: LinkId,
    until: Millis,
}

/// A search for the first entry that differs between a peer's log and ours.
#[derive(Clone, Copy, Debug)]
struct Trace {
    link: LinkId,
    /// Before this one all are the same.
    low: Seq,
    /// This one differs.
    high: Seq,
    /// The entry that was asked for, and the last one behind it that was.
    probe: Seq,
    through: Seq,
    /// How long the answer may take; each silence doubles it.
    patience: Millis,
    until: Millis,
}

/// What a peer's report means for the rest of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// Nothing.
    Nothing,
    /// The peer holds that author's entries through this one.
    Holds(Seq),
}

impl Faults {
    /// Those of the books.
    #[must_use]
    pub const fn load(known: BTreeMap<NodeId, AuthorFault>) -> Self {
        Self {
            known,
            cutting: BTreeMap::new(),
            links: BTreeMap::new(),
            asked: BTreeMap::new(),
            traces: BTreeMap::new(),
        }
    }

    /// What is known against an author; also where it was cleared.
    #[must_use]
    pub fn of(&self, author: NodeId) -> Option<AuthorFault> {
        self.known.get(&author).copied()
    }

    /// Everyone that is or was convicted.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, AuthorFault)> {
        self.known.iter().map(|(author, fault)| (*author, *fault))
    }

    /// A peer is admitted: tells it of every convicted author.
    pub fn established(&mut self, link: LinkId, node: NodeId, authors: &mut Authors, out: &mut Vec<Effect>) {
        self.links.insert(link, Link { node, reports: BTreeMap::new(), proved: BTreeMap::new() });
        self.tell_all(link, authors, out);
    }

    /// Tells a peer of every convicted author.
    pub fn tell_all(&self, link: LinkId, authors: &mut Authors, out: &mut Vec<Effect>) {
        let all: Vec<NodeId> = self.known.keys().copied().collect();
        self.tell(&[link], &all, authors, out);
    }

    /// A link is gone: what was asked of it is asked of others.
    pub fn gone(&mut self, told: Told, authors: &Authors, out: &mut Vec<Effect>) {
        self.links.remove(&told.link);
        self.traces.retain(|_, trace| trace.link != told.link);
        let orphans: Vec<NodeId> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.link == told.link)
            .map(|(author, _)| *author)
            .collect();
        for author in orphans {
            self.asked.remove(&author);
            self.ask_someone(told.mono, author, None, authors, out);
        }
    }

    /// A peer says that an author is convicted, and how much of its log it holds.
    pub fn told(
        &mut self,
        told: Told,
        report: FaultReport,
        authors: &mut Authors,
        out: &mut Vec<Effect>,
    ) -> Reported {
        let author = report.author;
        let Some(link) = self.links.get_mut(&told.link) else { return Reported::Nothing };
        if link.reports.len() < AUTHORS_MAX || link.reports.contains_key(&author) {
            link.reports.insert(author, report);
        }
        let holds = report.held.checked_sub(1).map_or(Reported::Nothing, |last| Reported::Holds(Seq(last)));
        match self.known.get(&author).copied() {
            Some(fault) if fault.cleared && fault.cut <= report.cut => return Reported::Nothing,
            Some(fault) if !fault.cleared && fault.cut == report.cut => {
                self.compare(told, report, authors, out);
            }
            // Ours cuts deeper: the peer will ask.
            Some(fault) if !fault.cleared && fault.cut < report.cut => {}
            Some(_) | None => self.ask(told, author, authors, out),
        }
        holds
    }

    /// Both cut at the same place: what is left must be the same.
    fn compare(&mut self, told: Told, theirs: FaultReport, authors: &mut Authors, out: &mut Vec<Effect>) {
        let Some(ours) = self.report(theirs.author, authors) else { return };
        if ours.held != theirs.held {
            return;
        }
        if ours.hash != theirs.hash {
            let last = Seq(ours.held.saturating_sub(1));
            return self.suspect(told, theirs.author, last, out);
        }
        if (ours.balance, ours.digest) != (theirs.balance, theirs.digest) {
            let Some(link) = self.links.get(&told.link) else { return };
            out.push(Effect::Event(Event::Divergence {
                author: theirs.author,
                peer: link.node,
                seq: Seq(ours.held.saturating_sub(1)),
                ours: (ours.balance, ours.digest),
                theirs: (theirs.balance, theirs.digest),
            }));
        }
    }

    /// A peer wants to see what convicts an author.
    pub fn prove(&mut self, told: Told, author: NodeId, out: &mut Vec<Effect>) {
        let is_known = self.known.get(&author).is_some_and(|fault| !fault.cleared);
        let Some(link) = self.links.get_mut(&told.link).filter(|_| is_known) else { return };
        if link.proved.get(&author).is_none_or(|at| told.mono >= at.plus(PROVE_EVERY)) {
            link.proved.insert(author, told.mono);
            out.push(Effect::Prove { link: told.link, author });
        }
    }

    /// A proof came: the peer may be asked for another. Its report counts no further than what it showed.
    pub fn shown(&mut self, told: Told, proof: &Proof, authors: &Authors, out: &mut Vec<Effect>) {
        let author = proof.author();
        let report = self.links.get_mut(&told.link).and_then(|link| link.reports.get_mut(&author));
        if let Some(report) = report {
            report.cut = report.cut.max(proof.cut());
        }
        if self.asked.get(&author).is_some_and(|asked| asked.link == told.link) {
            self.asked.remove(&author);
            self.ask_more(told, author, authors, out);
        }
    }

    /// An author that was unknown is known now: whoever says that it is convicted may show it.
    pub fn met(&mut self, mono: Millis, author: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        self.ask_someone(mono, author, None, authors, out);
    }

    /// A peer's copy of a log differs from ours at that entry: looks for the first that does.
    pub fn suspect(&mut self, told: Told, author: NodeId, differs: Seq, out: &mut Vec<Effect>) {
        let Some(link) = self.links.get(&told.link) else { return };
        let searched = self.traces.values().filter(|trace| trace.link == told.link).count();
        if self.traces.contains_key(&author) || searched >= TRACES_PER_LINK_MAX {
            return;
        }
        let probe = Seq(differs.0.saturating_sub(FIRST_LOOK.saturating_sub(1)));
        let trace = Trace {
            link: told.link,
            low: Seq::GENESIS,
            high: differs,
            probe,
            through: differs,
            patience: SILENT_MAX,
            until: told.mono.plus(SILENT_MAX),
        };
        self.traces.insert(author, trace);
        out.push(Effect::Event(Event::ForkSuspected { author, peer: link.node, seq: differs }));
        out.push(look(told.link, author, Span { first: probe, last: differs }));
    }

    /// Whether a segment is what a search asked for; then it is compared with what the store holds.
    pub fn heard(&mut self, told: Told, segment: &Verified<Segment>, out: &mut Vec<Effect>) -> bool {
        let author = segment.author();
        let Some(trace) = self.traces.get_mut(&author) else { return false };
        if trace.link != told.link || segment.first() != trace.probe {
            return false;
        }
        trace.until = told.mono.plus(trace.patience);
        out.push(Effect::Compare { link: told.link, segment: Box::new(segment.clone()) });
        true
    }

    /// What a comparison gave: the proof, or where to look next.
    pub fn compared(
        &mut self,
        told: Told,
        author: NodeId,
        comparison: Comparison,
        out: &mut Vec<Effect>,
    ) -> Option<Verified<Proof>> {
        let trace = self.traces.get_mut(&author).filter(|trace| trace.link == told.link)?;
        match comparison {
            Comparison::Fork(proof) => {
                self.traces.remove(&author);
                return Some(*proof);
            }
            Comparison::Same { through: Some(through) } => trace.low = trace.low.max(through.next()),
            Comparison::Before { first } if first > trace.low => trace.high = Seq(first.0.saturating_sub(1)),
            // The store has none of them yet: what memory holds may still be on its way to the disk. It is looked at again later.
            Comparison::Same { through: None } => return None,
            // The peer contradicts itself.
            Comparison::Before { .. } => trace.low = Seq(u64::MAX),
        }
        if trace.low > trace.high {
            // What differed does no longer. Should it again, the search begins anew.
            self.traces.remove(&author);
            return None;
        }
        trace.probe = Seq(trace.low.0.midpoint(trace.high.0));
        trace.through = trace.probe;
        trace.patience = SILENT_MAX;
        trace.until = told.mono.plus(SILENT_MAX);
        out.push(look(told.link, author, Span { first: trace.probe, last: trace.probe }));
        None
    }

    /// A proof that holds. Returns the fault, where it cuts deeper than what is known; `found` says whether we found it
    /// ourselves: what an operator has cleared is believed again only then.
    pub fn convict(
        &mut self,
        now: Now,
        proof: &Proof,
        found: Found,
        out: &mut Vec<Effect>,
    ) -> Option<AuthorFault> {
        let author = proof.author();
        let counts = self.known.get(&author).is_none_or(|known| match (known.cleared, found) {
            (true, Found::Here) => true,
            (true, Found::Told) | (false, _) => proof.cut() < known.cut,
        });
        if !counts {
            return None;
        }
        let fault = AuthorFault::of(proof, now.wall);
        self.known.insert(author, fault);
        self.cutting.entry(author).or_default().push_back(fault.cut);
        self.traces.remove(&author);
        let record = Record::Fault { author, found: now.wall, proof: Box::new(proof.clone()) };
        out.push(Effect::Store(vec![record]));
        out.push(Effect::Event(Event::AuthorFault { author, fault }));
        Some(fault)
    }

    /// An operator takes an author's log again. Returns whether it was convicted.
    pub fn clear(&mut self, author: NodeId, out: &mut Vec<Effect>) -> bool {
        let Some(fault) = self.known.get_mut(&author).filter(|fault| !fault.cleared) else { return false };
        fault.cleared = true;
        out.push(Effect::Store(vec![Record::Cleared { author }]));
        out.push(Effect::Event(Event::AuthorCleared { author }));
        true
    }

    /// The store has cut a log, as it was told to. Returns where.
    pub fn was_cut(&mut self, author: NodeId) -> Option<Seq> {
        let cuts = self.cutting.get_mut(&author)?;
        let cut = cuts.pop_front();
        if cuts.is_empty() {
            self.cutting.remove(&author);
        }
        cut
    }

    /// Whether an author's log ends at its cut from now on. Where an operator cleared it, it goes on, but not before the store has cut it: what
    /// came then would follow entries that are about to go.
    #[must_use]
    pub fn is_over(&self, author: NodeId) -> bool {
        self.cutting.contains_key(&author) || self.known.get(&author).is_some_and(|fault| !fault.cleared)
    }

    /// A convicted author's log is cut, or has grown towards its cut: tells everyone, and compares with what they said.
    pub fn changed(&mut self, mono: Millis, author: NodeId, authors: &mut Authors, out: &mut Vec<Effect>) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        self.tell(&links, &[author], authors, out);
        let said: Vec<(LinkId, FaultReport)> = self
            .links
            .iter()
            .filter_map(|(link, state)| Some((*link, *state.reports.get(&author)?)))
            .filter(|(_, report)| self.known.get(&author).is_some_and(|fault| fault.cut == report.cut))
            .collect();
        for (link, report) in said {
            self.compare(Told { mono, link }, report, authors, out);
        }
    }

    /// When [`Faults::tick`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        let asked = self.asked.values().map(|asked| asked.until);
        asked.chain(self.traces.values().map(|trace| trace.until)).min()
    }

    /// Asks again where a search got no answer, and others for proofs that did not come.
    pub fn tick(&mut self, mono: Millis, authors: &Authors, out: &mut Vec<Effect>) {
        // It is not given up while the link lives: the peer may never tell that head again.
        for (author, trace) in self.traces.iter_mut().filter(|(_, trace)| trace.until <= mono) {
            trace.patience = Millis(trace.patience.0.saturating_mul(2)).min(SILENT_LOOK_MAX);
            trace.until = mono.plus(trace.patience);
            out.push(look(trace.link, *author, Span { first: trace.probe, last: trace.through }));
        }
        let late: Vec<(NodeId, LinkId)> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.until <= mono)
            .map(|(author, asked)| (*author, asked.link))
            .collect();
        for (author, link) in late {
            self.asked.remove(&author);
            self.ask_someone(mono, author, Some(link), authors, out);
            // The silent peer may not have heard: its turn comes again, behind all else that it told of.
            self.ask_more(Told { mono, link }, author, authors, out);
        }
    }

    /// There is room for another proof of that peer: the next one behind that author's, in a circle.
    fn ask_more(&mut self, told: Told, behind: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        let Some(link) = self.links.get(&told.link) else { return };
        let later = link.reports.range((Bound::Excluded(behind), Bound::Unbounded));
        let next = later.chain(link.reports.range(..=behind)).map(|(_, report)| report).find(|report| {
            let known = self.known.get(&report.author).map(|fault| fault.cut);
            known.is_none_or(|cut| report.cut < cut)
                && !self.asked.contains_key(&report.author)
                && authors.get(report.author).is_some()
        });
        if let Some(author) = next.map(|report| report.author) {
            self.ask(told, author, authors, out);
        }
    }

    /// Asks somebody, but not who was silent, who says that it has a proof that cuts deeper than ours.
    fn ask_someone(
        &mut self,
        mono: Millis,
        author: NodeId,
        silent: Option<LinkId>,
        authors: &Authors,
        out: &mut Vec<Effect>,
    ) {
        let known = self.known.get(&author).map(|fault| fault.cut);
        let deeper = |report: &FaultReport| known.is_none_or(|cut| report.cut < cut);
        let others = self.links.iter().filter(|(link, _)| Some(**link) != silent);
        let who = others.into_iter().find(|(_, link)| link.reports.get(&author).is_some_and(deeper));
        if let Some(link) = who.map(|(link, _)| *link) {
            self.ask(Told { mono, link }, author, authors, out);
        }
    }

    /// Asks for a proof. Only against authors that are known: they have paid their proof of work, so their number is bounded.
    fn ask(&mut self, told: Told, author: NodeId, authors: &Authors, out: &mut Vec<Effect>) {
        let is_met = authors.get(author).is_some() || self.known.contains_key(&author);
        let asked = self.asked.values().filter(|asked| asked.link == told.link).count();
        if !is_met || self.asked.contains_key(&author) || asked >= ASKED_PER_LINK_MAX {
            return;
        }
        self.asked.insert(author, Asked { link: told.link, until: told.mono.plus(SILENT_MAX) });
        out.push(Effect::Balance { link: told.link, frame: BalanceFrame::Prove { author } });
    }

    fn tell(&self, links: &[LinkId], of: &[NodeId], authors: &mut Authors, out: &mut Vec<Effect>) {
        if links.is_empty() {
            return;
        }
        let reports: Vec<FaultReport> =
            of.iter().filter_map(|author| self.report(*author, authors)).collect();
        for chunk in reports.chunks(HEADS_PER_FRAME_MAX) {
            out.push(Effect::BalanceToAll {
                to: links.to_vec(),
                frame: BalanceFrame::Faults(chunk.to_vec()),
            });
        }
    }

    /// What is told of a convicted author, once its log is cut.
    fn report(&self, author: NodeId, authors: &mut Authors) -> Option<FaultReport> {
        let fault = self.known.get(&author).filter(|fault| !fault.cleared)?;
        let (cut, held) = (fault.cut, authors.missing_from(author).0);
        let Some(known) = authors.get_mut(author) else {
            let (hash, balance, digest) = (Hash::ZERO, MicroAtp::ZERO, [0; 32]);
            return Some(FaultReport { author, cut, held: 0, hash, balance, digest });
        };
        let digest = known.digest();
        let (hash, balance) = (known.book.hash, known.book.account.balance);
        (held <= cut.0).then_some(FaultReport { author, cut, held, hash, balance, digest })
    }
}

/// Who found a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// We did.
    Here,
    /// A peer passed it on.
    Told,
}

fn look(link: LinkId, author: NodeId, span: Span) -> Effect {
    Effect::Balance { link, frame: BalanceFrame::Mend { author, span } }
}
