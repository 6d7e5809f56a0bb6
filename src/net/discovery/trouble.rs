//! Trouble: what keeps discovery from working, and what people are told of it.

use std::time::Duration;

use super::Shared;

/// Kinds of trouble; each is told once for each interface that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// None leads to a LAN.
    NoInterface,
    /// The user named one that can't be used.
    NotUsable,
    /// Another program holds the mDNS port alone.
    PortTaken,
    /// The system does not let us join the multicast group.
    NoGroup,
    /// The mDNS library failed.
    Daemon,
    /// The library announced nothing, and does not say why.
    NotAnnounced,
    /// More is announced than a LAN has.
    Flood,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was asked to.
    Stopped,
    /// The daemon holds more than a LAN has.
    Flooded,
    /// The daemon does not answer.
    Stuck,
    /// The daemon's thread ended.
    Dead,
}

/// A daemon that lived this long was no victim of a flood that still goes on.
pub(super) const CALM_MIN: Duration = Duration::from_secs(60);

impl End {
    /// Tells people, where they should know.
    pub(super) fn tell(self, shared: &Shared, interface: &str, lived: Duration) {
        let name = interface.escape_debug();
        let (kind, sentence) = match self {
            Self::Stopped => return,
            // On a large and busy LAN a daemon outgrows its bounds in hours; nobody needs to know.
            Self::Flooded if lived >= CALM_MIN => return,
            Self::Flooded => (
                Trouble::Flood,
                format!(
                    "somebody floods {name} with mDNS records; peers that are known or named with `--peer` are dialled still"
                ),
            ),
            Self::Stuck => (
                Trouble::Flood,
                format!(
                    "mDNS on {name} does not keep up with what is announced there; it starts afresh when that ends, and \
                     peers that are known or named with `--peer` are dialled still"
                ),
            ),
            Self::Dead => (Trouble::Daemon, format!("mDNS on {name} stopped working; it is started again")),
        };
        shared.trouble(kind, interface, sentence);
    }
}
