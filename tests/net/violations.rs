//! Peers that break the protocol of bytes: each is told which rule, is counted, and harms nobody else.

use bytes::Bytes;
use cogmesh::{
    log::SegmentFault,
    net::{InboxBounds, NetEvent},
    protocol::{
        frame::ControlFrame,
        input::Ended,
        refusal::{Refusal, RefusalCode},
        wire::{self, FRAME_BYTES_MAX},
    },
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::time::timeout;

use crate::{
    common::{Node, PATIENCE, config, identity, node, open, segment},
    raw::Shows,
};

/// A peer with a good certificate and bad manners, connected and not yet admitted.
struct Rude {
    _endpoint: quinn::Endpoint,
    quic: Connection,
    send: SendStream,
    receive: RecvStream,
}

async fn rude(node: &mut Node) -> Rude {
    rude_with(node, 0).await
}

async fn rude_with(node: &mut Node, first_kind: u8) -> Rude {
    let endpoint = Shows::honest(&identity(2)).client();
    let quic = endpoint.connect(node.address, "x").unwrap().await.unwrap();
    let (mut send, receive) = quic.open_bi().await.unwrap();
    send.write_all(&[first_kind]).await.unwrap();
    Rude { _endpoint: endpoint, quic, send, receive }
}

impl Rude {
    /// The refusal on the control stream, and the code and reason of the close.
    async fn told(mut self) -> (Refusal, u64, Bytes) {
        let frame = timeout(PATIENCE, self.receive.read_to_end(1_000)).await.unwrap().unwrap();
        let ControlFrame::Refused(refusal) = wire::decode_control(&frame[4..]).unwrap() else { panic!() };
        let ConnectionError::ApplicationClosed(close) = self.quic.closed().await else { panic!() };
        (refusal, close.error_code.into_inner(), close.reason)
    }
}

/// Both ends know the same refusal.
async fn refused_with(node: &mut Node, rude: Rude, code: RefusalCode) -> Refusal {
    let counted = node.violated().await;
    assert_eq!(counted.code, code);
    let (refusal, closed, reason) = rude.told().await;
    assert_eq!(refusal, counted);
    assert_eq!(closed, u64::from(code.number()));
    assert_eq!(reason, counted.about.as_bytes());
    assert_eq!(node.disconnected().await, Ended::Closed);
    counted
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_refused_by_its_length_alone() {
    let mut node = node(1);
    let mut rude = rude(&mut node).await;
    node.connected().await;
    let length = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    rude.send.write_all(&length.to_le_bytes()).await.unwrap();
    let refusal = refused_with(&mut node, rude, RefusalCode::FrameTooLarge).await;
    assert!(refusal.about.contains("262145"), "{refusal}");
}

#[tokio::test]
async fn garbage_an_unknown_frame_and_another_version_are_told_apart() {
    let ping =
        wire::encode_control(&ControlFrame::Ping { number: 1, clock: cogmesh::ledger::types::Millis(2) })
            .unwrap();
    let mut unknown = ping.to_vec();
    unknown[4] = 99;
    let mut hello = vec![8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 1];
    hello.truncate(12);
    for (bytes, code) in [
        (vec![5, 0, 0, 0, 2, 0, 0, 0, 1], RefusalCode::Malformed),
        (vec![0; 4], RefusalCode::Malformed),
        (unknown, RefusalCode::UnknownKind),
        (hello, RefusalCode::Version),
    ] {
        let mut node = node(1);
        let mut rude = rude(&mut node).await;
        node.connected().await;
        rude.send.write_all(&bytes).await.unwrap();
        refused_with(&mut node, rude, code).await;
    }
}

#[tokio::test]
async fn a_first_stream_that_is_not_control_is_refused() {
    let mut node = node(1);
    let rude = rude_with(&mut node, 4).await;
    node.connected().await;
    let refusal = node.violated().await;
    assert_eq!(refusal.code, RefusalCode::UnknownKind);
    // There is no control stream to say it on: the close says it.
    let ConnectionError::ApplicationClosed(close) = timeout(PATIENCE, rude.quic.closed()).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(close.error_code.into_inner(), u64::from(RefusalCode::UnknownKind.number()));
    assert_eq!(node.disconnected().await, Ended::Closed);
}

#[tokio::test]
async fn an_unknown_kind_of_stream_is_stopped_with_its_code_and_refused() {
    for kind in [0, 4, 9, 255] {
        let mut node = node(1);
        let rude = rude(&mut node).await;
        let (link, ..) = node.connected().await;
        node.endpoint.admit(link);
        let mut stream = rude.quic.open_uni().await.unwrap();
        stream.write_all(&[kind]).await.unwrap();
        let stopped = timeout(PATIENCE, stream.stopped()).await.unwrap();
        assert_eq!(stopped.unwrap().unwrap().into_inner(), u64::from(RefusalCode::UnknownKind.number()));
        refused_with(&mut node, rude, RefusalCode::UnknownKind).await;
    }
}

#[tokio::test]
async fn a_second_thought_stream_and_a_second_control_stream_are_refused() {
    let mut node = node(1);
    let rude = rude(&mut node).await;
    let (link, ..) = node.connected().await;
    node.endpoint.admit(link);
    let mut first = rude.quic.open_uni().await.unwrap();
    first.write_all(&[1]).await.unwrap();
    first.write_all(&wire::encode_segment(&segment(9, &["one"])).unwrap()).await.unwrap();
    node.heard().await;
    let mut second = rude.quic.open_uni().await.unwrap();
    second.write_all(&[1]).await.unwrap();
    let refusal = refused_with(&mut node, rude, RefusalCode::Malformed).await;
    assert_eq!(refusal.about, "a second thought stream");
}

#[tokio::test]
async fn segments_that_are_none_are_told_apart_from_garbage() {
    let mut node = node(1);
    let rude = rude(&mut node).await;
    let (link, ..) = node.connected().await;
    node.endpoint.admit(link);
    let mut stream = rude.quic.open_uni().await.unwrap();
    stream.write_all(&[1]).await.unwrap();
    // Kind 0, no entries, a signature: a frame, but no segment.
    let mut empty = (4_u32 + 8 + 64).to_le_bytes().to_vec();
    empty.resize(4 + 4 + 8 + 64, 0);
    stream.write_all(&empty).await.unwrap();
    match node.next().await {
        NetEvent::HeardWrong { fault, .. } => assert_eq!(fault, SegmentFault::Empty),
        other => panic!("{other:?}"),
    }
    stream.write_all(&[3, 0, 0, 0, 1, 2, 3]).await.unwrap();
    refused_with(&mut node, rude, RefusalCode::Malformed).await;
}

#[tokio::test]
async fn a_frame_that_never_ends_is_refused() {
    let mut config = config(1);
    config.timing.frame = std::time::Duration::from_millis(100);
    let mut node = open(config, InboxBounds::default());
    let mut rude = rude(&mut node).await;
    node.connected().await;
    rude.send.write_all(&[16, 0, 0, 0, 1]).await.unwrap();
    refused_with(&mut node, rude, RefusalCode::TooSlow).await;
}

#[tokio::test]
async fn a_stream_that_ends_within_a_frame_is_malformed() {
    let mut node = node(1);
    let mut rude = rude(&mut node).await;
    node.connected().await;
    rude.send.write_all(&[16, 0, 0, 0, 1]).await.unwrap();
    rude.send.finish().unwrap();
    refused_with(&mut node, rude, RefusalCode::Malformed).await;
}

#[tokio::test]
async fn one_rude_peer_does_not_disturb_another() {
    let (mut one, mut two) = (node(1), node(3));
    let (_, from_two) = crate::common::admitted(&mut one, &mut two).await;
    let mut rude = rude(&mut one).await;
    one.connected().await;
    rude.send.write_all(&[0; 64]).await.unwrap();
    refused_with(&mut one, rude, RefusalCode::Malformed).await;
    two.endpoint.publish(&[from_two], &segment(9, &["undisturbed"]));
    assert_eq!(one.heard().await, segment(9, &["undisturbed"]));
}
