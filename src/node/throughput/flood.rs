//! Flood: thoughts as fast as both sides take them, with so many under way at a time, and what became of them.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Flood, LOOK_EVERY, Opposite, STILL_MAX, Why,
    arenas::{Arena, BYTES_MAX, Ground},
    contents::Contents,
    cpu_us,
};
use crate::{
    ledger::fold::Verdict,
    log::{Mode, SessionName},
    node::Handle,
    protocol::{
        frame::Tally,
        input::{Answer, LinkId, Submission, SubmitFault},
    },
};

/// Submissions that wait for their answers: half of what a node takes before it says that it is busy; and fewer long ones, so that what is
/// under way at the end is done soon.
const UNDER_WAY: RangeInclusive<usize> = 32..=512;
const UNDER_WAY_BYTES: usize = 512 << 10;
/// The session of all thoughts.
const SESSION: &str = "bench";
/// From so many bytes on no more is written, so that what is under way still finds its place.
const WRITTEN_BYTES_MAX: u64 = BYTES_MAX / 4 * 3;
/// How long what is under way may take to arrive.
const DRAIN_MAX: Duration = Duration::from_secs(25);

/// What all that write share.
#[derive(Debug)]
struct Pen {
    node: Handle,
    contents: Arc<Contents>,
    session: SessionName,
    next: AtomicU64,
    acknowledged: AtomicU64,
    is_done: AtomicBool,
    fault: Mutex<Option<Why>>,
}

/// Writes for so long, and waits until the other side has stored it. Also says why it wrote less, where it did.
///
/// # Errors
/// Why nothing can be said of it.
pub(super) async fn run(
    ground: &Ground,
    (arena, link): (&Arena, LinkId),
    opposite: &mut Opposite,
    contents: Arc<Contents>,
    duration: Duration,
) -> Result<(Flood, Option<Why>), Why> {
    let wire = || arena.node.link_stats(link).map(|stats| stats.bytes_sent + stats.bytes_received);
    let before = opposite.borrowed.tally(0).await?;
    let (cpu_before, wire_before) = (cpu_us(), wire());
    let begun = Instant::now();
    let (acknowledged, why) = write(ground, &arena.node, contents, duration).await?;
    if why.as_ref().is_some_and(|why| why == &super::lost()) {
        return Err(opposite.why_lost().await);
    }
    let (after, took) = drained(opposite, acknowledged, begun).await?;
    let flood = Flood {
        acknowledged,
        stored: after.thoughts,
        took,
        cpu_here_us: cpu_us().saturating_sub(cpu_before),
        cpu_there_us: after.cpu_us.saturating_sub(before.cpu_us),
        wire_bytes: wire().zip(wire_before).map(|(after, before)| after.saturating_sub(before)),
    };
    Ok((flood, why))
}

/// Waits until the other side has stored so many, or stores no more; how long it took until then.
async fn drained(opposite: &mut Opposite, wanted: u64, begun: Instant) -> Result<(Tally, Duration), Why> {
    let written = Instant::now();
    let mut last = opposite.borrowed.tally(wanted).await?;
    let mut moved = Instant::now();
    while last.thoughts < wanted && moved.elapsed() < STILL_MAX && written.elapsed() < DRAIN_MAX {
        let next = opposite.borrowed.tally(wanted).await?;
        if next.thoughts > last.thoughts {
            (last, moved) = (next, Instant::now());
        }
    }
    Ok((last, moved.duration_since(begun)))
}

/// Writes for so long: how many were acknowledged, and why it ended before, where it did.
async fn write(
    ground: &Ground,
    node: &Handle,
    contents: Arc<Contents>,
    duration: Duration,
) -> Result<(u64, Option<Why>), Why> {
    let session = SESSION.parse().map_err(|_| Why::new("failed", "no session"))?;
    let pen = Arc::new(Pen {
        node: node.clone(),
        contents,
        session,
        next: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        is_done: AtomicBool::new(false),
        fault: Mutex::new(None),
    });
    let many = (UNDER_WAY_BYTES / pen.contents.bytes()).clamp(*UNDER_WAY.start(), *UNDER_WAY.end());
    let mut writers: JoinSet<()> = (0..many).map(|_| Arc::clone(&pen).write()).collect();
    tokio::select! {
        () = sleep(duration) => {}
        why = cut_short(ground, node) => pen.end(why),
        // Where all have ended, something is wrong with the node.
        () = async { while writers.join_next().await.is_some() {} } => {}
    }
    pen.is_done.store(true, Ordering::Relaxed);
    while writers.join_next().await.is_some() {}
    let why = pen.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok((pen.acknowledged.load(Ordering::Relaxed), why))
}

/// Waits for a reason to write no more.
async fn cut_short(ground: &Ground, node: &Handle) -> Why {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if node.connections() == 0 {
            return super::lost();
        }
        if ground.bytes().await > WRITTEN_BYTES_MAX {
            let mib = WRITTEN_BYTES_MAX >> 20;
            return Why::new(
                "room",
                format!("it ended early: {mib} MiB were written, which is all that a measurement may take"),
            );
        }
    }
}

impl Pen {
    async fn write(self: Arc<Self>) {
        while !self.is_done.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let submission = Submission {
                content: self.contents.of(number),
                session: self.session.clone(),
                mode: Mode::Verifying,
                key: None,
            };
            let why = match self.node.submit(submission).await {
                Ok(Answer::Recorded { recorded, .. }) => match recorded.verdict {
                    Verdict::Accepted { .. } => {
                        self.acknowledged.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    Verdict::Rejected { by, .. } => format!("the rules rejected a thought ({})", by.name()),
                },
                Ok(Answer::Refused(SubmitFault::Busy { .. })) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(Answer::Refused(fault)) => fault.to_string(),
                Ok(Answer::Inadmissible(why)) => why.to_string(),
                Ok(Answer::Would(_) | Answer::Cleared(_)) => "an answer to another question".to_owned(),
                Err(gone) => gone.to_string(),
            };
            self.end(Why::new("failed", format!("it ended early: {why}")));
        }
    }

    /// Nobody writes any more. The first reason counts.
    fn end(&self, why: Why) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.is_done.store(true, Ordering::Relaxed);
    }
}
