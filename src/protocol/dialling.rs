//! Dialling: whom to dial, where and when. Hints come from anywhere and are never an authority; an expired one only
//! ages. Retries back off from 250 ms to 30 s with full jitter. Source: protocol.md, Discovery.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
};

use rand_chacha::{ChaCha8Rng, rand_core::RngCore};

use super::{
    address_book::RECORDS_MAX,
    chance::{below, pick},
    event::Event,
    hello::Setup,
    input::{Address, Attempt, Dial, Effect, Ended, Hint, Now, Source},
    peers::{Lost, Peers, WantOfRoom},
    refusal::{Refusal, RefusalCode},
    view::Unlinked,
};
use crate::{ledger::types::Millis, log::NodeId};

/// The first retry comes within this.
const RETRY_MIN: Millis = Millis(250);
/// A later one within this, at most.
const RETRY_MAX: Millis = Millis(30_000);
/// Most places that are remembered; who is neither linked nor named by the user goes first.
const PLACES_MAX: usize = 1_024;
/// Most places with those that are known by a peer record alone, which never push out another.
const PLACES_AND_RECORDS_MAX: usize = PLACES_MAX + RECORDS_MAX;
/// Most addresses of one place; newer ones push out older ones.
const ADDRESSES_MAX: usize = 16;
/// Dials that are on their way at a time.
const DIALS_MAX: usize = 32;
/// A place whose rules or federation differ is asked again this seldom.
const STRANGER_RETRY: Millis = Millis(60_000);
/// A place that had no room is asked again after this and up to half as much again, later after twice and more of it.
const FULL_RETRY: Millis = Millis(60_000);
/// So often that pause doubles.
const FULL_DOUBLINGS_MAX: u32 = 3;
/// A place that is known by a peer record alone is dialled no more often than this, and less often where nobody answers.
const RECORD_RETRY: Millis = Millis(60_000);
/// So often that pause doubles.
const RECORD_DOUBLINGS_MAX: u32 = 3;
/// Places that are known by a peer record alone and are dialled within a minute: whoever forges records can make us send
/// packets to others, but not many.
const RECORD_DIALS_MAX: usize = 60;
/// Attempts without an answer after which a place no longer counts as somebody who is there.
const FAILURES_OF_THE_GONE: u32 = 8;
/// The same of a place that is known by a peer record alone: anybody can make those.
const FAILURES_OF_A_GHOST: u32 = 2;

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

#[derive(Debug, Default)]
struct Known {
    /// Who was found at an address.
    found: Option<NodeId>,
    name: Option<String>,
    /// The likeliest first.
    addresses: Vec<Address>,
    /// Where its own record says that it is; tried after the others.
    recorded: Vec<Address>,
    sources: BTreeSet<Source>,
    /// Why it is not to be dialled at all.
    stranger: Option<Stranger>,
    dialling: Option<Attempt>,
    failures: u32,
    /// How often in a row it had no room.
    was_full: u32,
    next: Millis,
    /// When it was last dialled.
    dialled: Option<Millis>,
    last_fault: Option<Fault>,
}

#[derive(Clone, Debug)]
enum Stranger {
    /// With these first digits of its federation's id.
    OtherFederation(String),
    Ourselves,
}

#[derive(Clone, Debug)]
enum Fault {
    NoAnswer(String),
    Refused(Refusal),
    Lost(String),
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
        let linked = peers.linked();
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
            known.next = now.mono.plus(known.pause(rng));
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
        known.next = now.mono.plus(known.pause(rng));
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
            Ended::Refused(refusal) => match refusal.code {
                RefusalCode::WrongFederation
                | RefusalCode::PolicyDiffers
                | RefusalCode::Version
                | RefusalCode::ProofOfWork
                | RefusalCode::NotAMember
                | RefusalCode::Revoked
                | RefusalCode::Expired
                | RefusalCode::Clone
                | RefusalCode::Forked
                | RefusalCode::BackingOff => Pause::Long,
                RefusalCode::TooManyPeers => Pause::UntilThereIsRoom,
                RefusalCode::HandshakeTimeout
                | RefusalCode::Duplicate
                | RefusalCode::Stopping
                | RefusalCode::Malformed
                | RefusalCode::FrameTooLarge
                | RefusalCode::UnknownKind
                | RefusalCode::BadClaim
                | RefusalCode::TooSlow => Pause::Short,
            },
            Ended::Closed => match lost.want_of_room {
                WantOfRoom::No => Pause::Short,
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
            }
            known.next = now.mono.plus(match pause {
                Pause::None => Millis::ZERO,
                Pause::Short => known.pause(rng),
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
            known.next = now.mono.plus(known.pause(rng));
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

    /// Takes the addresses of a newer record for those of an older one. Returns whether one of them is new.
    fn learn_record(&mut self, addresses: Vec<Address>) -> bool {
        let is_known =
            |address: &Address| self.addresses.contains(address) || self.recorded.contains(address);
        let is_new = !addresses.iter().all(is_known);
        self.recorded = addresses;
        is_new
    }

    /// Where it is dialled: what was heard or seen, then what its record says.
    fn all_addresses(&self) -> Vec<Address> {
        let recorded = self.recorded.iter().filter(|address| !self.addresses.contains(*address));
        self.addresses.iter().chain(recorded).take(ADDRESSES_MAX).cloned().collect()
    }

    fn node(&self, place: &Place) -> Option<NodeId> {
        match place {
            Place::Node(node) => Some(*node),
            Place::At(_) => self.found,
        }
    }

    fn is_named(&self) -> bool {
        self.sources.contains(&Source::Seed)
    }

    /// Whether nothing but a record says that somebody is there.
    fn is_by_record_only(&self) -> bool {
        self.addresses.is_empty() && !self.recorded.is_empty()
    }

    fn is_wanted(&self, place: &Place, linked: &BTreeSet<NodeId>) -> bool {
        self.dialling.is_none()
            && self.stranger.is_none()
            && !(self.addresses.is_empty() && self.recorded.is_empty())
            && !self.node(place).is_some_and(|node| linked.contains(&node))
    }

    /// Whether nobody seems to be there. The first attempt counts from its beginning.
    fn is_gone(&self) -> bool {
        let enough = if self.is_by_record_only() { FAILURES_OF_A_GHOST } else { FAILURES_OF_THE_GONE };
        self.failures >= enough
    }

    /// When it may be dialled.
    fn due(&self) -> Millis {
        match self.dialled {
            Some(at) if self.is_by_record_only() => {
                let doublings = self.failures.saturating_sub(1).min(RECORD_DOUBLINGS_MAX);
                self.next.max(at.plus(Millis(RECORD_RETRY.0 << doublings)))
            }
            Some(_) | None => self.next,
        }
    }

    fn why(&self, mono: Millis, lacking: usize) -> Unlinked {
        let again = self.due().since(mono);
        match (&self.stranger, &self.last_fault) {
            (Some(Stranger::OtherFederation(prefix)), _) => {
                Unlinked::OtherFederation { prefix: prefix.clone() }
            }
            (Some(Stranger::Ourselves), _) => Unlinked::Ourselves,
            (None, _) if self.dialling.is_some() && self.last_fault.is_none() => Unlinked::Dialling,
            (None, Some(Fault::NoAnswer(what))) => Unlinked::NoAnswer { what: what.clone(), again },
            (None, Some(Fault::Refused(refusal))) => Unlinked::Refused { refusal: refusal.clone(), again },
            (None, Some(Fault::Lost(what))) => Unlinked::Lost { what: what.clone(), again },
            (None, None) if self.addresses.is_empty() && self.recorded.is_empty() => Unlinked::NoAddress,
            (None, None) if lacking == 0 && !self.is_named() => Unlinked::Spare,
            (None, None) if self.is_by_record_only() => Unlinked::ByRecord { again },
            (None, None) => Unlinked::Dialling,
        }
    }

    /// Half as much again as the bound at most, so that those who were turned away together don't come back together.
    fn pause_when_full(&mut self, rng: &mut ChaCha8Rng) -> Millis {
        let pause = FULL_RETRY.0 << self.was_full.min(FULL_DOUBLINGS_MAX);
        self.was_full = self.was_full.saturating_add(1);
        let spread = below(rng, usize::try_from(pause / 2).unwrap_or(0));
        Millis(pause).plus(Millis(u64::try_from(spread).unwrap_or(0)))
    }

    /// Full jitter (Brooker 2015): anywhere up to the exponential bound, so that nodes that failed together don't
    /// come back together.
    fn pause(&self, rng: &mut ChaCha8Rng) -> Millis {
        let doubled = RETRY_MIN.0.saturating_mul(1 << self.failures.min(16));
        let bound = doubled.min(RETRY_MAX.0);
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

/// What may be dialled, gathered in one look at all places.
struct Due<'a> {
    now: Millis,
    named: Vec<&'a Place>,
    others: Vec<&'a Place>,
    by_record: Vec<&'a Place>,
    /// When the first of those that are not due yet is.
    wake: Option<Millis>,
}

impl<'a> Due<'a> {
    fn add(&mut self, place: &'a Place, known: &Known) {
        let at = known.due();
        if at > self.now {
            self.wake = self.wake.into_iter().chain([at]).min();
        } else if known.is_named() {
            self.named.push(place);
        } else if known.is_by_record_only() {
            self.by_record.push(place);
        } else {
            self.others.push(place);
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
