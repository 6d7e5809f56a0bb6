//! Work that takes milliseconds, apart from the tasks that packets, pings and live thoughts wait for: on threads of its own, on no
//! more than half of the processors, and with less urgency than anything else. So a backlog that is read, decoded or verified
//! takes what is left over.

use std::{panic::resume_unwind, thread};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// By so much a thread that works apart is nicer than the others: under contention it gets about a ninth of what they get (Linux,
/// `sched(7)`: a tenth less for each step), which is enough not to starve.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// Where work waits for its turn, in the order in which it came.
#[derive(Debug)]
pub struct Apart {
    turns: Semaphore,
}

/// The runtime is ending; the work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending;

impl Default for Apart {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self { turns: Semaphore::new((processors / 2).max(1)) }
    }
}

impl Apart {
    /// Waits for a turn and does it. A panic of the work is the caller's.
    ///
    /// # Errors
    /// Where the runtime is ending.
    ///
    /// # Cancel safety
    /// What was begun is done, and its result dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Ending> {
        let _turn = self.turns.acquire().await.map_err(|_| Ending)?;
        let working = spawn_blocking(move || {
            be_nicer();
            work()
        });
        match working.await {
            Ok(done) => Ok(done),
            Err(error) if error.is_cancelled() => Err(Ending),
            Err(error) => resume_unwind(error.into_panic()),
        }
    }
}

/// Makes this thread nicer, once. It stays so when the runtime uses it for something else, which is none of what is urgent.
#[cfg(target_os = "linux")]
fn be_nicer() {
    use std::cell::Cell;

    thread_local! {
        static IS_NICER: Cell<bool> = const { Cell::new(false) };
    }
    if !IS_NICER.replace(true) {
        // Where the system forbids it, it stays as it is.
        let _forbidden = rustix::process::nice(NICER);
    }
}

/// Elsewhere the system knows niceness of whole processes only.
#[cfg(not(target_os = "linux"))]
const fn be_nicer() {}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_is_done_at_once_than_on_half_of_the_processors() {
        let apart = Arc::new(Apart::default());
        let turns = apart.turns.available_permits();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..turns * 4)
            .map(|_| {
                let (apart, now, most) = (Arc::clone(&apart), Arc::clone(&now), Arc::clone(&most));
                tokio::spawn(async move {
                    let work = move || {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    };
                    apart.run(work).await
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        assert!((1..=turns).contains(&most.load(Ordering::SeqCst)));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn work_that_is_done_apart_is_nicer_once_and_the_caller_is_not() {
        // The thread's own, by its id; field 19 of proc_pid_stat(5), counted behind the name.
        let niceness = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields = stat.rsplit(") ").next().unwrap();
            fields.split(' ').nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = niceness();
        let apart = Apart::default();
        for _ in 0..3 {
            assert_eq!(apart.run(niceness).await, Ok((before + NICER).min(19)));
        }
        assert_eq!(niceness(), before);
    }
}
