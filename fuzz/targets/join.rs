//! Whatever bytes are called a ticket, a newcomer's question, the answer to it, or a certificate: no panic, what parses is written again as
//! it was, and only the right question gets a certificate.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use cogmesh::{
    ledger::{Policy, types::Millis},
    log::{CaHash, Identity, NodeId, Ticket, Token},
    net::{
        certificates::NodeCertificate,
        join::{Asker, JoinDesk, JoinRefusal, answer, check_answer, read_answer},
        membership::{CaCertificate, validity},
        tls::node_of,
    },
};
use rustls::pki_types::CertificateDer;

const NOW: Millis = Millis(1_795_478_400_000);
const TOKEN: Token = Token([4; Token::BYTES]);
const JOIN: &[u8] = b"cogmesh join v1\0";
const RENEW: &[u8] = b"cogmesh renew v1\0";

/// Says whether the bytes were taken for what they are said to be.
pub(crate) fn check(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    match kind % 5 {
        0 => ticket(bytes),
        1 => std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<Ticket>().is_ok()),
        2 => heard(bytes),
        3 => certificate(bytes),
        _ => [Asker::Guest, Asker::Member]
            .into_iter()
            .fold(false, |taken, asker| question(bytes, asker) | taken),
    }
}

fn ticket(bytes: &[u8]) -> bool {
    let Ok(ticket) = Ticket::parse(bytes) else { return false };
    assert_eq!(ticket.to_bytes(), bytes);
    assert_eq!(ticket.to_string().parse(), Ok(ticket));
    true
}

/// What an inviter answered. It has no other certificate to give than those that the CA signed for this node.
fn heard(answer: &[u8]) -> bool {
    let Ok((ca, certificate)) = read_answer(answer) else { return false };
    if let Ok(checked) = check_answer(&NEWCOMER, DESK.ca.hash(), answer, Arc::new(|| NOW)) {
        assert_eq!(checked, (ca, certificate));
        assert_eq!((checked.0.hash(), &checked.1), (DESK.ca.hash(), &DESK.certificate));
    }
    true
}

fn certificate(bytes: &[u8]) -> bool {
    let node = node_of(&CertificateDer::from(bytes), &[]);
    if let Ok(ca) = CaCertificate::from_der(bytes) {
        assert_eq!(ca.der(), bytes);
        assert!(validity(bytes).is_ok(), "who reads a CA reads its dates");
        return true;
    }
    validity(bytes).is_ok() || node.is_ok()
}

/// Asks a desk that gave out one token.
fn question(bytes: &[u8], asker: Asker) -> bool {
    let (answered, said) = answer(&*DESK, (DESK.node, asker), bytes);
    let knows_token = bytes == [JOIN, &TOKEN.0].concat();
    let may_renew = asker == Asker::Member && bytes == RENEW;
    assert_eq!(said.is_ok(), knows_token || may_renew);
    match (read_answer(&answered), said) {
        (Ok((ca, certificate)), Ok(())) => {
            assert_eq!((&ca, &certificate), (&DESK.ca, &DESK.certificate));
            true
        }
        (Err(error), Err(refusal)) => {
            assert_eq!(error.to_string(), refusal.to_string(), "the newcomer hears what the desk said");
            false
        }
        (read, said) => panic!("{said:?} is read as {read:?}"),
    }
}

static NEWCOMER: LazyLock<Identity> = LazyLock::new(|| Identity::from_seed(&[2; 32]).unwrap());

/// Certificates are made once: nothing may differ from run to run.
static DESK: LazyLock<Desk> = LazyLock::new(|| {
    let (secret, node) = (Identity::from_seed(&[1; 32]).unwrap(), NEWCOMER.node_id());
    let ca = CaCertificate::create(&secret, &"lab".parse().unwrap()).unwrap();
    let certificate = ca.issue(&secret, node, (NOW, Duration::from_secs(86_400))).unwrap();
    Desk { ca, node, certificate }
});

#[derive(Debug)]
struct Desk {
    ca: CaCertificate,
    node: NodeId,
    certificate: NodeCertificate,
}

impl JoinDesk for Desk {
    fn invites(&self) -> bool {
        true
    }

    fn can_sign(&self) -> bool {
        true
    }

    fn renew(&self, node: NodeId) -> Result<NodeCertificate, JoinRefusal> {
        assert_eq!(node, self.node);
        Ok(self.certificate.clone())
    }

    fn join(&self, node: NodeId, token: &Token) -> Result<NodeCertificate, JoinRefusal> {
        assert_eq!(node, self.node);
        if *token == TOKEN { Ok(self.certificate.clone()) } else { Err(JoinRefusal::Unknown) }
    }

    fn ca(&self) -> &CaCertificate {
        &self.ca
    }
}

/// One value of each kind, as bytes that are taken.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let ticket = |addresses: &[&str]| Ticket {
        name: "lab".parse().unwrap(),
        policy: Ticket::policy_hash(&Policy::default()),
        ca: CaHash([2; 32]),
        inviter: DESK.node,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        token: TOKEN,
        expires: NOW,
    };
    let (short, long) = (ticket(&[]), ticket(&["192.0.2.7:8888", "[2001:db8::7]:8888"]));
    let own = NodeCertificate::self_signed(&NEWCOMER).unwrap();
    let (given, _) = answer(&*DESK, (DESK.node, Asker::Member), RENEW);
    assert!(check_answer(&NEWCOMER, DESK.ca.hash(), &given, Arc::new(|| NOW)).is_ok());
    [
        (0, short.to_bytes()),
        (0, long.to_bytes()),
        (1, short.to_string().into_bytes()),
        (1, long.to_string().into_bytes()),
        (2, given),
        (3, own.der().to_vec()),
        (3, DESK.certificate.der().to_vec()),
        (3, DESK.ca.der().to_vec()),
        (4, [JOIN, &TOKEN.0].concat()),
        (4, RENEW.to_vec()),
    ]
    .into_iter()
    .map(|(kind, bytes)| [vec![kind], bytes].concat())
    .collect()
}
