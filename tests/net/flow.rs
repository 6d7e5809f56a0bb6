//! Flow: what a backlog, a second way and a slow reader do to what is live.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cogmesh::{
    ledger::types::Seq,
    log::books::Span,
    net::{NetEvent, SegmentCounts},
    protocol::frame::{BalanceFrame, StreamKind},
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    time::{interval, timeout},
};

use crate::{
    common::{Node, PATIENCE, SMALL, admitted, config, identity, node, number_of, numbered, open, segment},
    raw::Shows,
};

/// Everything that comes now, until that many live segments have; counts those that were known.
async fn live(node: &mut Node, count: usize) -> (Vec<usize>, usize) {
    let (mut heard, mut known) = (vec![], 0);
    while heard.len() + known < count {
        match timeout(PATIENCE, node.events.prompt.recv()).await.expect("no event in time").unwrap() {
            NetEvent::Heard { segment, .. } => heard.push(number_of(segment.get())),
            NetEvent::Known { .. } => known += 1,
            NetEvent::QueueFull { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    (heard, known)
}

#[tokio::test]
async fn a_backlog_that_nobody_reads_holds_up_no_live_segment() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    let mut sendings = vec![];
    let sent = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let (mut sender, sent) = (one.endpoint.catch_up(from_one).unwrap(), Arc::clone(&sent));
        sendings.push(tokio::spawn(async move {
            for number in 0..200 {
                sender.send(&numbered(number, 100_000)).await.unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    // Until nothing more of it fits anywhere, for as long as a hundred live segments take, one after the other.
    let (mut stuck, mut before) = (0, 0);
    while before == 0 || stuck < 100 {
        one.endpoint.publish(&[from_one], &numbered(1, 1_000));
        assert_eq!(live(&mut two, 1).await.0, [1]);
        let now = sent.load(Ordering::SeqCst);
        stuck = if now == before { stuck + 1 } else { 0 };
        before = now;
    }
    assert!(before < 100, "{before} segments of 100 kB wait somewhere");
    for number in 0..100 {
        one.endpoint.publish(&[from_one], &numbered(number, 1_000));
    }
    assert_eq!(live(&mut two, 100).await.0, (0..100).collect::<Vec<_>>());
    for sending in sendings {
        sending.abort();
    }
}

#[tokio::test]
async fn what_two_peers_send_is_verified_once() {
    let (mut one, mut two, mut three) = (node(1), node(2), node(3));
    let (from_one, to_one) = admitted(&mut one, &mut three).await;
    let (from_two, _) = admitted(&mut two, &mut three).await;
    let (first, longer) = (segment(9, &["00000001"]), segment(9, &["00000001", "and more"]));
    one.endpoint.publish(&[from_one], &first);
    let heard = three.heard().await;
    three.endpoint.holds(heard.author(), heard.last());
    for _ in 0..5 {
        two.endpoint.publish(&[from_two], &first);
    }
    for _ in 0..5 {
        match three.next().await {
            NetEvent::Known { author, last, .. } => {
                assert_eq!((author, last), (first.author(), first.last()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(three.endpoint.segment_counts(), SegmentCounts { verified: 1, known: 5 });
    two.endpoint.publish(&[from_two], &longer);
    assert_eq!(three.heard().await, longer, "what brings more is looked at whole");
    // What was asked for may mend what is held, so it is looked at though it is known.
    let span = Span { first: Seq(0), last: first.last() };
    three.endpoint.send_balance(to_one, &BalanceFrame::Mend { author: first.author(), span });
    assert!(matches!(one.next().await, NetEvent::Balance { .. }));
    let mut sender = one.endpoint.catch_up(from_one).unwrap();
    sender.send(&first).await.unwrap();
    assert_eq!(three.heard().await, first);
    assert_eq!(three.endpoint.segment_counts(), SegmentCounts { verified: 3, known: 5 });
    // But only once, and on one stream.
    let mut unasked = one.endpoint.catch_up(from_one).unwrap();
    for stream in [&mut sender, &mut unasked] {
        stream.send(&first).await.unwrap();
        assert!(matches!(three.next().await, NetEvent::Known { .. }));
    }
    assert_eq!(three.endpoint.segment_counts(), SegmentCounts { verified: 3, known: 7 });
}

#[tokio::test]
async fn a_peer_that_reads_next_to_nothing_neither_delays_nor_fattens_the_others() {
    const SEGMENTS: usize = 400;
    let (mut one, mut two, mut slow) = (node(1), node(2), open(config(3), SMALL));
    let (to_two, _) = admitted(&mut one, &mut two).await;
    let (to_slow, _) = admitted(&mut one, &mut slow).await;
    let mut taken = 0;
    for number in 0..SEGMENTS {
        one.endpoint.publish(&[to_two, to_slow], &numbered(number, 20_000));
        // Whoever reads has each before the next is sent, though the other one reads one in a hundred.
        assert_eq!(live(&mut two, 1).await.0, [number]);
        if number % 100 == 0 {
            taken += live(&mut slow, 1).await.0.len();
        }
    }
    let full = async {
        loop {
            if let NetEvent::QueueFull { link, kind } = one.next().await {
                return (link, kind);
            }
        }
    };
    assert_eq!(timeout(PATIENCE, full).await.unwrap(), (to_slow, StreamKind::Thought));
    // It goes on: what was queued comes, in order, and that was no more than a queue and a few windows.
    one.endpoint.publish(&[to_slow], &numbered(9_999, 1));
    let mut heard = vec![];
    while heard.last() != Some(&9_999) {
        heard.extend(live(&mut slow, 1).await.0);
    }
    assert!(heard.is_sorted(), "{heard:?}");
    assert!(taken + heard.len() < 120, "{} segments of 20 kB were held for it", heard.len());
}

/// A link that takes a packet a millisecond in one direction, about a megabyte a second, and holds as many as a cheap router does.
async fn narrow_link(to: SocketAddr) -> SocketAddr {
    const HELD: usize = 64;
    let (near, far) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    far.connect(to).await.unwrap();
    let address = near.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut packet, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        let (mut held, mut client) = (VecDeque::new(), None);
        let mut turn = interval(Duration::from_millis(1));
        loop {
            tokio::select! {
                Ok((length, from)) = near.recv_from(&mut packet) => {
                    client = Some(from);
                    far.send(&packet[..length]).await.unwrap();
                }
                Ok(length) = far.recv(&mut back), if held.len() < HELD => held.push_back(back[..length].to_vec()),
                _ = turn.tick() => if let Some((packet, client)) = held.pop_front().zip(client) {
                    near.send_to(&packet, client).await.unwrap();
                },
            }
        }
    });
    address
}

/// Which streams' bytes come first where only so many go through.
#[tokio::test]
async fn on_a_narrow_link_what_is_live_goes_before_a_backlog() {
    const LIVE: usize = 40;
    const SEGMENT_BYTES: usize = 10_000;
    let mut one = node(1);
    let endpoint = Shows::honest(&identity(2)).client();
    let quic = endpoint.connect(narrow_link(one.address).await, "x").unwrap().await.unwrap();
    let (mut control, _hear) = quic.open_bi().await.unwrap();
    control.write_all(&[StreamKind::Control.number()]).await.unwrap();
    let (link, ..) = one.connected().await;
    one.endpoint.admit(link);
    let (sent, mut taken) = watch::channel(0);
    let mut sendings = vec![];
    for _ in 0..4 {
        let (mut sender, sent) = (one.endpoint.catch_up(link).unwrap(), sent.clone());
        sendings.push(tokio::spawn(async move {
            let backlog = numbered(0, SEGMENT_BYTES);
            while sender.send(&backlog).await.is_ok() {
                sent.send_modify(|sent| *sent += 1);
            }
        }));
    }
    let (tell, mut told) = mpsc::unbounded_channel();
    let hearing = tokio::spawn(async move {
        while let Ok(mut stream) = quic.accept_uni().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut kind = [0];
                stream.read_exact(&mut kind).await.unwrap();
                while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
                    if tell.send((kind[0], chunk.bytes.len())).is_err() {
                        return;
                    }
                }
            });
        }
    });
    // The backlog has long filled what there is to fill.
    timeout(PATIENCE, taken.wait_for(|sent| *sent >= 200)).await.unwrap().unwrap();
    while told.try_recv().is_ok() {}
    for number in 0..LIVE {
        one.endpoint.publish(&[link], &numbered(number, SEGMENT_BYTES));
    }
    let (mut live, mut backlog) = (0, 0);
    while live < LIVE * SEGMENT_BYTES {
        let (kind, bytes) = timeout(PATIENCE, told.recv()).await.expect("nothing comes").unwrap();
        match kind == StreamKind::Thought.number() {
            true => live += bytes,
            false => backlog += bytes,
        }
    }
    println!("{live} live bytes came with {backlog} of the backlog");
    // Five streams that took turns would bring four times as much of the backlog.
    assert!(backlog < live, "{live} live bytes came with {backlog} of the backlog");
    hearing.abort();
    sendings.into_iter().for_each(|sending| sending.abort());
}
