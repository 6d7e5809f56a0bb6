//! Heads: an author's last entry as a signed statement; what two nodes compare to find out who lacks what.

use super::{
    entry::Hash,
    federation::FederationId,
    identity::{BadSignature, Identity, NodeId, Signature},
};
use crate::ledger::types::Seq;

/// "My log goes up to here": signed, so that it covers every entry before it through their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub author: NodeId,
    /// Its last entry's place.
    pub seq: Seq,
    /// Its last entry's hash.
    pub hash: Hash,
    /// The author's signature over all that, for one federation.
    pub signature: Signature,
}

impl Head {
    /// Bytes of its fields in a layout: what it adds to a segment.
    pub const BYTES: usize = 32 + 8 + 32 + 64;

    /// Signs a head. Its entry must be durable before: a seq that was signed must never be signed again for another entry.
    #[must_use]
    pub fn sign(identity: &Identity, federation: &FederationId, seq: Seq, hash: Hash) -> Self {
        let author = identity.node_id();
        let signature = identity.sign(&signed_bytes(federation, &author, seq, hash));
        Self { author, seq, hash, signature }
    }

    /// Checks the author's signature.
    ///
    /// # Errors
    /// It is not one of this author over this head in this federation.
    pub fn verify(&self, federation: &FederationId) -> Result<(), BadSignature> {
        let message = signed_bytes(federation, &self.author, self.seq, self.hash);
        self.author.verify(&message, &self.signature)
    }
}

fn signed_bytes(federation: &FederationId, author: &NodeId, seq: Seq, hash: Hash) -> Vec<u8> {
    let seq = seq.0.to_le_bytes();
    let parts: [&[u8]; 5] = [b"cogmesh head v1\0", &federation.0, author.as_bytes(), &seq, &hash.0];
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_holds_for_its_federation_and_its_entry_alone() {
        let identity = Identity::from_seed(&[7; 32]).unwrap();
        let (here, elsewhere) = (FederationId([1; 32]), FederationId([2; 32]));
        let head = Head::sign(&identity, &here, Seq(4), Hash([3; 32]));
        let bad = Err(BadSignature { node: identity.node_id() });
        assert_eq!(head.verify(&here), Ok(()));
        assert_eq!(head.verify(&elsewhere), bad);
        assert_eq!(Head { seq: Seq(5), ..head }.verify(&here), bad);
        assert_eq!(Head { hash: Hash([4; 32]), ..head }.verify(&here), bad);
    }
}
