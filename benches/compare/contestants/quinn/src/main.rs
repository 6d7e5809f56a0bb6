//! Raw quinn on one thread: TLS 1.3 with Ed25519 certificates both ways, one stream. Its settings are quinn's own.

use std::{fs, net::Ipv4Addr, path::PathBuf, sync::Arc};

use anyhow::Context;
use contest::{Child, Order, Report, Role, Scenario, Task, handshakes, now_ns, streams};
use quinn::{
    ClientConfig, Endpoint, ServerConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use tokio::runtime::Builder;

const NAME: &str = "localhost";

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    Builder::new_current_thread().enable_all().build()?.block_on(run(&task))
}

async fn run(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    let local = (Ipv4Addr::LOCALHOST, 0).into();
    if task.role == Role::Publisher {
        let endpoint = Endpoint::server(server_config(task)?, local)?;
        child.ready(&[endpoint.local_addr()?.to_string()]);
        if task.scenario == Scenario::Connect {
            return accept(&mut child, &endpoint).await;
        }
        let connection = endpoint.accept().await.context("nobody came")?.await?;
        let (write, read) = connection.accept_bi().await?;
        streams::publish(task, &mut child, write, read).await?;
        endpoint.wait_idle().await;
        return Ok(());
    }
    let mut endpoint = Endpoint::client(local)?;
    endpoint.set_default_client_config(client_config(task)?);
    let address = task.peer()?.parse()?;
    if task.scenario == Scenario::Connect {
        child.ready(&[]);
        child.warm();
        child.expected().await?;
        let report = handshakes("handshake", task.count, async || {
            let begun = now_ns();
            let connection = endpoint.connect(address, NAME)?.await?;
            let taken = now_ns() - begun;
            connection.close(0_u32.into(), b"");
            Ok(taken)
        });
        let report = report.await?;
        child.report(&report);
        return child.wait_for(Order::End).await;
    }
    let connection = endpoint.connect(address, NAME)?.await?;
    let (write, read) = connection.open_bi().await?;
    streams::hear(task, &mut child, write, read).await?;
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    Ok(())
}

async fn accept(child: &mut Child, endpoint: &Endpoint) -> anyhow::Result<()> {
    child.wait_for(Order::Warm).await?;
    child.wait_for(Order::Go).await?;
    child.sent(0);
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let incoming = incoming.context("the endpoint is gone")?;
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        connection.closed().await;
                    }
                });
            }
            order = child.order() => {
                if order == Order::End {
                    child.report(&Report::new());
                    return Ok(());
                }
            }
        }
    }
}

/// A key and its certificate, which both sides have and believe: this measures the handshake, not who is who.
fn identity(task: &Task) -> anyhow::Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let (certificate, key): (PathBuf, PathBuf) = (task.shared.join("cert.der"), task.shared.join("key.der"));
    if task.role == Role::Publisher && !key.exists() {
        let pair = KeyPair::generate_for(&PKCS_ED25519)?;
        let signed = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&pair)?;
        fs::write(&certificate, signed.der())?;
        fs::write(&key, pair.serialize_der())?;
    }
    let key = PrivatePkcs8KeyDer::from(fs::read(key)?);
    Ok((fs::read(certificate)?.into(), key.into()))
}

/// The library's own, but with one key exchange: X25519, or what ours has where the task says so.
fn provider(task: &Task) -> Arc<CryptoProvider> {
    let group = match &*task.variant {
        "post-quantum" => aws_lc_rs::kx_group::X25519MLKEM768,
        _ => aws_lc_rs::kx_group::X25519,
    };
    Arc::new(CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() })
}

fn server_config(task: &Task) -> anyhow::Result<ServerConfig> {
    let (certificate, key) = identity(task)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let provider = provider(task);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)?;
    Ok(ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
}

fn client_config(task: &Task) -> anyhow::Result<ClientConfig> {
    let (certificate, key) = identity(task)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider(task))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)?;
    // Each handshake is a whole one, as ours is.
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
}
