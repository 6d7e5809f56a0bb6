//! Sockets: the UDP ports that a node listens on and dials from.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Once,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{
    config::{ListenOn, PORT_FIRST, PORT_LAST},
    room::Room,
};

/// Why no socket could be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The port that the user named is taken.
    #[error("UDP port {port} is taken; end what uses it, or choose another with `--port`")]
    PortTaken {
        /// Which.
        port: u16,
    },
    /// All the ports that are tried are taken.
    #[error("UDP ports {PORT_FIRST} to {PORT_LAST} are all taken; choose another with `--port`")]
    PortsTaken,
    /// There is no such interface.
    #[error("there is no network interface `{}`", name.escape_debug())]
    NoInterface {
        /// What was named.
        name: String,
    },
    /// Anything else.
    #[error("can't listen on {place}")]
    Io {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where one socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Every address of the machine.
    Any,
    /// Every address of one interface, also those that it gets later.
    Device(String),
    /// One address; an IPv6 one of a single link has its scope. The port does not count.
    At(SocketAddr),
}

/// Opens the sockets of a node; all have the same port.
pub(super) fn open(listen: &ListenOn, port: Option<u16>) -> Result<Vec<UdpSocket>, SocketError> {
    let places = places(listen)?;
    if let Some(port) = port {
        return match open_all(&places, port) {
            Err(SocketError::Io { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {
                Err(SocketError::PortTaken { port })
            }
            opened => opened,
        };
    }
    for port in PORT_FIRST..=PORT_LAST {
        match open_all(&places, port) {
            Err(SocketError::Io { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
            opened => return opened,
        }
    }
    Err(SocketError::PortsTaken)
}

/// The port that a node would get there now. Nothing stays open, and nothing is sent.
///
/// # Errors
/// Why it would get none.
pub fn free_port(listen: &ListenOn, port: Option<u16>) -> Result<u16, SocketError> {
    let sockets = open(listen, port)?;
    let first = sockets.first().ok_or(SocketError::PortsTaken)?;
    let local =
        first.local_addr().map_err(|source| SocketError::Io { place: "any address".to_owned(), source })?;
    Ok(local.port())
}

/// For a named interface: one socket of both families bound to the device, which stays right when the interface changes
/// its addresses. Where the system does not permit that (Linux before 5.7, other systems): one for each address it has now.
fn places(listen: &ListenOn) -> Result<Vec<Place>, SocketError> {
    match listen {
        ListenOn::Everywhere => Ok(vec![Place::Any]),
        ListenOn::Loopback => Ok(vec![Place::At((Ipv4Addr::LOCALHOST, 0).into())]),
        ListenOn::At(address) => Ok(vec![Place::At(*address)]),
        ListenOn::Interfaces(names) => {
            let mut places = vec![];
            for name in names {
                places.extend(places_of(name)?);
            }
            Ok(places)
        }
    }
}

fn places_of(name: &str) -> Result<Vec<Place>, SocketError> {
    let device = Place::Device(name.to_owned());
    match bind(&device, 0) {
        Ok(_) => Ok(vec![device]),
        Err(error) if is_no_device(&error) => Err(SocketError::NoInterface { name: name.to_owned() }),
        Err(_) => {
            let found = if_addrs::get_if_addrs().map_err(|source| fault(&device, source))?;
            let here = found.into_iter().filter(|interface| interface.name == name);
            let places: Vec<Place> = here.map(|interface| Place::At((interface.ip(), 0).into())).collect();
            if places.is_empty() {
                return Err(SocketError::NoInterface { name: name.to_owned() });
            }
            Ok(places)
        }
    }
}

fn open_all(places: &[Place], port: u16) -> Result<Vec<UdpSocket>, SocketError> {
    let mut sockets = vec![];
    let mut port = port;
    for place in places {
        let socket = bind(place, port).map_err(|source| fault(place, source))?;
        // Where any port would do, the first socket chooses for all.
        port = socket.local_addr().map_err(|source| fault(place, source))?.port();
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind(place: &Place, port: u16) -> io::Result<UdpSocket> {
    match place {
        Place::At(address) => {
            let mut address = *address;
            address.set_port(port);
            bound(address, None)
        }
        Place::Any => both_families(port, None),
        Place::Device(name) => both_families(port, Some(name)),
    }
}

/// One socket for IPv6 and IPv4; for IPv4 alone where the machine has no IPv6.
fn both_families(port: u16, device: Option<&str>) -> io::Result<UdpSocket> {
    match bound(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port), device) {
        Err(error) if is_no_ipv6(&error) => {
            bound(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), device)
        }
        socket => socket,
    }
}

fn bound(address: SocketAddr, device: Option<&str>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Said aloud: the default differs between systems.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if let Some(device) = device {
        bind_device(&socket, device)?;
    }
    hint_at_room(Room::ask(&socket));
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Says, once, what would permit more: where bursts overflow a buffer, packets are lost and sent again.
fn hint_at_room(room: Room) {
    static SAID: Once = Once::new();
    if let Some((found, remedy)) = room.lack() {
        SAID.call_once(|| tracing::info!("{found}: {remedy}"));
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind_device(socket: &Socket, device: &str) -> io::Result<()> {
    socket.bind_device(Some(device.as_bytes()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bind_device(_socket: &Socket, _device: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// ENODEV and ENXIO have no kind of their own; their numbers are the same on all Unix systems.
fn is_no_device(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(6 | 19))
}

/// The family is unknown to the system, or switched off: an address that can't be assigned.
fn is_no_ipv6(error: &io::Error) -> bool {
    let family_unknown = matches!(error.raw_os_error(), Some(EAFNOSUPPORT_LINUX | EAFNOSUPPORT_BSD));
    family_unknown
        || matches!(
            error.kind(),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
        )
}

const EAFNOSUPPORT_LINUX: i32 = 97;
const EAFNOSUPPORT_BSD: i32 = 47;

fn fault(place: &Place, source: io::Error) -> SocketError {
    let place = match place {
        Place::Any => "any address".to_owned(),
        Place::Device(name) => format!("interface `{}`", name.escape_debug()),
        Place::At(address) => address.ip().to_string(),
    };
    SocketError::Io { place, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_port_that_is_taken_is_an_error_and_an_unnamed_one_gives_way() {
        let first = open(&ListenOn::Loopback, None).unwrap();
        let taken = first[0].local_addr().unwrap().port();
        assert!((PORT_FIRST..=PORT_LAST).contains(&taken));
        let error = open(&ListenOn::Loopback, Some(taken)).unwrap_err();
        assert!(error.to_string().contains("--port"), "{error}");
        let second = open(&ListenOn::Loopback, None).unwrap();
        assert!(second[0].local_addr().unwrap().port() > taken);
    }

    #[test]
    fn an_interface_that_does_not_exist_is_named() {
        let error = open(&ListenOn::Interfaces(vec!["no-such0".to_owned()]), Some(0)).unwrap_err();
        assert_eq!(error.to_string(), "there is no network interface `no-such0`");
    }

    #[test]
    fn everywhere_takes_ipv4_and_ipv6_on_one_socket_where_there_is_ipv6() {
        let sockets = open(&ListenOn::Everywhere, Some(0)).unwrap();
        let port = sockets[0].local_addr().unwrap().port();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", ("127.0.0.1", port)).unwrap();
        sockets[0].set_nonblocking(false).unwrap();
        assert_eq!(sockets[0].recv_from(&mut [0; 8]).unwrap().0, 1);
    }
}
