//! Discovery: who else may be there.
//!
//! Everything here ends in a [`Hint`]: somebody may be at these addresses. A hint decides nothing. Anybody on a LAN can
//! announce anything, so who somebody is only the handshake says, and whom to dial when is for the core to decide.
//!
//! Three sources, any one of which is enough for a federation to come together:
//! - **mDNS** (`mdns.rs`): each node announces the service `_cogmesh._udp.local.` on every LAN that it is on, and listens.
//! - **Peers of earlier runs** and **peers named by the user** ([`remembered()`], [`seeds()`]), where multicast is blocked.
//!
//! How the mDNS part hangs together:
//! - `watch.rs` looks at this machine's interfaces (`interfaces.rs`) once a second and whenever the kernel says that one changed
//!   (`netlink.rs`), and keeps one listener for each that leads to a LAN. Each listener has an mDNS daemon of its own. One daemon for all interfaces would announce the
//!   addresses of one on another wherever their networks look alike, which IPv6 link-local addresses always do.
//! - A listener drains its daemon's events into a bounded map (`heard.rs`), for a daemon silently drops whoever is 1,000
//!   events behind. Each record is read with suspicion (`sighting.rs`) before it becomes a hint.
//! - An announcement that expired is no dead peer: whether a peer lives, its connection says. So removals are ignored, and
//!   when a connection dies the core asks ([`Discovery::verify`]): the record is flushed, and the LAN asked again.
//! - Names hold the node's key, so they are unique and announced without probing: others see a node after milliseconds
//!   instead of 0.9 s.
//! - The daemon's cache has no bound of its own. A daemon that a flood has filled is replaced by a fresh one.
//!
//! The protocol's side of this is in protocol.md, Discovery.

mod echo;
mod heard;
mod interfaces;
mod lans;
mod mdns;
mod netlink;
mod preflight;
mod remembered;
pub mod sighting;
mod sleep;
mod trouble;
mod watch;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, watch as cell};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::trouble::Trouble;
pub use self::{
    echo::Family,
    interfaces::{Interfaces, Net, machine_addresses},
    lans::{Lan, Lans},
    preflight::Obstacle,
    remembered::{remembered, seeds},
};
pub(super) use self::{heard::RECORDS_MAX, watch::LISTENERS_MAX};
use crate::{
    log::{FederationId, NodeId, NodeName},
    protocol::input::Hint,
};

/// What discovery announces, and where.
#[derive(Clone, Debug)]
pub struct DiscoveryConfig {
    /// Who we are.
    pub id: NodeId,
    /// What we are called.
    pub name: NodeName,
    /// Our federation; its first 16 hex digits are announced.
    pub federation: FederationId,
    /// The UDP port that our endpoint is bound to.
    pub port: u16,
    /// The interfaces to use.
    pub interfaces: Interfaces,
    /// Whether to announce and listen at all. Without it, [`Found::NetworkChanged`] and [`Found::Addresses`] are all that comes.
    pub mdns: bool,
}

/// What discovery has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Somebody may be there. Of any federation: the core lists the others as seen.
    Hint(Hint),
    /// An interface came, went, was interrupted or changed its addresses, or the machine woke up. On Linux within about 100 ms,
    /// elsewhere within a second.
    NetworkChanged,
    /// Where this machine can be reached, at first and whenever that changes.
    Addresses(BTreeSet<IpAddr>),
    /// Something keeps discovery from working; a sentence with the remedy, once for each kind.
    Trouble(String),
}

/// What discovery counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hints that were passed on.
    pub hints: u64,
    /// Records of another version of the announcement.
    pub ignored_version: u64,
    /// Records whose id, federation or port can't be.
    pub ignored_malformed: u64,
    /// Records without an address that may be dialled.
    pub ignored_unreachable: u64,
    /// Records that found no room, in a flood.
    pub dropped: u64,
    /// Browsing started afresh.
    pub browsed_again: u64,
    /// mDNS daemons that were replaced: flooded, stuck or dead.
    pub recycled: u64,
}

/// Running discovery. Dropping it stops it without waiting for the goodbye.
#[derive(Debug)]
pub struct Discovery {
    orders: mpsc::Sender<Order>,
    counts: cell::Receiver<Counts>,
    tasks: TaskTracker,
    stop: DropGuard,
}

/// What the listeners are asked to do.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Flush a node's record and ask for it.
    Verify(NodeId),
    /// Start browsing afresh.
    BrowseAgain,
}

/// Orders that wait. One more is dropped: so many connections died at once that the LAN is asked anyway.
const ORDERS_MAX: usize = 64;
/// How long a stop takes at most.
const STOP_MAX: Duration = Duration::from_secs(1);

impl Discovery {
    /// Starts discovery inside the current tokio runtime. What it finds goes to `found`; where nobody takes it, hints wait
    /// in bounded maps.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(config: DiscoveryConfig, found: mpsc::Sender<Found>) -> Self {
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let (shared, counts) = Shared::new(config, found);
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        tasks.spawn(watch::run(shared, inbox, tasks.clone(), stop.clone()));
        tasks.close();
        Self { orders, counts, tasks, stop: stop.drop_guard() }
    }

    /// A connection to a node died: flushes its record, and asks the LAN for it until it is announced again, for at most
    /// ten minutes.
    pub fn verify(&self, node: NodeId) {
        self.order(Order::Verify(node));
    }

    /// Asks the LAN anew who is there; at most once a second.
    pub fn browse_again(&self) {
        self.order(Order::BrowseAgain);
    }

    /// What was counted until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// What was counted, to be looked at whenever somebody asks; after the end, the last numbers.
    #[must_use]
    pub fn counted(&self) -> cell::Receiver<Counts> {
        self.counts.clone()
    }

    /// Says goodbye on every LAN and stops; takes at most a second.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops discovery without waiting.
    pub async fn stop(self) {
        drop(self.stop);
        if tokio::time::timeout(STOP_MAX, self.tasks.wait()).await.is_err() {
            tracing::debug!("mDNS did not stop within {STOP_MAX:?}");
        }
    }

    fn order(&self, order: Order) {
        if let Err(error) = self.orders.try_send(order) {
            tracing::debug!(%error, "order to discovery dropped");
        }
    }
}

/// What all tasks of one discovery share.
#[derive(Debug)]
struct Shared {
    config: DiscoveryConfig,
    found: mpsc::Sender<Found>,
    counts: cell::Sender<Counts>,
    /// Which kinds of trouble were told.
    told: Mutex<BTreeSet<(Trouble, String)>>,
}

impl Shared {
    fn new(
        config: DiscoveryConfig,
        found: mpsc::Sender<Found>,
    ) -> (std::sync::Arc<Self>, cell::Receiver<Counts>) {
        let (counts, counted) = cell::channel(Counts::default());
        (Self { config, found, counts, told: Mutex::default() }.into(), counted)
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    /// Tells people about a trouble, once. Never waits: where the channel is full, the next occurrence is told.
    fn trouble(&self, kind: Trouble, interface: &str, sentence: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, interface.to_owned());
        if told.contains(&key) {
            return;
        }
        tracing::debug!(?kind, interface, "{sentence}");
        if self.found.try_send(Found::Trouble(sentence)).is_ok() {
            told.insert(key);
        }
    }

    /// Something works again: should it fail once more, that is news.
    fn well(&self, kind: Trouble, interface: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.remove(&(kind, interface.to_owned()));
    }
}

/// A random share of 256. Not a secret: it only keeps nodes from doing the same thing at the same instant.
fn jitter() -> u8 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8).to_le_bytes()[0]
}
