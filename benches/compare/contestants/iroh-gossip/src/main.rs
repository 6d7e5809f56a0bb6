//! iroh-gossip as its documentation shows it: a router, a topic, joined by the publisher's address. Messages are neither signed nor stored, and
//! are dropped where a queue is full.

use anyhow::{Context, anyhow};
use bytes::Bytes;
use contest::{
    PubSub, Role, Task,
    pubsub::{Heard, run},
};
use futures_util::StreamExt;
use iroh::{
    Endpoint, EndpointAddr, address_lookup::memory::MemoryLookup, endpoint::presets, protocol::Router,
};
use iroh_gossip::{
    Gossip, TopicId,
    api::{Event, GossipSender},
};
use tokio::runtime::Builder;

const TOPIC: [u8; 32] = [23; 32];

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    Builder::new_multi_thread().enable_all().build()?.block_on(run::<Node>(task))
}

struct Node {
    sender: GossipSender,
    address: Vec<String>,
    _router: Router,
}

impl PubSub for Node {
    async fn open(task: &Task, heard: Heard) -> anyhow::Result<Self> {
        let lookup = MemoryLookup::new();
        let builder =
            Endpoint::builder(presets::Minimal).address_lookup(lookup.clone()).clear_ip_transports();
        let builder = builder.bind_addr("127.0.0.1:0").map_err(shown)?;
        let endpoint = builder.bind().await.map_err(shown)?;
        let listen = endpoint.bound_sockets().first().context("no socket")?.to_string();
        let address = vec![endpoint.id().to_string(), listen];
        let gossip = Gossip::builder().spawn(endpoint.clone());
        let router = Router::builder(endpoint).accept(iroh_gossip::ALPN, gossip.clone()).spawn();
        let topic = TopicId::from_bytes(TOPIC);
        let topic = match task.role {
            Role::Publisher => gossip.subscribe(topic, vec![]).await.map_err(shown)?,
            Role::Subscriber => {
                let (id, socket) = task.peer()?.split_once(' ').context("a key and a socket")?;
                let id = id.parse().map_err(shown)?;
                lookup.add_endpoint_info(EndpointAddr::new(id).with_ip_addr(socket.parse()?));
                gossip.subscribe_and_join(topic, vec![id]).await.map_err(shown)?
            }
        };
        let (sender, mut receiver) = topic.split();
        let answers = sender.clone();
        tokio::spawn(async move {
            while let Some(Ok(event)) = receiver.next().await {
                if let Event::Received(message) = event
                    && let Some(answer) = heard.message(&message.content)
                {
                    // Where it is gone, so is the other side.
                    let _gone = answers.broadcast(answer).await;
                }
            }
        });
        Ok(Self { sender, address, _router: router })
    }

    fn addresses(&self) -> Vec<String> {
        self.address.clone()
    }

    async fn publish(&self, message: Bytes) -> anyhow::Result<()> {
        self.sender.broadcast(message).await.map_err(shown)
    }
}

fn shown(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error:#}")
}
