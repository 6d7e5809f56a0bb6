//! Dialling: whom to dial, where and when. Hints come from anywhere and are never an authority; an expired one only
//! ages. Retries back off from 250 ms to 30 s with full jitter. Source: protocol.md, Discovery.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use rand_chacha::{ChaCha8Rng, rand_core::RngCore};

use super::{
    event::Event,
    hello::Setup,
    input::{Address, Attempt, Dial, Effect, Ended, Hint, Now, Source},
    peers::{Lost, Peers},
    refusal::RefusalCode,
};
use crate::{ledger::types::Millis, log::NodeId};

/// The first retry comes within this.
const RETRY_MIN: Millis = Millis(250);
/// A later one within this, at most.
const RETRY_MAX: Millis = Millis(30_000);
/// Most places that are remembered; who is neither linked nor named by the user goes first.
const PLACES_MAX: usize = 1_024;
/// Most addresses of one place; newer ones push out older ones.
const ADDRESSES_MAX: usize = 16;
/// Dials that are on their way at a time.
const DIALS_MAX: usize = 32;
/// A place whose rules or federation differ is asked again this seldom.
const STRANGER_RETRY: Millis = Millis(60_000);

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
}

#[derive(Debug, Default)]
struct Known {
    /// Who was found at an address.
    found: Option<NodeId>,
    name: Option<String>,
    /// The likeliest first.
    addresses: Vec<Address>,
    sources: BTreeSet<Source>,
    /// Why it is not to be dialled at all.
    stranger: Option<String>,
    dialling: Option<Attempt>,
    failures: u32,
    next: Millis,
    last_fault: Option<String>,
}

/// A place that is not linked, for a snapshot.
#[derive(Debug)]
pub struct Unlinked<'a> {
    /// Who, where known.
    pub id: Option<NodeId>,
    /// What it is said to be called.
    pub name: Option<&'a str>,
    /// Where.
    pub addresses: &'a [Address],
    /// How that became known.
    pub sources: Vec<Source>,
    /// Why it is not linked.
    pub why: String,
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
        if is_new && !self.make_room() {
            return;
        }
        let known = self.places.entry(place).or_default();
        known.sources.insert(hint.source);
        known.name = hint.name.or_else(|| known.name.take());
        known.stranger = match ours {
            true => None,
            false => Some(format!("belongs to another federation ({})", hint.federation.unwrap_or_default())),
        };
        if known.learn(addresses) {
            // It moved, or came back: what failed before says nothing about now.
            known.failures = 0;
            known.next = now.mono;
        }
        if is_new {
            out.push(Effect::Event(Event::Seen { id: hint.node, source: hint.source, ours }));
        }
    }

    /// Dials what is due.
    pub fn dial(
        &mut self,
        setup: &Setup,
        now: Now,
        peers: &Peers,
        rng: &mut ChaCha8Rng,
        out: &mut Vec<Effect>,
    ) {
        let mut room = DIALS_MAX.saturating_sub(self.attempts.len());
        room = room.min(setup.peers_max.saturating_sub(peers.count()));
        for (place, known) in &mut self.places {
            if room == 0 {
                return;
            }
            if known.next > now.mono || !known.is_wanted(place, peers) {
                continue;
            }
            self.last_attempt = self.last_attempt.wrapping_add(1);
            let attempt = Attempt(self.last_attempt);
            let expect = match place {
                Place::Node(node) => Some(*node),
                Place::At(_) => None,
            };
            known.dialling = Some(attempt);
            // Should no answer come at all, this is when it is tried again.
            known.failures = known.failures.saturating_add(1);
            known.next = now.mono.plus(known.pause(rng));
            self.attempts.insert(attempt, place.clone());
            out.push(Effect::Dial(Dial { attempt, expect, addresses: known.addresses.clone() }));
            room -= 1;
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
        known.last_fault = Some(why.clone());
        let id = match place {
            Place::Node(node) => Some(node),
            Place::At(_) => None,
        };
        out.push(Effect::Event(Event::DialFailed { id, addresses: known.addresses.clone(), why }));
    }

    /// A link counts: the places of its node are in order.
    pub fn established(&mut self, node: NodeId, address: SocketAddr) {
        let place = Place::Node(node);
        if self.places.contains_key(&place) || self.make_room() {
            self.places.entry(place).or_default().learn(vec![Address::Socket(address)]);
        }
        for known in self.of(node) {
            known.failures = 0;
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
                | RefusalCode::BackingOff
                | RefusalCode::TooManyPeers => Some(STRANGER_RETRY),
                RefusalCode::HandshakeTimeout
                | RefusalCode::Duplicate
                | RefusalCode::Stopping
                | RefusalCode::Malformed
                | RefusalCode::FrameTooLarge
                | RefusalCode::UnknownKind
                | RefusalCode::BadClaim
                | RefusalCode::TooSlow => None,
            },
            Ended::Closed | Ended::Broke(_) => None,
        };
        let fault = match &lost.why {
            Ended::Refused(refusal) => format!("refused: {refusal}"),
            Ended::Closed => "closed by this node".to_owned(),
            Ended::Broke(why) => why.clone(),
        };
        for known in self.of(lost.node) {
            known.last_fault = Some(fault.clone());
            if lost.counted {
                known.failures = 0;
            }
            known.next = now.mono.plus(pause.unwrap_or_else(|| known.pause(rng)));
        }
    }

    /// This node itself answered at a place: it is not dialled again before something new is heard of it.
    pub fn met_ourselves(&mut self, own: NodeId) {
        for known in self.of(own) {
            known.stranger = Some("this node itself answers there".to_owned());
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
    pub fn wake_at(&self, setup: &Setup, peers: &Peers) -> Option<Millis> {
        let full = self.attempts.len() >= DIALS_MAX || peers.count() >= setup.peers_max;
        if full {
            return None;
        }
        let wanted = self.places.iter().filter(|(place, known)| known.is_wanted(place, peers));
        wanted.map(|(_, known)| known.next).min()
    }

    /// The sources by which a linked node is known.
    #[must_use]
    pub fn known_of(&self, node: NodeId) -> (Vec<Address>, Vec<Source>) {
        let mut addresses = vec![];
        let mut sources = BTreeSet::new();
        for (place, known) in &self.places {
            if *place == Place::Node(node) || known.found == Some(node) {
                addresses.extend(known.addresses.iter().cloned());
                sources.extend(known.sources.iter().copied());
            }
        }
        (addresses, sources.into_iter().collect())
    }

    /// Every place that is not linked.
    pub fn unlinked<'a>(&'a self, peers: &'a Peers) -> impl Iterator<Item = Unlinked<'a>> {
        self.places.iter().filter_map(move |(place, known)| {
            let id = match place {
                Place::Node(node) => Some(*node),
                Place::At(_) => known.found,
            };
            if id.is_some_and(|node| peers.is_linked(node)) {
                return None;
            }
            let why = match (&known.stranger, &known.last_fault) {
                (Some(stranger), _) => stranger.clone(),
                (None, Some(fault)) => fault.clone(),
                (None, None) if known.addresses.is_empty() => "no address is known".to_owned(),
                (None, None) => "being dialled".to_owned(),
            };
            Some(Unlinked {
                id,
                name: known.name.as_deref(),
                addresses: &known.addresses,
                sources: known.sources.iter().copied().collect(),
                why,
            })
        })
    }

    fn of(&mut self, node: NodeId) -> impl Iterator<Item = &mut Known> {
        self.places.iter_mut().filter_map(move |(place, known)| {
            let is_it = *place == Place::Node(node) || known.found == Some(node);
            is_it.then_some(known)
        })
    }

    /// Makes room for one more place. Those that the user named stay.
    fn make_room(&mut self) -> bool {
        if self.places.len() < PLACES_MAX {
            return true;
        }
        let is_spare = |known: &Known| known.dialling.is_none() && !known.sources.contains(&Source::Seed);
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

    fn is_wanted(&self, place: &Place, peers: &Peers) -> bool {
        let node = match place {
            Place::Node(node) => Some(*node),
            Place::At(_) => self.found,
        };
        self.dialling.is_none()
            && self.stranger.is_none()
            && !self.addresses.is_empty()
            && !node.is_some_and(|node| peers.is_linked(node))
    }

    /// Full jitter (Brooker 2015): anywhere up to the exponential bound, so that nodes that failed together don't
    /// come back together.
    fn pause(&self, rng: &mut ChaCha8Rng) -> Millis {
        let doubled = RETRY_MIN.0.saturating_mul(1 << self.failures.min(16));
        let bound = doubled.min(RETRY_MAX.0);
        Millis(rng.next_u64() % bound.saturating_add(1))
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
