//! Dialling: whom to dial, where and when. Hints come from anywhere and are never an authority; an expired one only
//! ages. Retries back off from 250 ms to 30 s with full jitter, to 1 s where a peer was lost lately or the user named one.
//! Source: protocol.md, Discovery.

mod known;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
};

use rand_chacha::{ChaCha8Rng, rand_core::RngCore};

use self::known::{Due, Fault, Known, Stranger};
use super::{
    address_book::RECORDS_MAX,
    chance::pick,
    event::Event,
    hello::Setup,
    input::{Address, Attempt, Dial, Effect, Ended, Hint, Now, Source},
    peers::{Lost, Peers, WantOfRoom},
    refusal::RefusalCode,
    view::Unlinked,
};
use crate::{ledger::types::Millis, log::NodeId};

/// The first retry comes within this.
const RETRY_MIN: Millis = Millis(250);
/// A later one within this, at most.
const RETRY_MAX: Millis = Millis(30_000);
/// The same of a place that the user named, or whose node was a peer lately: nothing tells us when a switch works again, so
/// only an attempt finds out, and people wait for that one. An attempt where nobody answers takes 5 s and a few packets.
const RETRY_MAX_OF_THE_AWAITED: Millis = Millis(1_000);
/// So long after its link was lost a peer is awaited; later it was switched off, more likely.
const AWAITED_MAX: Millis = Millis(600_000);
/// Most places that are remembered; who is neither linked nor named by the user goes first.
pub(crate) const PLACES_MAX: usize = 1_024;
/// Most places with those that are known by a peer record alone, which never push out another.
const PLACES_AND_RECORDS_MAX: usize = PLACES_MAX + RECORDS_MAX;
/// Most addresses of one place; newer ones push out older ones.
const ADDRESSES_MAX: usize = 16;
/// Dials that are on their way at a time.
const DIALS_MAX: usize = 32;
/// A place whose rules or federation differ is asked again this seldom.
const STRANGER_RETRY: Millis = Millis(60_000);
/// A place that is known by a peer record alone is dialled no more often than this, and less often where nobody answers.
const RECORD_RETRY: Millis = Millis(60_000);
/// Places that are known by a peer record alone and are dialled within a minute: whoever forges records can make us send
/// packets to others, but not many.
const RECORD_DIALS_MAX: usize = 60;

/// A place where a node may be: a node that was named, or an address whose node is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// That node, wherever it is.
    Node(NodeId),
    /// Whoever is at that address.
    At(Address),
}

/// Every place, and when it is dialled.
#[derive(Debug, Default)]
pub struct Dialling {
    places: BTreeMap<Place, Known>,
    attempts: BTreeMap<Attempt, Place>,
    last_attempt: u64,
    /// When places that are known by a record alone were dialled, within a minute.
    record_dials: VecDeque<Millis>,
    /// When the next place is due, as the last look at all of them found.
    wake: Option<Millis>,
}

/// A place that is not linked, for a snapshot.
#[derive(Debug)]
pub struct UnlinkedPlace<'a> {
    /// Who, where known.
    pub id: Option<NodeId>,
    /// What it is said to be called.
    pub name: Option<&'a str>,
    /// Where.
    pub addresses: Vec<Address>,
    /// How that became known.
    pub sources: Vec<Source>,
    /// Why it is not linked.
    pub why: Unlinked,
}

impl Dialling {
    /// Somebody may be there.
    pub fn hint(&mut self, setup: &Setup, now: Now, hint: Hint, out: &mut Vec<Effect>) {
        let ours = hint.federation.as_ref().is_none_or(|prefix| *prefix == setup.federation.prefix_hex());
        let addresses: Vec<Address> =
            hint.addresses.into_iter().filter(can_be_dialled).take(ADDRESSES_MAX).collect();
        let addresses = match hint.node == Some(setup.id()) {
            false => addresses,
            // Our own announcement, or that of a copy of this node: what is not ours is looked at.
            true => addresses.into_iter().filter(|address| !is_ours(setup, address)).collect(),
        };
        if hint.node == Some(setup.id()) && addresses.is_empty() {
            return;
        }
        let place = match (hint.node, addresses.first()) {
            (Some(node), _) => Place::Node(node),
            (None, Some(address)) => Place::At(address.clone()),
            (None, None) => return,
        };
        let is_new = !self.places.contains_key(&place);
        let is_record = hint.source == Source::Record;
        if is_new && !self.make_room(Some(hint.source)) {
            return;
        }
        let known = self.places.entry(place).or_default();
        known.sources.insert(hint.source);
        known.name = hint.name.or_else(|| known.name.take());
        // A record does not say of which federation its node is.
        if !is_record {
            known.stranger = match ours {
                true => None,
                false => Some(Stranger::OtherFederation(hint.federation.unwrap_or_default())),
            };
        }
        let is_news = match is_record {
            true => known.learn_record(addresses),
            false => known.learn(addresses),
        };
        if is_news {
            // It moved, or came back: what failed before says nothing about now.
            known.failures = 0;
            known.next = now.mono;
        }
        if is_new {
            out.push(Effect::Event(Event::Seen { id: hint.node, source: hint.source, ours }));
        }
    }

    /// The record of a node was forgotten; so is the place, where nothing else is known of it.
    pub fn forget_record(&mut self, node: NodeId) {
        let place = Place::Node(node);
        let Some(known) = self.places.get_mut(&place) else { return };
        known.sources.remove(&Source::Record);
        known.recorded.clear();
        if known.sources.is_empty() && known.addresses.is_empty() && known.dialling.is_none() {
            self.places.remove(&place);
        }
    }

    /// Dials what is due: what the user named, and others up to so many links more, at random.
    pub fn dial(
        &mut self,
        now: Now,
        peers: &Peers,
        lacking: usize,
        rng: &mut ChaCha8Rng,
        out: &mut Vec<Effect>,
    ) {
        self.wake = None;
        let room = DIALS_MAX.saturating_sub(self.attempts.len());
        if room == 0 {
            return;
        }
        while self.record_dials.front().is_some_and(|at| now.mono.since(*at) >= RECORD_RETRY) {
            self.record_dials.pop_front();
        }
        let mut linked = peers.linked();
        // Their path may be gone; where it is not, the new link takes the old one's place all the same.
        linked.retain(|node| !peers.owes_answer(*node));
        let lacking = lacking.saturating_sub(self.attempts.len().saturating_add(peers.asking()));
        let mut due = Due { now: now.mono, named: vec![], others: vec![], by_record: vec![], wake: None };
        for (place, known) in &self.places {
            let is_of_interest = lacking > 0 || known.is_named();
            if is_of_interest && known.is_wanted(place, &linked) {
                due.add(place, known);
            }
        }
        let record_room = RECORD_DIALS_MAX.saturating_sub(self.record_dials.len());
        if due.by_record.len() > record_room {
            let again = self.record_dials.front().map(|at| at.plus(RECORD_RETRY));
            due.wake = due.wake.into_iter().chain(again).min();
            pick(rng, &mut due.by_record, record_room);
        }
        due.others.append(&mut due.by_record);
        if due.others.len() > lacking {
            pick(rng, &mut due.others, lacking);
        }
        self.wake = due.wake;
        let chosen: Vec<Place> = due.named.into_iter().chain(due.others).take(room).cloned().collect();
        for place in chosen {
            let Some(known) = self.places.get_mut(&place) else { continue };
            self.last_attempt = self.last_attempt.wrapping_add(1);
            let attempt = Attempt(self.last_attempt);
            let expect = match &place {
                Place::Node(node) => Some(*node),
                Place::At(_) => None,
            };
            if known.is_by_record_only() {
                self.record_dials.push_back(now.mono);
            }
            known.dialling = Some(attempt);
            known.dialled = Some(now.mono);
            // Should no answer come at all, this is when it is tried again.
            known.failures = known.failures.saturating_add(1);
            known.next = now.mono.plus(known.pause(now.mono, rng));
            out.push(Effect::Dial(Dial { attempt, expect, addresses: known.all_addresses() }));
            self.attempts.insert(attempt, place);
        }
    }

    /// An attempt led to a connection: who is there is known now.
    pub fn connected(&mut self, attempt: Attempt, node: NodeId) {
        if let Some(known) = self.attempts.remove(&attempt).and_then(|place| self.places.get_mut(&place)) {
            known.dialling = None;
            known.found = Some(node);
        }
    }

    /// An attempt led nowhere.
    pub fn failed(
        &mut self,
        now: Now,
        attempt: Attempt,
        why: String,
        rng: &mut ChaCha8Rng,
        out: &mut Vec<Effect>,
    ) {
        let Some(place) = self.attempts.remove(&attempt) else {
            return;
        };
        let Some(known) = self.places.get_mut(&place) else {
            return;
        };
        known.dialling = None;
        known.next = now.mono.plus(known.pause(now.mono, rng));
        known.last_fault = Some(Fault::NoAnswer(why.clone()));
        let id = match place {
            Place::Node(node) => Some(node),
            Place::At(_) => None,
        };
        out.push(Effect::Event(Event::DialFailed { id, addresses: known.all_addresses(), why }));
    }

    /// A link counts: the places of its node are in order.
    pub fn established(&mut self, node: NodeId, address: SocketAddr) {
        let place = Place::Node(node);
        if self.places.contains_key(&place) || self.make_room(None) {
            self.places.entry(place).or_default().learn(vec![Address::Socket(address)]);
        }
        for known in self.of(node) {
            known.failures = 0;
            known.was_full = 0;
            known.last_fault = None;
            known.stranger = None;
        }
    }

    /// A link ended: its node is dialled again, soon where it was a peer, seldom where it can't become one.
    pub fn lost(&mut self, now: Now, lost: &Lost, rng: &mut ChaCha8Rng) {
        if lost.replaced {
            return;
        }
        let pause = match &lost.why {
            Ended::Refused(refusal) => Pause::after(refusal.code),
            Ended::Closed => match lost.want_of_room {
                // Whom we refuse ourselves we need not dial, either.
                WantOfRoom::No => lost.refused.map_or(Pause::Short, Pause::after),
                WantOfRoom::GivenUp => Pause::Long,
                // It may have room for us as soon as we have some for it.
                WantOfRoom::TurnedAway => Pause::None,
            },
            Ended::Broke(_) => Pause::Short,
        };
        let fault = match &lost.why {
            Ended::Refused(refusal) => Some(Fault::Refused(refusal.clone())),
            // Nothing is wrong with a node for which we had no room.
            Ended::Closed if lost.want_of_room != WantOfRoom::No => None,
            Ended::Closed => Some(Fault::Lost("closed by this node".to_owned())),
            Ended::Broke(why) => Some(Fault::Lost(why.clone())),
        };
        for known in self.of(lost.node) {
            known.last_fault.clone_from(&fault);
            if lost.counted {
                known.failures = 0;
                known.was_peer = Some(now.mono);
            }
            known.next = now.mono.plus(match pause {
                Pause::None => Millis::ZERO,
                Pause::Short => known.pause(now.mono, rng),
                Pause::Long => STRANGER_RETRY,
                Pause::UntilThereIsRoom => known.pause_when_full(rng),
            });
        }
    }

    /// This node itself answered at a place: it is not dialled again before something new is heard of it.
    pub fn met_ourselves(&mut self, own: NodeId) {
        for known in self.of(own) {
            known.stranger = Some(Stranger::Ourselves);
        }
    }

    /// An interface changed or the machine woke up: everything is tried afresh, spread over a moment.
    pub fn afresh(&mut self, now: Now, rng: &mut ChaCha8Rng) {
        for known in self.places.values_mut() {
            known.failures = 0;
            known.next = now.mono.plus(known.pause(now.mono, rng));
        }
    }

    /// When [`Dialling::dial`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        self.wake
    }

    /// How many nodes are known that may be there, linked ones among them.
    #[must_use]
    pub fn count(&self) -> usize {
        let is_somebody = |(place, known): &(&Place, &Known)| {
            let is_one_more = match place {
                Place::Node(_) => true,
                Place::At(_) => known.found.is_none(),
            };
            is_one_more && known.stranger.is_none() && !known.is_gone()
        };
        self.places.iter().filter(is_somebody).count()
    }

    /// Whether the user named that node, or a place where it was found.
    #[must_use]
    pub fn is_named(&self, node: NodeId) -> bool {
        let is_it = |place: &Place, known: &Known| *place == Place::Node(node) || known.found == Some(node);
        self.places.iter().any(|(place, known)| known.is_named() && is_it(place, known))
    }

    /// Whether there is somebody to be dialled now who is neither linked nor named by the user.
    #[must_use]
    pub fn has_another(&self, now: Now, peers: &Peers) -> bool {
        let linked = peers.linked();
        let is_due = |known: &Known| known.due() <= now.mono && !known.is_named();
        self.places.iter().any(|(place, known)| is_due(known) && known.is_wanted(place, &linked))
    }

    /// The sources by which a linked node is known.
    #[must_use]
    pub fn known_of(&self, node: NodeId) -> (Vec<Address>, Vec<Source>) {
        let mut addresses = vec![];
        let mut sources = BTreeSet::new();
        for (place, known) in &self.places {
            if *place == Place::Node(node) || known.found == Some(node) {
                for address in known.all_addresses() {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                sources.extend(known.sources.iter().copied());
            }
        }
        (addresses, sources.into_iter().collect())
    }

    /// Every place that is not linked, where so many more links are lacking.
    pub fn unlinked<'a>(
        &'a self,
        now: Now,
        peers: &Peers,
        lacking: usize,
    ) -> impl Iterator<Item = UnlinkedPlace<'a>> {
        let linked = peers.linked();
        self.places.iter().filter_map(move |(place, known)| {
            let id = known.node(place);
            if id.is_some_and(|node| linked.contains(&node)) {
                return None;
            }
            Some(UnlinkedPlace {
                id,
                name: known.name.as_deref(),
                addresses: known.all_addresses(),
                sources: known.sources.iter().copied().collect(),
                why: known.why(now.mono, lacking),
            })
        })
    }

    fn of(&mut self, node: NodeId) -> impl Iterator<Item = &mut Known> {
        self.places.iter_mut().filter_map(move |(place, known)| {
            let is_it = *place == Place::Node(node) || known.found == Some(node);
            is_it.then_some(known)
        })
    }

    /// Makes room for one more place. Those that the user named stay, and no record pushes out what is known otherwise.
    fn make_room(&mut self, source: Option<Source>) -> bool {
        let for_record = source == Some(Source::Record);
        if self.places.len() < PLACES_MAX {
            return true;
        }
        let records = self.places.values().filter(|known| known.is_by_record_only()).count();
        let is_full = match for_record {
            true => self.places.len() >= PLACES_AND_RECORDS_MAX || records >= RECORDS_MAX,
            false => self.places.len().saturating_sub(records) >= PLACES_MAX,
        };
        if !is_full {
            return true;
        }
        let is_spare = |known: &Known| {
            known.dialling.is_none() && !known.is_named() && known.is_by_record_only() == for_record
        };
        let spare = self
            .places
            .iter()
            .filter(|(_, known)| is_spare(known))
            .max_by_key(|(_, known)| (known.stranger.is_some(), known.failures))
            .map(|(place, _)| place.clone());
        spare.is_some_and(|place| self.places.remove(&place).is_some())
    }
}

impl Known {
    /// Puts addresses in front. Returns whether one of them is new.
    fn learn(&mut self, addresses: Vec<Address>) -> bool {
        let mut is_new = false;
        for address in addresses.into_iter().rev() {
            match self.addresses.iter().position(|known| *known == address) {
                Some(place) => {
                    self.addresses.remove(place);
                }
                None => is_new = true,
            }
            self.addresses.insert(0, address);
        }
        self.addresses.truncate(ADDRESSES_MAX);
        is_new
    }

    fn is_wanted(&self, place: &Place, linked: &BTreeSet<NodeId>) -> bool {
        self.dialling.is_none()
            && self.stranger.is_none()
            && !(self.addresses.is_empty() && self.recorded.is_empty())
            && !self.node(place).is_some_and(|node| linked.contains(&node))
    }

    /// Full jitter (Brooker 2015): anywhere up to the exponential bound, so that nodes that failed together don't
    /// come back together.
    fn pause(&self, mono: Millis, rng: &mut ChaCha8Rng) -> Millis {
        let doubled = RETRY_MIN.0.saturating_mul(1 << self.failures.min(16));
        let longest = if self.is_awaited(mono) { RETRY_MAX_OF_THE_AWAITED } else { RETRY_MAX };
        let bound = doubled.min(longest.0);
        Millis(rng.next_u64() % bound.saturating_add(1))
    }
}

/// How long a node is left alone whose link ended.
#[derive(Clone, Copy)]
enum Pause {
    None,
    Short,
    Long,
    UntilThereIsRoom,
}

impl Pause {
    /// After a refusal, whoever refused whom.
    const fn after(code: RefusalCode) -> Self {
        match code {
            RefusalCode::WrongFederation
            | RefusalCode::PolicyDiffers
            | RefusalCode::Version
            | RefusalCode::ProofOfWork
            | RefusalCode::NotAMember
            | RefusalCode::Revoked
            | RefusalCode::Expired
            | RefusalCode::Clone
            | RefusalCode::Forked
            | RefusalCode::BackingOff
            | RefusalCode::NotApproved => Self::Long,
            RefusalCode::TooManyPeers => Self::UntilThereIsRoom,
            RefusalCode::HandshakeTimeout
            | RefusalCode::Duplicate
            | RefusalCode::Stopping
            | RefusalCode::Malformed
            | RefusalCode::FrameTooLarge
            | RefusalCode::UnknownKind
            | RefusalCode::BadClaim
            | RefusalCode::TooSlow => Self::Short,
        }
    }
}

/// Whether we listen at that address ourselves.
fn is_ours(setup: &Setup, address: &Address) -> bool {
    match address {
        Address::Socket(socket) => setup
            .addresses
            .iter()
            .any(|own| own.ip().to_canonical() == socket.ip().to_canonical() && own.port() == socket.port()),
        Address::Name(_) => false,
    }
}

/// Never multicast, broadcast or unspecified, and never port 0.
fn can_be_dialled(address: &Address) -> bool {
    let Address::Socket(socket) = address else {
        return true;
    };
    let fits = match socket.ip().to_canonical() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified(),
    };
    fits && socket.port() != 0
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::log::Identity;

    fn hint(source: Source, number: u8) -> Hint {
        let address = Address::Socket(SocketAddr::from(([192, 0, 2, number], 8888)));
        let node = Identity::from_seed(&[number; 32]).ok().map(|identity| identity.node_id());
        Hint { source, node, name: None, federation: None, addresses: vec![address] }
    }

    fn at(seconds: u64) -> Now {
        Now { mono: Millis(seconds * 1_000), wall: Millis(seconds * 1_000) }
    }

    struct Scene {
        setup: Setup,
        dialling: Dialling,
        rng: ChaCha8Rng,
    }

    impl Scene {
        fn knowing(hints: impl IntoIterator<Item = Hint>) -> Self {
            let mut scene = Self {
                setup: Setup::of_test(&["192.0.2.200:8888"]),
                dialling: Dialling::default(),
                rng: ChaCha8Rng::seed_from_u64(1),
            };
            hints.into_iter().for_each(|hint| scene.hint(hint));
            scene
        }

        fn hint(&mut self, hint: Hint) {
            self.dialling.hint(&self.setup, at(0), hint, &mut vec![]);
        }

        /// Dials for so many links more, and nobody answers. How many were dialled.
        fn dial(&mut self, now: Now, lacking: usize) -> usize {
            let mut out = vec![];
            self.dialling.dial(now, &Peers::default(), lacking, &mut self.rng, &mut out);
            let mut dials = vec![];
            for effect in out {
                let Effect::Dial(dial) = effect else { panic!("{effect:?}") };
                dials.push(dial.attempt);
            }
            for attempt in &dials {
                self.dialling.failed(now, *attempt, "no answer".into(), &mut self.rng, &mut vec![]);
            }
            dials.len()
        }
    }

    #[test]
    fn a_place_that_only_a_record_names_is_dialled_once_a_minute_whatever_happens() {
        let mut scene = Scene::knowing([hint(Source::Record, 1)]);
        assert_eq!(scene.dial(at(0), 8), 1);
        for second in 1..60 {
            scene.dialling.afresh(at(second), &mut scene.rng);
            scene.hint(Hint { addresses: hint(Source::Record, 2).addresses, ..hint(Source::Record, 1) });
            scene.hint(hint(Source::Record, 1));
            assert_eq!(scene.dial(at(second), 8), 0, "after {second} s");
        }
        assert_eq!(scene.dial(at(61), 8), 1);
        // What was heard of otherwise is dialled as ever.
        scene.hint(hint(Source::Mdns, 1));
        assert_eq!(scene.dial(at(62), 8), 1);
    }

    #[test]
    fn records_alone_cause_sixty_dials_a_minute_at_most() {
        let mut scene = Scene::knowing((1..=200).map(|number| hint(Source::Record, number)));
        let dials: usize = (0..60).map(|second| scene.dial(at(second), 8)).sum();
        assert_eq!(dials, 60);
        assert!(scene.dialling.wake_at().is_some_and(|wake| wake <= at(60).mono), "and it goes on then");
        assert_eq!(scene.dial(at(60), 8), 8);
    }

    #[test]
    fn without_a_link_lacking_only_what_the_user_named_is_dialled() {
        let hints = [hint(Source::Record, 1), hint(Source::Mdns, 2), hint(Source::Seed, 3)];
        let mut scene = Scene::knowing(hints);
        assert_eq!(scene.dial(at(0), 0), 1);
        assert_eq!(scene.dial(at(0), 8), 2);
    }

    #[test]
    fn no_record_pushes_out_what_is_known_otherwise() {
        let mut scene = Scene::knowing((1..=100).map(|number| hint(Source::Mdns, number)));
        for number in 0..2_000_u32 {
            let mut seed = [9; 32];
            seed[..4].copy_from_slice(&number.to_le_bytes());
            let node = Identity::from_seed(&seed).ok().map(|identity| identity.node_id());
            scene.hint(Hint { node, ..hint(Source::Record, 1) });
        }
        let is_heard = |place: &UnlinkedPlace<'_>| place.sources.contains(&Source::Mdns);
        let places: Vec<_> = scene.dialling.unlinked(at(0), &Peers::default(), 1).collect();
        assert_eq!(places.iter().filter(|place| is_heard(place)).count(), 100);
        assert_eq!(places.len(), 100 + RECORDS_MAX);
    }
}
