//! Whatever an announcement on the LAN says of itself: no panic, and no hint that names nobody or nowhere.
#![no_main]

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use cogmesh::net::discovery::{
    Net,
    sighting::{Record, read},
};
use libfuzzer_sys::fuzz_target;

/// Lines: instance, version, id, federation; then bytes: port, and addresses of 4 or 16 bytes, each after its length.
fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(5, |byte| *byte == b'\n');
    let mut text = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
    let (instance, version, id, federation) = (text(), text(), text(), text());
    let Some((port, mut rest)) = parts.next().and_then(|rest| rest.split_first_chunk::<2>()) else { return };
    let mut addresses = vec![];
    while let Some((kind, after)) = rest.split_first() {
        let (address, after): (IpAddr, &[u8]) = match (kind % 2, after.split_first_chunk::<4>(), after.split_first_chunk::<16>()) {
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
    if let Ok((id, hint)) = read(&record, &nets) {
        assert_eq!(hint.node, Some(id));
        assert!(!hint.addresses.is_empty() && hint.addresses.len() <= 8);
    }
});
