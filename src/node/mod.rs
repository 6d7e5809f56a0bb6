//! One running node: configuration, the loop, the handle.
//!
//! [`start`] makes everything that a node needs, in the order in which it can fail, and hands the pieces to one task
//! (`run.rs`) that owns the core. Whoever embeds a node talks to it through its [`Handle`].

pub mod bounds;
mod clock;
pub mod config;
pub mod disk;
mod handle;
pub mod hardware;
pub mod identity_file;
pub mod invitations;
mod joining;
pub mod latency;
mod lock;
pub mod membership;
mod opening;
mod pins;
pub mod pki;
mod prune;
mod rebuild;
pub mod renewal;
mod renewing;
mod revocations;
mod run;
mod scrub;
mod serve;
pub mod standing;
pub mod throughput;
mod work;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Instant,
};

use aws_lc_rs::rand;
use tokio::{
    sync::{Semaphore, broadcast, mpsc, watch},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use self::{
    clock::Clock,
    handle::Shared,
    identity_file::KeyFileError,
    membership::{Member, MembershipError},
    opening::{Opened, open, wall},
    pki::{Pki, PkiError},
    renewing::Renewing,
    run::{Loop, Sources, StoreNews},
    serve::Shelf,
    throughput::Arenas,
};
pub use self::{
    clock::RELEASED,
    config::{Config, Listen, PeerOption},
    handle::{About, Approved, Handle, NodeGone},
    joining::{EnterError, Founded, Joined, create_federation, join_federation},
    lock::{DataDirLock, LockError, is_held},
    renewing::due as renewal_due,
    run::RunError,
};
use crate::{
    log::{Identity, NodeId, Rules, books::Books},
    monitor::Monitor,
    net::{
        DoorBounds, Endpoint, Inbox, InboxBounds, NetConfig, NetError,
        discovery::{self, Discovery, DiscoveryConfig},
        inbox,
        join::JoinDesk,
        membership::WallClock,
    },
    protocol::{
        Federation,
        hello::Setup,
        input::{Hint, Input},
    },
    store::{
        Store, StoreError,
        sign_mark::SignMark,
        writer::{Committed, Writer, WriterSetup},
    },
};

/// The store's file in the data directory.
pub const STORE_FILE: &str = "store.db";
/// Wishes of this machine's users that wait for the loop.
const WISHES_MAX: usize = 1_024;
/// Submissions that wait for the loop, 4 MiB of the longest contents; whoever submits more waits.
const SUBMISSIONS_MAX: usize = 256;
/// Hints that wait for the loop.
const FOUND_MAX: usize = 256;
/// Peers that a node takes where nobody says how many.
pub const PEERS_MAX_DEFAULT: u16 = 64;
/// Events that a slow listener may fall behind before it misses some.
const EVENTS_MAX: usize = 16_384;
/// Connections beside those of peers: the ones that are being admitted, so that a surplus peer gets a refusal that it can show.
/// So many there can be at a time, so that strangers never take a peer's place.
const HANDSHAKES_MAX: usize = 128;
/// Addresses that a node record may name.
const RECORD_ADDRESSES_MAX: usize = 8;

/// Why a node did not start. Nothing was written but what each variant says.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be made or used.
    #[error("can't use the data directory `{}`", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another node has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The key can't be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The closed federation that the data directory belongs to can't be used.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The files of the operator's own PKI can't be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It can't listen. The key and the store stay as they are.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Randomness,
    /// A task that was started ended in a way that it never should; the log has more.
    #[error("a part of the node failed while it started; its log says more")]
    Failed,
}

/// Starts a node.
///
/// # Errors
/// See [`StartError`].
///
/// # Cancel safety
/// Dropping the future starts nothing; a key and a store that were made stay, and serve the next start.
pub async fn start(config: Config) -> Result<Handle, StartError> {
    start_with(config, HANDSHAKES_MAX).await
}

/// Starts a node at whose door at most so many may wait.
async fn start_with(config: Config, handshakes_max: usize) -> Result<Handle, StartError> {
    let opening = config.clone();
    let opened = spawn_blocking(move || open(&opening)).await.map_err(|_| StartError::Failed)??;
    let (net_sender, net) = inbox(InboxBounds::default());
    let net_config = net_config(&config, &opened, handshakes_max);
    let endpoint = Endpoint::open(net_config, net_sender).map_err(|error| match (error, &config.pki) {
        (NetError::Tls(error), Some(files)) => files.blamed(error).into(),
        (error, _) => StartError::Net(error),
    })?;
    launch(&config, opened, Arc::new(endpoint), net)
}

/// Starts the threads and tasks of a node whose files and sockets are open.
fn launch(
    config: &Config,
    opened: Opened,
    endpoint: Arc<Endpoint>,
    net: Inbox,
) -> Result<Handle, StartError> {
    let Opened { lock, identity, member, gate, store, books, setup, clock, mark, standing } = opened;
    let mut seed = [0; 32];
    rand::fill(&mut seed).map_err(|_| StartError::Randomness)?;
    let listening = endpoint.local_addresses();
    books.authors.iter().for_each(|(author, book)| endpoint.holds(*author, book.seq()));
    let setup = Setup { addresses: record_addresses(&listening, &BTreeSet::new()), ..setup };
    let mark = Arc::new(Mutex::new(mark));
    let (writer, commits) = start_writer(&store, &mark, &books, setup.id());
    let (found_sender, found) = mpsc::channel(FOUND_MAX);
    let port = listening.first().map_or(0, SocketAddr::port);
    let discovery = Discovery::start(discovery_config(config, &setup, port), found_sender);
    let hints = first_hints(config, &books, member.as_ref());
    let about = about(config, &setup);
    let mut first = vec![];
    let shelf = Shelf::new(Arc::clone(&store), Arc::clone(&identity), setup.federation);
    let rules = rules(config, &setup);
    let mut federation = Federation::new(setup, books, standing, seed, clock.now(), &mut first);
    hints.into_iter().for_each(|hint| federation.handle(clock.now(), Input::Hint(hint), &mut first));
    let (wish_sender, wishes) = mpsc::channel(WISHES_MAX);
    let (submission_sender, submissions) = mpsc::channel(SUBMISSIONS_MAX);
    let (events, first_events) = broadcast::channel(EVENTS_MAX);
    let (commits_sender, commits_seen) = watch::channel(0);
    let (ended_sender, ended) = watch::channel(None);
    let (monitor, stop) = (Arc::new(Monitor::default()), CancellationToken::new());
    let arenas = Arc::new(Arenas::new(config, stop.clone()));
    let handle = Handle::new(Shared {
        about,
        started: Instant::now(),
        wishes: wish_sender,
        submissions: submission_sender,
        events: events.clone(),
        first_events: Mutex::new(Some(first_events)),
        commits: commits_seen,
        monitor: Arc::clone(&monitor),
        endpoint: Arc::clone(&endpoint),
        discovered: discovery.counted(),
        store: Arc::clone(&store),
        desk: gate.desk.clone(),
        pki: pki(config, member.as_ref(), wall(&clock)),
        api: OnceLock::new(),
        measuring: Arc::new(Semaphore::new(1)),
        arenas: Arc::clone(&arenas),
        stop: stop.clone(),
        ended,
    });
    let stores = watch_store(config, &store, (Arc::clone(&clock), handle.commits()), &stop);
    renew(config, &handle, (identity, member, wall(&clock)), &stop);
    let core = Loop {
        federation,
        clock,
        shelf,
        rules,
        endpoint,
        discovery,
        store,
        corpus: config.corpus,
        writer,
        mark,
        has_met: false,
        gate,
        arenas,
        monitor,
        events,
        commits: commits_sender,
        stop,
        ended: ended_sender,
        lock,
    };
    tokio::spawn(core.run(Sources { wishes, submissions, net, found, commits, stores }, first));
    Ok(handle)
}

/// Starts the writer, and gives what hears of its commits.
fn start_writer(
    store: &Arc<dyn Store>,
    mark: &Arc<Mutex<SignMark>>,
    books: &Books,
    own: NodeId,
) -> (Writer, mpsc::UnboundedReceiver<Result<Committed, StoreError>>) {
    let (commit_sender, commits) = mpsc::unbounded_channel();
    let end = books.authors.get(&own).map(|book| (book.seq(), book.hash));
    let setup = WriterSetup { own, mark: Some(Arc::clone(mark)), end };
    // The loop reads commits until the writer has ended, so this never goes unheard.
    let writer = Writer::start(Arc::clone(store), setup, move |commit| drop(commit_sender.send(commit)));
    (writer, commits)
}

/// Starts what renews a member's certificate.
fn renew(
    config: &Config,
    handle: &Handle,
    (identity, member, clock): (Arc<Identity>, Option<Member>, WallClock),
    stop: &CancellationToken,
) {
    let Some(member) = member else { return };
    if config.pki.is_some() {
        let watching = pki::watch(handle.clone(), clock);
        tokio::spawn(stop.clone().run_until_cancelled_owned(watching));
        return;
    }
    let renewing =
        Renewing { handle: handle.clone(), identity, member, data_dir: config.data_dir.clone(), clock };
    tokio::spawn(stop.clone().run_until_cancelled_owned(renewing.run()));
}

/// Starts what looks after disk and store while the node runs.
fn watch_store(
    config: &Config,
    store: &Arc<dyn Store>,
    (clock, pruned_after): (Arc<Clock>, watch::Receiver<u64>),
    stop: &CancellationToken,
) -> StoreNews {
    let (pruned_sender, pruned) = watch::channel(());
    let prune = prune::run(Arc::clone(store), clock, pruned_after, pruned_sender);
    tokio::spawn(stop.clone().run_until_cancelled_owned(prune));
    let (disk_sender, disk) = mpsc::channel(1);
    let (damage_sender, damage) = mpsc::channel(FOUND_MAX);
    let room = disk::watch(config.data_dir.clone(), config.disk_free_min, disk_sender);
    let scrub = scrub::run(Arc::clone(store), damage_sender);
    let (room_stop, scrub_stop) = (stop.clone(), stop.clone());
    tokio::spawn(async move { room_stop.run_until_cancelled(room).await });
    tokio::spawn(async move { scrub_stop.run_until_cancelled(scrub).await });
    StoreNews { disk, pruned, damage }
}

/// What segments and proofs are checked against.
const fn rules(config: &Config, setup: &Setup) -> Rules {
    Rules {
        federation: setup.federation,
        pow_bits: config.policy.pow_bits,
        content_bytes_max: config.policy.content_max_bytes,
    }
}

fn net_config(config: &Config, opened: &Opened, handshakes_max: usize) -> NetConfig {
    let Opened { identity, member, gate, setup, clock, .. } = opened;
    let membership = membership::of(member.as_ref(), wall(clock));
    let desk = gate.desk.clone().map(|desk| desk as Arc<dyn JoinDesk>);
    let listen = config.listen.sockets();
    NetConfig {
        connections_max: config.peers_max.saturating_add(handshakes_max),
        membership,
        desk,
        door: DoorBounds { at_once: handshakes_max, ..DoorBounds::default() },
        ..NetConfig::new(Arc::clone(identity), rules(config, setup), listen, config.port)
    }
}

fn discovery_config(config: &Config, setup: &Setup, port: u16) -> DiscoveryConfig {
    DiscoveryConfig {
        id: setup.id(),
        name: setup.name.clone(),
        federation: setup.federation,
        port,
        interfaces: config.listen.interfaces(),
        // A node that listens on loopback only has nothing to announce.
        mdns: config.mdns && config.listen != Listen::Loopback,
    }
}

/// What a running node keeps of the operator's own PKI.
fn pki(config: &Config, member: Option<&Member>, clock: WallClock) -> Option<Arc<Pki>> {
    let (files, member) = (config.pki.clone()?, member?.clone());
    Some(Arc::new(Pki { files, member, clock }))
}

fn first_hints(config: &Config, books: &Books, member: Option<&Member>) -> Vec<Hint> {
    let seeds = config.peers.iter().map(|peer| (peer.node, peer.address.clone()));
    let mut hints = discovery::seeds(seeds);
    hints.extend(discovery::remembered(&books.peers));
    hints.extend(member.and_then(|member| member.inviter.clone()));
    hints
}

/// Where others may find this node: not loopback, unless it listens nowhere else. A socket for every address is found at each that
/// the machine has.
fn record_addresses(listening: &[SocketAddr], machine: &BTreeSet<IpAddr>) -> Vec<SocketAddr> {
    let each = |address: &SocketAddr| match address.ip().is_unspecified() {
        true => machine.iter().map(|ip| SocketAddr::new(*ip, address.port())).collect(),
        false => vec![*address],
    };
    let (local, reachable): (Vec<SocketAddr>, Vec<SocketAddr>) =
        listening.iter().flat_map(each).partition(|address| address.ip().is_loopback());
    let mut addresses = if reachable.is_empty() { local } else { reachable };
    addresses.truncate(RECORD_ADDRESSES_MAX);
    addresses
}

fn about(config: &Config, setup: &Setup) -> About {
    About {
        id: setup.id(),
        name: setup.name.clone(),
        hardware: setup.claim.hardware,
        level: setup.claim.level,
        arch: setup.claim.arch.clone(),
        version: env!("CARGO_PKG_VERSION"),
        federation: setup.federation,
        federation_name: setup.federation_name.clone(),
        closed: setup.closed.is_some(),
        policy: setup.policy.clone(),
        data_dir: config.data_dir.clone(),
    }
}
