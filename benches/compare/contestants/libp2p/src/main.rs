//! libp2p's gossipsub over TCP, Noise and Yamux, every message signed and checked (its strict mode, which is its own default).

use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use contest::{
    PubSub, Role, Task,
    pubsub::{Heard, run},
};
use futures_util::StreamExt;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder,
    gossipsub::{self, IdentTopic, MessageAuthenticity, PublishError, ValidationMode},
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use tokio::{
    runtime::Builder,
    select,
    sync::{mpsc, oneshot},
};

const TOPIC: &str = "compare";
/// Messages that wait for the swarm.
const WAITING_MAX: usize = 256;

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    Builder::new_multi_thread().enable_all().build()?.block_on(run::<Node>(task))
}

struct Node {
    messages: mpsc::Sender<Bytes>,
    addresses: Vec<String>,
}

impl PubSub for Node {
    async fn open(task: &Task, heard: Heard) -> anyhow::Result<Self> {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
            .with_behaviour(|key| {
                let config = gossipsub::ConfigBuilder::default()
                    .validation_mode(ValidationMode::Strict)
                    // The mesh stands when the measurement begins, not five seconds later.
                    .heartbeat_initial_delay(Duration::from_millis(100))
                    .build()?;
                let signed = MessageAuthenticity::Signed(key.clone());
                Ok(gossipsub::Behaviour::new(signed, config)?)
            })
            .map_err(|error| anyhow!("{error}"))?
            // Nothing is said at rest, and connections are to stay all the same.
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
            .build();
        swarm.behaviour_mut().subscribe(&IdentTopic::new(TOPIC))?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        if task.role == Role::Subscriber {
            swarm.dial(task.peer()?.parse::<Multiaddr>()?)?;
        }
        let (messages, waiting) = mpsc::channel(WAITING_MAX);
        let (listens, listening) = oneshot::channel();
        let (joins, joined) = oneshot::channel();
        tokio::spawn(drive(swarm, waiting, heard, (listens, joins)));
        let address = listening.await.context("it does not listen")?;
        if task.role == Role::Subscriber {
            joined.await.context("it never joined")?;
        }
        Ok(Self { messages, addresses: vec![address.to_string()] })
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    async fn publish(&self, message: Bytes) -> anyhow::Result<()> {
        Ok(self.messages.send(message).await?)
    }
}

/// One task owns the swarm, as it must.
async fn drive(
    mut swarm: Swarm<gossipsub::Behaviour>,
    mut waiting: mpsc::Receiver<Bytes>,
    heard: Heard,
    (listens, joins): (oneshot::Sender<Multiaddr>, oneshot::Sender<()>),
) {
    let topic = IdentTopic::new(TOPIC);
    let (mut listens, mut joins) = (Some(listens), Some(joins));
    // One that found all queues full: it is tried again when the swarm has done something.
    let mut held: Option<Bytes> = None;
    loop {
        if let Some(message) = held.take() {
            match swarm.behaviour_mut().publish(topic.clone(), message.to_vec()) {
                Err(PublishError::AllQueuesFull(_)) => held = Some(message),
                Err(PublishError::NoPeersSubscribedToTopic) | Ok(_) => {}
                Err(error) => eprintln!("a message is lost: {error}"),
            }
        }
        select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. } => {
                    if let Some(listens) = listens.take() {
                        let _gone = listens.send(address);
                    }
                }
                SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. }) => {
                    if let Some(joins) = joins.take() {
                        let _nobody_waits = joins.send(());
                    }
                }
                SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) => {
                    if let Some(answer) = heard.message(&message.data) {
                        held = Some(answer);
                    }
                }
                _ => {}
            },
            Some(message) = waiting.recv(), if held.is_none() => held = Some(message),
            // What empties full queues makes no event.
            () = tokio::time::sleep(Duration::from_micros(100)), if held.is_some() => {}
        }
    }
}
