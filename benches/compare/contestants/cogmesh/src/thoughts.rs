//! Thoughts from one node to others: submitted, stored, signed, sent; verified, folded, told of, stored.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, bail};
use cogmesh::{
    ledger::{fold::Verdict, types::Seq},
    log::{Mode, NodeId},
    node::Handle,
    protocol::{
        event::Event,
        input::{Answer, Submission},
    },
};
use contest::{Child, Latencies, Order, Report, Scenario, Sent, Tally, Task, arrived, now_ns, pace, text};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    runtime,
    sync::broadcast::error::RecvError,
    task::{JoinSet, spawn_blocking},
    time::{Duration, timeout},
};

use crate::node::{self, Events};

/// Submissions that wait for their answer at a time. Each answer says that the thought is durable, so whoever wants speed has many under way;
/// beyond 1,024 a node says that it is busy.
const IN_FLIGHT: usize = 1_000;
/// How long a thought that was told of may take until it is on the disk.
const STORED_MAX: Duration = Duration::from_secs(5);

/// Which thoughts were due when, for the subscriber: the log has room for the author's time in milliseconds only.
fn due_file(task: &Task) -> PathBuf {
    task.shared.join("due")
}

pub(crate) async fn publish(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    let (node, _events) = node::start(task).await?;
    child.ready(&node::address(&node));
    child.wait_for(Order::Warm).await?;
    child.wait_for(Order::Go).await?;
    let sent = match task.scenario {
        Scenario::Oneway => scheduled(task, &node).await?,
        _ => flood(task, &node).await?,
    };
    child.sent(sent.count);
    child.wait_for(Order::End).await?;
    child.report(&sent.report());
    Ok(())
}

/// Submits a thought, and waits for what became of it: its place, once it is on the disk, signed and on its way.
async fn submit(node: &Handle, number: u64) -> anyhow::Result<Seq> {
    let submission =
        Submission { content: text(number), session: "main".parse()?, mode: Mode::Exploring, key: None };
    match node.submit(submission).await? {
        Answer::Recorded { recorded, .. } => match recorded.verdict {
            Verdict::Accepted { .. } => Ok(recorded.seq),
            Verdict::Rejected { by, .. } => bail!("a thought was rejected by the {} layer", by.name()),
        },
        other @ (Answer::Would(_) | Answer::Inadmissible(_) | Answer::Refused(_) | Answer::Cleared(_)) => {
            bail!("a thought was not recorded: {other:?}")
        }
    }
}

async fn flood(task: &Task, node: &Handle) -> anyhow::Result<Sent> {
    let mut sent = Sent::begin();
    let mut waiting = FuturesUnordered::new();
    let mut number = 0;
    while !sent.is_over(task.seconds) {
        while waiting.len() < IN_FLIGHT {
            waiting.push(submit(node, number));
            number += 1;
        }
        if let Some(answer) = waiting.next().await {
            answer?;
            sent.count += 1;
        }
    }
    while let Some(answer) = waiting.next().await {
        answer?;
        sent.count += 1;
    }
    sent.end();
    Ok(sent)
}

async fn scheduled(task: &Task, node: &Handle) -> anyhow::Result<Sent> {
    let count = (task.seconds * task.rate as f64) as u64;
    let mut sent = Sent::begin();
    let (runtime, node, rate) = (runtime::Handle::current(), node.clone(), task.rate);
    let mut waiting = spawn_blocking(move || {
        let mut waiting = JoinSet::new();
        pace(rate, count, |number, due_ns| {
            let node = node.clone();
            let one = async move { submit(&node, number).await.map(|seq| (seq, due_ns)) };
            waiting.spawn_on(one, &runtime);
        });
        waiting
    })
    .await?;
    let mut due = Vec::new();
    while let Some(answer) = waiting.join_next().await {
        let (seq, due_ns) = answer??;
        due.extend_from_slice(&seq.0.to_le_bytes());
        due.extend_from_slice(&due_ns.to_le_bytes());
        sent.count += 1;
    }
    sent.end();
    fs::write(due_file(task), due)?;
    Ok(sent)
}

pub(crate) async fn subscribe(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    let author = node::peer_id(task)?;
    let (node, events) = node::start(task).await?;
    let heard = Heard { keeps_arrivals: task.scenario == Scenario::Oneway, ..Heard::default() };
    let heard = Arc::new(heard);
    tokio::spawn(hear(events, author, Arc::clone(&heard)));
    child.ready(&node::address(&node));
    heard.tally.is_warm().await;
    child.warm();
    let expected = child.expected().await?;
    arrived(&heard.tally, expected).await;
    let (stored, stored_ns) = stored(&node, author, Seq(expected)).await?;
    let mut report = heard.tally.report();
    report.put("events_missed", heard.missed.load(Ordering::Relaxed) as f64);
    // What counts is what is in the store; what the application was told of late or not at all is told beside it.
    report.put("heard", heard.tally.delivered() as f64);
    report.put("delivered", stored as f64);
    report.put("last_ns", stored_ns as f64);
    if task.scenario == Scenario::Oneway {
        report.put("delivered", heard.tally.delivered() as f64);
        heard.measure(task, &mut report)?;
    }
    child.report(&report);
    child.wait_for(Order::End).await
}

/// What the application was told.
#[derive(Default)]
struct Heard {
    tally: Tally,
    /// Those of a schedule are kept, those of a flood would be memory that no node needs.
    keeps_arrivals: bool,
    arrivals: Mutex<Vec<(u64, u64)>>,
    missed: AtomicU64,
}

impl Heard {
    /// How long each took from when it was due.
    fn measure(&self, task: &Task, report: &mut Report) -> anyhow::Result<()> {
        let due = fs::read(due_file(task))?;
        let words = due.chunks_exact(16).map(|pair| {
            let (seq, due_ns) = pair.split_at(8);
            Ok((u64::from_le_bytes(seq.try_into()?), u64::from_le_bytes(due_ns.try_into()?)))
        });
        let due: BTreeMap<u64, u64> = words.collect::<anyhow::Result<_>>()?;
        let mut latencies = Latencies::default();
        for (seq, at) in &*self.arrivals.lock().unwrap_or_else(PoisonError::into_inner) {
            let due_ns = due.get(seq).context("a thought came that was never due")?;
            latencies.record(at.saturating_sub(*due_ns));
        }
        report.put_latencies("oneway", &latencies);
        Ok(())
    }
}

/// Counts what the node tells of: an author's entries, each verified and folded.
async fn hear(mut events: Events, author: NodeId, heard: Arc<Heard>) {
    loop {
        match events.recv().await {
            Ok(event) => {
                let Event::Entry(entry) = &*event else { continue };
                if entry.author != author {
                    continue;
                }
                match entry.seq.0.checked_sub(1) {
                    // The first entry of a log says who writes it, and comes as soon as the two nodes are linked.
                    None => heard.tally.warm(),
                    Some(number) => {
                        heard.tally.deliver(number, 0);
                        if heard.keeps_arrivals {
                            let mut arrivals = heard.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
                            arrivals.push((entry.seq.0, now_ns()));
                        }
                    }
                }
            }
            Err(RecvError::Lagged(missed)) => drop(heard.missed.fetch_add(missed, Ordering::Relaxed)),
            Err(RecvError::Closed) => return,
        }
    }
}

/// How many of an author's thoughts stand in the store, once those through `last` do or time is up, and when that was.
async fn stored(node: &Handle, author: NodeId, last: Seq) -> anyhow::Result<(u64, u64)> {
    let (store, mut commits) = (node.store(), node.commits());
    let through = || anyhow::Ok(store.book(author)?.map_or(0, |book| book.seq().0));
    let waiting = async {
        while through()? < last.0 {
            commits.changed().await?;
        }
        anyhow::Ok(())
    };
    let at_last = timeout(STORED_MAX, waiting).await;
    let now = now_ns();
    if let Ok(result) = at_last {
        result?;
    }
    Ok((through()?, now))
}
