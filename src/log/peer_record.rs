//! Peer records: where a node says that it can be reached, signed, so that others may pass it along.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    identity::{BadSignature, Identity, KeyFault, NodeId, Signature},
    layout::{LayoutFault, Reader, put_short},
    name::{NameFault, NodeName},
};
use crate::ledger::types::Millis;

/// A node's name and addresses as it gave them at one time. A newer one replaces an older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    id: NodeId,
    name: NodeName,
    addresses: Vec<SocketAddr>,
    time: Millis,
}

/// The most addresses of a record. A machine with two interfaces has about six (IPv4, two or three IPv6 each).
pub const RECORD_ADDRESSES_MAX: usize = 8;

/// Bytes that are not a peer record, or more addresses than one may have. Whoever sent them could have seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// Too few bytes, or too many.
    #[error("not a peer record: {0}")]
    Layout(#[from] LayoutFault),
    /// A name that breaks its rule.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// A key that no node may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// More addresses than [`RECORD_ADDRESSES_MAX`].
    #[error("a peer record has at most {RECORD_ADDRESSES_MAX} addresses, not {addresses}")]
    TooMany {
        /// How many.
        addresses: usize,
    },
    /// An address that is neither IPv4 nor IPv6.
    #[error("there is no kind of address with number {0}")]
    Family(u8),
}

impl NodeRecord {
    /// A record. Of IPv6 addresses, scope and flow are dropped: they mean something on the machine that wrote them alone.
    ///
    /// # Errors
    /// More than [`RECORD_ADDRESSES_MAX`] addresses.
    pub fn new(
        id: NodeId,
        name: NodeName,
        addresses: Vec<SocketAddr>,
        time: Millis,
    ) -> Result<Self, RecordFault> {
        if addresses.len() > RECORD_ADDRESSES_MAX {
            return Err(RecordFault::TooMany { addresses: addresses.len() });
        }
        Ok(Self::of_first(id, name, addresses, time))
    }

    /// Our own record, with the first [`RECORD_ADDRESSES_MAX`] of the addresses; scope and flow are dropped as in [`Self::new`].
    #[must_use]
    pub fn of_first(id: NodeId, name: NodeName, mut addresses: Vec<SocketAddr>, time: Millis) -> Self {
        addresses.truncate(RECORD_ADDRESSES_MAX);
        for address in &mut addresses {
            *address = SocketAddr::new(address.ip(), address.port());
        }
        Self { id, name, addresses, time }
    }

    /// Signs our own record.
    #[must_use]
    pub fn sign(&self, identity: &Identity) -> Signature {
        identity.sign(&self.signed_bytes())
    }

    /// Checks that the node itself made this record.
    ///
    /// # Errors
    /// It did not.
    pub fn verify(&self, signature: &Signature) -> Result<(), BadSignature> {
        self.id.verify(&self.signed_bytes(), signature)
    }

    /// The bytes that are stored and sent; the signed ones have a domain before them. id (32) ‖ name (u8 length) ‖ time_ms u64 ‖
    /// number of addresses u8 ‖ each: 4 or 6 as u8, 4 or 16 bytes in network order, port u16.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// Reads what [`Self::to_bytes`] writes, and nothing else.
    ///
    /// # Errors
    /// A value is out of range, or a byte is missing or left over.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordFault> {
        let mut reader = Reader::new(bytes);
        let id = NodeId::from_key(reader.array()?)?;
        let name = NodeName::try_from(reader.short()?)?;
        let time = Millis(reader.u64()?);
        let addresses = (0..reader.u8()?).map(|_| read_address(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Self::new(id, name, addresses, time)
    }

    /// Whose it is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// What it calls itself.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// Where it says that it can be reached; at most [`RECORD_ADDRESSES_MAX`].
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// When it said so, by its own clock.
    #[must_use]
    pub const fn time(&self) -> Millis {
        self.time
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = b"cogmesh record v1\0".to_vec();
        self.put(&mut out);
        out
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        put_short(out, self.name.as_str());
        out.extend_from_slice(&self.time.0.to_le_bytes());
        // At most RECORD_ADDRESSES_MAX.
        out.push(self.addresses.len() as u8);
        for address in &self.addresses {
            put_address(out, address);
        }
    }
}

pub(super) fn put_address(out: &mut Vec<u8>, address: &SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_le_bytes());
}

pub(super) fn read_address(reader: &mut Reader<'_>) -> Result<SocketAddr, RecordFault> {
    let ip = match reader.u8()? {
        4 => IpAddr::from(Ipv4Addr::from(reader.array::<4>()?)),
        6 => IpAddr::from(Ipv6Addr::from(reader.array::<16>()?)),
        family => return Err(RecordFault::Family(family)),
    };
    Ok(SocketAddr::new(ip, reader.u16()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(identity: &Identity, addresses: &[&str]) -> Result<NodeRecord, RecordFault> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        NodeRecord::new(identity.node_id(), "legion".parse().unwrap(), addresses, Millis(5))
    }

    #[test]
    fn a_record_is_read_back_and_its_signature_fits_nothing_else() {
        let identity = Identity::from_seed(&[7; 32]).unwrap();
        let told = record(&identity, &["192.168.1.4:8888", "[fd00::4]:8889"]).unwrap();
        let signature = told.sign(&identity);
        let heard = NodeRecord::parse(&told.to_bytes()).unwrap();
        assert_eq!(heard, told);
        assert_eq!(heard.verify(&signature), Ok(()));
        let moved = record(&identity, &["192.168.1.5:8888", "[fd00::4]:8889"]).unwrap();
        assert!(moved.verify(&signature).is_err());
    }

    #[test]
    fn scope_and_flow_do_not_leave_the_machine() {
        let identity = Identity::from_seed(&[7; 32]).unwrap();
        let told = record(&identity, &["[fe80::1%3]:8888"]).unwrap();
        assert_eq!(told.addresses(), ["[fe80::1]:8888".parse().unwrap()]);
        assert_eq!(NodeRecord::parse(&told.to_bytes()), Ok(told));
    }

    #[test]
    fn nine_addresses_a_strange_family_and_a_byte_left_over_are_refused() {
        let identity = Identity::from_seed(&[7; 32]).unwrap();
        assert_eq!(record(&identity, &["1.2.3.4:5"; 9]), Err(RecordFault::TooMany { addresses: 9 }));

        let mut bytes = record(&identity, &["1.2.3.4:5"]).unwrap().to_bytes();
        bytes.push(0);
        assert_eq!(NodeRecord::parse(&bytes), Err(LayoutFault::LeftOver { bytes: 1 }.into()));
        bytes.pop();
        let family = bytes.len() - 7;
        bytes[family] = 5;
        assert_eq!(NodeRecord::parse(&bytes), Err(RecordFault::Family(5)));
    }
}
