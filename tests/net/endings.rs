//! How links end: refused, shut down, silent, restarted; and that it is told once, last, and on both ends.

use std::{
    net::SocketAddr,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use cogmesh::{
    ledger::types::Millis,
    log::NodeId,
    net::{InboxBounds, NetConfig, NetEvent},
    protocol::{
        frame::ControlFrame,
        input::Ended,
        refusal::{Refusal, RefusalCode},
    },
};
use tokio::{runtime::Builder, sync::oneshot, task::spawn_blocking};

use crate::common::{Node, SMALL, admitted, config, link, node, number_of, numbered, open};

#[tokio::test]
async fn a_refusal_is_known_on_both_ends_with_its_reason() {
    let (mut one, mut two) = (node(1), node(2));
    let (_, from_two) = link(&mut one, &mut two).await;
    let refusal = Refusal::about(RefusalCode::PolicyDiffers, "`rate_base` is 100 on legion, 10 on thor");
    let started = Instant::now();
    two.endpoint.close(from_two, refusal.clone());
    assert_eq!(one.refused().await, refusal);
    assert_eq!(one.disconnected().await, Ended::Refused(refusal));
    assert_eq!(two.disconnected().await, Ended::Closed);
    assert!(started.elapsed() < Duration::from_millis(900), "nobody had to wait for a time-out");
    assert_eq!(two.endpoint.stats(from_two), None);
}

#[tokio::test]
async fn both_ends_may_refuse_each_other_at_once() {
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, from_two) = link(&mut one, &mut two).await;
    one.endpoint.close(from_one, Refusal::plain(RefusalCode::Duplicate));
    two.endpoint.close(from_two, Refusal::plain(RefusalCode::Duplicate));
    for node in [&mut one, &mut two] {
        loop {
            match node.next().await {
                NetEvent::Disconnected { .. } => break,
                NetEvent::Control { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_shutdown_sends_what_is_queued_says_goodbye_and_is_quick() {
    const SEGMENTS: usize = 50;
    let (mut one, mut two) = (node(1), node(2));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    for number in 0..SEGMENTS {
        one.endpoint.publish(&[from_one], &numbered(number, 5_000));
    }
    let started = Instant::now();
    // As the node does it: its inbox is not read any more.
    drop(one.events);
    let stopping = Refusal::plain(RefusalCode::Stopping);
    let (endpoint, refusal) = (one.endpoint, stopping.clone());
    let shutdown = tokio::spawn(async move { endpoint.shutdown(refusal).await });
    let mut heard = 0;
    let why = loop {
        match two.next().await {
            NetEvent::Heard { segment, .. } => {
                assert_eq!(number_of(&segment), heard);
                heard += 1;
            }
            NetEvent::Control { .. } => {}
            NetEvent::Disconnected { why, .. } => break why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((heard, why), (SEGMENTS, Ended::Refused(stopping)));
    shutdown.await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(1_900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_peer_that_does_not_read() {
    let (mut one, mut two) = (node(1), open(config(2), SMALL));
    let (from_one, _) = admitted(&mut one, &mut two).await;
    for number in 0..10 {
        one.endpoint.publish(&[from_one], &numbered(number, 100_000));
    }
    let started = Instant::now();
    one.endpoint.shutdown(Refusal::plain(RefusalCode::Stopping)).await;
    assert!(started.elapsed() < Duration::from_millis(1_900), "{:?}", started.elapsed());
}

/// A node in a thread of its own, so that it can be killed: nothing of it runs on, nothing is said.
struct Mortal {
    id: NodeId,
    address: SocketAddr,
    thread: JoinHandle<()>,
    kill: oneshot::Sender<()>,
}

async fn mortal(config: NetConfig) -> Mortal {
    let (told, tell) = oneshot::channel();
    let (kill, mut killed) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        // Of one thread: when it stops, all its tasks stand still at once, and none sees another one being dropped.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let node = runtime.block_on(async {
            let mut node = open(config, InboxBounds::default());
            told.send((node.id, node.address)).unwrap();
            let pong = ControlFrame::Pong { number: 1, clock: Millis(1) };
            loop {
                tokio::select! {
                    asked = &mut killed => {
                        asked.unwrap();
                        return node;
                    }
                    event = node.events.recv() => if let Some(NetEvent::Control { link, .. }) = event {
                        node.endpoint.send_control(link, &pong);
                    }
                }
            }
        });
        drop(runtime);
        drop(node);
    });
    let (id, address) = tell.await.unwrap();
    Mortal { id, address, thread, kill }
}

impl Mortal {
    /// Links it, and makes sure that its side of the handshake is done too: it answers. A side that still shakes hands
    /// sends nothing that a restarted node could answer with a reset.
    async fn linked(&self, survivor: &mut Node) {
        survivor.dial(Some(self.id), &[self.address]);
        let (link, ..) = survivor.connected().await;
        survivor.endpoint.send_control(link, &ControlFrame::Ping { number: 1, clock: Millis(1) });
        assert!(matches!(survivor.next().await, NetEvent::Control { .. }));
    }

    async fn killed(self) {
        self.kill.send(()).unwrap();
        spawn_blocking(|| self.thread.join().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_gone_after_the_idle_limit() {
    let mut patient = config(1);
    patient.timing.idle = Duration::from_millis(600);
    patient.timing.keep_alive = Duration::from_millis(100);
    let mut survivor = open(patient, InboxBounds::default());
    let mortal = mortal(config(2)).await;
    mortal.linked(&mut survivor).await;
    mortal.killed().await;
    let started = Instant::now();
    assert_eq!(survivor.disconnected().await, Ended::Broke("no answer".to_owned()));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_peer_that_was_killed_and_started_again_is_noticed_at_once() {
    let mut patient = config(1);
    patient.timing.idle = Duration::from_secs(60);
    patient.timing.keep_alive = Duration::from_millis(100);
    let mut survivor = open(patient, InboxBounds::default());
    let first = mortal(config(2)).await;
    first.linked(&mut survivor).await;
    let port = first.address.port();
    first.killed().await;
    let mut again = config(2);
    again.port = Some(port);
    let _second = open(again, InboxBounds::default());
    assert_eq!(survivor.disconnected().await, Ended::Broke("the other side was restarted".to_owned()));
}

#[tokio::test]
async fn a_dropped_endpoint_ends_its_links() {
    let (mut one, mut two) = (node(1), node(2));
    link(&mut one, &mut two).await;
    drop(one);
    assert!(matches!(two.disconnected().await, Ended::Broke(_)));
}
