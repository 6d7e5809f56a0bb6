//! Room: how much the system lets a UDP socket buffer, whether it takes datagrams in batches, and what would permit more. The log says
//! it when a node starts, `cogmesh doctor` whenever somebody asks.

use std::{io, net::UdpSocket};

use quinn::udp::UdpSocketState;
use socket2::{Domain, Protocol, Socket, Type};

/// What is asked of the system for each socket. The usual default, 208 KiB, overflows on a burst from a few peers; the
/// system gives as much of it as it permits.
pub const BUFFER_BYTES: usize = 4 << 20;
/// Where Linux looks for settings when it starts; the number is after those of distributions.
const SETTINGS_FILE: &str = "/etc/sysctl.d/90-cogmesh.conf";

/// Bytes that the system lets a UDP socket buffer, each where it is less than the node asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Of what was received.
    pub receive: Option<usize>,
    /// Of what is to be sent.
    pub send: Option<usize>,
}

impl Room {
    /// Asks with a socket of its own, which is bound to nothing.
    ///
    /// # Errors
    /// The system gives no UDP socket.
    pub fn look() -> io::Result<Self> {
        Ok(Self::ask(&Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?))
    }

    /// Gives a socket as much as the system permits, and says what that is.
    pub(super) fn ask(socket: &Socket) -> Self {
        // Less room than asked for is slower, and no reason not to start.
        drop(socket.set_recv_buffer_size(BUFFER_BYTES));
        drop(socket.set_send_buffer_size(BUFFER_BYTES));
        // Linux tells the double of what may be used (socket(7)); others tell what it is.
        let permitted = |got: io::Result<usize>| match cfg!(any(target_os = "linux", target_os = "android")) {
            true => got.map(|bytes| bytes / 2),
            false => got,
        };
        let few = |got: io::Result<usize>| permitted(got).ok().filter(|bytes| *bytes < BUFFER_BYTES);
        Self { receive: few(socket.recv_buffer_size()), send: few(socket.send_buffer_size()) }
    }

    /// What is too little and how to get more, as two sentences; `None` where all that is asked for is given.
    #[must_use]
    pub fn lack(self) -> Option<(String, String)> {
        let each = [(self.receive, "receive", "rmem"), (self.send, "send", "wmem")];
        let few: Vec<_> =
            each.iter().filter_map(|(bytes, what, name)| Some(((*bytes)?, what, name))).collect();
        if few.is_empty() {
            return None;
        }
        let buffers: Vec<String> =
            few.iter().map(|(bytes, what, _)| format!("{what} buffers of {} KiB", bytes >> 10)).collect();
        let settings: Vec<String> =
            few.iter().map(|(_, _, name)| format!("net.core.{name}_max={BUFFER_BYTES}")).collect();
        let found = format!(
            "the system lets UDP sockets have {} only, of {} KiB that are asked for; where bursts overflow them, packets are sent again",
            buffers.join(" and "),
            BUFFER_BYTES >> 10
        );
        let settings = settings.join(" ");
        let remedy = format!(
            "`sysctl -w {settings}` permits more, for a node that is started after it; `printf '%s\\n' {settings} > {SETTINGS_FILE}` makes it last"
        );
        Some((found, remedy))
    }
}

/// Datagrams that the system takes from a UDP socket in one call (segmentation offload); 1 where it takes them one by one.
///
/// # Errors
/// The system gives no UDP socket.
pub fn batch_datagrams() -> io::Result<usize> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    Ok(UdpSocketState::new((&socket).into())?.max_gso_segments())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_that_gives_little_room_is_told_of_with_what_would_give_more() {
        let (found, remedy) = Room { receive: Some(208 << 10), send: None }.lack().unwrap();
        assert!(found.contains("receive buffers of 208 KiB"), "{found}");
        assert!(
            remedy.contains("sysctl -w net.core.rmem_max=4194304` ") && !remedy.contains("wmem"),
            "{remedy}"
        );
        assert!(remedy.contains("> /etc/sysctl.d/"), "{remedy}");
        let (found, remedy) = Room { receive: Some(1 << 20), send: Some(1 << 20) }.lack().unwrap();
        assert!(found.contains(" and send buffers of 1024 KiB"), "{found}");
        assert!(remedy.contains("rmem_max=4194304 net.core.wmem_max=4194304"), "{remedy}");
        assert_eq!(Room::default().lack(), None);
    }

    #[test]
    fn a_socket_of_ours_is_told_what_the_system_permits() {
        let room = Room::look().unwrap();
        assert!(room.receive.is_none_or(|bytes| bytes > 0 && bytes < BUFFER_BYTES), "{room:?}");
        assert!(batch_datagrams().unwrap() >= 1);
    }
}
