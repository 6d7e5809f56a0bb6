//! A node: started as the program starts it, under rules that let it write as fast as it can.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, bail};
use cogmesh::{
    ledger::{
        Policy,
        types::{Level, MicroAtp},
    },
    log::{Hardware, NodeId},
    node::{self, Config, Handle, Listen, PEERS_MAX_DEFAULT, PeerOption},
    protocol::{event::Event, input::LinkId, view::PeerState},
    store::Durability,
};
use contest::{Role, Task};
use tokio::sync::broadcast;

use crate::backlog::KEEP_ALL;

pub(crate) type Events = broadcast::Receiver<Arc<Event>>;

/// The default rules but for these: nobody writes too fast, and little work is asked for.
pub(crate) fn policy() -> Policy {
    Policy {
        pow_bits: 4,
        rate_base: 1_000_000_000,
        freeze_balance: MicroAtp(-1_000_000_000_000),
        ..Policy::default()
    }
}

pub(crate) fn config(task: &Task, name: &str) -> anyhow::Result<Config> {
    let peers = task.peers.iter().map(|peer| {
        let address = peer.split(' ').next().unwrap_or_default().to_owned();
        PeerOption { node: None, address }
    });
    Ok(Config {
        pki: None,
        pin: false,
        data_dir: task.dir.clone(),
        name: name.parse()?,
        hardware: Hardware::Software,
        level: Level::MAX,
        federation: Some("compare".parse()?),
        policy: policy(),
        listen: Listen::Loopback,
        port: Some(0),
        peers: peers.collect(),
        mdns: false,
        durability: if task.variant == "normal" { Durability::Normal } else { Durability::Full },
        corpus: KEEP_ALL,
        disk_free_min: 0,
        write_without_peers: false,
        rebuild_from_peers: false,
        certificate_lifetime: node::membership::LIFETIME,
        lends_arenas: false,
        peers_max: usize::from(PEERS_MAX_DEFAULT),
    })
}

/// Starts a node in the task's directory, with the task's peers.
pub(crate) async fn start(task: &Task) -> anyhow::Result<(Handle, Events)> {
    let name = match task.role {
        Role::Publisher => "legion".to_owned(),
        // Several subscribers have unlike names.
        Role::Subscriber => format!("thor-{}", std::process::id()),
    };
    let node = node::start(config(task, &name)?).await?;
    let events = node.events();
    Ok((node, events))
}

/// What others are to be told: where it listens, and who it is.
pub(crate) fn address(node: &Handle) -> Vec<String> {
    let listen: Vec<SocketAddr> = node.listen();
    vec![listen.first().map(ToString::to_string).unwrap_or_default(), node.about().id.to_string()]
}

/// Who the first peer is.
pub(crate) fn peer_id(task: &Task) -> anyhow::Result<NodeId> {
    let word = task.peer()?.split(' ').nth(1).context("a peer says who it is")?;
    word.parse().map_err(|_| anyhow::anyhow!("`{word}` is no node id"))
}

/// Waits until a peer is admitted.
pub(crate) async fn linked(events: &mut Events) -> anyhow::Result<()> {
    loop {
        if let Event::PeerVerified { .. } = &*events.recv().await? {
            return Ok(());
        }
    }
}

/// The link to its only peer.
pub(crate) async fn link(node: &Handle) -> anyhow::Result<LinkId> {
    let view = node.view().await?;
    let mut links = view.peers.iter().filter_map(|peer| match &peer.state {
        PeerState::Verified(peer) => Some(peer.link),
        PeerState::Seen(_) => None,
    });
    match links.next() {
        Some(link) => Ok(link),
        None => bail!("there is no link"),
    }
}
