//! Sleep: whether the machine slept, or this process was stopped, between two looks. It only compares clocks that it is given.

use std::time::{Duration, Instant, SystemTime};

/// So far may the wall clock run ahead of the monotonic one between two looks: time servers set a clock that is a little
/// wrong in steps below this.
const STEP_MAX: Duration = Duration::from_secs(2);
/// So late may a look be on a busy machine.
const LATE_MAX: Duration = Duration::from_secs(3);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clocks {
    /// Stands still while the machine is suspended, and goes on while a process is stopped.
    pub(super) mono: Instant,
    /// Goes on through both, and may be set.
    pub(super) wall: SystemTime,
}

impl Clocks {
    pub(super) fn now() -> Self {
        Self { mono: Instant::now(), wall: SystemTime::now() }
    }
}

/// Whether there was a gap between a look and the next one, which was due after that time at the latest.
///
/// A machine that slept shows in the wall clock alone, a process that was stopped in both. A wall clock that was set
/// forward by more than two seconds looks like a sleep, which is harmless: some peers are dialled early. One that was set
/// back says nothing.
pub(super) fn slept(before: Clocks, now: Clocks, every: Duration) -> bool {
    let by_mono = now.mono.saturating_duration_since(before.mono);
    let by_wall = now.wall.duration_since(before.wall).unwrap_or_default();
    by_wall.saturating_sub(by_mono) > STEP_MAX || by_mono.saturating_sub(every) > LATE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What a gap of that many milliseconds on each clock is; the wall clock may go back.
    fn after(mono_ms: u64, wall_ms: i64) -> bool {
        let before =
            Clocks { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) };
        let by = Duration::from_millis(wall_ms.unsigned_abs());
        let wall = if wall_ms < 0 { before.wall - by } else { before.wall + by };
        slept(before, Clocks { mono: before.mono + Duration::from_millis(mono_ms), wall }, SECOND)
    }

    #[test]
    fn a_look_in_time_or_a_little_late_is_no_sleep() {
        assert!(!after(1_000, 1_000));
        assert!(!after(20, 20), "a look that was not waited for");
        assert!(!after(4_000, 4_000), "three seconds late");
    }

    #[test]
    fn a_machine_that_was_suspended_slept_however_shortly_its_own_clock_says() {
        assert!(after(1_000, 3_001));
        assert!(after(1_000, 8 * 3_600_000));
        assert!(!after(1_000, 3_000), "a step that a time server makes");
    }

    #[test]
    fn a_process_that_was_stopped_slept() {
        assert!(after(4_001, 4_001));
        assert!(after(60_000, 60_000));
        assert!(after(60_000, -5_000), "whatever the wall clock did meanwhile");
    }

    #[test]
    fn a_wall_clock_that_is_set_back_is_no_sleep() {
        assert!(!after(1_000, -3_600_000));
        assert!(!after(1_000, 0));
    }
}
