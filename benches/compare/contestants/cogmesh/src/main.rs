//! Ours: whole nodes as anybody runs them, with their stores on a disk, talking over QUIC on loopback. Every thought is signed (a head for each
//! burst), verified, judged by the rules and stored on both sides.

#[path = "../../../../support/backlog.rs"]
#[allow(dead_code, reason = "other benches use more of it")]
mod backlog;
mod catch_up;
mod connect;
mod node;
mod thoughts;

use anyhow::bail;
use contest::{Child, Latencies, Order, Report, Role, Scenario, Task};
use tokio::runtime::Builder;

/// Round trips on one lane, which carries a mebibyte.
const PINGS: usize = 4_000;

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    // As `cogmesh start` has it.
    Builder::new_multi_thread().enable_all().build()?.block_on(run(task))
}

async fn run(task: Task) -> anyhow::Result<()> {
    match (task.scenario, task.role) {
        (Scenario::Rtt, _) => round_trips(&task).await,
        (Scenario::Oneway | Scenario::Flood, Role::Publisher) => thoughts::publish(&task).await,
        (Scenario::Oneway | Scenario::Flood, Role::Subscriber) => thoughts::subscribe(&task).await,
        (Scenario::Bulk, Role::Publisher) => catch_up::serve(&task).await,
        (Scenario::Bulk, Role::Subscriber) => catch_up::catch_up(&task).await,
        (Scenario::Connect, _) if task.variant == "admitted" => connect::admitted(&task).await,
        (Scenario::Connect, _) => connect::handshakes(&task).await,
        (Scenario::Rest, _) => rest(&task).await,
    }
}

/// Round trips on the stream that `cogmesh ping` uses, between two whole nodes.
async fn round_trips(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    let (node, mut events) = node::start(task).await?;
    child.ready(&node::address(&node));
    if task.role == Role::Subscriber {
        node::linked(&mut events).await?;
        child.warm();
        child.expected().await?;
        child.report(&Report::new());
        return child.wait_for(Order::End).await;
    }
    child.wait_for(Order::Warm).await?;
    child.wait_for(Order::Go).await?;
    let link = node::link(&node).await?;
    let mut latencies = Latencies::default();
    let end = contest::now_ns() + (task.seconds * 1e9) as u64;
    let mut warmed = false;
    while contest::now_ns() < end {
        // As a task beside the node's own, as the local API asks, and not on this thread, which they would have to wake.
        let pinging = node.clone();
        let took =
            tokio::spawn(async move { pinging.pings(link, contest::MESSAGE_BYTES, PINGS).await }).await??;
        // The first ones warm up, as with all contestants.
        for taken in took.into_iter().skip(if warmed { 0 } else { 500 }) {
            latencies.record(u64::try_from(taken.as_nanos())?);
        }
        warmed = true;
    }
    let mut report = Report::new();
    report.put_latencies("rtt", &latencies);
    child.sent(0);
    child.wait_for(Order::End).await?;
    child.report(&report);
    Ok(())
}

async fn rest(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    let (node, mut events) = node::start(task).await?;
    child.ready(&node::address(&node));
    if task.role == Role::Subscriber {
        node::linked(&mut events).await?;
        child.warm();
    }
    loop {
        match child.order().await {
            Order::End => break,
            Order::Go => child.sent(0),
            Order::Expect(_) => child.report(&Report::new()),
            Order::Warm => {}
        }
    }
    if task.role == Role::Publisher {
        child.report(&Report::new());
    }
    node.stop();
    if node.stopped().await.is_err() {
        bail!("the node failed");
    }
    Ok(())
}
