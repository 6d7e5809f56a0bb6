//! Renewal: a member gets its next certificate once two thirds of the present one's life have passed, from itself where it holds the CA's
//! key, else from whichever linked peer does. New handshakes show it; connections that stand are left alone.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    Handle,
    membership::{self, Member},
};
use crate::{
    ledger::types::Millis,
    log::{Identity, NodeId},
    net::{
        certificates::NodeCertificate,
        join::{JoinDesk, renew},
        membership::{BACKDATED, WallClock, validity},
    },
    protocol::view::PeerState,
};

/// How long it waits after nobody gave one; a tenth of what is left, but at least and at most so long.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(3_600);
/// Sleeps are cut into pieces: clocks jump, and a laptop that slept for a week has no week left to wait.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What renewing needs.
pub(super) struct Renewing {
    pub(super) handle: Handle,
    pub(super) identity: Arc<Identity>,
    pub(super) member: Member,
    pub(super) data_dir: PathBuf,
    pub(super) clock: WallClock,
}

impl Renewing {
    /// Renews for as long as the node runs.
    pub(super) async fn run(mut self) {
        let mut told = false;
        loop {
            let Ok((from, until)) = validity(self.member.certificate.der()) else {
                tracing::error!("this node's certificate can't be read, so it is not renewed");
                return;
            };
            let now = (self.clock)();
            let due = due(from, until);
            if now < due {
                sleep(Duration::from_millis(due.since(now).0).min(LOOK_AGAIN)).await;
                continue;
            }
            if let Some(certificate) = self.ask().await {
                self.take(certificate).await;
                told = false;
                // Where it is due already (a clock there is far behind, or it lasts a moment) nobody is asked again at once.
                sleep(RETRY_MIN).await;
                continue;
            }
            if !told {
                told = true;
                let left_h = until.since(now).0 / 3_600_000;
                tracing::warn!(
                    left_h,
                    "no linked node gives this one a new certificate; where the CA's key is locked, `cogmesh invite` there opens it"
                );
            }
            let pause = Duration::from_millis(until.since(now).0 / 10);
            sleep(pause.clamp(RETRY_MIN, RETRY_MAX)).await;
        }
    }

    /// From ourselves, or from a peer.
    async fn ask(&self) -> Option<NodeCertificate> {
        if let Some(desk) = self.handle.invitations() {
            let own = self.identity.node_id();
            let made = tokio::task::spawn_blocking(move || desk.renew(own)).await.ok()?;
            return made.ok();
        }
        let membership = membership::of(Some(&self.member), Arc::clone(&self.clock));
        for (node, address) in self.peers().await {
            match renew(&self.identity, &membership, (node, &[address])).await {
                Ok(certificate) => return Some(certificate),
                // Most members hold no CA key.
                Err(error) => tracing::debug!(peer = %node.short(), %error, "no certificate from that peer"),
            }
        }
        None
    }

    async fn peers(&self) -> Vec<(NodeId, SocketAddr)> {
        let Ok(view) = self.handle.view().await else { return vec![] };
        // Nodes dial from the port on which they listen, so this is right whoever dialled.
        let linked = view.peers.iter().filter_map(|peer| match &peer.state {
            PeerState::Verified(linked) => Some((peer.id?, linked.address)),
            PeerState::Seen(_) => None,
        });
        linked.collect()
    }

    async fn take(&mut self, certificate: NodeCertificate) {
        self.member.certificate = certificate.clone();
        let (data_dir, member) = (self.data_dir.clone(), self.member.clone());
        let written = tokio::task::spawn_blocking(move || membership::renewed(&data_dir, &member)).await;
        if let Ok(Err(error)) = written {
            // It is shown all the same: the next start gets another one.
            tracing::error!(%error, "the new certificate can't be written down");
        }
        match self.handle.show_certificate(certificate) {
            Ok(()) => tracing::info!("this node has a new certificate"),
            Err(fault) => tracing::error!(%fault, "the new certificate is no use"),
        }
    }
}

/// When two thirds of a certificate's life have passed; ours begin to count a little before they are made.
#[must_use]
pub fn due(from: Millis, until: Millis) -> Millis {
    let made = from.plus(BACKDATED);
    made.plus(Millis(until.since(made).0 / 3 * 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let made = Millis(1_795_392_000_000);
        let from = Millis(made.0 - BACKDATED.0);
        assert_eq!(due(from, made.plus(Millis(30 * 86_400_000))), made.plus(Millis(20 * 86_400_000)));
        assert_eq!(due(from, made.plus(Millis(6_000))), made.plus(Millis(4_000)));
    }
}
