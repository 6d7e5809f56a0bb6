//! What a subscriber counts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{Latencies, Report, cpu_ns, now_ns};

/// What has come so far. Counted from wherever messages come.
#[derive(Debug)]
pub struct Tally {
    inner: Mutex<Inner>,
    /// Whether anything has come.
    warm: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    /// A bit for each number that was delivered: what comes twice does not hide what is lost.
    numbers: Vec<u64>,
    delivered: u64,
    repeated: u64,
    first_ns: u64,
    last_ns: u64,
    cpu_before_ns: u64,
    latencies: Latencies,
}

impl Default for Tally {
    fn default() -> Self {
        Self { inner: Mutex::default(), warm: watch::Sender::new(false) }
    }
}

impl Tally {
    /// Something came through.
    pub fn warm(&self) {
        self.warm.send_if_modified(|warm| !std::mem::replace(warm, true));
    }

    /// Waits until something has come through.
    pub async fn is_warm(&self) {
        // The sender lives as long as this.
        drop(self.warm.subscribe().wait_for(|warm| *warm).await);
    }

    /// A message of that number was delivered; where it was due at a time (0: none), it is measured how long it took.
    pub fn deliver(&self, number: u64, due_ns: u64) {
        let now = now_ns();
        let mut inner = self.lock();
        let (place, bit) = (usize::try_from(number / 64).expect("numbers are small"), 1 << (number % 64));
        if inner.numbers.len() <= place {
            inner.numbers.resize((place + 1).next_power_of_two(), 0);
        }
        if inner.numbers[place] & bit != 0 {
            inner.repeated += 1;
            return;
        }
        inner.numbers[place] |= bit;
        if inner.delivered == 0 {
            inner.first_ns = now;
            inner.cpu_before_ns = cpu_ns();
        }
        inner.delivered += 1;
        inner.last_ns = now;
        if due_ns > 0 {
            inner.latencies.record(now.saturating_sub(due_ns));
        }
    }

    /// How many were delivered.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.lock().delivered
    }

    /// What there is to say of it.
    #[must_use]
    pub fn report(&self) -> Report {
        let inner = self.lock();
        let mut report = Report::new();
        report.put("delivered", inner.delivered as f64);
        report.put("repeated", inner.repeated as f64);
        report.put("first_ns", inner.first_ns as f64);
        report.put("last_ns", inner.last_ns as f64);
        report.put("cpu_us", (cpu_ns() - inner.cpu_before_ns) as f64 / 1e3);
        if inner.latencies.count() > 0 {
            report.put_latencies("oneway", &inner.latencies);
        }
        report
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
