//! Peers that we did not write: quinn and rustls with any certificate, any key and no checks.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use cogmesh::{
    log::Identity,
    net::{certificates::NodeCertificate, tls::ALPN},
};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

/// What a raw peer shows, and what it signs with.
pub(crate) struct Shows {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Option<PrivateKeyDer<'static>>,
    pub(crate) alpn: Vec<u8>,
}

pub(crate) fn certificate(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from(NodeCertificate::self_signed(identity).unwrap().der().to_vec())
}

pub(crate) fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(identity.pkcs8_der().unwrap().to_vec()).into()
}

impl Shows {
    /// What an honest node shows.
    pub(crate) fn honest(identity: &Identity) -> Self {
        Self { chain: vec![certificate(identity)], key: Some(key(identity)), alpn: ALPN.to_vec() }
    }

    /// The victim's certificate, with the impostor's own key.
    pub(crate) fn impostor(victim: &Identity, impostor: &Identity) -> Self {
        Self { chain: vec![certificate(victim)], ..Self::honest(impostor) }
    }

    fn resolver(&self, provider: &CryptoProvider) -> Option<Arc<SingleCertAndKey>> {
        let key = self.key.as_ref()?.clone_key();
        let key = provider.key_provider.load_private_key(key).unwrap();
        // Not `from_der`: that one would notice that certificate and key do not belong together.
        Some(Arc::new(SingleCertAndKey::from(CertifiedKey::new(self.chain.clone(), key))))
    }

    pub(crate) fn client(&self) -> quinn::Endpoint {
        let mut endpoint = quinn::Endpoint::client(loopback()).unwrap();
        endpoint.set_default_client_config(self.client_config());
        endpoint
    }

    /// For one of many that share an endpoint, and with it a socket.
    pub(crate) fn client_config(&self) -> quinn::ClientConfig {
        let provider = Arc::new(default_provider());
        let resolver = self.resolver(&provider);
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Stubbed));
        let mut config = match resolver {
            Some(resolver) => config.with_client_cert_resolver(resolver),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![self.alpn.clone()];
        let crypto = Arc::new(QuicClientConfig::try_from(config).unwrap());
        quinn::ClientConfig::new(crypto)
    }

    pub(crate) fn server(&self) -> quinn::Endpoint {
        let provider = Arc::new(default_provider());
        let resolver = self.resolver(&provider).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Stubbed))
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![self.alpn.clone()];
        let crypto = Arc::new(QuicServerConfig::try_from(config).unwrap());
        quinn::Endpoint::server(quinn::ServerConfig::with_crypto(crypto), loopback()).unwrap()
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Our verifier with its signature check taken out: whoever holds any key is whoever's certificate it shows.
#[derive(Debug)]
pub(crate) struct Stubbed;

impl ServerCertVerifier for Stubbed {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Stubbed {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

fn schemes() -> Vec<SignatureScheme> {
    vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
}
