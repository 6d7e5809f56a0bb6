//! Latency: how long things take between this node and one peer, measured while both go on with their work.
//!
//! The load is open: sample i of a kind is due at a fixed time, whatever became of those before it, and its latency counts from then. A
//! node that stands still for a second thus has a second's worth of bad samples and not one (what is called coordinated omission
//! elsewhere does not arise, so nothing has to be estimated afterwards). The kinds take turns within each period, each time in another order, so
//! all see the same seconds.

mod pace;
mod tally;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use tokio::{
    runtime, select,
    sync::mpsc,
    task::spawn_blocking,
    time::{sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    pace::THOUGHTS_PER_SECOND_MAX,
    tally::{Measured, Second},
};
use self::{
    pace::{Paced, Schedule, pace},
    tally::Tallies,
};
use super::Handle;
pub use crate::net::{Kind, MeasureError, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN, PING_BYTES_MAX, ProbeError};
use crate::{
    ledger::types::{Millis, Seq},
    log::{Body, Entry, Hash, Header, Identity, Mode, Segment, SessionName, Thought},
    net::{Endpoint, Measuring},
    protocol::input::{LinkId, Submission},
};

/// What is not back after that is lost.
pub const LOST_AFTER: Duration = Duration::from_secs(2);
/// Echoes that wait to be counted; a tenth of a second at the highest rate.
const ECHOES_MAX: usize = 8_192;
/// The session of a thought that nobody keeps.
const SESSION: &str = "bench";

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Over which link.
    pub link: LinkId,
    /// For how long.
    pub duration: Duration,
    /// Samples of each kind a second.
    pub rate: u32,
    /// Bytes of each payload.
    pub bytes: usize,
    /// Which kinds.
    pub kinds: Vec<Kind>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Of each kind that was asked for, in that order.
    pub kinds: Vec<Measured>,
    /// How late samples were sent: it is part of their latencies. In tenths of a microsecond: median, 99th percentile, longest.
    pub late: [u64; 3],
    /// Why there is no floor, for people.
    pub floor_why: Option<String>,
    /// Why it ended early, for people.
    pub ended: Option<String>,
}

/// Measures.
///
/// # Errors
/// Nothing was measured, and why.
///
/// # Cancel safety
/// It stops, and what it opened is closed.
pub(super) async fn measure(node: &Handle, endpoint: &Endpoint, plan: Plan) -> Result<Latency, MeasureError> {
    let author = throw_away().ok_or(MeasureError::Randomness)?;
    let (echoes, mut back) = mpsc::channel(ECHOES_MAX);
    let measuring = endpoint.measure(plan.link, plan.bytes, echoes).await?;
    let floor_why = measuring.has_floor().err().map(str::to_owned);
    // For the way back of the first thoughts, before a probe of the schedule is back.
    let probe = endpoint.ping(plan.link, plan.bytes).await.map_err(|error| match error {
        ProbeError::NoEcho => MeasureError::NoAnswer,
        ProbeError::LinkGone | ProbeError::TooLong { .. } | ProbeError::Differs => MeasureError::LinkGone,
    })?;
    let asks = Asks {
        measuring,
        thinker: Arc::new(Thinker { node: node.clone(), author, bytes: plan.bytes }),
        runtime: runtime::Handle::current(),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        gone: None,
    };
    let _stop = asks.stop.clone().drop_guard();
    let schedule = Schedule::new(Instant::now(), &plan);
    let mut tallies = Tallies::new(&schedule, probe);
    let mut pacing = spawn_blocking(move || asks.run(&schedule));
    let mut ran: Option<Ran> = None;
    let mut until = Instant::now();
    loop {
        select! {
            Some(echo) = back.recv() => tallies.back(echo),
            done = &mut pacing, if ran.is_none() => {
                let done = done.map_err(|_| MeasureError::LinkGone)?;
                tallies.asked(&done.paced);
                ran = Some(done);
                until = Instant::now() + LOST_AFTER;
            }
            () = sleep_until(until.into()), if ran.is_some() => break,
        }
        if ran.is_some() && tallies.are_all_back() {
            break;
        }
    }
    let Some(ran) = ran else { return Err(MeasureError::LinkGone) };
    let late = ran.paced.late();
    let ended = ran.asks.gone.map(|error| error.to_string());
    Ok(Latency { kinds: tallies.finish(), late, floor_why, ended })
}

/// A key that signs dry thoughts and is then forgotten. This node's own never does: it may sign only what is stored.
fn throw_away() -> Option<Identity> {
    let mut random = [0; 32];
    rand::fill(&mut random).ok()?;
    Identity::generate(random).ok()
}

/// What sends the samples, from a thread of its own: what it opened is kept open until all came back.
struct Asks {
    measuring: Measuring,
    thinker: Arc<Thinker>,
    runtime: runtime::Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
    gone: Option<MeasureError>,
}

/// It was sent.
struct Ran {
    asks: Asks,
    paced: Paced,
}

impl Asks {
    fn run(mut self, schedule: &Schedule) -> Ran {
        let stop = self.stop.clone();
        let paced = pace(schedule, &stop, |kind, number| self.ask(kind, number));
        Ran { asks: self, paced }
    }

    fn ask(&mut self, kind: Kind, number: u64) {
        match kind {
            Kind::Floor => self.measuring.ask_floor(number),
            Kind::Datagram => self.measuring.ask_datagram(number),
            Kind::Probe => {
                // It waits only where the peer has stopped reading; then this was the last one.
                let asked = self.runtime.block_on(timeout(LOST_AFTER, self.measuring.ask_probe(number)));
                if let Err(error) = asked.unwrap_or(Err(MeasureError::NoAnswer)) {
                    self.gone = Some(error);
                    self.stop.cancel();
                }
            }
            Kind::Stream => {
                let asked = self.measuring.ask_stream(number);
                self.tasks.spawn_on(timeout(LOST_AFTER, asked), &self.runtime);
            }
            Kind::Thought => {
                let thinker = Arc::clone(&self.thinker);
                let thoughts = self.measuring.thoughts();
                let asked = async move {
                    let thought = timeout(LOST_AFTER, thinker.think(number)).await;
                    if let Ok(Some(segment)) = thought {
                        thoughts.ask(number, segment, LOST_AFTER).await;
                    }
                };
                self.tasks.spawn_on(asked, &self.runtime);
            }
        }
    }
}

/// Makes thoughts that go through everything but the disk.
struct Thinker {
    node: Handle,
    author: Identity,
    bytes: usize,
}

impl Thinker {
    /// Has the core of this node judge a thought, as if it were submitted, and signs it with a key that nobody knows.
    async fn think(&self, number: u64) -> Option<Segment> {
        let about = self.node.about();
        let bytes_max = usize::try_from(about.policy.content_max_bytes).unwrap_or(usize::MAX);
        let content = content(number, self.bytes.min(bytes_max));
        let session: SessionName = SESSION.parse().ok()?;
        let mode = Mode::Verifying;
        let submission = Submission { content: content.clone(), session: session.clone(), mode, key: None };
        // What the rules say of it makes no difference: it took its way through them.
        let _verdict = self.node.dry_run(submission).await.ok()?;
        let header = Header {
            author: self.author.node_id(),
            // Not at the start of a log: a genesis entry needs work.
            seq: Seq(number.saturating_add(1)),
            prev: Hash::ZERO,
            time: now(),
            body: Body::Thought(Thought::new(session, mode, &content)),
        };
        let entry = Entry::new(&about.federation, header, Some(&content));
        let signed = Segment::own(vec![entry], &self.author, &about.federation).ok()?;
        Some(signed.into_inner())
    }
}

fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Another text each time, of so many bytes.
fn content(number: u64, bytes: usize) -> String {
    const WORDS: &str = "measured latency shows which path a thought takes between distributed machines that verify evidence ";
    let mut content = format!("{number} ");
    while content.len() < bytes {
        content.push_str(WORDS);
    }
    // All of it is ASCII.
    content.truncate(bytes);
    content
}
