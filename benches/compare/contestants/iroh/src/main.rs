//! iroh on one thread: its QUIC streams between two endpoints that know each other's address, on loopback only. No relay, no lookup, no report
//! about the network.

use anyhow::{Context, anyhow};
use contest::{Child, Order, Report, Role, Scenario, Task, handshakes, now_ns, streams};
use iroh::{Endpoint, EndpointAddr, endpoint::presets};
use tokio::runtime::Builder;

const ALPN: &[u8] = b"compare/0";

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    Builder::new_current_thread().enable_all().build()?.block_on(run(&task))
}

async fn run(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    if task.role == Role::Publisher {
        let endpoint = endpoint().await?;
        child.ready(&[endpoint.id().to_string(), listen(&endpoint)?]);
        if task.scenario == Scenario::Connect {
            return accept(&mut child, &endpoint).await;
        }
        let connection = endpoint.accept().await.context("nobody came")?.await.map_err(shown)?;
        let (write, read) = connection.accept_bi().await.map_err(shown)?;
        streams::publish(task, &mut child, write, read).await?;
        connection.closed().await;
        return Ok(());
    }
    let peer = address(task.peer()?)?;
    if task.scenario == Scenario::Connect {
        child.ready(&[]);
        child.warm();
        child.expected().await?;
        let report = handshakes("connect", task.count, async || {
            let begun = now_ns();
            let endpoint = endpoint().await?;
            let connection = endpoint.connect(peer.clone(), ALPN).await.map_err(shown)?;
            let taken = now_ns() - begun;
            connection.close(0_u32.into(), b"");
            endpoint.close().await;
            Ok(taken)
        });
        let report = report.await?;
        child.report(&report);
        return child.wait_for(Order::End).await;
    }
    let endpoint = endpoint().await?;
    let connection = endpoint.connect(peer, ALPN).await.map_err(shown)?;
    let (write, read) = connection.open_bi().await.map_err(shown)?;
    streams::hear(task, &mut child, write, read).await?;
    connection.close(0_u32.into(), b"");
    endpoint.close().await;
    Ok(())
}

/// An endpoint with a new key, on loopback.
async fn endpoint() -> anyhow::Result<Endpoint> {
    let builder = Endpoint::builder(presets::Minimal).alpns(vec![ALPN.to_vec()]).clear_ip_transports();
    let builder = builder.bind_addr("127.0.0.1:0").map_err(shown)?;
    builder.bind().await.map_err(shown)
}

fn listen(endpoint: &Endpoint) -> anyhow::Result<String> {
    let sockets = endpoint.bound_sockets();
    Ok(sockets.first().context("no socket")?.to_string())
}

/// What a publisher says of itself: its key and its socket.
fn address(words: &str) -> anyhow::Result<EndpointAddr> {
    let (id, socket) = words.split_once(' ').context("a key and a socket")?;
    Ok(EndpointAddr::new(id.parse().map_err(shown)?).with_ip_addr(socket.parse()?))
}

async fn accept(child: &mut Child, endpoint: &Endpoint) -> anyhow::Result<()> {
    child.wait_for(Order::Warm).await?;
    child.wait_for(Order::Go).await?;
    child.sent(0);
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let incoming = incoming.context("the endpoint is gone")?;
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        connection.closed().await;
                    }
                });
            }
            order = child.order() => {
                if order == Order::End {
                    child.report(&Report::new());
                    return Ok(());
                }
            }
        }
    }
}

fn shown(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error:#}")
}
