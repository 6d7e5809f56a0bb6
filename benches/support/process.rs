//! Nodes in processes of their own: this program again, in another role. It reads commands, a line each, and writes lines.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
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
    store::{CorpusBounds, Durability, ThoughtQuery},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::backlog::{KEEP_ALL, word};

/// The word that puts this program into the role of a node.
pub(crate) const ROLE: &str = "--node";

/// Thoughts that wait for their answers at a time, where a node is asked to publish many.
const UNDER_WAY: usize = 16;
/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Rules under which a node may write as fast as these measurements want.
pub(crate) fn policy() -> Policy {
    Policy {
        pow_bits: 4,
        rate_base: 1_000_000,
        freeze_balance: MicroAtp(-1_000_000_000_000),
        ..Policy::default()
    }
}

/// How such a node runs: it keeps every content, and each commit is synced.
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
        certificate_lifetime: node::membership::LIFETIME,
        lends_arenas: true,
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
    /// It has done what it was asked to; two numbers of what that took, where it was asked to measure.
    Done(u64, u64),
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
    /// Starts a node that tells of the entries of `watched`, and keeps every content.
    pub(crate) async fn start(dir: &Path, name: &str, peers: &[SocketAddr], watched: Option<NodeId>) -> Self {
        let mut words = words(dir, name, watched, KEEP_ALL);
        words.push("-".into());
        Self::run(words, peers).await
    }

    /// Starts a node that is linked with that peer and with nobody else, and keeps so many contents.
    pub(crate) async fn start_pinned(
        dir: &Path,
        name: &str,
        peer: (NodeId, SocketAddr),
        corpus: CorpusBounds,
    ) -> Self {
        let mut words = words(dir, name, None, corpus);
        words.push(peer.0.to_string().into());
        Self::run(words, &[peer.1]).await
    }

    async fn run(words: Vec<OsString>, peers: &[SocketAddr]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ROLE).args(words);
        command.args(peers.iter().map(ToString::to_string)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.next_line().await.unwrap().expect("the node did not start");
        let mut words = ready.split(' ').skip(1);
        let (address, id) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
        let (sender, said) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _gone = sender.send(understood(&line));
            }
        });
        let (pid, stdin) = (child.id().unwrap(), child.stdin.take().unwrap());
        Self { child, stdin, pid, address, id, said }
    }

    /// Asks it to publish its thought of that number.
    pub(crate) async fn submit(&mut self, number: u64, bytes: usize) {
        self.ask(&format!("submit {number} {bytes}")).await;
    }

    /// Has it publish so many thoughts, some at a time, and waits until all are answered, which means that they are durable; the last
    /// one's place.
    pub(crate) async fn publish(&mut self, first: u64, count: u64, bytes: usize) -> Seq {
        self.ask(&format!("publish {first} {count} {bytes}")).await;
        Seq(self.done().await.0)
    }

    /// Waits until that entry of an author is durable in its store.
    pub(crate) async fn holds(&mut self, author: NodeId, seq: Seq) {
        self.ask(&format!("holds {author} {}", seq.0)).await;
        self.done().await;
    }

    /// Waits until it has let go of the contents that are too many, which it does beside whatever else it does.
    pub(crate) async fn settled(&mut self) {
        self.ask("settled").await;
        self.done().await;
    }

    /// How many commits its store has made since it started.
    pub(crate) async fn commits(&mut self) -> u64 {
        self.ask("commits").await;
        self.done().await.0
    }

    async fn ask(&mut self, what: &str) {
        self.stdin.write_all(format!("{what}\n").as_bytes()).await.unwrap();
    }

    /// How many microseconds it takes to read the newest hundred thoughts, and the newest hundred that have that word.
    pub(crate) async fn query(&mut self, word: &str) -> (u64, u64) {
        self.ask(&format!("query {word}")).await;
        self.done().await
    }

    async fn done(&mut self) -> (u64, u64) {
        loop {
            if let Said::Done(first, second) = timeout(PATIENCE, self.said.recv()).await.unwrap().unwrap() {
                return (first, second);
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid.to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn end(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(self) {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    }
}

fn words(dir: &Path, name: &str, watched: Option<NodeId>, corpus: CorpusBounds) -> Vec<OsString> {
    let watched = watched.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let [thoughts_max, bytes_max] = [corpus.thoughts_max, corpus.bytes_max].map(|bound| bound.to_string());
    vec![dir.into(), name.into(), watched.into(), thoughts_max.into(), bytes_max.into()]
}

/// The role of a node: `--node DIR NAME WATCHED THOUGHTS BYTES PINNED [PEER...]`.
pub(crate) async fn run(words: &[String]) {
    let [dir, name, watched, thoughts_max, bytes_max, pinned, peers @ ..] = words else {
        panic!("{words:?}")
    };
    let pinned: Option<NodeId> = pinned.parse().ok();
    let corpus =
        CorpusBounds { thoughts_max: thoughts_max.parse().unwrap(), bytes_max: bytes_max.parse().unwrap() };
    let watched: Option<NodeId> = watched.parse().ok();
    let peers: Vec<SocketAddr> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    let mut config = Config { corpus, pin: pinned.is_some(), ..config(Path::new(dir), name, &peers) };
    config.peers.iter_mut().for_each(|peer| peer.node = pinned);
    let node = node::start(config).await.unwrap();
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
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = asked.next_line().await {
        let (node, lines) = (node.clone(), lines.clone());
        tokio::spawn(async move {
            let said = obey(&node, corpus, &line).await;
            let _gone = lines.send(said);
        });
    }
    node.stop();
    node.stopped().await.unwrap();
}

/// Does what a line asks for; what is said of it.
async fn obey(node: &Handle, corpus: CorpusBounds, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |place: usize| words[place].parse::<u64>().unwrap();
    match words[0] {
        "submit" => {
            let (seq, at) = submit(node, number(1), usize::try_from(number(2)).unwrap()).await;
            return format!("submitted {} {at}\n", seq.0);
        }
        "publish" => {
            let last = publish(node, (number(1), number(2)), usize::try_from(number(3)).unwrap()).await;
            return format!("done {} 0\n", last.0);
        }
        "settled" => settled(node, corpus).await,
        "commits" => return format!("done {} 0\n", *node.commits().borrow()),
        "holds" => holds(node, words[1].parse().unwrap(), Seq(number(2))).await,
        "query" => {
            let newest = read_us(node, &ThoughtQuery::default());
            let search = ThoughtQuery { search: Some(words[1].parse().unwrap()), ..ThoughtQuery::default() };
            return format!("done {newest} {}\n", read_us(node, &search));
        }
        other => panic!("{other}"),
    }
    "done 0 0\n".to_owned()
}

fn read_us(node: &Handle, query: &ThoughtQuery) -> u64 {
    let begun = Instant::now();
    node.store().thoughts(query).unwrap();
    u64::try_from(begun.elapsed().as_micros()).unwrap()
}

/// Publishes so many thoughts, `UNDER_WAY` at a time; the last one's place.
async fn publish(node: &Handle, (first, count): (u64, u64), bytes: usize) -> Seq {
    let mut last = Seq::GENESIS;
    let mut under_way: JoinSet<(Seq, u64)> = JoinSet::new();
    for number in first..first + count {
        if under_way.len() == UNDER_WAY {
            last = last.max(under_way.join_next().await.unwrap().unwrap().0);
        }
        let node = node.clone();
        under_way.spawn(async move { submit(&node, number, bytes).await });
    }
    let rest = under_way.join_all().await;
    rest.into_iter().map(|(seq, _)| seq).fold(last, Seq::max)
}

/// Waits until that entry of an author stands in the store.
async fn holds(node: &Handle, author: NodeId, seq: Seq) {
    let (store, mut commits) = (node.store(), node.commits());
    while store.book(author).unwrap().is_none_or(|book| book.seq() < seq) {
        commits.changed().await.unwrap();
    }
}

/// Waits until its corpus is below what makes a node prune: nine tenths of its bounds.
async fn settled(node: &Handle, bounds: CorpusBounds) {
    let store = node.store();
    let is_full = |now: u64, most: u64| now >= most.saturating_sub(most / 10);
    loop {
        let corpus = store.corpus();
        if !is_full(corpus.thoughts, bounds.thoughts_max) && !is_full(corpus.bytes, bounds.bytes_max) {
            return;
        }
        // Nobody is told of what is let go.
        sleep(Duration::from_millis(5)).await;
    }
}

fn understood(line: &str) -> Said {
    let words: Vec<&str> = line.split(' ').collect();
    let told = || (Seq(words[1].parse().unwrap()), words[2].parse().unwrap());
    match words[0] {
        "heard" => Said::Heard(told().0, told().1),
        "submitted" => Said::Submitted(told().0, told().1),
        "done" => Said::Done(words[1].parse().unwrap(), words[2].parse().unwrap()),
        other => panic!("{other}"),
    }
}
