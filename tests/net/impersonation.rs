//! Who does not get in: everybody who is not who they say they are, on both sides of a handshake.

use cogmesh::net::tls::{CertificateFault, node_of};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::time::timeout;

use crate::{
    common::{Node, PATIENCE, identity, node},
    raw::{Shows, certificate},
};

/// Such a client tries; what our side says of it.
async fn tries(shows: &Shows) -> String {
    tries_at(node(1), shows).await
}

/// Such a client tries to get into that node; what it says of it.
pub(crate) async fn tries_at(mut server: Node, shows: &Shows) -> String {
    let client = shows.client();
    // In TLS 1.3 the client is done before the server has seen its certificate: what it believes says nothing.
    let connecting = client.connect(server.address, "x").unwrap();
    let (why, _) = tokio::join!(server.handshake_failed(), connecting);
    why
}

/// Such a server is dialled; what our side says of it.
async fn is_dialled(shows: &Shows) -> String {
    is_dialled_by(node(1), shows).await
}

/// That node dials such a server; what it says of it.
pub(crate) async fn is_dialled_by(mut client: Node, shows: &Shows) -> String {
    let server = shows.server();
    let address = server.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            // Most of these handshakes fail; that is the point.
            let _failed = incoming.await;
        }
    });
    client.dial(None, &[address]);
    let why = client.dial_failed().await;
    serving.abort();
    why
}

fn patched(certificate: &CertificateDer<'_>, key: &[u8], by: &[u8]) -> CertificateDer<'static> {
    let mut der = certificate.to_vec();
    let at = der.windows(key.len()).position(|window| window == key).unwrap();
    der[at..at + by.len()].copy_from_slice(by);
    CertificateDer::from(der)
}

fn other_algorithm(algorithm: &'static SignatureAlgorithm) -> Shows {
    let pair = KeyPair::generate_for(algorithm).unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
    let key = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
    Shows { chain: vec![certificate.der().clone()], key: Some(key), ..Shows::honest(&identity(2)) }
}

#[tokio::test]
async fn whoever_shows_anothers_certificate_is_refused_by_both_sides() {
    let shows = Shows::impostor(&identity(3), &identity(2));
    let why = CertificateFault::NotItsKey.to_string();
    assert_eq!(tries(&shows).await, why);
    assert!(is_dialled(&shows).await.contains(&why));
}

/// The canary: without the check of the handshake's signature the impostor is taken for its victim, on both sides.
#[tokio::test]
async fn it_is_the_signature_check_that_stops_an_impostor() {
    let (victim, impostor) = (identity(3), identity(2));
    let shows = Shows::impostor(&victim, &impostor);
    let server = Shows::impostor(&victim, &identity(1)).server();
    let client = shows.client();
    let connecting = client.connect(server.local_addr().unwrap(), "x").unwrap();
    let accepting = async { server.accept().await.unwrap().await.unwrap() };
    let (accepted, connected) =
        timeout(PATIENCE, async { tokio::join!(accepting, connecting) }).await.unwrap();
    for connection in [accepted, connected.unwrap()] {
        let chain = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
        assert_eq!(node_of(&chain[0], &[]), Ok(victim.node_id()));
    }
}

#[tokio::test]
async fn whoever_shows_no_certificate_is_refused() {
    let why = tries(&Shows { key: None, ..Shows::honest(&identity(2)) }).await;
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn whoever_speaks_another_protocol_is_refused_by_both_sides() {
    let shows = Shows { alpn: b"h3".to_vec(), ..Shows::honest(&identity(2)) };
    for why in [tries(&shows).await, is_dialled(&shows).await] {
        assert!(why.contains("does not speak `cogmesh/1`"), "{why}");
    }
}

#[tokio::test]
async fn only_ed25519_keys_name_a_node() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256] {
        let shows = other_algorithm(algorithm);
        assert_eq!(node_of(&shows.chain[0], &[]), Err(CertificateFault::NotEd25519));
        tries(&shows).await;
        is_dialled(&shows).await;
    }
}

#[tokio::test]
async fn a_weak_key_is_refused_by_both_sides() {
    let honest = identity(2);
    let mut weak = [0; 32];
    weak[0] = 1;
    let certificate = patched(&certificate(&honest), honest.node_id().as_bytes(), &weak);
    let shows = Shows { chain: vec![certificate], ..Shows::honest(&honest) };
    let why = CertificateFault::WeakKey.to_string();
    assert_eq!(tries(&shows).await, why);
    assert!(is_dialled(&shows).await.contains(&why));
}

#[tokio::test]
async fn more_than_one_certificate_and_none_at_all_are_refused_by_both_sides() {
    let chain = vec![certificate(&identity(2)), certificate(&identity(3))];
    let shows = Shows { chain, ..Shows::honest(&identity(2)) };
    let why = CertificateFault::Chain.to_string();
    assert_eq!(tries(&shows).await, why);
    assert!(is_dialled(&shows).await.contains(&why));
    assert_eq!(node_of(&CertificateDer::from(vec![1, 2, 3]), &[]), Err(CertificateFault::Unreadable));
}

#[tokio::test]
async fn another_node_than_the_one_that_was_asked_for_is_a_failed_dial() {
    let (mut one, other) = (node(1), node(2));
    one.dial(Some(identity(3).node_id()), &[other.address]);
    let why = one.dial_failed().await;
    let fault = CertificateFault::WrongNode { wanted: identity(3).node_id(), found: other.id };
    assert_eq!(why, format!("{}: {fault}", other.address));
}

#[tokio::test]
async fn a_node_that_dials_itself_meets_its_own_key_and_the_core_decides() {
    let mut one = node(1);
    one.dial(None, &[one.address]);
    let mut ends = vec![];
    while ends.len() < 2 {
        match one.next().await {
            cogmesh::net::NetEvent::Connected { node, attempt, .. } => ends.push((node, attempt.is_some())),
            other => panic!("{other:?}"),
        }
    }
    ends.sort_unstable();
    assert_eq!(ends, [(one.id, false), (one.id, true)]);
}
