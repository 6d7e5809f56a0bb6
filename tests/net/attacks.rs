//! Attacks on a running node, each beside a friend of it that goes on: its thoughts arrive meanwhile and afterwards, its link is not lost,
//! and the node's memory stays bounded. `COGMESH_ATTACK=full` gives them the size of a determined attacker.

use std::{num::NonZeroU64, sync::Arc, sync::atomic::AtomicBool};

use bytes::Bytes;
use cogmesh::{
    ledger::types::{Level, Millis, Seq},
    log::{Claim, Hardware, Identity, Nonce, Search, identity::check_work},
    net::bounds::PEER_BYTES,
    protocol::{
        frame::{BalanceFrame, ControlFrame, Instance, StreamKind},
        hello::Setup,
        input::Now,
        refusal::RefusalCode,
        wire::{self, FRAME_BYTES_MAX},
    },
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

use crate::{
    common::PATIENCE,
    raw::Shows,
    victim::{Pair, Process, federation, measured, policy, size, under_attack},
};

/// What an admitted peer that says nothing may cost.
const IDLE_KIB_MAX: u64 = 80;

fn identity(number: usize) -> Arc<Identity> {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Identity::from_seed(&seed).unwrap().into()
}

fn setup(number: usize) -> Setup {
    let identity = identity(number);
    let nonce = Search {
        federation: federation(),
        node: identity.node_id(),
        bits_min: policy().pow_bits,
        first: 0,
        step: NonZeroU64::MIN,
    };
    Setup {
        nonce: nonce.run(&AtomicBool::new(false)).unwrap(),
        identity,
        federation: federation(),
        federation_name: "lan".parse().unwrap(),
        closed: None,
        policy: policy(),
        name: "attacker".parse().unwrap(),
        claim: Claim { hardware: Hardware::Software, level: Level::MAX, arch: "x86_64".parse().unwrap() },
        instance: Instance(1),
        addresses: vec![],
        peers_max: 64,
        pinned: None,
    }
}

/// An attacker that is connected; TLS has proved its key.
struct Attacker {
    _endpoint: quinn::Endpoint,
    quic: Connection,
}

async fn attacker(victim: &Process, identity: &Identity) -> Attacker {
    let endpoint = Shows::honest(identity).client();
    let quic = endpoint.connect(victim.address, "x").unwrap().await.unwrap();
    Attacker { _endpoint: endpoint, quic }
}

/// One of many that share a socket: where it overflows, a handshake may come to nothing.
async fn patiently(endpoint: &quinn::Endpoint, config: &quinn::ClientConfig, victim: &Process) -> Connection {
    let connecting = async {
        loop {
            let connecting = endpoint.connect_with(config.clone(), victim.address, "x").unwrap();
            if let Ok(connection) = connecting.await {
                return connection;
            }
        }
    };
    timeout(PATIENCE, connecting).await.expect("the victim takes nobody any more")
}

impl Attacker {
    async fn control(&self) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.quic.open_bi().await.unwrap();
        send.write_all(&[StreamKind::Control.number()]).await.unwrap();
        (send, receive)
    }

    fn hello(&self, setup: &Setup) -> Vec<u8> {
        let mut exporter = [0; 32];
        self.quic.export_keying_material(&mut exporter, b"EXPORTER-cogmesh-v1", b"").unwrap();
        let hello = setup.hello(Now { mono: Millis(0), wall: now() }, &exporter);
        wire::encode_control(&ControlFrame::Hello(hello.into())).unwrap().to_vec()
    }

    async fn one_way(&self, kind: StreamKind) -> SendStream {
        let mut stream = self.quic.open_uni().await.unwrap();
        stream.write_all(&[kind.number()]).await.unwrap();
        stream
    }

    /// The code with which the victim closes it.
    async fn closed_with(&self) -> RefusalCode {
        match timeout(PATIENCE, self.quic.closed()).await.expect("it is not closed in time") {
            ConnectionError::ApplicationClosed(close) => {
                RefusalCode::from_number(close.error_code.into_inner()).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Millis(u64::try_from(since.as_millis()).unwrap())
}

/// One that was admitted as a peer, with its control stream, which must stay open.
async fn admitted(victim: &Process, number: usize) -> (Attacker, SendStream, RecvStream) {
    let setup = setup(number);
    let attacker = attacker(victim, &setup.identity).await;
    introduced(attacker, &setup).await
}

async fn introduced(attacker: Attacker, setup: &Setup) -> (Attacker, SendStream, RecvStream) {
    let (mut send, mut receive) = attacker.control().await;
    send.write_all(&attacker.hello(setup)).await.unwrap();
    loop {
        match wire::decode_control(&frame(&mut receive).await).unwrap() {
            ControlFrame::Admitted(_) => return (attacker, send, receive),
            ControlFrame::Refused(refusal) => panic!("{refusal}"),
            _ => {}
        }
    }
}

async fn frame(stream: &mut RecvStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.unwrap();
    let mut frame = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
    stream.read_exact(&mut frame).await.unwrap();
    frame
}

/// Passes on what comes to it and keeps all answers: whoever dials it has begun a handshake that nobody will finish.
async fn one_way_street(to: &Process) -> std::net::SocketAddr {
    let to = to.address;
    let entrance = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = entrance.local_addr().unwrap();
    let mut exits = vec![];
    for _ in 0..64 {
        exits.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    }
    tokio::spawn(async move {
        let mut packet = vec![0; 2_048];
        let mut next = 0;
        while let Ok((length, _)) = entrance.recv_from(&mut packet).await {
            next += 1;
            // Whether it arrives makes no difference to a flood.
            drop(exits[next / 2 % exits.len()].send_to(&packet[..length], to).await);
        }
    });
    address
}

#[test]
fn handshakes_that_are_begun_and_never_finished_lock_nobody_out() {
    under_attack(&[], async |victim, going, _| {
        let street = one_way_street(&victim).await;
        let client = Shows::honest(&identity(1)).client();
        let mut begun = vec![];
        for number in 0..size(10_000, 2_000) {
            begun.push(client.connect(street, "x").unwrap());
            if number % 50 == 0 {
                // So that the street is passed: one socket's buffer takes a few hundred packets.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        // In the middle of it, somebody honest gets in, by proving its address.
        let late = attacker(&victim, &identity(2)).await;
        drop(begun);
        let counters = victim.status()["counters"].clone();
        assert!(counters["incoming_asked"].as_u64().unwrap() > 100, "{counters}");
        drop(late);
        going.end("half-open handshakes");
    });
}

#[test]
fn peers_that_say_nothing_cost_a_node_next_to_nothing() {
    under_attack(&["--max-peers=1024"], async |victim, going, before_kib| {
        // One socket for all of them.
        let endpoint = Shows::honest(&identity(0)).client();
        let many = size(1_000, 200);
        let mut idle = vec![];
        for number in 1..=many {
            let setup = setup(number);
            let config = Shows::honest(&setup.identity).client_config();
            let quic = patiently(&endpoint, &config, &victim).await;
            idle.push(introduced(Attacker { _endpoint: endpoint.clone(), quic }, &setup).await);
        }
        assert_eq!(victim.status()["connections"].as_u64().unwrap(), u64::try_from(many).unwrap() + 1);
        let grown_kib = Pair::grown_kib(&victim, before_kib);
        let each_kib = grown_kib / u64::try_from(many).unwrap();
        measured(&format!("{many} idle peers: {grown_kib} KiB, {each_kib} KiB each"));
        assert!(each_kib <= IDLE_KIB_MAX, "{each_kib} KiB each");
        // Beside those that are there, not only while they come; and each thought is passed on to all of them.
        going.thinks(size(400, 10)).await;
        going.end_within("idle peers", u64::try_from(many).unwrap() * IDLE_KIB_MAX);
    });
}

#[test]
fn whoever_introduces_itself_a_byte_a_second_is_told_that_this_takes_too_long() {
    under_attack(&[], async |victim, going, _| {
        let mut slow = JoinSet::new();
        for number in 0..size(100, 40) {
            let victim = Arc::clone(&victim);
            slow.spawn(async move {
                let setup = setup(number);
                let attacker = attacker(&victim, &setup.identity).await;
                let (mut send, _receive) = attacker.control().await;
                let hello = attacker.hello(&setup);
                let trickle = async {
                    for byte in &hello {
                        if send.write_all(&[*byte]).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    code = attacker.closed_with() => code,
                    () = trickle => unreachable!(),
                }
            });
        }
        for code in slow.join_all().await {
            assert_eq!(code, RefusalCode::HandshakeTimeout);
        }
        going.end("slow introductions");
    });
}

#[test]
fn more_streams_than_there_are_kinds_can_not_be_opened_and_ending_them_again_and_again_harms_nobody() {
    under_attack(&[], async |victim, going, _| {
        let (attacker, _send, _receive) = admitted(&victim, 1).await;
        let mut open = vec![];
        while open.len() < 100 {
            match timeout(std::time::Duration::from_millis(300), attacker.one_way(StreamKind::CatchUp)).await
            {
                Ok(stream) => open.push(stream),
                Err(_) => break,
            }
        }
        assert_eq!(open.len(), 7, "one stream for each that a peer needs");
        drop(open);
        for _ in 0..size(100_000, 5_000) {
            let mut stream = attacker.one_way(StreamKind::CatchUp).await;
            stream.reset(0_u32.into()).unwrap();
        }
        going.end("stream flood");
    });
}

#[test]
fn frames_of_full_length_that_never_end_take_bounded_room() {
    under_attack(&[], async |victim, going, _| {
        let length = u32::try_from(FRAME_BYTES_MAX).unwrap().to_le_bytes();
        let nearly = vec![0; FRAME_BYTES_MAX - 1];
        let mut attackers = vec![];
        for number in 0..size(32, 12) {
            let attacker = admitted(&victim, number).await;
            let mut streams = vec![];
            let kinds = [StreamKind::Thought, StreamKind::BalanceSync, StreamKind::Proof];
            for kind in kinds.into_iter().chain([StreamKind::CatchUp; 4]) {
                let mut stream = attacker.0.one_way(kind).await;
                stream.write_all(&length).await.unwrap();
                stream.write_all(&nearly).await.unwrap();
                streams.push(stream);
            }
            attackers.push((attacker, streams));
        }
        // Each peer may take what ARCHITECTURE.md says, and takes far less.
        let bound_kib = u64::try_from(attackers.len() * PEER_BYTES).unwrap() >> 10;
        going.end_within("frames without end", bound_kib);
    });
}

/// quinn keeps the packet that a datagram came in as long as the datagram: a thousand small ones that nobody reads would hold a thousand.
#[test]
fn floods_of_datagrams_take_bounded_room_before_and_after_the_admission() {
    under_attack(&[], async |victim, going, _| {
        let stranger = attacker(&victim, &identity(1)).await;
        let (peer, _send, _receive) = admitted(&victim, 2).await;
        let flood = async |attacker: &Attacker, bytes: usize| {
            let datagram = Bytes::from(vec![0; bytes]);
            let mut sent = 0;
            // A stranger that says nothing is closed after five seconds.
            while sent < size(2_000_000, 100_000)
                && attacker.quic.send_datagram_wait(datagram.clone()).await.is_ok()
            {
                sent += 1;
            }
            sent
        };
        let (strange, small, large) = tokio::join!(flood(&stranger, 1), flood(&peer, 1), flood(&peer, 1_000));
        measured(&format!(
            "{strange} datagrams of a stranger, {small} small and {large} large ones of a peer"
        ));
        assert!(victim.counter("measure_datagrams") > 0, "what can be echoed is");
        going.end("datagram floods");
    });
}

#[test]
fn garbage_on_any_kind_of_stream_ends_that_link_with_a_code() {
    under_attack(&[], async |victim, going, _| {
        for round in 0..size(40, 4) {
            for kind in StreamKind::ALL {
                let number = round * 10 + usize::from(kind.number());
                let garbage: Vec<u8> =
                    (0..4_096_usize).map(|at| at.wrapping_mul(number * 2 + 31).to_le_bytes()[0]).collect();
                let (attacker, mut control, _receive) = admitted(&victim, number).await;
                match kind {
                    StreamKind::Control => control.write_all(&garbage).await.unwrap(),
                    StreamKind::Probe => {
                        // Bytes that mean nothing are what a probe is made of: they come back.
                        let (mut send, mut back) = attacker.quic.open_bi().await.unwrap();
                        send.write_all(&[kind.number()]).await.unwrap();
                        send.write_all(&garbage).await.unwrap();
                        send.finish().unwrap();
                        assert_eq!(back.read_to_end(8_192).await.unwrap(), garbage);
                        continue;
                    }
                    StreamKind::Measure => {
                        let (mut send, _back) = attacker.quic.open_bi().await.unwrap();
                        send.write_all(&[kind.number()]).await.unwrap();
                        send.write_all(&garbage).await.unwrap();
                    }
                    _ => attacker.one_way(kind).await.write_all(&garbage).await.unwrap(),
                }
                let code = attacker.closed_with().await;
                assert!(
                    matches!(code, RefusalCode::Malformed | RefusalCode::FrameTooLarge),
                    "{}: {code:?}",
                    kind.name()
                );
            }
        }
        going.end("garbage");
    });
}

#[test]
fn identities_with_too_little_work_are_turned_away_one_like_the_other() {
    under_attack(&[], async |victim, going, _| {
        let many = size(100_000, 2_000);
        let mut poor = JoinSet::new();
        for worker in 0..8 {
            let victim = Arc::clone(&victim);
            poor.spawn(async move {
                for number in (worker..many).step_by(8) {
                    let mut setup = Setup { identity: identity(number), ..setup(0) };
                    let bits = policy().pow_bits;
                    let is_enough =
                        |nonce| check_work(&federation(), &setup.id(), Nonce(nonce), bits).is_ok();
                    let nonce = (0..).find(|nonce| !is_enough(*nonce)).unwrap();
                    setup.nonce = Nonce(nonce);
                    let attacker = attacker(&victim, &setup.identity).await;
                    let (mut send, _receive) = attacker.control().await;
                    send.write_all(&attacker.hello(&setup)).await.unwrap();
                    assert_eq!(attacker.closed_with().await, RefusalCode::ProofOfWork);
                }
            });
        }
        poor.join_all().await;
        assert_eq!(victim.counter("refused_proof_of_work"), u64::try_from(many).unwrap());
        assert_eq!(victim.status()["authors"].as_array().unwrap().len(), 2, "nobody was taken in");
        going.end("identities with too little work");
    });
}

#[test]
fn old_segments_of_others_are_not_verified_again_however_often_they_come() {
    under_attack(&[], async |victim, going, _| {
        let status = victim.status();
        let friend = status["authors"].as_array().unwrap().iter().find(|author| author["name"] == "friend");
        let friend = friend.unwrap()["id"].as_str().unwrap().parse().unwrap();
        let (attacker, _send, _receive) = admitted(&victim, 1).await;
        let mut wants = attacker.one_way(StreamKind::BalanceSync).await;
        let want = wire::encode_balance(&BalanceFrame::Want { author: friend, from: Seq(0) }).unwrap();
        wants.write_all(&want).await.unwrap();
        // Whoever stops reading the others is given up.
        let mut kept = vec![];
        let old = loop {
            let mut stream = attacker.quic.accept_uni().await.unwrap();
            let mut kind = [0];
            stream.read_exact(&mut kind).await.unwrap();
            if kind == [StreamKind::CatchUp.number()] {
                break frame(&mut stream).await;
            }
            kept.push(stream);
        };
        let length = u32::try_from(old.len()).unwrap().to_le_bytes();
        let old = [&length[..], &old].concat();

        let (verified, known) = (victim.counter("segments_verified"), victim.counter("segments_known"));
        let many = size(100_000, 4_000);
        let mut live = attacker.one_way(StreamKind::Thought).await;
        for _ in 0..many / 2 {
            live.write_all(&old).await.unwrap();
        }
        for _ in 0..4 {
            let mut unasked = attacker.one_way(StreamKind::CatchUp).await;
            for _ in 0..many / 8 {
                unasked.write_all(&old).await.unwrap();
            }
            unasked.finish().unwrap();
        }
        let many = u64::try_from(many).unwrap();
        let counters = |status: &serde_json::Value, name: &str| status["counters"][name].as_u64().unwrap();
        victim.wait_for("all of it was seen", |status| counters(status, "segments_known") >= known + many);
        going.end("old segments");
        let fresh = victim.counter("segments_verified") - verified;
        let friends = victim.status()["authors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["seq"].as_u64().unwrap())
            .sum::<u64>();
        assert!(fresh <= friends, "{fresh} were verified, of which the friend wrote at most {friends}");
    });
}
