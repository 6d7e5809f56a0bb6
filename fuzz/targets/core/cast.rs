//! Who takes part: the node that is looked at, peers of it, and what each of them wrote, in several histories.

use std::{
    num::NonZeroU64,
    sync::{Arc, LazyLock, atomic::AtomicBool},
};

use cogmesh::{
    ledger::{
        Policy,
        types::{Level, Millis, Seq},
    },
    log::{
        Body, CaKey, Claim, Entry, FederationId, FederationName, Genesis, Hardware, Hash, Header, Identity,
        Mode, NodeId, Nonce, Rules, Search, Segment, Thought,
    },
    protocol::{
        frame::Instance,
        hello::{Closed, Setup},
    },
};

/// When everything begins: 2026-11-24.
pub(super) const BEGINNING: u64 = 1_795_478_400_000;
/// How many there are. The first is the node itself, the last two know each other's keys and nobody else's.
pub(super) const PEOPLE: u8 = 6;
/// Histories that each of them wrote; they part behind the third entry, and the last one lies about a content.
pub(super) const HISTORIES: u8 = 3;
/// Entries of a history.
pub(super) const ENTRIES: usize = 12;

pub(super) static CAST: LazyLock<Cast> = LazyLock::new(Cast::new);

#[derive(Debug)]
pub(super) struct Cast {
    pub(super) people: Vec<Person>,
    pub(super) ca: Identity,
    policy: Policy,
}

#[derive(Debug)]
pub(super) struct Person {
    pub(super) identity: Arc<Identity>,
    histories: Vec<Vec<Entry>>,
    nonce: Nonce,
}

impl Cast {
    fn new() -> Self {
        // Work that a fuzzer need not wait for.
        let policy = Policy { pow_bits: 4, ..Policy::default() };
        let federation = federation(&policy);
        let people = (0..PEOPLE).map(|seed| Person::new(&federation, &policy, seed)).collect();
        Self { people, ca: Identity::from_seed(&[200; 32]).unwrap(), policy }
    }

    pub(super) fn person(&self, number: u8) -> &Person {
        &self.people[usize::from(number % PEOPLE)]
    }

    pub(super) fn who(&self, id: NodeId) -> Option<&Person> {
        self.people.iter().find(|person| person.id() == id)
    }

    pub(super) fn federation(&self) -> FederationId {
        federation(&self.policy)
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            federation: self.federation(),
            pow_bits: self.policy.pow_bits,
            content_bytes_max: self.policy.content_max_bytes,
        }
    }

    /// What a node knows of itself, in an open federation or a closed one, with anybody for a peer or only some.
    pub(super) fn setup(&self, number: u8, manner: Manner) -> Setup {
        let person = self.person(number);
        let key = CaKey::of(&self.ca);
        let closed = Closed { ca: key.hash(), key: Some(key), revoked: vec![] };
        Setup {
            identity: Arc::clone(&person.identity),
            // Closed federations have an id of their own, which nothing that is looked at here depends on.
            federation: self.federation(),
            federation_name: name(),
            closed: manner.closed.then_some(closed),
            policy: self.policy.clone(),
            name: node_name(number).parse().unwrap(),
            claim: claim(),
            nonce: person.nonce,
            instance: Instance(u64::from(number)),
            addresses: vec!["192.0.2.1:8888".parse().unwrap()],
            peers_max: if manner.crowded { 2 } else { 64 },
            pinned: manner.pinned.then(|| vec![self.person(1).id()]),
        }
    }
}

/// How a node is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) closed: bool,
    pub(super) pinned: bool,
    pub(super) crowded: bool,
}

impl Person {
    fn new(federation: &FederationId, policy: &Policy, seed: u8) -> Self {
        let identity = Arc::new(Identity::from_seed(&[seed + 1; 32]).unwrap());
        let search = Search {
            federation: *federation,
            node: identity.node_id(),
            bits_min: policy.pow_bits,
            first: 0,
            step: NonZeroU64::MIN,
        };
        let nonce = search.run(&AtomicBool::new(false)).unwrap();
        let history = |history| write(federation, (&identity, nonce), seed, history);
        let histories = (0..HISTORIES).map(history).collect();
        Self { identity, histories, nonce }
    }

    pub(super) fn id(&self) -> NodeId {
        self.identity.node_id()
    }

    pub(super) fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// Entries of one of its histories; none where there are no such.
    pub(super) fn entries(&self, history: u8, from: usize, count: usize) -> &[Entry] {
        let history = &self.histories[usize::from(history % HISTORIES)];
        let from = from.min(history.len());
        &history[from..from.saturating_add(count).min(history.len())]
    }

    /// The same, as a segment that it signed.
    pub(super) fn segment(&self, history: u8, from: usize, count: usize) -> Option<Segment> {
        let entries = self.entries(history, from, count).to_vec();
        Some(Segment::own(entries, &self.identity, &CAST.federation()).ok()?.into_inner())
    }
}

fn federation(policy: &Policy) -> FederationId {
    FederationId::new(&name(), policy, None)
}

fn name() -> FederationName {
    "lan".parse().unwrap()
}

/// Two of them have the same.
fn node_name(number: u8) -> String {
    format!("node-{}", number.min(PEOPLE - 2))
}

fn claim() -> Claim {
    Claim { hardware: Hardware::Software, level: Level::MAX, arch: "x86_64".parse().unwrap() }
}

fn write(
    federation: &FederationId,
    (identity, nonce): (&Identity, Nonce),
    seed: u8,
    history: u8,
) -> Vec<Entry> {
    let Claim { hardware, level, arch } = claim();
    let genesis = Genesis { name: node_name(seed).parse().unwrap(), hardware, level, arch, nonce };
    let mut header = Header {
        author: identity.node_id(),
        seq: Seq::GENESIS,
        prev: Hash::ZERO,
        time: Millis(BEGINNING - 600_000),
        body: Body::Genesis(genesis),
    };
    let mut entries = vec![Entry::new(federation, header.clone(), None)];
    for number in 1..ENTRIES {
        let parted = if number > 3 { history } else { 0 };
        let content = thought(number, &format!("node {seed} in history {parted}"));
        header.prev = entries.last().unwrap().hash();
        header.seq = header.seq.next();
        header.time = Millis(header.time.0 + 20_000);
        let mut thought = Thought::new("main".parse().unwrap(), Mode::Verifying, &content);
        if parted == HISTORIES - 1 && number == 6 {
            thought.content_bytes += 1;
        }
        header.body = Body::Thought(thought);
        entries.push(Entry::new(federation, header.clone(), Some(&content)));
    }
    entries
}

/// A content that no other number has anything like, so that the rules don't take it for a repetition.
pub(super) fn thought(number: usize, whose: &str) -> String {
    const ABOUT: [&str; 12] = [
        "signatures cover whole chains, hence a burst of entries costs one of them",
        "a switch forgets which port a station was last heard on after minutes",
        "flow control turns a slow reader into a slow sender without any loss",
        "birds that migrate at night steer by the magnetic field and the stars",
        "an index of trigrams finds misspelt words faster than edit distances",
        "integer division rounds towards zero, therefore the order of terms counts",
        "bread needs salt because gluten without it stays weak and sticky",
        "two clocks drift apart by seconds a day where temperature varies",
        "paper folded in halves keeps its proportions if they are root two",
        "tides follow the moon with a lag that depends on the coast's shape",
        "caches that are shared between cores make counters surprisingly slow",
        "a proof of work is cheap to check and bound to one identity only",
    ];
    format!("Thought {number} of {whose}: {}.", ABOUT[number % ABOUT.len()])
}
