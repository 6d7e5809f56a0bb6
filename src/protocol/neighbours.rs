//! Neighbours: who is there. Places to dial, links, which of them a full node keeps, the records that peers pass along, and who is refused
//! for a while hang together so closely that they change as one. What of it concerns the logs comes back as [`LinkChange`]s.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{
    address_book::{AddressBook, Told as Heard},
    dialling::{Dialling, UnlinkedPlace},
    event::Event,
    frame::{ControlFrame, RECORDS_PER_FRAME_MAX, SignedRecord},
    guard::Guard,
    hello::Setup,
    input::{Attempt, Effect, Ended, Hint, LinkId, Now, Source},
    overlay::{Overlay, Room, Scene},
    peers::{Arrival, Change, Context, Peers, Side},
    pins::Pins,
    refusal::{Refusal, RefusalCode},
    revocations::Revocations,
    view::{PeerState, PeerView, Unlinked},
};
use crate::{
    ledger::types::{Millis, Seq},
    log::{NodeId, Revocation, books::KnownPeer},
};

/// Everyone around, and how to reach them.
#[derive(Debug)]
pub struct Neighbours {
    peers: Peers,
    dialling: Dialling,
    overlay: Overlay,
    records: AddressBook,
    guard: Guard,
    revocations: Revocations,
    pins: Pins,
    rng: ChaCha8Rng,
}

/// What a change among the links means for the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// A link counts from now on.
    Established {
        /// Which.
        link: LinkId,
        /// To whom.
        node: NodeId,
        /// What to remember of it.
        known: KnownPeer,
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

impl Neighbours {
    /// Nobody yet. All chance of the core comes from that seed.
    #[must_use]
    pub fn new(setup: &Setup, seed: [u8; 32]) -> Self {
        let revocations = match &setup.closed {
            Some(closed) => Revocations::load(closed.key, &closed.revoked),
            None => Revocations::default(),
        };
        Self {
            peers: Peers::default(),
            dialling: Dialling::default(),
            overlay: Overlay::default(),
            records: AddressBook::default(),
            guard: Guard::default(),
            revocations,
            pins: Pins::new(setup.pinned.as_deref()),
            rng: ChaCha8Rng::from_seed(seed),
        }
    }

    /// The links, for reading.
    #[must_use]
    pub const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// A QUIC connection stands. `cut`: where the log of that node ends, if it is convicted; then it is turned away.
    pub fn connected(
        &mut self,
        (setup, now): (&Setup, Now),
        (link, attempt): (LinkId, Option<Attempt>),
        arrival: Arrival,
        cut: Option<Seq>,
        out: &mut Vec<Effect>,
    ) -> Vec<LinkChange> {
        if let Some(attempt) = attempt {
            self.dialling.connected(attempt, arrival.node);
        }
        let revoked = self.revocations.contains(arrival.node);
        let refusal = match cut {
            _ if revoked => Some(Refusal::plain(RefusalCode::Revoked)),
            Some(cut) => Some(Refusal::about(RefusalCode::Forked, format!("entry {cut}"))),
            None if self.pins.allow(arrival.node) => None,
            None => {
                if self.pins.knocked(now.mono, arrival.node, arrival.address) {
                    out.push(Effect::Event(Event::PeerPending { id: arrival.node, name: None }));
                }
                Some(Refusal::plain(RefusalCode::NotApproved))
            }
        };
        let changes = match refusal {
            // Before we introduce ourselves, also where we dialled: it would take that for a link.
            Some(refusal) => {
                self.peers.arrived(now, link, arrival);
                self.expel((setup, now), arrival.node, &refusal, out)
            }
            None => {
                let context = Context { setup, guard: &self.guard, now, room: &Room::Free };
                self.peers.connected(context, link, arrival, out);
                vec![]
            }
        };
        self.dial((setup, now), out);
        changes
    }

    /// An attempt led nowhere.
    pub fn dial_failed(&mut self, at: (&Setup, Now), attempt: Attempt, why: String, out: &mut Vec<Effect>) {
        self.dialling.failed(at.1, attempt, why, &mut self.rng, out);
        self.dial(at, out);
    }

    /// A control frame.
    pub fn control(
        &mut self,
        (setup, now): (&Setup, Now),
        link: LinkId,
        frame: ControlFrame,
        out: &mut Vec<Effect>,
    ) -> Vec<LinkChange> {
        let room = self.room((setup, now), link, &frame);
        let context = Context { setup, guard: &self.guard, now, room: &room };
        let changes = self.peers.control(context, link, frame, out);
        let swapped =
            |change: &Change| matches!(change, Change::Gone { node, .. } if room == Room::InPlaceOf(*node));
        if changes.iter().any(swapped) {
            self.overlay.swapped(now);
        }
        if changes.is_empty() {
            return vec![];
        }
        let changes = self.settle((setup, now), changes, out);
        self.dial((setup, now), out);
        changes
    }

    /// A connection ended.
    pub fn disconnected(
        &mut self,
        (setup, now): (&Setup, Now),
        link: LinkId,
        why: Ended,
        out: &mut Vec<Effect>,
    ) -> Vec<LinkChange> {
        let context = Context { setup, guard: &self.guard, now, room: &Room::Free };
        let (changes, lost) = self.peers.disconnected(context, link, why, out);
        if let Some(lost) = lost {
            self.dialling.lost(now, &lost, &mut self.rng);
            let is_duplicate = matches!(&lost.why, Ended::Refused(why) if why.code == RefusalCode::Duplicate);
            if lost.node == setup.id() && is_duplicate {
                self.dialling.met_ourselves(lost.node);
            }
        }
        let changes = self.settle((setup, now), changes, out);
        self.dial((setup, now), out);
        changes
    }

    /// Somebody may be there.
    pub fn hint(&mut self, (setup, now): (&Setup, Now), hint: Hint, out: &mut Vec<Effect>) {
        self.place((setup, now), hint, out);
        self.dial((setup, now), out);
    }

    /// An operator approves of a node: it is dialled at once where it was heard of.
    pub fn approve(&mut self, (setup, now): (&Setup, Now), node: NodeId, out: &mut Vec<Effect>) {
        if let Some(hint) = self.pins.approve(node) {
            self.dialling.hint(setup, now, hint, out);
        }
        self.dialling.afresh(now, &mut self.rng);
        self.dial((setup, now), out);
    }

    /// Puts a place among those that are dialled, unless its node waits for an operator.
    fn place(&mut self, (setup, now): (&Setup, Now), hint: Hint, out: &mut Vec<Effect>) {
        let is_ours = hint.federation.as_ref().is_none_or(|prefix| *prefix == setup.federation.prefix_hex());
        let waits = |node: &NodeId| is_ours && *node != setup.id() && !self.pins.allow(*node);
        let Some(node) = hint.node.filter(waits) else {
            return self.dialling.hint(setup, now, hint, out);
        };
        // Whom peers know of does not ask for anything.
        if hint.source != Source::Record && self.pins.heard_of(now.mono, node, &hint) {
            out.push(Effect::Event(Event::PeerPending { id: node, name: hint.name }));
        }
    }

    /// An interface changed, or the machine woke up: everyone is tried afresh, and whoever is linked must give a sign of life.
    pub fn network_changed(&mut self, (setup, now): (&Setup, Now), out: &mut Vec<Effect>) {
        self.peers.ask_all(now, out);
        self.dialling.afresh(now, &mut self.rng);
        self.dial((setup, now), out);
    }

    /// This node is found elsewhere from now on: its peers are told at once.
    pub fn moved(&self, (setup, now): (&Setup, Now), out: &mut Vec<Effect>) {
        for (link, _) in self.peers.counting() {
            let frame = ControlFrame::Records(vec![setup.signed_record(now)]);
            out.push(Effect::Control { link, frame });
        }
    }

    /// Ends every link to a node that has to go.
    pub fn expel(
        &mut self,
        at: (&Setup, Now),
        node: NodeId,
        refusal: &Refusal,
        out: &mut Vec<Effect>,
    ) -> Vec<LinkChange> {
        let changes = self.peers.expel(node, refusal, out);
        self.settle(at, changes, out)
    }

    /// A node sent what it could have seen to be wrong. Too often, and it has to go.
    pub fn strike(
        &mut self,
        at: (&Setup, Now),
        node: NodeId,
        about: String,
        out: &mut Vec<Effect>,
    ) -> Vec<LinkChange> {
        match self.guard.strike(at.1.mono, node) {
            true => self.expel(at, node, &Refusal::about(RefusalCode::BackingOff, about), out),
            false => vec![],
        }
    }

    /// When [`Self::tick_links`] or [`Self::tick_places`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        let due =
            [self.peers.wake_at(), self.dialling.wake_at(), self.overlay.wake_at(), self.records.wake_at()];
        due.into_iter().flatten().min()
    }

    /// Does what is due on links: late handshakes, pings.
    pub fn tick_links(&mut self, (setup, now): (&Setup, Now), out: &mut Vec<Effect>) -> Vec<LinkChange> {
        let context = Context { setup, guard: &self.guard, now, room: &Room::Free };
        let changes = self.peers.tick(context, out);
        let changes = self.settle((setup, now), changes, out);
        if self.peers.miss_answers(now.mono) {
            self.dial((setup, now), out);
        }
        changes
    }

    /// Does what is due elsewhere: records are passed along, links exchanged, places dialled.
    pub fn tick_places(&mut self, (setup, now): (&Setup, Now), out: &mut Vec<Effect>) -> Vec<LinkChange> {
        let links = self.peers.counting();
        self.records.tick(setup, now, &links, &mut self.rng, out);
        let changes = self.exchange((setup, now), out);
        if self.dialling.wake_at().is_some_and(|at| at <= now.mono) {
            self.dial((setup, now), out);
        }
        changes
    }

    /// Linked nodes, and those only heard of. `step` and the shown name of a linked one come from the caller.
    pub fn view(
        &self,
        (setup, now): (&Setup, Now),
        complete: impl Fn(NodeId, LinkId, PeerView) -> PeerView,
    ) -> Vec<PeerView> {
        let verified = self.peers.verified(now.mono).map(|(id, name, peer)| {
            let (addresses, sources) = self.dialling.known_of(id);
            let link = peer.link;
            let state = PeerState::Verified(peer);
            complete(id, link, PeerView { id: Some(id), name, addresses, sources, state, step: None })
        });
        let lacking = self.overlay.lacking(self.scene((setup, now)));
        // That an address turned out to be this node's own matters where the user named it.
        let is_of_others =
            |place: &UnlinkedPlace<'_>| place.id != Some(setup.id()) || place.sources.contains(&Source::Seed);
        let is_told_below = |place: &UnlinkedPlace<'_>| place.id.is_some_and(|id| self.pins.is_pending(id));
        let unlinked = self.dialling.unlinked(now, &self.peers, lacking);
        let unlinked = unlinked.filter(is_of_others).filter(|place| !is_told_below(place));
        let seen = unlinked.map(|place| {
            let refused = place.id.and_then(|id| self.guard.refused_for(now.mono, id));
            PeerView {
                id: place.id,
                name: place.name.unwrap_or_default().to_owned(),
                addresses: place.addresses,
                sources: place.sources,
                state: PeerState::Seen(match refused {
                    Some(left) => Unlinked::BackingOff { left },
                    None => place.why,
                }),
                step: None,
            }
        });
        verified.chain(seen).chain(self.pins.pending()).collect()
    }

    /// What follows from changes among the links; what concerns the logs is left over.
    fn settle(&mut self, at: (&Setup, Now), changes: Vec<Change>, out: &mut Vec<Effect>) -> Vec<LinkChange> {
        let mut left = vec![];
        for change in changes {
            match change {
                Change::Gone { link, node } => left.push(LinkChange::Gone { link, node }),
                Change::CloneOfUs => left.push(LinkChange::CloneOfUs),
                Change::TurnedAway { record } => self.met(at, record, out),
                Change::Records { via, records } => left.extend(self.told_records(at, via, records, out)),
                Change::Revocations { via, revocations } => {
                    left.extend(self.revoked(at, Some(via), revocations, out));
                }
                Change::Established { link, node, known, record, side } => {
                    out.extend(
                        self.revocations.frames().into_iter().map(|frame| Effect::Control { link, frame }),
                    );
                    if let Some(address) = self.peers.address_of(link) {
                        self.dialling.established(node, address);
                    }
                    self.met(at, record, out);
                    self.records.established(at.1, link, node, &mut self.rng, out);
                    left.push(LinkChange::Established { link, node, known });
                    if side == Side::Dialler {
                        left.extend(self.give_up_surplus(at, node, out));
                    }
                }
            }
        }
        left
    }

    /// Nodes are members no more; `via`: who told. All others are told before they are turned away. What comes behind one that the CA
    /// did not sign is not looked at.
    pub fn revoked(
        &mut self,
        at: (&Setup, Now),
        via: Option<NodeId>,
        told: Vec<Revocation>,
        out: &mut Vec<Effect>,
    ) -> Vec<LinkChange> {
        let (mut news, mut is_wrong) = (vec![], false);
        for revocation in told {
            match self.revocations.learn(&at.0.federation, revocation) {
                Ok(true) => news.push(revocation),
                Ok(false) => {}
                Err(_) => {
                    is_wrong = true;
                    break;
                }
            }
        }
        let mut changes = vec![];
        if !news.is_empty() {
            // All at once: keeping them is a sync of the disk.
            out.push(Effect::Revoked(news.clone()));
            for (link, _) in self.peers.counting().into_iter().filter(|(_, peer)| Some(*peer) != via) {
                out.push(Effect::Control { link, frame: ControlFrame::Revocations(news.clone()) });
            }
        }
        for Revocation { node, .. } in news {
            out.push(Effect::Event(Event::MemberRevoked { node, own: node == at.0.id() }));
            self.dialling.forget_record(node);
            changes.extend(self.expel(at, node, &Refusal::plain(RefusalCode::Revoked), out));
        }
        if let Some(via) = via.filter(|_| is_wrong) {
            changes.extend(self.strike(at, via, "a revocation that the CA did not sign".to_owned(), out));
        }
        changes
    }

    /// Who is a member no more.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    fn give_up_surplus(
        &mut self,
        at: (&Setup, Now),
        newest: NodeId,
        out: &mut Vec<Effect>,
    ) -> Vec<LinkChange> {
        let Self { peers, dialling, overlay, rng, .. } = self;
        let scene = Scene { setup: at.0, now: at.1, peers, dialling };
        match overlay.surplus(scene, newest, rng) {
            Some(surplus) => self.give_up(at, surplus, out),
            None => vec![],
        }
    }

    fn give_up(&mut self, at: (&Setup, Now), node: NodeId, out: &mut Vec<Effect>) -> Vec<LinkChange> {
        let changes = self.peers.give_up(node, out);
        self.settle(at, changes, out)
    }

    /// Whether there is room for the node that introduces itself with that frame, if it is one that does.
    fn room(&mut self, (setup, now): (&Setup, Now), link: LinkId, frame: &ControlFrame) -> Room {
        let introduces = matches!(frame, ControlFrame::Hello(_) | ControlFrame::Admitted(_));
        let Some((node, side)) = self.peers.arrival_of(link).filter(|_| introduces) else {
            return Room::Free;
        };
        let Self { peers, dialling, overlay, rng, .. } = self;
        let room = overlay.room(Scene { setup, now, peers, dialling }, node, side, rng);
        match room {
            Room::Full(_) => Room::Full(self.records.sample(now, node, RECORDS_PER_FRAME_MAX, &mut self.rng)),
            free @ (Room::Free | Room::InPlaceOf(_)) => free,
        }
    }

    /// Records were told, and some of them kept.
    fn heard_of_nodes(&mut self, (setup, now): (&Setup, Now), heard: Heard, out: &mut Vec<Effect>) {
        for hint in heard.hints {
            self.place((setup, now), hint, out);
        }
        for node in heard.forgotten {
            self.dialling.forget_record(node);
        }
    }

    fn met(&mut self, at: (&Setup, Now), record: SignedRecord, out: &mut Vec<Effect>) {
        if self.revocations.contains(record.record.id()) {
            return;
        }
        let heard = self.records.met(at.0, at.1, record, &mut self.rng);
        self.heard_of_nodes(at, heard, out);
    }

    fn told_records(
        &mut self,
        at: (&Setup, Now),
        via: NodeId,
        mut records: Vec<SignedRecord>,
        out: &mut Vec<Effect>,
    ) -> Vec<LinkChange> {
        records.retain(|record| !self.revocations.contains(record.record.id()));
        let mut heard = self.records.told(at.0, at.1, via, records, &mut self.rng);
        let fault = heard.fault.take();
        self.heard_of_nodes(at, heard, out);
        if fault.is_none() {
            return vec![];
        }
        out.push(Effect::Event(Event::RecordsRefused { from: via }));
        self.strike(at, via, "a peer record that its node did not sign".to_owned(), out)
    }

    const fn scene<'a>(&'a self, (setup, now): (&'a Setup, Now)) -> Scene<'a> {
        Scene { setup, now, peers: &self.peers, dialling: &self.dialling }
    }

    /// Looks at all places; only needed where one of them or the links changed.
    fn dial(&mut self, (setup, now): (&Setup, Now), out: &mut Vec<Effect>) {
        let Self { peers, dialling, overlay, rng, .. } = self;
        overlay.settle(Scene { setup, now, peers, dialling }, rng);
        let lacking = self.overlay.lacking(self.scene((setup, now)));
        self.dialling.dial(now, &self.peers, lacking, &mut self.rng, out);
    }

    fn exchange(&mut self, (setup, now): (&Setup, Now), out: &mut Vec<Effect>) -> Vec<LinkChange> {
        let Self { peers, dialling, overlay, rng, .. } = self;
        let exchange = overlay.exchange(Scene { setup, now, peers, dialling }, rng);
        let gone = exchange.give_up.map(|node| self.give_up((setup, now), node, out));
        if exchange.extra > 0 {
            let lacking = self.overlay.lacking(self.scene((setup, now)));
            self.dialling.dial(now, &self.peers, lacking.max(exchange.extra), &mut self.rng, out);
        }
        gone.unwrap_or_default()
    }
}
