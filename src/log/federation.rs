//! Federations: a name, a set of rules and perhaps a CA, hashed into one id that every signature carries.

use std::fmt;

use data_encoding::HEXLOWER;

use super::{layout::sha256, name::FederationName};
use crate::ledger::policy::Policy;

/// Which federation: nodes whose rules differ in one number have different ones, and never mix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FederationId(pub [u8; 32]);

impl FederationId {
    /// The id of a federation; `ca` is the SHA-256 of the CA's SubjectPublicKeyInfo, where it is a closed one.
    #[must_use]
    pub fn new(name: &FederationName, policy: &Policy, ca: Option<&[u8; 32]>) -> Self {
        let name = name.as_str().as_bytes();
        // A federation name is at most 64 bytes long.
        let name_bytes = [name.len() as u8];
        let ca = ca.map_or(&[][..], |hash| hash.as_slice());
        Self(sha256(&[DOMAIN, &name_bytes, name, policy.to_bytes().as_slice(), ca]))
    }

    /// All 64 hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The first 16 hex digits, as announced on the network.
    #[must_use]
    pub fn prefix_hex(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(16);
        hex
    }
}

/// What is hashed as a federation can be taken for nothing else.
const DOMAIN: &[u8] = b"cogmesh federation v1\0";

impl fmt::Display for FederationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.hex())
    }
}

impl fmt::Debug for FederationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.prefix_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_another_name_or_another_rule_makes_another_federation() {
        let lan = FederationName::new("lan").unwrap();
        let rules = Policy::default();
        let stricter = Policy { pow_bits: 21, ..Policy::default() };
        let open = FederationId::new(&lan, &rules, None);
        assert_ne!(open, FederationId::new(&lan, &rules, Some(&[0; 32])));
        assert_ne!(open, FederationId::new(&FederationName::new("wan").unwrap(), &rules, None));
        assert_ne!(open, FederationId::new(&lan, &stricter, None));
        assert_eq!(open, FederationId::new(&lan, &rules, None));
    }
}
