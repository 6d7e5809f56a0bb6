//! Handle: how the rest of the process talks to a running node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    invitations::Invitations,
    latency::{self, Latency, Plan},
    membership::MembershipError,
    pki::{Pki, PkiError},
    record_addresses,
    renewing::due,
    run::RunError,
    throughput::{self, Arenas, Throughput, ThroughputError},
};
use crate::{
    ledger::{
        policy::Policy,
        types::{Level, Millis},
    },
    log::{Architecture, FederationId, FederationName, Hardware, NodeId, NodeName, Revocation},
    monitor::{Alert, Monitor},
    net::{
        Endpoint, LinkStats, MeasureError, ProbeError,
        certificates::NodeCertificate,
        discovery::{Counts, machine_addresses},
        membership::validity,
        tls::CertificateFault,
    },
    protocol::{
        event::Event,
        input::{Answer, LinkId, Submission},
        view::{Known, View},
    },
    store::Store,
};

/// What does not change while a node runs.
#[derive(Clone, Debug)]
pub struct About {
    /// Its id.
    pub id: NodeId,
    /// Its name, as its genesis entry says.
    pub name: NodeName,
    /// Its hardware, as its genesis entry claims.
    pub hardware: Hardware,
    /// Its level, as its genesis entry claims.
    pub level: Level,
    /// Its architecture.
    pub arch: Architecture,
    /// The program's version.
    pub version: &'static str,
    /// Its federation.
    pub federation: FederationId,
    /// Its federation's name.
    pub federation_name: FederationName,
    /// Whether its federation is closed.
    pub closed: bool,
    /// Its federation's rules.
    pub policy: Policy,
    /// Where its files are.
    pub data_dir: PathBuf,
}

/// A running node. Cheap to clone; the node runs until [`Handle::stop`].
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) about: About,
    pub(super) started: Instant,
    pub(super) wishes: mpsc::Sender<Wish>,
    pub(super) submissions: mpsc::Sender<Submitted>,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    pub(super) first_events: Mutex<Option<broadcast::Receiver<Arc<Event>>>>,
    pub(super) commits: watch::Receiver<u64>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) discovered: watch::Receiver<Counts>,
    pub(super) store: Arc<dyn Store>,
    pub(super) desk: Option<Arc<Invitations>>,
    pub(super) pki: Option<Arc<Pki>>,
    /// Where somebody serves the API over this handle on TCP, for whoever asks.
    pub(super) api: OnceLock<SocketAddr>,
    /// One measurement at a time: two would measure each other.
    pub(super) measuring: Arc<Semaphore>,
    pub(super) arenas: Arc<Arenas>,
    pub(super) stop: CancellationToken,
    pub(super) ended: watch::Receiver<Option<Result<(), RunError>>>,
}

/// A thought that is to be published, and who waits for what became of it. Apart from wishes: it waits where many wait for the disk, and a
/// look at the node does not.
pub(super) type Submitted = (Submission, oneshot::Sender<Answer>);

/// What the handle asks of the loop.
#[derive(Debug)]
pub(super) enum Wish {
    /// Who are its authors?
    Known(oneshot::Sender<Known>),
    /// What would it get?
    DryRun(Submission, oneshot::Sender<Answer>),
    /// Take a convicted author's log again.
    Clear(NodeId, oneshot::Sender<Answer>),
    /// Throw a member out.
    Revoke(Revocation, oneshot::Sender<()>),
    /// Link a node that waits for it.
    Approve(NodeId, oneshot::Sender<Result<Approved, MembershipError>>),
    /// What does the node know?
    View(oneshot::Sender<View>),
}

/// What came of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approved {
    /// It is written down, and the node is dialled where it was heard of.
    Done,
    /// This node takes any peer.
    NotPinned,
}

/// The node has stopped. Whether a submission that was under way is recorded is not known: ask again with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct NodeGone;

impl Handle {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// What does not change while it runs.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.shared.about
    }

    /// How long it has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Where it listens.
    #[must_use]
    pub fn listen(&self) -> Vec<SocketAddr> {
        self.shared.endpoint.local_addresses()
    }

    /// Where the local API is on TCP, if it is.
    #[must_use]
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.shared.api.get().copied()
    }

    /// The local API is served there from now on.
    pub(crate) fn serves_api_at(&self, address: SocketAddr) {
        // There is one API for a node.
        let _first = self.shared.api.set(address);
    }

    /// Submits a thought and waits until it is durable, signed and on its way, or known not to be admissible. Where more are submitted than the
    /// disk takes, it waits for its turn.
    ///
    /// # Errors
    /// Where the node stops meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future does not withdraw the thought: it may still be recorded. Use a key to ask again.
    pub async fn submit(&self, submission: Submission) -> Result<Answer, NodeGone> {
        let (answer, answered) = oneshot::channel();
        self.shared.submissions.send((submission, answer)).await.map_err(|_| NodeGone)?;
        answered.await.map_err(|_| NodeGone)
    }

    /// What a thought would get now; nothing is recorded.
    ///
    /// # Errors
    /// Where the node stops meanwhile.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn dry_run(&self, submission: Submission) -> Result<Answer, NodeGone> {
        self.ask(|answer| Wish::DryRun(submission, answer)).await
    }

    /// Takes a convicted author's log again; [`Answer::Cleared`] says whether it was convicted.
    ///
    /// # Errors
    /// Where the node stops meanwhile.
    ///
    /// # Cancel safety
    /// The author may be cleared all the same.
    pub async fn clear(&self, author: NodeId) -> Result<Answer, NodeGone> {
        self.ask(|answer| Wish::Clear(author, answer)).await
    }

    /// Throws a member out for good: it is written down, every linked member is told, and the node is turned away.
    ///
    /// # Errors
    /// Where the node stops meanwhile.
    ///
    /// # Cancel safety
    /// The member may be thrown out all the same.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), NodeGone> {
        self.ask(|answer| Wish::Revoke(revocation, answer)).await
    }

    /// Lets a node be linked from now on.
    ///
    /// # Errors
    /// Where the node stops meanwhile; inside, where it can't be written down: nothing is changed then.
    ///
    /// # Cancel safety
    /// It may be approved all the same.
    pub async fn approve(&self, node: NodeId) -> Result<Result<Approved, MembershipError>, NodeGone> {
        self.ask(|answer| Wish::Approve(node, answer)).await
    }

    /// A snapshot of what the node knows.
    ///
    /// # Errors
    /// Where the node stops meanwhile.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn view(&self) -> Result<View, NodeGone> {
        self.ask(Wish::View).await
    }

    /// A snapshot of the authors alone, which does not take longer the more peers there are.
    ///
    /// # Errors
    /// Where the node stops meanwhile.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn known(&self) -> Result<Known, NodeGone> {
        self.ask(Wish::Known).await
    }

    /// How many connections are open: one for each verified peer, and for a moment those that are being admitted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.endpoint.link_count()
    }

    /// Round-trip time and bytes of a link, as QUIC counts them.
    #[must_use]
    pub fn link_stats(&self, link: LinkId) -> Option<LinkStats> {
        self.shared.endpoint.stats(link)
    }

    /// Sends that many bytes to a peer on a probe stream and back; how long it took.
    ///
    /// # Errors
    /// Where the link is gone or does not answer; for people.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn probe(&self, link: LinkId, bytes: usize) -> Result<Duration, ProbeError> {
        self.shared.endpoint.probe(link, bytes::Bytes::from(vec![0; bytes])).await
    }

    /// As [`Handle::probe`], on a stream that stands: what opening one takes is not in it.
    ///
    /// # Errors
    /// Where the link is gone or does not answer; for people.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ping(&self, link: LinkId, bytes: usize) -> Result<Duration, ProbeError> {
        self.shared.endpoint.ping(link, bytes).await
    }

    /// As [`Handle::ping`], so often, each when the one before is back; how long each took. All payloads and one more have at most
    /// [`PROBE_BYTES_MAX`](crate::net::PROBE_BYTES_MAX) bytes together, and 10 s.
    ///
    /// # Errors
    /// Where the link is gone or does not answer, or they have more bytes; for people.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn pings(&self, link: LinkId, bytes: usize, count: usize) -> Result<Vec<Duration>, ProbeError> {
        self.shared.endpoint.pings(link, bytes, count).await
    }

    /// The turn of whoever wants to measure; `None` while somebody else does.
    #[must_use]
    pub fn measuring_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.measuring).try_acquire_owned().ok()
    }

    /// Measures how long things take to one peer and back.
    ///
    /// # Errors
    /// Where nothing can be measured.
    ///
    /// # Cancel safety
    /// It stops, and nothing is left of it.
    pub async fn measure_latency(&self, plan: Plan) -> Result<Latency, MeasureError> {
        latency::measure(self, &self.shared.endpoint, plan).await
    }

    /// The turn of whoever wants to measure throughput; a moment is waited for whoever is just done.
    ///
    /// # Errors
    /// Where a peer measures this node, or the disk has too little room.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn throughput_turn(&self) -> Result<throughput::Turn, ThroughputError> {
        throughput::turn(&self.shared.arenas).await
    }

    /// Measures how much gets through to one peer, between throw-away nodes here and there.
    ///
    /// # Cancel safety
    /// It stops, and nothing is left of it.
    pub async fn measure_throughput(&self, turn: throughput::Turn, plan: throughput::Plan) -> Throughput {
        throughput::measure(turn, &self.shared.endpoint, plan).await
    }

    /// How often what happened since it started.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let mut counters = self.shared.monitor.counters();
        let segments = self.shared.endpoint.segment_counts();
        counters.insert("segments_verified".to_owned(), segments.verified);
        counters.insert("segments_known".to_owned(), segments.known);
        let measured = self.shared.endpoint.measure_counts();
        counters.insert("measure_ports".to_owned(), measured.floors);
        counters.insert("measure_datagrams".to_owned(), measured.datagrams);
        counters.insert("measure_thoughts".to_owned(), measured.dry_checked);
        counters.insert("measure_thoughts_busy".to_owned(), measured.dry_busy);
        counters.insert("measure_arenas".to_owned(), measured.arenas);
        let discovered = *self.shared.discovered.borrow();
        let door = self.shared.endpoint.door_counts();
        counters.insert("incoming_taken".to_owned(), door.taken);
        counters.insert("incoming_asked".to_owned(), door.asked);
        counters.insert("incoming_refused_full".to_owned(), door.full);
        counters.insert("incoming_ignored_crowded".to_owned(), door.crowded);
        counters.insert("incoming_ignored_address".to_owned(), door.address);
        counters.insert("incoming_ignored_rate".to_owned(), door.rate);
        counters.insert("mdns_recycled".to_owned(), discovered.recycled);
        counters.insert("mdns_dropped".to_owned(), discovered.dropped);
        counters
    }

    /// What a person should look at.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.shared.monitor.alerts()
    }

    /// Everything that happens from now on; whoever asks first also hears what happened since the start. Who reads too slowly is told how many events it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        let first = self.shared.first_events.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.shared.events.subscribe())
    }

    /// How many commits the store has made since the node started. Others' entries count in the books at once and stand
    /// in the store a commit later, so whoever looks for one there waits on this.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.shared.commits.clone()
    }

    /// The store, for reading. Its calls block.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.shared.store)
    }

    /// Where members are made; `None` where the CA's key is not here, or the federation is an open one. Its calls block.
    #[must_use]
    pub fn invitations(&self) -> Option<Arc<Invitations>> {
        self.shared.desk.clone()
    }

    /// Shows another certificate from now on.
    pub(super) fn show_certificate(&self, certificate: NodeCertificate) -> Result<(), CertificateFault> {
        self.shared.endpoint.renew(certificate)
    }

    /// Reads the files of the operator's own PKI again and uses them from now on; connections that stand stay. `None`: there is none.
    ///
    /// # Errors
    /// What is wrong with the files; the old certificates still count.
    ///
    /// # Cancel safety
    /// The new ones may be used all the same.
    pub async fn reload_certificates(&self) -> Option<Result<Millis, PkiError>> {
        let (pki, monitor) = (self.shared.pki.as_ref()?, &self.shared.monitor);
        let read = pki.reload(|ca, certificate| self.shared.endpoint.replace(ca, certificate)).await;
        monitor.end("certificate");
        match &read {
            Ok(_) => monitor.tally("certificates_read"),
            Err(error) => {
                monitor.tally("certificates_unusable");
                monitor.raise("certificate", error.to_string(), (pki.clock)().0);
            }
        }
        Some(read)
    }

    /// Raises an alert about the node's certificate.
    pub(super) fn alert_certificate(&self, about: String, now: Millis) {
        self.shared.monitor.end("certificate");
        self.shared.monitor.raise("certificate", about, now.0);
    }

    /// When the certificate that the node shows now should be renewed, and when it expires.
    pub(super) fn certificate_due(&self) -> (Millis, Millis) {
        let shown = self.shared.endpoint.certificate();
        // One that is shown was read before.
        validity(shown.der()).map_or((Millis(0), Millis(0)), |(from, until)| (due(from, until), until))
    }

    /// The SHA-256 of the certificate that the node shows now, in lower-case hex.
    #[must_use]
    pub fn certificate_fingerprint(&self) -> String {
        self.shared.endpoint.certificate().fingerprint()
    }

    /// When the certificate that the node shows now expires: milliseconds since the Unix epoch.
    #[must_use]
    pub fn certificate_expires_ms(&self) -> u64 {
        self.certificate_due().1.0
    }

    /// Where others may reach this node; at most eight. On a machine without a network that is loopback.
    #[must_use]
    pub fn reachable_at(&self) -> Vec<SocketAddr> {
        let addresses = record_addresses(&self.listen(), &machine_addresses());
        if addresses.is_empty() {
            return record_addresses(&self.listen(), &BTreeSet::from([Ipv4Addr::LOCALHOST.into()]));
        }
        addresses
    }

    /// Asks the node to stop; [`Handle::stopped`] says when it has.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Waits until the node has stopped.
    ///
    /// # Errors
    /// What ended it, where nobody had asked it to stop.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn stopped(&self) -> Result<(), RunError> {
        let mut ended = self.shared.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            // The loop was dropped with its runtime.
            Err(_) => Ok(()),
        }
    }

    async fn ask<T>(&self, wish: impl FnOnce(oneshot::Sender<T>) -> Wish) -> Result<T, NodeGone> {
        let (answer, answered) = oneshot::channel();
        self.shared.wishes.send(wish(answer)).await.map_err(|_| NodeGone)?;
        answered.await.map_err(|_| NodeGone)
    }
}
