//! Joining: how a connection comes to count. Hello is checked, an older link to the same node is weighed against the new
//! one, and only then is the peer told that it is in. Source: protocol.md, Connections and The log (clones).

use std::net::SocketAddr;

use super::{Admitted, Answer, Change, Context, Link, PING_EVERY, Peers, Side, Stage, WantOfRoom};
use crate::{
    ledger::types::Millis,
    log::{
        Alive, NodeId,
        books::{ADDRESSES_MAX, KnownPeer},
    },
    protocol::{
        event::Event,
        frame::{ControlFrame, Hello, Instance, SOFTWARE, SignedRecord},
        input::{Effect, LinkId, Now},
        overlay::Room,
        refusal::{Refusal, RefusalCode},
    },
};

/// Links between two nodes that are younger than this at the second one's arrival were dialled at the same time.
const SIMULTANEOUS_MAX: Millis = Millis(5_000);
/// A link whose node answers no ping for so long is replaced by one to the same node's new process.
const OLD_SILENT_MAX: Millis = Millis(1_000);

/// What an older link to the same node means for a new one.
enum Rival {
    None,
    Stays,
    Doubtful(LinkId),
}

impl Peers {
    /// The dialler said Hello.
    pub(super) fn greeted(
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
        if let Err(refusal) = context.setup.check(node, &hello, &state.arrival.exporter) {
            self.refuse(link, refusal, out);
            return vec![];
        }
        if node == context.setup.id() {
            let ourselves = hello.instance == context.setup.instance;
            let code = if ourselves { RefusalCode::Duplicate } else { RefusalCode::Clone };
            self.refuse(link, Refusal::plain(code), out);
            // TLS proved that it holds our key; that it runs, it just showed.
            return if ourselves { vec![] } else { vec![Change::CloneOfUs] };
        }
        match self.rival(context, link, node, hello.instance) {
            Rival::None => {
                let mut changes = vec![];
                if !self.admitted.contains_key(&node) {
                    match context.room {
                        Room::Free => {}
                        Room::InPlaceOf(other) => changes = self.give_up(*other, out),
                        Room::Full(others) => return self.turn_away(context, link, &hello, others, out),
                    }
                }
                changes.extend(self.admit(context, link, hello, out));
                changes
            }
            Rival::Stays => {
                self.refuse(link, Refusal::plain(RefusalCode::Duplicate), out);
                vec![]
            }
            Rival::Doubtful(old) => {
                self.doubt(context, link, old, hello, out);
                vec![]
            }
        }
    }

    /// There is no room for a node that introduced itself well: it is told where else to try.
    fn turn_away(
        &mut self,
        context: Context<'_>,
        link: LinkId,
        hello: &Hello,
        others: &[SignedRecord],
        out: &mut Vec<Effect>,
    ) -> Vec<Change> {
        if !others.is_empty() {
            out.push(Effect::Control { link, frame: ControlFrame::Records(others.to_vec()) });
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.want_of_room = WantOfRoom::TurnedAway;
        }
        let about = format!("{} of {}", self.count(), context.setup.peers_max);
        self.refuse(link, Refusal::about(RefusalCode::TooManyPeers, about), out);
        vec![Change::TurnedAway { record: record_of(hello) }]
    }

    /// An admitted link to another process with that key.
    fn older_process(&self, node: NodeId, instance: Instance) -> Option<LinkId> {
        let old = *self.admitted.get(&node)?;
        match &self.links.get(&old)?.stage {
            Stage::Admitted(admitted) => (admitted.hello.instance != instance).then_some(old),
            Stage::Greeting
            | Stage::Asking
            | Stage::Doubted { .. }
            | Stage::Cloned { .. }
            | Stage::Closing => None,
        }
    }

    /// Asks the older process whether it lives, before the newer one takes its place.
    fn doubt(
        &mut self,
        context: Context<'_>,
        link: LinkId,
        old: LinkId,
        hello: Hello,
        out: &mut Vec<Effect>,
    ) {
        let frame = ControlFrame::Rival { instance: hello.instance };
        out.push(Effect::Control { link: old, frame });
        if let Some(state) = self.links.get_mut(&link) {
            let until = context.now.mono.plus(OLD_SILENT_MAX);
            state.stage = Stage::Doubted { hello: Box::new(hello), old, until };
        }
    }

    /// Of two links between the same two processes, both nodes must keep the same one without talking about it.
    /// The accepting side of the second decides: where both dialled at once, the one that both have admitted already stays,
    /// because entries are on their way over it; else the one that the smaller id dialled.
    fn rival(&self, context: Context<'_>, link: LinkId, node: NodeId, instance: Instance) -> Rival {
        if let Some((old, state)) =
            self.admitted.get(&node).and_then(|old| Some((*old, self.links.get(old)?)))
        {
            let Stage::Admitted(admitted) = &state.stage else {
                return Rival::None;
            };
            if admitted.hello.instance != instance {
                return Rival::Doubtful(old);
            }
            // Who accepted it admitted it before we did.
            let young = context.now.mono.since(admitted.since) < SIMULTANEOUS_MAX;
            return if state.arrival.side == Side::Dialler && young { Rival::Stays } else { Rival::None };
        }
        let we_ask = self.links.iter().any(|(id, other)| {
            *id != link && other.arrival.node == node && matches!(other.stage, Stage::Asking)
        });
        if we_ask && context.setup.id() < node { Rival::Stays } else { Rival::None }
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
    pub(super) fn answered(
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
        if let Err(refusal) = context.setup.check(node, &hello, &state.arrival.exporter) {
            self.refuse(link, refusal, out);
            return vec![];
        }
        match self.older_process(node, hello.instance) {
            Some(old) => {
                self.doubt(context, link, old, hello, out);
                vec![]
            }
            None => {
                let mut changes = vec![];
                if !self.admitted.contains_key(&node) {
                    match context.room {
                        Room::Free => {}
                        Room::InPlaceOf(other) => changes = self.give_up(*other, out),
                        // Others came in while we asked.
                        Room::Full(_) => return self.turn_away(context, link, &hello, &[], out),
                    }
                }
                changes.extend(self.establish(context, link, hello, out));
                changes
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
        let (node, address, side) = (state.arrival.node, state.arrival.address, state.arrival.side);
        let dialled = side == Side::Dialler;
        let record = record_of(&hello);
        let name = hello.record.name().clone();
        let known = remember(&hello, address, now);
        let mut admitted = Admitted {
            hello,
            since: now.mono,
            ping_at: now.mono.plus(PING_EVERY),
            clock_ahead_ms: 0,
            answer: Answer::default(),
        };
        let clock = admitted.hello.clock;
        admitted.heard_clock(now, clock);
        state.stage = Stage::Admitted(Box::new(admitted));
        let mut changes = vec![];
        self.count_admission(now.mono, node);
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
            changes.push(Change::Gone { link: before, node });
            out.push(Effect::Event(Event::LinkReplaced { id: node }));
        } else {
            out.push(Effect::Event(Event::PeerVerified { id: node, name, address, dialled }));
        }
        out.push(Effect::Admit { link });
        let about = ControlFrame::About { software: SOFTWARE.to_owned() };
        out.push(Effect::Control { link, frame: about });
        changes.push(Change::Established { link, node, known, record, side });
        changes
    }

    /// A process proves that it lives. Where another one with the same key waits for that, the key is live in two places: each
    /// is shown the other's proof, so that neither has to believe us, and the newer link is refused.
    pub(super) fn is_alive(
        &mut self,
        context: Context<'_>,
        link: LinkId,
        alive: &Alive,
        out: &mut Vec<Effect>,
    ) {
        let Some(node) = self.links.get(&link).map(|state| state.arrival.node) else { return };
        if alive.verify(&context.setup.federation, &node).is_err() {
            return self.refuse(link, Refusal::about(RefusalCode::Malformed, "sign of life"), out);
        }
        if let Some(old) = self.links.get(&link).and_then(|state| state.stage.rival()) {
            // The newer one, after the older one was heard: now both have proved it.
            out.push(Effect::Control { link: old, frame: ControlFrame::Clone(*alive) });
            return self.refuse(link, Refusal::plain(RefusalCode::Clone), out);
        }
        let waits = |other: &&mut Link| match &other.stage {
            Stage::Doubted { hello, old, .. } => *old == link && hello.instance.0 == alive.other,
            Stage::Greeting | Stage::Asking | Stage::Cloned { .. } | Stage::Admitted(_) | Stage::Closing => {
                false
            }
        };
        let doubted = self.links.iter_mut().map(|(id, other)| (*id, other)).find(|(_, other)| waits(other));
        let Some((newer, state)) = doubted else { return };
        if let Stage::Doubted { hello, old, .. } = std::mem::replace(&mut state.stage, Stage::Greeting) {
            let until = context.now.mono.plus(OLD_SILENT_MAX);
            state.stage = Stage::Cloned { hello, old, until };
        }
        out.push(Effect::Event(Event::Clone { id: node, own: false }));
        out.push(Effect::Control { link: newer, frame: ControlFrame::Clone(*alive) });
        let frame = ControlFrame::Rival { instance: Instance(alive.instance) };
        out.push(Effect::Control { link: newer, frame });
    }

    /// An old link ended while a new one waited for it.
    pub(super) fn undoubt(
        &mut self,
        context: Context<'_>,
        old: LinkId,
        out: &mut Vec<Effect>,
    ) -> Vec<Change> {
        let waits = |link: &Link| link.stage.doubts() == Some(old);
        let waiting: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| waits(link)).map(|(id, _)| *id).collect();
        waiting.into_iter().flat_map(|link| self.trust(context, link, out)).collect()
    }

    /// The old link was silent: its process is gone, and the new one takes its place.
    pub(super) fn trust(&mut self, context: Context<'_>, link: LinkId, out: &mut Vec<Effect>) -> Vec<Change> {
        let Some(state) = self.links.get_mut(&link) else {
            return vec![];
        };
        let side = state.arrival.side;
        match std::mem::replace(&mut state.stage, Stage::Greeting) {
            Stage::Doubted { hello, .. } | Stage::Cloned { hello, .. } => match side {
                Side::Acceptor => self.admit(context, link, *hello, out),
                Side::Dialler => self.establish(context, link, *hello, out),
            },
            other @ (Stage::Greeting | Stage::Asking | Stage::Admitted(_) | Stage::Closing) => {
                state.stage = other;
                vec![]
            }
        }
    }
}

impl Stage {
    /// The older link to another process with the same key, where that one was heard.
    const fn rival(&self) -> Option<LinkId> {
        match self {
            Self::Cloned { old, .. } => Some(*old),
            Self::Greeting | Self::Asking | Self::Doubted { .. } | Self::Admitted(_) | Self::Closing => None,
        }
    }

    /// The older link to another process with the same key.
    const fn doubts(&self) -> Option<LinkId> {
        match self {
            Self::Doubted { old, .. } | Self::Cloned { old, .. } => Some(*old),
            Self::Greeting | Self::Asking | Self::Admitted(_) | Self::Closing => None,
        }
    }
}

impl Peers {
    /// What to remember of every peer whose link counts.
    pub(in crate::protocol) fn known(&self, now: Now) -> Vec<(NodeId, KnownPeer)> {
        let admitted = self.admitted.iter().filter_map(|(node, link)| Some((*node, self.links.get(link)?)));
        let known = admitted.filter_map(|(node, link)| match &link.stage {
            Stage::Admitted(admitted) => Some((node, remember(&admitted.hello, link.arrival.address, now))),
            Stage::Greeting
            | Stage::Asking
            | Stage::Doubted { .. }
            | Stage::Cloned { .. }
            | Stage::Closing => None,
        });
        known.collect()
    }
}

fn record_of(hello: &Hello) -> SignedRecord {
    SignedRecord { record: hello.record.clone(), signature: hello.record_signature }
}

/// Where to find that peer next time: where it was reached, then where it says it listens.
fn remember(hello: &Hello, address: SocketAddr, now: Now) -> KnownPeer {
    let mut addresses = vec![address];
    for told in hello.record.addresses() {
        if !addresses.contains(told) && addresses.len() < ADDRESSES_MAX {
            addresses.push(*told);
        }
    }
    KnownPeer { name: hello.record.name().clone(), addresses, seen: now.wall }
}
