//! TLS: who the other side is. The key in its certificate is its name, and the handshake's signature proves that it
//! holds that key; both are checked here, by both sides. In an open federation nothing else in a certificate is believed; in a closed
//! one `membership.rs` looks whether the federation's CA gave it to that key.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms,
        aws_lc_rs::{default_provider, kx_group, sign::any_eddsa_type},
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SigningKey},
    version::TLS13,
};

pub use super::certificate_fault::CertificateFault;
use super::{
    certificates::{CertificateError, NodeCertificate},
    join::JOIN_ALPN,
    membership::{CaCertificate, MemberCheck, MemberCheckError, Membership, Shown},
};
use crate::log::{Identity, NodeId};

/// What both sides must say they speak. A new version of the protocol has a new one.
pub const ALPN: &[u8] = b"cogmesh/1";

/// The label of the TLS exporter that a hardware claim is signed over.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-cogmesh-v1";

/// The DER of an Ed25519 public key up to the key itself (RFC 8410): the only algorithm that a node id can have.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Where a handshake's verifier leaves what it found wrong, as a sentence of ours instead of a TLS alert.
pub(super) type Found = Arc<OnceLock<CertificateFault>>;

/// How far those come who are no members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guests {
    /// As far as asking to join: somebody is invited.
    MayAsk,
    /// Nowhere; but members may ask for certificates.
    MembersMayAsk,
    /// Nowhere: nobody here makes certificates.
    TurnedAway,
}

/// What every handshake of this node needs.
#[derive(Debug)]
pub(super) struct Credentials {
    provider: Arc<CryptoProvider>,
    resolver: Arc<Resolver>,
    members: Option<RwLock<Arc<MemberCheck>>>,
}

/// Our certificate, as each new handshake shows it.
#[derive(Debug)]
struct Resolver {
    key: Arc<dyn SigningKey>,
    shown: RwLock<(NodeCertificate, Arc<CertifiedKey>)>,
}

impl Resolver {
    fn new(key: Arc<dyn SigningKey>, certificate: NodeCertificate) -> Self {
        let shown = RwLock::new(Self::shown(&key, certificate));
        Self { key, shown }
    }

    fn shown(
        key: &Arc<dyn SigningKey>,
        certificate: NodeCertificate,
    ) -> (NodeCertificate, Arc<CertifiedKey>) {
        let certified = CertifiedKey::new(certificate.chain(), Arc::clone(key));
        (certificate, Arc::new(certified))
    }

    fn show(&self, certificate: NodeCertificate) {
        let shown = Self::shown(&self.key, certificate);
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    fn now(&self) -> (NodeCertificate, Arc<CertifiedKey>) {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().1)
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.now().1)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// TLS can't be set up with this key: a fault of this process. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The TLS library refuses its configuration.
    #[error("TLS can't be set up")]
    Rustls(#[from] Error),
    /// Members can't be checked.
    #[error(transparent)]
    Members(#[from] MemberCheckError),
    /// Our own certificate would not be taken by the others.
    #[error("this node's own certificate is no use: {0}")]
    Own(CertificateFault),
    /// The TLS library lacks the cipher suite that QUIC begins with.
    #[error("TLS can't be set up for QUIC")]
    Suite(#[from] NoInitialCipherSuite),
}

impl Credentials {
    pub(super) fn new(identity: &Identity, membership: &Membership) -> Result<Self, TlsError> {
        let mut provider = default_provider();
        // Said here and not left to a feature of the crate: which exchange comes first must not depend on
        // what some other dependency switches on.
        provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
        let document = identity.pkcs8_der().map_err(|_| CertificateError::Key)?;
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(&document[..]))?;
        let provider = Arc::new(provider);
        let (certificate, members) = match membership {
            Membership::Open => (NodeCertificate::self_signed(identity)?, None),
            Membership::Closed { ca, certificate, clock } => {
                let check = MemberCheck::new(ca, &provider, Arc::clone(clock))?;
                (certificate.clone(), Some(RwLock::new(Arc::new(check))))
            }
        };
        let resolver = Arc::new(Resolver::new(key, certificate));
        let credentials = Self { provider, resolver, members };
        // Said at once and here, instead of by every peer later and there.
        is_taken(credentials.members().as_deref(), &credentials.certificate(), identity.node_id())
            .map_err(TlsError::Own)?;
        Ok(credentials)
    }

    /// Our certificate, as it is now.
    pub(super) fn certificate(&self) -> NodeCertificate {
        self.resolver.now().0
    }

    /// Shows another certificate from now on. Connections that stand stay.
    ///
    /// # Errors
    /// The others would not take it.
    pub(super) fn renew(&self, certificate: NodeCertificate, own: NodeId) -> Result<(), CertificateFault> {
        is_taken(self.members().as_deref(), &certificate, own)?;
        self.resolver.show(certificate);
        Ok(())
    }

    /// Shows another certificate and believes another one of the CA's key from now on. Connections that stand stay. In an open
    /// federation nothing is changed.
    ///
    /// # Errors
    /// The CA is none, or the others would not take the certificate. The old ones still count.
    pub(super) fn replace(
        &self,
        ca: &CaCertificate,
        certificate: NodeCertificate,
        own: NodeId,
    ) -> Result<(), TlsError> {
        let Some(members) = &self.members else { return Ok(()) };
        let mut members = members.write().unwrap_or_else(PoisonError::into_inner);
        let check = members.with_ca(ca)?;
        is_taken(Some(&check), &certificate, own).map_err(TlsError::Own)?;
        *members = Arc::new(check);
        self.resolver.show(certificate);
        Ok(())
    }

    fn members(&self) -> Option<Arc<MemberCheck>> {
        let members = self.members.as_ref()?;
        Some(Arc::clone(&members.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// For one connection that somebody else opens. What a guest is instead of a member stands in what was found.
    pub(super) fn accepting(&self, guests: Guests) -> Result<(Arc<QuicServerConfig>, Found), TlsError> {
        let verifier = Verifier { guests, ..self.verifier(None) };
        let found = Arc::clone(&verifier.found);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::clone(&self.resolver) as _);
        config.alpn_protocols = vec![ALPN.to_vec()];
        if guests != Guests::TurnedAway {
            config.alpn_protocols.push(JOIN_ALPN.to_vec());
        }
        // No 0-RTT, no tickets, no resumption: each would let a connection stand without the checks of this file.
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok((Arc::new(QuicServerConfig::try_from(config)?), found))
    }

    /// For one connection that we open, to that node where we know whom we want.
    pub(super) fn dialling(
        &self,
        expect: Option<NodeId>,
    ) -> Result<(Arc<QuicClientConfig>, Found), TlsError> {
        self.dialling_for(ALPN, self.verifier(expect))
    }

    /// For one connection to the node that invited us. It shows a certificate of a CA that we don't know yet: its key says who it is.
    pub(super) fn joining(&self, inviter: NodeId) -> Result<(Arc<QuicClientConfig>, Found), TlsError> {
        self.dialling_for(JOIN_ALPN, self.verifier(Some(inviter)))
    }

    fn dialling_for(
        &self,
        alpn: &[u8],
        verifier: Verifier,
    ) -> Result<(Arc<QuicClientConfig>, Found), TlsError> {
        let found = Arc::clone(&verifier.found);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::clone(&self.resolver) as _);
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok((Arc::new(QuicClientConfig::try_from(config)?), found))
    }

    fn verifier(&self, expect: Option<NodeId>) -> Verifier {
        Verifier {
            algorithms: self.provider.signature_verification_algorithms,
            members: self.members(),
            guests: Guests::TurnedAway,
            expect,
            found: Found::default(),
        }
    }
}

/// That key may be used with what makes its node a member.
///
/// # Errors
/// The others would not take its certificate, or TLS can't be set up.
pub fn fits(identity: &Identity, membership: &Membership) -> Result<(), TlsError> {
    Credentials::new(identity, membership).map(drop)
}

/// Whether the others take that certificate for ours.
fn is_taken(
    members: Option<&MemberCheck>,
    certificate: &NodeCertificate,
    own: NodeId,
) -> Result<(), CertificateFault> {
    let chain = certificate.chain();
    let (certificate, intermediates) = chain.split_first().ok_or(CertificateFault::Unreadable)?;
    let found = key_of(certificate)?;
    if found != own {
        return Err(CertificateFault::WrongNode { wanted: own, found });
    }
    let Some(members) = members else { return Ok(()) };
    members.check(Shown::ByDialler, certificate, intermediates, own)?;
    members.check(Shown::ByAcceptor, certificate, intermediates, own)
}

/// Who the other side of a finished handshake is.
pub(super) fn peer_of(connection: &quinn::Connection) -> Result<NodeId, CertificateFault> {
    let identity = connection.peer_identity().ok_or(CertificateFault::Unreadable)?;
    let chain =
        identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| CertificateFault::Unreadable)?;
    key_of(chain.first().ok_or(CertificateFault::Unreadable)?)
}

/// The TLS exporter of a finished handshake.
pub(super) fn exporter_of(connection: &quinn::Connection) -> Option<[u8; 32]> {
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").ok()?;
    Some(exporter)
}

/// The node whose certificate that is, in an open federation. Whether the other side holds its key, only the handshake's signature
/// says.
///
/// # Errors
/// What is wrong with it. Its dates are not looked at: in an open federation no identity depends on a clock.
pub fn node_of(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<NodeId, CertificateFault> {
    if !intermediates.is_empty() {
        return Err(CertificateFault::Chain);
    }
    key_of(certificate)
}

/// Whose key stands in that certificate.
fn key_of(certificate: &CertificateDer<'_>) -> Result<NodeId, CertificateFault> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|_| CertificateFault::Unreadable)?;
    let spki = parsed.subject_public_key_info();
    let key = spki.as_ref().strip_prefix(&SPKI_PREFIX).ok_or(CertificateFault::NotEd25519)?;
    let key = <[u8; 32]>::try_from(key).map_err(|_| CertificateFault::NotEd25519)?;
    NodeId::from_key(key).map_err(|_| CertificateFault::WeakKey)
}

/// Both sides' verifier.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    members: Option<Arc<MemberCheck>>,
    /// Whether those who are no members may come as far as asking to join.
    guests: Guests,
    expect: Option<NodeId>,
    found: Found,
}

impl Verifier {
    fn check(
        &self,
        shown: Shown,
        certificate: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let node = match &self.members {
            None => node_of(certificate, rest),
            Some(members) => key_of(certificate)
                .and_then(|node| members.check(shown, certificate, rest, node).map(|()| node)),
        };
        let node = match node {
            Ok(node) => node,
            Err(fault) if self.guests == Guests::MayAsk && node_of(certificate, rest).is_ok() => {
                self.found.get_or_init(|| fault);
                return Ok(());
            }
            Err(fault) => return Err(self.refuse(fault)),
        };
        match self.expect {
            Some(wanted) if wanted != node => {
                Err(self.refuse(CertificateFault::WrongNode { wanted, found: node }))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Without this check anybody could show anybody's certificate: `tests/net` proves that it is what stops them.
    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(self.refuse(CertificateFault::NotEd25519));
        }
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
            .map_err(|_| self.refuse(CertificateFault::NotItsKey))
    }

    fn refuse(&self, fault: CertificateFault) -> Error {
        Error::InvalidCertificate(self.found.get_or_init(|| fault).for_tls())
    }
}

/// There is no TLS 1.2 here, not even compiled; the traits ask for it all the same.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 is never spoken".to_owned())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(Shown::ByAcceptor, end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(Shown::ByDialler, end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
