//! Turns: where a frame goes to very many links, those behind the first are woken a few at a time. A thousand writers at once, each with a
//! packet, keep a node's threads busy for tens of milliseconds, in which nothing else of it gets a turn. The frame itself is queued at once
//! for all, so the order on each link is what it was, and a link that has something urgent to write takes it along.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::writer::Late;

/// So many links of a frame are woken at once: what a node takes by default.
pub(super) const AT_ONCE_MAX: usize = 64;
/// So many at each turn ...
const AT_A_TURN: usize = 32;
/// ... and so long from one to the next: a thousand links are through in 60 ms, and a turn's packets take about a third of it. Where thoughts
/// come faster than turns, a link gets several of them in one packet.
const PAUSE: Duration = Duration::from_millis(2);

/// Who is to be woken, in the order in which they came; each queue at most once.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    late: VecDeque<Late>,
    /// Nobody gives turns any more.
    is_over: bool,
}

impl Turns {
    /// Lets a queue wait for its turn.
    pub(super) fn add(&self, late: Late) {
        let mut waiting = self.lock();
        if waiting.is_over {
            return late.wake();
        }
        waiting.late.push_back(late);
        drop(waiting);
        self.added.notify_one();
    }

    /// Gives turns until it is told to end; whoever waits then is woken at once.
    pub(super) async fn give(&self, until: &CancellationToken) {
        let giving = async {
            loop {
                let mut turn: Vec<Late> = vec![];
                {
                    let mut waiting = self.lock();
                    let many = waiting.late.len().min(AT_A_TURN);
                    turn.extend(waiting.late.drain(..many));
                }
                if turn.is_empty() {
                    // What was added since that look has left a permit.
                    self.added.notified().await;
                    continue;
                }
                turn.into_iter().for_each(Late::wake);
                sleep(PAUSE).await;
            }
        };
        let _ended: Option<()> = until.run_until_cancelled(giving).await;
        let mut waiting = self.lock();
        waiting.is_over = true;
        waiting.late.drain(..).for_each(Late::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that is done under this lock can leave the list half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::{task::yield_now, time::Instant};

    use super::{super::writer::Queue, *};
    use crate::protocol::frame::StreamKind;

    #[tokio::test(start_paused = true)]
    async fn many_are_woken_a_few_at_a_time_and_each_once() {
        let (turns, until) = (Arc::new(Turns::default()), CancellationToken::new());
        let queues: Vec<_> = (0..100).map(|_| Queue::new(StreamKind::Thought)).collect();
        for frame in ["one", "two"] {
            for (queue, _) in &queues {
                let late = queue.push_late(Bytes::from_static(frame.as_bytes())).unwrap();
                assert_eq!(late.is_some(), frame == "one", "it waits already");
                late.into_iter().for_each(|late| turns.add(late));
            }
        }
        let begun = Instant::now();
        let writers: Vec<_> = queues
            .into_iter()
            .map(|(queue, waiting)| {
                tokio::spawn(async move {
                    let written = waiting.woken().await;
                    drop(queue);
                    (begun.elapsed(), written)
                })
            })
            .collect();
        yield_now().await;
        let (giving, end) = (Arc::clone(&turns), until.clone());
        let giver = tokio::spawn(async move { giving.give(&end).await });
        let mut turns_taken = vec![];
        for writer in writers {
            let (at, bytes) = writer.await.unwrap();
            assert_eq!(bytes, "onetwo", "both, in order");
            turns_taken.push(at.as_millis() / PAUSE.as_millis());
        }
        assert!(turns_taken.is_sorted());
        turns_taken.dedup();
        assert_eq!(turns_taken.len(), 100_usize.div_ceil(AT_A_TURN));
        until.cancel();
        giver.await.unwrap();
        let (queue, waiting) = Queue::new(StreamKind::Thought);
        turns.add(queue.push_late(Bytes::from_static(b"late")).unwrap().unwrap());
        assert_eq!(waiting.woken().await, "late", "nobody waits for turns that are over");
    }
}
