//! Nodes in processes of their own: this program again, in another role. It reads commands, a line each, and writes lines.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use cogmesh::{
    ledger::{
        Policy,
        types::{Level, MicroAtp, Seq},
    },
    log::{Hardware, Mode, NodeId},
    node::{self, Config, Handle, Listen, PeerOption},
    protocol::{
        event::Event,
        input::{Answer, Submission},
    },
    store::Durability,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin},
    sync::mpsc,
};

use crate::backlog::{KEEP_ALL, word};

/// The word that puts this program into the role of a node.
pub(crate) const ROLE: &str = "--node";

/// Rules under which a node may write as fast as these measurements want.
pub(crate) fn policy() -> Policy {
    Policy {
        pow_bits: 4,
        rate_base: 1_000_000,
        freeze_balance: MicroAtp(-1_000_000_000_000),
        ..Policy::default()
    }
}

pub(crate) fn config(dir: &Path, name: &str, peers: &[SocketAddr]) -> Config {
    Config {
        pki: None,
        pin: false,
        data_dir: dir.to_owned(),
        name: name.parse().unwrap(),
        hardware: Hardware::Software,
        level: Level::MAX,
        federation: Some("bench".parse().unwrap()),
        policy: policy(),
        listen: Listen::Loopback,
        port: Some(0),
        peers: peers.iter().map(|peer| PeerOption { node: None, address: peer.to_string() }).collect(),
        mdns: false,
        durability: Durability::Full,
        corpus: KEEP_ALL,
        disk_free_min: 0,
        write_without_peers: false,
        rebuild_from_peers: false,
        lends_arenas: true,
        certificate_lifetime: node::membership::LIFETIME,
        peers_max: 64,
    }
}

/// Nanoseconds since the Unix epoch, which all processes of a machine count alike.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// Publishes a thought with a content that nobody has written before, so long; gives its place and when it was handed over.
pub(crate) async fn submit(node: &Handle, number: u64, bytes: usize) -> (Seq, u64) {
    let mut content = "What emerges when economic incentives and epistemic quality meet across".to_owned();
    for place in 0.. {
        content.push(' ');
        content.push_str(&word((number * 1_009 + place * 7_919) % 99_991));
        if place >= 3 && content.len() >= bytes {
            break;
        }
    }
    let submission =
        Submission { content, session: "main".parse().unwrap(), mode: Mode::Exploring, key: None };
    let at = now_ns();
    match node.submit(submission).await.unwrap() {
        Answer::Recorded { recorded, .. } => (recorded.seq, at),
        other @ (Answer::Would(_) | Answer::Inadmissible(_) | Answer::Refused(_) | Answer::Cleared(_)) => {
            panic!("{other:?}")
        }
    }
}

/// What a node in a process of its own says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Its thought with that seq was handed over at that time.
    Submitted(Seq, u64),
    /// It has admitted that entry of the author that it watches, at that time.
    Heard(Seq, u64),
}

/// A node in a process of its own.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
    pub(crate) id: NodeId,
    pub(crate) said: mpsc::UnboundedReceiver<Said>,
}

impl Process {
    /// Starts a node that tells of the entries of `watched`.
    pub(crate) async fn start(dir: &Path, name: &str, peers: &[SocketAddr], watched: Option<NodeId>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ROLE).arg(dir).arg(name).arg(watched.map_or_else(|| "-".to_owned(), |id| id.to_string()));
        command.args(peers.iter().map(ToString::to_string)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.next_line().await.unwrap().expect("the node did not start");
        let mut words = ready.split(' ').skip(1);
        let (address, id) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
        let (sender, said) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let words: Vec<&str> = line.split(' ').collect();
                let (seq, at) = (Seq(words[1].parse().unwrap()), words[2].parse().unwrap());
                let heard = if words[0] == "heard" { Said::Heard(seq, at) } else { Said::Submitted(seq, at) };
                let _gone = sender.send(heard);
            }
        });
        let (pid, stdin) = (child.id().unwrap(), child.stdin.take().unwrap());
        Self { child, stdin, pid, address, id, said }
    }

    /// Asks it to publish its thought of that number.
    pub(crate) async fn submit(&mut self, number: u64, bytes: usize) {
        self.stdin.write_all(format!("{number} {bytes}\n").as_bytes()).await.unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid.to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn end(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The role of a node: `--node DIR NAME WATCHED [PEER...]`.
pub(crate) async fn run(words: &[String]) {
    let [dir, name, watched, peers @ ..] = words else { panic!("{words:?}") };
    let watched: Option<NodeId> = watched.parse().ok();
    let peers: Vec<SocketAddr> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    let node = node::start(config(Path::new(dir), name, &peers)).await.unwrap();
    let (lines, mut written) = mpsc::unbounded_channel::<String>();
    lines.send(format!("ready {} {}\n", node.listen()[0], node.about().id)).unwrap();
    let mut events = node.events();
    let told = lines.clone();
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            if let Event::Entry(entry) = &*event
                && Some(entry.author) == watched
            {
                told.send(format!("heard {} {}\n", entry.seq.0, now_ns())).unwrap();
            }
        }
    });
    tokio::spawn(async move {
        let mut stdout = tokio::io::stdout();
        while let Some(line) = written.recv().await {
            stdout.write_all(line.as_bytes()).await.unwrap();
            stdout.flush().await.unwrap();
        }
    });
    let node = Arc::new(node);
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = asked.next_line().await {
        let (number, bytes) = line.split_once(' ').unwrap();
        let (number, bytes) = (number.parse().unwrap(), bytes.parse().unwrap());
        let (node, lines) = (Arc::clone(&node), lines.clone());
        tokio::spawn(async move {
            let (seq, at) = submit(&node, number, bytes).await;
            let _gone = lines.send(format!("submitted {} {at}\n", seq.0));
        });
    }
}
