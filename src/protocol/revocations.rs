//! Revocations: who is a member of this closed federation no more. They are told to every peer when it is linked and when there is a
//! new one, as heads are, so that whoever was away learns of them on its return; and they outrank everything: a node that was revoked is
//! turned away before it introduces itself, whatever anybody tells of it.
//! Source: protocol.md, Membership.

use std::collections::BTreeMap;

use super::frame::{ControlFrame, REVOCATIONS_PER_FRAME_MAX};
use crate::log::{CaKey, FederationId, NodeId, Revocation, identity::BadSignature};

/// Most that are known. Only the CA makes them, so this bounds nothing but a mistake of its owner.
pub const REVOCATIONS_MAX: usize = 10_000;

/// Who was revoked, as far as this node knows.
#[derive(Debug, Default)]
pub struct Revocations {
    ca: Option<CaKey>,
    known: BTreeMap<NodeId, Revocation>,
}

impl Revocations {
    /// As they were kept. Without a CA nobody can be revoked.
    #[must_use]
    pub fn load(ca: Option<CaKey>, kept: &[Revocation]) -> Self {
        Self { ca, known: kept.iter().map(|revocation| (revocation.node, *revocation)).collect() }
    }

    /// Whether that node was revoked.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.known.contains_key(&node)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Revocation> {
        self.known.values()
    }

    /// What a peer is told that was linked just now.
    #[must_use]
    pub fn frames(&self) -> Vec<ControlFrame> {
        let known: Vec<Revocation> = self.known.values().copied().collect();
        known.chunks(REVOCATIONS_PER_FRAME_MAX).map(|some| ControlFrame::Revocations(some.to_vec())).collect()
    }

    /// Takes one in; whether it is new.
    ///
    /// # Errors
    /// The federation's CA did not sign it.
    pub fn learn(&mut self, federation: &FederationId, revocation: Revocation) -> Result<bool, BadSignature> {
        if self.known.contains_key(&revocation.node) || self.known.len() >= REVOCATIONS_MAX {
            return Ok(false);
        }
        let ca = self.ca.ok_or(BadSignature { node: revocation.node })?;
        revocation.verify(&ca, federation)?;
        self.known.insert(revocation.node, revocation);
        Ok(true)
    }
}
