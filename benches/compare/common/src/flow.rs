//! The loops of the scenarios, the same for all contestants.

use std::time::Duration;

use tokio::time::sleep;

use crate::{Child, Latencies, Order, Report, Tally, Task, cpu_ns, now_ns};

/// Round trips before the measured ones.
const WARMING: u32 = 500;
/// Nothing has come for so long: nothing more will.
const QUIET: Duration = Duration::from_millis(1_500);

/// What was sent, for the sender's report.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    begun_ns: u64,
    cpu_before_ns: u64,
    pub count: u64,
    sent_ns: u64,
}

impl Sent {
    /// The clocks before anything is sent.
    #[must_use]
    pub fn begin() -> Self {
        Self { begun_ns: now_ns(), cpu_before_ns: cpu_ns(), count: 0, sent_ns: 0 }
    }

    /// Whether it has been sending for so long.
    #[must_use]
    pub fn is_over(&self, seconds: f64) -> bool {
        (now_ns() - self.begun_ns) as f64 > seconds * 1e9
    }

    /// All is sent.
    pub fn end(&mut self) {
        self.sent_ns = now_ns();
    }

    /// What there is to say of it once everything has arrived.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report::new();
        report.put("accepted", self.count as f64);
        report.put("begun_ns", self.begun_ns as f64);
        report.put("sent_ns", self.sent_ns as f64);
        report.put("cpu_us", (cpu_ns() - self.cpu_before_ns) as f64 / 1e3);
        report
    }
}

/// Round trips one after another for as long as the task says.
///
/// # Errors
/// The first that `ping` has.
pub async fn round_trips(
    task: &Task,
    mut ping: impl AsyncFnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    let mut latencies = Latencies::default();
    let mut number = 0;
    let end = now_ns() + (task.seconds * 1e9) as u64;
    while now_ns() < end {
        let begun = now_ns();
        ping(number).await?;
        let taken = now_ns() - begun;
        if number >= u64::from(WARMING) {
            latencies.record(taken);
        }
        number += 1;
    }
    let mut report = Report::new();
    report.put_latencies("rtt", &latencies);
    Ok(report)
}

/// Messages as fast as `send` takes them, for as long as the task says.
///
/// # Errors
/// The first that `send` has.
pub async fn flood(
    task: &Task,
    mut send: impl AsyncFnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Sent> {
    let mut sent = Sent::begin();
    while !sent.is_over(task.seconds) {
        for _ in 0..64 {
            send(sent.count).await?;
            sent.count += 1;
        }
    }
    sent.end();
    Ok(sent)
}

/// Chunks as fast as `send` takes them, for as long as the task says.
///
/// # Errors
/// The first that `send` has.
pub async fn bulk(task: &Task, mut send: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<Sent> {
    let mut sent = Sent::begin();
    while !sent.is_over(task.seconds) {
        send().await?;
        sent.count += 1;
    }
    sent.end();
    Ok(sent)
}

/// Bytes until there are no more; `read` gives 0 then.
///
/// # Errors
/// The first that `read` has.
pub async fn receive_bulk(mut read: impl AsyncFnMut() -> anyhow::Result<usize>) -> anyhow::Result<Report> {
    let (mut bytes, mut begun, mut last, mut cpu) = (0_u64, 0, 0, 0);
    loop {
        let count = read().await?;
        if count == 0 {
            break;
        }
        last = now_ns();
        if bytes == 0 {
            (begun, cpu) = (last, cpu_ns());
        }
        bytes += count as u64;
    }
    let mut report = Report::new();
    report.put("bytes", bytes as f64);
    report.put("first_ns", begun as f64);
    report.put("last_ns", last as f64);
    report.put("cpu_us", (cpu_ns() - cpu) as f64 / 1e3);
    Ok(report)
}

/// So many connections one after another, each a new one.
///
/// # Errors
/// The first that `connect` has, which gives how long it took in nanoseconds.
pub async fn handshakes(
    name: &str,
    count: u64,
    mut connect: impl AsyncFnMut() -> anyhow::Result<u64>,
) -> anyhow::Result<Report> {
    let mut latencies = Latencies::default();
    // The first one finds everything cold that only a first one finds cold: lazily made tables, the allocator.
    for number in 0..=count {
        let taken = connect().await?;
        if number > 0 {
            latencies.record(taken);
        }
    }
    let mut report = Report::new();
    report.put_latencies(name, &latencies);
    Ok(report)
}

/// A subscriber's part from its first message on: tells of it, waits until all is here that was sent, and reports.
///
/// # Errors
/// An order that makes no sense.
pub async fn subscribe(child: &mut Child, tally: &Tally) -> anyhow::Result<()> {
    tally.is_warm().await;
    child.warm();
    let expected = match child.order().await {
        Order::Expect(count) => count,
        Order::Warm | Order::Go | Order::End => return Ok(()),
    };
    arrived(tally, expected).await;
    child.report(&tally.report());
    child.wait_for(Order::End).await
}

/// Waits until so many were delivered, or nothing more comes.
pub async fn arrived(tally: &Tally, expected: u64) {
    let (mut seen, mut since) = (0, now_ns());
    loop {
        let delivered = tally.delivered();
        if delivered >= expected {
            return;
        }
        if delivered > seen {
            (seen, since) = (delivered, now_ns());
        } else if u128::from(now_ns() - since) > QUIET.as_nanos() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}
