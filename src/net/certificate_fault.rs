//! What can be wrong with a certificate: as a sentence for people here, and as the TLS alert that the other side gets.

use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use crate::{log::NodeId, protocol::event::HandshakeFault};

/// Why a certificate is not one of a node that we want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It is no X.509 certificate of version 3.
    #[error("its certificate can't be read")]
    Unreadable,
    /// Its key is none of Ed25519.
    #[error("its certificate holds no Ed25519 key")]
    NotEd25519,
    /// Its key is one that no honest node has.
    #[error("its key is weak")]
    WeakKey,
    /// It is not from the CA of this closed federation.
    #[error("its certificate is not one of this federation's CA")]
    NotAMember,
    /// Its time is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its time has not come; or a clock is wrong.
    #[error("its certificate is not valid yet, or the clock here is behind")]
    NotYetValid,
    /// The CA gave it for something else.
    #[error("its certificate was given for another purpose")]
    OtherPurpose,
    /// The CA gave it to another key.
    #[error("its certificate was given to another node")]
    OtherName,
    /// Other certificates came with it; a node has only one.
    #[error("it sent more than one certificate")]
    Chain,
    /// It is another node than the one that was asked for.
    #[error("another node answers there: {found}, not {wanted}")]
    WrongNode {
        /// Who was asked for.
        wanted: NodeId,
        /// Who answers.
        found: NodeId,
    },
    /// The handshake is not signed with the certificate's key: somebody shows a certificate that is not theirs.
    #[error("it does not hold the key of the certificate that it shows")]
    NotItsKey,
}

impl CertificateFault {
    /// For the TLS library, which makes the alert of it that RFC 8446 (6.2) has for such a fault: whoever runs the other side, and
    /// whatever program, shall see there what to put right.
    pub(super) fn for_tls(self) -> CertificateError {
        match self {
            // bad_certificate
            Self::Unreadable | Self::WeakKey => CertificateError::BadEncoding,
            Self::OtherName | Self::WrongNode { .. } => CertificateError::NotValidForName,
            // unsupported_certificate
            Self::NotEd25519 | Self::OtherPurpose => CertificateError::InvalidPurpose,
            // certificate_expired, which is for both ends of its time
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            // certificate_unknown
            Self::Chain => CertificateError::Other(OtherError(Arc::new(self))),
            // unknown_ca
            Self::NotAMember => CertificateError::UnknownIssuer,
            // decrypt_error
            Self::NotItsKey => CertificateError::BadSignature,
        }
    }
}

impl From<CertificateFault> for HandshakeFault {
    fn from(fault: CertificateFault) -> Self {
        match fault {
            CertificateFault::Unreadable => Self::Unreadable,
            CertificateFault::NotEd25519 => Self::NotEd25519,
            CertificateFault::WeakKey => Self::WeakKey,
            CertificateFault::NotAMember => Self::NotAMember,
            CertificateFault::Expired => Self::Expired,
            CertificateFault::NotYetValid => Self::NotYetValid,
            CertificateFault::OtherPurpose => Self::OtherPurpose,
            // Only who dials asks for a certain node.
            CertificateFault::OtherName | CertificateFault::WrongNode { .. } => Self::OtherName,
            CertificateFault::Chain => Self::Chain,
            CertificateFault::NotItsKey => Self::NotItsKey,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn each_fault_is_told_by_the_alert_that_tls_has_for_it() {
        let alert = |fault: CertificateFault| AlertDescription::from(fault.for_tls());
        let node = |seed| crate::log::Identity::from_seed(&[seed; 32]).unwrap().node_id();
        let wrong = CertificateFault::WrongNode { wanted: node(1), found: node(2) };
        for fault in
            [CertificateFault::Unreadable, CertificateFault::WeakKey, CertificateFault::OtherName, wrong]
        {
            assert_eq!(alert(fault), AlertDescription::BadCertificate, "{fault}");
        }
        for fault in [CertificateFault::NotEd25519, CertificateFault::OtherPurpose] {
            assert_eq!(alert(fault), AlertDescription::UnsupportedCertificate, "{fault}");
        }
        for fault in [CertificateFault::Expired, CertificateFault::NotYetValid] {
            assert_eq!(alert(fault), AlertDescription::CertificateExpired, "{fault}");
        }
        assert_eq!(alert(CertificateFault::Chain), AlertDescription::CertificateUnknown);
        assert_eq!(alert(CertificateFault::NotAMember), AlertDescription::UnknownCA);
        assert_eq!(alert(CertificateFault::NotItsKey), AlertDescription::DecryptError);
    }
}
