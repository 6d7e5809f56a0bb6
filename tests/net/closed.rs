//! A closed federation lets members in and nobody else, on both sides of a handshake.

use std::{sync::Arc, time::Duration};

use cogmesh::{
    ledger::types::Millis,
    log::{Identity, NodeId},
    net::{
        InboxBounds, NetConfig,
        certificates::NodeCertificate,
        membership::{CaCertificate, CaFault, Membership, validity},
        tls::CertificateFault,
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::{
    common::{Node, config, identity, link, node, open},
    impersonation::{is_dialled_by, tries_at},
    raw::{Shows, certificate as self_signed, key},
};

/// In the middle of 2026.
const NOW: Millis = Millis(1_782_864_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// A CA and its secret.
struct Ca {
    secret: Arc<Identity>,
    certificate: CaCertificate,
}

fn ca(seed: u8) -> Ca {
    let secret = identity(seed);
    let certificate = CaCertificate::create(&secret, &"lab".parse().unwrap()).unwrap();
    Ca { secret, certificate }
}

impl Ca {
    fn issue(&self, node: NodeId, now: Millis, lifetime: Duration) -> NodeCertificate {
        self.certificate.issue(&self.secret, node, (now, lifetime)).unwrap()
    }

    fn config(&self, seed: u8) -> NetConfig {
        let certificate = self.issue(identity(seed).node_id(), NOW, 30 * DAY);
        let membership =
            Membership::Closed { ca: self.certificate.clone(), certificate, clock: Arc::new(|| NOW) };
        NetConfig { membership, ..config(seed) }
    }

    fn node(&self, seed: u8) -> Node {
        open(self.config(seed), InboxBounds::default())
    }

    /// What a node with that certificate shows.
    fn shows(&self, seed: u8, certificate: &NodeCertificate) -> Shows {
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        Shows { chain, ..Shows::honest(&identity(seed)) }
    }

    /// What a certificate of this CA is made from, to be spoilt.
    fn params(&self, node: NodeId) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        let uri = format!("cogmesh:{}", node.to_text()).try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params
    }

    /// Signed by this CA, whatever it says.
    fn sign(&self, params: &CertificateParams, pair: &KeyPair) -> CertificateDer<'static> {
        let issuer_pair = pair_of(&self.secret);
        let mut of_issuer = CertificateParams::default();
        of_issuer.distinguished_name.remove(DnType::CommonName);
        of_issuer.distinguished_name.push(DnType::CommonName, "lab");
        params.signed_by(pair, &Issuer::new(of_issuer, issuer_pair)).unwrap().der().clone()
    }
}

fn pair_of(identity: &Identity) -> KeyPair {
    let document = identity.pkcs8_der().unwrap();
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(&document[..]), &PKCS_ED25519).unwrap()
}

async fn is_refused(ca: &Ca, shows: &Shows, fault: CertificateFault) {
    assert_eq!(tries_at(ca.node(1), shows).await, fault.to_string());
    let why = is_dialled_by(ca.node(1), shows).await;
    assert!(why.ends_with(&fault.to_string()), "{why}");
}

#[tokio::test]
async fn members_of_one_ca_get_in() {
    let ca = ca(100);
    let (mut one, mut two) = (ca.node(1), ca.node(2));
    link(&mut one, &mut two).await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_and_one_of_ones_own_are_refused_by_both_sides() {
    let (ours, other) = (ca(100), ca(101));
    let foreign = other.shows(2, &other.issue(identity(2).node_id(), NOW, DAY));
    is_refused(&ours, &foreign, CertificateFault::NotAMember).await;
    // The same name, and a key that is not the CA's.
    is_refused(&ours, &Shows::honest(&identity(2)), CertificateFault::NotAMember).await;
    let chain = vec![self_signed(&identity(2)), CertificateDer::from(ours.certificate.der().to_vec())];
    let with_the_ca = Shows { chain, ..Shows::honest(&identity(2)) };
    is_refused(&ours, &with_the_ca, CertificateFault::NotAMember).await;
}

#[tokio::test]
async fn certificates_are_held_against_the_nodes_own_time() {
    let ca = ca(100);
    let node = identity(2).node_id();
    let ago = |time: Millis, days: u64| Millis(time.0 - days * 86_400_000);
    let expired = ca.shows(2, &ca.issue(node, ago(NOW, 31), 30 * DAY));
    is_refused(&ca, &expired, CertificateFault::Expired).await;
    let to_come = ca.shows(2, &ca.issue(node, Millis(NOW.0 + 86_400_000), DAY));
    is_refused(&ca, &to_come, CertificateFault::NotYetValid).await;
    // The system's clock, which is after 2026-07-01, is not asked: by it this one has expired.
    let mut one = ca.node(1);
    let current = Membership::Closed {
        ca: ca.certificate.clone(),
        certificate: ca.issue(node, ago(NOW, 1), 2 * DAY),
        clock: Arc::new(|| NOW),
    };
    let mut two = open(NetConfig { membership: current, ..config(2) }, InboxBounds::default());
    link(&mut one, &mut two).await;
}

#[tokio::test]
async fn the_right_ca_and_another_nodes_name_are_refused_by_both_sides() {
    let ca = ca(100);
    let pair = pair_of(&identity(2));
    let mut no_name = ca.params(identity(2).node_id());
    no_name.subject_alt_names = vec![];
    let mut two_names = ca.params(identity(2).node_id());
    two_names.subject_alt_names.extend(ca.params(identity(3).node_id()).subject_alt_names);
    let others = ca.params(identity(3).node_id());
    for params in [others, no_name, two_names] {
        let shows = Shows { chain: vec![ca.sign(&params, &pair)], ..Shows::honest(&identity(2)) };
        is_refused(&ca, &shows, CertificateFault::OtherName).await;
    }
    let right = ca.params(identity(2).node_id());
    let shows = Shows { chain: vec![ca.sign(&right, &pair)], ..Shows::honest(&identity(2)) };
    let client = shows.client();
    let mut server = ca.node(1);
    let connecting = client.connect(server.address, "x").unwrap();
    let (_connected, (_, node, _)) = tokio::join!(connecting, server.connected());
    assert_eq!(node, identity(2).node_id(), "what is right is let in by the same path");
}

#[tokio::test]
async fn a_members_certificate_without_its_key_is_refused_by_both_sides() {
    let ca = ca(100);
    let stolen = ca.issue(identity(3).node_id(), NOW, DAY);
    let shows = Shows { key: Some(key(&identity(2))), ..ca.shows(3, &stolen) };
    is_refused(&ca, &shows, CertificateFault::NotItsKey).await;
}

#[tokio::test]
async fn a_member_can_make_nobody_else_a_member() {
    let ca = ca(100);
    // A member signs a certificate as if it were a CA, and shows its own beside it.
    let member = pair_of(&identity(3));
    let own = ca.sign(&ca.params(identity(3).node_id()), &member);
    let mut of_member = CertificateParams::default();
    of_member.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(of_member, member);
    let params = ca.params(identity(2).node_id());
    let made = params.signed_by(&pair_of(&identity(2)), &issuer).unwrap();
    let shows = Shows { chain: vec![made.der().clone(), own], ..Shows::honest(&identity(2)) };
    is_refused(&ca, &shows, CertificateFault::NotAMember).await;
}

#[tokio::test]
async fn another_purpose_another_kind_of_key_and_damaged_or_endless_certificates_are_refused() {
    let ca = ca(100);
    let node = identity(2).node_id();
    let mut params = ca.params(node);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let chain = vec![ca.sign(&params, &pair_of(&identity(2)))];
    is_refused(&ca, &Shows { chain, ..Shows::honest(&identity(2)) }, CertificateFault::OtherPurpose).await;

    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let chain = vec![ca.sign(&ca.params(node), &pair)];
    let p256 = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
    let why = tries_at(ca.node(1), &Shows { chain, key: Some(p256), ..Shows::honest(&identity(2)) }).await;
    assert!(!why.is_empty());

    let whole = ca.issue(node, NOW, DAY);
    let cut = CertificateDer::from(whole.der()[..whole.der().len() - 20].to_vec());
    let shows = Shows { chain: vec![cut], ..Shows::honest(&identity(2)) };
    is_refused(&ca, &shows, CertificateFault::Unreadable).await;

    let mut params = ca.params(node);
    params.subject_alt_names =
        vec![SanType::URI(format!("cogmesh:{}", "a".repeat(60_000)).try_into().unwrap())];
    let chain = vec![ca.sign(&params, &pair_of(&identity(2)))];
    is_refused(&ca, &Shows { chain, ..Shows::honest(&identity(2)) }, CertificateFault::Unreadable).await;
}

#[tokio::test]
async fn an_open_and_a_closed_federation_do_not_mix() {
    let ca = ca(100);
    let open = node(2);
    let mut closed = ca.node(1);
    open.dial(None, &[closed.address]);
    assert_eq!(closed.handshake_failed().await, CertificateFault::NotAMember.to_string());
    closed.dial(None, &[open.address]);
    let why = closed.dial_failed().await;
    assert!(why.ends_with(&CertificateFault::NotAMember.to_string()), "{why}");
}

#[tokio::test]
async fn a_node_does_not_start_with_a_certificate_that_the_others_would_refuse_nor_renew_it_by_one() {
    let ca = ca(100);
    let mut one = ca.node(1);
    let fault = one.endpoint.renew(ca.issue(identity(2).node_id(), NOW, DAY)).unwrap_err();
    assert!(matches!(fault, CertificateFault::WrongNode { .. }));
    let old = ca.issue(one.id, Millis(1), DAY);
    assert_eq!(one.endpoint.renew(old), Err(CertificateFault::Expired));

    let (_, before) = validity(one.endpoint.certificate().der()).unwrap();
    let mut two = ca.node(2);
    let (link_one, _) = link(&mut one, &mut two).await;
    one.endpoint.renew(ca.issue(one.id, NOW, 60 * DAY)).unwrap();
    let (_, after) = validity(one.endpoint.certificate().der()).unwrap();
    assert_eq!(after.0 - before.0, 30 * 86_400_000);
    // New handshakes show it, and the link that stood stays.
    let mut three = ca.node(3);
    link(&mut three, &mut one).await;
    assert!(one.endpoint.stats(link_one).is_some());
}

#[test]
fn a_ca_certificate_is_read_back_and_nothing_else_is_taken_for_one() {
    let ca = ca(100);
    let again = CaCertificate::from_der(ca.certificate.der()).unwrap();
    assert_eq!(again, ca.certificate);
    assert_eq!((again.name(), again.hash()), ("lab", again.key().unwrap().hash()));
    let node = ca.issue(identity(2).node_id(), NOW, DAY);
    assert_eq!(CaCertificate::from_der(node.der()), Err(CaFault::NotCa));
    for broken in [&ca.certificate.der()[1..], &[], b"x"] {
        assert_eq!(CaCertificate::from_der(broken), Err(CaFault::Unreadable));
    }
    let mut longer = ca.certificate.der().to_vec();
    longer.push(0);
    assert_eq!(CaCertificate::from_der(&longer), Err(CaFault::Unreadable));
}
