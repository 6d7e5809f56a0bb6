//! Whatever broadcasts messages: how such a contestant is driven through the scenarios.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use tokio::{select, sync::mpsc, time::sleep};

use crate::{
    Child, Kind, Message, Order, Report, Role, Scenario, Sent, Tally, Task,
    clock::pace,
    clock::process_cpu_ns,
    flow::{flood, round_trips, subscribe},
    report::process_rss_peak_kib,
};

const WARM_EVERY: Duration = Duration::from_millis(20);
/// A lost ping would otherwise be waited for in vain.
const PONG_MAX: Duration = Duration::from_secs(2);

/// Something that broadcasts messages.
pub trait PubSub: Send + Sync + Sized + 'static {
    /// Opens it. A publisher waits for others to connect; a subscriber is connected and subscribed when this returns. Each message that comes
    /// is given to `heard`.
    fn open(task: &Task, heard: Heard) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// What others connect to.
    fn addresses(&self) -> Vec<String>;

    /// Publishes a message; waits for as long as there is no room for it.
    fn publish(&self, message: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// What has been published is on its way, as far as the contestant lets it be known.
    fn flush(&self) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }

    /// Processes beside this one without which nothing comes through: what they take is part of what a message takes.
    fn other_processes(&self) -> Vec<u32> {
        vec![]
    }
}

/// Where messages go that come.
#[derive(Clone, Debug)]
pub struct Heard {
    tally: Arc<Tally>,
    pongs: mpsc::UnboundedSender<u64>,
}

impl Heard {
    /// A message came. Where there is an answer, it is to be published at once.
    #[must_use]
    pub fn message(&self, bytes: &[u8]) -> Option<Bytes> {
        let message = Message::decode(bytes)?;
        match message.kind {
            Kind::Data => self.tally.deliver(message.number, message.due_ns),
            Kind::Warm => self.tally.warm(),
            Kind::Ping => return Some(Message { kind: Kind::Pong, ..message }.encode()),
            // Nobody waits any more.
            Kind::Pong => drop(self.pongs.send(message.number)),
        }
        None
    }
}

/// Takes the part that the task says, to its end.
///
/// # Errors
/// Whatever went wrong, for people.
pub async fn run<P: PubSub>(task: Task) -> anyhow::Result<()> {
    let tally = Arc::new(Tally::default());
    let (pongs, mut ponged) = mpsc::unbounded_channel();
    let heard = Heard { tally: Arc::clone(&tally), pongs };
    let mut child = Child::new();
    let node = Arc::new(P::open(&task, heard).await?);
    child.ready(&node.addresses());
    if task.role == Role::Subscriber {
        return subscribe(&mut child, &tally).await;
    }
    child.wait_for(Order::Warm).await?;
    let mut number = 0;
    loop {
        select! {
            order = child.order() => match order {
                Order::Go => break,
                Order::Warm | Order::Expect(_) | Order::End => return Ok(()),
            },
            () = sleep(WARM_EVERY) => {
                node.publish(Message { kind: Kind::Warm, number, due_ns: 0 }.encode()).await?;
                number += 1;
            }
        }
    }
    let other = |pid: &u32| Other { pid: *pid, cpu_before_ns: process_cpu_ns(*pid) };
    let others: Vec<Other> = node.other_processes().iter().map(other).collect();
    match task.scenario {
        Scenario::Rtt => {
            let report = round_trips(&task, async |number| {
                node.publish(Message { kind: Kind::Ping, number, due_ns: 0 }.encode()).await?;
                let ponged = tokio::time::timeout(PONG_MAX, ponged.recv());
                ponged.await.context("a ping is lost")?.context("it has ended")?;
                Ok(())
            })
            .await?;
            child.sent(0);
            child.wait_for(Order::End).await?;
            child.report(&report);
            return Ok(());
        }
        Scenario::Flood => {
            let sent = flood(&task, async |number| {
                node.publish(Message { kind: Kind::Data, number, due_ns: 0 }.encode()).await
            })
            .await?;
            node.flush().await?;
            return finish(&mut child, &sent, &others).await;
        }
        Scenario::Oneway => {
            let count = (task.seconds * task.rate as f64) as u64;
            let mut sent = Sent::begin();
            let (runtime, publisher, rate) =
                (tokio::runtime::Handle::current(), Arc::clone(&node), task.rate);
            let paced = tokio::task::spawn_blocking(move || {
                let mut accepted = 0;
                pace(rate, count, |number, due_ns| {
                    let message = Message { kind: Kind::Data, number, due_ns }.encode();
                    accepted += u64::from(runtime.block_on(publisher.publish(message)).is_ok());
                });
                accepted
            });
            sent.count = paced.await?;
            sent.end();
            node.flush().await?;
            return finish(&mut child, &sent, &others).await;
        }
        Scenario::Rest => {
            child.sent(0);
            child.wait_for(Order::End).await?;
            child.report(&Report::new());
            return Ok(());
        }
        Scenario::Bulk | Scenario::Connect => anyhow::bail!("it does not do that"),
    }
}

async fn finish(child: &mut Child, sent: &Sent, others: &[Other]) -> anyhow::Result<()> {
    child.sent(sent.count);
    child.wait_for(Order::End).await?;
    let mut report = sent.report();
    for other in others {
        report.add("cpu_us", (process_cpu_ns(other.pid) - other.cpu_before_ns) as f64 / 1e3);
        report.raise("rss_peak_kib", process_rss_peak_kib(other.pid));
    }
    child.report(&report);
    Ok(())
}

/// A process beside this one.
struct Other {
    pid: u32,
    cpu_before_ns: u64,
}
