//! Lending: an arena for a peer that measures throughput to this node. It ends with whoever asked for it, with its time, and with its room.

use std::{
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
                tracing::info!(peer = %node, %why, "a peer that wants to measure throughput is refused");
                // It may have gone away.
                let _gone = answer.send(Err(why));
                return;
            }
        };
        let port = arena.node.listen().first().map_or(0, std::net::SocketAddr::port);
        tracing::info!(peer = %node, port, seconds = wanted.duration_ms / 1_000, "a peer measures throughput to this node");
        let left = locked(&self.budget).left(session.begun);
        let most = Duration::from_millis(wanted.duration_ms.into()).saturating_add(SESSION_REST).min(left);
        if answer.send(Ok(ArenaPlace { node: arena.node.about().id, port })).is_ok() {
            select! {
                () = serve(&arena, &mut tallies) => {}
                () = overrun(&ground, session.begun + most) => {
                    tracing::warn!(peer = %node, "a peer's measurement of throughput took more time or room than it may, and is ended");
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
        peer: std::net::SocketAddr,
    ) -> Result<(Arena, Arc<Ground>, Session), NoArena> {
        if !self.lends {
            return Err(NoArena::Unwilling);
        }
        let duration = Duration::from_millis(wanted.duration_ms.into());
        if duration > DURATION_MAX {
            return Err(NoArena::TooLong);
        }
        let ground = self.ground().await.map_err(|why| match why {
            NoGround::Taken => NoArena::Busy,
            NoGround::NoRoom => NoArena::NoRoom,
        })?;
        let begun = Instant::now();
        if locked(&self.budget).left(begun) < duration.saturating_add(SESSION_REST_USUAL) {
            return Err(NoArena::TooOften);
        }
        let session = Session { arenas: Arc::clone(self), begun };
        let arena = start(&ground, wanted, peer).await.map_err(|error| {
            tracing::warn!(error = %error, "a throw-away node for a peer's measurement can't be started");
            NoArena::Failed
        })?;
        Ok((arena, ground, session))
    }
}

async fn start(
    ground: &Arc<Ground>,
    wanted: &ArenaWanted,
    peer: std::net::SocketAddr,
) -> Result<Arena, String> {
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
