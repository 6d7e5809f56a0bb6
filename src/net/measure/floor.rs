//! The floor: a bare UDP ping-pong between the two processes, on the addresses of the link. What it takes is the network's and the
//! system's; what QUIC and this program take comes on top.
//!
//! The port answers nobody else, and nobody with more than came: it echoes only what begins with a random token that was told over the
//! link and comes from the link's other end, with the same length, so many a second.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::coop::consume_budget,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Echo, Kind, number_in, payload};
use crate::{
    ledger::types::Millis,
    protocol::bucket::{Allowance, Bucket},
};

/// What a port takes in memory: room for one datagram.
pub(in crate::net) const FLOOR_BYTES: usize = 2 << 10;
/// Longest datagram that is echoed.
const DATAGRAM_BYTES_MAX: usize = 1_500;
/// How long a port stays open at most: the longest measurement, and what is under way at its end.
const OPEN_MAX: Duration = Duration::from_secs(605);
/// How many are echoed: the highest rate, and some more.
const ECHOES: Allowance = Allowance { burst: 2_000, per_minute: 11_000 * 60 };
/// What is sent to see whether the port can be reached, how often, and how long that is tried.
const KNOCK: u64 = u64::MAX;
const KNOCK_EVERY: Duration = Duration::from_millis(100);
const KNOCK_MAX: Duration = Duration::from_millis(600);

pub(super) type Token = [u8; 16];

/// A port for somebody else's measurement.
#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    token: Token,
    peer: IpAddr,
}

impl Port {
    /// Opens one for the other end of a link.
    pub(super) async fn open(peer: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(local(peer).await?).await?;
        let mut token = Token::default();
        rand::fill(&mut token).map_err(|_| io::ErrorKind::Other)?;
        Ok(Self { socket, token, peer: peer.ip().to_canonical() })
    }

    /// What the peer is told: where, and what its datagrams begin with.
    pub(super) fn told(&self) -> io::Result<(u16, Token)> {
        Ok((self.socket.local_addr()?.port(), self.token))
    }

    /// Echoes until it is dropped, or for as long as a measurement may take.
    pub(super) async fn echo(self) {
        // Whether it ended by itself makes no difference.
        drop(timeout(OPEN_MAX, self.echo_on()).await);
    }

    async fn echo_on(&self) {
        let begun = Instant::now();
        let mut left = Bucket::full(ECHOES, Millis::ZERO);
        let mut buffer = vec![0; FLOOR_BYTES];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer).await {
            consume_budget().await;
            let Some(datagram) = buffer.get(..length.min(DATAGRAM_BYTES_MAX + 1)) else { continue };
            let is_asked = from.ip().to_canonical() == self.peer
                && datagram.len() <= DATAGRAM_BYTES_MAX
                && datagram.starts_with(&self.token);
            let now = Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
            if is_asked && left.take(now) {
                // Waiting for room would delay the next one, which is worse than losing this one.
                let _lost = self.socket.try_send_to(datagram, from);
            }
        }
    }
}

/// The asker's end.
#[derive(Clone, Debug)]
pub(super) struct Floor {
    socket: Arc<UdpSocket>,
    token: Token,
    bytes: usize,
}

impl Floor {
    /// Knocks at the peer's port until something comes back.
    ///
    /// # Errors
    /// Why there is no floor, for people.
    pub(super) async fn reach(
        peer: SocketAddr,
        port: u16,
        token: Token,
        bytes: usize,
    ) -> Result<Self, String> {
        let mut place = peer;
        place.set_port(port);
        let socket = async {
            let socket = UdpSocket::bind(local(peer).await?).await?;
            socket.connect(place).await?;
            io::Result::Ok(socket)
        };
        let socket = socket.await.map_err(|error| format!("no UDP socket can be had here: {error}"))?;
        let floor = Self { socket: Arc::new(socket), token, bytes };
        match timeout(KNOCK_MAX, floor.knock()).await {
            Ok(()) => Ok(floor),
            Err(_) => Err(format!(
                "nothing comes back from UDP port {port} of the peer, which it opened for this measurement; a firewall may drop what \
                 is not sent to the node's own port"
            )),
        }
    }

    async fn knock(&self) {
        let mut every = interval(KNOCK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = [0; FLOOR_BYTES];
        loop {
            tokio::select! {
                _ = every.tick() => {
                    // Refused or unreachable now may be reachable at the next knock.
                    let _unreached = self.socket.send(&payload(&self.token, KNOCK, self.bytes)).await;
                }
                Ok(length) = self.socket.recv(&mut buffer) => {
                    if self.number_of(buffer.get(..length)) == Some(KNOCK) {
                        return;
                    }
                }
            }
        }
    }

    /// Sends one. What can't be sent at once is lost.
    pub(super) fn ask(&self, number: u64) {
        let _lost = self.socket.try_send(&payload(&self.token, number, self.bytes));
    }

    /// Tells what comes back.
    pub(super) async fn listen(self, echoes: mpsc::Sender<Echo>) {
        let mut buffer = [0; FLOOR_BYTES];
        loop {
            // An ICMP error comes as an error of the next call, and says nothing about what follows.
            if let Ok(length) = self.socket.recv(&mut buffer).await {
                let at = Instant::now();
                if let Some(number) = self.number_of(buffer.get(..length)) {
                    let _lost = echoes.try_send(Echo { kind: Kind::Floor, number, at });
                }
            }
            consume_budget().await;
        }
    }

    fn number_of(&self, datagram: Option<&[u8]>) -> Option<u64> {
        datagram?.strip_prefix(&self.token).and_then(number_in)
    }
}

/// The address of this machine from which that one is reached, with any port. Nothing is sent for it.
///
/// # Errors
/// There is none.
///
/// # Cancel safety
/// Nothing is lost.
pub async fn local(peer: SocketAddr) -> io::Result<SocketAddr> {
    let any = match peer {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(peer).await?;
    let mut local = socket.local_addr()?;
    local.set_port(0);
    Ok(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn port() -> (SocketAddr, Token, tokio::task::JoinHandle<()>) {
        let port = Port::open("127.0.0.1:9".parse().unwrap()).await.unwrap();
        let (number, token) = port.told().unwrap();
        (SocketAddr::from((Ipv4Addr::LOCALHOST, number)), token, tokio::spawn(port.echo()))
    }

    async fn comes_back(from: &UdpSocket) -> Option<Vec<u8>> {
        let mut buffer = [0; 4_096];
        let length = timeout(Duration::from_millis(300), from.recv(&mut buffer)).await.ok()?.unwrap();
        Some(buffer[..length].to_vec())
    }

    #[tokio::test]
    async fn a_port_echoes_what_begins_with_its_token_and_nothing_else() {
        let (at, token, _echoing) = port().await;
        let asker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        asker.connect(at).await.unwrap();
        let mut wrong = token;
        wrong[15] ^= 1;
        let long = [&token[..], &vec![0; DATAGRAM_BYTES_MAX - 15]].concat();
        for refused in [&wrong[..], &token[..15], &[], &long] {
            asker.send(refused).await.unwrap();
        }
        let whole = &long[..DATAGRAM_BYTES_MAX];
        asker.send(whole).await.unwrap();
        assert_eq!(
            comes_back(&asker).await.as_deref(),
            Some(whole),
            "the first that comes is the first that may"
        );
        assert_eq!(comes_back(&asker).await, None);
    }

    #[tokio::test]
    async fn a_port_does_not_answer_another_address_than_the_links() {
        let (at, token, _echoing) = port().await;
        // The whole of 127.0.0.0/8 is this machine.
        let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        other.send_to(&token, at).await.unwrap();
        assert_eq!(comes_back(&other).await, None);
        let asker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        asker.send_to(&token, at).await.unwrap();
        assert_eq!(comes_back(&asker).await.as_deref(), Some(&token[..]));
    }

    #[tokio::test]
    async fn a_port_that_nobody_echoes_is_no_floor_and_the_reason_says_so() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap();
        let why = Floor::reach(at, at.port(), [1; 16], 64).await.unwrap_err();
        assert!(why.contains("firewall") && why.contains(&at.port().to_string()), "{why}");
    }
}
