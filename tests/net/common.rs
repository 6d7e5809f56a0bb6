//! Nodes for these tests, and what they say.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cogmesh::{
    ledger::types::{Level, Millis, Seq},
    log::{
        Architecture, Body, Entry, FederationId, Genesis, Hardware, Header, Identity, Mode, NodeId, Nonce,
        Rules, Segment, Thought, Verified, entry::Hash,
    },
    net::{Endpoint, Inbox, InboxBounds, ListenOn, NetConfig, NetEvent, inbox},
    protocol::{
        frame::ControlFrame,
        input::{Address, Attempt, Dial, Ended, LinkId},
        refusal::Refusal,
    },
};
use tokio::time::timeout;

pub(crate) const FEDERATION: FederationId = FederationId([5; 32]);
pub(crate) const RULES: Rules = Rules { federation: FEDERATION, pow_bits: 0, content_bytes_max: 200_000 };
/// Far above what any of these tests takes, so that it fails with a word instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) endpoint: Endpoint,
    pub(crate) events: Inbox,
    pub(crate) id: NodeId,
    pub(crate) address: SocketAddr,
}

pub(crate) fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed(&[seed; 32]).unwrap())
}

pub(crate) fn config(seed: u8) -> NetConfig {
    NetConfig::new(identity(seed), RULES, ListenOn::Loopback, Some(0))
}

pub(crate) fn node(seed: u8) -> Node {
    open(config(seed), InboxBounds::default())
}

/// Room for one event of each class.
pub(crate) const SMALL: InboxBounds =
    InboxBounds { control_bytes_max: 1, live_bytes_max: 1, catch_up_bytes_max: 1 };

pub(crate) fn open(config: NetConfig, bounds: InboxBounds) -> Node {
    let id = config.identity.node_id();
    let (sender, events) = inbox(bounds);
    let endpoint = Endpoint::open(config, sender).unwrap();
    let address = endpoint.local_addresses()[0];
    Node { endpoint, events, id, address }
}

impl Node {
    pub(crate) async fn next(&mut self) -> NetEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("no event in time").expect("the endpoint is gone")
    }

    /// Dials these addresses on attempt 7.
    pub(crate) fn dial(&self, expect: Option<NodeId>, addresses: &[SocketAddr]) {
        let addresses = addresses.iter().copied().map(Address::Socket).collect();
        self.endpoint.dial(Dial { attempt: Attempt(7), expect, addresses });
    }

    pub(crate) async fn connected(&mut self) -> (LinkId, NodeId, [u8; 32]) {
        match self.next().await {
            NetEvent::Connected { link, node, exporter, .. } => (link, node, exporter),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn dial_failed(&mut self) -> String {
        match self.next().await {
            NetEvent::DialFailed { attempt: Attempt(7), why } => why,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn handshake_failed(&mut self) -> String {
        match self.next().await {
            NetEvent::HandshakeFailed { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn heard(&mut self) -> Verified<Segment> {
        match self.next().await {
            NetEvent::Heard { segment, .. } => segment,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn violated(&mut self) -> Refusal {
        match self.next().await {
            NetEvent::Violated { refusal, .. } => refusal,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn refused(&mut self) -> Refusal {
        match self.next().await {
            NetEvent::Control { frame: ControlFrame::Refused(refusal), .. } => refusal,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn disconnected(&mut self) -> Ended {
        match self.next().await {
            NetEvent::Disconnected { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }
}

/// The first dials the second; neither has admitted the other yet.
pub(crate) async fn link(one: &mut Node, two: &mut Node) -> (LinkId, LinkId) {
    one.dial(Some(two.id), &[two.address]);
    let (from_one, node, exporter) = one.connected().await;
    assert_eq!(node, two.id);
    let (from_two, node, same_exporter) = two.connected().await;
    assert_eq!(node, one.id);
    assert_eq!(exporter, same_exporter);
    (from_one, from_two)
}

/// As [`link`], and both have admitted each other.
pub(crate) async fn admitted(one: &mut Node, two: &mut Node) -> (LinkId, LinkId) {
    let (from_one, from_two) = link(one, two).await;
    one.endpoint.admit(from_one);
    two.endpoint.admit(from_two);
    (from_one, from_two)
}

/// A genesis entry and a thought for each content, signed.
pub(crate) fn segment(seed: u8, contents: &[&str]) -> Verified<Segment> {
    let identity = identity(seed);
    let genesis = Genesis {
        name: "legion".parse().unwrap(),
        hardware: Hardware::Software,
        level: Level::MAX,
        arch: Architecture::new("x86_64").unwrap(),
        nonce: Nonce(0),
    };
    let mut header = Header {
        author: identity.node_id(),
        seq: Seq::GENESIS,
        prev: Hash::ZERO,
        time: Millis(1),
        body: Body::Genesis(genesis),
    };
    let mut entries = vec![Entry::new(&FEDERATION, header.clone(), None)];
    for content in contents {
        header.seq = header.seq.next();
        header.prev = entries.last().unwrap().hash();
        header.body = Body::Thought(Thought::new("main".parse().unwrap(), Mode::Exploring, content));
        entries.push(Entry::new(&FEDERATION, header.clone(), Some(content)));
    }
    Segment::own(entries, &identity, &FEDERATION).unwrap()
}

/// A segment whose content starts with that number and has so many bytes.
pub(crate) fn numbered(number: usize, bytes: usize) -> Verified<Segment> {
    segment(9, &[&format!("{number:0>8}{}", "x".repeat(bytes))])
}

pub(crate) fn number_of(segment: &Segment) -> usize {
    segment.entries()[1].content_text().unwrap()[..8].parse().unwrap()
}
