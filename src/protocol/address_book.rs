//! The address book: signed peer records, so that nodes which never met on a LAN can find each other through common peers.
//!
//! Each node tells its records on: some to every new peer, those of newcomers to all, and now and then a few to one peer at
//! random. That is a peer-sampling service (Jelasity et al., "Gossip-based peer sampling", ACM TOCS 2007): what each node
//! knows stays a random part of the federation, without anybody who knows it all.
//!
//! A record is a hint and no more: anybody can make keys and sign records for them. So nothing is kept whose signature does
//! not hold, each peer's records are looked at only so often, and where there are too many, whoever told most loses one of
//! its own: a flood pushes out the flood.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use rand_chacha::ChaCha8Rng;

use super::{
    chance::{around, one_of, pick},
    frame::{ControlFrame, RECORDS_PER_FRAME_MAX, SignedRecord},
    hello::Setup,
    input::{Address, Effect, Hint, LinkId, Now, Source},
};
use crate::{
    ledger::types::Millis,
    log::{NodeId, NodeRecord, identity::BadSignature},
};

/// Most records that are kept, about 400 bytes each.
pub const RECORDS_MAX: usize = 1_024;
/// Records that a new peer is told. A tenth of them would do; the rest is for those that are down or full.
const TOLD_TO_NEW: usize = 32;
/// Records of one node that are looked at within [`WINDOW`]: a whole table in four minutes, and at most 15 ms of
/// verification. What is more is dropped, and told again by somebody some time.
const LOOKED_AT_MAX: u32 = 256;
/// The window in which they count.
const WINDOW: Millis = Millis(60_000);
/// Newcomers are gathered for so long before they are told to the others: when a whole LAN starts, that is a frame a link
/// instead of one for each newcomer.
const GATHER: Millis = Millis(1_000);
/// So many peers are told of newcomers, picked at random: each of them tells its own, so all hear of them, and a thousand links are not a
/// thousand frames of records a second while a crowd comes.
const NEWS_TO_MAX: usize = 64;
/// About so often some records go to one peer at random.
const SHUFFLE_EVERY: Millis = Millis(60_000);
/// So many of them, our own among them.
const SHUFFLED: usize = 16;
/// A record that says nothing new replaces an older one only if it is younger by this: each connection signs a record, and
/// to verify them all would be most of a large federation's work.
const REFRESH: Millis = Millis(300_000);
/// A record older than this is neither taken nor told: its node would have signed another one. A day, so that clocks that
/// are wrong by hours do no harm.
const AGE_MAX: Millis = Millis(86_400_000);

const _: () = assert!(TOLD_TO_NEW <= RECORDS_PER_FRAME_MAX && SHUFFLED <= RECORDS_PER_FRAME_MAX);

/// Every record that is known, the newest of each node.
#[derive(Debug, Default)]
pub struct AddressBook {
    known: BTreeMap<NodeId, Known>,
    /// By teller, so that a new link is no new quota.
    quotas: BTreeMap<NodeId, Quota>,
    /// Whose records are to be told to everyone.
    news: BTreeSet<NodeId>,
    tell_at: Option<Millis>,
    shuffle_at: Option<Millis>,
}

#[derive(Debug)]
struct Known {
    signed: SignedRecord,
    /// Who told it.
    via: NodeId,
}

#[derive(Clone, Copy, Debug)]
struct Quota {
    since: Millis,
    looked_at: u32,
}

/// What came of records that were told.
#[derive(Debug, Default)]
pub struct Told {
    /// Where somebody may be.
    pub hints: Vec<Hint>,
    /// Whose records had to go.
    pub forgotten: Vec<NodeId>,
    /// The first one whose signature does not hold; what came after it was not looked at.
    pub fault: Option<BadSignature>,
}

impl AddressBook {
    /// A node introduced itself; its record was checked with its Hello. It is told to the others.
    pub fn met(&mut self, setup: &Setup, now: Now, signed: SignedRecord, rng: &mut ChaCha8Rng) -> Told {
        let mut told = Told::default();
        let node = signed.record.id();
        if self.is_news(&signed.record) {
            told.hints.extend(hint(setup, &signed.record));
            self.news.insert(node);
            self.tell_at.get_or_insert_with(|| now.mono.plus(GATHER));
            self.keep(Known { signed, via: node }, rng, &mut told);
        }
        told
    }

    /// A peer, or a node that refuses us for want of room, passes records along.
    pub fn told(
        &mut self,
        setup: &Setup,
        now: Now,
        via: NodeId,
        records: Vec<SignedRecord>,
        rng: &mut ChaCha8Rng,
    ) -> Told {
        let mut told = Told::default();
        for signed in records {
            if !self.may_look(now.mono, via) {
                break;
            }
            if signed.record.id() == setup.id()
                || is_old(now, &signed.record)
                || !self.is_news(&signed.record)
            {
                continue;
            }
            if let Err(fault) = signed.record.verify(&signed.signature) {
                told.fault = Some(fault);
                break;
            }
            told.hints.extend(hint(setup, &signed.record));
            self.keep(Known { signed, via }, rng, &mut told);
        }
        told
    }

    /// A new link: its node is told some of what is known.
    pub fn established(
        &mut self,
        now: Now,
        link: LinkId,
        node: NodeId,
        rng: &mut ChaCha8Rng,
        out: &mut Vec<Effect>,
    ) {
        send(link, self.sample(now, node, TOLD_TO_NEW, rng), out);
        self.shuffle_at.get_or_insert_with(|| now.mono.plus(around(rng, SHUFFLE_EVERY)));
    }

    /// A random part of what is known, for that node.
    pub fn sample(&self, now: Now, node: NodeId, count: usize, rng: &mut ChaCha8Rng) -> Vec<SignedRecord> {
        let is_for = |known: &&Known| known.signed.record.id() != node && !is_old(now, &known.signed.record);
        let mut chosen: Vec<&Known> = self.known.values().filter(is_for).collect();
        pick(rng, &mut chosen, count);
        chosen.into_iter().map(|known| known.signed.clone()).collect()
    }

    /// When [`AddressBook::tick`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        self.tell_at.into_iter().chain(self.shuffle_at).min()
    }

    /// Does what is due: newcomers are told to all, some records to somebody.
    pub fn tick(
        &mut self,
        setup: &Setup,
        now: Now,
        links: &[(LinkId, NodeId)],
        rng: &mut ChaCha8Rng,
        out: &mut Vec<Effect>,
    ) {
        if self.tell_at.is_some_and(|at| at <= now.mono) {
            self.tell_at = None;
            self.tell_news(links, rng, out);
        }
        if self.shuffle_at.is_some_and(|at| at <= now.mono) {
            self.shuffle(setup, now, links, rng, out);
            self.shuffle_at = (!links.is_empty()).then(|| now.mono.plus(around(rng, SHUFFLE_EVERY)));
            self.quotas.retain(|_, quota| now.mono.since(quota.since) < WINDOW);
        }
    }

    fn tell_news(&mut self, links: &[(LinkId, NodeId)], rng: &mut ChaCha8Rng, out: &mut Vec<Effect>) {
        let news = std::mem::take(&mut self.news);
        let news: Vec<&Known> = news.iter().filter_map(|node| self.known.get(node)).collect();
        let mut to = links.to_vec();
        if to.len() > NEWS_TO_MAX {
            pick(rng, &mut to, NEWS_TO_MAX);
        }
        for (link, node) in &to {
            let others = news.iter().filter(|known| known.signed.record.id() != *node && known.via != *node);
            let records: Vec<SignedRecord> =
                others.map(|known| known.signed.clone()).take(RECORDS_PER_FRAME_MAX).collect();
            send(*link, records, out);
        }
    }

    fn shuffle(
        &self,
        setup: &Setup,
        now: Now,
        links: &[(LinkId, NodeId)],
        rng: &mut ChaCha8Rng,
        out: &mut Vec<Effect>,
    ) {
        let Some((link, node)) = one_of(rng, links) else { return };
        let mut records = self.sample(now, node, SHUFFLED - 1, rng);
        // Our own as it is now, so that what others know of us stays young.
        records.push(setup.signed_record(now));
        send(link, records, out);
    }

    fn may_look(&mut self, mono: Millis, via: NodeId) -> bool {
        let quota = self.quotas.entry(via).or_insert(Quota { since: mono, looked_at: 0 });
        if mono.since(quota.since) >= WINDOW {
            *quota = Quota { since: mono, looked_at: 0 };
        }
        quota.looked_at = quota.looked_at.saturating_add(1);
        quota.looked_at <= LOOKED_AT_MAX
    }

    fn is_news(&self, record: &NodeRecord) -> bool {
        let Some(known) = self.known.get(&record.id()).map(|known| &known.signed.record) else {
            return true;
        };
        let says_the_same = known.addresses() == record.addresses() && known.name() == record.name();
        match says_the_same {
            true => record.time() >= known.time().plus(REFRESH),
            false => record.time() > known.time(),
        }
    }

    fn keep(&mut self, known: Known, rng: &mut ChaCha8Rng, told: &mut Told) {
        let node = known.signed.record.id();
        self.known.insert(node, known);
        if self.known.len() <= RECORDS_MAX {
            return;
        }
        let mut by_teller: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for (id, known) in self.known.iter().filter(|(id, _)| **id != node) {
            by_teller.entry(known.via).or_default().push(*id);
        }
        let most = by_teller.values().max_by_key(|records| records.len());
        if let Some(victim) = most.and_then(|records| one_of(rng, records)) {
            self.known.remove(&victim);
            told.forgotten.push(victim);
        }
    }
}

fn send(link: LinkId, records: Vec<SignedRecord>, out: &mut Vec<Effect>) {
    if !records.is_empty() {
        out.push(Effect::Control { link, frame: ControlFrame::Records(records) });
    }
}

fn is_old(now: Now, record: &NodeRecord) -> bool {
    now.wall.since(record.time()) > AGE_MAX
}

/// Where that node may be, as far as a stranger's word is good for a packet.
fn hint(setup: &Setup, record: &NodeRecord) -> Option<Hint> {
    let may_be_dialled = |address: &&SocketAddr| is_dialable(setup, address.ip());
    let addresses: Vec<Address> =
        record.addresses().iter().filter(may_be_dialled).copied().map(Address::Socket).collect();
    (!addresses.is_empty()).then(|| Hint {
        source: Source::Record,
        node: Some(record.id()),
        name: Some(record.name().to_string()),
        federation: None,
        addresses,
    })
}

/// Link-local addresses mean something on the link of whoever wrote them, loopback on its machine. Multicast, broadcast and
/// unspecified ones no hint may name; `dialling` sees to that.
fn is_dialable(setup: &Setup, ip: IpAddr) -> bool {
    let is_local = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let we_are_on_loopback = || {
        !setup.addresses.is_empty() && setup.addresses.iter().all(|own| own.ip().to_canonical().is_loopback())
    };
    !is_local && (!ip.to_canonical().is_loopback() || we_are_on_loopback())
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::log::Identity;

    const NOW: Now = Now { mono: Millis(0), wall: Millis(2 * AGE_MAX.0) };

    fn identity(number: u64) -> Identity {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Identity::from_seed(&seed).unwrap()
    }

    fn setup(addresses: &[&str]) -> Setup {
        Setup { identity: identity(0).into(), ..Setup::of_test(addresses) }
    }

    fn record(number: u64, addresses: &[&str], time: Millis) -> SignedRecord {
        let identity = identity(number);
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let record = NodeRecord::new(identity.node_id(), "thor".parse().unwrap(), addresses, time).unwrap();
        SignedRecord { signature: record.sign(&identity), record }
    }

    fn hinted(told: &Told) -> Vec<String> {
        told.hints.iter().flat_map(|hint| &hint.addresses).map(ToString::to_string).collect()
    }

    /// Tells a book on a LAN one record of node 1 after another, by node 9; the addresses that each led to.
    fn tell(book: &mut AddressBook, setup: &Setup, signed: SignedRecord) -> Told {
        book.told(setup, NOW, identity(9).node_id(), vec![signed], &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn the_newest_record_of_a_node_counts_and_ours_is_ignored() {
        let (mut book, setup) = (AddressBook::default(), setup(&["192.0.2.1:8888"]));
        let at = |seconds: u64| NOW.wall.plus(Millis(seconds * 1_000));
        assert_eq!(hinted(&tell(&mut book, &setup, record(1, &["192.0.2.7:1"], at(5)))), ["192.0.2.7:1"]);
        assert_eq!(hinted(&tell(&mut book, &setup, record(1, &["192.0.2.8:1"], at(4)))), [""; 0], "older");
        assert_eq!(hinted(&tell(&mut book, &setup, record(1, &["192.0.2.8:1"], at(6)))), ["192.0.2.8:1"]);
        assert_eq!(hinted(&tell(&mut book, &setup, record(1, &["192.0.2.8:1"], at(9)))), [""; 0], "the same");
        assert_eq!(hinted(&tell(&mut book, &setup, record(1, &["192.0.2.8:1"], at(400)))), ["192.0.2.8:1"]);
        assert_eq!(hinted(&tell(&mut book, &setup, record(0, &["192.0.2.9:1"], at(9)))), [""; 0], "ours");
        assert_eq!(hinted(&tell(&mut book, &setup, record(2, &["192.0.2.9:1"], Millis(5)))), [""; 0], "old");
        assert_eq!(book.known.len(), 1);
    }

    #[test]
    fn what_its_node_did_not_sign_is_not_kept_and_ends_the_look() {
        let (mut book, setup) = (AddressBook::default(), setup(&["192.0.2.1:8888"]));
        let good = record(1, &["192.0.2.7:1"], NOW.wall);
        let forged = SignedRecord { signature: good.signature, ..record(2, &["192.0.2.7:1"], NOW.wall) };
        let after = record(3, &["192.0.2.7:1"], NOW.wall);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let told = book.told(&setup, NOW, identity(9).node_id(), vec![good, forged, after], &mut rng);
        assert_eq!(told.fault, Some(BadSignature { node: identity(2).node_id() }));
        assert_eq!(book.known.keys().copied().collect::<Vec<_>>(), [identity(1).node_id()]);
    }

    #[test]
    fn loopback_is_dialled_only_from_loopback_and_link_local_never() {
        let everywhere =
            ["127.0.0.1:1", "[::1]:1", "169.254.1.1:1", "[fe80::1]:1", "[::ffff:127.0.0.1]:1", "10.0.0.1:1"];
        let told = |own: &[&str]| {
            let mut book = AddressBook::default();
            hinted(&tell(&mut book, &setup(own), record(1, &everywhere, NOW.wall)))
        };
        assert_eq!(told(&["192.0.2.1:8888"]), ["10.0.0.1:1"]);
        assert_eq!(told(&["127.0.0.1:8888", "192.0.2.1:8888"]), ["10.0.0.1:1"]);
        assert_eq!(told(&[]), ["10.0.0.1:1"]);
        let local = ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "10.0.0.1:1"];
        assert_eq!(told(&["127.0.0.1:8888"]), local);
    }

    #[test]
    fn a_flood_pushes_out_the_flood_and_only_so_much_of_it_is_looked_at() {
        let (mut book, setup) = (AddressBook::default(), setup(&["192.0.2.1:8888"]));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for honest in 1..=100 {
            book.met(&setup, NOW, record(honest, &["192.0.2.7:1"], NOW.wall), &mut rng);
        }
        let flooder = identity(500).node_id();
        let mut forgotten = 0;
        for minute in 0..6_u64 {
            let now = Now { mono: Millis(minute * 60_000), ..NOW };
            for frame in 0..10 {
                let first = 1_000 + minute * 1_000 + frame * 64;
                let ghosts = (first..first + 64).map(|ghost| record(ghost, &["192.0.2.66:1"], NOW.wall));
                forgotten += book.told(&setup, now, flooder, ghosts.collect(), &mut rng).forgotten.len();
            }
            let looked_at = 256 * usize::try_from(minute + 1).unwrap();
            assert_eq!(book.known.len(), (100 + looked_at).min(RECORDS_MAX));
        }
        assert_eq!(forgotten, 100 + 6 * 256 - RECORDS_MAX);
        let is_left = |honest: u64| book.known.contains_key(&identity(honest).node_id());
        assert!((1..=100).all(is_left), "nobody else's record had to go");
    }

    #[test]
    fn a_newcomer_is_told_to_the_others_and_our_own_record_goes_round() {
        let (mut book, setup) = (AddressBook::default(), setup(&["192.0.2.1:8888"]));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (one, other) = (identity(1).node_id(), identity(2).node_id());
        let links = [(LinkId(1), one), (LinkId(2), other)];
        book.met(&setup, NOW, record(1, &["192.0.2.7:1"], NOW.wall), &mut rng);
        let mut out = vec![];
        book.established(NOW, LinkId(1), one, &mut rng, &mut out);
        assert!(out.is_empty(), "it knows itself");
        let gathered = Now { mono: book.wake_at().unwrap(), ..NOW };
        book.tick(&setup, gathered, &links, &mut rng, &mut out);
        let [Effect::Control { link: LinkId(2), frame: ControlFrame::Records(told) }] = out.as_slice() else {
            panic!("{out:?}");
        };
        assert_eq!(told.iter().map(|signed| signed.record.id()).collect::<Vec<_>>(), [one]);

        out.clear();
        let later = Now { mono: book.wake_at().unwrap(), ..NOW };
        assert!((30_000..90_000).contains(&later.mono.0), "{later:?}");
        book.tick(&setup, later, &links, &mut rng, &mut out);
        let [Effect::Control { frame: ControlFrame::Records(told), .. }] = out.as_slice() else {
            panic!("{out:?}");
        };
        assert!(told.iter().any(|signed| signed.record.id() == setup.id()));
        assert!(told.iter().all(|signed| signed.record.verify(&signed.signature).is_ok()));
    }

    #[test]
    fn of_very_many_peers_only_some_are_told_of_a_newcomer() {
        let (mut book, setup) = (AddressBook::default(), setup(&["192.0.2.1:8888"]));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let links: Vec<_> = (1..=1_000).map(|number| (LinkId(number), identity(number).node_id())).collect();
        let mut told_at_all = BTreeSet::new();
        for newcomer in 2_000..2_010 {
            book.met(&setup, NOW, record(newcomer, &["192.0.2.7:1"], NOW.wall), &mut rng);
            let gathered = Now { mono: book.wake_at().unwrap(), ..NOW };
            let mut out = vec![];
            book.tick(&setup, gathered, &links, &mut rng, &mut out);
            let told: BTreeSet<LinkId> = out
                .iter()
                .map(|effect| {
                    let Effect::Control { link, frame: ControlFrame::Records(_) } = effect else {
                        panic!("{effect:?}");
                    };
                    *link
                })
                .collect();
            assert_eq!(told.len(), NEWS_TO_MAX, "each once");
            told_at_all.extend(told);
        }
        assert!(told_at_all.len() > 300, "not the same ones each time: {}", told_at_all.len());
    }
}
