//! Incoming: connections that others open. Turned away as cheaply as possible, in this order: too many connections, an
//! address that may be forged while many shake hands, an address or all that come too often, too many that are not admitted yet; only
//! then comes cryptography.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use quinn::{ConnectionError, Incoming, VarInt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    budget::{Budgets, DoorBounds, Home, STRANGERS_MAX, Spent},
    connection::{CERTIFICATE_REQUIRED, NO_APPLICATION_PROTOCOL, PROTOCOL_VERSION, Side, run, sentence},
    event::NetEvent,
    join::{self, Asker},
    links::{Shared, canonical},
    tls::{self, CertificateFault, Guests},
};
use crate::{
    ledger::types::Millis,
    protocol::{event::HandshakeFault, refusal::RefusalCode},
};

/// From so many on, an address must prove that it is not forged (QUIC's Retry), at the price of one round trip.
const STRANGERS_UNPROVED_MAX: usize = 32;

/// Takes others' connections on one socket.
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: TaskTracker,
    pub(super) endpoint: quinn::Endpoint,
    pub(super) config: quinn::ServerConfig,
    pub(super) connections_max: usize,
    pub(super) porter: Arc<Porter>,
}

/// How many came to the doors of an endpoint since it was opened, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    /// Whose handshake was begun.
    pub taken: u64,
    /// That were asked to prove their address.
    pub asked: u64,
    /// Refused because there are connections enough.
    pub full: u64,
    /// Ignored because too many are not admitted yet.
    pub crowded: u64,
    /// Ignored because too many of their address are not admitted yet, or come in a second.
    pub address: u64,
    /// Ignored because too many come in a second.
    pub rate: u64,
}

/// What the doors of one endpoint share: places and budgets, and what was counted.
#[derive(Debug)]
pub(super) struct Porter {
    places: Arc<Semaphore>,
    many: usize,
    budgets: Mutex<Budgets>,
    opened: Instant,
    taken: AtomicU64,
    asked: AtomicU64,
    full: AtomicU64,
    crowded: AtomicU64,
    address: AtomicU64,
    rate: AtomicU64,
}

impl Porter {
    pub(super) fn new(bounds: DoorBounds) -> Self {
        let many = bounds.at_once.min(STRANGERS_MAX);
        Self {
            places: Arc::new(Semaphore::new(many)),
            many,
            budgets: Mutex::new(Budgets::new(bounds)),
            opened: Instant::now(),
            taken: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            full: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
            address: AtomicU64::new(0),
            rate: AtomicU64::new(0),
        }
    }

    pub(super) fn counts(&self) -> DoorCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DoorCounts {
            taken: read(&self.taken),
            asked: read(&self.asked),
            full: read(&self.full),
            crowded: read(&self.crowded),
            address: read(&self.address),
            rate: read(&self.rate),
        }
    }

    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        // Nothing that is done under this lock can leave them half changed.
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place at the door: held until its connection is admitted or gone.
#[derive(Debug)]
pub(super) struct Turn {
    porter: Arc<Porter>,
    home: Option<Home>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(home) = self.home {
            self.porter.budgets().done(home);
        }
    }
}

impl Door {
    /// Takes them until the endpoint closes.
    pub(super) async fn attend(self) {
        loop {
            let incoming = tokio::select! {
                biased;
                () = self.shared.closing.cancelled() => return,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            self.take(incoming);
        }
    }

    fn take(&self, incoming: Incoming) {
        let porter = &self.porter;
        let address = canonical(incoming.remote_address());
        tracing::debug!(%address, "somebody shakes hands");
        if self.shared.links.count() >= self.connections_max {
            count(&porter.full);
            return incoming.refuse();
        }
        let now = Millis(u64::try_from(porter.opened.elapsed().as_millis()).unwrap_or(u64::MAX));
        let proved = !incoming.may_retry();
        let under_way = porter.many - porter.places.available_permits();
        if !proved && (under_way >= STRANGERS_UNPROVED_MAX || !porter.budgets().take_unproved(now)) {
            count(&porter.asked);
            // It fails only for an address that is proved.
            return drop(incoming.retry());
        }
        let Ok(place) = Arc::clone(&porter.places).try_acquire_owned() else {
            count(&porter.crowded);
            // No answer: an honest node comes again within a second by itself.
            return incoming.ignore();
        };
        let home = if proved { porter.budgets().take(now, address.ip()) } else { Ok(None) };
        let home = match home {
            Ok(home) => home,
            Err(spent) => {
                count(match spent {
                    Spent::AddressAtOnce | Spent::Address => &porter.address,
                    Spent::All => &porter.rate,
                });
                return incoming.ignore();
            }
        };
        count(&porter.taken);
        let turn = Turn { porter: Arc::clone(porter), home, _place: place };
        self.tasks.spawn(shake(Arc::clone(&self.shared), incoming, self.config.clone(), turn));
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Shakes hands, then attends to the connection.
async fn shake(shared: Arc<Shared>, incoming: Incoming, config: quinn::ServerConfig, turn: Turn) {
    let address = canonical(incoming.remote_address());
    let handshake = handshake(&shared, incoming, config);
    let shaken = tokio::select! {
        shaken = timeout(shared.timing.handshake, handshake) => shaken,
        () = shared.closing.cancelled() => return,
    };
    let failure = match shaken {
        Ok(Ok((connection, found))) => match (tls::peer_of(&connection), &shared.desk) {
            (Ok(node), Some(desk)) if join::is_join(&connection) => {
                let asker = if found.is_none() { Asker::Member } else { Asker::Guest };
                // It keeps its place among the handshakes, so that those who ask are bounded as well.
                return join::serve(Arc::clone(desk), connection, node, asker).await;
            }
            (Ok(node), _) => match found {
                None => return run(shared, connection, node, Side::Acceptor(turn)).await,
                // A guest that does not ask to join.
                Some(fault) => {
                    let code = VarInt::from_u32(u32::from(RefusalCode::NotAMember.number()));
                    connection.close(code, fault.to_string().as_bytes());
                    Failure::from(fault)
                }
            },
            // The verifier has refused it before; this is for the day on which it does not.
            (Err(fault), _) => Failure::from(fault),
        },
        Ok(Err(failure)) => failure,
        Err(_) => Failure { fault: HandshakeFault::Timeout, why: "no handshake in time".to_owned() },
    };
    drop(turn);
    let Failure { fault, why } = failure;
    shared.tell(NetEvent::HandshakeFailed { address, fault, why }).await;
}

async fn handshake(
    shared: &Shared,
    incoming: Incoming,
    mut config: quinn::ServerConfig,
) -> Result<(quinn::Connection, Option<CertificateFault>), Failure> {
    let guests = match &shared.desk {
        Some(desk) if desk.invites() => Guests::MayAsk,
        Some(desk) if desk.can_sign() => Guests::MembersMayAsk,
        Some(_) | None => Guests::TurnedAway,
    };
    // Of its own for each handshake, so that what its verifier finds is about this one.
    let (crypto, found) = shared
        .credentials
        .accepting(guests)
        .map_err(|error| Failure { fault: HandshakeFault::GivenUp, why: error.to_string() })?;
    config.crypto = crypto;
    let connecting = incoming.accept_with(Arc::new(config)).map_err(Failure::from)?;
    match connecting.await {
        Ok(connection) => Ok((connection, found.get().copied())),
        Err(error) => Err(found.get().map_or_else(|| Failure::from(error), |fault| Failure::from(*fault))),
    }
}

/// Why a handshake came to nothing.
struct Failure {
    fault: HandshakeFault,
    why: String,
}

impl From<CertificateFault> for Failure {
    fn from(fault: CertificateFault) -> Self {
        Self { fault: fault.into(), why: fault.to_string() }
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        let fault = match &error {
            ConnectionError::TransportError(fault) => match u64::from(fault.code) {
                CERTIFICATE_REQUIRED => HandshakeFault::NoCertificate,
                NO_APPLICATION_PROTOCOL => HandshakeFault::OtherProtocol,
                PROTOCOL_VERSION => HandshakeFault::OtherTls,
                _ => HandshakeFault::BrokeRules,
            },
            ConnectionError::VersionMismatch => HandshakeFault::BrokeRules,
            ConnectionError::TimedOut => HandshakeFault::Timeout,
            ConnectionError::ConnectionClosed(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => HandshakeFault::GivenUp,
        };
        Self { fault, why: sentence(&error) }
    }
}
