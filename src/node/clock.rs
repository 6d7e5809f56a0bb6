//! The node's two clocks. Boards without a clock battery start in 1970, and clocks jump: the node's time is the latest
//! of the system clock, the program's release date and the newest time that it has stored. Source: protocol.md, Time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::{ledger::types::Millis, protocol::input::Now};

/// The day this version was released: 2026-11-23. No entry of this version is older.
pub const RELEASED: Millis = Millis(1_795_392_000_000);

/// Both clocks of one process.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    latest: AtomicU64,
}

impl Clock {
    /// Starts, not before the newest time that the node has stored for itself.
    #[must_use]
    pub(super) fn start(newest_stored: Millis) -> Self {
        Self { started: Instant::now(), latest: AtomicU64::new(newest_stored.max(RELEASED).0) }
    }

    /// What time it is.
    #[must_use]
    pub(super) fn now(&self) -> Now {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let system = u64::try_from(system).unwrap_or(u64::MAX);
        let wall = self.latest.fetch_max(system, Ordering::Relaxed).max(system);
        Now { mono: self.mono(), wall: Millis(wall) }
    }

    /// The instant of a monotonic time, for a timer.
    #[must_use]
    pub(super) fn instant(&self, mono: Millis) -> Instant {
        let after = std::time::Duration::from_millis(mono.0);
        // Beyond the end of time there is nothing to wait for that a day would not do.
        let day = std::time::Duration::from_secs(86_400);
        self.started.checked_add(after).unwrap_or_else(|| Instant::now() + day)
    }

    fn mono(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_behind_what_was_stored_or_the_release() {
        let far = Millis(4_000_000_000_000);
        assert_eq!(Clock::start(far).now().wall, far);
        assert!(Clock::start(Millis::ZERO).now().wall >= RELEASED);
    }
}
