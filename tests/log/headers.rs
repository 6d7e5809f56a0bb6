//! What is written is read back, and what is read is written as the same bytes.

use std::net::SocketAddr;

use cogmesh::{
    ledger::{
        Features,
        types::{Level, LevelOutOfRange, Millis, Ppm, Seq},
    },
    log::{
        Architecture, Body, Genesis, Hardware, Hash, Header, Identity, Mode, NodeId, NodeRecord, Nonce,
        SessionName, Thought,
        entry::{HEADER_BYTES_MAX, HeaderFault, LayoutFault},
        name::NameFault,
        peer_record::RECORD_ADDRESSES_MAX,
    },
};
use proptest::{collection::vec, prelude::*};

use super::worked_log;

fn texts(pattern: &'static str) -> impl Strategy<Value = String> {
    pattern.prop_filter("too long in bytes", |text| text.len() <= 64)
}

prop_compose! {
    fn any_thought()(
        session in texts("\\PC{1,64}"),
        mode in 0_u8..5,
        content_hash: [u8; 32],
        (content_bytes, chars, concepts) in any::<(u32, u32, u32)>(),
        diversity in 0_u32..=1_000_000,
        fingerprint: [u8; 32],
    ) -> Body {
        Body::Thought(Thought {
            session: SessionName::new(&session).unwrap(),
            mode: Mode::from_number(mode).unwrap(),
            content_hash,
            content_bytes,
            features: Features { chars, concepts, diversity: Ppm(diversity), fingerprint },
        })
    }
}

prop_compose! {
    fn any_genesis()(
        name in "[a-z0-9-]{1,32}",
        hardware in 0_u8..3,
        level in 1_u8..=5,
        arch in "[A-Za-z0-9_]{0,32}",
        nonce: u64,
    ) -> Body {
        Body::Genesis(Genesis {
            name: name.parse().unwrap(),
            hardware: Hardware::from_number(hardware).unwrap(),
            level: Level::try_from(level).unwrap(),
            arch: Architecture::new(&arch).unwrap(),
            nonce: Nonce(nonce),
        })
    }
}

prop_compose! {
    fn any_header()(
        author: [u8; 32],
        (seq, time) in any::<(u64, u64)>(),
        prev: [u8; 32],
        body in prop_oneof![any_thought(), any_genesis()],
    ) -> Header {
        let author = NodeId::from_stored(author);
        Header { author, seq: Seq(seq), prev: Hash(prev), time: Millis(time), body }
    }
}

prop_compose! {
    fn any_record()(
        key in any::<[u8; 32]>().prop_filter_map("weak", |seed| Identity::from_seed(&seed).ok()),
        name in "[a-z0-9-]{1,32}",
        addresses in vec(any::<SocketAddr>(), 0..=RECORD_ADDRESSES_MAX),
        time: u64,
    ) -> NodeRecord {
        NodeRecord::new(key.node_id(), name.parse().unwrap(), addresses, Millis(time)).unwrap()
    }
}

/// What happens to bytes on their way.
#[derive(Clone, Debug)]
struct Damage {
    changes: Vec<(prop::sample::Index, u8)>,
    cut: usize,
    left_over: Vec<u8>,
}

prop_compose! {
    fn any_damage()(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in 0_usize..3,
        left_over in vec(any::<u8>(), 0..2),
    ) -> Damage {
        Damage { changes, cut, left_over }
    }
}

impl Damage {
    fn of(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for (at, byte) in &self.changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes.truncate(bytes.len() - self.cut);
        bytes.extend(&self.left_over);
        bytes
    }
}

proptest! {
    #[test]
    fn a_header_that_was_written_is_read_back(header in any_header()) {
        let written = header.to_bytes();
        prop_assert!(written.len() <= HEADER_BYTES_MAX);
        prop_assert_eq!(Header::parse(&written), Ok(header));
    }

    #[test]
    fn no_bytes_upset_the_parsers(bytes in vec(any::<u8>(), 0..300)) {
        let _header = Header::parse(&bytes);
        let _record = NodeRecord::parse(&bytes);
    }

    #[test]
    fn a_record_that_was_written_is_read_back(record in any_record()) {
        prop_assert_eq!(NodeRecord::parse(&record.to_bytes()), Ok(record));
    }

    #[test]
    fn what_is_read_is_written_as_the_same_bytes(
        header in any_header(),
        record in any_record(),
        damage in any_damage(),
    ) {
        let bytes = damage.of(header.to_bytes());
        if let Ok(read) = Header::parse(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
        let bytes = damage.of(record.to_bytes());
        if let Ok(read) = NodeRecord::parse(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }
}

#[test]
fn a_header_that_is_cut_or_goes_on_is_refused() {
    for entry in worked_log() {
        let whole = entry.header_bytes();
        for end in 0..whole.len() {
            assert!(Header::parse(&whole[..end]).is_err(), "{end} of {} bytes", whole.len());
        }
        let longer = [whole.as_ref(), &[0]].concat();
        assert_eq!(Header::parse(&longer), Err(LayoutFault::LeftOver { bytes: 1 }.into()));
    }
}

#[test]
fn a_value_out_of_range_is_refused() {
    let log = worked_log();
    let (genesis, thought) = (log[0].header_bytes(), log[1].header_bytes());
    let with = |header: &[u8], at: usize, byte: u8| {
        let mut changed = header.to_vec();
        changed[at] = byte;
        Header::parse(&changed).map(|_| ())
    };
    // Offsets: kind 80; then name 81 to 87, hardware, level; or session 81 to 85, mode, ..., diversity 131 to 134.
    assert_eq!(with(genesis, 80, 2), Err(HeaderFault::Kind(2)));
    assert_eq!(with(genesis, 88, 3), Err(HeaderFault::Hardware(3)));
    assert_eq!(with(genesis, 89, 0), Err(LevelOutOfRange(0).into()));
    assert_eq!(with(genesis, 89, 6), Err(LevelOutOfRange(6).into()));
    assert_eq!(with(thought, 86, 5), Err(HeaderFault::Mode(5)));
    let name = NameFault::Character { what: "a node name", found: 'L' };
    assert_eq!(with(genesis, 82, b'L'), Err(name.into()));
    let session = NameFault::Character { what: "a session name", found: '\n' };
    assert_eq!(with(thought, 82, b'\n'), Err(session.into()));
    assert_eq!(with(thought, 131, 0x41), Err(HeaderFault::Diversity(Ppm(1_000_001))));
}
