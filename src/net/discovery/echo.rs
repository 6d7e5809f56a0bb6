//! Echo: whether this machine hears its own multicast. The one question that an interface gets here is sent with loopback of multicast on, so
//! the system hands it back to every socket of the group, through the firewall's rules for what goes out and what comes in.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket},
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{
    interfaces::{Net, Nic},
    preflight::{GROUP_V4, GROUP_V6, Obstacle, PORT, join_v4, join_v6},
    trouble::Trouble,
};

/// How long the echo may take. It takes microseconds; a machine that is busy needs longer.
const ECHO_MAX: Duration = Duration::from_secs(2);
/// Longest packet of mDNS (RFC 6762, 17).
const PACKET_BYTES_MAX: usize = 9_000;
/// mDNS is sent with this, and routers pass none of it on (RFC 6762, 11).
const HOPS: u32 = 255;

/// A version of the Internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Asks on that interface, from one of its addresses, for a name that nobody has, and waits until the question comes back.
pub(super) fn echo(nic: &Nic, net: Net) -> Result<(), Obstacle> {
    let (family, socket) = match net.ip {
        IpAddr::V4(_) => (Family::V4, join_v4(nic)?),
        IpAddr::V6(_) => (Family::V6, join_v6(nic)?),
    };
    let group = match net.ip {
        IpAddr::V4(ip) => aim_v4(&socket, ip),
        IpAddr::V6(_) => aim_v6(&socket, nic.index),
    };
    let question = question();
    let asked = group.and_then(|group| {
        let socket = UdpSocket::from(socket);
        socket.send_to(&question, group)?;
        comes_back(&socket, &question, ECHO_MAX)
    });
    match asked {
        Ok(true) => Ok(()),
        Ok(false) => Err(Obstacle::silence(
            &nic.name,
            format!("its own multicast over {family} does not come back to this machine"),
        )),
        Err(error) => {
            Err(Obstacle::silence(&nic.name, format!("multicast over {family} can't be sent ({error})")))
        }
    }
}

fn aim_v4(socket: &Socket, from: Ipv4Addr) -> io::Result<SocketAddr> {
    socket.set_multicast_if_v4(&from)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    Ok((GROUP_V4, PORT).into())
}

fn aim_v6(socket: &Socket, index: u32) -> io::Result<SocketAddr> {
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_loop_v6(true)?;
    socket.set_multicast_hops_v6(HOPS)?;
    Ok(SocketAddrV6::new(GROUP_V6, PORT, 0, index).into())
}

fn comes_back(socket: &UdpSocket, question: &[u8], patience: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    let mut packet = [0; PACKET_BYTES_MAX];
    loop {
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut packet) {
            // Whatever else is said on the LAN is not for us.
            Ok(bytes) if packet.get(..bytes) == Some(question) => return Ok(true),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A query for a service instance with a name that is made anew each time, so that it can be told from all others, and nobody answers.
fn question() -> Vec<u8> {
    use std::hash::{BuildHasher, RandomState};
    let instance = format!("doctor-{:016x}", RandomState::new().hash_one(0_u8));
    // One question, and nothing else (RFC 1035, 4.1.1).
    let mut packet = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [instance.as_str(), "_cogmesh", "_udp", "local"] {
        // Each is far below the 63 bytes that a label may have.
        packet.push(u8::try_from(label.len()).unwrap_or(0));
        packet.extend_from_slice(label.as_bytes());
    }
    // The root; type SRV, class IN.
    packet.extend_from_slice(&[0, 0, 33, 0, 1]);
    packet
}

impl Obstacle {
    /// What is said on that interface is not heard there.
    #[must_use]
    pub fn silence(interface: &str, found: String) -> Self {
        let name = interface.escape_debug();
        Self {
            kind: Trouble::NotAnnounced,
            found,
            remedy: format!(
                "let UDP port {PORT} through this machine's firewall on {name}, in and out (`ufw allow in on {name} proto udp to any port {PORT}`, \
                 `firewall-cmd --add-service=mdns`; `nft list ruleset` shows what else is dropped), or name a peer with `--peer`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_no_echo() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (here, question) = (socket.local_addr().unwrap(), question());
        socket.send_to(b"something else", here).unwrap();
        assert!(!comes_back(&socket, &question, Duration::from_millis(20)).unwrap());
        socket.send_to(b"something else", here).unwrap();
        socket.send_to(&question, here).unwrap();
        assert!(comes_back(&socket, &question, ECHO_MAX).unwrap());
    }

    #[test]
    fn a_question_is_a_dns_message_of_its_own() {
        let packet = question();
        assert_ne!(packet, question());
        assert_eq!(packet[..12], [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!((packet[12], &packet[13..20]), (23, &b"doctor-"[..]));
        assert!(packet.ends_with(b"\x08_cogmesh\x04_udp\x05local\0\0\x21\0\x01"), "{packet:?}");
    }
}
