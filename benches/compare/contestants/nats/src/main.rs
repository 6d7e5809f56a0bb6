//! NATS: messages go through a server of its own on loopback, in clear. What a subscriber has no room for is dropped.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Child as Process, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, anyhow};
use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use contest::{
    PubSub, Role, Task,
    pubsub::{Heard, run},
};
use futures_util::StreamExt;
use tokio::{runtime::Builder, time::sleep};

/// Debian puts it where only root looks.
const SERVERS: &[&str] = &["nats-server", "/usr/sbin/nats-server", "/usr/local/bin/nats-server"];

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    Builder::new_multi_thread().enable_all().build()?.block_on(run::<Node>(task))
}

struct Node {
    client: Client,
    subject: &'static str,
    address: String,
    server: Option<Server>,
}

/// The server, which ends with its publisher.
struct Server(Process);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

impl PubSub for Node {
    async fn open(task: &Task, heard: Heard) -> anyhow::Result<Self> {
        let (server, address) = match task.role {
            Role::Publisher => {
                let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
                (Some(start(port)?), format!("127.0.0.1:{port}"))
            }
            Role::Subscriber => (None, task.peer()?.to_owned()),
        };
        let client = connect(&address).await?;
        let (subject, theirs) = match task.role {
            Role::Publisher => ("compare.there", "compare.back"),
            Role::Subscriber => ("compare.back", "compare.there"),
        };
        let mut messages = client.subscribe(theirs).await.map_err(shown)?;
        client.flush().await.map_err(shown)?;
        let answers = client.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                if let Some(answer) = heard.message(&message.payload) {
                    // Where it is gone, so is the other side.
                    let _gone = answers.publish(subject, answer).await;
                }
            }
        });
        Ok(Self { client, subject, address, server })
    }

    fn addresses(&self) -> Vec<String> {
        vec![self.address.clone()]
    }

    async fn publish(&self, message: Bytes) -> anyhow::Result<()> {
        self.client.publish(self.subject, message).await.map_err(shown)
    }

    async fn flush(&self) -> anyhow::Result<()> {
        self.client.flush().await.map_err(shown)
    }

    fn other_processes(&self) -> Vec<u32> {
        self.server.iter().map(|server| server.0.id()).collect()
    }
}

fn start(port: u16) -> anyhow::Result<Server> {
    for program in SERVERS {
        let mut command = Command::new(program);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Ok(process) = command.spawn() {
            return Ok(Server(process));
        }
    }
    Err(anyhow!("there is no nats-server (apt-get install nats-server)"))
}

async fn connect(address: &str) -> anyhow::Result<Client> {
    let mut last = None;
    for _ in 0..500 {
        match ConnectOptions::new().connect(address).await {
            Ok(client) => return Ok(client),
            // The server needs a moment.
            Err(error) => last = Some(error),
        }
        sleep(Duration::from_millis(10)).await;
    }
    Err(last.map(shown).context("never tried")?)
}

fn shown(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
