//! Config of an endpoint: where it listens, as whom, and how patient it is.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{budget::DoorBounds, join::JoinDesk, membership::Membership};
use crate::log::{Identity, Rules};

/// The first port that is tried where none is named.
pub(super) const PORT_FIRST: u16 = 8888;
/// The last port that is tried where none is named.
pub(super) const PORT_LAST: u16 = 8987;

/// How an endpoint is opened.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The node's key: its certificate and its stateless resets come from it.
    pub identity: Arc<Identity>,
    /// What segments are verified with.
    pub rules: Rules,
    /// Where it listens.
    pub listen: ListenOn,
    /// The UDP port; `None`: the first free one of 8888 to 8987; 0: any free one. A named one is never changed silently.
    pub port: Option<u16>,
    /// Most connections at a time; the next ones are turned away before any cryptography. Handshakes that are under way come on top, 128 at most. Above
    /// the number of peers that the node takes, so that a surplus peer gets a refusal that it can show. Default 96.
    pub connections_max: usize,
    /// Who may connect. Default: any node.
    pub membership: Membership,
    /// Who decides about newcomers of a closed federation, where this node may.
    pub desk: Option<Arc<dyn JoinDesk>>,
    /// How patient it is.
    pub timing: Timing,
    /// What strangers may make it do.
    pub door: DoorBounds,
}

impl NetConfig {
    /// For a node with that key and those rules, listening there; the rest as by default.
    #[must_use]
    pub fn new(identity: Arc<Identity>, rules: Rules, listen: ListenOn, port: Option<u16>) -> Self {
        Self {
            identity,
            rules,
            listen,
            port,
            connections_max: 96,
            membership: Membership::Open,
            desk: None,
            timing: Timing::default(),
            door: DoorBounds::default(),
        }
    }
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenOn {
    /// On every interface, IPv4 and IPv6.
    Everywhere,
    /// On these interfaces only.
    Interfaces(Vec<String>),
    /// On 127.0.0.1 only: nothing leaves the machine.
    Loopback,
    /// On this address only; its port does not count.
    At(SocketAddr),
}

/// How patient an endpoint is. The defaults are the protocol's; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A silent connection is dead after that. Default 8 s: QUIC starts this time anew at the first ping that stays
    /// unanswered, so a silent peer is missed within 10 s.
    pub idle: Duration,
    /// A connection with nothing to say pings that often. Default 2 s: three may be lost before `idle` has passed.
    pub keep_alive: Duration,
    /// A handshake, or a whole attempt to dial, may take that long. Default 5 s.
    pub handshake: Duration,
    /// Between two candidate addresses of one attempt. Default 250 ms (RFC 8305 recommends it).
    pub stagger: Duration,
    /// A frame whose first byte has come must have come whole after that. Default 30 s.
    pub frame: Duration,
    /// How long a refused peer has to hear why. Default 1 s.
    pub farewell: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(8),
            keep_alive: Duration::from_secs(2),
            handshake: Duration::from_secs(5),
            stagger: Duration::from_millis(250),
            frame: Duration::from_secs(30),
            farewell: Duration::from_secs(1),
        }
    }
}
