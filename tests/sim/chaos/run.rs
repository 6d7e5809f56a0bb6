//! A run: what is planned happens, then all is mended, and everything has to come to rest in the same state everywhere.

#![allow(clippy::wildcard_enum_match_arm, reason = "an onlooker takes notice of a few things")]

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use cogmesh::{
    ledger::types::{MicroAtp, Seq},
    log::{Hash, NodeId},
    protocol::{
        event::Event,
        input::{DiskLow, Input},
        refusal::RefusalCode,
        view::OwnLogView,
    },
};

use super::plan::{Deed, Knows, Plan};
use crate::{
    stories::thought,
    world::{Check, Fault, Plant, Trace, Weather, World},
};

/// Within so long after all is mended, all must agree. The longest waits in it: a clock that jumped 130 s ahead is waited for
/// by those who hold its entries, and asked for again every 15 s.
const SETTLE_MS: u64 = 180_000;
/// Within so long after that most links stand that will.
const LAST_LINKS_MS: u64 = 30_000;
/// For so long nobody may ask or tell anything afterwards, unless a link is new; then it is looked at again so often.
const REST_MS: u64 = 10_000;
const RESTS: u64 = 5;
/// Entries that come on catch-up streams without being new, for each hundred that are.
const WASTE_PER_CENT_MAX: u64 = 60;
/// So many are free: a link that breaks in a catch-up has some on their way twice.
const WASTE_FREE: u64 = 200;

/// A restart takes so long at least.
const RESTART_MS: u64 = 300;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) faults: Vec<Fault>,
    pub(crate) settled_ms: u64,
    pub(crate) caught_up: u64,
    pub(crate) caught_up_new: u64,
    pub(crate) live: u64,
    pub(crate) live_new: u64,
    pub(crate) trace: u64,
    pub(crate) lines: Vec<String>,
}

/// A run, from its plan to its end.
pub(crate) struct Run {
    world: World,
    plan: Plan,
    /// Thoughts so far: each has another content.
    thoughts: u64,
    settled_ms: u64,
}

/// An author as a node sees it in the end.
type Standing = (Option<Seq>, Option<(Seq, Hash, MicroAtp, [u8; 32])>);

impl Run {
    pub(crate) fn new(seed: u64, plan: Plan, trace: Trace) -> Self {
        let mut world = World::new(seed);
        world.faults = Some(vec![]);
        world.trace = trace;
        for number in 0..plan.nodes {
            let node = world.add(&format!("node-{number}"));
            world.listens(node);
            world.set_clock(node, plan.skews_ms[node]);
        }
        for one in 0..plan.nodes {
            for other in one + 1..plan.nodes {
                if !plan.reach.joins(plan.nodes, one, other) {
                    world.cut(one, other);
                }
            }
        }
        world.weather = plan.weather;
        Self { world, plan, thoughts: 0, settled_ms: 0 }
    }

    /// With a bug in it.
    pub(crate) fn planted(mut self, plant: Plant) -> Self {
        self.world.plant = Some(plant);
        self
    }

    /// Runs it to its end. A panic is a failed check like any other.
    pub(crate) fn outcome(mut self) -> Outcome {
        let ran = catch_unwind(AssertUnwindSafe(|| self.live()));
        let mut faults = self.world.faults.take().unwrap_or_default();
        if let Err(panic) = ran {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            faults.push(Fault {
                check: Check::NoPanic,
                at: self.world.now(),
                what: what.unwrap_or_default(),
            });
        }
        let trace = std::mem::take(&mut self.world.trace);
        let tally = &self.world.tally;
        Outcome {
            faults,
            settled_ms: self.settled_ms,
            caught_up: tally.caught_up,
            caught_up_new: tally.caught_up_new,
            live: tally.live,
            live_new: tally.live_new,
            trace: trace.hash(),
            lines: if let Trace::Kept(lines) = trace { lines } else { vec![] },
        }
    }

    fn live(&mut self) {
        for node in 0..self.plan.nodes {
            let pause = self.world.random(200);
            self.world.run_for(pause);
            self.start(node);
        }
        for (at, deed) in std::mem::take(&mut self.plan.deeds) {
            let pause = at.saturating_sub(self.world.now());
            self.world.run_for(pause);
            self.world.note_fate(&deed);
            self.befall(deed);
        }
        let rest = self.plan.ends_at.saturating_sub(self.world.now());
        self.world.run_for(rest);
        self.mend();
        self.settle();
        self.look_back();
    }

    fn start(&mut self, node: usize) {
        self.world.start(node);
        for other in 0..self.plan.nodes {
            let reaches = other != node && self.plan.reach.joins(self.plan.nodes, node, other);
            if !reaches {
                continue;
            }
            match self.plan.knows {
                Knows::Everyone => self.world.hint(node, other),
                Knows::One => return self.world.hint_address(node, other),
            }
        }
    }

    fn befall(&mut self, deed: Deed) {
        let world = &mut self.world;
        match deed {
            Deed::Think { node, count } => {
                for _ in 0..count {
                    self.thoughts += 1;
                    if world.is_awake(node) {
                        world.submit(node, &thought(self.thoughts), None);
                    }
                }
            }
            Deed::Break { one, other } => world.break_links(one, other),
            Deed::Block { pairs } => pairs.iter().for_each(|(from, to)| world.block(*from, *to)),
            Deed::Unblock { pairs } => pairs.iter().for_each(|(from, to)| world.unblock(*from, *to)),
            Deed::Doom { node, effects } => world.doom(node, effects),
            Deed::Start { node } => {
                world.kill(node);
                // A process takes its time to start; by then nothing of the old one is on its way any more.
                world.run_for(RESTART_MS);
                self.start(node);
            }
            Deed::Sleep { node, ms } => world.send_to_sleep(node, ms),
            Deed::SlowDisk { node, lag_ms } => world.nodes[node].disk_lag_ms = lag_ms,
            Deed::DiskLow { node, low } => {
                world.tell(node, Input::Disk(low.then_some(DiskLow { free: 1, min: 2 })));
            }
            Deed::ClockJump { node, ms } => world.advance_clock(node, ms),
            Deed::NetworkChanged { node } => world.tell(node, Input::NetworkChanged),
            Deed::Repeat { node } => world.repeat(node),
            Deed::Choke { node, peer } => world.choke(node, peer),
            Deed::Prune { node, author } => {
                if world.holds(node, author, Seq::GENESIS) {
                    world.prune(node, author);
                    world.tally.pruned = true;
                }
            }
            Deed::Damage { node, author, seq } => {
                if world.is_awake(node) && world.holds(node, author, Seq(seq)) {
                    world.damage(node, author, Seq(seq));
                }
            }
            Deed::Betray { node, to } => self.betray(node, to),
            Deed::Fork { one, other, shared } => self.fork(one, other, shared),
        }
    }

    /// Two histories of one author, each brought by a peer.
    fn fork(&mut self, one: usize, other: usize, shared: u64) {
        let mut forger = self.world.forger();
        forger.think((0..shared).map(thought));
        for node in [one, other] {
            self.thoughts += 1;
            let mut history = forger.clone();
            history.think([thought(self.thoughts), thought(self.thoughts + 100_000)]);
            let messenger = (0..self.plan.nodes).find(|from| self.world.is_linked(*from, node));
            if let Some(messenger) = messenger {
                self.world.send_live(messenger, node, &history.segment(0));
            }
        }
    }

    /// A second history of a node, from where another node's copy of it ends: that one takes it in.
    fn betray(&mut self, node: usize, to: usize) {
        let world = &mut self.world;
        let messenger = (0..self.plan.nodes).find(|from| world.is_linked(*from, to));
        let (Some(messenger), Some(copy)) =
            (messenger, world.is_up(to).then(|| world.book(to, node)).flatten())
        else {
            return;
        };
        let Some(mut forger) = world.forger_after(node, copy.seq()) else { return };
        world.traitors.insert(node);
        self.thoughts += 2;
        if world.is_awake(node) {
            world.submit(node, &thought(self.thoughts), None);
        }
        forger.think([thought(self.thoughts + 200_000), thought(self.thoughts + 200_001)]);
        let first = usize::try_from(copy.seq().next().0).unwrap();
        world.send_live(messenger, to, &forger.segment(first));
    }

    /// Everything works again.
    fn mend(&mut self) {
        let world = &mut self.world;
        world.note_fate(&"all is mended");
        world.weather = Weather { overtaking: true, ..Weather::default() };
        world.unblock_all();
        world.set_clocks_right();
        for node in 0..self.plan.nodes {
            self.world.wake_up(node);
            self.world.spare(node);
            self.world.nodes[node].disk_lag_ms = 0;
            if !self.world.is_up(node) {
                self.start(node);
            }
            self.world.tell(node, Input::Disk(None));
            self.world.tell(node, Input::NetworkChanged);
        }
    }

    /// Waits until all agree, and looks whether they stay at rest.
    fn settle(&mut self) {
        let start = self.world.now();
        while let Some(what) = self.disagreement() {
            if self.world.now() > start + SETTLE_MS {
                return self.world.fault(Check::Agreement, what);
            }
            self.world.run_for(250);
        }
        self.settled_ms = self.world.now() - start;
        // Links that died in the end are noticed and dialled again, and each begins with a round of heads.
        self.world.run_for(LAST_LINKS_MS);
        for _ in 0..RESTS {
            let links = self.world.connections_made();
            let before = self.world.tally.balance_frames;
            self.world.run_for(REST_MS);
            let frames = self.world.tally.balance_frames - before;
            if frames == 0 {
                break;
            }
            if links == self.world.connections_made() {
                self.world.fault(Check::Rest, format!("{frames} frames though nothing is missing"));
            }
        }
        if let Some(what) = self.disagreement() {
            self.world.fault(Check::Agreement, format!("not for long: {what}"));
        }
    }

    /// Nodes whose keys are theirs alone.
    fn honest(&self) -> Vec<usize> {
        (0..self.plan.nodes).filter(|node| !self.world.traitors.contains(node)).collect()
    }

    fn standings(&self, node: usize) -> BTreeMap<NodeId, Standing> {
        let view = self.world.view(node);
        let mut standings: BTreeMap<NodeId, Standing> =
            view.known.erased.iter().map(|(author, fault)| (*author, (Some(fault.cut), None))).collect();
        for (author, known) in &view.known.authors {
            let account = &known.book.account;
            let book = (known.book.seq(), known.book.hash, account.balance, account.digest());
            standings.insert(*author, (known.fault.map(|fault| fault.cut), Some(book)));
        }
        standings
    }

    /// What is not as it should be in the end, where something is.
    fn disagreement(&self) -> Option<String> {
        let honest = self.honest();
        let first = self.standings(honest[0]);
        for node in honest {
            let view = self.world.view(node);
            if view.missing > 0 && !self.world.tally.pruned {
                return Some(format!("node {node} lacks {} contents", view.missing));
            }
            if view.own_log != OwnLogView::Open {
                return Some(format!("node {node} does not write: {:?}", view.own_log));
            }
            let ours = self.standings(node);
            for author in first.keys().chain(ours.keys()) {
                if first.get(author) != ours.get(author) {
                    let (one, other) = (show(first.get(author)), show(ours.get(author)));
                    return Some(format!("{author}: one node has {one}, node {node} has {other}"));
                }
            }
            if !ours.contains_key(&self.world.id(node)) {
                return Some(format!("node {node} has no log"));
            }
        }
        None
    }

    /// What must not have happened on the way.
    fn look_back(&mut self) {
        let mut wrong = vec![];
        for node in self.honest() {
            wrong.extend(self.world.undurable(node).map(|what| (Check::Durability, what)));
            for event in &self.world.nodes[node].events {
                let check = match event {
                    Event::Divergence { .. } => Check::NoDivergence,
                    Event::SegmentRefused { .. } | Event::RecordsRefused { .. } => Check::NoBlame,
                    Event::Refused { refusal, .. } | Event::RefusedBy { refusal, .. }
                        if !is_harmless(refusal.code)
                            && (refusal.code != RefusalCode::Forked || self.world.traitors.is_empty()) =>
                    {
                        Check::NoBlame
                    }
                    Event::OwnLogBehind { .. }
                    | Event::OwnLogAwaited { .. }
                    | Event::WritingHalted { .. }
                    | Event::Clone { .. } => Check::NoSuspicion,
                    Event::AuthorFault { author, .. } if self.world.is_honest(*author) => Check::NoSuspicion,
                    _ => continue,
                };
                wrong.push((check, format!("node {node}: {event:?}")));
            }
            wrong.extend(self.world.lost(node).map(|what| (Check::NothingLost, what)));
        }
        let tally = &self.world.tally;
        let waste = tally.caught_up.saturating_sub(tally.caught_up_new);
        if waste > WASTE_FREE + tally.caught_up_new * WASTE_PER_CENT_MAX / 100 {
            let what = format!(
                "{} entries came on catch-up streams, {} of them new",
                tally.caught_up, tally.caught_up_new
            );
            wrong.push((Check::Thrift, what));
        }
        for (check, what) in wrong {
            self.world.fault(check, what);
        }
    }
}

const fn is_harmless(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::Duplicate | RefusalCode::Stopping | RefusalCode::HandshakeTimeout | RefusalCode::TooSlow
    )
}

fn show(standing: Option<&Standing>) -> String {
    match standing {
        Some((cut, Some((seq, hash, balance, _)))) => format!("seq {seq} {hash:?} {balance:?} cut {cut:?}"),
        Some((cut, None)) => format!("nothing, cut {cut:?}"),
        None => "nothing".to_owned(),
    }
}
