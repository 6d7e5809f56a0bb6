//! Sending that waits: catch-up streams, which slow their sender, and probes, which wait for their echo.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::SendStream;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use super::{links::Link, streams::row};
use crate::{
    log::Segment,
    protocol::{
        frame::StreamKind,
        wire::{self, WireFault},
    },
};

/// So much of a backlog is given to quinn at once, so that what is live waits for no more than that of each stream.
const PIECE_BYTES: usize = 32 << 10;
/// Most bytes that a probe carries, each way.
pub const PROBE_BYTES_MAX: usize = 1 << 20;
/// How long a probe is waited for.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// What QUIC counts of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStats {
    /// The round-trip time that QUIC estimates; it holds the other side's delays too.
    pub rtt: Duration,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
}

impl LinkStats {
    pub(super) fn of(link: &Link) -> Self {
        let stats = link.quic.stats();
        Self { rtt: stats.path.rtt, bytes_sent: stats.udp_tx.bytes, bytes_received: stats.udp_rx.bytes }
    }
}

/// Why a segment was not sent on a catch-up stream. What was sent before may have arrived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendFault {
    /// The link is gone, or the other side wants no more.
    #[error("the link is gone")]
    LinkGone,
    /// The segment fits no frame.
    #[error("the segment can't be sent")]
    Frame(#[from] WireFault),
}

/// Why a probe has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// There is no such link, or it ended.
    #[error("the link is gone")]
    LinkGone,
    /// Too long a payload. Nothing was sent.
    #[error("a probe has at most {PROBE_BYTES_MAX} bytes, not {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Nothing came back in time.
    #[error("no echo within {} s", PROBE_PATIENCE.as_secs())]
    NoEcho,
    /// Something else came back.
    #[error("the echo differs from what was sent")]
    Differs,
}

/// A catch-up stream to one peer. It is opened at the first segment.
#[derive(Debug)]
pub struct CatchUpSender {
    link: Arc<Link>,
    stream: Option<(SendStream, OwnedSemaphorePermit)>,
}

impl CatchUpSender {
    pub(super) const fn new(link: Arc<Link>) -> Self {
        Self { link, stream: None }
    }

    /// Sends a segment, and waits while the other side is behind with reading or four such streams are open.
    ///
    /// # Errors
    /// The link is gone, or the segment fits no frame.
    ///
    /// # Cancel safety
    /// Part of the segment may have been sent; the stream must be dropped then.
    pub async fn send(&mut self, segment: &Segment) -> Result<(), SendFault> {
        let mut frame = wire::encode_segment(segment)?;
        let stream = match &mut self.stream {
            Some((stream, _)) => stream,
            stream @ None => &mut stream.insert(open(&self.link, StreamKind::CatchUp).await?).0,
        };
        while !frame.is_empty() {
            self.link.thought.calm().await;
            let piece = frame.split_to(frame.len().min(PIECE_BYTES));
            stream.write_chunk(piece).await.map_err(|_| SendFault::LinkGone)?;
        }
        Ok(())
    }

    /// Ends the stream, and waits until the other side has acknowledged all of it.
    ///
    /// # Errors
    /// The link went before that; some may have arrived.
    ///
    /// # Cancel safety
    /// The stream is ended all the same; only its acknowledgement goes unnoticed.
    pub async fn finish(self) -> Result<(), SendFault> {
        match self.stream {
            Some((stream, _turn)) => finish(stream).await,
            None => Ok(()),
        }
    }
}

async fn finish(mut stream: SendStream) -> Result<(), SendFault> {
    stream.finish().map_err(|_| SendFault::LinkGone)?;
    match stream.stopped().await {
        Ok(None) => Ok(()),
        Ok(Some(_)) | Err(_) => Err(SendFault::LinkGone),
    }
}

/// Opens a stream of a kind whose sender waits. Of those that are open to one peer at a time there is a bound for all kinds together.
async fn open(link: &Link, kind: StreamKind) -> Result<(SendStream, OwnedSemaphorePermit), SendFault> {
    let gone = |_| SendFault::LinkGone;
    link.admitted.wait().await;
    let turns = Arc::clone(&link.catch_up_out);
    let turn = turns.acquire_owned().await.map_err(|_| SendFault::LinkGone)?;
    let mut stream = link.quic.open_uni().await.map_err(|_| SendFault::LinkGone)?;
    // It fails only where the stream is gone, and then so does the write.
    drop(stream.set_priority(row(kind).priority));
    stream.write_all(&[kind.number()]).await.map_err(gone)?;
    Ok((stream, turn))
}

/// Sends what convicts an author on a stream of its own, and waits until the other side has acknowledged it.
pub(super) async fn proof(link: &Link, proof: &[u8]) -> Result<(), SendFault> {
    let frames = wire::encode_proof(proof)?;
    let (mut stream, _turn) = open(link, StreamKind::Proof).await?;
    for frame in frames {
        stream.write_chunk(frame).await.map_err(|_| SendFault::LinkGone)?;
    }
    finish(stream).await
}

/// Sends the payload on a stream of its own and waits for it to come back.
pub(super) async fn probe(link: &Link, payload: Bytes) -> Result<Duration, ProbeError> {
    if payload.len() > PROBE_BYTES_MAX {
        return Err(ProbeError::TooLong { bytes: payload.len() });
    }
    timeout(PROBE_PATIENCE, echoed(link, payload)).await.unwrap_or(Err(ProbeError::NoEcho))
}

async fn echoed(link: &Link, payload: Bytes) -> Result<Duration, ProbeError> {
    let (mut send, mut receive) = link.quic.open_bi().await.map_err(|_| ProbeError::LinkGone)?;
    drop(send.set_priority(row(StreamKind::Probe).priority));
    let started = Instant::now();
    let sent = payload.clone();
    let sending = async {
        send.write_all(&[StreamKind::Probe.number()]).await.map_err(|_| ProbeError::LinkGone)?;
        send.write_chunk(sent).await.map_err(|_| ProbeError::LinkGone)?;
        send.finish().map_err(|_| ProbeError::LinkGone)
    };
    let receiving = async {
        let back = receive.read_to_end(PROBE_BYTES_MAX).await;
        back.map_err(|error| match error {
            quinn::ReadToEndError::Read(_) => ProbeError::LinkGone,
            quinn::ReadToEndError::TooLong => ProbeError::Differs,
        })
    };
    let ((), back) = tokio::try_join!(sending, receiving)?;
    if back == payload { Ok(started.elapsed()) } else { Err(ProbeError::Differs) }
}
