//! Readers: the frames of a stream, one by one, each checked for its length before anything is kept for it.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, VarInt};
use tokio::time::{Instant, timeout_at};

use crate::protocol::{
    refusal::{Refusal, RefusalCode},
    wire,
};

/// Most bytes that are taken from the stream at once.
pub(super) const CHUNK_BYTES_MAX: usize = 64 << 10;

/// The frames of a stream.
#[derive(Debug)]
pub(super) struct Frames {
    stream: RecvStream,
    buffer: BytesMut,
    /// How long a frame that has begun may take.
    patience: Duration,
}

/// Why there are no more frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The peer sent what it may not; it is refused for that.
    Violated(Refusal),
    /// The stream or its connection broke.
    Broke,
}

impl Frames {
    pub(super) fn new(stream: RecvStream, patience: Duration) -> Self {
        Self { stream, buffer: BytesMut::new(), patience }
    }

    /// The byte that names the stream's kind; it must come at once.
    pub(super) async fn kind(&mut self) -> Result<u8, Stopped> {
        let deadline = Instant::now() + self.patience;
        let mut kind = [0];
        match timeout_at(deadline, self.stream.read_exact(&mut kind)).await {
            Ok(Ok(())) => {
                let [kind] = kind;
                Ok(kind)
            }
            Ok(Err(_)) => Err(Stopped::Broke),
            Err(_) => Err(too_slow("a stream whose kind never came")),
        }
    }

    /// The next frame, without its length; `None` where the peer has ended the stream.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was read stays for the next call. Only the frame's deadline starts anew.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Stopped> {
        let mut deadline = None;
        loop {
            if let Some(frame) =
                wire::take_frame(&mut self.buffer).map_err(|fault| Stopped::Violated(fault.refusal()))?
            {
                return Ok(Some(frame));
            }
            let begun = !self.buffer.is_empty();
            let chunk = if begun {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.patience);
                let read = timeout_at(deadline, self.stream.read_chunk(CHUNK_BYTES_MAX, true));
                read.await.map_err(|_| too_slow("a frame that never ended"))?
            } else {
                self.stream.read_chunk(CHUNK_BYTES_MAX, true).await
            };
            match chunk {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Ok(None) if begun => return Err(malformed("a stream that ends within a frame")),
                Ok(None) => return Ok(None),
                Err(ReadError::Reset(_) | ReadError::ConnectionLost(_)) => return Err(Stopped::Broke),
                Err(ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => {
                    return Err(Stopped::Broke);
                }
            }
        }
    }

    /// Throws so many bytes away that come behind a frame and are none; in time, as if they were one.
    pub(super) async fn skip(&mut self, bytes: usize) -> Result<(), Stopped> {
        let deadline = Instant::now() + self.patience;
        let mut left = bytes;
        let kept = self.buffer.len().min(left);
        self.buffer.advance(kept);
        left -= kept;
        while left > 0 {
            let chunk = timeout_at(deadline, self.stream.read_chunk(left.min(CHUNK_BYTES_MAX), true)).await;
            match chunk.map_err(|_| too_slow("bytes that never came"))? {
                Ok(Some(chunk)) => left -= chunk.bytes.len(),
                Ok(None) => return Err(malformed("a stream that ends before the bytes that it announced")),
                Err(_) => return Err(Stopped::Broke),
            }
        }
        Ok(())
    }

    /// Asks the peer to send no more, saying why.
    pub(super) fn stop(&mut self, code: RefusalCode) {
        // A stream that has ended needs no stop.
        drop(self.stream.stop(VarInt::from(u32::from(code.number()))));
    }

    /// The stream itself, for a kind whose bytes are no frames; to be taken right after [`Self::kind`].
    pub(super) fn into_stream(self) -> RecvStream {
        self.stream
    }
}

fn malformed(about: &str) -> Stopped {
    Stopped::Violated(Refusal::about(RefusalCode::Malformed, about))
}

fn too_slow(about: &str) -> Stopped {
    Stopped::Violated(Refusal::about(RefusalCode::TooSlow, about))
}
