//! The demo's report: criteria with what was measured, never constants.

use std::{
    io::{self, Write},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// What was measured, and whether it is good enough.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    criteria: Vec<Criterion>,
    latency_us: Latency,
    throughput_per_s: u64,
    ok: bool,
}

#[derive(Debug, Serialize)]
struct Criterion {
    name: &'static str,
    ok: bool,
    measured: String,
    limit: &'static str,
}

#[derive(Debug, Default, Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
}

impl Report {
    /// Puts down one criterion.
    #[expect(clippy::fn_params_excessive_bools, reason = "whether a criterion holds is a yes or a no")]
    pub(super) fn check(
        &mut self,
        name: &'static str,
        ok: bool,
        measured: impl Into<String>,
        limit: &'static str,
    ) {
        self.criteria.push(Criterion { name, ok, measured: measured.into(), limit });
        self.ok = self.criteria.iter().all(|criterion| criterion.ok);
    }

    /// Puts down how long thoughts took from their submission on one node to the books of another.
    pub(super) fn latencies(&mut self, taken: &[Duration]) -> anyhow::Result<()> {
        let mut histogram = Histogram::<u64>::new(3)?;
        for duration in taken {
            histogram.record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))?;
        }
        self.latency_us =
            Latency { p50: histogram.value_at_quantile(0.5), p99: histogram.value_at_quantile(0.99) };
        let p99 = self.latency_us.p99;
        let measured = format!("{} us over {} deliveries", p99, histogram.len());
        self.check("load: latency p99", !taken.is_empty() && p99 < 100_000, measured, "< 100000 us");
        Ok(())
    }

    /// Puts down how many thoughts a second reached all nodes.
    pub(super) fn throughput(&mut self, thoughts: u64, taken: Duration) {
        let micros = taken.as_micros().max(1);
        self.throughput_per_s = u64::try_from(u128::from(thoughts) * 1_000_000 / micros).unwrap_or(u64::MAX);
        let measured =
            format!("{} thoughts/s ({thoughts} in {} ms)", self.throughput_per_s, taken.as_millis());
        self.check("load: throughput", self.throughput_per_s > 0, measured, "> 0 thoughts/s");
    }

    /// Whether every criterion holds.
    pub(super) const fn holds(&self) -> bool {
        self.ok
    }

    /// One JSON object.
    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    /// A table for people.
    pub(super) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let name_width = self.criteria.iter().map(|criterion| criterion.name.len()).max().unwrap_or(0);
        let measured_width =
            self.criteria.iter().map(|criterion| criterion.measured.chars().count()).max().unwrap_or(0);
        for Criterion { name, ok, measured, limit } in &self.criteria {
            let mark = if *ok { "ok  " } else { "FAIL" };
            writeln!(out, "{mark}  {name:name_width$}  {measured:measured_width$}  ({limit})")?;
        }
        let Latency { p50, p99 } = self.latency_us;
        writeln!(out)?;
        writeln!(out, "latency under load  p50 {p50} us, p99 {p99} us")?;
        writeln!(out, "throughput          {} thoughts/s", self.throughput_per_s)?;
        let failed = self.criteria.iter().filter(|criterion| !criterion.ok).count();
        match failed {
            0 => writeln!(out, "all {} criteria hold", self.criteria.len()),
            _ => writeln!(out, "{failed} of {} criteria do not hold", self.criteria.len()),
        }
    }
}
