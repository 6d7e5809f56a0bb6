//! Clocks that all processes of a machine read alike, and a thread that is there in time.

use std::{fs, thread, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// So long before something is due the thread stops sleeping and gives way to others until then: systems wake a sleeper by some 50 to 100 µs
/// too late.
const AWAKE_NS: u64 = 150_000;

/// Nanoseconds of the monotonic clock, which is one for all processes.
#[must_use]
pub fn now_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds of processor time that this process has taken, all its threads together.
#[must_use]
pub fn cpu_ns() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// Nanoseconds of processor time that another process has taken, as exactly as the system counts it for others: in ticks of 10 ms. 0 where there is
/// none.
pub(crate) fn process_cpu_ns(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) * 10_000_000
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("the system has this clock");
    u64::try_from(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
        .expect("clocks don't run before their start")
}

/// Calls `send` with the number and the moment of each of `count` messages when it is due, `rate` a second. It blocks its thread.
pub fn pace(rate: u64, count: u64, mut send: impl FnMut(u64, u64)) {
    let begin = now_ns() + 1_000_000;
    for number in 0..count {
        let due = begin + number * 1_000_000_000 / rate;
        loop {
            let now = now_ns();
            if now >= due {
                break;
            }
            match (due - now).checked_sub(AWAKE_NS) {
                Some(sleep) if sleep > 0 => thread::sleep(Duration::from_nanos(sleep)),
                // Not a spin without end: on a busy machine what is measured needs this processor.
                Some(_) | None => thread::yield_now(),
            }
        }
        send(number, due);
    }
}
