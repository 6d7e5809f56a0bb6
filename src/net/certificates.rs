//! Certificates: an X.509 wrapping of the node's own key, because TLS wants one. It says nothing that the key does not.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::log::Identity;

/// A node's certificate. The same key always gives the same bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    der: Vec<u8>,
    /// Those between it and the CA, from it on: an operator's own PKI may have some.
    intermediates: Vec<Vec<u8>>,
}

/// When every certificate expires, in milliseconds since the Unix epoch: 9999-12-31.
pub const EXPIRES_MS: u64 = 253_402_214_400_000;

/// No certificate could be made from the key: a fault of this process. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The crypto library does not give the key.
    #[error("the node's key can't be used for a certificate")]
    Key,
    /// The CA's name is none that a federation has.
    #[error(
        "the CA has no name that a federation could have, so this program can't issue certificates with it"
    )]
    Name,
    /// The certificate library refuses.
    #[error("no certificate can be made from the node's key")]
    Made(#[source] rcgen::Error),
}

impl NodeCertificate {
    /// The self-signed certificate of that identity.
    ///
    /// It is valid from 1970 to 9999: a board without a clock battery starts in 1970, and no identity may depend on a
    /// clock (protocol.md, Time).
    ///
    /// # Errors
    /// Where a library refuses the key; none that it refuses is known.
    pub fn self_signed(identity: &Identity) -> Result<Self, CertificateError> {
        let document = identity.pkcs8_der().map_err(|_| CertificateError::Key)?;
        let pair =
            KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(&document[..]), &PKCS_ED25519)
                .map_err(CertificateError::Made)?;
        let id = identity.node_id().to_text();
        let uri = format!("cogmesh:{id}").try_into().map_err(CertificateError::Made)?;
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(1970, 1, 1);
        params.not_after = date_time_ymd(9999, 12, 31);
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, id);
        // The serial number is left to rcgen, which takes it from the key's hash: nothing in here is random.
        let certificate = params.self_signed(&pair).map_err(CertificateError::Made)?;
        Ok(Self::from_der(certificate.der().to_vec()))
    }

    /// A certificate that somebody else made; whether it is good for anything is seen when it is used.
    #[must_use]
    pub const fn from_der(der: Vec<u8>) -> Self {
        Self { der, intermediates: vec![] }
    }

    /// The same, shown together with those between it and the CA; the one that signed it comes first.
    #[must_use]
    pub fn with_intermediates(self, intermediates: Vec<Vec<u8>>) -> Self {
        Self { intermediates, ..self }
    }

    /// Its DER bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The SHA-256 of its DER bytes, as certificate tools show it, in lower-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        HEXLOWER.encode(digest(&SHA256, &self.der).as_ref())
    }

    /// For the TLS library: this one first.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let ders = std::iter::once(&self.der).chain(&self.intermediates);
        ders.map(|der| CertificateDer::from(der.clone())).collect()
    }
}

impl fmt::Debug for NodeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeCertificate").field(&self.fingerprint()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls;

    #[test]
    fn the_same_key_gives_the_same_certificate_and_the_certificate_gives_the_key() {
        let identity = Identity::from_seed(&[7; 32]).unwrap();
        let one = NodeCertificate::self_signed(&identity).unwrap();
        assert_eq!(one, NodeCertificate::self_signed(&identity).unwrap());
        assert_eq!(one.fingerprint().len(), 64);
        assert_eq!(tls::node_of(&one.chain()[0], &[]), Ok(identity.node_id()));
        let uri = format!("cogmesh:{}", identity.node_id().to_text());
        assert!(one.der().windows(uri.len()).any(|window| window == uri.as_bytes()));
        assert!(one.der().windows(15).any(|window| window == b"99991231000000Z"));
        // The server's whole first flight must fit three times the client's first datagram.
        assert!(one.der().len() < 500, "{}", one.der().len());
    }
}
