//! Throughput: how much gets through to one peer, measured between throw-away nodes.
//!
//! Whoever measures borrows an arena (`arenas.rs`) from the peer (`lending.rs`) over the link that stands, and sends bytes in bulk over that
//! link, behind everything else. Then an arena of its own writes into the other one as fast as both take it (`flood.rs`), and a second one, that
//! knows nothing, fetches all of that again. Everything goes the way that it goes between nodes: signed, verified, folded, stored. What is
//! written are texts that the rules like (`contents.rs`).

mod arenas;
mod budget;
mod contents;
mod flood;
mod lending;

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{sleep, timeout};

pub(super) use self::arenas::{Arenas, LINKS_MAX, STRANGERS_MAX, clear};
use self::{
    arenas::{Arena, ArenaSetup, Ground, NoGround},
    contents::Contents,
};
use super::StartError;
use crate::{
    log::NodeId,
    net::{ArenaPlace, Borrowed, Endpoint, MeasureError, local_address_towards},
    protocol::{
        event::Event,
        frame::{ArenaWanted, NoArena},
        input::LinkId,
        view::PeerState,
    },
    store::Durability,
};

/// Longest time for which there is written.
pub const DURATION_MAX: Duration = Duration::from_secs(60);
/// Bytes of a content: as short as the rules like one, as long as they admit.
pub const SIZE: RangeInclusive<usize> = 64..=16_384;

/// For how long bytes are sent in bulk.
const BULK_FOR: Duration = Duration::from_millis(1_500);
/// How long it may take until two arenas are linked. Nothing that works takes a tenth of it.
const REACH_MAX: Duration = Duration::from_secs(4);
/// How long a catch-up may take, and how long it may stand still.
const CATCH_UP_MAX: Duration = Duration::from_secs(25);
const STILL_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether an arena is still linked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Over which link.
    pub link: LinkId,
    /// For how long there is written.
    pub duration: Duration,
    /// Bytes of each content.
    pub bytes: usize,
    /// When a commit counts, on both sides.
    pub durability: Durability,
}

/// What was measured, as far as it went.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    /// What got through while there was written.
    pub flood: Option<Flood>,
    /// Entries a second of a catch-up, until they were stored.
    pub catch_up_per_s: Option<f64>,
    /// Bytes a second in bulk over the link.
    pub bulk_bytes_per_s: Option<f64>,
    /// Why something is missing.
    pub why: Option<Why>,
}

/// What got through.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Thoughts that were stored here, signed and acknowledged.
    pub acknowledged: u64,
    /// How many of them were stored there.
    pub stored: u64,
    /// From the first until the last was stored there.
    pub took: Duration,
    /// Processor time of this process meanwhile: microseconds.
    pub cpu_here_us: u64,
    /// Of the peer's.
    pub cpu_there_us: u64,
    /// UDP payload of the arenas' link, both ways.
    pub wire_bytes: Option<u64>,
}

/// Why something could not be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

impl Why {
    fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl From<MeasureError> for Why {
    fn from(error: MeasureError) -> Self {
        let code = match error {
            MeasureError::LinkGone => "link_gone",
            MeasureError::Unsupported => "peer_too_old",
            MeasureError::Ended => "peer_ended",
            MeasureError::NoAnswer => "no_answer",
            MeasureError::NotUnderstood | MeasureError::Taken | MeasureError::Randomness => "failed",
        };
        Self::new(code, error.to_string())
    }
}

impl From<NoArena> for Why {
    fn from(why: NoArena) -> Self {
        Self::new(why.name(), format!("the peer refuses: {why}"))
    }
}

impl From<StartError> for Why {
    fn from(error: StartError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::new("failed", format!("a throw-away node can't be started here: {error}{cause}"))
    }
}

/// Why nothing is measured. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThroughputError {
    /// A peer measures this node.
    #[error("a peer measures throughput to this node; two measurements would measure each other")]
    Taken,
    /// The disk has too little room.
    #[error(
        "the disk has too little room: a measurement of throughput needs up to {} MiB beside what should stay free",
        arenas::BYTES_MAX >> 20
    )]
    NoRoom,
}

/// The turn of whoever measures.
#[derive(Debug)]
pub struct Turn(Arc<Ground>);

/// Processor time that this process has used since its start: microseconds.
fn cpu_us() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) =
        (u64::try_from(used.tv_sec).unwrap_or(0), u64::try_from(used.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

/// A turn, once whoever had it before is done.
pub(super) async fn turn(arenas: &Arc<Arenas>) -> Result<Turn, ThroughputError> {
    arenas.ground().await.map(Turn).map_err(|why| match why {
        NoGround::Taken => ThroughputError::Taken,
        NoGround::NoRoom => ThroughputError::NoRoom,
    })
}

/// Measures, and gives what it found.
///
/// # Cancel safety
/// It stops, here and at the peer, and nothing is left of it.
pub(super) async fn measure(turn: Turn, endpoint: &Endpoint, plan: Plan) -> Throughput {
    let Turn(ground) = turn;
    let mut found = Throughput::default();
    let (stop, arenas) = (ground.stop(), ground.arenas());
    let measurement = Measurement { ground, plan };
    found.why = match stop.run_until_cancelled(measurement.run(endpoint, &mut found)).await {
        Some(Ok(())) => found.why,
        Some(Err(why)) => Some(why),
        None => Some(Why::new("stopping", "this node stops")),
    };
    drop(measurement);
    // Whoever hears the answer finds nothing left of it.
    arenas.vacant().await;
    found
}

/// One that is under way.
struct Measurement {
    ground: Arc<Ground>,
    plan: Plan,
}

/// The other side of it.
struct Opposite {
    borrowed: Borrowed,
    place: ArenaPlace,
}

impl Measurement {
    async fn run(&self, endpoint: &Endpoint, found: &mut Throughput) -> Result<(), Why> {
        let durability = self.plan.durability;
        let (writer_dir, writer) = self.ground.dir_with_key(durability).await?;
        let (reader_dir, reader) = self.ground.dir_with_key(durability).await?;
        let wanted = ArenaWanted {
            writer,
            reader,
            duration_ms: u32::try_from(self.plan.duration.as_millis()).unwrap_or(u32::MAX),
            synced: durability == Durability::Full,
        };
        let (borrowed, place) = endpoint.borrow_arena(self.plan.link, wanted).await??;
        let mut opposite = Opposite { borrowed, place };
        // First, because it needs no other port than the node's own.
        let bulk = opposite.borrowed.bulk(BULK_FOR).await?;
        found.bulk_bytes_per_s = per_second(bulk.bytes, bulk.took);
        let arena = self.enter(writer_dir, &opposite).await?;
        let link = linked(&arena, place).await?;
        let contents = Arc::new(Contents::new(self.plan.bytes));
        let flood =
            flood::run(&self.ground, (&arena, link), &mut opposite, contents, self.plan.duration).await;
        let (flood, why) = flood?;
        found.flood = Some(flood);
        found.why = why;
        arena.end().await;
        let arena = self.enter(reader_dir, &opposite).await?;
        linked(&arena, place).await?;
        found.catch_up_per_s = Some(caught_up(&arena, &mut opposite, flood.stored).await?);
        arena.end().await;
        Ok(())
    }

    /// Starts an arena that dials the peer's.
    async fn enter(&self, dir: std::path::PathBuf, opposite: &Opposite) -> Result<Arena, Why> {
        let address = opposite.borrowed.address(opposite.place);
        let at = local_address_towards(address)
            .await
            .map_err(|error| Why::new("failed", format!("no UDP socket can be had here: {error}")))?;
        let dials = Some((opposite.place.node, address));
        let setup = ArenaSetup { dir, at, dials, durability: self.plan.durability };
        Ok(self.ground.start(setup).await?)
    }
}

/// Waits until an arena is linked with the peer's.
async fn linked(arena: &Arena, place: ArenaPlace) -> Result<LinkId, Why> {
    let mut events = arena.node.events();
    let verified = async {
        loop {
            match events.recv().await {
                Ok(event) if matches!(*event, Event::PeerVerified { .. }) => return,
                // One that was missed is seen below, and an arena that ends is not linked.
                Ok(_) => {}
                Err(_) => return,
            }
        }
    };
    let port = place.port;
    timeout(REACH_MAX, verified).await.map_err(|_| {
        Why::new(
            "unreachable",
            format!(
                "nothing comes back from UDP port {port} of the peer, which it opened for this measurement; a firewall may drop what is \
                 not sent to the node's own port"
            ),
        )
    })?;
    link_to(arena, place.node).await.ok_or_else(lost)
}

async fn link_to(arena: &Arena, node: NodeId) -> Option<LinkId> {
    let view = arena.node.view().await.ok()?;
    view.peers.into_iter().find_map(|peer| match peer.state {
        PeerState::Verified(verified) if peer.id == Some(node) => Some(verified.link),
        PeerState::Verified(_) | PeerState::Seen(_) => None,
    })
}

/// How many entries a second an arena that knows nothing fetches, until all are in its store.
async fn caught_up(arena: &Arena, opposite: &mut Opposite, wanted: u64) -> Result<f64, Why> {
    let (store, mut commits) = (arena.node.store(), arena.node.commits());
    let begun = Instant::now();
    let (mut stored, mut moved) = (0, begun);
    while stored < wanted && moved.elapsed() < STILL_MAX && begun.elapsed() < CATCH_UP_MAX {
        let _looked = timeout(LOOK_EVERY, commits.changed()).await;
        let now = store.corpus().thoughts;
        if now > stored {
            (stored, moved) = (now, Instant::now());
        } else if arena.node.connections() == 0 {
            return Err(opposite.why_lost().await);
        }
    }
    if stored == 0 {
        return Err(Why::new("no_catch_up", "nothing of what was written could be fetched again"));
    }
    per_second(stored, moved.duration_since(begun))
        .ok_or_else(|| Why::new("no_catch_up", "it was fetched again before that could be measured"))
}

impl Opposite {
    /// Why an arena has lost its link to the peer's.
    async fn why_lost(&mut self) -> Why {
        // The arenas may end a moment before the stream does that they hang on.
        sleep(LOOK_EVERY).await;
        match self.borrowed.tally(0).await {
            Ok(_) => lost(),
            Err(error) => error.into(),
        }
    }
}

fn lost() -> Why {
    Why::new("link_lost", "the link between the throw-away nodes broke off")
}

fn per_second(many: u64, took: Duration) -> Option<f64> {
    let seconds = took.as_secs_f64();
    (seconds > 0.0).then(|| many as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;
    use tokio_util::sync::CancellationToken;

    use super::{arenas::tests::enter, lending::tests::lender, *};

    /// As behind a firewall that lets nothing but the node's own port through.
    #[tokio::test]
    async fn an_arena_that_can_not_be_reached_is_given_up_soon_and_the_reason_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let here = lender(dir.path(), |_| {});
        let ground = here.ground().await.unwrap();
        let (entered, node) = ground.dir_with_key(Durability::Normal).await.unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let place = ArenaPlace { node, port: silent.local_addr().unwrap().port() };
        let arena = enter(&ground, entered, place).await;
        let why = linked(&arena, place).await.unwrap_err();
        assert_eq!(why.code, "unreachable");
        assert!(why.text.contains("firewall") && why.text.contains(&place.port.to_string()), "{}", why.text);
    }

    #[tokio::test]
    async fn a_measurement_waits_for_the_end_of_the_one_before_but_not_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let arenas = lender(dir.path(), |_| {});
        let first = turn(&arenas).await.unwrap();
        assert_eq!(turn(&arenas).await.unwrap_err(), ThroughputError::Taken);
        let (second, ()) = tokio::join!(turn(&arenas), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        drop(second.unwrap());
        let full = Arc::new(Arenas::new(
            &lending::tests::config(dir.path(), |config| config.disk_free_min = u64::MAX / 2),
            CancellationToken::new(),
        ));
        assert_eq!(turn(&full).await.unwrap_err(), ThroughputError::NoRoom);
    }
}
