//! What is heard on a link, and when; what happens where somebody is slow.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::common::{PATIENCE, SMALL, admitted, config, link, node, number_of, numbered, open, segment};
use bytes::Bytes;
use cogmesh::{
    ledger::types::{Millis, Seq},
    net::{InboxBounds, ListenOn, NetEvent, PROBE_BYTES_MAX, ProbeError},
    protocol::{
        frame::{BalanceFrame, ControlFrame, StreamKind},
        input::{Address, Attempt, Dial, LinkId},
    },
};

fn ping(number: u64) -> ControlFrame {
    ControlFrame::Ping { number, clock: Millis(5) }
}

#[tokio::test]
async fn what_each_side_says_is_heard_by_the_other_in_order() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, from_two) = admitted(&mut one, &mut two).await;
    for number in 0..100 {
        one.endpoint.send_control(from_one, &ping(number));
    }
    for wanted in 0..100 {
        match two.next().await {
            NetEvent::Control { link, frame } => assert_eq!((link, frame), (from_two, ping(wanted))),
            other => panic!("{other:?}"),
        }
    }
    let want = BalanceFrame::Want { author: one.id, from: Seq(3) };
    two.endpoint.send_balance(from_two, &want);
    match one.next().await {
        NetEvent::Balance { link, frame } => assert_eq!((link, frame), (from_one, want)),
        other => panic!("{other:?}"),
    }
    two.endpoint.publish(&[from_two, LinkId(99)], &segment(9, &["a thought"]));
    assert_eq!(one.heard().await, segment(9, &["a thought"]));
    assert!(one.endpoint.stats(from_one).unwrap().bytes_received > 0);
    assert_eq!(one.endpoint.stats(LinkId(99)), None);
}

#[tokio::test]
async fn nothing_but_the_control_stream_is_heard_before_admission() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, from_two) = link(&mut one, &mut two).await;
    // The one side has admitted the other and says all it has.
    one.endpoint.admit(from_one);
    one.endpoint.publish(&[from_one], &segment(9, &["too early"]));
    one.endpoint.send_balance(from_one, &BalanceFrame::Heads(vec![]));
    let mut catch_up = one.endpoint.catch_up(from_one).unwrap();
    let early = tokio::spawn(async move { catch_up.send(&numbered(1, 10)).await.map(|()| catch_up) });
    one.endpoint.send_control(from_one, &ping(1));
    two.endpoint.send_control(from_two, &ping(2));
    assert!(matches!(two.next().await, NetEvent::Control { .. }));
    assert!(matches!(one.next().await, NetEvent::Control { .. }));
    one.endpoint.send_control(from_one, &ping(3));
    assert!(matches!(two.next().await, NetEvent::Control { .. }), "only control, two round trips later");
    assert!(!early.is_finished());

    two.endpoint.admit(from_two);
    let (mut live, mut heads, mut caught_up) = (false, false, false);
    while !(live && heads && caught_up) {
        match two.next().await {
            NetEvent::Heard { segment, .. } if segment.entries()[1].content_text() == Some("too early") => {
                live = true;
            }
            NetEvent::Heard { .. } => caught_up = true,
            NetEvent::Balance { .. } => heads = true,
            other => panic!("{other:?}"),
        }
    }
    early.await.unwrap().unwrap().finish().await.unwrap();
}

#[tokio::test]
async fn a_segment_that_does_not_hold_is_told_and_the_link_stays() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    let (entries, head) = segment(9, &["mine"]).into_inner().into_parts();
    let forged = cogmesh::log::Head { signature: cogmesh::log::Signature([1; 64]), ..head };
    let forged = cogmesh::log::Segment::new(entries, forged).unwrap();
    one.endpoint.publish(&[from_one], &forged);
    one.endpoint.publish(&[from_one], &segment(9, &["true"]));
    assert!(matches!(two.next().await, NetEvent::HeardWrong { .. }));
    assert_eq!(two.heard().await, segment(9, &["true"]));
}

#[tokio::test]
async fn a_long_segment_is_heard_before_what_was_sent_after_it() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    let contents: Vec<String> = (0..900).map(|number| format!("thought {number}")).collect();
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    let long = segment(9, &contents);
    one.endpoint.publish(&[from_one], &long);
    one.endpoint.publish(&[from_one], &segment(9, &["after it"]));
    assert_eq!(two.heard().await, long);
    assert_eq!(two.heard().await, segment(9, &["after it"]));
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_its_queue_and_nothing_else_is_lost() {
    let (mut one, mut two) = (node(1), open(config(2), SMALL));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    // Two stops reading: its inbox has one place.
    let mut sent = 0;
    let full = loop {
        one.endpoint.publish(&[from_one], &numbered(sent, 100_000));
        sent += 1;
        tokio::task::yield_now().await;
        if let Ok(event) = one.events.prompt.try_recv() {
            break event;
        }
        assert!(sent < 1_000, "the queue has no bound");
    };
    match full {
        NetEvent::QueueFull { link, kind } => assert_eq!((link, kind), (from_one, StreamKind::Thought)),
        other => panic!("{other:?}"),
    }
    // A queue of a mebibyte, and what is under way in windows and buffers.
    assert!(sent < 60, "{sent} segments of 100 kB are too many to hold");
    // Two reads again: what was queued comes, in order; only what did not fit is missing. There is always room for a small
    // one: the queue was full for 100 kB.
    one.endpoint.publish(&[from_one], &numbered(9_999, 1));
    let mut heard = vec![];
    while heard.last() != Some(&9_999) {
        heard.push(number_of(two.heard().await.get()));
    }
    assert!(heard.is_sorted_by(|before, after| before < after), "{heard:?}");
    let whole = heard.iter().zip(0..).take_while(|(heard, sent)| *heard == sent).count();
    assert!(whole >= 10, "{heard:?}");
}

#[tokio::test]
async fn catch_up_comes_in_order_and_its_sender_waits_for_the_reader() {
    const SEGMENTS: usize = 150;
    let (mut one, mut two) = (node(1), open(config(2), SMALL));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    let mut sender = one.endpoint.catch_up(from_one).unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        for number in 0..SEGMENTS {
            sender.send(&numbered(number, 100_000)).await.unwrap();
            counted.store(number + 1, Ordering::SeqCst);
        }
        sender.finish().await
    });
    for number in 0..SEGMENTS {
        assert_eq!(number_of(two.heard().await.get()), number);
        // Both windows and the frames in hand: about a mebibyte.
        let ahead = sent.load(Ordering::SeqCst).saturating_sub(number);
        assert!(ahead <= 24, "{ahead} segments ahead of the reader");
    }
    assert_eq!(sending.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn five_catch_up_streams_at_once_all_arrive() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    let mut sendings = vec![];
    for stream in 0..9 {
        let mut sender = one.endpoint.catch_up(from_one).unwrap();
        sendings.push(tokio::spawn(async move {
            for number in 0..20 {
                sender.send(&numbered(stream * 100 + number, 1_000)).await.unwrap();
            }
            sender.finish().await.unwrap();
        }));
    }
    let mut last = [0; 9];
    let mut ended = 0;
    while ended < 9 {
        match two.next().await {
            NetEvent::Heard { segment, .. } => {
                let number = number_of(segment.get());
                assert_eq!(number % 100, last[number / 100]);
                last[number / 100] += 1;
            }
            NetEvent::CaughtUp { .. } => ended += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(last, [20; 9], "each stream's end is told behind what it brought");
    for sending in sendings {
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn a_probe_comes_back_as_it_went() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, from_two) = admitted(&mut one, &mut two).await;
    for (node, link) in [(&one, from_one), (&two, from_two)] {
        for bytes in [0, 64, PROBE_BYTES_MAX] {
            let took = node.endpoint.probe(link, Bytes::from(vec![7; bytes])).await.unwrap();
            assert!(took < PATIENCE);
        }
    }
    let long = one.endpoint.probe(from_one, Bytes::from(vec![7; PROBE_BYTES_MAX + 1])).await;
    assert_eq!(long, Err(ProbeError::TooLong { bytes: PROBE_BYTES_MAX + 1 }));
    assert_eq!(one.endpoint.probe(LinkId(99), Bytes::new()).await, Err(ProbeError::LinkGone));
}

#[tokio::test]
async fn of_several_addresses_the_one_that_answers_wins_and_names_are_resolved() {
    let (mut one, mut two) = (node(1), node(2));
    // A socket that never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = vec![
        Address::Socket(silent.local_addr().unwrap()),
        Address::Name("no-such-host.invalid:1".to_owned()),
        Address::Name(format!("127.0.0.1:{}", two.address.port())),
    ];
    one.endpoint.dial(Dial { attempt: Attempt(4), expect: Some(two.id), addresses });
    match one.next().await {
        NetEvent::Connected { attempt, address, .. } => {
            assert_eq!((attempt, address), (Some(Attempt(4)), two.address));
        }
        other => panic!("{other:?}"),
    }
    match two.next().await {
        NetEvent::Connected { attempt, .. } => assert_eq!(attempt, None),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_attempt_that_nobody_answers_says_so_for_each_address() {
    let mut config = config(1);
    config.timing.handshake = Duration::from_millis(300);
    let mut one = open(config, InboxBounds::default());
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    one.dial(None, &[silent, "224.0.0.251:5353".parse().unwrap()]);
    let why = one.dial_failed().await;
    assert!(why.contains(&format!("{silent}: no answer")), "{why}");
    assert!(why.contains("224.0.0.251:5353: no address that a node can have"), "{why}");
    one.dial(None, &[]);
    assert_eq!(one.dial_failed().await, "there is no address to dial");
}

#[tokio::test]
async fn connections_over_the_limit_are_turned_away() {
    let mut limited = config(1);
    limited.connections_max = 1;
    let (mut one, mut two, mut three) = (open(limited, InboxBounds::default()), node(2), node(3));
    link(&mut two, &mut one).await;
    three.dial(Some(one.id), &[one.address]);
    let why = three.dial_failed().await;
    assert!(why.contains("takes no more connections"), "{why}");
}

#[tokio::test]
async fn a_node_on_every_interface_is_reached_by_ipv4_and_ipv6_and_one_on_lo_by_ipv4() {
    let listening = |seed, listen| cogmesh::net::NetConfig { listen, ..config(seed) };
    let mut everywhere = open(listening(1, ListenOn::Everywhere), InboxBounds::default());
    let port = everywhere.address.port();
    let mut on_lo = open(listening(2, ListenOn::Interfaces(vec!["lo".to_owned()])), InboxBounds::default());
    let mut reached = vec![format!("127.0.0.1:{port}").parse().unwrap()];
    // A machine without IPv6 has only the first.
    if UdpSocket::bind("[::1]:0").is_ok() {
        reached.push(format!("[::1]:{port}").parse().unwrap());
    }
    for address in reached {
        on_lo.dial(None, &[address]);
        match on_lo.next().await {
            NetEvent::Connected { address: to, .. } => assert_eq!(to, address),
            other => panic!("{other:?}"),
        }
        match everywhere.next().await {
            NetEvent::Connected { address: from, .. } => {
                assert_eq!(from.is_ipv4(), address.is_ipv4(), "{from}");
                assert_eq!(from.port(), on_lo.address.port());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_hundred_that_come_at_once_all_get_in() {
    const MANY: usize = 100;
    let mut config = config(1);
    config.connections_max = 2 * MANY;
    let mut one = open(config, InboxBounds::default());
    let mut others = vec![];
    for seed in 0..MANY {
        let other = node(100 + u8::try_from(seed).unwrap());
        other.dial(Some(one.id), &[one.address]);
        others.push(other);
    }
    // More than shake hands without proof of their address, so some must have been sent round by a Retry.
    for _ in 0..MANY {
        one.connected().await;
    }
    for other in &mut others {
        other.connected().await;
    }
}
