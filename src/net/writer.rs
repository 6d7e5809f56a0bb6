//! Writers: one queue with a bound in bytes for each class of frames, and the task that empties it into a stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::{SendStream, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SetOnce, TryAcquireError, mpsc};

use super::streams::row;
use crate::protocol::frame::StreamKind;

/// What a queued frame costs besides its bytes, so that a million empty ones have a bound too.
const FRAME_COST_BYTES: usize = 64;
/// Most bytes that are gathered into one write. quinn keeps each write as a segment of its own and looks through them
/// one by one, so small frames are put together here.
const GATHER_BYTES_MAX: usize = 64 << 10;

/// The end of a queue that frames are put into.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    room: Arc<Semaphore>,
    items: mpsc::UnboundedSender<Item>,
    emptied: Arc<SetOnce<()>>,
}

/// The end of a queue that a writer empties.
#[derive(Debug)]
pub(super) struct Waiting {
    items: mpsc::UnboundedReceiver<Item>,
    /// Taken from the queue, but did not fit the last write.
    next: Option<Queued>,
    emptied: Arc<SetOnce<()>>,
}

#[derive(Debug)]
enum Item {
    Frame(Queued),
    /// Nothing comes after this.
    Last,
}

#[derive(Debug)]
struct Queued {
    frame: Bytes,
    /// Its share of the queue's room; given back once the stream has taken the frame.
    room: OwnedSemaphorePermit,
}

/// Why a frame was not queued. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotQueued {
    /// The queue holds as many bytes as it may.
    Full,
    /// Nobody empties it any more.
    Gone,
}

impl Queue {
    /// The queue of streams of that kind.
    pub(super) fn new(kind: StreamKind) -> (Self, Waiting) {
        let (items, receiver) = mpsc::unbounded_channel();
        let emptied = Arc::new(SetOnce::new());
        let room = Arc::new(Semaphore::new(row(kind).queue_bytes_max));
        let waiting = Waiting { items: receiver, next: None, emptied: Arc::clone(&emptied) };
        (Self { room, items, emptied }, waiting)
    }

    /// Puts a frame in, or leaves all as it was.
    pub(super) fn push(&self, frame: Bytes) -> Result<(), NotQueued> {
        let cost = u32::try_from(frame.len() + FRAME_COST_BYTES).map_err(|_| NotQueued::Full)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(cost).map_err(|error| match error {
            TryAcquireError::NoPermits => NotQueued::Full,
            TryAcquireError::Closed => NotQueued::Gone,
        })?;
        self.items.send(Item::Frame(Queued { frame, room })).map_err(|_| NotQueued::Gone)
    }

    /// Lets the writer end its stream after what is queued by now.
    pub(super) fn finish(&self) {
        // Where nobody listens any more, the stream has ended already.
        drop(self.items.send(Item::Last));
    }

    /// Waits until the writer has ended: all was acknowledged, or can't be any more.
    pub(super) async fn emptied(&self) {
        self.emptied.wait().await;
    }
}

impl Waiting {
    /// Writes what is queued, until the queue is finished and all is acknowledged, or the stream breaks.
    pub(super) async fn write_to(&mut self, stream: &mut SendStream) -> Result<(), WriteError> {
        while let Some(write) = self.gather().await {
            stream.write_chunk(write.frame).await?;
            drop(write.room);
        }
        if stream.finish().is_ok() {
            // Whether it was acknowledged or the stream broke: there is nothing left to do for it.
            drop(stream.stopped().await);
        }
        Ok(())
    }

    /// The next write: one frame as it is, or several small ones put together.
    async fn gather(&mut self) -> Option<Queued> {
        let first = match self.next.take() {
            Some(next) => next,
            None => self.items.recv().await?.frame()?,
        };
        let Some(second) = self.fitting(first.frame.len()) else {
            return Some(first);
        };
        let Queued { frame, mut room } = first;
        let mut gathered = BytesMut::with_capacity(GATHER_BYTES_MAX);
        gathered.extend_from_slice(&frame);
        let mut more = Some(second);
        while let Some(Queued { frame, room: its_room }) = more {
            gathered.extend_from_slice(&frame);
            room.merge(its_room);
            more = self.fitting(gathered.len());
        }
        Some(Queued { frame: gathered.freeze(), room })
    }

    /// Takes the frame after so many gathered bytes, where there is one and it fits.
    fn fitting(&mut self, gathered_bytes: usize) -> Option<Queued> {
        let queued = match self.items.try_recv() {
            Ok(Item::Frame(queued)) => queued,
            Ok(Item::Last) => {
                // The next look finds the queue closed, as it should.
                self.items.close();
                return None;
            }
            Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => return None,
        };
        if gathered_bytes + queued.frame.len() <= GATHER_BYTES_MAX {
            return Some(queued);
        }
        self.next = Some(queued);
        None
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Only the first time counts, and there is only this one.
        drop(self.emptied.set(()));
    }
}

impl Item {
    fn frame(self) -> Option<Queued> {
        match self {
            Self::Frame(queued) => Some(queued),
            Self::Last => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_full_by_its_bytes_and_gives_room_back_when_a_write_is_done() {
        let (queue, mut waiting) = Queue::new(StreamKind::Control);
        let frame = Bytes::from(vec![0; 100 << 10]);
        let pushed = (0..100).take_while(|_| queue.push(frame.clone()).is_ok()).count();
        assert_eq!(pushed, 5);
        assert_eq!(queue.push(frame.clone()), Err(NotQueued::Full));
        let written = waiting.items.try_recv().ok().and_then(Item::frame).unwrap();
        drop(written);
        assert_eq!(queue.push(frame.clone()), Ok(()));
        drop(waiting);
        assert_eq!(queue.push(Bytes::new()), Err(NotQueued::Gone));
    }

    #[tokio::test]
    async fn small_frames_are_gathered_in_order_and_large_ones_are_not_copied() {
        let (queue, mut waiting) = Queue::new(StreamKind::Thought);
        let large = Bytes::from(vec![9; 200 << 10]);
        for byte in 0..10 {
            queue.push(Bytes::from(vec![byte; 8 << 10])).unwrap();
        }
        queue.push(large.clone()).unwrap();
        queue.push(Bytes::from_static(b"end")).unwrap();
        queue.finish();
        let mut writes = vec![];
        while let Some(write) = waiting.gather().await {
            writes.push(write.frame);
        }
        let lengths: Vec<_> = writes.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [64 << 10, 16 << 10, 200 << 10, 3]);
        assert_eq!(writes[2].as_ptr(), large.as_ptr());
        assert!(writes[0].chunks(8 << 10).enumerate().all(|(byte, chunk)| chunk[0] == byte as u8));
    }
}
