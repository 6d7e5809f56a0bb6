//! Links: the connections that stand, and what all of them share.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, SetOnce};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    apart::Apart,
    config::Timing,
    event::NetEvent,
    held::Held,
    inbox::{Class, InboxSender},
    join::JoinDesk,
    measure::{self, Listener, Measured},
    streams::row,
    tls::Credentials,
    turns::Turns,
    writer::{NotQueued, Queue, Waiting},
};
use crate::{
    log::{NodeId, Rules},
    protocol::{bucket::Bucket, frame::StreamKind, input::LinkId, refusal::Refusal},
};

/// What all connections of an endpoint share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) events: InboxSender,
    pub(super) held: Held,
    pub(super) measured: Measured,
    /// Where segments and proofs are decoded and verified.
    pub(super) apart: Apart,
    pub(super) rules: Rules,
    pub(super) timing: Timing,
    pub(super) credentials: Credentials,
    pub(super) desk: Option<Arc<dyn JoinDesk>>,
    pub(super) links: Links,
    /// No new connections from here on.
    pub(super) closing: CancellationToken,
    /// Nothing at all from here on: whoever waits for the inbox gives up.
    pub(super) stop: CancellationToken,
}

impl Shared {
    /// Tells the owner, and waits while its inbox is full. Says whether there is still somebody to tell.
    pub(super) async fn tell(&self, event: NetEvent) -> bool {
        self.events.tell(Class::Control, event, None, &self.stop).await
    }

    /// As [`Self::tell`], for what came on a thought stream.
    pub(super) async fn tell_live(&self, event: NetEvent) -> bool {
        self.events.tell(Class::Live, event, None, &self.stop).await
    }

    /// As [`Self::tell`], for what came on a catch-up stream of that link.
    pub(super) async fn tell_caught_up(&self, link: &Link, event: NetEvent) -> bool {
        self.events.tell(Class::CatchUp, event, Some(&link.unread), &self.stop).await
    }
}

/// The links that stand, by their ids.
#[derive(Debug, Default)]
pub(super) struct Links {
    last: AtomicU64,
    open: Mutex<BTreeMap<LinkId, Arc<Link>>>,
    many: Arc<AtomicUsize>,
}

impl Links {
    /// Takes a connection in, under an id that no other one ever had.
    pub(super) fn add(&self, quic: quinn::Connection, node: NodeId) -> (Arc<Link>, Mouth) {
        let id = LinkId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let (link, mouth) = Link::new(id, quic, node);
        let link = Arc::new(link);
        let mut open = self.lock();
        open.insert(id, Arc::clone(&link));
        self.many.store(open.len(), Ordering::Relaxed);
        (link, mouth)
    }

    pub(super) fn remove(&self, id: LinkId) {
        let mut open = self.lock();
        open.remove(&id);
        self.many.store(open.len(), Ordering::Relaxed);
    }

    /// How many there are, for whoever may not wait for the lock.
    pub(super) fn many(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.many)
    }

    pub(super) fn find(&self, id: LinkId) -> Option<Arc<Link>> {
        self.lock().get(&id).cloned()
    }

    /// Those of them that are there, in one look.
    pub(super) fn find_all(&self, ids: &[LinkId]) -> Vec<Arc<Link>> {
        let links = self.lock();
        ids.iter().filter_map(|id| links.get(id).cloned()).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LinkId, Arc<Link>>> {
        // Nothing that is done under this lock can leave the map half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, as all its tasks see it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    /// Whom TLS has proved at the other end.
    pub(super) node: NodeId,
    pub(super) quic: quinn::Connection,
    pub(super) control: Queue,
    pub(super) balance: Queue,
    pub(super) thought: Queue,
    /// How many catch-up streams we may still open: as many as the other side reads at a time.
    pub(super) catch_up_out: Arc<Semaphore>,
    /// How many catch-up streams of the other side we still read at a time.
    pub(super) catch_up_in: Semaphore,
    /// How many catch-up streams of each author we have asked for and not seen yet. No more authors than the owner asks for.
    asked: Mutex<BTreeMap<NodeId, u32>>,
    /// Proofs that are read at a time: each is put together in memory before it is looked at.
    pub(super) proof_in: Semaphore,
    /// Measure streams of the other side that are answered at a time.
    pub(super) measure_in: Semaphore,
    /// How many dry thoughts of the other side are still checked.
    pub(super) dry: Mutex<Bucket>,
    /// Who waits for datagrams to come back.
    pub(super) listener: Listener,
    /// What of its catch-up the owner has not taken out yet: its end is told behind that.
    pub(super) unread: TaskTracker,
    /// Set when the owner has admitted it.
    pub(super) admitted: SetOnce<()>,
    /// Set when its control stream stands.
    pub(super) controlled: SetOnce<()>,
    /// Set when we begin to end it.
    pub(super) parting: SetOnce<Parting>,
    /// Cancelled when nothing that the peer says counts any more.
    pub(super) deaf: CancellationToken,
    /// Whether the peer's thought stream was opened, and its balance-sync stream: there is only one of each.
    thought_heard: AtomicBool,
    balance_heard: AtomicBool,
    /// The refusal that the peer told us on its control stream.
    pub(super) refused: OnceLock<Refusal>,
    /// Why we gave it up, where it was nobody's decision.
    pub(super) broken: OnceLock<&'static str>,
    /// Which queues had no room for a frame.
    pub(super) full: FullQueues,
}

/// How a link is ended by us.
#[derive(Clone, Debug)]
pub(super) struct Parting {
    /// What the other side is told.
    pub(super) refusal: Refusal,
    /// What comes first.
    pub(super) manner: Manner,
}

/// What comes before a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Nothing: what is queued is dropped, what comes is not heard.
    AtOnce,
    /// What is queued is sent first.
    Flushed,
}

/// The ends of a link's queues that its writers empty.
#[derive(Debug)]
pub(super) struct Mouth {
    pub(super) control: Waiting,
    pub(super) balance: Waiting,
    pub(super) thought: Waiting,
}

/// Which of a link's queues had no room for a frame, until that is told: telling it twice would say nothing new.
#[derive(Debug, Default)]
pub(super) struct FullQueues {
    kinds: AtomicU8,
    some: Notify,
}

impl FullQueues {
    fn add(&self, kind: StreamKind) {
        self.kinds.fetch_or(1 << kind.number(), Ordering::Relaxed);
        self.some.notify_one();
    }

    /// Those that were full since the last call, once there are some.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn take(&self) -> impl Iterator<Item = StreamKind> + use<> {
        self.some.notified().await;
        let kinds = self.kinds.swap(0, Ordering::Relaxed);
        StreamKind::ALL.into_iter().filter(move |kind| kinds & (1 << kind.number()) != 0)
    }
}

impl Link {
    fn new(id: LinkId, quic: quinn::Connection, node: NodeId) -> (Self, Mouth) {
        let (control, control_waiting) = Queue::new(StreamKind::Control);
        let (balance, balance_waiting) = Queue::new(StreamKind::BalanceSync);
        let (thought, thought_waiting) = Queue::new(StreamKind::Thought);
        let catch_ups = usize::try_from(row(StreamKind::CatchUp).incoming_max).unwrap_or(1);
        let link = Self {
            id,
            node,
            quic,
            control,
            balance,
            thought,
            catch_up_out: Arc::new(Semaphore::new(catch_ups)),
            catch_up_in: Semaphore::new(catch_ups),
            asked: Mutex::default(),
            proof_in: Semaphore::new(1),
            measure_in: Semaphore::new(1),
            dry: measure::dry_budget(),
            listener: Listener::default(),
            unread: TaskTracker::new(),
            admitted: SetOnce::new(),
            controlled: SetOnce::new(),
            parting: SetOnce::new(),
            deaf: CancellationToken::new(),
            thought_heard: AtomicBool::new(false),
            balance_heard: AtomicBool::new(false),
            refused: OnceLock::new(),
            broken: OnceLock::new(),
            full: FullQueues::default(),
        };
        let mouth = Mouth { control: control_waiting, balance: balance_waiting, thought: thought_waiting };
        (link, mouth)
    }

    /// The other end; IPv4 never in IPv6 clothes.
    pub(super) fn address(&self) -> SocketAddr {
        canonical(self.quic.remote_address())
    }

    /// Begins to end the link. Only the first time counts.
    pub(super) fn part(&self, refusal: Refusal, manner: Manner) {
        drop(self.parting.set(Parting { refusal, manner }));
    }

    /// Gives the link up at once, because something broke that is nobody's decision.
    pub(super) fn give_up(&self, why: &'static str) {
        self.broken.get_or_init(|| why);
        self.quic.close(quinn::VarInt::from_u32(0), b"");
    }

    /// Queues a frame; where it does not fit, the owner hears of it from the link's own task, so that the
    /// caller, who is the one that empties the inbox, never waits for it.
    pub(super) fn push_or_tell(&self, kind: StreamKind, queue: &Queue, frame: Bytes) {
        match queue.push(frame) {
            // A link that is ending tells so by itself.
            Ok(()) | Err(NotQueued::Gone) => {}
            Err(NotQueued::Full) => self.full.add(kind),
        }
    }

    /// As [`Self::push_or_tell`], for a frame that many links get: the writer is woken in its turn.
    pub(super) fn push_late_or_tell(&self, kind: StreamKind, queue: &Queue, frame: Bytes, turns: &Turns) {
        match queue.push_late(frame) {
            Ok(late) => late.into_iter().for_each(|late| turns.add(late)),
            Err(NotQueued::Gone) => {}
            Err(NotQueued::Full) => self.full.add(kind),
        }
    }

    /// That author's entries are asked for: one catch-up stream may bring them.
    pub(super) fn ask(&self, author: NodeId) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = asked.entry(author).or_default();
        *streams = streams.saturating_add(1);
    }

    /// A catch-up stream brings that author's entries; says whether it was asked for.
    pub(super) fn claim_asked(&self, author: NodeId) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(streams) = asked.get_mut(&author) else { return false };
        *streams = streams.saturating_sub(1);
        if *streams == 0 {
            asked.remove(&author);
        }
        true
    }

    /// Claims the peer's only thought stream; false where it was claimed before.
    pub(super) fn claim_thought(&self) -> bool {
        !self.thought_heard.swap(true, Ordering::Relaxed)
    }

    /// Claims the peer's only balance-sync stream; false where it was claimed before.
    pub(super) fn claim_balance(&self) -> bool {
        !self.balance_heard.swap(true, Ordering::Relaxed)
    }
}

/// The address in the form in which addresses are compared: a dual-stack socket sees IPv4 peers as `::ffff:a.b.c.d`.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), address.port())
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}
