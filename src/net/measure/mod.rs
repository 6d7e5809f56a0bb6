//! Measuring how long things take between two nodes, and how much, on a live link and beside everything else that happens on it.
//!
//! Whoever measures asks (`asking.rs`), the other side answers (`answering.rs`): it echoes what comes on a probe stream (`lane.rs`) and in
//! datagrams, opens a bare UDP port for the floor (`floor.rs`), and checks and weighs dry thoughts, of which nothing is kept; and it gives an
//! arena, a throw-away node for measurements of throughput (`arena.rs`). All times are
//! taken by the asker with one clock, between two calls of this program: what the transport estimates is not looked at, because it reads
//! high when timers are late.

mod answering;
mod arena;
mod asking;
mod floor;
mod lane;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::coop::consume_budget};

pub(super) use self::{answering::answer, floor::FLOOR_BYTES, lane::round_trips};
pub use self::{
    arena::{ArenaAsked, ArenaPlace, Borrowed, Bulk, TallyAsked},
    asking::{Measuring, Thoughts},
    floor::local as local_address_towards,
    lane::PING_BYTES_MAX,
};
use super::links::{Link, Shared};
use crate::{
    ledger::types::Millis,
    protocol::bucket::{Allowance, Bucket},
};

/// What a payload has at least: its number, and on a datagram the byte before it; the floor's has a token.
pub const PAYLOAD_BYTES_MIN: usize = 16;
/// What a payload has at most, so that it fits one packet of every kind: a datagram is never split.
pub const PAYLOAD_BYTES_MAX: usize = 1_150;

/// The first byte of a datagram that is to be echoed.
const ASKED: u8 = 0;
/// The first byte of one that was.
const ECHOED: u8 = 1;

/// Dry thoughts of one link that are checked: each is a signature, about a tenth of a millisecond.
const DRY_OF_A_LINK: Allowance = Allowance { burst: 100, per_minute: 600 * 60 };
/// And of all links together: a tenth of one core or so.
const DRY_OF_ALL: Allowance = Allowance { burst: 200, per_minute: 1_000 * 60 };
const _: () = assert!(DRY_OF_A_LINK.per_minute < DRY_OF_ALL.per_minute);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A bare UDP ping-pong between the two processes: what the network and the system take.
    Floor,
    /// A round trip on a stream that stands.
    Probe,
    /// A round trip of a QUIC datagram.
    Datagram,
    /// A round trip on a stream that is opened for it.
    Stream,
    /// One way through the whole path of a thought, which nobody keeps.
    Thought,
}

impl Kind {
    /// All of them, in the order in which they go within a period.
    pub const ALL: [Self; 5] = [Self::Floor, Self::Probe, Self::Datagram, Self::Stream, Self::Thought];

    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Probe => "probe",
            Self::Datagram => "datagram",
            Self::Stream => "stream",
            Self::Thought => "thought",
        }
    }
}

/// Something that was sent came back.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// What.
    pub kind: Kind,
    /// Which of its kind. The peer says so: it may be one that was never sent, or came back before.
    pub number: u64,
    /// When.
    pub at: Instant,
}

/// Why nothing is measured. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// There is no such link, or it ended.
    #[error("the link is gone")]
    LinkGone,
    /// The peer's program is older. It would take such a stream for a violation, so none was opened.
    #[error("the peer's program is too old to be measured so")]
    Unsupported,
    /// It ended the measurement by itself: it stops, or has no more room or time for it.
    #[error("the peer ended the measurement")]
    Ended,
    /// It answers something else than what was asked.
    #[error("the peer's answer is not understood")]
    NotUnderstood,
    /// Somebody else of this node measures it.
    #[error("this link is being measured")]
    Taken,
    /// No key can be made for dry thoughts.
    #[error("the system gives no randomness for a key")]
    Randomness,
    /// It did not answer.
    #[error("the peer did not answer in time")]
    NoAnswer,
}

/// What was done for others' measurements since the endpoint was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeasureCounts {
    /// Bare UDP ports that were opened.
    pub floors: u64,
    /// Datagrams that were echoed.
    pub datagrams: u64,
    /// Dry thoughts that were checked.
    pub dry_checked: u64,
    /// Dry thoughts that were not looked at, because there were too many.
    pub dry_busy: u64,
    /// Arenas that were given.
    pub arenas: u64,
}

/// What all links of an endpoint share of this.
#[derive(Debug)]
pub(super) struct Measured {
    begun: Instant,
    dry: Mutex<Bucket>,
    floors: AtomicU64,
    datagrams: AtomicU64,
    dry_checked: AtomicU64,
    dry_busy: AtomicU64,
    arenas: AtomicU64,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            dry: Mutex::new(Bucket::full(DRY_OF_ALL, Millis::ZERO)),
            floors: AtomicU64::default(),
            datagrams: AtomicU64::default(),
            dry_checked: AtomicU64::default(),
            dry_busy: AtomicU64::default(),
            arenas: AtomicU64::default(),
        }
    }
}

impl Measured {
    /// Whether a dry thought of that link is checked.
    fn takes_dry(&self, link: &Link) -> bool {
        let now = Millis(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let takes = |bucket: &Mutex<Bucket>| bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        // The link's own first: what it may not have is nothing that the others lose.
        let taken = takes(&link.dry) && takes(&self.dry);
        let counter = if taken { &self.dry_checked } else { &self.dry_busy };
        counter.fetch_add(1, Ordering::Relaxed);
        taken
    }

    pub(super) fn counts(&self) -> MeasureCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MeasureCounts {
            floors: read(&self.floors),
            datagrams: read(&self.datagrams),
            dry_checked: read(&self.dry_checked),
            dry_busy: read(&self.dry_busy),
            arenas: read(&self.arenas),
        }
    }
}

/// A link's own part of the budget of dry thoughts.
pub(super) fn dry_budget() -> Mutex<Bucket> {
    Mutex::new(Bucket::full(DRY_OF_A_LINK, Millis::ZERO))
}

/// Who waits for echoes of datagrams on a link.
#[derive(Debug, Default)]
pub(super) struct Listener(Mutex<Option<mpsc::Sender<Echo>>>);

impl Listener {
    /// From now on they go there; false where somebody listens already.
    fn set(&self, echoes: mpsc::Sender<Echo>) -> bool {
        let mut listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = listener.as_ref().is_none_or(mpsc::Sender::is_closed);
        if is_free {
            *listener = Some(echoes);
        }
        is_free
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn tell(&self, echo: Echo) {
        if let Some(echoes) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // An echo that finds no room counts as lost.
            let _lost = echoes.try_send(echo);
        }
    }
}

/// Reads a link's datagrams from its beginning, so that they never pile up: an asked one is echoed, an echo goes to whoever waits for it,
/// and before the admission all are thrown away.
pub(super) async fn datagrams(shared: &Shared, link: &Link) {
    while let Ok(datagram) = link.quic.read_datagram().await {
        if link.admitted.initialized() && !link.deaf.is_cancelled() {
            match datagram.split_first() {
                Some((&ASKED, payload)) => echo(shared, link, payload),
                Some((&ECHOED, payload)) => {
                    let at = Instant::now();
                    if let Some(number) = number_in(payload) {
                        link.listener.tell(Echo { kind: Kind::Datagram, number, at });
                    }
                }
                Some(_) | None => {}
            }
        }
        consume_budget().await;
    }
}

fn echo(shared: &Shared, link: &Link, payload: &[u8]) {
    let mut bytes = Vec::with_capacity(1 + payload.len());
    bytes.push(ECHOED);
    bytes.extend_from_slice(payload);
    // What does not fit is lost, as datagrams are.
    if link.quic.send_datagram(Bytes::from(bytes)).is_ok() {
        shared.measured.datagrams.fetch_add(1, Ordering::Relaxed);
    }
}

/// So many bytes that begin with these and that number.
fn payload(begin: &[u8], number: u64, bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes);
    payload.extend_from_slice(begin);
    payload.extend_from_slice(&number.to_le_bytes());
    payload.resize(bytes.max(payload.len()), 0);
    payload
}

fn number_in(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|number| u64::from_le_bytes(*number))
}
