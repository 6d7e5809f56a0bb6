//! Measuring between two endpoints, and peers that misuse what is there for it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cogmesh::{
    ledger::types::Millis,
    log::{Entry, Hash, Head, Header, Segment, Signature},
    net::{
        ArenaAsked, ArenaPlace, Echo, Kind, MeasureError, Measuring, NetEvent, PAYLOAD_BYTES_MAX,
        PAYLOAD_BYTES_MIN, ProbeError,
    },
    protocol::{
        frame::{
            ArenaWanted, BULK_BLOCK_BYTES_MAX, ControlFrame, DRY_CONTENT_BYTES_MAX, MeasureFrame, NoArena,
            Tally, Weighed,
        },
        input::LinkId,
        refusal::RefusalCode,
        wire,
    },
};
use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    net::UdpSocket,
    sync::mpsc::{self, Receiver},
    time::timeout,
};

use crate::{
    common::{FEDERATION, Node, PATIENCE, admitted, identity, node, segment},
    raw::Shows,
};

/// A thought without what came before it.
fn dry(content: &str) -> Segment {
    let (mut entries, head) = segment(9, &[content]).into_inner().into_parts();
    Segment::new(vec![entries.pop().unwrap()], head).unwrap()
}

async fn measuring(node: &Node, link: LinkId, bytes: usize) -> (Measuring, Receiver<Echo>) {
    let (echoes, back) = mpsc::channel(1_024);
    (node.endpoint.measure(link, bytes, echoes).await.unwrap(), back)
}

async fn next(back: &mut Receiver<Echo>) -> (Kind, u64) {
    let echo = timeout(PATIENCE, back.recv()).await.expect("nothing came back").unwrap();
    (echo.kind, echo.number)
}

#[tokio::test]
async fn what_is_asked_comes_back_by_kind_and_number() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    for bytes in [PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MAX] {
        let (mut measuring, mut back) = measuring(&one, from_one, bytes).await;
        assert_eq!(measuring.has_floor(), Ok(()));
        measuring.ask_floor(3);
        assert_eq!(next(&mut back).await, (Kind::Floor, 3));
        measuring.ask_datagram(4);
        assert_eq!(next(&mut back).await, (Kind::Datagram, 4));
        measuring.ask_probe(5).await.unwrap();
        assert_eq!(next(&mut back).await, (Kind::Probe, 5));
        measuring.ask_stream(6).await;
        assert_eq!(next(&mut back).await, (Kind::Stream, 6));
        measuring.thoughts().ask(7, dry("weigh me"), PATIENCE).await;
        match two.next().await {
            NetEvent::Dry { segment, answer, .. } => {
                assert_eq!(*segment.get(), dry("weigh me"));
                answer.send(Weighed::Rejected).unwrap();
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(next(&mut back).await, (Kind::Thought, 7));
    }
    let done = two.endpoint.measure_counts();
    assert_eq!((done.floors, done.datagrams, done.dry_checked, done.dry_busy), (2, 2, 2, 0));
    assert_eq!(two.endpoint.segment_counts().verified, 0, "nothing of it counts as heard");
}

#[tokio::test]
async fn a_lane_goes_on_beyond_the_bytes_that_one_echo_carries() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    let (mut measuring, mut back) = measuring(&one, from_one, PAYLOAD_BYTES_MAX).await;
    let mut numbers = vec![];
    // An echo carries a mebibyte: 911 of them.
    for number in 0..2_000 {
        measuring.ask_probe(number).await.unwrap();
        numbers.push(next(&mut back).await);
    }
    assert!(numbers.into_iter().eq((0..2_000).map(|number| (Kind::Probe, number))));
}

#[tokio::test]
async fn a_ping_takes_a_round_trip_on_a_stream_that_stands() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, from_two) = admitted(&mut one, &mut two).await;
    for (node, link) in [(&one, from_one), (&two, from_two)] {
        for bytes in [16, 64 << 10] {
            assert!(node.endpoint.ping(link, bytes).await.unwrap() < PATIENCE);
        }
    }
    let long = (64 << 10) + 1;
    assert_eq!(one.endpoint.ping(from_one, long).await, Err(ProbeError::TooLong { bytes: long }));
    assert_eq!(one.endpoint.ping(LinkId(99), 16).await, Err(ProbeError::LinkGone));
    // An echo carries a mebibyte, one payload that is not measured among it.
    assert_eq!(one.endpoint.pings(from_one, 256, 4_095).await.unwrap().len(), 4_095);
    let all = 4_097 * 256;
    assert_eq!(one.endpoint.pings(from_one, 256, 4_096).await, Err(ProbeError::TooLong { bytes: all }));
}

#[tokio::test]
async fn a_link_is_measured_by_one_at_a_time_and_is_free_afterwards() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    let (first, _back) = measuring(&one, from_one, 64).await;
    let (echoes, _second_back) = mpsc::channel(1);
    let second = one.endpoint.measure(from_one, 64, echoes).await;
    assert_eq!(second.err(), Some(MeasureError::Taken));
    drop(first);
    let (third, mut back) = measuring(&one, from_one, 64).await;
    third.ask_datagram(1);
    assert_eq!(next(&mut back).await, (Kind::Datagram, 1));
}

fn wanted() -> ArenaWanted {
    let [writer, reader] = [11, 12].map(|seed| identity(seed).node_id());
    ArenaWanted { writer, reader, duration_ms: 1_000, synced: true }
}

/// The next that happens is that somebody asks for an arena.
async fn asked(node: &mut Node) -> ArenaAsked {
    match node.next().await {
        NetEvent::Arena(asked) => *asked,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_arena_is_asked_for_and_what_it_holds_and_bytes_go_its_way_in_bulk() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    let place = ArenaPlace { node: identity(13).node_id(), port: 40_000 };
    let lending = tokio::spawn(async move {
        let ArenaAsked { node, wanted: asked_for, answer, mut tallies, .. } = asked(&mut two).await;
        assert_eq!((node, asked_for), (identity(1).node_id(), wanted()));
        answer.send(Ok(place)).unwrap();
        let mut questions = vec![];
        while let Some(question) = tallies.recv().await {
            questions.push(question.thoughts);
            question.answer.send(Tally { thoughts: 5, cpu_us: 7 }).unwrap();
        }
        (two, questions)
    });
    let (mut borrowed, found) = one.endpoint.borrow_arena(from_one, wanted()).await.unwrap().unwrap();
    assert_eq!((found, borrowed.address(found).port()), (place, 40_000));
    assert_eq!(borrowed.tally(9).await, Ok(Tally { thoughts: 5, cpu_us: 7 }));
    let duration = Duration::from_millis(50);
    let bulk = borrowed.bulk(duration).await.unwrap();
    assert!(bulk.bytes >= BULK_BLOCK_BYTES_MAX.into() && bulk.took >= duration, "{bulk:?}");
    assert_eq!(
        borrowed.tally(10).await,
        Ok(Tally { thoughts: 5, cpu_us: 7 }),
        "in step after bytes that are no frames"
    );
    drop(borrowed);
    let (two, questions) =
        timeout(PATIENCE, lending).await.expect("the arena outlives whoever asked").unwrap();
    assert_eq!(questions, [9, 10]);
    assert_eq!(two.endpoint.measure_counts().arenas, 1);
    assert_eq!(two.endpoint.link_count(), 1, "the link stands");
}

#[tokio::test]
async fn whoever_gets_no_arena_or_loses_it_hears_why() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    for why in NoArena::ALL {
        let (refused, ()) = tokio::join!(one.endpoint.borrow_arena(from_one, wanted()), async {
            asked(&mut two).await.answer.send(Err(why)).unwrap();
        });
        assert_eq!(refused.unwrap().err(), Some(why));
    }
    let place = ArenaPlace { node: identity(13).node_id(), port: 40_000 };
    let (borrowed, lent) = tokio::join!(one.endpoint.borrow_arena(from_one, wanted()), async {
        let ArenaAsked { answer, tallies, .. } = asked(&mut two).await;
        answer.send(Ok(place)).unwrap();
        tallies
    });
    let (mut borrowed, _) = borrowed.unwrap().unwrap();
    drop(lent);
    assert_eq!(borrowed.tally(1).await, Err(MeasureError::Ended), "its owner took it away");
    drop(two);
    one.disconnected().await;
    assert_eq!(borrowed.tally(1).await, Err(MeasureError::LinkGone));
    borrowed.gone().await;
    assert_eq!(one.endpoint.borrow_arena(from_one, wanted()).await.err(), Some(MeasureError::LinkGone));
}

#[tokio::test]
async fn a_link_that_ends_is_measured_no_more() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    let (mut measuring, _back) = measuring(&one, from_one, 64).await;
    drop(two);
    one.disconnected().await;
    assert_eq!(measuring.ask_probe(1).await, Err(MeasureError::LinkGone));
    let (echoes, _back) = mpsc::channel(1);
    assert_eq!(one.endpoint.measure(from_one, 64, echoes).await.err(), Some(MeasureError::LinkGone));
}

/// A peer with a good certificate that does with its streams what it likes, admitted.
struct Rude {
    _endpoint: quinn::Endpoint,
    quic: Connection,
    control: (SendStream, RecvStream),
}

async fn rude(node: &mut Node, datagrams: Option<usize>) -> (Rude, LinkId) {
    let mut config = Shows::honest(&identity(2)).client_config();
    let mut transport = quinn::TransportConfig::default();
    transport.datagram_receive_buffer_size(datagrams);
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let quic = endpoint.connect_with(config, node.address, "x").unwrap().await.unwrap();
    let mut control = quic.open_bi().await.unwrap();
    control.0.write_all(&[0]).await.unwrap();
    let (link, ..) = node.connected().await;
    (Rude { _endpoint: endpoint, quic, control }, link)
}

/// A measure stream of such a peer.
struct Asking {
    send: SendStream,
    receive: RecvStream,
}

impl Asking {
    async fn open(rude: &Rude) -> Self {
        let (mut send, receive) = rude.quic.open_bi().await.unwrap();
        send.write_all(&[6]).await.unwrap();
        Self { send, receive }
    }

    async fn ask(&mut self, frame: &MeasureFrame) {
        self.send.write_all(&wire::encode_measure(frame).unwrap()).await.unwrap();
    }

    async fn answer(&mut self) -> MeasureFrame {
        let mut length = [0; 4];
        timeout(PATIENCE, self.receive.read_exact(&mut length)).await.unwrap().unwrap();
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        self.receive.read_exact(&mut frame).await.unwrap();
        wire::decode_measure(&frame, &FEDERATION).unwrap()
    }

    async fn floor(&mut self) -> (SocketAddr, [u8; 16]) {
        self.ask(&MeasureFrame::Floor).await;
        match self.answer().await {
            MeasureFrame::FloorAt { port, token } => (SocketAddr::from(([127, 0, 0, 1], port)), token),
            other => panic!("{other:?}"),
        }
    }
}

/// An older program announces no datagrams, and would end the link for a stream that it does not know.
#[tokio::test]
async fn a_peer_of_an_older_program_is_not_asked() {
    let mut node = node(1);
    let (rude, link) = rude(&mut node, None).await;
    node.endpoint.admit(link);
    let (echoes, _back) = mpsc::channel(1);
    let refused = node.endpoint.measure(link, 64, echoes).await;
    assert_eq!(refused.err(), Some(MeasureError::Unsupported));
    assert_eq!(rude.quic.close_reason(), None);
}

/// As behind a firewall that lets nothing but the node's own port through.
#[tokio::test]
async fn where_the_bare_port_can_not_be_reached_the_rest_is_measured_and_the_reason_is_said() {
    let mut node = node(1);
    let (rude, link) = rude(&mut node, Some(1 << 16)).await;
    node.endpoint.admit(link);
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let quic = rude.quic.clone();
    let answering = tokio::spawn(async move {
        let (mut send, mut receive) = quic.accept_bi().await.unwrap();
        let mut asked = [0; 9];
        receive.read_exact(&mut asked).await.unwrap();
        let answer = MeasureFrame::FloorAt { port, token: [7; 16] };
        send.write_all(&wire::encode_measure(&answer).unwrap()).await.unwrap();
        (send, receive, asked)
    });
    let (measuring, mut back) = measuring(&node, link, 64).await;
    let why = measuring.has_floor().unwrap_err();
    assert!(why.contains("firewall") && why.contains(&port.to_string()), "{why}");
    let (_send, _receive, asked) = answering.await.unwrap();
    assert_eq!(asked, [6, 4, 0, 0, 0, 0, 0, 0, 0], "the stream's kind, and a question of four bytes");
    measuring.ask_floor(1);
    measuring.ask_datagram(2);
    let datagram = rude.quic.read_datagram().await.unwrap();
    rude.quic.send_datagram([&[1], &datagram[1..]].concat().into()).unwrap();
    assert_eq!(next(&mut back).await, (Kind::Datagram, 2));
}

#[tokio::test]
async fn a_bare_port_ends_with_the_stream_that_asked_for_it() {
    let mut node = node(1);
    let (rude, link) = rude(&mut node, Some(1 << 16)).await;
    node.endpoint.admit(link);
    let mut asking = Asking::open(&rude).await;
    let (at, token) = asking.floor().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(at).await.unwrap();
    socket.send(&token).await.unwrap();
    let mut buffer = [0; 64];
    assert_eq!(timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap(), token.len());
    asking.send.finish().unwrap();
    // The system says that nobody has the port any more.
    let closed = async {
        loop {
            let sent = socket.send(&token).await;
            let heard = timeout(Duration::from_millis(20), socket.recv(&mut buffer)).await;
            if sent.is_err() || matches!(heard, Ok(Err(_))) {
                return;
            }
        }
    };
    timeout(PATIENCE, closed).await.expect("the port is still open");
}

#[tokio::test]
async fn a_second_bare_port_and_an_answer_that_nobody_asked_for_are_refused() {
    let not_asked = MeasureFrame::Weighed { number: 1, outcome: Weighed::Accepted };
    for (frames, about) in [
        ([MeasureFrame::Floor, MeasureFrame::Floor], "a second bare port"),
        ([MeasureFrame::Floor, not_asked], "an answer to a question"),
    ] {
        let mut node = node(1);
        let (rude, link) = rude(&mut node, Some(1 << 16)).await;
        node.endpoint.admit(link);
        let mut asking = Asking::open(&rude).await;
        for frame in &frames {
            asking.ask(frame).await;
        }
        let refusal = node.violated().await;
        assert_eq!(refusal.code, RefusalCode::Malformed);
        assert!(refusal.about.contains(about), "{refusal}");
    }
}

#[tokio::test]
async fn what_only_an_arena_takes_is_refused_without_one_and_so_is_a_second_one() {
    let bulk = MeasureFrame::Bulk { bytes: BULK_BLOCK_BYTES_MAX };
    for (frames, about) in [
        (vec![bulk], "in bulk without an arena"),
        (vec![MeasureFrame::Tally { thoughts: 1 }], "a tally without an arena"),
        (vec![MeasureFrame::Arena(wanted()); 2], "a second arena"),
        (vec![MeasureFrame::Taken { bytes: 1 }], "an answer to a question"),
    ] {
        let mut node = node(1);
        let (rude, link) = rude(&mut node, Some(1 << 16)).await;
        node.endpoint.admit(link);
        let mut asking = Asking::open(&rude).await;
        let arenas = frames.iter().filter(|frame| matches!(frame, MeasureFrame::Arena(_))).count();
        for frame in &frames {
            asking.ask(frame).await;
        }
        let mut lent = vec![];
        if arenas > 0 {
            let ArenaAsked { answer, tallies, .. } = asked(&mut node).await;
            answer.send(Ok(ArenaPlace { node: identity(13).node_id(), port: 1 })).unwrap();
            lent.push(tallies);
        }
        let refusal = node.violated().await;
        assert_eq!(refusal.code, RefusalCode::Malformed);
        assert!(refusal.about.contains(about), "{refusal}");
    }
}

#[tokio::test]
async fn a_dry_thought_that_is_too_long_is_refused_before_room_is_made_for_it() {
    let mut node = node(1);
    let (rude, link) = rude(&mut node, Some(1 << 16)).await;
    node.endpoint.admit(link);
    let mut asking = Asking::open(&rude).await;
    let frame = MeasureFrame::Dry { number: 1, segment: dry("x") };
    let mut bytes = wire::encode_measure(&frame).unwrap().to_vec();
    // Its content's length stands behind length, kind, number, and the header with its length.
    let header = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
    bytes[24 + header..32 + header].copy_from_slice(&(DRY_CONTENT_BYTES_MAX as u64 + 1).to_le_bytes());
    bytes.resize(bytes.len() + DRY_CONTENT_BYTES_MAX, b'x');
    let length = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    asking.send.write_all(&bytes).await.unwrap();
    assert_eq!(node.violated().await.code, RefusalCode::Malformed);
    assert_eq!(node.endpoint.measure_counts().dry_checked, 0);
}

#[tokio::test]
async fn dry_thoughts_that_do_not_hold_are_told_so_and_reach_nobody() {
    let mut node = node(1);
    let (rude, link) = rude(&mut node, Some(1 << 16)).await;
    node.endpoint.admit(link);
    let mut asking = Asking::open(&rude).await;
    let (entries, head) = dry("forged").into_parts();
    let forged = Segment::new(entries.clone(), Head { signature: Signature([1; 64]), ..head }).unwrap();
    // Signed, with another content than its header says.
    let header = Header { prev: Hash([4; 32]), ..entries[0].header().clone() };
    let liar = Entry::new(&FEDERATION, header, Some("another content"));
    let signed = Head::sign(&identity(9), &FEDERATION, liar.seq(), liar.hash());
    let lying = Segment::new(vec![liar], signed).unwrap();
    for segment in [forged, lying] {
        asking.ask(&MeasureFrame::Dry { number: 1, segment }).await;
        assert_eq!(asking.answer().await, MeasureFrame::Weighed { number: 1, outcome: Weighed::Unfit });
    }
    assert!(node.events.prompt.try_recv().is_err(), "neither the core nor anybody's blame");
    assert_eq!(rude.quic.close_reason(), None);
}

#[tokio::test]
async fn a_flood_of_dry_thoughts_is_checked_at_a_bounded_rate_and_the_rest_is_told_busy() {
    let mut node = node(1);
    let (rude, link) = rude(&mut node, Some(1 << 16)).await;
    node.endpoint.admit(link);
    let Asking { mut send, receive } = Asking::open(&rude).await;
    let begun = Instant::now();
    const SENT: u64 = 2_000;
    let flooding = tokio::spawn(async move {
        let segment = dry("again and again");
        for number in 0..SENT {
            let frame = MeasureFrame::Dry { number, segment: segment.clone() };
            send.write_all(&wire::encode_measure(&frame).unwrap()).await.unwrap();
        }
        send
    });
    let Node { endpoint, mut events, .. } = node;
    let weighing = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                NetEvent::Dry { answer, .. } => answer.send(Weighed::Accepted).unwrap(),
                NetEvent::Disconnected { .. } => break,
                other => panic!("{other:?}"),
            }
        }
    });
    let mut answers = Asking { send: rude.quic.open_bi().await.unwrap().0, receive };
    let (mut checked, mut busy) = (0, 0);
    while checked + busy < SENT {
        match answers.answer().await {
            MeasureFrame::Weighed { outcome: Weighed::Busy, .. } => busy += 1,
            MeasureFrame::Weighed { outcome: Weighed::Accepted, .. } => checked += 1,
            other => panic!("{other:?}"),
        }
    }
    let most = 100 + (begun.elapsed().as_secs_f64() * 600.0).ceil() as u64;
    assert!((100..=most).contains(&checked), "{checked} were checked, {most} may be");
    let counts = endpoint.measure_counts();
    assert_eq!((counts.dry_checked, counts.dry_busy), (checked, busy));
    drop(flooding.await.unwrap());
    rude.quic.close(0_u32.into(), b"");
    weighing.await.unwrap();
}

#[tokio::test]
async fn datagrams_are_echoed_after_the_admission_only_and_echoes_are_not_echoed() {
    let mut node = node(1);
    let (mut rude, link) = rude(&mut node, Some(1 << 16)).await;
    rude.quic.send_datagram(Bytes::from_static(b"\0too early")).unwrap();
    let ping = ControlFrame::Ping { number: 1, clock: Millis(2) };
    rude.control.0.write_all(&wire::encode_control(&ping).unwrap()).await.unwrap();
    // What came before that has been looked at by now: the tasks of one thread take turns in the order in which they were woken.
    assert!(matches!(node.next().await, NetEvent::Control { .. }));
    tokio::task::yield_now().await;
    node.endpoint.admit(link);
    for datagram in [&b"\x01an echo"[..], b"", b"\x02what", b"\0now"] {
        rude.quic.send_datagram(Bytes::from_static(datagram)).unwrap();
    }
    let back = timeout(PATIENCE, rude.quic.read_datagram()).await.unwrap().unwrap();
    assert_eq!(&back[..], b"\x01now", "the first that came back");
    assert_eq!(node.endpoint.measure_counts().datagrams, 1);
}

#[tokio::test]
async fn a_flood_of_datagrams_is_dropped_and_what_is_said_beside_it_is_heard() {
    let mut node = node(1);
    let (rude, link) = rude(&mut node, Some(1 << 16)).await;
    node.endpoint.admit(link);
    let mut thoughts = rude.quic.open_uni().await.unwrap();
    thoughts.write_all(&[1]).await.unwrap();
    let flood = async {
        loop {
            for _ in 0..64 {
                rude.quic.send_datagram(Bytes::from(vec![0; 1_000])).unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let beside = async {
        for number in 0..20 {
            let said = segment(9, &[&format!("thought {number}")]);
            thoughts.write_all(&wire::encode_segment(&said).unwrap()).await.unwrap();
            assert_eq!(node.heard().await, said);
        }
    };
    tokio::select! {
        () = flood => {}
        heard = timeout(PATIENCE * 2, beside) => heard.unwrap(),
    }
    assert_eq!(rude.quic.close_reason(), None);
}
