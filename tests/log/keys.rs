//! Keys and signatures that a careless node would take.

use cogmesh::{
    ledger::types::{Millis, Seq},
    log::{
        Body, Entry, Hash, Head, Header, NodeId, Rules, Segment, Signature,
        identity::{BadSignature, KeyFault},
    },
};
use data_encoding::HEXLOWER;

use super::{array, federation, identity, rules, worked_genesis};

/// 2^255 − 19 + `above`, as a little-endian y.
fn p_plus(above: u8) -> [u8; 32] {
    let mut y = [0xff; 32];
    (y[0], y[31]) = (0xed + above, 0x7f);
    y
}

#[test]
fn weak_and_non_canonical_keys_are_refused_with_either_sign() {
    let octic = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let mut small = vec![[0; 32], [0; 32], p_plus(0)];
    small[1][0] = 1;
    small[2][0] = 0xec;
    small.extend(octic.map(|hex| array(&hex.into())));
    for mut y in small {
        assert_eq!(NodeId::from_key(y), Err(KeyFault::SmallOrder));
        y[31] |= 0x80;
        assert_eq!(NodeId::from_key(y), Err(KeyFault::SmallOrder));
    }
    for above in 0..=18 {
        let mut y = p_plus(above);
        assert_eq!(NodeId::from_key(y), Err(KeyFault::NonCanonical));
        y[31] |= 0x80;
        assert_eq!(NodeId::from_key(y), Err(KeyFault::NonCanonical));
    }
    let mut below = p_plus(0);
    below[0] = 0xeb;
    assert!(NodeId::from_key(below).is_ok());
    assert!(NodeId::from_key(*identity().node_id().as_bytes()).is_ok());
}

/// Why weak keys are refused at the door: under the neutral point (y = 1), R = the neutral point and S = 0 satisfy the equation of
/// RFC 8032, whatever the message, and the library says so.
#[test]
fn the_library_alone_would_take_one_signature_for_every_message_of_a_weak_key() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut universal = [0; 64];
    universal[0] = 1;
    for message in [&b"one"[..], b"other"] {
        assert_eq!(NodeId::from_stored(neutral).verify(message, &Signature(universal)), Ok(()));
    }
    let author = NodeId::from_stored(neutral);
    let segment = of_author(author, Signature(universal));
    assert_eq!(segment.verify(&Rules { pow_bits: 0, ..rules() }), Err(KeyFault::SmallOrder.into()));
}

/// A log of one genesis entry that nobody searched a nonce for.
fn of_author(author: NodeId, signature: Signature) -> Segment {
    let header = Header {
        author,
        seq: Seq::GENESIS,
        prev: Hash::ZERO,
        time: Millis(1),
        body: Body::Genesis(worked_genesis()),
    };
    let entry = Entry::new(&federation(), header, None);
    let head = Head { author, seq: Seq::GENESIS, hash: entry.hash(), signature };
    Segment::new(vec![entry], head).unwrap()
}

/// S and S + L are the same number for the equation; only the smaller is a signature (RFC 8032, 5.1.7).
#[test]
fn a_second_encoding_of_a_signature_is_refused() {
    let group_order =
        HEXLOWER.decode(b"edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut signature = identity().sign(b"x");
    assert_eq!(identity().node_id().verify(b"x", &signature), Ok(()));
    let mut carry = 0;
    for (byte, order) in signature.0[32..].iter_mut().zip(group_order) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    let node = identity().node_id();
    assert_eq!(node.verify(b"x", &signature), Err(BadSignature { node }));
}
