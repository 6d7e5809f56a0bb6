//! Sightings: what an announcement says, read with suspicion.
//! Anybody on the LAN can announce anything, so each part is checked here, and what remains is still only a hint.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use super::interfaces::Net;
use crate::{
    log::{NodeId, NodeName},
    protocol::input::{Address, Hint, Source},
};

/// The version of the announcement that we write and read.
pub(super) const VERSION: &str = "1";
/// How many hex digits of the federation id are announced.
const FEDERATION_DIGITS: usize = 16;
/// Most addresses that are taken of one announcement: a hint is dialled, and each costs somebody a packet.
const ADDRESSES_MAX: usize = 8;

/// An announcement as the mDNS library read it. Foreign in every field.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// The instance's label, `name-shortid`.
    pub instance: &'a str,
    /// Of the SRV record.
    pub port: u16,
    /// `v=` of the TXT record.
    pub version: Option<&'a str>,
    /// `id=` of the TXT record.
    pub id: Option<&'a str>,
    /// `fed=` of the TXT record.
    pub federation: Option<&'a str>,
    /// Of the A and AAAA records; with the interface that an IPv6 one was heard on.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// Why a record is no hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Its version is not ours.
    Version,
    /// Its id, federation or port can't be.
    Malformed,
    /// None of its addresses may be dialled.
    Unreachable,
}

/// Reads an announcement that was heard on an interface with these networks. Our own is passed on, too: where it names
/// addresses that are not ours, a copy of this node announces itself.
///
/// # Errors
/// Why it is not worth a hint.
pub fn read(record: &Record<'_>, nets: &BTreeSet<Net>) -> Result<(NodeId, Hint), Ignored> {
    if record.version != Some(VERSION) {
        return Err(Ignored::Version);
    }
    let id: NodeId = record.id.and_then(|id| id.parse().ok()).ok_or(Ignored::Malformed)?;
    let federation = record.federation.filter(|digits| is_federation(digits)).ok_or(Ignored::Malformed)?;
    if record.port == 0 {
        return Err(Ignored::Malformed);
    }
    let addresses = addresses(record, nets);
    if addresses.is_empty() {
        return Err(Ignored::Unreachable);
    }
    let hint = Hint {
        source: Source::Mdns,
        node: Some(id),
        name: name(record.instance, id),
        federation: Some(federation.to_owned()),
        addresses: addresses.into_iter().map(Address::Socket).collect(),
    };
    Ok((id, hint))
}

fn is_federation(digits: &str) -> bool {
    digits.len() == FEDERATION_DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name before the short id, where it is one that a node can have. What is not is nobody's name, and never shown.
fn name(instance: &str, id: NodeId) -> Option<String> {
    let name = instance.strip_suffix(&id.short())?.strip_suffix('-')?;
    NodeName::new(name).is_ok().then(|| name.to_owned())
}

/// What may be dialled, the likeliest first.
fn addresses(record: &Record<'_>, nets: &BTreeSet<Net>) -> Vec<SocketAddr> {
    let mut ranked: Vec<(Rank, SocketAddr)> = record
        .addresses
        .iter()
        .filter_map(|&(ip, scope)| {
            let ip = ip.to_canonical();
            let rank = rank(ip, scope, nets)?;
            Some((rank, socket(ip, record.port, scope)))
        })
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.truncate(ADDRESSES_MAX);
    ranked.into_iter().map(|(_, socket)| socket).collect()
}

/// The likeliest first. IPv4 before IPv6 on the same link because it needs no scope and people know it by sight; all
/// are dialled 250 ms apart anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    OnLinkV4,
    OnLinkV6,
    LinkLocalV6,
    PrivateV4,
    PrivateV6,
}

/// `None` for what is never dialled because of an announcement: multicast, broadcast, unspecified, a link-local address
/// without its interface, and public addresses off the link, at which a stranger could aim a whole LAN's packets.
fn rank(ip: IpAddr, scope: u32, nets: &BTreeSet<Net>) -> Option<Rank> {
    // protocol.md, Discovery: never at a multicast, broadcast or unspecified address
    let nobody = ip.is_unspecified() || ip.is_multicast() || nets.iter().any(|net| net.broadcasts(ip));
    let on_link = nets.iter().any(|net| net.contains(ip));
    match ip {
        _ if nobody => None,
        IpAddr::V4(v4) if v4.is_broadcast() => None,
        IpAddr::V4(_) if on_link => Some(Rank::OnLinkV4),
        IpAddr::V4(v4) => v4.is_private().then_some(Rank::PrivateV4),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => (scope != 0).then_some(Rank::LinkLocalV6),
        IpAddr::V6(_) if on_link => Some(Rank::OnLinkV6),
        IpAddr::V6(v6) => v6.is_unique_local().then_some(Rank::PrivateV6),
    }
}

fn socket(ip: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope_of(v6, scope)).into(),
    }
}

/// Only a link-local address has a scope: two spellings of one address would be dialled twice.
fn scope_of(ip: Ipv6Addr, scope: u32) -> u32 {
    if ip.is_unicast_link_local() { scope } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FED: &str = "0123456789abcdef";

    fn node(byte: u8) -> NodeId {
        NodeId::from_stored([byte; 32])
    }

    fn nets() -> BTreeSet<Net> {
        [("192.168.1.5", 24), ("fe80::5", 64), ("2001:db8::5", 64)]
            .map(|(ip, prefix)| Net { ip: ip.parse().unwrap(), prefix })
            .into()
    }

    fn heard(
        addresses: &[(&str, u32)],
        change: impl FnOnce(&mut Record<'_>),
    ) -> Result<(NodeId, Hint), Ignored> {
        let id = node(7).to_string();
        let instance = format!("thor-{}", node(7).short());
        let mut record = Record {
            instance: &instance,
            port: 8888,
            version: Some("1"),
            id: Some(&id),
            federation: Some(FED),
            addresses: addresses.iter().map(|(ip, scope)| (ip.parse().unwrap(), *scope)).collect(),
        };
        change(&mut record);
        read(&record, &nets())
    }

    fn dialled(addresses: &[(&str, u32)]) -> Vec<String> {
        heard(addresses, |_| ())
            .map_or_else(|_| Vec::new(), |(_, hint)| hint.addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_record_becomes_a_hint_with_the_likeliest_address_first() {
        let all = [("10.9.0.1", 0), ("fe80::9", 3), ("2001:db8::9", 3), ("192.168.1.9", 0), ("fd00::9", 3)];
        let (id, hint) = heard(&all, |_| ()).unwrap();
        assert_eq!((id, hint.node, hint.source), (node(7), Some(node(7)), Source::Mdns));
        assert_eq!((hint.name.as_deref(), hint.federation.as_deref()), (Some("thor"), Some(FED)));
        assert_eq!(
            dialled(&all),
            ["192.168.1.9:8888", "[2001:db8::9]:8888", "[fe80::9%3]:8888", "10.9.0.1:8888", "[fd00::9]:8888"]
        );
    }

    #[test]
    fn what_must_not_be_dialled_is_left_out() {
        for wrong in [
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.251",
            "192.168.1.255",
            "127.0.0.1",
            "8.8.8.8",
            "::",
            "::1",
            "ff02::fb",
            "2606:4700::1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(heard(&[(wrong, 3)], |_| ()), Err(Ignored::Unreachable), "{wrong}");
        }
        assert_eq!(heard(&[("fe80::9", 0)], |_| ()), Err(Ignored::Unreachable), "without its interface");
        assert_eq!(dialled(&[("::ffff:192.168.1.9", 3), ("192.168.1.9", 0)]), ["192.168.1.9:8888"]);
    }

    #[test]
    fn loopback_is_dialled_where_it_was_heard_on_loopback() {
        let id = node(7).to_string();
        let record = Record {
            instance: "x",
            port: 1,
            version: Some("1"),
            id: Some(&id),
            federation: Some(FED),
            addresses: vec![("127.0.0.1".parse().unwrap(), 1)],
        };
        let lo = [Net { ip: "127.0.0.1".parse().unwrap(), prefix: 8 }].into();
        assert!(read(&record, &lo).is_ok());
    }

    #[test]
    fn no_more_addresses_are_taken_than_a_node_has() {
        let many: Vec<String> = (1..100).map(|last| format!("192.168.1.{last}")).collect();
        let many: Vec<(&str, u32)> = many.iter().map(|ip| (ip.as_str(), 0)).collect();
        assert_eq!(dialled(&many).len(), ADDRESSES_MAX);
    }

    #[test]
    fn other_versions_and_malformed_records_are_ignored() {
        let at = [("192.168.1.9", 0)];
        assert_eq!(heard(&at, |r| r.version = Some("2")), Err(Ignored::Version));
        assert_eq!(heard(&at, |r| r.version = None), Err(Ignored::Version));
        assert_eq!(heard(&at, |r| r.id = None), Err(Ignored::Malformed));
        assert_eq!(heard(&at, |r| r.id = Some("thor")), Err(Ignored::Malformed));
        assert_eq!(heard(&at, |r| r.federation = None), Err(Ignored::Malformed));
        assert_eq!(heard(&at, |r| r.federation = Some("0123456789ABCDEF")), Err(Ignored::Malformed));
        assert_eq!(heard(&at, |r| r.federation = Some("\u{1b}[31m0123456789a")), Err(Ignored::Malformed));
        assert_eq!(heard(&at, |r| r.port = 0), Err(Ignored::Malformed));
    }

    #[test]
    fn a_name_that_no_node_can_have_is_not_passed_on() {
        let short = node(7).short();
        let with = |instance: String| {
            heard(&[("192.168.1.9", 0)], |_| ()).unwrap();
            name(&instance, node(7))
        };
        assert_eq!(with(format!("thor-2-{short}")), Some("thor-2".to_owned()));
        assert_eq!(with(format!("\u{1b}[2J-{short}")), None);
        assert_eq!(with(format!("-{short}")), None);
        assert_eq!(with(format!("{}-{short}", "a".repeat(33))), None);
        assert_eq!(with("thor-aaaaaaaa".to_owned()), None);
        assert_eq!(with(short.clone()), None);
    }
}
