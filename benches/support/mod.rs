//! What several benches need: stores filled as nodes fill them, nodes in processes of their own, and what a process costs.

#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod backlog;
pub(crate) mod cost;
pub(crate) mod process;

use std::io::{self, Write};

/// Prints a line.
pub(crate) fn say(line: &str) {
    writeln!(io::stdout().lock(), "{line}").unwrap();
}

/// Prints what was found beside what is promised, and whether that holds.
pub(crate) fn at_most(what: &str, found: f64, limit: f64) -> bool {
    verdict(what, found, (found <= limit).then_some(limit).ok_or(limit))
}

/// Prints what was found beside what is promised, and whether that holds.
pub(crate) fn at_least(what: &str, found: f64, limit: f64) -> bool {
    verdict(what, found, (found >= limit).then_some(limit).ok_or(limit))
}

/// `Ok` where the limit is kept.
fn verdict(what: &str, found: f64, limit: Result<f64, f64>) -> bool {
    let (Ok(bound) | Err(bound)) = limit;
    let said = if limit.is_ok() { "held" } else { "missed" };
    say(&format!("= {what}: {found:.2} (limit {bound:.2}: {said})"));
    limit.is_ok()
}

/// The one in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The least, the one in the middle and the most: `12.1 (11.8–13.0)`.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$}–{most:.digits$})", median(values))
}
