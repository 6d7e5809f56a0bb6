//! Peers: which connection counts. Both sides may dial; of two links between the same nodes one stays; a dialler counts
//! itself connected only once the other side has admitted it. How that comes about is in `peers/joining.rs`; whom to dial
//! when is in `dialling.rs`.
//! Source: protocol.md, Connections.

mod answers;
mod joining;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use self::answers::Answer;
use super::{
    event::Event,
    frame::{ControlFrame, Hello, Instance, SignedRecord},
    guard::Guard,
    hello::Setup,
    input::{Effect, Ended, LinkId, Now},
    overlay::Room,
    refusal::{Refusal, RefusalCode},
    view::{Method, VerifiedPeer},
};
use crate::{
    ledger::types::Millis,
    log::{Alive, NodeId, Revocation, books::KnownPeer},
};

/// From TLS to admission.
pub const HANDSHAKE_MAX: Millis = Millis(5_000);
/// Pings tell the clocks; whether a link lives, QUIC's keep-alive says.
const PING_EVERY: Millis = Millis(5_000);
/// Links to one node before it is admitted: a second is what two diallers need, more are somebody's game.
const PENDING_PER_NODE_MAX: usize = 4;

/// How often one node is taken in within [`ADMISSIONS_WINDOW`]: each time it is told all heads. A node that is restarted five times a
/// second, as our own tests do, stays below it.
const ADMISSIONS_MAX: usize = 300;
/// The window in which they count.
const ADMISSIONS_WINDOW: Millis = Millis(60_000);

/// Every link, and which of them counts.
#[derive(Debug, Default)]
pub struct Peers {
    links: BTreeMap<LinkId, Link>,
    admitted: BTreeMap<NodeId, LinkId>,
    /// When nodes were taken in, within [`ADMISSIONS_WINDOW`].
    admissions: BTreeMap<NodeId, VecDeque<Millis>>,
    ping_number: u64,
}

/// A link that counts, for whoever weighs them.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// To whom.
    pub node: NodeId,
    /// Since when it counts.
    pub since: Millis,
    /// Which side we are.
    pub side: Side,
}

#[derive(Debug)]
struct Link {
    arrival: Arrival,
    since: Millis,
    stage: Stage,
    want_of_room: WantOfRoom,
    /// For what we ended it.
    refused: Option<RefusalCode>,
}

/// Whether a link was ended by us because there were too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantOfRoom {
    /// It was not.
    No,
    /// It made room for another one.
    GivenUp,
    /// There was no room for it.
    TurnedAway,
}

/// A connection as it came up.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The key that TLS proved.
    pub node: NodeId,
    /// The other end.
    pub address: SocketAddr,
    /// The TLS exporter.
    pub exporter: [u8; 32],
    /// Which side we are.
    pub side: Side,
}

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We did.
    Dialler,
    /// The other node did.
    Acceptor,
}

#[derive(Debug)]
enum Stage {
    /// We accepted, and wait for the Hello.
    Greeting,
    /// We dialled and said Hello, and wait for the answer.
    Asking,
    /// Its Hello is good, but the node of an older link of another process with that key is asked first whether it lives.
    Doubted { hello: Box<Hello>, old: LinkId, until: Millis },
    /// The older link's node lives: the key is live in two places. This one may prove that it lives, too, and is refused then.
    Cloned { hello: Box<Hello>, old: LinkId, until: Millis },
    /// It counts.
    Admitted(Box<Admitted>),
    /// We ended it; what still comes is not read.
    Closing,
}

#[derive(Debug)]
struct Admitted {
    hello: Hello,
    since: Millis,
    ping_at: Millis,
    clock_ahead_ms: i64,
    answer: Answer,
}

/// What a change among the links means for the rest of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link counts from now on.
    Established {
        /// Which.
        link: LinkId,
        /// To whom.
        node: NodeId,
        /// What to remember of it.
        known: KnownPeer,
        /// Its record, checked.
        record: SignedRecord,
        /// Which side we are.
        side: Side,
    },
    /// A node introduced itself well, and there was no room for it.
    TurnedAway {
        /// Its record, checked.
        record: SignedRecord,
    },
    /// Records were passed along, by a peer or a node that has no room for us; not checked.
    Records {
        /// By whom.
        via: NodeId,
        /// What.
        records: Vec<SignedRecord>,
    },
    /// A peer told who is a member no more; not checked.
    Revocations {
        /// Who told.
        via: NodeId,
        /// What.
        revocations: Vec<Revocation>,
    },
    /// A link counts no longer.
    Gone {
        /// Which.
        link: LinkId,
        /// To whom it was.
        node: NodeId,
    },
    /// Another process with our own key is alive.
    CloneOfUs,
}

/// What a control frame is judged with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// This node.
    pub setup: &'a Setup,
    /// Who is refused for a while.
    pub guard: &'a Guard,
    /// When.
    pub now: Now,
    /// Whether one more node may be linked.
    pub room: &'a Room,
}

impl Peers {
    /// A QUIC connection stands. Where we dialled, we introduce ourselves.
    pub fn connected(&mut self, context: Context<'_>, link: LinkId, arrival: Arrival, out: &mut Vec<Effect>) {
        let now = context.now;
        let Arrival { node, exporter, side, .. } = arrival;
        let pending = self.links.values().filter(|known| known.arrival.node == node).count();
        self.arrived(now, link, arrival);
        let refusal = match context.guard.refused_for(now.mono, node) {
            Some(left) => {
                Some(Refusal::about(RefusalCode::BackingOff, format!("for {} s yet", left.0.div_ceil(1_000))))
            }
            None if pending >= PENDING_PER_NODE_MAX => Some(Refusal::plain(RefusalCode::Duplicate)),
            None if self.admissions_of(now.mono, node) >= ADMISSIONS_MAX => {
                let about = format!("{ADMISSIONS_MAX} connections within a minute");
                Some(Refusal::about(RefusalCode::BackingOff, about))
            }
            None => None,
        };
        if let Some(refusal) = refusal {
            return self.refuse(link, refusal, out);
        }
        if side == Side::Dialler {
            let hello = context.setup.hello(now, &exporter);
            out.push(Effect::Control { link, frame: ControlFrame::Hello(Box::new(hello)) });
        }
    }

    /// A QUIC connection stands, and nothing was said on it yet.
    pub fn arrived(&mut self, now: Now, link: LinkId, arrival: Arrival) {
        let stage = match arrival.side {
            Side::Dialler => Stage::Asking,
            Side::Acceptor => Stage::Greeting,
        };
        self.links.insert(
            link,
            Link { arrival, since: now.mono, stage, want_of_room: WantOfRoom::No, refused: None },
        );
    }

    /// A control frame. Returns what it changed.
    pub fn control(
        &mut self,
        context: Context<'_>,
        link: LinkId,
        frame: ControlFrame,
        out: &mut Vec<Effect>,
    ) -> Vec<Change> {
        let Some(state) = self.links.get_mut(&link) else {
            return vec![];
        };
        match (&mut state.stage, frame) {
            (Stage::Closing, _) => vec![],
            (Stage::Greeting, ControlFrame::Hello(hello)) => self.greeted(context, link, *hello, out),
            (Stage::Asking, ControlFrame::Admitted(hello)) => self.answered(context, link, *hello, out),
            // The shell closes after a refusal, and then tells with what.
            (_, ControlFrame::Refused(_)) => vec![],
            (Stage::Admitted(admitted), ControlFrame::Ping { number, clock }) => {
                admitted.heard_clock(context.now, clock);
                let frame = ControlFrame::Pong { number, clock: context.now.wall };
                out.push(Effect::Control { link, frame });
                vec![]
            }
            (Stage::Admitted(admitted), ControlFrame::Pong { number, clock }) => {
                admitted.answer.heard(number);
                admitted.heard_clock(context.now, clock);
                vec![]
            }
            // Asked as a peer, or by a node that has not let us in yet.
            (Stage::Admitted(_) | Stage::Asking, ControlFrame::Rival { instance }) => {
                prove_life(context.setup, link, instance, out);
                vec![]
            }
            (Stage::Admitted(_) | Stage::Asking, ControlFrame::Clone(alive)) => {
                self.told_of_a_clone(context.setup, link, &alive, out)
            }
            // The accepting side counts us in already.
            (
                Stage::Doubted { .. } | Stage::Cloned { .. },
                ControlFrame::Ping { .. }
                | ControlFrame::Records(_)
                | ControlFrame::About { .. }
                | ControlFrame::Revocations(_),
            ) => vec![],
            (Stage::Admitted(_), ControlFrame::Revocations(revocations)) => {
                vec![Change::Revocations { via: state.arrival.node, revocations }]
            }
            (Stage::Admitted(_), ControlFrame::About { software }) => {
                out.push(Effect::Event(Event::PeerSoftware { id: state.arrival.node, software }));
                vec![]
            }
            // By a peer, or by a node that is about to turn us away.
            (Stage::Admitted(_) | Stage::Asking, ControlFrame::Records(records)) => {
                vec![Change::Records { via: state.arrival.node, records }]
            }
            (Stage::Admitted(_) | Stage::Cloned { .. }, ControlFrame::Alive(alive)) => {
                self.is_alive(context, link, &alive, out);
                vec![]
            }
            (
                Stage::Greeting
                | Stage::Asking
                | Stage::Doubted { .. }
                | Stage::Cloned { .. }
                | Stage::Admitted(_),
                ControlFrame::Hello(_)
                | ControlFrame::Admitted(_)
                | ControlFrame::Ping { .. }
                | ControlFrame::Pong { .. }
                | ControlFrame::Rival { .. }
                | ControlFrame::Alive(_)
                | ControlFrame::Clone(_)
                | ControlFrame::Records(_)
                | ControlFrame::About { .. }
                | ControlFrame::Revocations(_),
            ) => {
                self.refuse(link, Refusal::about(RefusalCode::Malformed, "frame out of turn"), out);
                vec![]
            }
        }
    }

    /// Another process should be alive with our key.
    fn told_of_a_clone(
        &mut self,
        setup: &Setup,
        link: LinkId,
        alive: &Alive,
        out: &mut Vec<Effect>,
    ) -> Vec<Change> {
        let changes = clone_of_us(setup, alive);
        if changes.is_empty() {
            self.refuse(link, Refusal::about(RefusalCode::Malformed, "sign of life"), out);
        }
        changes
    }

    /// A connection ended. Returns what it changed, and whether it counted.
    pub fn disconnected(
        &mut self,
        context: Context<'_>,
        link: LinkId,
        why: Ended,
        out: &mut Vec<Effect>,
    ) -> (Vec<Change>, Option<Lost>) {
        let Some(state) = self.links.remove(&link) else {
            return (vec![], None);
        };
        let mut changes = vec![];
        let counted = self.admitted.get(&state.arrival.node) == Some(&link);
        if counted {
            self.admitted.remove(&state.arrival.node);
            changes.push(Change::Gone { link, node: state.arrival.node });
        }
        // TLS proved that whoever refused us there holds our key, and it is another process, or it had called us a duplicate.
        if state.arrival.node == context.setup.id()
            && matches!(&why, Ended::Refused(refusal) if refusal.code == RefusalCode::Clone)
        {
            changes.push(Change::CloneOfUs);
        }
        changes.extend(self.undoubt(context, link, out));
        let replaced = self.admitted.contains_key(&state.arrival.node);
        // A refusal that we caused, that concerns a link which another one replaced, or that is a goodbye, is none.
        let ours = matches!(state.stage, Stage::Closing);
        if let Ended::Refused(refusal) = &why
            && !ours
            && !replaced
            && !matches!(refusal.code, RefusalCode::Duplicate | RefusalCode::Stopping)
        {
            out.push(Effect::Event(Event::RefusedBy { id: state.arrival.node, refusal: refusal.clone() }));
        }
        if counted {
            out.push(Effect::Event(Event::PeerLost { id: state.arrival.node, why: why.clone() }));
            // Who makes room for another lives, and discovery need not ask.
            let makes_room =
                matches!(&why, Ended::Refused(refusal) if refusal.code == RefusalCode::TooManyPeers);
            if !makes_room {
                out.push(Effect::Verify { node: state.arrival.node });
            }
        }
        let Link { want_of_room, refused, .. } = state;
        let lost = Lost { node: state.arrival.node, counted, replaced, want_of_room, refused, why };
        (changes, Some(lost))
    }

    /// Ends every link to a node that has to go. Returns what it changed.
    pub fn expel(&mut self, node: NodeId, refusal: &Refusal, out: &mut Vec<Effect>) -> Vec<Change> {
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.arrival.node == node).map(|(id, _)| *id).collect();
        for link in links {
            self.refuse(link, refusal.clone(), out);
        }
        let gone = self.admitted.remove(&node);
        gone.into_iter().map(|link| Change::Gone { link, node }).collect()
    }

    /// Gives the link to a node up, so that there is room for another one. Returns what it changed.
    pub fn give_up(&mut self, node: NodeId, out: &mut Vec<Effect>) -> Vec<Change> {
        if let Some(state) = self.admitted.get(&node).and_then(|link| self.links.get_mut(link)) {
            state.want_of_room = WantOfRoom::GivenUp;
        }
        self.expel(node, &Refusal::plain(RefusalCode::TooManyPeers), out)
    }

    /// The node behind a link that counts.
    #[must_use]
    pub fn node_of(&self, link: LinkId) -> Option<NodeId> {
        let state = self.links.get(&link)?;
        matches!(state.stage, Stage::Admitted(_)).then_some(state.arrival.node)
    }

    /// The other end of a link.
    #[must_use]
    pub fn address_of(&self, link: LinkId) -> Option<SocketAddr> {
        self.links.get(&link).map(|state| state.arrival.address)
    }

    /// Every node to which there is a link, admitted or on its way.
    #[must_use]
    pub fn linked(&self) -> BTreeSet<NodeId> {
        let live = self.links.values().filter(|link| !matches!(link.stage, Stage::Closing));
        live.map(|link| link.arrival.node).collect()
    }

    /// How many links that we dialled wait for admission.
    #[must_use]
    pub fn asking(&self) -> usize {
        self.links.values().filter(|link| matches!(link.stage, Stage::Asking)).count()
    }

    /// The node behind a link, whether it counts or not, and which side of it we are.
    #[must_use]
    pub fn arrival_of(&self, link: LinkId) -> Option<(NodeId, Side)> {
        self.links.get(&link).map(|state| (state.arrival.node, state.arrival.side))
    }

    /// Whether a link to that node counts.
    #[must_use]
    pub fn is_admitted(&self, node: NodeId) -> bool {
        self.admitted.contains_key(&node)
    }

    /// Every link that counts, to be weighed.
    pub fn standing(&self) -> impl Iterator<Item = Standing> {
        self.admitted.iter().filter_map(|(node, link)| {
            let state = self.links.get(link)?;
            let Stage::Admitted(admitted) = &state.stage else { return None };
            Some(Standing { node: *node, since: admitted.since, side: state.arrival.side })
        })
    }

    /// Every link that counts, with its node.
    #[must_use]
    pub fn counting(&self) -> Vec<(LinkId, NodeId)> {
        self.admitted.iter().map(|(node, link)| (*link, *node)).collect()
    }

    fn admissions_of(&self, mono: Millis, node: NodeId) -> usize {
        let recent = |at: &&Millis| mono.since(**at) < ADMISSIONS_WINDOW;
        self.admissions.get(&node).map_or(0, |times| times.iter().filter(recent).count())
    }

    fn count_admission(&mut self, mono: Millis, node: NodeId) {
        let times = self.admissions.entry(node).or_default();
        times.push_back(mono);
        // One time more than counts is never needed.
        if times.len() > ADMISSIONS_MAX {
            times.pop_front();
        }
        let is_recent = |at: &Millis| mono.since(*at) < ADMISSIONS_WINDOW;
        self.admissions.retain(|_, times| times.back().is_some_and(is_recent));
    }

    /// Every node whose link counts.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.admitted.keys().copied()
    }

    /// How many links count.
    #[must_use]
    pub fn count(&self) -> usize {
        self.admitted.len()
    }

    /// Every peer whose link counts.
    pub fn verified(&self, mono: Millis) -> impl Iterator<Item = (NodeId, String, VerifiedPeer)> {
        self.admitted.iter().filter_map(move |(node, link)| {
            let state = self.links.get(link)?;
            let Stage::Admitted(admitted) = &state.stage else {
                return None;
            };
            let claim = &admitted.hello.claim;
            let peer = VerifiedPeer {
                link: *link,
                address: state.arrival.address,
                dialled: state.arrival.side == Side::Dialler,
                method: Method::SoftwareBridge,
                connected: mono.since(admitted.since),
                hardware: claim.hardware,
                level: claim.level.number(),
                arch: claim.arch.clone(),
                clock_ahead_ms: admitted.clock_ahead_ms,
            };
            Some((*node, admitted.hello.record.name().to_string(), peer))
        })
    }

    /// How far the median clock of the verified peers is ahead of ours, in milliseconds; `None` without peers.
    #[must_use]
    pub fn median_clock_ahead_ms(&self) -> Option<i64> {
        let mut ahead: Vec<i64> = self
            .links
            .values()
            .filter_map(|link| match &link.stage {
                Stage::Admitted(admitted) => Some(admitted.clock_ahead_ms),
                Stage::Greeting
                | Stage::Asking
                | Stage::Doubted { .. }
                | Stage::Cloned { .. }
                | Stage::Closing => None,
            })
            .collect();
        ahead.sort_unstable();
        ahead.get(ahead.len() / 2).copied()
    }

    /// When [`Peers::tick`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        let due = |link: &Link| match &link.stage {
            Stage::Greeting | Stage::Asking => Some(link.since.plus(HANDSHAKE_MAX)),
            Stage::Doubted { until, .. } | Stage::Cloned { until, .. } => Some(*until),
            Stage::Admitted(admitted) => admitted.answer.until().into_iter().chain([admitted.ping_at]).min(),
            Stage::Closing => None,
        };
        self.links.values().filter_map(due).min()
    }

    /// Does what is due: late handshakes, silent old links, pings.
    pub fn tick(&mut self, context: Context<'_>, out: &mut Vec<Effect>) -> Vec<Change> {
        let now = context.now;
        let mut late = vec![];
        let mut silent = vec![];
        let mut cloned = vec![];
        for (id, link) in &mut self.links {
            match &mut link.stage {
                Stage::Greeting | Stage::Asking if link.since.plus(HANDSHAKE_MAX) <= now.mono => {
                    late.push(*id);
                }
                Stage::Doubted { until, .. } if *until <= now.mono => silent.push(*id),
                Stage::Cloned { until, .. } if *until <= now.mono => cloned.push(*id),
                Stage::Admitted(admitted) if admitted.ping_at <= now.mono => {
                    admitted.ping_at = now.mono.plus(PING_EVERY);
                    self.ping_number = self.ping_number.wrapping_add(1);
                    let frame = ControlFrame::Ping { number: self.ping_number, clock: now.wall };
                    out.push(Effect::Control { link: *id, frame });
                }
                Stage::Greeting
                | Stage::Asking
                | Stage::Doubted { .. }
                | Stage::Cloned { .. }
                | Stage::Admitted(_)
                | Stage::Closing => {}
            }
        }
        for link in cloned {
            self.refuse(link, Refusal::plain(RefusalCode::Clone), out);
        }
        for link in late {
            self.refuse(link, Refusal::plain(RefusalCode::HandshakeTimeout), out);
        }
        silent.into_iter().flat_map(|link| self.trust(context, link, out)).collect()
    }

    /// Ends a link with a reason that is told and counted.
    fn refuse(&mut self, link: LinkId, refusal: Refusal, out: &mut Vec<Effect>) {
        let id = self.links.get(&link).map(|state| state.arrival.node);
        if refusal.code != RefusalCode::Duplicate {
            out.push(Effect::Event(Event::Refused { id, refusal: refusal.clone() }));
        }
        self.end(link, refusal, out);
    }

    fn end(&mut self, link: LinkId, refusal: Refusal, out: &mut Vec<Effect>) {
        if let Some(state) = self.links.get_mut(&link) {
            state.stage = Stage::Closing;
            state.refused = Some(refusal.code);
            out.push(Effect::Close { link, refusal });
        }
    }
}

/// A connection that ended, for whoever dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// To whom.
    pub node: NodeId,
    /// Whether it counted.
    pub counted: bool,
    /// Whether another link to that node counts.
    pub replaced: bool,
    /// Whether we ended it for want of room.
    pub want_of_room: WantOfRoom,
    /// For what we ended it, where we did.
    pub refused: Option<RefusalCode>,
    /// Why.
    pub why: Ended,
}

/// Proves to another process with our key, through whoever asks, that we are alive.
fn prove_life(setup: &Setup, link: LinkId, other: Instance, out: &mut Vec<Effect>) {
    if other != setup.instance {
        let alive = Alive::sign(&setup.identity, &setup.federation, setup.instance.0, other.0);
        out.push(Effect::Control { link, frame: ControlFrame::Alive(alive) });
    }
}

/// Whether that is a proof that another process with our key is alive: signed by our key, by another process, for this one.
fn clone_of_us(setup: &Setup, alive: &Alive) -> Vec<Change> {
    let is_for_us = alive.other == setup.instance.0 && alive.instance != setup.instance.0;
    match is_for_us && alive.verify(&setup.federation, &setup.id()).is_ok() {
        true => vec![Change::CloneOfUs],
        false => vec![],
    }
}

impl Admitted {
    fn heard_clock(&mut self, now: Now, clock: Millis) {
        let theirs = i64::try_from(clock.0).unwrap_or(i64::MAX);
        let ours = i64::try_from(now.wall.0).unwrap_or(i64::MAX);
        self.clock_ahead_ms = theirs.saturating_sub(ours);
    }
}
