//! Lending: an arena for a peer that measures throughput to this node. It ends with whoever asked for it, with its time, and with its room.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    select,
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    DURATION_MAX,
    arenas::{Arena, ArenaSetup, Arenas, BYTES_MAX, Ground, NoGround, locked},
    cpu_us,
};
use crate::{
    net::{ArenaAsked, ArenaPlace, TallyAsked, local_address_towards},
    protocol::frame::{ArenaWanted, NoArena, Tally},
    store::Durability,
};

/// How long a session may take beside the time for which there is written: what is under way then, the catch-up, starts and stops.
const SESSION_REST: Duration = Duration::from_secs(60);
/// What of it is to be expected, as far as the budget is concerned.
const SESSION_REST_USUAL: Duration = Duration::from_secs(5);
/// How often it is looked what the arena takes.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a tally is waited for.
const TALLY_WAIT: Duration = Duration::from_secs(1);

/// What a session used is taken from the budget, however it ends.
struct Session {
    arenas: Arc<Arenas>,
    begun: Instant,
}

impl Drop for Session {
    fn drop(&mut self) {
        let now = Instant::now();
        locked(&self.arenas.budget).spend(now, now.duration_since(self.begun));
    }
}

impl Arenas {
    /// Gives a peer an arena, or says why not. Returns at once; what was begun ends with the node.
    pub(in crate::node) fn lend(self: Arc<Self>, asked: ArenaAsked) {
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        tasks.spawn(stop.run_until_cancelled_owned(self.lend_until_its_end(asked)));
    }

    async fn lend_until_its_end(self: Arc<Self>, asked: ArenaAsked) {
        let ArenaAsked { node, address, wanted, answer, mut tallies } = asked;
        let (arena, ground, session) = match self.open(&wanted, address).await {
            Ok(opened) => opened,
            Err(why) => {
                // A peer can ask as often as it likes.
                tracing::debug!(peer = %node.short(), %why, "a peer that wants to measure throughput is refused");
                // It may have gone away.
                let _gone = answer.send(Err(why));
                return;
            }
        };
        let port = arena.node.listen().first().map_or(0, SocketAddr::port);
        tracing::info!(peer = %node.short(), port, seconds = wanted.duration_ms / 1_000, "a peer measures throughput to this node");
        let left = locked(&self.budget).left(session.begun);
        let most = Duration::from_millis(wanted.duration_ms.into()).saturating_add(SESSION_REST).min(left);
        if answer.send(Ok(ArenaPlace { node: arena.node.about().id, port })).is_ok() {
            select! {
                () = serve(&arena, &mut tallies) => {}
                () = overrun(&ground, session.begun + most) => {
                    tracing::warn!(peer = %node.short(), "a peer's measurement of throughput took more time or room than it may, and is ended");
                }
            }
        }
        // Its questions end before it does, so that whoever asks hears of it.
        drop(tallies);
        arena.end().await;
        drop((ground, session));
    }

    async fn open(
        self: &Arc<Self>,
        wanted: &ArenaWanted,
        peer: SocketAddr,
    ) -> Result<(Arena, Arc<Ground>, Session), NoArena> {
        if !self.lends {
            return Err(NoArena::Unwilling);
        }
        let duration = Duration::from_millis(wanted.duration_ms.into());
        if duration > DURATION_MAX {
            return Err(NoArena::TooLong);
        }
        let wanted_in_all = duration.saturating_add(SESSION_REST_USUAL);
        let is_spent = || locked(&self.budget).left(Instant::now()) < wanted_in_all;
        // Before anything is looked at that costs something, and again when whoever was before has spent its part.
        if is_spent() {
            return Err(NoArena::TooOften);
        }
        let ground = self.ground().await.map_err(|why| match why {
            NoGround::Taken => NoArena::Busy,
            NoGround::NoRoom => NoArena::NoRoom,
        })?;
        if is_spent() {
            return Err(NoArena::TooOften);
        }
        let begun = Instant::now();
        let session = Session { arenas: Arc::clone(self), begun };
        let arena = start(&ground, wanted, peer).await.map_err(|error| {
            tracing::warn!(error = %error, "a throw-away node for a peer's measurement can't be started");
            NoArena::Failed
        })?;
        Ok((arena, ground, session))
    }
}

async fn start(ground: &Arc<Ground>, wanted: &ArenaWanted, peer: SocketAddr) -> Result<Arena, String> {
    let at = local_address_towards(peer).await.map_err(|error| error.to_string())?;
    let durability = if wanted.synced { Durability::Full } else { Durability::Normal };
    let setup = ArenaSetup { dir: ground.dir(), at, dials: None, durability };
    let arena = ground.start(setup).await.map_err(|error| error.to_string())?;
    for node in [wanted.writer, wanted.reader] {
        let approved = arena.node.approve(node).await.map_err(|error| error.to_string())?;
        approved.map_err(|error| error.to_string())?;
    }
    Ok(arena)
}

/// Answers until whoever asks is gone.
async fn serve(arena: &Arena, tallies: &mut mpsc::Receiver<TallyAsked>) {
    let (store, mut commits) = (arena.node.store(), arena.node.commits());
    while let Some(TallyAsked { thoughts, answer }) = tallies.recv().await {
        let stored = async { while store.corpus().thoughts < thoughts && commits.changed().await.is_ok() {} };
        // Whoever asks looks at how many there are.
        let _late = timeout(TALLY_WAIT, stored).await;
        let _gone = answer.send(Tally { thoughts: store.corpus().thoughts, cpu_us: cpu_us() });
    }
}

/// Waits until the session has taken more time or more of the disk than it may.
async fn overrun(ground: &Ground, until: Instant) {
    let watching = async {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if ground.bytes().await > BYTES_MAX || !ground.has_room(0).await {
                return;
            }
        }
    };
    select! {
        () = watching => {}
        () = sleep_until(until.into()) => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        ledger::{policy::Policy, types::Level},
        log::{Hardware, Identity, NodeId},
        net::ArenaAsked,
        node::{Config, Listen, membership::LIFETIME, throughput::arenas::tests::enter},
        protocol::{event::Event, refusal::RefusalCode},
        store::CorpusBounds,
    };

    pub(in crate::node::throughput) fn config(dir: &Path, change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config {
            data_dir: dir.to_owned(),
            name: "thor".parse().unwrap(),
            hardware: Hardware::Software,
            level: Level::MAX,
            federation: None,
            pki: None,
            pin: false,
            policy: Policy::default(),
            listen: Listen::Loopback,
            port: None,
            peers: vec![],
            mdns: false,
            durability: Durability::Full,
            corpus: CorpusBounds::default(),
            disk_free_min: 0,
            write_without_peers: false,
            rebuild_from_peers: false,
            certificate_lifetime: LIFETIME,
            lends_arenas: true,
            peers_max: 64,
        };
        change(&mut config);
        config
    }

    pub(in crate::node::throughput) fn lender(dir: &Path, change: impl FnOnce(&mut Config)) -> Arc<Arenas> {
        Arc::new(Arenas::new(&config(dir, change), CancellationToken::new()))
    }

    fn id(seed: u8) -> NodeId {
        Identity::from_seed(&[seed; 32]).unwrap().node_id()
    }

    type Lent = Result<(ArenaPlace, mpsc::Sender<TallyAsked>), NoArena>;

    async fn ask(arenas: &Arc<Arenas>, duration_ms: u32, writer: NodeId) -> Lent {
        let ((answer, answered), (asking, tallies)) = (oneshot::channel(), mpsc::channel(1));
        let wanted = ArenaWanted { writer, reader: id(2), duration_ms, synced: true };
        let address = "127.0.0.1:9".parse().unwrap();
        Arc::clone(arenas).lend(ArenaAsked { node: id(3), address, wanted, answer, tallies });
        Ok((answered.await.unwrap()?, asking))
    }

    #[tokio::test]
    async fn nobody_gets_an_arena_for_too_long_or_too_often_or_on_a_full_disk_or_from_who_gives_none() {
        let dir = tempfile::tempdir().unwrap();
        let unwilling = lender(dir.path(), |config| config.lends_arenas = false);
        assert_eq!(ask(&unwilling, 1_000, id(1)).await.unwrap_err(), NoArena::Unwilling);
        let full = lender(dir.path(), |config| config.disk_free_min = u64::MAX / 2);
        assert_eq!(ask(&full, 1_000, id(1)).await.unwrap_err(), NoArena::NoRoom);
        let arenas = lender(dir.path(), |_| {});
        assert_eq!(ask(&arenas, 60_001, id(1)).await.unwrap_err(), NoArena::TooLong);
        locked(&arenas.budget).spend(Instant::now(), Duration::from_secs(110));
        assert_eq!(ask(&arenas, 10_000, id(1)).await.unwrap_err(), NoArena::TooOften);
        assert!(!dir.path().join("arena").exists());
    }

    #[tokio::test]
    async fn an_arena_lets_in_whom_it_is_for_and_ends_with_whoever_asked() {
        let [lends, borrows] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let arenas = lender(lends.path(), |_| {});
        let here = lender(borrows.path(), |_| {});
        let ground = here.ground().await.unwrap();
        let (dir, writer) = ground.dir_with_key(Durability::Normal).await.unwrap();
        let (place, asking) = ask(&arenas, 1_000, writer).await.unwrap();
        let second = ask(&arenas, 1_000, writer).await;
        assert_eq!(second.unwrap_err(), NoArena::Busy);
        let (stranger_dir, _) = ground.dir_with_key(Durability::Normal).await.unwrap();
        let stranger = enter(&ground, stranger_dir, place).await;
        let mut events = stranger.node.events();
        let refused = async {
            loop {
                if let Event::RefusedBy { refusal, .. } = &*events.recv().await.unwrap() {
                    return refusal.code;
                }
            }
        };
        assert_eq!(refused.await, RefusalCode::NotApproved, "though it is of the same federation");
        let invited = enter(&ground, dir, place).await;
        let mut events = invited.node.events();
        while !matches!(&*events.recv().await.unwrap(), Event::PeerVerified { .. }) {}
        let (answer, tallied) = oneshot::channel();
        asking.send(TallyAsked { thoughts: 0, answer }).await.unwrap();
        assert_eq!(tallied.await.unwrap().thoughts, 0);
        drop(asking);
        arenas.ended().await;
        assert!(!lends.path().join("arena").exists());
        let spent = Duration::from_secs(120) - locked(&arenas.budget).left(Instant::now());
        assert!(spent > Duration::ZERO, "what it took is taken from the budget");
    }
}
