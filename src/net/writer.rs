//! Writers: one queue with a bound in bytes for each class of frames, and the task that empties it into a stream.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use quinn::{SendStream, WriteError};
use tokio::sync::{Notify, SetOnce};

use super::streams::row;
use crate::protocol::frame::StreamKind;

/// What a queued frame costs besides its bytes, so that a million empty ones have a bound too.
const FRAME_COST_BYTES: usize = 64;
/// Most bytes that are gathered into one write. quinn keeps each write as a segment of its own and looks through them
/// one by one, so small frames are put together here.
const GATHER_BYTES_MAX: usize = 64 << 10;
/// A list of frames that was longer than that is given back when it is empty: a thousand idle links should not keep what one burst took.
const KEPT_FRAMES_MAX: usize = 64;

/// The end of a queue that frames are put into.
#[derive(Debug)]
pub(super) struct Queue(Arc<Shared>);

/// The end of a queue that a writer empties.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Shared>);

/// Not a channel of tokio's: those take a block for 32 frames at once, and most links of a large federation are idle.
#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    state: Mutex<State>,
    filled: Notify,
    emptied: SetOnce<()>,
    /// Nothing waits any more, or too much.
    calmed: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    /// What is queued, and what a write under way holds.
    bytes: usize,
    /// Nothing comes any more.
    finished: bool,
    /// Somebody holds a [`Late`] of it.
    is_late: bool,
}

/// What goes into the stream at once.
#[derive(Debug)]
struct Write {
    bytes: Bytes,
    /// Its share of the queue's room; given back once the stream has taken it.
    cost: usize,
}

/// A queue whose writer is to be woken for what was put in.
#[derive(Debug)]
pub(super) struct Late(Arc<Shared>);

impl Late {
    pub(super) fn wake(self) {
        self.0.state().is_late = false;
        self.0.filled.notify_one();
    }
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
        let shared = Arc::new(Shared {
            bytes_max: row(kind).queue_bytes_max,
            state: Mutex::default(),
            filled: Notify::new(),
            emptied: SetOnce::new(),
            calmed: Notify::new(),
        });
        (Self(Arc::clone(&shared)), Waiting(shared))
    }

    /// Puts a frame in, or leaves all as it was.
    pub(super) fn push(&self, frame: Bytes) -> Result<(), NotQueued> {
        drop(self.put(frame)?);
        self.0.filled.notify_one();
        Ok(())
    }

    /// As [`Self::push`], but the writer is not woken; whoever gets the [`Late`] does that. `None` where somebody has one already.
    pub(super) fn push_late(&self, frame: Bytes) -> Result<Option<Late>, NotQueued> {
        let mut state = self.put(frame)?;
        let is_first = !std::mem::replace(&mut state.is_late, true);
        Ok(is_first.then(|| Late(Arc::clone(&self.0))))
    }

    fn put(&self, frame: Bytes) -> Result<MutexGuard<'_, State>, NotQueued> {
        let mut state = self.0.state();
        if state.finished {
            return Err(NotQueued::Gone);
        }
        let bytes = state.bytes.saturating_add(cost_of(&frame));
        if bytes > self.0.bytes_max {
            return Err(NotQueued::Full);
        }
        state.bytes = bytes;
        state.frames.push_back(frame);
        if !self.0.is_heeded(&state) {
            self.0.calmed.notify_waiters();
        }
        Ok(state)
    }

    /// Lets the writer end its stream after what is queued by now.
    pub(super) fn finish(&self) {
        self.0.state().finished = true;
        self.0.filled.notify_one();
    }

    /// Waits while frames wait, for those that should go behind them. quinn sends what it has been given by priority, but has room for
    /// half a megabyte, and whoever finds that full competes for it whatever its priority. Not where the queue is more than half full: what did
    /// not fit it comes with a catch-up, which must not wait for it.
    pub(super) async fn calm(&self) {
        loop {
            // Made before the look, so that nothing between the two is missed.
            let calmed = self.0.calmed.notified();
            if !self.0.is_heeded(&self.0.state()) {
                return;
            }
            calmed.await;
        }
    }

    /// Waits until the writer has ended: all was acknowledged, or can't be any more.
    pub(super) async fn emptied(&self) {
        self.0.emptied.wait().await;
    }
}

impl Waiting {
    /// Writes what is queued, until the queue is finished and all is acknowledged, or the stream breaks.
    pub(super) async fn write_to(&mut self, stream: &mut SendStream) -> Result<(), WriteError> {
        while let Some(write) = self.next().await {
            stream.write_chunk(write.bytes).await?;
            self.0.give_back(write.cost);
        }
        if stream.finish().is_ok() {
            // Whether it was acknowledged or the stream broke: there is nothing left to do for it.
            drop(stream.stopped().await);
        }
        Ok(())
    }

    /// What is written first after the writer was woken.
    #[cfg(test)]
    pub(super) async fn woken(&self) -> Bytes {
        self.0.filled.notified().await;
        self.0.state().gather().map(|write| write.bytes).unwrap_or_default()
    }

    /// The next write, once there is one; `None` where nothing comes any more.
    async fn next(&self) -> Option<Write> {
        loop {
            {
                let mut state = self.0.state();
                if let Some(write) = state.gather() {
                    return Some(write);
                }
                if state.finished {
                    return None;
                }
            }
            // What was pushed since that look has left a permit.
            self.0.filled.notified().await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.0.state() = State { finished: true, ..State::default() };
        self.0.calmed.notify_waiters();
        // Only the first time counts, and there is only this one.
        drop(self.0.emptied.set(()));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under this lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, cost: usize) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(cost);
        if !self.is_heeded(&state) {
            self.calmed.notify_waiters();
        }
    }

    /// Whether what waits is a reason for others to wait.
    const fn is_heeded(&self, state: &State) -> bool {
        state.bytes > 0 && state.bytes <= self.bytes_max / 2
    }
}

impl State {
    /// One frame as it is, or several small ones put together.
    fn gather(&mut self) -> Option<Write> {
        let first = self.frames.pop_front()?;
        let (mut many, mut length) = (0, first.len());
        for frame in &self.frames {
            if length + frame.len() > GATHER_BYTES_MAX {
                break;
            }
            length += frame.len();
            many += 1;
        }
        let cost = length + (many + 1) * FRAME_COST_BYTES;
        if many == 0 {
            self.tidy();
            return Some(Write { bytes: first, cost });
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(&first);
        for frame in self.frames.drain(..many) {
            bytes.extend_from_slice(&frame);
        }
        self.tidy();
        Some(Write { bytes: bytes.freeze(), cost })
    }

    fn tidy(&mut self) {
        if self.frames.is_empty() && self.frames.capacity() > KEPT_FRAMES_MAX {
            self.frames = VecDeque::new();
        }
    }
}

fn cost_of(frame: &Bytes) -> usize {
    frame.len() + FRAME_COST_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_is_full_by_its_bytes_and_gives_room_back_when_a_write_is_done() {
        let (queue, waiting) = Queue::new(StreamKind::Control);
        let frame = Bytes::from(vec![0; 100 << 10]);
        let pushed = (0..100).take_while(|_| queue.push(frame.clone()).is_ok()).count();
        assert_eq!(pushed, 5);
        let write = waiting.next().await.unwrap();
        assert_eq!(queue.push(frame.clone()), Err(NotQueued::Full), "it is under way still");
        waiting.0.give_back(write.cost);
        assert_eq!(queue.push(frame.clone()), Ok(()));
        assert_eq!(queue.push(frame.clone()), Err(NotQueued::Full));
        drop(waiting);
        assert_eq!(queue.push(Bytes::new()), Err(NotQueued::Gone));
        queue.emptied().await;
    }

    #[tokio::test]
    async fn empty_frames_have_a_bound_too() {
        let (queue, waiting) = Queue::new(StreamKind::Control);
        let pushed = (0..100_000).take_while(|_| queue.push(Bytes::new()).is_ok()).count();
        assert_eq!(pushed, row(StreamKind::Control).queue_bytes_max / FRAME_COST_BYTES);
        let write = waiting.next().await.unwrap();
        waiting.0.give_back(write.cost);
        let state = waiting.0.state();
        assert_eq!((state.bytes, state.frames.capacity()), (0, 0));
    }

    #[tokio::test]
    async fn small_frames_are_gathered_in_order_and_large_ones_are_not_copied() {
        let (queue, waiting) = Queue::new(StreamKind::Thought);
        let large = Bytes::from(vec![9; 200 << 10]);
        for byte in 0..10 {
            queue.push(Bytes::from(vec![byte; 8 << 10])).unwrap();
        }
        queue.push(large.clone()).unwrap();
        queue.push(Bytes::from_static(b"end")).unwrap();
        queue.finish();
        assert_eq!(queue.push(Bytes::new()), Err(NotQueued::Gone));
        let mut writes = vec![];
        while let Some(write) = waiting.next().await {
            writes.push(write.bytes);
        }
        let lengths: Vec<_> = writes.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [64 << 10, 16 << 10, 200 << 10, 3]);
        assert_eq!(writes[2].as_ptr(), large.as_ptr());
        assert!(writes[0].chunks(8 << 10).enumerate().all(|(byte, chunk)| chunk[0] == byte as u8));
    }

    #[tokio::test]
    async fn a_writer_that_waits_hears_of_a_frame_and_of_the_end() {
        let (queue, waiting) = Queue::new(StreamKind::Thought);
        let writer = tokio::spawn(async move {
            (waiting.next().await.map(|write| write.bytes), waiting.next().await.is_some())
        });
        tokio::task::yield_now().await;
        queue.push(Bytes::from_static(b"one")).unwrap();
        tokio::task::yield_now().await;
        queue.finish();
        assert_eq!(writer.await.unwrap(), (Some(Bytes::from_static(b"one")), false));
    }
}
