//! Signs of life: a process that holds a key proves to another one that holds the same key that it is running now.
//! Source: protocol.md, The log (clones).

use super::{
    federation::FederationId,
    identity::{BadSignature, Identity, NodeId, Signature},
};

/// "I, process `instance` of this key, am alive while you, process `other`, are." A process draws its number at random when it
/// starts, so no sign of life that names it can be older than it is: who kept one can't use it against a later process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alive {
    /// The process that signed it.
    pub instance: u64,
    /// The process that it is for.
    pub other: u64,
    /// The signature of the key that both hold.
    pub signature: Signature,
}

impl Alive {
    /// Signs that `instance` lives, for `other`.
    #[must_use]
    pub fn sign(identity: &Identity, federation: &FederationId, instance: u64, other: u64) -> Self {
        let signature = identity.sign(&signed_bytes(federation, &identity.node_id(), instance, other));
        Self { instance, other, signature }
    }

    /// Checks that a process of that node signed it.
    ///
    /// # Errors
    /// None did.
    pub fn verify(&self, federation: &FederationId, node: &NodeId) -> Result<(), BadSignature> {
        node.verify(&signed_bytes(federation, node, self.instance, self.other), &self.signature)
    }
}

fn signed_bytes(federation: &FederationId, node: &NodeId, instance: u64, other: u64) -> Vec<u8> {
    let mut out = b"cogmesh alive v1\0".to_vec();
    out.extend_from_slice(&federation.0);
    out.extend_from_slice(node.as_bytes());
    out.extend_from_slice(&instance.to_le_bytes());
    out.extend_from_slice(&other.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_serves_one_process_of_one_node_in_one_federation() {
        let identity = Identity::from_seed(&[7; 32]).unwrap();
        let (node, federation) = (identity.node_id(), FederationId([5; 32]));
        let alive = Alive::sign(&identity, &federation, 1, 2);
        assert_eq!(alive.verify(&federation, &node), Ok(()));
        assert!(alive.verify(&FederationId([6; 32]), &node).is_err());
        assert!(Alive { other: 3, ..alive }.verify(&federation, &node).is_err());
        assert!(Alive { instance: 2, other: 1, ..alive }.verify(&federation, &node).is_err());
        let stranger = Identity::from_seed(&[8; 32]).unwrap().node_id();
        assert!(alive.verify(&federation, &stranger).is_err());
    }
}
