//! Reports: what a contestant has measured of itself.

use std::{collections::BTreeMap, fs};

use hdrhistogram::Histogram;

/// Names and values, a line of JSON in the end.
#[derive(Clone, Debug, Default)]
pub struct Report(BTreeMap<String, f64>);

impl Report {
    /// One with this process's highest memory so far.
    #[must_use]
    pub fn new() -> Self {
        let mut report = Self::default();
        report.put("rss_peak_kib", process_rss_peak_kib(std::process::id()));
        report
    }

    /// Adds a value.
    pub fn put(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), value);
    }

    /// Adds to a value.
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        *self.0.entry(name.to_owned()).or_default() += value;
    }

    /// Raises a value where it is lower.
    pub(crate) fn raise(&mut self, name: &str, value: f64) {
        let raised = self.0.entry(name.to_owned()).or_default();
        *raised = raised.max(value);
    }

    /// Adds what there is to say of some latencies, in microseconds.
    pub fn put_latencies(&mut self, name: &str, latencies: &Latencies) {
        for (share, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
            self.put(&format!("{name}_{share}_us"), latencies.us(quantile));
        }
        self.put(&format!("{name}_count"), latencies.count() as f64);
    }

    /// The line.
    ///
    /// # Panics
    /// Never: a map of numbers is JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("a map of numbers is JSON")
    }
}

/// The most memory that a process has had so far; 0 where there is none.
pub(crate) fn process_rss_peak_kib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0)
}

/// How long things took.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("these bounds are allowed"))
    }
}

impl Latencies {
    /// One more.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    fn us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}
