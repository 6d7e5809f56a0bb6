//! One running node: configuration, the loop, the handle.
//!
//! [`start`] makes everything that a node needs, in the order in which it can fail, and hands the pieces to one task
//! (`run.rs`) that owns the core. Whoever embeds a node talks to it through its [`Handle`].

pub mod bounds;
mod clock;
pub mod config;
mod disk;
mod handle;
pub mod hardware;
pub mod identity_file;
pub mod invitations;
mod joining;
mod lock;
pub mod membership;
mod prune;
mod rebuild;
pub mod renewal;
mod renewing;
mod revocations;
mod run;
mod scrub;
mod serve;
pub mod standing;
mod work;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use aws_lc_rs::rand;
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use self::{
    clock::Clock,
    handle::Shared,
    identity_file::{KeyFileError, NewKey},
    invitations::Invitations,
    membership::{Member, MembershipError},
    renewing::Renewing,
    revocations::RevocationFile,
    run::{Loop, Sources, StoreNews},
    serve::Shelf,
};
pub use self::{
    config::{Config, Listen, PeerOption},
    handle::{About, Handle, NodeGone},
    joining::{EnterError, Founded, Joined, create_federation, join_federation},
    lock::{DataDirLock, LockError},
    run::RunError,
};
use crate::{
    ledger::types::Seq,
    log::{
        Architecture, Body, Claim, Entry, FederationId, FederationName, Genesis, Hash, Identity, NodeId,
        Rules,
        books::{Books, Record},
    },
    monitor::Monitor,
    net::{
        Endpoint, Inbox, InboxBounds, ListenOn, NetConfig, NetError,
        discovery::{self, Discovery, DiscoveryConfig, Interfaces},
        inbox,
        join::JoinDesk,
        membership::{WallClock, validity},
    },
    protocol::{
        Federation,
        frame::Instance,
        hello::{Closed, Setup},
        input::{Hint, Input},
        own::is_overruled,
        recovery::Standing,
    },
    store::{
        Durability, SqliteStore, Store, StoreError, StoreOptions,
        sign_mark::{FoundMark, SignMark},
        writer::{Committed, Writer, WriterSetup},
    },
};

/// The store's file in the data directory.
pub const STORE_FILE: &str = "store.db";
/// Wishes of this machine's users that wait for the loop.
const WISHES_MAX: usize = 1_024;
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
    let opening = config.clone();
    let opened = spawn_blocking(move || open(&opening)).await.map_err(|_| StartError::Failed)??;
    let (net_sender, net) = inbox(InboxBounds::default());
    let endpoint = Endpoint::open(net_config(&config, &opened), net_sender)?;
    launch(&config, opened, Arc::new(endpoint), net)
}

/// Starts the threads and tasks of a node whose files and sockets are open.
fn launch(
    config: &Config,
    opened: Opened,
    endpoint: Arc<Endpoint>,
    net: Inbox,
) -> Result<Handle, StartError> {
    let Opened { lock, identity, member, desk, revocations, store, books, setup, clock, mark, standing } =
        opened;
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
    let about = about(config, &setup, &endpoint);
    let mut first = vec![];
    let shelf = Shelf::new(Arc::clone(&store), Arc::clone(&identity), setup.federation);
    let rules = rules(config, &setup);
    let mut federation = Federation::new(setup, books, standing, seed, clock.now(), &mut first);
    for hint in hints {
        federation.handle(clock.now(), Input::Hint(hint), &mut first);
    }
    let (wish_sender, wishes) = mpsc::channel(WISHES_MAX);
    let (events, first_events) = broadcast::channel(EVENTS_MAX);
    let (commits_sender, commits_seen) = watch::channel(0);
    let pruned_after = commits_seen.clone();
    let (ended_sender, ended) = watch::channel(None);
    let monitor = Arc::new(Monitor::default());
    let stop = CancellationToken::new();
    let handle = Handle::new(Shared {
        about,
        started: Instant::now(),
        wishes: wish_sender,
        events: events.clone(),
        first_events: Mutex::new(Some(first_events)),
        commits: commits_seen,
        monitor: Arc::clone(&monitor),
        endpoint: Arc::clone(&endpoint),
        discovered: discovery.counted(),
        store: Arc::clone(&store),
        desk: desk.clone(),
        stop: stop.clone(),
        ended,
    });
    let stores = watch_store(config, &store, (Arc::clone(&clock), pruned_after), &stop);
    renew(config, &handle, (identity, member, wall(&clock)), &stop);
    let core = Loop {
        federation,
        clock,
        shelf,
        rules,
        endpoint,
        discovery,
        store,
        writer,
        mark,
        has_met: false,
        desk,
        revocations,
        monitor,
        events,
        commits: commits_sender,
        stop,
        ended: ended_sender,
        lock,
    };
    tokio::spawn(core.run(Sources { wishes, net, found, commits, stores }, first));
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
    let prune = prune::run(Arc::clone(store), clock, pruned_after);
    tokio::spawn(stop.clone().run_until_cancelled_owned(prune));
    let (disk_sender, disk) = mpsc::channel(1);
    let (damage_sender, damage) = mpsc::channel(FOUND_MAX);
    let room = disk::watch(config.data_dir.clone(), config.disk_free_min, disk_sender);
    let scrub = scrub::run(Arc::clone(store), damage_sender);
    let (room_stop, scrub_stop) = (stop.clone(), stop.clone());
    tokio::spawn(async move { room_stop.run_until_cancelled(room).await });
    tokio::spawn(async move { scrub_stop.run_until_cancelled(scrub).await });
    StoreNews { disk, damage }
}

/// What is read or made before the first socket is opened.
struct Opened {
    lock: DataDirLock,
    identity: Arc<Identity>,
    member: Option<Member>,
    /// Where this node may make members.
    desk: Option<Arc<Invitations>>,
    revocations: RevocationFile,
    store: Arc<dyn Store>,
    books: Books,
    setup: Setup,
    clock: Arc<Clock>,
    mark: SignMark,
    standing: Standing,
}

fn open(config: &Config) -> Result<Opened, StartError> {
    let path = &config.data_dir;
    identity_file::make_data_dir(path)
        .map_err(|source| StartError::DataDir { path: path.clone(), source })?;
    let lock = DataDirLock::take(path)?;
    let (identity, mut mark, found) = identity(path, config.durability)?;
    let own = identity.node_id();
    let member = membership::load(path)?;
    let revocations = RevocationFile::load(path)?;
    let (federation_name, closed) =
        membership::federation(config.federation.as_ref(), member.as_ref(), revocations.list())?;
    let ca = closed.as_ref().map(|closed| &closed.ca.0);
    let federation = FederationId::new(&federation_name, &config.policy, ca);
    let store = match config.rebuild_from_peers {
        true => rebuild::open(path, store_options(config, federation, own))?,
        false => open_store(path, store_options(config, federation, own))?,
    };
    let books = store.load()?;
    let standing =
        Standing { write_without_peers: config.write_without_peers, ..standing::of(found, &books, own) };
    let setup = setup(config, &identity, (federation, federation_name, closed), &*store)?;
    let clock = Arc::new(Clock::start(books.newest_time));
    let desk = match &member {
        Some(member) => {
            let wall = wall(&clock);
            let rules = (&config.policy, config.certificate_lifetime);
            Invitations::open(path, member.clone(), rules, revocations.list(), wall)?.map(Arc::new)
        }
        None => None,
    };
    let end = books.authors.get(&own).map(|book| (book.seq(), book.hash));
    begin(&*store, &mut mark, &books, standing, end)?;
    Ok(Opened { lock, identity, member, desk, revocations, store, books, setup, clock, mark, standing })
}

/// Writes down how the node begins, before anything is signed.
fn begin(
    store: &dyn Store,
    mark: &mut SignMark,
    books: &Books,
    standing: Standing,
    end: Option<(Seq, Hash)>,
) -> Result<(), StoreError> {
    let is_in_doubt = standing.doubt.is_some() || end.map(|(seq, _)| seq) < standing.through;
    match (is_in_doubt, is_overruled(standing, end)) {
        (true, false) => {
            if !books.restored {
                store.commit(&[Record::Doubted])?;
            }
            // Once the mark is written here, nothing else tells the next start what this one has seen.
            store.sync()?;
            mark.begin_in_doubt()
        }
        (is_in_doubt, _) => {
            if books.restored {
                store.commit(&[Record::Recovered])?;
            }
            if is_in_doubt {
                mark.overrule(end);
            }
            mark.begin(end)
        }
    }
}

/// The node's key and its sign mark.
fn identity(
    data_dir: &Path,
    durability: Durability,
) -> Result<(Arc<Identity>, SignMark, FoundMark), StartError> {
    if let Some(identity) = identity_file::load(data_dir)? {
        let (mark, found) = SignMark::open(data_dir, identity.node_id(), durability)?;
        return Ok((Arc::new(identity), mark, found));
    }
    let key = NewKey::make()?;
    let mark = SignMark::of_a_new_key(data_dir, key.node_id(), durability)?;
    Ok((Arc::new(key.save(data_dir)?), mark, FoundMark::New))
}

fn store_options(config: &Config, federation: FederationId, own: NodeId) -> StoreOptions {
    StoreOptions {
        durability: config.durability,
        corpus: config.corpus,
        ..StoreOptions::new(federation, own, config.policy.clone())
    }
}

fn open_store(data_dir: &Path, options: StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SqliteStore::open(&data_dir.join(STORE_FILE), options)?))
}

/// What the node says of itself: as its genesis entry has it, or as configured where it has none yet.
fn setup(
    config: &Config,
    identity: &Arc<Identity>,
    (federation, federation_name, closed): (FederationId, FederationName, Option<Closed>),
    store: &dyn Store,
) -> Result<Setup, StartError> {
    let random = |_| StartError::Randomness;
    let mut number = [0; 8];
    rand::fill(&mut number).map_err(random)?;
    let genesis = match own_genesis(store, &federation, identity.node_id())? {
        Some(genesis) => genesis,
        None => new_genesis(config, identity, &federation)?,
    };
    let claim = Claim { hardware: genesis.hardware, level: genesis.level, arch: genesis.arch };
    Ok(Setup {
        identity: Arc::clone(identity),
        federation,
        federation_name,
        closed,
        policy: config.policy.clone(),
        name: genesis.name,
        claim,
        nonce: genesis.nonce,
        instance: Instance(u64::from_le_bytes(number)),
        addresses: vec![],
        peers_max: config.peers_max,
    })
}

fn new_genesis(
    config: &Config,
    identity: &Identity,
    federation: &FederationId,
) -> Result<Genesis, StartError> {
    let mut first = [0; 8];
    rand::fill(&mut first).map_err(|_| StartError::Randomness)?;
    let bits = config.policy.pow_bits;
    tracing::info!(node = %config.name, bits, "a new node: making its proof of work");
    let nonce = work::find_nonce(federation, &identity.node_id(), bits, u64::from_le_bytes(first))
        .ok_or(StartError::Failed)?;
    Ok(Genesis {
        name: config.name.clone(),
        hardware: config.hardware,
        level: config.level,
        arch: Architecture::from_target(std::env::consts::ARCH),
        nonce,
    })
}

fn own_genesis(
    store: &dyn Store,
    federation: &FederationId,
    id: NodeId,
) -> Result<Option<Genesis>, StoreError> {
    let stored = store.entries(id, Seq::GENESIS, 1)?;
    let entry = stored
        .into_iter()
        .next()
        .and_then(|entry| Entry::parse(federation, entry.header, entry.content).ok());
    Ok(entry.and_then(|entry| match &entry.header().body {
        Body::Genesis(genesis) => Some(genesis.clone()),
        Body::Thought(_) => None,
    }))
}

/// What segments and proofs are checked against.
const fn rules(config: &Config, setup: &Setup) -> Rules {
    Rules {
        federation: setup.federation,
        pow_bits: config.policy.pow_bits,
        content_bytes_max: config.policy.content_max_bytes,
    }
}

fn net_config(config: &Config, opened: &Opened) -> NetConfig {
    let Opened { identity, member, desk, setup, clock, .. } = opened;
    let membership = membership::of(member.as_ref(), wall(clock));
    let desk = desk.clone().map(|desk| desk as Arc<dyn JoinDesk>);
    let listen = match &config.listen {
        Listen::Everywhere => ListenOn::Everywhere,
        Listen::Interfaces(names) => ListenOn::Interfaces(names.clone()),
        Listen::Loopback => ListenOn::Loopback,
    };
    NetConfig {
        connections_max: config.peers_max.saturating_add(HANDSHAKES_MAX),
        membership,
        desk,
        ..NetConfig::new(Arc::clone(identity), rules(config, setup), listen, config.port)
    }
}

fn discovery_config(config: &Config, setup: &Setup, port: u16) -> DiscoveryConfig {
    let interfaces = match &config.listen {
        Listen::Everywhere | Listen::Loopback => Interfaces::All,
        Listen::Interfaces(names) => Interfaces::Named(names.clone()),
    };
    DiscoveryConfig {
        id: setup.id(),
        name: setup.name.clone(),
        federation: setup.federation,
        port,
        interfaces,
        // A node that listens on loopback only has nothing to announce.
        mdns: config.mdns && config.listen != Listen::Loopback,
    }
}

/// The node's time, for others' use.
fn wall(clock: &Arc<Clock>) -> WallClock {
    let clock = Arc::clone(clock);
    Arc::new(move || clock.now().wall)
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

fn about(config: &Config, setup: &Setup, endpoint: &Endpoint) -> About {
    let certificate = endpoint.certificate();
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
        certificate_fingerprint: certificate.fingerprint(),
        // One that was made here can be read here.
        certificate_expires_ms: validity(certificate.der()).map_or(0, |(_, until)| until.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{policy::Policy, types::Level},
        log::Hardware,
        store::CorpusBounds,
    };

    fn config(dir: &Path) -> Config {
        Config {
            data_dir: dir.to_owned(),
            name: "legion".parse().unwrap(),
            hardware: Hardware::Software,
            level: Level::MAX,
            federation: None,
            policy: Policy { pow_bits: 4, ..Policy::default() },
            listen: Listen::Loopback,
            port: None,
            peers: vec![],
            mdns: false,
            durability: Durability::Full,
            corpus: CorpusBounds::default(),
            disk_free_min: 0,
            write_without_peers: false,
            rebuild_from_peers: false,
            certificate_lifetime: membership::LIFETIME,
            peers_max: 64,
        }
    }

    #[test]
    fn a_store_that_was_restored_on_a_new_machine_stays_in_doubt_however_often_it_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        drop(open(&config).unwrap());
        std::fs::remove_file(dir.path().join("sign.mark")).unwrap();
        let federation = FederationId::new(&FederationName::lan(), &config.policy, None);
        let own = identity_file::load(dir.path()).unwrap().unwrap().node_id();
        let store = open_store(dir.path(), store_options(&config, federation, own)).unwrap();
        store.commit(&[Record::Doubted]).unwrap();
        drop(store);
        for start in 1..4 {
            assert!(open(&config).unwrap().standing.doubt.is_some(), "start {start}");
        }
        let overruled = Config { write_without_peers: true, ..config.clone() };
        drop(open(&overruled).unwrap());
        assert_eq!(open(&config).unwrap().standing.doubt, None, "the operator need not answer twice");
    }

    #[test]
    fn a_renewed_identity_is_in_no_doubt() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        drop(open(&config).unwrap());
        renewal::renew(dir.path(), 7).unwrap();
        assert_eq!(open(&config).unwrap().standing.doubt, None);
    }
}
