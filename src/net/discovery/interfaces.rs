//! Interfaces: which of this machine's are announced on, and when they change.
//! The only file that asks the operating system for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr},
};

/// Which interfaces discovery uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// All that lead to a LAN: not those that are down, loopback, point-to-point, or made by containers,
    /// virtual machines and VPNs.
    All,
    /// These, whatever their names look like.
    Named(Vec<String>),
    /// 127.0.0.1 only. The mDNS library still asks the kernel to join its group on every interface for an instant,
    /// so a membership report may leave the machine; no announcement does.
    Loopback,
}

/// Beginnings of the names that containers, virtual machines and VPNs give their interfaces. What they lead to is on
/// this machine or behind a tunnel that carries no multicast; announced addresses there cost others a vain dial each.
const VIRTUAL_PREFIXES: [&str; 33] = [
    "docker",
    "br-",
    "veth",
    "virbr",
    "vnet",
    "cni",
    "cali",
    "cilium",
    "flannel",
    "weave",
    "kube",
    "podman",
    "lxc",
    "lxd",
    "incus",
    "vmnet",
    "vboxnet",
    "tun",
    "tap",
    "wg",
    "tailscale",
    "nebula",
    "zt",
    "utun",
    "ppp",
    "ipsec",
    "vxlan",
    "geneve",
    "gre",
    "sit",
    "ifb",
    "awdl",
    "llw",
];

/// One interface. After it went and came back, its index is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nic {
    /// As the operating system calls it.
    pub(super) name: String,
    /// The scope of its link-local addresses.
    pub(super) index: u32,
}

/// An address of an interface, with the network that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Net {
    /// The address.
    pub ip: IpAddr,
    /// The length of its network's prefix in bits.
    pub prefix: u8,
}

impl Net {
    /// Whether an address is on this network.
    pub(super) fn contains(&self, other: IpAddr) -> bool {
        match (self.ip, other) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                same_prefix(ours.to_bits().into(), other.to_bits().into(), self.prefix.saturating_add(96))
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                same_prefix(ours.to_bits(), other.to_bits(), self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether an address is this network's broadcast address.
    pub(super) fn broadcasts(&self, other: IpAddr) -> bool {
        let (IpAddr::V4(_), IpAddr::V4(v4)) = (self.ip, other) else {
            return false;
        };
        // A network of two addresses or one has no broadcast address (RFC 3021).
        let hosts = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        self.prefix < 31 && self.contains(other) && v4 | Ipv4Addr::from_bits(hosts) == v4
    }
}

fn same_prefix(a: u128, b: u128, bits: u8) -> bool {
    let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
    a & mask == b & mask
}

/// The interfaces at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Those to announce on, with their networks.
    pub(super) announce: BTreeMap<Nic, BTreeSet<Net>>,
    /// What a change of is a change of the network: VPNs too, for a peer may be dialled through one.
    pub(super) watched: BTreeSet<(Nic, IpAddr)>,
    /// Where others may reach this machine; not what means something on one link only.
    pub(super) reachable: BTreeSet<IpAddr>,
    /// Those that are left out, and why; for people.
    pub(super) left_out: BTreeMap<String, &'static str>,
}

impl Interfaces {
    /// Looks at the interfaces now. Takes some tens of microseconds.
    ///
    /// # Errors
    ///
    /// The operating system does not tell.
    pub(super) fn look(&self) -> io::Result<Snapshot> {
        Ok(self.snapshot(&if_addrs::get_if_addrs()?))
    }

    fn snapshot(&self, interfaces: &[if_addrs::Interface]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for interface in interfaces {
            let nic = Nic { name: interface.name.clone(), index: interface.index.unwrap_or(0) };
            if self.watches(interface) {
                snapshot.watched.insert((nic.clone(), interface.ip()));
            }
            let left_out = self.leaves_out(interface);
            let leads_somewhere = left_out.is_none() || self.watches(interface);
            if leads_somewhere && !is_of_one_link(interface.ip()) {
                snapshot.reachable.insert(interface.ip());
            }
            match left_out {
                None => {
                    snapshot.announce.entry(nic).or_default().insert(net(interface));
                }
                Some(why) => {
                    snapshot.left_out.insert(nic.name, why);
                }
            }
        }
        snapshot.left_out.retain(|name, _| snapshot.announce.keys().all(|nic| nic.name != *name));
        snapshot
    }

    /// Why an interface is not announced on.
    fn leaves_out(&self, interface: &if_addrs::Interface) -> Option<&'static str> {
        // The library joins no multicast group on such an interface, whoever asks.
        let unfit = || match interface {
            i if !i.is_oper_up() => Some("down"),
            i if i.is_p2p() => Some("point-to-point"),
            _ => None,
        };
        match self {
            Self::Loopback => {
                (!(interface.is_loopback() && interface.ip().is_ipv4())).then_some("not loopback")
            }
            Self::Named(names) if !names.contains(&interface.name) => Some("not named"),
            Self::Named(_) => unfit(),
            Self::All if interface.is_loopback() => Some("loopback"),
            Self::All if is_virtual(&interface.name) => Some("of a container, virtual machine or VPN"),
            Self::All => unfit(),
        }
    }

    /// Whether a change of an interface is worth telling. Containers come and go, and no peer is reached through them.
    fn watches(&self, interface: &if_addrs::Interface) -> bool {
        let leads_out = interface.is_oper_up() && !interface.is_loopback();
        match self {
            Self::All => leads_out && (interface.is_p2p() || !is_virtual(&interface.name)),
            Self::Named(names) => leads_out && names.contains(&interface.name),
            Self::Loopback => false,
        }
    }
}

/// The addresses of this machine that other machines may reach: no loopback, and none that means something on one link alone.
#[must_use]
pub fn machine_addresses() -> BTreeSet<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let leads_out = |i: &if_addrs::Interface| {
        i.is_oper_up() && !i.is_loopback() && !is_virtual(&i.name) && !is_of_one_link(i.ip())
    };
    interfaces.iter().filter(|interface| leads_out(interface)).map(if_addrs::Interface::ip).collect()
}

fn is_of_one_link(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_virtual(name: &str) -> bool {
    VIRTUAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn net(interface: &if_addrs::Interface) -> Net {
    let prefix = match &interface.addr {
        if_addrs::IfAddr::V4(v4) => v4.prefixlen,
        if_addrs::IfAddr::V6(v6) => v6.prefixlen,
    };
    Net { ip: interface.ip(), prefix }
}

#[cfg(test)]
mod tests {
    use if_addrs::{IfAddr, IfOperStatus, Ifv4Addr, Ifv6Addr, Interface};

    use super::*;

    fn v4(name: &str, index: u32, ip: [u8; 4], prefixlen: u8) -> Interface {
        let netmask = Ipv4Addr::from_bits(u32::MAX << (32 - prefixlen));
        Interface {
            name: name.to_owned(),
            addr: IfAddr::V4(Ifv4Addr { ip: ip.into(), netmask, prefixlen, broadcast: None }),
            index: Some(index),
            oper_status: IfOperStatus::Up,
            is_p2p: false,
        }
    }

    fn link_local(name: &str, index: u32) -> Interface {
        let addr = IfAddr::V6(Ifv6Addr {
            ip: "fe80::1".parse().unwrap(),
            netmask: "ffff:ffff:ffff:ffff::".parse().unwrap(),
            prefixlen: 64,
            broadcast: None,
        });
        Interface { addr, ..v4(name, index, [0; 4], 8) }
    }

    fn machine() -> Vec<Interface> {
        let down = Interface { oper_status: IfOperStatus::Down, ..v4("eth1", 3, [10, 0, 1, 5], 24) };
        let tunnel = Interface { is_p2p: true, ..v4("wg0", 9, [10, 99, 0, 2], 24) };
        vec![
            v4("lo", 1, [127, 0, 0, 1], 8),
            v4("eth0", 2, [192, 168, 1, 5], 24),
            link_local("eth0", 2),
            down,
            v4("docker0", 4, [172, 17, 0, 1], 16),
            v4("br-3f2a", 5, [172, 18, 0, 1], 16),
            link_local("veth12ab", 6),
            v4("virbr0", 7, [192, 168, 122, 1], 24),
            v4("br0", 8, [10, 1, 0, 5], 24),
            tunnel,
        ]
    }

    fn names(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.announce.keys().map(|nic| nic.name.as_str()).collect()
    }

    #[test]
    fn only_interfaces_that_lead_to_a_lan_are_announced_on() {
        let snapshot = Interfaces::All.snapshot(&machine());
        assert_eq!(names(&snapshot), ["br0", "eth0"]);
        assert_eq!(snapshot.announce.values().map(BTreeSet::len).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(snapshot.left_out.get("eth1"), Some(&"down"));
        assert_eq!(snapshot.left_out.get("docker0"), Some(&"of a container, virtual machine or VPN"));
    }

    #[test]
    fn a_named_interface_is_used_whatever_it_is_called_but_not_a_point_to_point_one() {
        let interfaces = Interfaces::Named(vec!["docker0".into(), "wg0".into()]);
        let snapshot = interfaces.snapshot(&machine());
        assert_eq!(names(&snapshot), ["docker0"]);
        assert_eq!(snapshot.left_out.get("wg0"), Some(&"point-to-point"));
        assert_eq!(snapshot.watched.len(), 2);
        let reachable: Vec<String> = snapshot.reachable.iter().map(ToString::to_string).collect();
        assert!(
            reachable.iter().all(|ip| !ip.starts_with("fe80") && !ip.starts_with("127.")),
            "{reachable:?}"
        );
        assert!(!reachable.is_empty());
    }

    #[test]
    fn loopback_is_used_where_it_is_asked_for_and_nowhere_else() {
        assert_eq!(names(&Interfaces::Loopback.snapshot(&machine())), ["lo"]);
    }

    #[test]
    fn a_vpn_is_watched_and_a_container_is_not() {
        let watched = Interfaces::All.snapshot(&machine()).watched;
        let names: BTreeSet<&str> = watched.iter().map(|(nic, _)| nic.name.as_str()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["br0", "eth0", "wg0"]);
    }

    #[test]
    fn a_network_knows_its_addresses_and_its_broadcast() {
        let net = Net { ip: "10.1.2.3".parse().unwrap(), prefix: 20 };
        assert!(net.contains("10.1.15.255".parse().unwrap()));
        assert!(!net.contains("10.1.16.0".parse().unwrap()));
        assert!(!net.contains("fe80::1".parse().unwrap()));
        assert!(net.broadcasts("10.1.15.255".parse().unwrap()));
        assert!(!net.broadcasts("10.1.14.255".parse().unwrap()));
        let host = Net { ip: "10.1.2.3".parse().unwrap(), prefix: 32 };
        assert!(host.contains("10.1.2.3".parse().unwrap()) && !host.broadcasts("10.1.2.3".parse().unwrap()));
        let all = Net { ip: "0.0.0.0".parse().unwrap(), prefix: 0 };
        assert!(all.contains("8.8.8.8".parse().unwrap()));
        let six = Net { ip: "fd00::1".parse().unwrap(), prefix: 64 };
        assert!(
            six.contains("fd00::ffff".parse().unwrap()) && !six.contains("fd00:0:0:1::1".parse().unwrap())
        );
    }
}
