//! Membership: the CA of a closed federation, and the certificates that it gives. The TLS library checks the chain; what a
//! certificate says of itself is read here, and only once it is known to come from the CA.
//! Source: protocol.md, Membership; certs/README.md has every field.

use std::{fmt, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
    date_time_ymd,
};
use rustls::{
    CertificateError as TlsCertificateError, Error, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime},
    server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, oid_registry::OID_SIG_ED25519, prelude::FromDer,
};

use super::{
    certificates::{CertificateError, EXPIRES_MS, NodeCertificate},
    tls::CertificateFault,
};
use crate::{
    ledger::types::Millis,
    log::{CaHash, CaKey, FederationName, Identity, NodeId, sha256},
};

/// Certificates begin to count so long before they were made: clocks differ.
pub const BACKDATED: Millis = Millis(5 * 60 * 1_000);
/// Longest certificate that is read, in bytes: ours have 400, others' have some thousands.
const CERTIFICATE_BYTES_MAX: usize = 16 << 10;
/// What stands before a node's id in its certificate's URI name.
const URI_START: &str = "cogmesh:";

/// The certificate of a federation's CA.
#[derive(Clone, PartialEq, Eq)]
pub struct CaCertificate {
    der: Vec<u8>,
    name: String,
    hash: CaHash,
    key: Option<CaKey>,
}

/// What is no certificate of a CA. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaFault {
    /// No X.509 certificate, or something behind it.
    #[error("it is no X.509 certificate")]
    Unreadable,
    /// A certificate of something else.
    #[error("it is not the certificate of a CA (basic constraints lack `CA:TRUE`)")]
    NotCa,
    /// The TLS library can't use it.
    #[error("it can't be the root of a federation")]
    NoRoot,
}

impl CaCertificate {
    /// Makes the CA of a new federation. It lasts until 9999: the federation's id is made of its key, so that a later CA would be
    /// that of another federation.
    ///
    /// # Errors
    /// Where a library refuses the key; none that it refuses is known.
    pub fn create(secret: &Identity, federation: &FederationName) -> Result<Self, CertificateError> {
        let params = ca_params(federation);
        let certificate = params.self_signed(&key_pair(secret)?).map_err(CertificateError::Made)?;
        let key = CaKey::of(secret);
        Ok(Self {
            der: certificate.der().to_vec(),
            name: federation.to_string(),
            hash: key.hash(),
            key: Some(key),
        })
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none that a federation can have.
    pub fn from_der(der: &[u8]) -> Result<Self, CaFault> {
        let certificate = parsed(der).ok_or(CaFault::Unreadable)?;
        let is_ca = certificate.basic_constraints().ok().flatten().is_some_and(|found| found.value.ca);
        if !is_ca {
            return Err(CaFault::NotCa);
        }
        let spki = certificate.public_key();
        let hash = CaHash(sha256(&[spki.raw]));
        let is_ed25519 = spki.algorithm.algorithm == OID_SIG_ED25519;
        let key = <[u8; 32]>::try_from(&*spki.subject_public_key.data).ok().filter(|_| is_ed25519);
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let ca = Self {
            der: der.to_vec(),
            name: name.unwrap_or_default().to_owned(),
            hash,
            key: key.and_then(|key| CaKey::from_key(key).ok()),
        };
        ca.roots().map(|_| ca)
    }

    /// Its DER bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The hash of its key, which the federation's id is made with.
    #[must_use]
    pub const fn hash(&self) -> CaHash {
        self.hash
    }

    /// Its key, where it is one of Ed25519: what can revoke.
    #[must_use]
    pub const fn key(&self) -> Option<CaKey> {
        self.key
    }

    /// What it calls itself: the federation's name, in a CA that we made. Text from outside.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a node a member, for that time.
    ///
    /// # Errors
    /// Where a library refuses the key.
    pub fn issue(
        &self,
        secret: &Identity,
        node: NodeId,
        (now, lifetime): (Millis, Duration),
    ) -> Result<NodeCertificate, CertificateError> {
        let name = self.name.parse().map_err(|_| CertificateError::Name)?;
        let issuer = Issuer::new(ca_params(&name), key_pair(secret)?);
        let uri = format!("{URI_START}{}", node.to_text()).try_into().map_err(CertificateError::Made)?;
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let (from, to) = (now.0.saturating_sub(BACKDATED.0), now.0.saturating_add(lifetime_ms));
        let mut params = CertificateParams::default();
        let epoch = date_time_ymd(1970, 1, 1);
        // The last second that a certificate can name is in the year 9999.
        params.not_before = epoch + Duration::from_millis(from.min(EXPIRES_MS));
        params.not_after = epoch + Duration::from_millis(to.min(EXPIRES_MS));
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node.to_text());
        // Two certificates of one CA must not share a number (RFC 5280, 4.1.2.2): a node gets one a millisecond at most.
        let number =
            sha256(&[b"cogmesh serial v1\0", node.as_bytes(), &to.to_le_bytes(), &now.0.to_le_bytes()]);
        params.serial_number = Some(SerialNumber::from_slice(number.get(..16).unwrap_or_default()));
        let made = params.signed_by(&NodeKey(node), &issuer).map_err(CertificateError::Made)?;
        Ok(NodeCertificate::from_der(made.der().to_vec()))
    }

    pub(super) fn roots(&self) -> Result<RootCertStore, CaFault> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.der.clone())).map_err(|_| CaFault::NoRoot)?;
        Ok(roots)
    }
}

impl fmt::Debug for CaCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaCertificate").field("name", &self.name).field("hash", &self.hash).finish()
    }
}

fn ca_params(federation: &FederationName) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    // Nodes get their certificates from it and from nobody below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, federation.as_str());
    params
}

fn key_pair(secret: &Identity) -> Result<KeyPair, CertificateError> {
    let document = secret.pkcs8_der().map_err(|_| CertificateError::Key)?;
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(&document[..]), &PKCS_ED25519)
        .map_err(CertificateError::Made)
}

/// A node's public key, of which we have no secret.
struct NodeKey(NodeId);

impl PublicKeyData for NodeKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// The certificate in those bytes, and nothing behind it.
fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) =
        X509Certificate::from_der(der).ok().filter(|_| der.len() <= CERTIFICATE_BYTES_MAX)?;
    rest.is_empty().then_some(certificate)
}

/// From when to when a certificate counts.
///
/// # Errors
/// It is no certificate.
pub fn validity(der: &[u8]) -> Result<(Millis, Millis), CertificateFault> {
    let certificate = parsed(der).ok_or(CertificateFault::Unreadable)?;
    let ms = |seconds: i64| Millis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000));
    let validity = certificate.validity();
    Ok((ms(validity.not_before.timestamp()), ms(validity.not_after.timestamp())))
}

/// What time it is, in milliseconds since the Unix epoch: the node's time, not the system's (protocol.md, Time).
pub type WallClock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// Who may connect.
#[derive(Clone, Default)]
pub enum Membership {
    /// Any node with its proof of work.
    #[default]
    Open,
    /// Whoever has a certificate of the federation's CA.
    Closed {
        /// The CA.
        ca: CaCertificate,
        /// This node's own certificate.
        certificate: NodeCertificate,
        /// What certificates' dates are held against.
        clock: WallClock,
    },
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("Open"),
            Self::Closed { ca, .. } => f.debug_tuple("Closed").field(ca).finish(),
        }
    }
}

/// Checks that a certificate makes somebody a member. Both sides' certificates come here.
pub(super) struct MemberCheck {
    roots: RootCertStore,
    of_clients: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    clock: WallClock,
}

/// Which side shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    ByDialler,
    ByAcceptor,
}

impl MemberCheck {
    pub(super) fn new(
        ca: &CaCertificate,
        provider: &Arc<CryptoProvider>,
        clock: WallClock,
    ) -> Result<Self, MemberCheckError> {
        let roots = ca.roots()?;
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(provider));
        Ok(Self { roots, of_clients: builder.build()?, provider: Arc::clone(provider), clock })
    }

    /// The same with another certificate of the CA.
    pub(super) fn with_ca(&self, ca: &CaCertificate) -> Result<Self, MemberCheckError> {
        Self::new(ca, &self.provider, Arc::clone(&self.clock))
    }

    /// Whether that certificate makes the node whose key is in it a member now.
    pub(super) fn check(
        &self,
        shown: Shown,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        node: NodeId,
    ) -> Result<(), CertificateFault> {
        if certificate.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateFault::Unreadable);
        }
        let now = UnixTime::since_unix_epoch(Duration::from_millis((self.clock)().0));
        let chain = match shown {
            Shown::ByDialler => self.of_clients.verify_client_cert(certificate, intermediates, now).map(drop),
            Shown::ByAcceptor => ParsedCertificate::try_from(certificate).and_then(|parsed| {
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    &self.roots,
                    intermediates,
                    now,
                    algorithms,
                )
            }),
        };
        chain.map_err(|error| fault(&error))?;
        if uri_names(certificate).as_deref() == Some(&[format!("{URI_START}{}", node.to_text())]) {
            Ok(())
        } else {
            Err(CertificateFault::OtherName)
        }
    }
}

impl fmt::Debug for MemberCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberCheck").finish_non_exhaustive()
    }
}

/// A CA that certificates can't be checked with.
#[derive(Debug, thiserror::Error)]
pub enum MemberCheckError {
    /// What is wrong with its certificate.
    #[error("the federation's CA certificate can't be used: {0}")]
    Ca(#[from] CaFault),
    /// The TLS library refuses it.
    #[error("certificates can't be checked with the federation's CA")]
    Verifier(#[from] VerifierBuilderError),
}

/// The URI names of a certificate; `None` where it can't be read.
fn uri_names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let certificate = parsed(certificate)?;
    let names = certificate.subject_alternative_name().ok().flatten()?;
    let uri = |name: &GeneralName<'_>| {
        if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }
    };
    Some(names.value.general_names.iter().filter_map(uri).collect())
}

fn fault(error: &Error) -> CertificateFault {
    use TlsCertificateError as Tls;

    let Error::InvalidCertificate(error) = error else {
        return CertificateFault::NotAMember;
    };
    if matches!(error, Tls::Expired | Tls::ExpiredContext { .. }) {
        CertificateFault::Expired
    } else if matches!(error, Tls::NotValidYet | Tls::NotValidYetContext { .. }) {
        CertificateFault::NotYetValid
    } else if matches!(error, Tls::InvalidPurpose | Tls::InvalidPurposeContext { .. }) {
        CertificateFault::OtherPurpose
    } else if matches!(error, Tls::BadEncoding) {
        CertificateFault::Unreadable
    } else {
        CertificateFault::NotAMember
    }
}
