//! Three nodes in this process: starting, stopping and watching them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout_at},
};

use crate::{
    ledger::{
        policy::Policy,
        types::{Level, MicroAtp, Seq},
    },
    log::{FederationName, Hardware, Hash, Mode, NodeId, NodeName, SessionName, books::Recorded},
    node::{self, Config, Handle, Listen, PeerOption, membership::LIFETIME},
    protocol::{
        event::Event,
        input::{Answer, Submission},
        view::{PeerState, View},
    },
    store::{CorpusBounds, Durability},
};

/// The longest that anything here may take; a machine under heavy load needs a while.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Who takes part: name, hardware, level.
pub(super) const CAST: [(&str, Hardware, u8); 3] =
    [("legion", Hardware::Tpm2, 5), ("thor", Hardware::TrustZone, 5), ("sprout", Hardware::Tpm2, 3)];

/// Three nodes of one federation.
pub(super) struct Lab {
    federation: FederationName,
    policy: Policy,
    dir: PathBuf,
    /// In the order of [`CAST`].
    pub(super) nodes: Vec<Handle>,
}

/// What one node holds of one author, to be compared between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BookLine {
    pub(super) author: NodeId,
    pub(super) seq: Seq,
    pub(super) hash: Hash,
    pub(super) balance: MicroAtp,
    pub(super) digest: [u8; 32],
}

impl Lab {
    /// Starts all three, each with an empty store below `dir`.
    pub(super) async fn start(name: &str, policy: Policy, dir: &Path) -> anyhow::Result<Self> {
        let federation: FederationName = name.parse().context("federation name")?;
        let dir = dir.join(name);
        let mut lab = Self { federation, policy, dir, nodes: vec![] };
        for index in 0..CAST.len() {
            let node = lab.start_node(index).await?;
            lab.nodes.push(node);
        }
        Ok(lab)
    }

    /// Starts a node again on the store that it left.
    pub(super) async fn start_again(&mut self, index: usize) -> anyhow::Result<()> {
        let node = self.start_node(index).await?;
        *self.nodes.get_mut(index).context("no such node")? = node;
        Ok(())
    }

    /// Stops a node and waits until it has stopped.
    pub(super) async fn stop(&self, index: usize) -> anyhow::Result<()> {
        let node = self.node(index)?;
        node.stop();
        Ok(node.stopped().await?)
    }

    /// Stops all.
    pub(super) async fn stop_all(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            node.stop();
        }
        for node in &self.nodes {
            node.stopped().await?;
        }
        Ok(())
    }

    /// One of them.
    pub(super) fn node(&self, index: usize) -> anyhow::Result<&Handle> {
        self.nodes.get(index).context("no such node")
    }

    /// Waits until each of those lists all others of them as verified.
    pub(super) async fn meet(&self, who: &[usize]) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let wanted = who.len().saturating_sub(1);
        for index in who {
            let node = self.node(*index)?;
            wait_until(node, "its peers", |view| verified(view) >= wanted).await?;
        }
        Ok(started.elapsed())
    }

    /// Waits until all of those hold the same books.
    pub(super) async fn agree(&self, who: &[usize]) -> anyhow::Result<Duration> {
        let started = Instant::now();
        loop {
            let mut goals: Vec<BookLine> = vec![];
            for index in who {
                for line in books(&self.node(*index)?.view().await?) {
                    match goals.iter_mut().find(|goal| goal.author == line.author) {
                        Some(goal) if goal.seq < line.seq => *goal = line,
                        Some(_) => {}
                        None => goals.push(line),
                    }
                }
            }
            goals.sort_by_key(|goal| goal.author);
            for index in who {
                wait_until(self.node(*index)?, "the books of the others", |view| {
                    goals.iter().all(|goal| seq_of(view, goal.author) >= Some(goal.seq))
                })
                .await?;
            }
            if self.same_books(who).await? {
                return Ok(started.elapsed());
            }
            if started.elapsed() > PATIENCE {
                bail!("the nodes hold the same entries but not the same books");
            }
        }
    }

    /// Whether all of those hold the same seq, hash, balance and digest for every author.
    pub(super) async fn same_books(&self, who: &[usize]) -> anyhow::Result<bool> {
        let mut all = vec![];
        for index in who {
            all.push(books(&self.node(*index)?.view().await?));
        }
        Ok(all.windows(2).all(|pair| matches!(pair, [one, other] if one == other)))
    }

    async fn start_node(&self, index: usize) -> anyhow::Result<Handle> {
        let (name, hardware, level) = CAST.get(index).context("no such node")?;
        // Each knows where those that run already listen; who started first is dialled.
        let known = self.nodes.iter().enumerate().filter(|(other, _)| *other != index);
        let peers = known
            .flat_map(|(_, node)| node.listen().into_iter().map(|address| seed(node, address)))
            .collect();
        let config = Config {
            pki: None,
            pin: false,
            data_dir: self.dir.join(name),
            name: NodeName::from_host(name),
            hardware: *hardware,
            level: Level::try_from(*level)?,
            certificate_lifetime: LIFETIME,
            federation: Some(self.federation.clone()),
            policy: self.policy.clone(),
            listen: Listen::Loopback,
            port: Some(0),
            peers,
            mdns: false,
            peers_max: 8,
            durability: Durability::Full,
            corpus: CorpusBounds::default(),
            // A full disk ends the demo by itself, with a sentence.
            disk_free_min: 0,
            write_without_peers: false,
            rebuild_from_peers: false,
            lends_arenas: true,
        };
        node::start(config).await.with_context(|| format!("can't start {name}"))
    }
}

fn seed(node: &Handle, address: SocketAddr) -> PeerOption {
    PeerOption { node: Some(node.about().id), address: address.to_string() }
}

/// Submits a thought to the session `demo`.
pub(super) async fn submit(node: &Handle, content: String) -> anyhow::Result<Recorded> {
    let session: SessionName = "demo".parse().context("session name")?;
    let submission = Submission { content, session, mode: Mode::Exploring, key: None };
    match node.submit(submission).await? {
        Answer::Recorded { recorded, .. } => Ok(recorded),
        Answer::Inadmissible(why) => bail!("a thought of the demo was inadmissible: {why}"),
        Answer::Refused(why) => bail!("a thought of the demo was refused: {why}"),
        Answer::Would(_) | Answer::Cleared(_) => bail!("a submission was answered as something else"),
    }
}

/// Waits, event by event, until a node's view is as wanted.
pub(super) async fn wait_until(
    node: &Handle,
    what: &str,
    holds: impl Fn(&View) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut events = node.events();
    loop {
        if holds(&node.view().await?) {
            return Ok(());
        }
        match timeout_at(deadline, events.recv()).await {
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
            Ok(Err(RecvError::Closed)) => bail!("{} stopped while it waited for {what}", node.about().name),
            Err(_) => bail!("{} still lacks {what} after {} s", node.about().name, PATIENCE.as_secs()),
        }
    }
}

/// The next event within the demo's patience.
pub(super) async fn next_event(
    events: &mut broadcast::Receiver<Arc<Event>>,
    deadline: Instant,
) -> anyhow::Result<Arc<Event>> {
    match timeout_at(deadline, events.recv()).await {
        Ok(Ok(event)) => Ok(event),
        Ok(Err(RecvError::Lagged(missed))) => {
            bail!("the demo missed {missed} events; the machine is overloaded")
        }
        Ok(Err(RecvError::Closed)) => bail!("a node stopped"),
        Err(_) => bail!("no thought arrived within {} s", PATIENCE.as_secs()),
    }
}

/// How many peers a node lists as verified.
pub(super) fn verified(view: &View) -> usize {
    view.peers.iter().filter(|peer| matches!(peer.state, PeerState::Verified(_))).count()
}

/// What a node holds of every author.
pub(super) fn books(view: &View) -> Vec<BookLine> {
    let line = |(id, author): (&NodeId, &crate::protocol::view::AuthorView)| BookLine {
        author: *id,
        seq: author.book.seq(),
        hash: author.book.hash,
        balance: author.book.account.balance,
        digest: author.book.account.digest(),
    };
    view.known.authors.iter().map(line).collect()
}

fn seq_of(view: &View, author: NodeId) -> Option<Seq> {
    view.known.authors.get(&author).map(|author| author.book.seq())
}
