//! zenoh between two peers that are told of each other: nothing is looked for, by multicast or gossip. Over TCP in clear, over QUIC with
//! certificates both ways. Publishers block where there is no room, as its throughput example does; single messages are not held back for a batch
//! (`express`), as its ping example does.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::Path,
};

use anyhow::anyhow;
use bytes::Bytes;
use contest::{
    Child, Order, PubSub, Report, Role, Scenario, Task, handshakes, now_ns,
    pubsub::{Heard, run},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use zenoh::{
    Config, Session, Wait,
    pubsub::{Publisher, Subscriber},
    qos::CongestionControl,
};

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    if task.scenario == Scenario::Connect {
        return runtime.block_on(connect(&task));
    }
    runtime.block_on(run::<Node>(task))
}

struct Node {
    publisher: Publisher<'static>,
    _subscriber: Subscriber<()>,
    _session: Session,
    address: String,
}

impl PubSub for Node {
    async fn open(task: &Task, heard: Heard) -> anyhow::Result<Self> {
        let address = address(task)?;
        let session = zenoh::open(config(task, &address)?).await.map_err(shown)?;
        let (own, theirs) = match task.role {
            Role::Publisher => ("compare/there", "compare/back"),
            Role::Subscriber => ("compare/back", "compare/there"),
        };
        // A batch is worth its delay in a flood only.
        let express = task.scenario != Scenario::Flood;
        let publisher =
            || session.declare_publisher(own).congestion_control(CongestionControl::Block).express(express);
        let answers = publisher().await.map_err(shown)?;
        let subscriber = session.declare_subscriber(theirs).callback(move |sample| {
            if let Some(answer) = heard.message(&sample.payload().to_bytes()) {
                // Where it is gone, so is the other side.
                let _gone = answers.put(answer).wait();
            }
        });
        let subscriber = subscriber.await.map_err(shown)?;
        let publisher = publisher().await.map_err(shown)?;
        Ok(Self { publisher, _subscriber: subscriber, _session: session, address })
    }

    fn addresses(&self) -> Vec<String> {
        vec![self.address.clone()]
    }

    async fn publish(&self, message: Bytes) -> anyhow::Result<()> {
        self.publisher.put(message).await.map_err(shown)
    }
}

/// New sessions, each until it is connected.
async fn connect(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    let address = address(task)?;
    if task.role == Role::Publisher {
        let _session = zenoh::open(config(task, &address)?).await.map_err(shown)?;
        child.ready(&[address]);
        child.wait_for(Order::Warm).await?;
        child.wait_for(Order::Go).await?;
        child.sent(0);
        child.wait_for(Order::End).await?;
        child.report(&Report::new());
        return Ok(());
    }
    child.ready(&[]);
    child.warm();
    child.expected().await?;
    let report = handshakes("connect", task.count, async || {
        let config = config(task, &address)?;
        let begun = now_ns();
        let session = zenoh::open(config).await.map_err(shown)?;
        let taken = now_ns() - begun;
        session.close().await.map_err(shown)?;
        Ok(taken)
    });
    let report = report.await?;
    child.report(&report);
    child.wait_for(Order::End).await
}

/// Where the publisher listens.
fn address(task: &Task) -> anyhow::Result<String> {
    if task.role == Role::Subscriber {
        return Ok(task.peer()?.to_owned());
    }
    // zenoh does not say which port it was given, so one is looked for that is free.
    Ok(match &*task.variant {
        "quic" => format!("quic/{}", UdpSocket::bind("127.0.0.1:0")?.local_addr()?),
        _ => format!("tcp/{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?),
    })
}

fn config(task: &Task, address: &str) -> anyhow::Result<Config> {
    let mut config = Config::default();
    let mut set = |key: &str, value: Value| {
        config.insert_json5(key, &value.to_string()).map_err(|error| anyhow!("{key}: {error}"))
    };
    set("mode", json!("peer"))?;
    set("scouting/multicast/enabled", json!(false))?;
    set("scouting/gossip/enabled", json!(false))?;
    match task.role {
        Role::Publisher => set("listen/endpoints", json!([address]))?,
        Role::Subscriber => {
            set("listen/endpoints", json!([]))?;
            set("connect/endpoints", json!([address]))?;
            set("connect/timeout_ms", json!(10_000))?;
            set("connect/exit_on_failure", json!(true))?;
        }
    }
    if task.variant == "quic" {
        let file = |name: &str| json!(task.shared.join(name).display().to_string());
        if task.role == Role::Publisher && !task.shared.join("key.pem").exists() {
            write_certificates(&task.shared)?;
        }
        let tls = json!({
            "root_ca_certificate": file("ca.pem"),
            "listen_certificate": file("cert.pem"),
            "listen_private_key": file("key.pem"),
            "connect_certificate": file("cert.pem"),
            "connect_private_key": file("key.pem"),
            "enable_mtls": true,
            "verify_name_on_connect": false,
        });
        set("transport/link/tls", tls)?;
    }
    Ok(config)
}

/// A CA, and one certificate that both sides show.
fn write_certificates(dir: &Path) -> anyhow::Result<()> {
    let mut ca = CertificateParams::new(vec![])?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &ca)?;
    fs::write(dir.join("ca.pem"), ca.pem())?;
    fs::write(dir.join("cert.pem"), certificate.pem())?;
    fs::write(dir.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

fn shown(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
