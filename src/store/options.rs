//! How a store is opened: whose it is, how much it keeps, and when its disk must have it.

use std::str::FromStr;

use crate::{
    ledger::policy::Policy,
    log::{FederationId, NodeId},
};

/// Whose store it is and how it is kept.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The federation whose log it is.
    pub federation: FederationId,
    /// The node that it belongs to.
    pub own: NodeId,
    /// The federation's rules.
    pub policy: Policy,
    /// When a commit is on the disk.
    pub durability: Durability,
    /// How many contents are kept.
    pub corpus: CorpusBounds,
}

/// When a commit is on the disk. Source: protocol.md, The log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it returns: a power cut loses nothing that was acknowledged.
    #[default]
    Full,
    /// Some time later: a power cut may lose the last commits, and the node gets its own log back from its peers before
    /// it signs again. A process that is killed loses nothing.
    Normal,
}

impl Durability {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

impl FromStr for Durability {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "full" => Ok(Self::Full),
            "normal" => Ok(Self::Normal),
            _ => Err("a durability is `full` or `normal`"),
        }
    }
}

/// How many accepted contents a node keeps. Settings of the node, not of the federation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorpusBounds {
    /// Accepted thoughts with their contents; default 10,000.
    pub thoughts_max: u64,
    /// Bytes of all contents; default 100 MiB.
    pub bytes_max: u64,
}

impl Default for CorpusBounds {
    fn default() -> Self {
        Self { thoughts_max: 10_000, bytes_max: 100 << 20 }
    }
}

impl StoreOptions {
    /// With the default durability and bounds.
    #[must_use]
    pub fn new(federation: FederationId, own: NodeId, policy: Policy) -> Self {
        Self { federation, own, policy, durability: Durability::default(), corpus: CorpusBounds::default() }
    }
}
