//! The CA of a closed federation: whose signature makes a node a member, and whose word throws one out.
//! Source: protocol.md, Membership.

use std::fmt;

use data_encoding::HEXLOWER;

use super::{
    federation::FederationId,
    identity::{BadSignature, Identity, KeyFault, NodeId, Signature},
    layout::sha256,
};
use crate::ledger::types::Millis;

/// The DER of an Ed25519 public key up to the key itself (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A CA's Ed25519 public key. It is an identity of its own, never a node's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaKey(NodeId);

impl CaKey {
    /// The key of the CA whose secret that is.
    #[must_use]
    pub const fn of(secret: &Identity) -> Self {
        Self(secret.node_id())
    }

    /// Takes a key from outside.
    ///
    /// # Errors
    /// The key is weak or not canonical.
    pub fn from_key(key: [u8; 32]) -> Result<Self, KeyFault> {
        NodeId::from_key(key).map(Self)
    }

    /// The key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The SHA-256 of its SubjectPublicKeyInfo, which a closed federation's id is made with.
    #[must_use]
    pub fn hash(&self) -> CaHash {
        CaHash(sha256(&[&SPKI_PREFIX, self.as_bytes()]))
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CaKey").field(&self.hash()).finish()
    }
}

/// The SHA-256 of a CA key's SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaHash(pub [u8; 32]);

impl fmt::Display for CaHash {
    /// As fingerprints are shown: 64 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// That a node is a member no more, for good: its key is worth nothing in that federation from then on, whatever certificate it
/// shows. It comes back only as another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Who.
    pub node: NodeId,
    /// When, by the clock of whoever revoked it; for people.
    pub time: Millis,
    /// The CA's signature.
    pub signature: Signature,
}

impl Revocation {
    /// Revokes a node.
    #[must_use]
    pub fn sign(ca: &Identity, federation: &FederationId, node: NodeId, time: Millis) -> Self {
        let signature = ca.sign(&revoked_bytes(federation, &node, time));
        Self { node, time, signature }
    }

    /// Checks that the federation's CA said so.
    ///
    /// # Errors
    /// It did not.
    pub fn verify(&self, ca: &CaKey, federation: &FederationId) -> Result<(), BadSignature> {
        ca.0.verify(&revoked_bytes(federation, &self.node, self.time), &self.signature)
    }
}

fn revoked_bytes(federation: &FederationId, node: &NodeId, time: Millis) -> Vec<u8> {
    let mut out = b"cogmesh revocation v1\0".to_vec();
    out.extend_from_slice(&federation.0);
    out.extend_from_slice(node.as_bytes());
    out.extend_from_slice(&time.0.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_counts_where_the_federations_own_ca_signed_it() {
        let (ca, other) = (Identity::from_seed(&[1; 32]).unwrap(), Identity::from_seed(&[2; 32]).unwrap());
        let node = Identity::from_seed(&[3; 32]).unwrap().node_id();
        let federation = FederationId([5; 32]);
        let revocation = Revocation::sign(&ca, &federation, node, Millis(7));
        assert_eq!(revocation.verify(&CaKey::of(&ca), &federation), Ok(()));
        assert!(revocation.verify(&CaKey::of(&other), &federation).is_err());
        assert!(revocation.verify(&CaKey::of(&ca), &FederationId([6; 32])).is_err());
        assert!(
            Revocation { node: other.node_id(), ..revocation }.verify(&CaKey::of(&ca), &federation).is_err()
        );
        assert!(Revocation { time: Millis(8), ..revocation }.verify(&CaKey::of(&ca), &federation).is_err());
    }

    #[test]
    fn the_hash_of_a_ca_key_is_that_of_its_public_key_as_openssl_writes_it() {
        // (printf 302e020100300506032b657004220420; printf '01%.0s' $(seq 32)) | xxd -r -p |
        //   openssl pkey -inform DER -pubout -outform DER | sha256sum
        let ca = Identity::from_seed(&[1; 32]).unwrap();
        let hash = "fd110d301d2f077de1414b8f99f441b1403fab207b2052fbd2c065e4ee8e7dc2";
        assert_eq!(CaKey::of(&ca).hash().to_string(), hash);
    }
}
