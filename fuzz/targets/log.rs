//! Whatever bytes are called a header, a node record, a policy or an account: no panic, and what parses is written again as it was.

use cogmesh::{
    ledger::{
        Account, Policy, measure,
        types::{Level, Millis, Seq},
    },
    log::{Body, Genesis, Hardware, Hash, Header, Identity, Mode, NodeRecord, Nonce, Thought},
};

/// Says whether the bytes were taken for something.
pub(crate) fn check(data: &[u8]) -> bool {
    let mut taken = false;
    let mut same = |again: Option<Vec<u8>>| {
        if let Some(again) = again {
            assert_eq!(again, data);
            taken = true;
        }
    };
    same(Header::parse(data).ok().map(|header| header.to_bytes()));
    same(NodeRecord::parse(data).ok().map(|record| record.to_bytes()));
    same(Policy::from_bytes(data).ok().map(|policy| policy.to_bytes()));
    same(Account::from_bytes(data, &Policy::default()).ok().map(|account| account.to_bytes()));
    if let Ok(content) = std::str::from_utf8(data) {
        assert!(measure(content).coherence().0 <= 1_000_000);
        taken = true;
    }
    taken
}

/// One value of each kind, as bytes that are taken.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let author = Identity::from_seed(&[7; 32]).unwrap().node_id();
    let genesis = Genesis {
        name: "legion".parse().unwrap(),
        hardware: Hardware::Software,
        level: Level::MAX,
        arch: "x86_64".parse().unwrap(),
        nonce: Nonce(1),
    };
    let thought = Thought::new("main".parse().unwrap(), Mode::Exploring, "one thought about bytes");
    let header = |seq, body| Header {
        author,
        seq: Seq(seq),
        prev: Hash([u8::from(seq > 0); 32]),
        time: Millis(2),
        body,
    };
    let record = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        NodeRecord::new(author, "legion".parse().unwrap(), addresses, Millis(3)).unwrap().to_bytes()
    };
    let policy = Policy::default();
    let content = "Consensus without a leader: every node computes every balance itself, because signed logs are all that it needs.";
    vec![
        header(0, Body::Genesis(genesis)).to_bytes(),
        header(1, Body::Thought(thought)).to_bytes(),
        record(&[]),
        record(&["192.168.1.4:8888", "[fd00::4]:8888"]),
        policy.to_bytes(),
        Account::open(&policy, Level::MAX, Millis(1)).to_bytes(),
        content.into(),
        "Ein Wort, ein Satz – und 思考.".into(),
    ]
}
