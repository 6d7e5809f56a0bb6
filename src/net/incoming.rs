//! Incoming: connections that others open. Turned away as cheaply as possible, in this order: too many connections, an
//! address that may be forged while many shake hands, too many handshakes; only then comes cryptography.

use std::{net::SocketAddr, sync::Arc};

use quinn::{Incoming, VarInt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    connection::{Side, run, sentence},
    event::NetEvent,
    join::{self, Asker},
    links::{Shared, canonical},
    tls::{self, CertificateFault, Guests},
};
use crate::protocol::refusal::RefusalCode;

/// Most handshakes of others at a time. One costs about a millisecond of a core.
const HANDSHAKES_MAX: usize = 128;
/// From so many on, an address must prove that it is not forged (QUIC's Retry), at the price of one round trip.
const HANDSHAKES_UNPROVED_MAX: usize = 32;

/// Takes others' connections on one socket.
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: TaskTracker,
    pub(super) endpoint: quinn::Endpoint,
    pub(super) config: quinn::ServerConfig,
    pub(super) connections_max: usize,
}

impl Door {
    /// Takes them until the endpoint closes.
    pub(super) async fn attend(self) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let incoming = tokio::select! {
                biased;
                () = self.shared.closing.cancelled() => return,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            self.take(incoming, &handshakes);
        }
    }

    fn take(&self, incoming: Incoming, handshakes: &Arc<Semaphore>) {
        tracing::debug!(address = %canonical(incoming.remote_address()), "somebody shakes hands");
        if self.endpoint.open_connections() >= self.connections_max {
            return incoming.refuse();
        }
        let under_way = HANDSHAKES_MAX - handshakes.available_permits();
        if under_way >= HANDSHAKES_UNPROVED_MAX && incoming.may_retry() {
            // It fails only for an address that is proved.
            return drop(incoming.retry());
        }
        let Ok(turn) = Arc::clone(handshakes).try_acquire_owned() else {
            // No answer: an honest node comes again within a second by itself.
            return incoming.ignore();
        };
        self.tasks.spawn(shake(Arc::clone(&self.shared), incoming, self.config.clone(), turn));
    }
}

/// Shakes hands, then attends to the connection.
async fn shake(
    shared: Arc<Shared>,
    incoming: Incoming,
    config: quinn::ServerConfig,
    turn: OwnedSemaphorePermit,
) {
    let address = canonical(incoming.remote_address());
    let handshake = handshake(&shared, incoming, config);
    let shaken = tokio::select! {
        shaken = timeout(shared.timing.handshake, handshake) => shaken,
        () = shared.closing.cancelled() => return,
    };
    let why = match shaken {
        Ok(Ok((connection, found))) => match (tls::peer_of(&connection), &shared.desk) {
            (Ok(node), Some(desk)) if join::is_join(&connection) => {
                let asker = if found.is_none() { Asker::Member } else { Asker::Guest };
                // It keeps its place among the handshakes, so that those who ask are bounded as well.
                return join::serve(Arc::clone(desk), connection, node, asker).await;
            }
            (Ok(node), _) => match found {
                None => {
                    drop(turn);
                    return run(shared, connection, node, Side::Acceptor).await;
                }
                // A guest that does not ask to join.
                Some(fault) => {
                    let code = VarInt::from_u32(u32::from(RefusalCode::NotAMember.number()));
                    connection.close(code, fault.to_string().as_bytes());
                    fault.to_string()
                }
            },
            // The verifier has refused it before; this is for the day on which it does not.
            (Err(fault), _) => fault.to_string(),
        },
        Ok(Err(why)) => why,
        Err(_) => "no handshake in time".to_owned(),
    };
    failed(&shared, address, why).await;
}

async fn handshake(
    shared: &Shared,
    incoming: Incoming,
    mut config: quinn::ServerConfig,
) -> Result<(quinn::Connection, Option<CertificateFault>), String> {
    let guests = match &shared.desk {
        Some(desk) if desk.invites() => Guests::MayAsk,
        Some(desk) if desk.can_sign() => Guests::MembersMayAsk,
        Some(_) | None => Guests::TurnedAway,
    };
    // Of its own for each handshake, so that what its verifier finds is about this one.
    let (crypto, found) = shared.credentials.accepting(guests).map_err(|error| error.to_string())?;
    config.crypto = crypto;
    let connecting = incoming.accept_with(Arc::new(config)).map_err(|error| sentence(&error))?;
    match connecting.await {
        Ok(connection) => Ok((connection, found.get().copied())),
        Err(error) => Err(found.get().map_or_else(|| sentence(&error), ToString::to_string)),
    }
}

async fn failed(shared: &Shared, address: SocketAddr, why: String) {
    shared.tell(NetEvent::HandshakeFailed { address, why }).await;
}
