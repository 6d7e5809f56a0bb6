//! Config: how one node runs on one machine. Plain values; what was typed is checked before it gets here.
//! The rules of a federation are [`Policy`]'s, never mixed with these.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::pki::PkiFiles;
use crate::{
    ledger::{policy::Policy, types::Level},
    log::{FederationName, Hardware, NodeId, NodeName},
    net::{ListenOn, discovery::Interfaces},
    store::{CorpusBounds, Durability},
};

/// The first port that is tried where none is named.
pub const PORT_FIRST: u16 = 8888;
/// The last port that is tried where none is named.
pub const PORT_LAST: u16 = 8987;

/// Bytes that should stay free on the disk where none are named: 256 MiB.
pub const DISK_FREE_MIN: u64 = 256 << 20;

/// How one node runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its key, its store and its local socket are. Made with mode 0700 where it is missing.
    pub data_dir: PathBuf,
    /// What it is called. It stands in its genesis entry, so it counts at the first start only.
    pub name: NodeName,
    /// Its hardware, as it claims it in its genesis entry.
    pub hardware: Hardware,
    /// Its level, as it claims it in its genesis entry.
    pub level: Level,
    /// An operator's own PKI, which makes its federation a closed one. `None`: what the data directory says.
    pub pki: Option<PkiFiles>,
    /// Its federation. `None`: the closed one that the data directory belongs to, else the open one called `lan`.
    pub federation: Option<FederationName>,
    /// The federation's rules.
    pub policy: Policy,
    /// Where it listens.
    pub listen: Listen,
    /// The UDP port. `None`: the first free one of [`PORT_FIRST`] to [`PORT_LAST`]. A named one is never changed silently.
    pub port: Option<u16>,
    /// Whether it is linked only with nodes that it knew when it was pinned first, or that its operator has approved.
    pub pin: bool,
    /// Peers to dial besides those that are found.
    pub peers: Vec<PeerOption>,
    /// Whether it announces itself and listens to announcements.
    pub mdns: bool,
    /// When a commit is on the disk. Default: when it is acknowledged.
    pub durability: Durability,
    /// How many contents it keeps. Default 10,000 thoughts and 100 MiB.
    pub corpus: CorpusBounds,
    /// Bytes that should stay free where the data directory is: below it the node only reads and serves. Default 256 MiB, so that
    /// the system and the node's own log files have room left to tell what happens.
    pub disk_free_min: u64,
    /// Whether it writes though its own log is in doubt and no peer can be asked. The operator answers for it that nobody
    /// holds entries of this node that it lacks: otherwise its log forks.
    pub write_without_peers: bool,
    /// Whether it sets its store aside and fetches everything again from its peers.
    pub rebuild_from_peers: bool,
    /// How long the certificates last that it gives, where it holds the CA's key of a closed federation. Default 30 days.
    pub certificate_lifetime: Duration,
    /// Whether peers may measure throughput to this node, which keeps the machine busy for some seconds. Default: yes, and at most for a fifth
    /// of the time.
    pub lends_arenas: bool,
    /// Most links at a time. Default 64: each holds at most about 5 MiB of queues and windows beside what it is served, and 0.1 MiB when idle.
    pub peers_max: usize,
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On every interface, IPv4 and IPv6.
    Everywhere,
    /// On these interfaces only.
    Interfaces(Vec<String>),
    /// On 127.0.0.1 only: nothing leaves the machine.
    Loopback,
    /// On this address only; its port does not count.
    At(SocketAddr),
}

impl Listen {
    /// Where its sockets are.
    #[must_use]
    pub fn sockets(&self) -> ListenOn {
        match self {
            Self::Everywhere => ListenOn::Everywhere,
            Self::Interfaces(names) => ListenOn::Interfaces(names.clone()),
            Self::Loopback => ListenOn::Loopback,
            Self::At(address) => ListenOn::At(*address),
        }
    }

    /// Where it announces itself, and looks for others.
    #[must_use]
    pub fn interfaces(&self) -> Interfaces {
        match self {
            Self::Everywhere | Self::Loopback | Self::At(_) => Interfaces::All,
            Self::Interfaces(names) => Interfaces::Named(names.clone()),
        }
    }
}

/// A peer that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerOption {
    /// The only key that will do.
    pub node: Option<NodeId>,
    /// `host:port`, resolved anew at each try.
    pub address: String,
}
