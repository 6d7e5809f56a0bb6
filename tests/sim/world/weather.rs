//! Weather: how slow the network is, and what it does to frames. A frame is never lost on a link that lives, because QUIC sends it
//! again: it is late, and only its own stream waits for it.

use cogmesh::protocol::{
    frame::StreamKind,
    input::{Input, LinkId},
};

use super::{Action, World};

/// How the network behaves for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// A frame takes so long at least...
    pub(crate) latency_ms: u64,
    /// ... and less than so much longer.
    pub(crate) jitter_ms: u64,
    /// Of a thousand frames so many were lost first...
    pub(crate) late_per_mille: u64,
    /// ... and take less than so much longer.
    pub(crate) late_ms: u64,
    /// Whether streams overtake each other. On a LAN that loses nothing, those of a higher priority come first.
    pub(crate) overtaking: bool,
    /// Of a thousand live segments and balance-sync frames so many find their queue full.
    pub(crate) full_per_mille: u64,
    /// Of a thousand dials so many lead nowhere.
    pub(crate) dial_fails_per_mille: u64,
}

impl Default for Weather {
    /// A quiet LAN.
    fn default() -> Self {
        Self {
            latency_ms: 1,
            jitter_ms: 4,
            late_per_mille: 0,
            late_ms: 0,
            overtaking: false,
            full_per_mille: 0,
            dial_fails_per_mille: 0,
        }
    }
}

impl World {
    /// How long a frame takes.
    pub(super) fn latency(&mut self) -> u64 {
        let Weather { latency_ms, jitter_ms, late_per_mille, late_ms, .. } = self.weather;
        let late = if self.chance(late_per_mille) { self.random(late_ms) } else { 0 };
        latency_ms + self.random(jitter_ms) + late
    }

    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.random(1_000) < per_mille
    }

    /// Whether a frame does not fit its queue; then its sender's core is told.
    pub(super) fn finds_full(&mut self, node: usize, link: LinkId, kind: StreamKind) -> bool {
        let is_full = self.chance(self.weather.full_per_mille);
        if is_full && self.tells_of_full_queues() {
            let boot = self.nodes[node].boots;
            self.later(0, Action::Input(node, boot, Input::QueueFull { link, kind }));
        }
        is_full
    }

    /// A control frame to a peer does not fit its queue.
    pub(crate) fn choke(&mut self, node: usize, peer: usize) {
        if self.is_awake(node) && self.is_linked(node, peer) {
            let link = self.verified(node)[&self.id(peer)];
            self.tell(node, Input::QueueFull { link, kind: StreamKind::Control });
        }
    }
}
