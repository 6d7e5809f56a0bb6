//! Hardware claims: what a node says of itself on one connection, signed so that nobody can pass it on.

use super::{
    header::Hardware,
    identity::{BadSignature, Identity, NodeId, Signature},
    layout::put_short,
    name::Architecture,
};
use crate::ledger::types::Level;

/// What a node says that it runs on. A signature makes it no truer: it is shown as a claim ("tpm2, claimed").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it says that it keeps its key in.
    pub hardware: Hardware,
    /// The capability level that it says it has.
    pub level: Level,
    /// Its processor architecture.
    pub arch: Architecture,
}

impl Claim {
    /// Signs the claim for one connection: `exporter` is keying material that only its two ends know (RFC 8446, 7.5).
    #[must_use]
    pub fn sign(&self, identity: &Identity, exporter: &[u8; 32]) -> Signature {
        identity.sign(&self.signed_bytes(exporter))
    }

    /// Checks that this node made the claim on this connection.
    ///
    /// # Errors
    /// It did not.
    pub fn verify(
        &self,
        node: &NodeId,
        exporter: &[u8; 32],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        node.verify(&self.signed_bytes(exporter), signature)
    }

    fn signed_bytes(&self, exporter: &[u8; 32]) -> Vec<u8> {
        let mut out = b"cogmesh claim v1\0".to_vec();
        out.extend_from_slice(exporter);
        out.push(self.hardware.number());
        out.push(self.level.number());
        put_short(&mut out, self.arch.as_str());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_cannot_be_passed_on_to_another_connection_or_raised() {
        let identity = Identity::from_seed(&[7; 32]).unwrap();
        let node = identity.node_id();
        let claim = Claim {
            hardware: Hardware::Software,
            level: Level::try_from(4).unwrap(),
            arch: Architecture::new("aarch64").unwrap(),
        };
        let signature = claim.sign(&identity, &[1; 32]);
        assert_eq!(claim.verify(&node, &[1; 32], &signature), Ok(()));
        assert!(claim.verify(&node, &[2; 32], &signature).is_err());
        for raised in [
            Claim { hardware: Hardware::Tpm2, ..claim.clone() },
            Claim { level: Level::MAX, ..claim.clone() },
        ] {
            assert!(raised.verify(&node, &[1; 32], &signature).is_err());
        }
    }
}
