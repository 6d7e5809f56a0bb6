//! Peers: which connection counts. Both sides may dial; of two links between the same nodes one stays; a dialler counts
//! itself connected only once the other side has admitted it. Whom to dial when is in `dialling.rs`.
//! Source: protocol.md, Connections.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{
    frame::{ControlFrame, Hello, Instance},
    guard::Guard,
    hello::Setup,
    input::{Effect, Ended, Event, LinkId, Method, Now, VerifiedPeer},
    refusal::{Refusal, RefusalCode},
};
use crate::{
    ledger::types::Millis,
    log::{
        NodeId,
        books::{KnownPeer, Record},
    },
};

/// From TLS to admission.
pub const HANDSHAKE_MAX: Millis = Millis(5_000);
/// Links between two nodes that are younger than this at the second one's arrival were dialled at the same time.
const SIMULTANEOUS_MAX: Millis = Millis(5_000);
/// A link whose node answers no ping for so long is replaced by one to the same node's new process.
const OLD_SILENT_MAX: Millis = Millis(1_000);
/// Pings tell the clocks; whether a link lives, QUIC's keep-alive says.
const PING_EVERY: Millis = Millis(5_000);
/// Links to one node before it is admitted: a second is what two diallers need, more are somebody's game.
const PENDING_PER_NODE_MAX: usize = 4;

/// Every link, and which of them counts.
#[derive(Debug, Default)]
pub struct Peers {
    links: BTreeMap<LinkId, Link>,
    admitted: BTreeMap<NodeId, LinkId>,
    ping_number: u64,
}

#[derive(Debug)]
struct Link {
    arrival: Arrival,
    since: Millis,
    stage: Stage,
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
    /// Its Hello is good, but an older link of another process of that node is pinged first.
    Doubted { hello: Box<Hello>, old: LinkId, ping: u64, until: Millis },
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
}

/// What a change among the links means for the rest of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link counts from now on.
    Established {
        /// Which.
        link: LinkId,
        /// To whom.
        node: NodeId,
    },
    /// A link counts no longer.
    Gone {
        /// Which.
        link: LinkId,
    },
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
}

impl Peers {
    /// A QUIC connection stands. Where we dialled, we introduce ourselves.
    pub fn connected(&mut self, context: Context<'_>, link: LinkId, arrival: Arrival, out: &mut Vec<Effect>) {
        let now = context.now;
        let Arrival { node, exporter, side, .. } = arrival;
        let stage = match side {
            Side::Dialler => Stage::Asking,
            Side::Acceptor => Stage::Greeting,
        };
        let pending = self.links.values().filter(|known| known.arrival.node == node).count();
        self.links.insert(link, Link { arrival, since: now.mono, stage });
        let refusal = match context.guard.refused_for(now.mono, node) {
            Some(left) => {
                Some(Refusal::about(RefusalCode::BackingOff, format!("for {} s yet", left.0.div_ceil(1_000))))
            }
            None if node == context.setup.id() && side == Side::Dialler => {
                Some(Refusal::plain(RefusalCode::Duplicate))
            }
            None if pending >= PENDING_PER_NODE_MAX => Some(Refusal::plain(RefusalCode::Duplicate)),
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
                admitted.heard_clock(context.now, clock);
                self.is_alive(link, number, out)
            }
            (
                Stage::Greeting | Stage::Asking | Stage::Doubted { .. } | Stage::Admitted(_),
                ControlFrame::Hello(_)
                | ControlFrame::Admitted(_)
                | ControlFrame::Ping { .. }
                | ControlFrame::Pong { .. },
            ) => {
                self.refuse(link, Refusal::about(RefusalCode::Malformed, "frame out of turn"), out);
                vec![]
            }
        }
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
            changes.push(Change::Gone { link });
        }
        changes.extend(self.undoubt(context, link, out));
        let replaced = self.admitted.contains_key(&state.arrival.node);
        let ours = matches!(state.stage, Stage::Closing);
        if let (Ended::Refused(refusal), false) = (&why, ours || replaced) {
            out.push(Effect::Event(Event::RefusedBy { id: state.arrival.node, refusal: refusal.clone() }));
        }
        if counted {
            out.push(Effect::Event(Event::PeerLost { id: state.arrival.node, why: why.clone() }));
            out.push(Effect::Verify { node: state.arrival.node });
        }
        let lost = Lost { node: state.arrival.node, counted, replaced, why };
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
        gone.into_iter().map(|link| Change::Gone { link }).collect()
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

    /// Whether there is a link to that node, admitted or on its way.
    #[must_use]
    pub fn is_linked(&self, node: NodeId) -> bool {
        self.links.values().any(|link| link.arrival.node == node && !matches!(link.stage, Stage::Closing))
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
                Stage::Greeting | Stage::Asking | Stage::Doubted { .. } | Stage::Closing => None,
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
            Stage::Doubted { until, .. } => Some(*until),
            Stage::Admitted(admitted) => Some(admitted.ping_at),
            Stage::Closing => None,
        };
        self.links.values().filter_map(due).min()
    }

    /// Does what is due: late handshakes, silent old links, pings.
    pub fn tick(&mut self, context: Context<'_>, out: &mut Vec<Effect>) -> Vec<Change> {
        let now = context.now;
        let mut late = vec![];
        let mut silent = vec![];
        for (id, link) in &mut self.links {
            match &mut link.stage {
                Stage::Greeting | Stage::Asking if link.since.plus(HANDSHAKE_MAX) <= now.mono => {
                    late.push(*id);
                }
                Stage::Doubted { until, .. } if *until <= now.mono => silent.push(*id),
                Stage::Admitted(admitted) if admitted.ping_at <= now.mono => {
                    admitted.ping_at = now.mono.plus(PING_EVERY);
                    self.ping_number = self.ping_number.wrapping_add(1);
                    let frame = ControlFrame::Ping { number: self.ping_number, clock: now.wall };
                    out.push(Effect::Control { link: *id, frame });
                }
                Stage::Greeting
                | Stage::Asking
                | Stage::Doubted { .. }
                | Stage::Admitted(_)
                | Stage::Closing => {}
            }
        }
        for link in late {
            self.refuse(link, Refusal::plain(RefusalCode::HandshakeTimeout), out);
        }
        silent.into_iter().flat_map(|link| self.trust(context, link, out)).collect()
    }

    /// The dialler said Hello.
    fn greeted(
        &mut self,
        context: Context<'_>,
        link: LinkId,
        hello: Hello,
        out: &mut Vec<Effect>,
    ) -> Vec<Change> {
        let Some(state) = self.links.get(&link) else {
            return vec![];
        };
        let node = state.arrival.node;
        let refusal = if node == context.setup.id() {
            let ourselves = hello.instance == context.setup.instance;
            Some(Refusal::plain(if ourselves { RefusalCode::Duplicate } else { RefusalCode::Clone }))
        } else {
            context.setup.check(node, &hello, &state.arrival.exporter).err()
        };
        if let Some(refusal) = refusal {
            self.refuse(link, refusal, out);
            return vec![];
        }
        match self.rival(context, link, node, hello.instance) {
            Rival::None => {
                if !self.admitted.contains_key(&node) && self.count() >= context.setup.peers_max {
                    let about = format!("{} of {}", self.count(), context.setup.peers_max);
                    self.refuse(link, Refusal::about(RefusalCode::TooManyPeers, about), out);
                    return vec![];
                }
                self.admit(context, link, hello, out)
            }
            Rival::Stays => {
                self.refuse(link, Refusal::plain(RefusalCode::Duplicate), out);
                vec![]
            }
            Rival::Doubtful(old) => {
                self.ping_number = self.ping_number.wrapping_add(1);
                let ping = self.ping_number;
                let frame = ControlFrame::Ping { number: ping, clock: context.now.wall };
                out.push(Effect::Control { link: old, frame });
                if let Some(state) = self.links.get_mut(&link) {
                    let until = context.now.mono.plus(OLD_SILENT_MAX);
                    state.stage = Stage::Doubted { hello: Box::new(hello), old, ping, until };
                }
                vec![]
            }
        }
    }

    /// Of two links between the same two processes, both nodes must keep the same one without talking about it.
    /// The accepting side of the second decides: where both dialled at once, the one that the smaller id dialled stays.
    fn rival(&self, context: Context<'_>, link: LinkId, node: NodeId, instance: Instance) -> Rival {
        let we_are_smaller = context.setup.id() < node;
        if let Some((old, state)) =
            self.admitted.get(&node).and_then(|old| Some((*old, self.links.get(old)?)))
        {
            let Stage::Admitted(admitted) = &state.stage else {
                return Rival::None;
            };
            if admitted.hello.instance != instance {
                return Rival::Doubtful(old);
            }
            let young = context.now.mono.since(admitted.since) < SIMULTANEOUS_MAX;
            return if state.arrival.side == Side::Dialler && young && we_are_smaller {
                Rival::Stays
            } else {
                Rival::None
            };
        }
        let we_ask = self.links.iter().any(|(id, other)| {
            *id != link && other.arrival.node == node && matches!(other.stage, Stage::Asking)
        });
        if we_ask && we_are_smaller { Rival::Stays } else { Rival::None }
    }

    /// Takes a peer in that introduced itself well, and introduces ourselves.
    fn admit(
        &mut self,
        context: Context<'_>,
        link: LinkId,
        hello: Hello,
        out: &mut Vec<Effect>,
    ) -> Vec<Change> {
        let Some(state) = self.links.get(&link) else {
            return vec![];
        };
        let ours = context.setup.hello(context.now, &state.arrival.exporter);
        out.push(Effect::Control { link, frame: ControlFrame::Admitted(Box::new(ours)) });
        self.establish(context, link, hello, out)
    }

    /// The accepting side took us in.
    fn answered(
        &mut self,
        context: Context<'_>,
        link: LinkId,
        hello: Hello,
        out: &mut Vec<Effect>,
    ) -> Vec<Change> {
        let Some(state) = self.links.get(&link) else {
            return vec![];
        };
        match context.setup.check(state.arrival.node, &hello, &state.arrival.exporter) {
            Ok(()) => self.establish(context, link, hello, out),
            Err(refusal) => {
                self.refuse(link, refusal, out);
                vec![]
            }
        }
    }

    /// From now on that link counts, and no other to its node.
    fn establish(
        &mut self,
        context: Context<'_>,
        link: LinkId,
        hello: Hello,
        out: &mut Vec<Effect>,
    ) -> Vec<Change> {
        let now = context.now;
        let Some(state) = self.links.get_mut(&link) else {
            return vec![];
        };
        let (node, address, dialled) =
            (state.arrival.node, state.arrival.address, state.arrival.side == Side::Dialler);
        let name = hello.record.name().clone();
        let known = remember(&hello, address, now);
        let mut admitted =
            Admitted { hello, since: now.mono, ping_at: now.mono.plus(PING_EVERY), clock_ahead_ms: 0 };
        let clock = admitted.hello.clock;
        admitted.heard_clock(now, clock);
        state.stage = Stage::Admitted(Box::new(admitted));
        let mut changes = vec![];
        let before = self.admitted.insert(node, link);
        let others: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(id, other)| {
                **id != link && other.arrival.node == node && !matches!(other.stage, Stage::Closing)
            })
            .map(|(id, _)| *id)
            .collect();
        for other in others {
            self.end(other, Refusal::plain(RefusalCode::Duplicate), out);
        }
        if let Some(before) = before {
            changes.push(Change::Gone { link: before });
            out.push(Effect::Event(Event::LinkReplaced { id: node }));
        } else {
            out.push(Effect::Event(Event::PeerVerified { id: node, name, address, dialled }));
        }
        out.push(Effect::Admit { link });
        out.push(Effect::Store(vec![Record::Peer { id: node, peer: known }]));
        changes.push(Change::Established { link, node });
        changes
    }

    /// The old link's node answered: its key is live in two places.
    fn is_alive(&mut self, old: LinkId, number: u64, out: &mut Vec<Effect>) -> Vec<Change> {
        let doubted = self.links.iter().find(
            |(_, link)| matches!(&link.stage, Stage::Doubted { old: o, ping, .. } if *o == old && *ping == number),
        );
        if let Some(link) = doubted.map(|(id, _)| *id) {
            self.refuse(link, Refusal::plain(RefusalCode::Clone), out);
        }
        vec![]
    }

    /// An old link ended while a new one waited for it.
    fn undoubt(&mut self, context: Context<'_>, old: LinkId, out: &mut Vec<Effect>) -> Vec<Change> {
        let waits =
            |link: &Link| matches!(&link.stage, Stage::Doubted { old: doubted, .. } if *doubted == old);
        let waiting: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| waits(link)).map(|(id, _)| *id).collect();
        waiting.into_iter().flat_map(|link| self.trust(context, link, out)).collect()
    }

    /// The old link was silent: its process is gone, and the new one takes its place.
    fn trust(&mut self, context: Context<'_>, link: LinkId, out: &mut Vec<Effect>) -> Vec<Change> {
        let Some(state) = self.links.get_mut(&link) else {
            return vec![];
        };
        match std::mem::replace(&mut state.stage, Stage::Greeting) {
            Stage::Doubted { hello, .. } => self.admit(context, link, *hello, out),
            other @ (Stage::Greeting | Stage::Asking | Stage::Admitted(_) | Stage::Closing) => {
                state.stage = other;
                vec![]
            }
        }
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
            out.push(Effect::Close { link, refusal });
        }
    }
}

enum Rival {
    None,
    Stays,
    Doubtful(LinkId),
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
    /// Why.
    pub why: Ended,
}

impl Admitted {
    fn heard_clock(&mut self, now: Now, clock: Millis) {
        let theirs = i64::try_from(clock.0).unwrap_or(i64::MAX);
        let ours = i64::try_from(now.wall.0).unwrap_or(i64::MAX);
        self.clock_ahead_ms = theirs.saturating_sub(ours);
    }
}

/// Where to find that peer next time: where it was reached, then where it says it listens.
fn remember(hello: &Hello, address: SocketAddr, now: Now) -> KnownPeer {
    let mut addresses = vec![address];
    for told in hello.record.addresses() {
        if !addresses.contains(told) && addresses.len() < crate::log::books::ADDRESSES_MAX {
            addresses.push(*told);
        }
    }
    KnownPeer { name: hello.record.name().clone(), addresses, seen: now.wall }
}
