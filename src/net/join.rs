//! Certificates of a closed federation: one question and one answer over a connection of its own, whose protocol (`cogmesh-join/1`) only a
//! node speaks that holds the CA's key.
//!
//! To join: who asks is no member yet. It shows a certificate that it made itself, and a token; it comes that far only while
//! invitations are open. Who answers is the node that its ticket names: the handshake proves that, and the answer must come from the CA
//! that the ticket names. To renew: both are members, and the handshake proves that.
//! Source: protocol.md, Membership.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use quinn::{Connection, VarInt, crypto::rustls::HandshakeData};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use zeroize::Zeroizing;

use super::{
    certificates::NodeCertificate,
    connection::sentence,
    links::canonical,
    membership::{CaCertificate, CaFault, Membership, WallClock},
    tls::{CertificateFault, Credentials, TlsError},
};
use crate::log::{CaHash, Identity, NodeId, Ticket, Token};

/// What joining is called in the handshake.
pub(super) const JOIN_ALPN: &[u8] = b"cogmesh-join/1";
/// What the question of a newcomer begins with; the token follows.
const JOIN: &[u8; 16] = b"cogmesh join v1\0";
/// The question of a member whose certificate grows old.
const RENEW: &[u8; 17] = b"cogmesh renew v1\0";
/// Bytes of the longer question.
const QUESTION_BYTES_MAX: usize = JOIN.len() + Token::BYTES;
/// Bytes of the longest answer: two certificates with their lengths.
const ANSWER_BYTES_MAX: usize = 36 << 10;
/// How long question and answer may take together: a disk syncs in between.
const CONVERSATION_MAX: Duration = Duration::from_secs(5);
/// How long a newcomer tries all addresses of its ticket.
const DIAL_MAX: Duration = Duration::from_secs(10);

/// Who decides about newcomers. Its methods may block.
pub trait JoinDesk: fmt::Debug + Send + Sync {
    /// Whether there are invitations that somebody could use.
    fn invites(&self) -> bool;

    /// Whether the CA's key is open.
    fn can_sign(&self) -> bool;

    /// A new certificate for a member.
    ///
    /// # Errors
    /// Why not.
    fn renew(&self, node: NodeId) -> Result<NodeCertificate, JoinRefusal>;

    /// Makes the node a member, where the token is good; it is good once.
    ///
    /// # Errors
    /// Why not.
    fn join(&self, node: NodeId, token: &Token) -> Result<NodeCertificate, JoinRefusal>;

    /// The federation's CA.
    fn ca(&self) -> &CaCertificate;
}

/// What somebody is who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The handshake proved that it is a member.
    Member,
    /// Anybody.
    Guest,
}

/// Why a newcomer is not let in, or a member gets no new certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// Nobody gave it, or it was cancelled.
    #[error("nobody there knows this ticket; it may have been cancelled")]
    Unknown,
    /// It was good until then.
    #[error("the ticket has expired")]
    Expired,
    /// Another node came in with it.
    #[error("the ticket was used already, by another node")]
    Used,
    /// The inviter can't sign now.
    #[error("the inviting node can't make members now; its log says why")]
    NotNow,
    /// The question was none.
    #[error("the node that was asked did not understand")]
    Malformed,
    /// It is no member any more.
    #[error("this node's membership was revoked")]
    Revoked,
}

impl JoinRefusal {
    const ALL: [Self; 6] =
        [Self::Unknown, Self::Expired, Self::Used, Self::NotNow, Self::Malformed, Self::Revoked];

    /// Its number in an answer; 0 is a certificate.
    const fn number(self) -> u8 {
        match self {
            Self::Unknown => 1,
            Self::Expired => 2,
            Self::Used => 3,
            Self::NotNow => 4,
            Self::Malformed => 5,
            Self::Revoked => 6,
        }
    }
}

/// Why a node did not become a member. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The inviter can't be reached at any of the ticket's addresses.
    #[error("the inviting node can't be reached: {}", why.join("; "))]
    Unreachable {
        /// Each address, and what happened.
        why: Vec<String>,
    },
    /// It said no.
    #[error(transparent)]
    Refused(#[from] JoinRefusal),
    /// It did not answer, or not as it should.
    #[error("the inviting node gave no answer that this version understands")]
    Answer,
    /// It answered with another CA than that of the ticket.
    #[error("the inviting node answered with another federation's CA than the ticket names")]
    OtherCa,
    /// Its CA is none.
    #[error("the inviting node's CA can't be used: {0}")]
    Ca(#[from] CaFault),
    /// Its certificate would not be taken by other members.
    #[error("the certificate from the inviting node is no use: {0}")]
    Certificate(CertificateFault),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The protocol that a handshake agreed on was this one.
pub(super) fn is_join(connection: &Connection) -> bool {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.and_then(|data| data.protocol).as_deref() == Some(JOIN_ALPN)
}

/// Answers a newcomer.
pub(super) async fn serve(desk: Arc<dyn JoinDesk>, connection: Connection, node: NodeId, asker: Asker) {
    let address = canonical(connection.remote_address());
    let conversation = async {
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let question = receive.read_to_end(QUESTION_BYTES_MAX).await.ok()?;
        let answered = spawn_blocking(move || answer(&*desk, (node, asker), &question)).await.ok()?;
        send.write_all(&answered.0).await.ok()?;
        send.finish().ok()?;
        // The newcomer closes when it has read.
        connection.closed().await;
        Some(answered.1)
    };
    let said = timeout(CONVERSATION_MAX, conversation).await.ok().flatten();
    connection.close(VarInt::from_u32(0), b"");
    match said {
        Some(Ok(())) => tracing::info!(%address, id = %node.short(), "a node got a certificate"),
        Some(Err(refusal)) => {
            tracing::warn!(%address, id = %node.short(), "a node got no certificate: {refusal}");
        }
        None => {
            tracing::debug!(%address, id = %node.short(), "a node asked for a certificate, and did not wait");
        }
    }
}

/// What the desk answers to a question, whoever sent it: the bytes, and what was decided.
pub fn answer(
    desk: &dyn JoinDesk,
    (node, asker): (NodeId, Asker),
    question: &[u8],
) -> (Vec<u8>, Result<(), JoinRefusal>) {
    let token = question.strip_prefix(JOIN).and_then(|token| <[u8; Token::BYTES]>::try_from(token).ok());
    let given = match (token, asker) {
        (Some(token), _) => desk.join(node, &Token(token)),
        (None, Asker::Member) if question == RENEW => desk.renew(node),
        (None, Asker::Member | Asker::Guest) => Err(JoinRefusal::Malformed),
    };
    match given {
        Ok(certificate) => {
            let mut out = vec![0];
            for der in [certificate.der(), desk.ca().der()] {
                // Certificates that are longer were refused when they were read.
                out.extend_from_slice(&u16::try_from(der.len()).unwrap_or(u16::MAX).to_le_bytes());
                out.extend_from_slice(der);
            }
            (out, Ok(()))
        }
        Err(refusal) => (vec![refusal.number()], Err(refusal)),
    }
}

/// Becomes a member with a ticket: asks the inviter at all of its addresses, and checks what it answers. `clock` is what the new
/// certificate's dates are held against.
///
/// # Errors
/// See [`JoinError`].
///
/// # Cancel safety
/// The ticket may be used up by then; the same node may use it again.
pub async fn join(
    identity: &Identity,
    ticket: &Ticket,
    clock: WallClock,
) -> Result<(CaCertificate, NodeCertificate), JoinError> {
    let credentials = Credentials::new(identity, &Membership::Open)?;
    let question = Zeroizing::new([&JOIN[..], &ticket.token.0].concat());
    let answer = question_of(credentials, (ticket.inviter, &ticket.addresses), question).await?;
    check_answer(identity, ticket.ca, &answer, clock)
}

/// Gets a new certificate from a member that holds the CA's key.
///
/// # Errors
/// See [`JoinError`]; most members hold no CA key and speak another protocol.
///
/// # Cancel safety
/// Nothing is lost.
pub async fn renew(
    identity: &Identity,
    membership: &Membership,
    (node, addresses): (NodeId, &[SocketAddr]),
) -> Result<NodeCertificate, JoinError> {
    let Membership::Closed { ca, clock, .. } = membership else {
        return Err(JoinError::Answer);
    };
    let credentials = Credentials::new(identity, membership)?;
    let answer = question_of(credentials, (node, addresses), Zeroizing::new(RENEW.to_vec())).await?;
    check_answer(identity, ca.hash(), &answer, Arc::clone(clock)).map(|(_, certificate)| certificate)
}

/// Asks that node, at whichever of its addresses answers first.
async fn question_of(
    credentials: Credentials,
    (node, addresses): (NodeId, &[SocketAddr]),
    question: Zeroizing<Vec<u8>>,
) -> Result<Vec<u8>, JoinError> {
    let credentials = Arc::new(credentials);
    let mut tries = JoinSet::new();
    for address in addresses {
        let (credentials, address, inviter) = (Arc::clone(&credentials), *address, node);
        tries.spawn(async move {
            let connecting = timeout(DIAL_MAX, connect(&credentials, address, inviter));
            let connected = connecting.await.map_err(|_| "no answer".to_owned());
            connected.and_then(|connected| connected).map_err(|why| format!("{}: {why}", canonical(address)))
        });
    }
    let mut why = vec![];
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok((endpoint, connection))) => {
                let answer = timeout(CONVERSATION_MAX, ask(&connection, &question)).await;
                connection.close(VarInt::from_u32(0), b"");
                // So that the other side hears of the end.
                let _late = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
                return answer.ok().flatten().ok_or(JoinError::Answer);
            }
            Ok(Err(fault)) => why.push(fault),
            // The runtime is ending.
            Err(_) => {}
        }
    }
    Err(JoinError::Unreachable { why })
}

async fn connect(
    credentials: &Credentials,
    address: SocketAddr,
    inviter: NodeId,
) -> Result<(quinn::Endpoint, Connection), String> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let endpoint = quinn::Endpoint::client(any).map_err(|error| error.to_string())?;
    let (crypto, found) = credentials.joining(inviter).map_err(|error| error.to_string())?;
    let config = quinn::ClientConfig::new(crypto);
    let connecting = endpoint.connect_with(config, address, "cogmesh").map_err(|error| error.to_string())?;
    match connecting.await {
        Ok(connection) => Ok((endpoint, connection)),
        Err(error) => Err(found.get().map_or_else(|| sentence(&error), ToString::to_string)),
    }
}

async fn ask(connection: &Connection, question: &[u8]) -> Option<Vec<u8>> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(question).await.ok()?;
    send.finish().ok()?;
    receive.read_to_end(ANSWER_BYTES_MAX).await.ok()
}

/// The certificates in an answer; nothing is checked yet but that they can be read as such.
///
/// # Errors
/// What was said instead, or that it is no answer.
pub fn read_answer(answer: &[u8]) -> Result<(CaCertificate, NodeCertificate), JoinError> {
    let (&number, rest) = answer.split_first().ok_or(JoinError::Answer)?;
    if number != 0 {
        let refusal = JoinRefusal::ALL.into_iter().find(|refusal| refusal.number() == number);
        return Err(refusal.map_or(JoinError::Answer, JoinError::Refused));
    }
    let (certificate, rest) = split(rest).ok_or(JoinError::Answer)?;
    let (ca, rest) = split(rest).ok_or(JoinError::Answer)?;
    if !rest.is_empty() {
        return Err(JoinError::Answer);
    }
    Ok((CaCertificate::from_der(ca)?, NodeCertificate::from_der(certificate.to_vec())))
}

/// The certificates in an answer, where other members would take that of this node, and the CA is the one that was wanted.
///
/// # Errors
/// See [`JoinError`].
pub fn check_answer(
    identity: &Identity,
    wanted: CaHash,
    answer: &[u8],
    clock: WallClock,
) -> Result<(CaCertificate, NodeCertificate), JoinError> {
    let (ca, certificate) = read_answer(answer)?;
    if ca.hash() != wanted {
        return Err(JoinError::OtherCa);
    }
    let membership = Membership::Closed { ca: ca.clone(), certificate: certificate.clone(), clock };
    match Credentials::new(identity, &membership) {
        Ok(_) => Ok((ca, certificate)),
        Err(TlsError::Own(fault)) => Err(JoinError::Certificate(fault)),
        Err(other) => Err(other.into()),
    }
}

/// Bytes with their length before them, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}
