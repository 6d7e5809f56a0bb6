//! Preflight: whether this machine lets us use mDNS on an interface at all.
//! The mDNS library keeps such failures to itself (it logs them at debug level and stays silent), so we try first.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::{
    interfaces::{Net, Nic},
    trouble::Trouble,
};

pub(super) const PORT: u16 = 5353;
pub(super) const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
pub(super) const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// What keeps this machine from using mDNS on an interface, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub(super) kind: Trouble,
    /// What it is.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
}

impl Obstacle {
    /// Both in one sentence.
    pub(super) fn sentence(&self) -> String {
        format!("{}: {}", self.found, self.remedy)
    }
}

/// Tries what the library is about to do, in each IP version that the interface has. What was joined is left again when it returns.
pub(super) fn preflight(nic: &Nic, nets: &BTreeSet<Net>) -> Result<(), Obstacle> {
    let v4 = nets.iter().any(|net| net.ip.is_ipv4());
    let v6 = nets.iter().any(|net| net.ip.is_ipv6());
    if v4 {
        drop(join_v4(nic)?);
    }
    if v6 {
        drop(join_v6(nic)?);
    }
    Ok(())
}

/// A socket that hears what is said in the group of mDNS, as long as it is there.
pub(super) fn join_v4(nic: &Nic) -> Result<Socket, Obstacle> {
    let socket = bound(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, PORT).into()).map_err(|e| taken(&e))?;
    let index = InterfaceIndexOrAddress::Index(nic.index);
    socket.join_multicast_v4_n(&GROUP_V4, &index).map_err(|e| no_group(nic, &e))?;
    Ok(socket)
}

/// The same over IPv6.
pub(super) fn join_v6(nic: &Nic) -> Result<Socket, Obstacle> {
    let socket = bound(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, PORT).into()).map_err(|e| taken(&e))?;
    socket.join_multicast_v6(&GROUP_V6, nic.index).map_err(|e| no_group(nic, &e))?;
    Ok(socket)
}

fn bound(domain: Domain, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn taken(error: &io::Error) -> Obstacle {
    Obstacle {
        kind: Trouble::PortTaken,
        found: format!(
            "mDNS can't use UDP port {PORT} ({error}), which a program holds that does not share it"
        ),
        remedy: format!(
            "stop that program (`ss -ulpn sport = :{PORT}` names it), or name a peer with `--peer`"
        ),
    }
}

fn no_group(nic: &Nic, error: &io::Error) -> Obstacle {
    let name = nic.name.escape_debug();
    Obstacle {
        kind: Trouble::NoGroup,
        found: format!("mDNS can't join its multicast group on {name} ({error})"),
        remedy: format!(
            "switch multicast on (`ip link set {name} multicast on`), or name a peer with `--peer`"
        ),
    }
}
