//! The inbox: what waits for the owner of an endpoint. Each class of events has a bound in bytes of its own, and what was
//! asked for a long while ago (catch-up) waits in another lane than what happens now, so that a backlog delays nothing.

use std::{fmt, sync::Arc};

use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, error::TryRecvError},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::event::NetEvent;
use crate::protocol::wire::FRAME_BYTES_MAX;

/// What an event takes beside the bytes of its frame.
const EVENT_COST_BYTES: usize = 512;
/// What a decoded entry takes beside its bytes.
const ENTRY_COST_BYTES: usize = 512;

/// Most bytes of each class that wait. A frame that alone is larger than its bound still passes, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxBounds {
    /// Of control and balance-sync frames, and of what happens to connections. Default 4 MiB.
    pub control_bytes_max: usize,
    /// Of live segments. Default 8 MiB: a thousandth of a second of a gigabit link is a seventieth of it.
    pub live_bytes_max: usize,
    /// Of segments that were asked for. Default 2 MiB: enough that verifying and folding overlap; more would only be older
    /// when it is looked at.
    pub catch_up_bytes_max: usize,
}

impl Default for InboxBounds {
    fn default() -> Self {
        Self { control_bytes_max: 4 << 20, live_bytes_max: 8 << 20, catch_up_bytes_max: 2 << 20 }
    }
}

const _: () = assert!(FRAME_BYTES_MAX * 4 <= 2 << 20);

/// What an event waits as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Control and balance-sync frames, and what happens to connections.
    Control,
    /// Live segments.
    Live,
    /// Segments that were asked for.
    CatchUp,
}

/// Where events are taken out. Dropping it makes everybody who has something to tell give up.
#[derive(Debug)]
pub struct Inbox {
    /// What happens now: everything but catch-up, in the order in which it came.
    pub prompt: Lane,
    /// What was asked for.
    pub catch_up: Lane,
}

/// One queue of an inbox.
pub struct Lane {
    items: mpsc::UnboundedReceiver<Item>,
    rooms: Vec<Arc<Semaphore>>,
}

/// Where events are put in.
#[derive(Clone, Debug)]
pub struct InboxSender {
    prompt: mpsc::UnboundedSender<Item>,
    catch_up: mpsc::UnboundedSender<Item>,
    control_room: Room,
    live_room: Room,
    catch_up_room: Room,
}

#[derive(Clone, Debug)]
struct Room {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

struct Item {
    event: NetEvent,
    /// Given back when the event is taken out.
    _room: OwnedSemaphorePermit,
    /// By it, a link knows what of its own still waits.
    _unread: Option<TaskTrackerToken>,
}

/// An empty inbox, and what fills it.
#[must_use]
pub fn inbox(bounds: InboxBounds) -> (InboxSender, Inbox) {
    let (prompt, prompt_items) = mpsc::unbounded_channel();
    let (catch_up, catch_up_items) = mpsc::unbounded_channel();
    let sender = InboxSender {
        prompt,
        catch_up,
        control_room: Room::new(bounds.control_bytes_max),
        live_room: Room::new(bounds.live_bytes_max),
        catch_up_room: Room::new(bounds.catch_up_bytes_max),
    };
    let prompt_rooms = vec![Arc::clone(&sender.control_room.bytes), Arc::clone(&sender.live_room.bytes)];
    let catch_up_rooms = vec![Arc::clone(&sender.catch_up_room.bytes)];
    let inbox = Inbox {
        prompt: Lane { items: prompt_items, rooms: prompt_rooms },
        catch_up: Lane { items: catch_up_items, rooms: catch_up_rooms },
    };
    (sender, inbox)
}

impl Room {
    fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.clamp(1, Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// Waits for room; `None` where nobody reads any more.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()
    }
}

impl InboxSender {
    /// Tells the owner, and waits for room in that class. Says whether there is still somebody to tell.
    pub(super) async fn tell(
        &self,
        class: Class,
        event: NetEvent,
        unread: Option<&TaskTracker>,
        stop: &CancellationToken,
    ) -> bool {
        let bytes = cost(&event);
        let (lane, room) = match class {
            Class::Control => (&self.prompt, &self.control_room),
            Class::Live => (&self.prompt, &self.live_room),
            Class::CatchUp => (&self.catch_up, &self.catch_up_room),
        };
        let room = tokio::select! {
            biased;
            room = room.take(bytes) => room,
            () = stop.cancelled() => None,
        };
        let Some(room) = room else { return false };
        lane.send(Item { event, _room: room, _unread: unread.map(TaskTracker::token) }).is_ok()
    }
}

impl Inbox {
    /// The next event of either lane, what happens now first; `None` where the endpoint is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn recv(&mut self) -> Option<NetEvent> {
        tokio::select! {
            biased;
            Some(event) = self.prompt.recv() => Some(event),
            Some(event) = self.catch_up.recv() => Some(event),
            else => None,
        }
    }
}

impl Lane {
    /// The next event; `None` where the endpoint is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn recv(&mut self) -> Option<NetEvent> {
        self.items.recv().await.map(|item| item.event)
    }

    /// Waits for an event, and takes what else waits, at most `max` in all. 0: the endpoint is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn recv_many(&mut self, events: &mut Vec<NetEvent>, max: usize) -> usize {
        let Some(first) = self.recv().await else { return 0 };
        events.push(first);
        let mut count = 1;
        while count < max
            && let Ok(event) = self.try_recv()
        {
            events.push(event);
            count += 1;
        }
        count
    }

    /// An event that waits already.
    ///
    /// # Errors
    /// Where there is none, or the endpoint is gone.
    pub fn try_recv(&mut self) -> Result<NetEvent, TryRecvError> {
        self.items.try_recv().map(|item| item.event)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        for room in &self.rooms {
            room.close();
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("waiting", &self.items.len()).finish_non_exhaustive()
    }
}

/// About what an event holds while it waits.
fn cost(event: &NetEvent) -> usize {
    let held = match event {
        NetEvent::Heard { segment, .. } | NetEvent::Dry { segment, .. } => {
            segment.byte_len().saturating_add(segment.entries().len().saturating_mul(ENTRY_COST_BYTES))
        }
        NetEvent::Balance { frame, .. } => frame.byte_len(),
        NetEvent::Proof { proof, .. } => proof.byte_len(),
        NetEvent::Connected { .. }
        | NetEvent::DialFailed { .. }
        | NetEvent::Control { .. }
        | NetEvent::Arena(_)
        | NetEvent::HeardWrong { .. }
        | NetEvent::ProofWrong { .. }
        | NetEvent::Known { .. }
        | NetEvent::CaughtUp { .. }
        | NetEvent::QueueFull { .. }
        | NetEvent::Violated { .. }
        | NetEvent::Disconnected { .. }
        | NetEvent::HandshakeFailed { .. } => 0,
    };
    held.saturating_add(EVENT_COST_BYTES)
}
