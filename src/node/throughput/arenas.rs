//! Arenas: throw-away nodes between which throughput is measured. Each has a key, a store and a federation of its own, which are made for
//! it and removed with it, so nothing of a measurement can reach the books of the node in whose process it runs.
//!
//! A node has one at a time, for itself or for a peer: two measurements would measure each other. Its files are on the disk of the node's own
//! store, below [`DIR`]. What is left there by a process that was killed goes at the next start, and with the next measurement.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::budget::Budget;
use crate::{
    ledger::{
        policy::Policy,
        types::{Level, MicroAtp},
    },
    log::{Hardware, NodeId, NodeName},
    node::{
        Config, Handle, Listen, PeerOption, StartError, disk::free_bytes, membership::LIFETIME, opening,
        start_with,
    },
    store::{CorpusBounds, Durability},
};

/// Where arenas are, in the data directory of their node.
const DIR: &str = "arena";
/// Most bytes that one takes on the disk: four million thoughts of a tweet's length, or a minute of what a fast disk takes.
pub(super) const BYTES_MAX: u64 = 1 << 30;
/// What must stay free beside that which the node itself wants free, so that its own alert is not raised by a measurement.
const FREE_MARGIN_BYTES: u64 = 64 << 20;
/// Connections of strangers at an arena's door, and its links: one that writes, and one that reads afterwards.
pub(in crate::node) const STRANGERS_MAX: usize = 4;
pub(in crate::node) const LINKS_MAX: usize = 2;
/// How long somebody waits for the end of the arena before.
const TURN_MAX: Duration = Duration::from_secs(3);
/// What arenas are called, and their federation.
const NAME: &str = "arena";
const FEDERATION: &str = "bench";

/// The rules among arenas: those of everybody, but that one may write as fast as one can, and that hardly any work is to be proved.
fn policy() -> Policy {
    Policy {
        pow_bits: 4,
        rate_base: 1_000_000_000,
        freeze_balance: MicroAtp(-1_000_000_000_000),
        ..Policy::default()
    }
}

/// Where and whether a node has arenas.
#[derive(Debug)]
pub(in crate::node) struct Arenas {
    dir: PathBuf,
    free_min: u64,
    pub(super) lends: bool,
    turn: Arc<Semaphore>,
    pub(super) budget: Mutex<Budget>,
    last: AtomicU64,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// Why there is no room for an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoGround {
    /// Somebody else has it.
    Taken,
    /// The disk has too little room.
    NoRoom,
}

/// The place of one arena at a time. Dropping it removes what was there.
#[derive(Debug)]
pub(super) struct Ground {
    arenas: Arc<Arenas>,
    turn: Option<OwnedSemaphorePermit>,
    _token: TaskTrackerToken,
}

/// An arena that runs.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) node: Handle,
    pub(super) dir: PathBuf,
    ground: Option<Arc<Ground>>,
}

/// What an arena is started with. It is linked with nobody else than its peers.
#[derive(Debug)]
pub(super) struct ArenaSetup {
    /// Its files; with its key, where that was made before.
    pub(super) dir: PathBuf,
    /// The address on which it listens.
    pub(super) at: SocketAddr,
    /// Whom it dials.
    pub(super) dials: Option<(NodeId, SocketAddr)>,
    pub(super) durability: Durability,
}

impl Arenas {
    /// For that node. They end where it stops.
    pub(in crate::node) fn new(config: &Config, stop: CancellationToken) -> Self {
        Self {
            dir: config.data_dir.join(DIR),
            free_min: config.disk_free_min,
            lends: config.lends_arenas,
            turn: Arc::new(Semaphore::new(1)),
            budget: Mutex::new(Budget::full(Instant::now())),
            last: AtomicU64::new(0),
            stop,
            tasks: TaskTracker::new(),
        }
    }

    /// Waits until the last one is gone, and its files with it.
    pub(in crate::node) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until nobody has an arena; not for long.
    pub(super) async fn vacant(&self) {
        drop(timeout(TURN_MAX, self.turn.acquire()).await);
    }

    /// The place for an arena, once whoever had it before is gone.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn ground(self: &Arc<Self>) -> Result<Arc<Ground>, NoGround> {
        let turn = timeout(TURN_MAX, Arc::clone(&self.turn).acquire_owned()).await;
        let turn = turn.map_err(|_| NoGround::Taken)?.map_err(|_| NoGround::Taken)?;
        let ground =
            Arc::new(Ground { arenas: Arc::clone(self), turn: Some(turn), _token: self.tasks.token() });
        if ground.has_room(BYTES_MAX).await { Ok(ground) } else { Err(NoGround::NoRoom) }
    }
}

impl Ground {
    /// A directory for an arena; nothing is in it yet.
    pub(super) fn dir(&self) -> PathBuf {
        self.arenas.dir.join(self.arenas.last.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// A directory with a key for an arena that is not started yet, and whose it is.
    ///
    /// # Errors
    /// It can't be made.
    pub(super) async fn dir_with_key(&self, durability: Durability) -> Result<(PathBuf, NodeId), StartError> {
        let dir = self.dir();
        let made = spawn_blocking(move || {
            crate::node::identity_file::make_data_dir(&dir)
                .map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
            let (identity, ..) = opening::identity(&dir, durability, None)?;
            Ok((dir, identity.node_id()))
        });
        made.await.map_err(|_| StartError::Failed)?
    }

    /// Starts an arena. Where whoever asked goes away meanwhile, it is stopped as soon as it runs.
    ///
    /// # Errors
    /// It can't be started.
    pub(super) async fn start(self: &Arc<Self>, setup: ArenaSetup) -> Result<Arena, StartError> {
        let config = config(&setup, self.arenas.free_min)?;
        let (ground, dir) = (Arc::clone(self), setup.dir);
        let starting = self.arenas.tasks.spawn(async move {
            let node = start_with(config, STRANGERS_MAX).await?;
            Ok(Arena { node, dir, ground: Some(ground) })
        });
        starting.await.map_err(|_| StartError::Failed)?
    }

    /// Whose it is.
    pub(super) fn arenas(&self) -> Arc<Arenas> {
        Arc::clone(&self.arenas)
    }

    /// What ends with the node.
    pub(super) fn stop(&self) -> CancellationToken {
        self.arenas.stop.clone()
    }

    /// Whether that many more bytes leave enough free.
    pub(super) async fn has_room(&self, bytes: u64) -> bool {
        let parent = self.arenas.dir.parent().map(Path::to_owned).unwrap_or_default();
        let free = spawn_blocking(move || free_bytes(&parent)).await.unwrap_or(None);
        let wanted = self.arenas.free_min.saturating_add(FREE_MARGIN_BYTES).saturating_add(bytes);
        // Where the system does not say, the node itself does not know either.
        free.is_none_or(|free| free >= wanted)
    }

    /// What the arenas take on the disk.
    pub(super) async fn bytes(&self) -> u64 {
        let dir = self.arenas.dir.clone();
        spawn_blocking(move || bytes_below(&dir)).await.unwrap_or(0)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let (dir, turn) = (self.arenas.dir.clone(), self.turn.take());
        // The last place that holds it is a task, or a future that one runs.
        self.arenas.tasks.spawn_blocking(move || {
            if let Err(error) = remove(&dir) {
                tracing::warn!(%error, dir = %dir.display(), "what a measurement left can't be removed; the next start tries again");
            }
            drop(turn);
        });
    }
}

impl Arena {
    /// Stops it and removes its files.
    pub(super) async fn end(mut self) {
        if let Some(ground) = self.ground.take() {
            end(self.node.clone(), self.dir.clone(), ground).await;
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.node.stop();
        if let Some(ground) = self.ground.take() {
            let ending = end(self.node.clone(), self.dir.clone(), Arc::clone(&ground));
            ground.arenas.tasks.spawn(ending);
        }
    }
}

async fn end(node: Handle, dir: PathBuf, ground: Arc<Ground>) {
    node.stop();
    if let Err(error) = node.stopped().await {
        tracing::warn!(%error, "a throw-away node of a measurement ended badly");
    }
    // What can't be removed now goes with the ground.
    let _removed = spawn_blocking(move || remove(&dir)).await;
    drop(ground);
}

/// Removes what measurements left in that data directory.
pub(in crate::node) fn clear(data_dir: &Path) -> io::Result<()> {
    remove(&data_dir.join(DIR))
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Bytes of all files below; those that go meanwhile count nothing.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

fn config(setup: &ArenaSetup, free_min: u64) -> Result<Config, StartError> {
    let ArenaSetup { dir, at, dials, durability } = setup;
    let peers =
        dials.iter().map(|(node, address)| PeerOption { node: Some(*node), address: address.to_string() });
    Ok(Config {
        data_dir: dir.clone(),
        name: NodeName::from_host(NAME),
        hardware: Hardware::Software,
        level: Level::MAX,
        pki: None,
        federation: Some(FEDERATION.parse().map_err(|_| StartError::Failed)?),
        policy: policy(),
        listen: Listen::At(*at),
        port: Some(0),
        // Nobody else may be linked, whoever finds the port.
        pin: true,
        peers: peers.collect(),
        mdns: false,
        durability: *durability,
        // What is counted at the end is what is kept.
        corpus: CorpusBounds { thoughts_max: u64::MAX, bytes_max: u64::MAX },
        disk_free_min: free_min,
        write_without_peers: false,
        rebuild_from_peers: false,
        certificate_lifetime: LIFETIME,
        lends_arenas: false,
        peers_max: LINKS_MAX,
    })
}

/// The budget is whole after every change.
pub(super) fn locked(budget: &Mutex<Budget>) -> std::sync::MutexGuard<'_, Budget> {
    budget.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::net::ArenaPlace;

    /// An arena that dials that one.
    pub(in crate::node::throughput) async fn enter(
        ground: &Arc<Ground>,
        dir: PathBuf,
        place: ArenaPlace,
    ) -> Arena {
        let [at, there] = [0, place.port].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let dials = Some((place.node, there));
        ground.start(ArenaSetup { dir, at, dials, durability: Durability::Normal }).await.unwrap()
    }

    #[test]
    fn what_measurements_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        clear(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join(DIR).join("7")).unwrap();
        fs::write(dir.path().join(DIR).join("7").join("store.db"), [0; 1_000]).unwrap();
        fs::write(dir.path().join("store.db"), "books").unwrap();
        assert_eq!(bytes_below(&dir.path().join(DIR)), 1_000);
        clear(dir.path()).unwrap();
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["store.db"]);
    }

    #[test]
    fn the_rules_of_arenas_are_rules() {
        policy().validate().unwrap();
    }
}
