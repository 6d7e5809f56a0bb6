//! Lanes: probe streams that stay open. Payloads of one length go there and back in order. An echo ends after so many bytes and so
//! much time, so the next lane is opened, and has had a payload through it, before the one in use comes to that.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{Echo, Kind, MeasureError, number_in, payload};
use crate::{
    net::{
        links::Link,
        sending::{PROBE_BYTES_MAX, ProbeError},
        streams::row,
    },
    protocol::frame::StreamKind,
};

/// Longest payload of a ping.
pub const PING_BYTES_MAX: usize = 64 << 10;
/// How long a lane is used: two thirds of what the other side echoes for (a frame's time, 30 s).
const USED_MAX: Duration = Duration::from_secs(20);
/// From then on the next one is opened.
const USED_BEFORE_NEXT: Duration = Duration::from_secs(15);
/// The number of a payload that opens a lane and is no sample.
const WARMING: u64 = u64::MAX;
/// How long a ping may take.
const PING_MAX: Duration = Duration::from_secs(10);

// Two for the warming and the measured one.
const _: () = assert!(2 * PING_BYTES_MAX <= PROBE_BYTES_MAX);

/// The lane in use, and the one after it.
#[derive(Debug)]
pub(super) struct Lanes {
    link: Arc<Link>,
    bytes: usize,
    echoes: mpsc::Sender<Echo>,
    lane: Lane,
    next: Option<Lane>,
    /// Whoever reads what comes back; they end with their lanes.
    readers: JoinSet<()>,
}

#[derive(Debug)]
struct Lane {
    send: SendStream,
    opened: Instant,
    sent_bytes: usize,
}

impl Lanes {
    /// Opens the first one.
    pub(super) async fn open(
        link: Arc<Link>,
        bytes: usize,
        echoes: mpsc::Sender<Echo>,
    ) -> Result<Self, MeasureError> {
        let mut readers = JoinSet::new();
        let lane = Lane::open(&link, bytes, &echoes, &mut readers).await?;
        Ok(Self { link, bytes, echoes, lane, next: None, readers })
    }

    /// Sends one.
    ///
    /// # Errors
    /// The link is gone.
    ///
    /// # Cancel safety
    /// None: part of a payload may have been sent, and what comes behind it on that lane is out of step.
    pub(super) async fn ask(&mut self, number: u64) -> Result<(), MeasureError> {
        if self.lane.sent_bytes + self.bytes > PROBE_BYTES_MAX || self.lane.opened.elapsed() > USED_MAX {
            let next = match self.next.take() {
                Some(next) => next,
                None => self.another().await?,
            };
            let mut used = std::mem::replace(&mut self.lane, next);
            // Its echo ends with it, and its reader with the echo.
            drop(used.send.finish());
        }
        self.lane.send(payload(&[], number, self.bytes)).await?;
        let is_used =
            self.lane.sent_bytes > PROBE_BYTES_MAX / 4 * 3 || self.lane.opened.elapsed() > USED_BEFORE_NEXT;
        if is_used && self.next.is_none() {
            self.next = Some(self.another().await?);
        }
        while self.readers.try_join_next().is_some() {}
        Ok(())
    }

    async fn another(&mut self) -> Result<Lane, MeasureError> {
        Lane::open(&self.link, self.bytes, &self.echoes, &mut self.readers).await
    }
}

impl Lane {
    async fn open(
        link: &Link,
        bytes: usize,
        echoes: &mpsc::Sender<Echo>,
        readers: &mut JoinSet<()>,
    ) -> Result<Self, MeasureError> {
        let (mut lane, receive) = Self::begin(link).await?;
        lane.send(payload(&[], WARMING, bytes)).await?;
        readers.spawn(read(receive, bytes, echoes.clone()));
        Ok(lane)
    }

    async fn begin(link: &Link) -> Result<(Self, RecvStream), MeasureError> {
        link.admitted.wait().await;
        let (mut send, receive) = link.quic.open_bi().await.map_err(|_| MeasureError::LinkGone)?;
        // It fails only where the stream is gone, and then so does the write.
        drop(send.set_priority(row(StreamKind::Probe).priority));
        let kind = [StreamKind::Probe.number()];
        send.write_all(&kind).await.map_err(|_| MeasureError::LinkGone)?;
        Ok((Self { send, opened: Instant::now(), sent_bytes: 0 }, receive))
    }

    async fn send(&mut self, payload: Vec<u8>) -> Result<(), MeasureError> {
        self.sent_bytes += payload.len();
        self.send.write_chunk(Bytes::from(payload)).await.map_err(|_| MeasureError::LinkGone)
    }
}

async fn read(mut receive: RecvStream, bytes: usize, echoes: mpsc::Sender<Echo>) {
    let mut buffer = vec![0; bytes];
    while receive.read_exact(&mut buffer).await.is_ok() {
        let at = std::time::Instant::now();
        if let Some(number) = number_in(&buffer).filter(|number| *number != WARMING) {
            let _lost = echoes.try_send(Echo { kind: Kind::Probe, number, at });
        }
    }
}

/// Sends so many bytes there and back on a stream that stands, so often, each when the one before is back; one payload more goes before those
/// that are measured.
pub(in crate::net) async fn round_trips(
    link: &Link,
    bytes: usize,
    count: usize,
) -> Result<Vec<Duration>, ProbeError> {
    if bytes > PING_BYTES_MAX {
        return Err(ProbeError::TooLong { bytes });
    }
    // The shortest payload has its number in it.
    let all_bytes = bytes.max(size_of::<u64>()).saturating_mul(count.saturating_add(1));
    if all_bytes > PROBE_BYTES_MAX {
        return Err(ProbeError::TooLong { bytes: all_bytes });
    }
    let pinged = async {
        let gone = |_| ProbeError::LinkGone;
        let (mut lane, mut receive) = Lane::begin(link).await.map_err(gone)?;
        let mut took = Vec::with_capacity(count);
        for number in [WARMING].into_iter().chain((0..).take(count)) {
            let sent = payload(&[], number, bytes);
            let mut buffer = vec![0; sent.len()];
            let begun = Instant::now();
            lane.send(sent.clone()).await.map_err(gone)?;
            receive.read_exact(&mut buffer).await.map_err(|_| ProbeError::LinkGone)?;
            if number != WARMING {
                took.push(begun.elapsed());
            }
            if buffer != sent {
                return Err(ProbeError::Differs);
            }
        }
        drop(lane.send.finish());
        Ok(took)
    };
    timeout(PING_MAX, pinged).await.unwrap_or(Err(ProbeError::NoEcho))
}
