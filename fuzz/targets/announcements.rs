//! Whatever an announcement on the LAN says of itself: no panic, and no hint that names nobody or nowhere.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use cogmesh::{
    log::Identity,
    net::discovery::{
        Net,
        sighting::{Record, read},
    },
    protocol::input::Address,
};

/// Lines: instance, version, id, federation; then bytes: port, and addresses of 4 or 16 bytes, each after its length and scope.
/// Says whether that is worth a hint.
pub(crate) fn check(data: &[u8]) -> bool {
    let mut parts = data.splitn(5, |byte| *byte == b'\n');
    let mut text = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let (instance, version, id, federation) = (text(), text(), text(), text());
    let Some((port, mut rest)) = parts.next().and_then(|rest| rest.split_first_chunk::<2>()) else {
        return false;
    };
    let mut addresses = vec![];
    while let Some((kind, after)) = rest.split_first() {
        let (address, after): (IpAddr, &[u8]) =
            match (kind % 2, after.split_first_chunk::<4>(), after.split_first_chunk::<16>()) {
                (0, Some((v4, after)), _) => (Ipv4Addr::from(*v4).into(), after),
                (_, _, Some((v6, after))) => (Ipv6Addr::from(*v6).into(), after),
                _ => break,
            };
        addresses.push((address, u32::from(kind / 2)));
        rest = after;
    }
    let record = Record {
        instance: instance.unwrap_or_default(),
        port: u16::from_le_bytes(*port),
        version,
        id,
        federation,
        addresses,
    };
    let nets = BTreeSet::from([Net { ip: Ipv4Addr::new(10, 77, 0, 1).into(), prefix: 24 }]);
    let Ok((id, hint)) = read(&record, &nets) else { return false };
    assert_eq!(hint.node, Some(id));
    assert!(!hint.addresses.is_empty() && hint.addresses.len() <= 8);
    for address in &hint.addresses {
        let Address::Socket(socket) = address else { panic!("a name that is resolved by whoever answers") };
        let ip = socket.ip();
        assert!(
            socket.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback(),
            "{socket}"
        );
    }
    true
}

/// Announcements that are worth a hint.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let id = Identity::from_seed(&[7; 32]).unwrap().node_id();
    let seed = |name: &str, addresses: &[u8]| {
        let lines = format!("{name}{}\n1\n{}\n0123456789abcdef\n", id.short(), id.to_text());
        [lines.as_bytes(), &8_888_u16.to_le_bytes(), addresses].concat()
    };
    let link_local = [&[7][..], &Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7).octets()].concat();
    let unique_local = [&[1][..], &Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 4).octets()].concat();
    vec![
        seed("legion-", &[0, 10, 77, 0, 9]),
        seed("legion-", &[&[0, 192, 168, 1, 4][..], &unique_local, &link_local].concat()),
        seed("", &link_local),
    ]
}
