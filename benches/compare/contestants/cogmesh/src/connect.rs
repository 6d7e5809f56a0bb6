//! New connections: the handshake alone, between two endpoints that are there; and all of it, from a node that is started to a peer that is
//! admitted.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use cogmesh::{
    log::{FederationId, Identity, Rules},
    net::{Endpoint, Inbox, InboxBounds, ListenOn, NetConfig, NetEvent, inbox},
    protocol::{
        input::{Address, Attempt, Dial},
        refusal::{Refusal, RefusalCode},
    },
};
use contest::{Child, Latencies, Order, Report, Role, Task, handshakes as measured, now_ns};
use tokio::time::timeout;

use crate::node;

const RULES: Rules = Rules { federation: FederationId([5; 32]), pow_bits: 0, content_bytes_max: 16_384 };
const PATIENCE: Duration = Duration::from_secs(10);

/// Dials, until both sides have proved their keys: TLS 1.3 with X25519MLKEM768, certificates both ways.
pub(crate) async fn handshakes(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    let seed = if task.role == Role::Publisher { [1; 32] } else { [2; 32] };
    let identity = Arc::new(Identity::from_seed(&seed).ok().context("a key can be made")?);
    let (sender, mut events) = inbox(InboxBounds::default());
    let endpoint = Endpoint::open(NetConfig::new(identity, RULES, ListenOn::Loopback, Some(0)), sender)?;
    let listen = endpoint.local_addresses().first().map(ToString::to_string).unwrap_or_default();
    child.ready(&[listen]);
    if task.role == Role::Publisher {
        child.wait_for(Order::Warm).await?;
        child.wait_for(Order::Go).await?;
        child.sent(0);
        loop {
            tokio::select! {
                // What it is told of is thrown away: it only accepts.
                event = events.recv() => drop(event.context("the endpoint is gone")?),
                order = child.order() => {
                    if order == Order::End {
                        child.report(&Report::new());
                        return Ok(());
                    }
                }
            }
        }
    }
    child.warm();
    child.expected().await?;
    let address: SocketAddr = task.peer()?.split(' ').next().unwrap_or_default().parse()?;
    let mut attempt = 0;
    let report = measured("handshake", task.count, async || {
        attempt += 1;
        let dial =
            Dial { attempt: Attempt(attempt), expect: None, addresses: vec![Address::Socket(address)] };
        let begun = now_ns();
        endpoint.dial(dial);
        let link = loop {
            match next(&mut events).await? {
                NetEvent::Connected { link, .. } => break link,
                NetEvent::DialFailed { why, .. } => bail!("{why}"),
                _ => {}
            }
        };
        let taken = now_ns() - begun;
        endpoint.close(link, Refusal::plain(RefusalCode::Stopping));
        while !matches!(next(&mut events).await?, NetEvent::Disconnected { .. }) {}
        Ok(taken)
    })
    .await?;
    child.report(&report);
    child.wait_for(Order::End).await
}

async fn next(events: &mut Inbox) -> anyhow::Result<NetEvent> {
    timeout(PATIENCE, events.recv()).await?.context("the endpoint is gone")
}

/// Starts a node that has its key and its store already, until its peer is admitted.
pub(crate) async fn admitted(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    if task.role == Role::Publisher {
        let (node, mut events) = node::start(task).await?;
        child.ready(&node::address(&node));
        child.wait_for(Order::Warm).await?;
        child.wait_for(Order::Go).await?;
        child.sent(0);
        loop {
            tokio::select! {
                _told = events.recv() => {}
                order = child.order() => {
                    if order == Order::End {
                        child.report(&Report::new());
                        return Ok(());
                    }
                }
            }
        }
    }
    child.ready(&[]);
    child.warm();
    child.expected().await?;
    let mut admissions = Latencies::default();
    let mut report = measured("connect", task.count, async || {
        let begun = now_ns();
        let (node, mut events) = node::start(task).await?;
        let started = now_ns();
        timeout(PATIENCE, node::linked(&mut events)).await??;
        let taken = now_ns() - begun;
        // Without what comes before an endpoint: locks, the key, the store.
        admissions.record(now_ns() - started);
        node.stop();
        node.stopped().await.ok().context("the node failed")?;
        Ok(taken)
    })
    .await?;
    report.put_latencies("admission", &admissions);
    child.report(&report);
    child.wait_for(Order::End).await
}
