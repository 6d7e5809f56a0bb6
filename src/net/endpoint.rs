//! The endpoint: the node's sockets, and everything that can be asked of its links. Nothing in here waits for the owner's
//! inbox, so the task that empties it may call every method that is not async.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{IdleTimeout, Runtime, TokioRuntime, TransportConfig, VarInt};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    apart::Apart,
    certificates::{CertificateError, NodeCertificate},
    config::{NetConfig, Timing},
    connection::close_code,
    dial::Dialler,
    held::{Held, SegmentCounts},
    inbox::InboxSender,
    incoming::{Door, DoorCounts, Porter},
    links::{Link, Links, Manner, Shared, canonical},
    measure::{self, ArenaPlace, Borrowed, Echo, MeasureCounts, MeasureError, Measured, Measuring},
    membership::CaCertificate,
    reset,
    segmented::Segmented,
    sending::{self, CatchUpSender, LinkStats, ProbeError, SendFault},
    socket::{self, SocketError},
    streams::{DATAGRAMS_BYTES_MAX, SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES, WINDOW_BYTES_BEFORE_ADMISSION},
    tls::{CertificateFault, Credentials, Guests, TlsError},
    turns::{AT_ONCE_MAX, Turns},
    writer::Queue,
};
use crate::{
    ledger::types::Seq,
    log::{NodeId, Segment},
    protocol::{
        frame::{ArenaWanted, BalanceFrame, ControlFrame, NoArena, StreamKind},
        input::{Dial, LinkId},
        refusal::Refusal,
        wire::{self, WireFault},
    },
};

/// Packets of connections that are not accepted yet: how many, how many bytes each, and in all.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES_MAX: u64 = 64 << 10;
pub(super) const INCOMING_BYTES_TOTAL_MAX: u64 = 4 << 20;
/// What a round trip is taken for before the first one is measured. quinn's 333 ms would make the first lost packet
/// of a handshake cost a second; on a LAN a tenth is generous, and too short only means a packet sent twice.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// How long a shutdown takes at most.
const SHUTDOWN_MAX: Duration = Duration::from_millis(1_400);
/// How long the last packets have to leave.
const LAST_PACKETS_MAX: Duration = Duration::from_millis(100);

/// The node's side of all its connections. Dropping it ends them without a word; [`Endpoint::shutdown`] says goodbye.
pub struct Endpoint {
    shared: Arc<Shared>,
    endpoints: Arc<[quinn::Endpoint]>,
    dialler: Dialler,
    own: NodeId,
    porter: Arc<Porter>,
    turns: Arc<Turns>,
    tasks: TaskTracker,
}

/// Why an endpoint was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The crypto library does not give the key.
    #[error("the node's key can't be used")]
    Key,
    /// QUIC could not be set up on the socket.
    #[error("QUIC can't be set up")]
    Quic(#[source] std::io::Error),
    /// A time of the configuration is longer than QUIC can say.
    #[error("an idle limit of {0:?} is too long")]
    Idle(Duration),
}

impl Endpoint {
    /// Opens the sockets and begins to take connections. What happens is told through `events`. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// See [`NetError`].
    pub fn open(config: NetConfig, events: InboxSender) -> Result<Self, NetError> {
        let NetConfig { identity, rules, listen, port, connections_max, membership, desk, timing, door } =
            config;
        let credentials = Credentials::new(&identity, &membership)?;
        let seed = identity.seed().map_err(|_| NetError::Key)?;
        let server = server_config(&credentials, timing)?;
        let sockets = socket::open(&listen, port)?;
        let links = Links::default();
        let endpoints: Arc<[quinn::Endpoint]> = sockets
            .into_iter()
            .map(|socket| {
                let config = reset::endpoint_config(&seed);
                let socket = Segmented::new(TokioRuntime.wrap_udp_socket(socket)?, links.many());
                let (server, runtime) = (Some(server.clone()), Arc::new(TokioRuntime));
                quinn::Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), runtime)
            })
            .collect::<Result<_, _>>()
            .map_err(NetError::Quic)?;
        let shared = Arc::new(Shared {
            events,
            held: Held::default(),
            measured: Measured::default(),
            apart: Apart::default(),
            rules,
            timing,
            credentials,
            desk,
            links,
            closing: CancellationToken::new(),
            stop: CancellationToken::new(),
        });
        let tasks = TaskTracker::new();
        let porter = Arc::new(Porter::new(door));
        for endpoint in endpoints.iter() {
            let door = Door {
                shared: Arc::clone(&shared),
                tasks: tasks.clone(),
                endpoint: endpoint.clone(),
                config: server.clone(),
                connections_max,
                porter: Arc::clone(&porter),
            };
            tasks.spawn(door.attend());
        }
        let turns = Arc::new(Turns::default());
        let (giving, closing) = (Arc::clone(&turns), shared.closing.clone());
        tasks.spawn(async move { giving.give(&closing).await });
        let dialler = Dialler {
            shared: Arc::clone(&shared),
            endpoints: Arc::clone(&endpoints),
            // Nobody opens a stream of both ways towards a dialler before it is admitted.
            transport: Arc::new(transport(timing, 0)?),
        };
        Ok(Self { shared, endpoints, dialler, own: identity.node_id(), porter, turns, tasks })
    }

    /// Where it listens: `[::]:8888` for every address of both families. The port is the same everywhere.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().filter_map(|endpoint| endpoint.local_addr().ok()).map(canonical).collect()
    }

    /// The certificate that it shows.
    #[must_use]
    pub fn certificate(&self) -> NodeCertificate {
        self.shared.credentials.certificate()
    }

    /// Shows another certificate in every handshake from now on. Connections that stand stay as they are.
    ///
    /// # Errors
    /// Other members would not take it: what is wrong with it. The old one is still shown.
    pub fn renew(&self, certificate: NodeCertificate) -> Result<(), CertificateFault> {
        self.shared.credentials.renew(certificate, self.own)
    }

    /// Shows another certificate and believes another one of the CA's key from now on, as [`Endpoint::renew`] does.
    ///
    /// # Errors
    /// The CA is none, or other members would not take the certificate. The old ones still count.
    pub fn replace(&self, ca: &CaCertificate, certificate: NodeCertificate) -> Result<(), TlsError> {
        self.shared.credentials.replace(ca, certificate, self.own)
    }

    /// Dials; `Connected` or `DialFailed` follows, within 5 s.
    pub fn dial(&self, dial: Dial) {
        self.tasks.spawn(self.dialler.clone().dial(dial));
    }

    /// Queues a frame for the control stream. Where it does not fit, `QueueFull` follows; where the link is gone,
    /// `Disconnected` does.
    pub fn send_control(&self, link: LinkId, frame: &ControlFrame) {
        let Some(link) = self.shared.links.find(link) else {
            return;
        };
        match wire::encode_control(frame) {
            Ok(bytes) => link.push_or_tell(StreamKind::Control, &link.control, bytes),
            Err(fault) => unsendable(&link, StreamKind::Control, &fault),
        }
    }

    /// Queues a frame for the balance-sync stream; as [`Endpoint::send_control`].
    pub fn send_balance(&self, link: LinkId, frame: &BalanceFrame) {
        let Some(link) = self.shared.links.find(link) else {
            return;
        };
        if let BalanceFrame::Want { author, .. } | BalanceFrame::Mend { author, .. } = frame {
            link.ask(*author);
        }
        match wire::encode_balance(frame) {
            Ok(bytes) => link.push_or_tell(StreamKind::BalanceSync, &link.balance, bytes),
            Err(fault) => unsendable(&link, StreamKind::BalanceSync, &fault),
        }
    }

    /// Queues a frame for the balance-sync stream of each of these links; as [`Endpoint::publish`].
    pub fn tell(&self, to: &[LinkId], frame: &BalanceFrame) {
        self.to_all(to, StreamKind::BalanceSync, |link| &link.balance, || wire::encode_balance(frame));
    }

    /// Queues a live segment for each of these links. It is encoded once; all queues share the bytes. Where it does not
    /// fit, `QueueFull` follows.
    pub fn publish(&self, to: &[LinkId], segment: &Segment) {
        self.to_all(to, StreamKind::Thought, |link| &link.thought, || wire::encode_segment(segment));
    }

    fn to_all(
        &self,
        to: &[LinkId],
        kind: StreamKind,
        queue: impl Fn(&Link) -> &Queue,
        encode: impl FnOnce() -> Result<Bytes, WireFault>,
    ) {
        let links = self.shared.links.find_all(to);
        let Some(first) = links.first() else { return };
        let bytes = match encode() {
            Ok(bytes) => bytes,
            Err(fault) => return unsendable(first, kind, &fault),
        };
        let (at_once, late) = links.split_at(links.len().min(AT_ONCE_MAX));
        for link in at_once {
            link.push_or_tell(kind, queue(link), bytes.clone());
        }
        for link in late {
            link.push_late_or_tell(kind, queue(link), bytes.clone(), &self.turns);
        }
    }

    /// Opens a link for all that comes after the handshake of the protocol above: its other streams may be opened and are
    /// read, and more bytes may be under way.
    pub fn admit(&self, link: LinkId) {
        if let Some(link) = self.shared.links.find(link) {
            // Admitted twice is admitted.
            drop(link.admitted.set(()));
        }
    }

    /// Ends a link: the other side is told why, and has a second to hear it. `Disconnected` follows. What is queued is
    /// dropped, and what comes meanwhile is not heard.
    pub fn close(&self, link: LinkId, refusal: Refusal) {
        if let Some(link) = self.shared.links.find(link) {
            link.part(refusal, Manner::AtOnce);
        }
    }

    /// What QUIC counts of a link; `None` where it is gone.
    #[must_use]
    pub fn stats(&self, link: LinkId) -> Option<LinkStats> {
        self.shared.links.find(link).map(|link| LinkStats::of(&link))
    }

    /// The node holds that author's log up to that entry: live segments that bring nothing more are told as `Known`, unseen.
    pub fn holds(&self, author: NodeId, through: Seq) {
        self.shared.held.set(author, through);
    }

    /// The node holds nothing of that author's log any more.
    pub fn holds_nothing(&self, author: NodeId) {
        self.shared.held.forget(author);
    }

    /// How many segments were verified, and how many needed it not.
    #[must_use]
    pub fn segment_counts(&self) -> SegmentCounts {
        self.shared.held.counts()
    }

    /// How many connections are open, whether or not they are admitted.
    #[must_use]
    pub fn link_count(&self) -> usize {
        self.shared.links.count()
    }

    /// What became of those that came to the door, by reason.
    #[must_use]
    pub fn door_counts(&self) -> DoorCounts {
        self.porter.counts()
    }

    /// A catch-up stream to that link, which is opened at its first segment; `None` where the link is gone.
    #[must_use]
    pub fn catch_up(&self, link: LinkId) -> Option<CatchUpSender> {
        self.shared.links.find(link).map(CatchUpSender::new)
    }

    /// Sends the bytes of a proof on a stream of its own.
    ///
    /// # Errors
    /// The link is gone.
    ///
    /// # Cancel safety
    /// Part of it may have been sent; the peer takes no part for the whole.
    pub async fn send_proof(&self, link: LinkId, proof: &[u8]) -> Result<(), SendFault> {
        let link = self.shared.links.find(link).ok_or(SendFault::LinkGone)?;
        sending::proof(&link, proof).await
    }

    /// Sends the payload, at most [`super::PROBE_BYTES_MAX`] bytes, to the other side and back; how long that took.
    ///
    /// # Errors
    /// See [`ProbeError`].
    ///
    /// # Cancel safety
    /// Nothing is lost; the echo is thrown away.
    pub async fn probe(&self, link: LinkId, payload: Bytes) -> Result<Duration, ProbeError> {
        let link = self.shared.links.find(link).ok_or(ProbeError::LinkGone)?;
        sending::probe(&link, payload).await
    }

    /// Sends so many bytes, at most [`super::PING_BYTES_MAX`], to the other side and back on a stream that stands; how long that took.
    ///
    /// # Errors
    /// See [`ProbeError`].
    ///
    /// # Cancel safety
    /// Nothing is lost; the echo is thrown away.
    pub async fn ping(&self, link: LinkId, bytes: usize) -> Result<Duration, ProbeError> {
        let took = self.pings(link, bytes, 1).await?;
        took.first().copied().ok_or(ProbeError::NoEcho)
    }

    /// As [`Endpoint::ping`], so often, each when the one before is back; how long each took. All payloads and one more that goes before
    /// them have at most [`super::PROBE_BYTES_MAX`] bytes together, and 10 s.
    ///
    /// # Errors
    /// See [`ProbeError`].
    ///
    /// # Cancel safety
    /// Nothing is lost; the echo is thrown away.
    pub async fn pings(&self, link: LinkId, bytes: usize, count: usize) -> Result<Vec<Duration>, ProbeError> {
        let link = self.shared.links.find(link).ok_or(ProbeError::LinkGone)?;
        measure::round_trips(&link, bytes, count).await
    }

    /// Begins a measurement of a link with payloads of so many bytes; what comes back is told through `echoes`.
    ///
    /// # Errors
    /// See [`MeasureError`].
    ///
    /// # Cancel safety
    /// What was opened for it is closed.
    pub async fn measure(
        &self,
        link: LinkId,
        bytes: usize,
        echoes: mpsc::Sender<Echo>,
    ) -> Result<Measuring, MeasureError> {
        let link = self.shared.links.find(link).ok_or(MeasureError::LinkGone)?;
        Measuring::open(link, self.shared.rules.federation, bytes, echoes).await
    }

    /// Asks the other side for an arena: a throw-away node for a measurement of throughput.
    ///
    /// # Errors
    /// See [`MeasureError`]; inside, why it gives none.
    ///
    /// # Cancel safety
    /// What was opened for it ends, there as well.
    pub async fn borrow_arena(
        &self,
        link: LinkId,
        wanted: ArenaWanted,
    ) -> Result<Result<(Borrowed, ArenaPlace), NoArena>, MeasureError> {
        let link = self.shared.links.find(link).ok_or(MeasureError::LinkGone)?;
        Borrowed::open(link, self.shared.rules.federation, wanted).await
    }

    /// What was done for others' measurements.
    #[must_use]
    pub fn measure_counts(&self) -> MeasureCounts {
        self.shared.measured.counts()
    }

    /// Ends everything: what is queued is sent, each peer is told the reason, and all tasks are waited for; 1.5 s at most.
    /// The owner may stop reading events before; what is not read is lost.
    ///
    /// # Cancel safety
    /// Dropping it ends what is left when the endpoint is dropped.
    pub async fn shutdown(&self, refusal: Refusal) {
        let started = Instant::now();
        self.shared.closing.cancel();
        for link in self.shared.links.all() {
            link.part(refusal.clone(), Manner::Flushed);
        }
        self.tasks.close();
        if timeout(SHUTDOWN_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                links = self.shared.links.all().len(),
                "some links did not end in time and are cut"
            );
        }
        self.shared.stop.cancel();
        let (code, reason) = (close_code(&refusal), refusal.about.into_bytes());
        for endpoint in self.endpoints.iter() {
            endpoint.close(code, &reason);
        }
        let idle = async {
            for endpoint in self.endpoints.iter() {
                endpoint.wait_idle().await;
            }
        };
        // Connections wait for stragglers far longer than a stopping node should.
        drop(timeout(LAST_PACKETS_MAX, idle).await);
        tracing::debug!(took = ?started.elapsed(), "the endpoint is closed");
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.closing.cancel();
        self.shared.stop.cancel();
        for endpoint in self.endpoints.iter() {
            endpoint.close(VarInt::from_u32(0), b"");
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("local", &self.local_addresses()).finish_non_exhaustive()
    }
}

/// A frame that can't be sent is a fault of this program: it must be seen, and harms one frame only.
fn unsendable(link: &Link, kind: StreamKind, fault: &WireFault) {
    tracing::error!(link = link.id.0, kind = kind.name(), %fault, "a frame can't be sent");
}

fn server_config(credentials: &Credentials, timing: Timing) -> Result<quinn::ServerConfig, NetError> {
    // What the verifier finds is looked at per handshake (`incoming.rs`); this one only sets the endpoint up.
    let (crypto, _) = credentials.accepting(Guests::TurnedAway)?;
    let mut config = quinn::ServerConfig::with_crypto(crypto);
    config
        // One stream: the control stream.
        .transport_config(Arc::new(transport(timing, 1)?))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX)
        // A node that moves dials again.
        .migration(false);
    Ok(config)
}

fn transport(timing: Timing, bidi_streams: u32) -> Result<TransportConfig, NetError> {
    let idle = IdleTimeout::try_from(timing.idle).map_err(|_| NetError::Idle(timing.idle))?;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(bidi_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES_BEFORE_ADMISSION))
        .send_window(SEND_WINDOW_BYTES)
        // quinn counts each datagram with what it needs to keep it, so empty ones have a bound too.
        .datagram_receive_buffer_size(Some(DATAGRAMS_BYTES_MAX))
        .datagram_send_buffer_size(DATAGRAMS_BYTES_MAX)
        .initial_rtt(FIRST_RTT)
        .keep_alive_interval(Some(timing.keep_alive))
        .max_idle_timeout(Some(idle));
    Ok(config)
}
