//! Catching up: a node with an empty store gets all that another one has.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use contest::{Child, Order, Report, Task, cpu_ns, now_ns};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{
    backlog::Filling,
    node::{self, policy},
};

const AUTHORS: u8 = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a store holds that was written before.
#[derive(Serialize, Deserialize)]
struct Backlog {
    entries: u64,
    bytes: u64,
    corpus_thoughts: u64,
    corpus_bytes: u64,
}

fn note(task: &Task) -> PathBuf {
    task.shared.join("backlog.json")
}

pub(crate) async fn serve(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    // The backlog is written once, and served in every run.
    let task = &Task { dir: task.shared.join("backlog"), ..task.clone() };
    if !note(task).exists() {
        prepare(task).await?;
    }
    let (node, _events) = node::start(task).await?;
    child.ready(&node::address(&node));
    child.wait_for(Order::Warm).await?;
    child.wait_for(Order::Go).await?;
    child.sent(0);
    child.wait_for(Order::End).await?;
    child.report(&Report::new());
    node.stop();
    node.stopped().await.ok().context("the node failed")
}

async fn prepare(task: &Task) -> anyhow::Result<()> {
    let (node, _events) = node::start(task).await?;
    let (own, federation) = (node.about().id, node.about().federation);
    node.stop();
    node.stopped().await.ok().context("the node failed")?;
    drop(node);
    let written = Filling::new(&task.dir, (own, federation), &policy(), AUTHORS).write(task.count);
    let backlog = Backlog {
        entries: written.entries,
        bytes: written.bytes,
        corpus_thoughts: written.corpus.thoughts,
        corpus_bytes: written.corpus.bytes,
    };
    fs::write(note(task), serde_json::to_vec(&backlog)?)?;
    Ok(())
}

pub(crate) async fn catch_up(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    let backlog: Backlog = serde_json::from_slice(&fs::read(note(task))?)?;
    let cpu_before = cpu_ns();
    let (node, mut events) = node::start(task).await?;
    node::linked(&mut events).await?;
    let linked_ns = now_ns();
    let (store, mut commits) = (node.store(), node.commits());
    let waiting = async {
        loop {
            let corpus = store.corpus();
            if corpus.thoughts >= backlog.corpus_thoughts && corpus.bytes >= backlog.corpus_bytes {
                return anyhow::Ok(now_ns());
            }
            commits.changed().await?;
        }
    };
    let done_ns = timeout(PATIENCE, waiting).await.context("it never caught up")??;
    let cpu = cpu_ns() - cpu_before;
    child.ready(&node::address(&node));
    child.warm();
    child.expected().await?;
    let mut report = Report::new();
    report.put("bytes", backlog.bytes as f64);
    report.put("entries", backlog.entries as f64);
    report.put("first_ns", linked_ns as f64);
    report.put("last_ns", done_ns as f64);
    report.put("cpu_us", cpu as f64 / 1e3);
    child.report(&report);
    child.wait_for(Order::End).await
}
