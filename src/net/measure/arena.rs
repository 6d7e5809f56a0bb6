//! Arenas: throw-away nodes for measurements of throughput, as the two sides of a link talk of them. One side borrows, the other one lends;
//! what an arena is, and whether there is one, is decided above this room. An arena ends with the stream on which it was asked for.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::SendStream;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{MeasureError, PAYLOAD_BYTES_MAX};
use crate::{
    log::{FederationId, NodeId},
    net::{
        event::NetEvent,
        links::{Link, Shared},
        reader::Frames,
        streams::row,
    },
    protocol::{
        frame::{ArenaWanted, BULK_BLOCK_BYTES_MAX, MeasureFrame, NoArena, StreamKind, Tally},
        wire,
    },
};

/// How long the other side has to start an arena: it may wait for the end of the one before.
const START_MAX: Duration = Duration::from_secs(15);
/// How long an answer may take. To a tally it waits for a second by itself.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long bytes that were sent in bulk have to arrive once no more are sent.
const BULK_LATE_MAX: Duration = Duration::from_secs(10);
/// Most bytes in bulk on one stream: two seconds of a hundred gigabits.
const BULK_BYTES_MAX: u64 = 24 << 30;
/// Bytes that are written at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Below everything else: what is measured is what the others leave.
const BULK_PRIORITY: i32 = row(StreamKind::CatchUp).priority - 1;

const _: () = assert!((BULK_BLOCK_BYTES_MAX as usize).is_multiple_of(CHUNK_BYTES));

/// A peer asks for an arena.
#[derive(Debug)]
pub struct ArenaAsked {
    /// Who; TLS has proved it.
    pub node: NodeId,
    /// From where.
    pub address: SocketAddr,
    /// For what.
    pub wanted: ArenaWanted,
    /// Takes where it is, or why there is none.
    pub answer: oneshot::Sender<Result<ArenaPlace, NoArena>>,
    /// What it is asked then. It ends with whoever asks, and so does the arena.
    pub tallies: mpsc::Receiver<TallyAsked>,
}

/// Where an arena is: the address is the link's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaPlace {
    /// Its key.
    pub node: NodeId,
    /// Its UDP port.
    pub port: u16,
}

/// A question to an arena.
#[derive(Debug)]
pub struct TallyAsked {
    /// It should hold so many.
    pub thoughts: u64,
    /// Takes what it holds.
    pub answer: oneshot::Sender<Tally>,
}

/// An arena that was given to a peer.
#[derive(Debug)]
pub(super) struct Lent {
    tallies: mpsc::Sender<TallyAsked>,
    bulk_bytes: u64,
}

impl Lent {
    /// Asks whoever owns the endpoint for one; `None` where nobody listens any more.
    pub(super) async fn ask(
        shared: &Shared,
        link: &Link,
        wanted: ArenaWanted,
    ) -> Option<Result<(Self, ArenaPlace), NoArena>> {
        let (answer, answered) = oneshot::channel();
        let (asking, tallies) = mpsc::channel(1);
        let asked = ArenaAsked { node: link.node, address: link.address(), wanted, answer, tallies };
        if !shared.tell_live(NetEvent::Arena(Box::new(asked))).await {
            return None;
        }
        let place = answered.await.ok()?;
        Some(place.map(|place| (Self { tallies: asking, bulk_bytes: 0 }, place)))
    }

    /// What it holds; `None` where it is gone.
    pub(super) async fn tally(&self, thoughts: u64) -> Option<Tally> {
        let (answer, answered) = oneshot::channel();
        self.tallies.send(TallyAsked { thoughts, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Whether so many more bytes may come.
    pub(super) const fn takes(&mut self, bytes: u32) -> bool {
        self.bulk_bytes = self.bulk_bytes.saturating_add(bytes as u64);
        self.bulk_bytes <= BULK_BYTES_MAX
    }
}

/// An arena at the other end of a link. Dropping it ends it there.
#[derive(Debug)]
pub struct Borrowed {
    link: Arc<Link>,
    federation: FederationId,
    send: SendStream,
    frames: Frames,
}

/// What went one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Bytes that have arrived.
    pub bytes: u64,
    /// From the first that was sent until the last was acknowledged.
    pub took: Duration,
}

impl Borrowed {
    pub(in crate::net) async fn open(
        link: Arc<Link>,
        federation: FederationId,
        wanted: ArenaWanted,
    ) -> Result<Result<(Self, ArenaPlace), NoArena>, MeasureError> {
        // As for the other measurements: what such a program knows is told of by the datagrams that it takes.
        if link.quic.max_datagram_size().is_none_or(|most| most <= PAYLOAD_BYTES_MAX) {
            return Err(MeasureError::Unsupported);
        }
        link.admitted.wait().await;
        let (mut send, receive) = link.quic.open_bi().await.map_err(|_| MeasureError::LinkGone)?;
        // It fails only where the stream is gone, and then so does the write.
        drop(send.set_priority(row(StreamKind::Measure).priority));
        let kind = [StreamKind::Measure.number()];
        send.write_all(&kind).await.map_err(|_| MeasureError::LinkGone)?;
        let mut borrowed = Self { link, federation, send, frames: Frames::new(receive, ANSWER_MAX) };
        let answer = borrowed.ask(&MeasureFrame::Arena(wanted), START_MAX).await?;
        if let MeasureFrame::NoArena(why) = answer {
            return Ok(Err(why));
        }
        let MeasureFrame::ArenaAt { node, port } = answer else { return Err(MeasureError::NotUnderstood) };
        Ok(Ok((borrowed, ArenaPlace { node, port })))
    }

    /// The other end of the link, with the arena's port.
    #[must_use]
    pub fn address(&self, place: ArenaPlace) -> SocketAddr {
        let mut address = self.link.address();
        address.set_port(place.port);
        address
    }

    /// Waits until the link has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let link = Arc::clone(&self.link);
        async move {
            link.quic.closed().await;
        }
    }

    /// What the arena holds, once that is so many thoughts, or within a second or so.
    ///
    /// # Errors
    /// The link or the arena is gone.
    ///
    /// # Cancel safety
    /// None: what comes after a question that was cut short is out of step.
    pub async fn tally(&mut self, thoughts: u64) -> Result<Tally, MeasureError> {
        let answer = self.ask(&MeasureFrame::Tally { thoughts }, ANSWER_MAX).await?;
        let MeasureFrame::Tallied(tally) = answer else { return Err(MeasureError::NotUnderstood) };
        Ok(tally)
    }

    /// Sends bytes for so long, after everything else that the link carries, and waits until all have arrived.
    ///
    /// # Errors
    /// The link or the arena is gone.
    ///
    /// # Cancel safety
    /// None: what comes after bytes that were cut short is out of step.
    pub async fn bulk(&mut self, duration: Duration) -> Result<Bulk, MeasureError> {
        let Self { link: _, federation, send, frames } = self;
        drop(send.set_priority(BULK_PRIORITY));
        let begun = Instant::now();
        let sending = async {
            let announced = MeasureFrame::Bulk { bytes: BULK_BLOCK_BYTES_MAX };
            let announced = wire::encode_measure(&announced).map_err(|_| MeasureError::NotUnderstood)?;
            let chunk = Bytes::from(vec![0; CHUNK_BYTES]);
            let mut sent = 0_u64;
            while begun.elapsed() < duration && sent + u64::from(BULK_BLOCK_BYTES_MAX) <= BULK_BYTES_MAX {
                send.write_chunk(announced.clone()).await.map_err(|_| MeasureError::LinkGone)?;
                for _ in 0..BULK_BLOCK_BYTES_MAX as usize / CHUNK_BYTES {
                    send.write_chunk(chunk.clone()).await.map_err(|_| MeasureError::LinkGone)?;
                }
                sent += u64::from(BULK_BLOCK_BYTES_MAX);
            }
            Ok(sent)
        };
        // Both at once: the acknowledgements have to be read while more is sent.
        let (acknowledging, acknowledged) = tokio::sync::watch::channel(0_u64);
        let reading = async {
            while let MeasureFrame::Taken { bytes } = next(frames, federation).await? {
                acknowledging.send_modify(|sum| *sum = sum.saturating_add(bytes.into()));
            }
            Err::<(), MeasureError>(MeasureError::NotUnderstood)
        };
        let all = async {
            let sent = sending.await?;
            let mut acknowledged = acknowledged.clone();
            let arrived = timeout(BULK_LATE_MAX, acknowledged.wait_for(|sum| *sum >= sent)).await;
            arrived.map_err(|_| MeasureError::NoAnswer)?.map_err(|_| MeasureError::LinkGone)?;
            Ok::<_, MeasureError>(Bulk { bytes: sent, took: begun.elapsed() })
        };
        let most = duration.saturating_add(2 * BULK_LATE_MAX);
        let bulk = tokio::select! {
            bulk = timeout(most, all) => bulk.unwrap_or(Err(MeasureError::NoAnswer)),
            Err(error) = reading => Err(error),
        };
        drop(send.set_priority(row(StreamKind::Measure).priority));
        bulk
    }

    async fn ask(&mut self, frame: &MeasureFrame, patience: Duration) -> Result<MeasureFrame, MeasureError> {
        let bytes = wire::encode_measure(frame).map_err(|_| MeasureError::NotUnderstood)?;
        let asked = async {
            self.send.write_chunk(bytes).await.map_err(|_| MeasureError::LinkGone)?;
            next(&mut self.frames, &self.federation).await
        };
        timeout(patience, asked).await.unwrap_or(Err(MeasureError::NoAnswer))
    }
}

async fn next(frames: &mut Frames, federation: &FederationId) -> Result<MeasureFrame, MeasureError> {
    let bytes = frames.next().await.map_err(|_| MeasureError::LinkGone)?.ok_or(MeasureError::Ended)?;
    wire::decode_measure(&bytes, federation).map_err(|_| MeasureError::NotUnderstood)
}
