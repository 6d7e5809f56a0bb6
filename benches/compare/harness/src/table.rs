//! The table, the goals, and where they stand in a document.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, bail};

use crate::{
    contestants::{CONTESTANTS, Contestant, DOES},
    goals::{Bound, Outcome},
    results::{Results, Spread},
};

const BEGIN: &str = "<!-- compare: begin (written by benches/compare) -->";
const END: &str = "<!-- compare: end -->";

/// A column: its title, which values it shows (the first measure that a contestant has), in which unit, and whether ours divided by it stands
/// beside it.
struct Column {
    title: &'static str,
    from: &'static [(&'static str, &'static str)],
    scale: f64,
    digits: usize,
    /// Whose value is divided by the row's.
    ratio: Option<&'static str>,
}

const COLUMNS: &[Column] = &[
    Column {
        title: "round trip p50, µs",
        from: &[("rtt", "p50")],
        scale: 1.0,
        digits: 1,
        ratio: Some("cogmesh"),
    },
    Column { title: "p99", from: &[("rtt", "p99")], scale: 1.0, digits: 0, ratio: None },
    Column {
        title: "one way p50, µs",
        from: &[("oneway", "p50")],
        scale: 1.0,
        digits: 0,
        ratio: Some("cogmesh-normal"),
    },
    Column { title: "p99", from: &[("oneway", "p99")], scale: 1.0, digits: 0, ratio: None },
    Column {
        title: "thousand messages/s",
        from: &[("flood", "rate")],
        scale: 1e-3,
        digits: 0,
        ratio: Some("cogmesh"),
    },
    Column { title: "to two", from: &[("flood2", "rate")], scale: 1e-3, digits: 0, ratio: Some("cogmesh") },
    Column { title: "lost, %", from: &[("flood", "lost_percent")], scale: 1.0, digits: 1, ratio: None },
    Column {
        title: "µs of processor each",
        from: &[("flood", "cpu_us")],
        scale: 1.0,
        digits: 1,
        ratio: Some("cogmesh"),
    },
    Column { title: "MiB in the flood", from: &[("flood", "rss_mib")], scale: 1.0, digits: 0, ratio: None },
    Column { title: "bulk MB/s", from: &[("bulk", "mb_s")], scale: 1.0, digits: 0, ratio: Some("cogmesh") },
    Column {
        title: "handshake p50, ms",
        from: &[("handshake", "p50")],
        scale: 1.0,
        digits: 2,
        ratio: Some("cogmesh"),
    },
    Column {
        title: "new node to connected p50, ms",
        from: &[("connect", "p50")],
        scale: 1.0,
        digits: 1,
        ratio: Some("cogmesh-node"),
    },
    Column { title: "MiB at rest", from: &[("rest", "rss_mib")], scale: 1.0, digits: 1, ratio: None },
    Column {
        title: "% of a processor at rest",
        from: &[("rest", "cpu_percent")],
        scale: 1.0,
        digits: 1,
        ratio: None,
    },
];

/// The table, in Markdown.
pub(crate) fn table(results: &Results) -> String {
    let has_any =
        |column: &&Column| CONTESTANTS.iter().any(|contestant| cell(results, contestant, column).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(has_any).collect();
    let mut out = String::from("| | does |");
    columns.iter().for_each(|column| push(&mut out, format_args!(" {} |", column.title)));
    out.push_str("\n| --- | --- |");
    columns.iter().for_each(|_| out.push_str(" --- |"));
    out.push('\n');
    for contestant in CONTESTANTS {
        let cells: Vec<Option<String>> =
            columns.iter().map(|column| cell(results, contestant, column)).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        push(&mut out, format_args!("| {} | {} |", contestant.name, contestant.does_letters()));
        for cell in cells {
            push(&mut out, format_args!(" {} |", cell.unwrap_or_default()));
        }
        out.push('\n');
    }
    out
}

/// What the letters mean.
pub(crate) fn legend() -> String {
    let one = |(letter, what): &(&str, &str)| format!("`{letter}` {what}");
    let all: Vec<String> = DOES.iter().map(one).collect();
    format!("does: {}. Cells: median of the runs (least–most); ×: ours divided by it.", all.join("; "))
}

fn cell(results: &Results, contestant: &Contestant, column: &Column) -> Option<String> {
    let (measure, metric, spread) = column.from.iter().find_map(|(measure, metric)| {
        Some((*measure, *metric, results.spread(measure, contestant.id, metric)?))
    })?;
    let mut cell = shown(spread, column.scale, column.digits);
    let ours = column.ratio.filter(|ours| *ours != contestant.id);
    if let Some(ours) = ours.and_then(|ours| ratio(results, measure, metric, ours, contestant.id)) {
        push(&mut cell, format_args!(" ×{}", three_digits(ours)));
    }
    Some(cell)
}

fn ratio(results: &Results, measure: &str, metric: &str, of: &str, to: &str) -> Option<f64> {
    let pairs = results.each(measure, of, metric).into_iter().zip(results.each(measure, to, metric));
    let ratios: Vec<f64> = pairs.map(|(of, to)| of / to).filter(|ratio| ratio.is_finite()).collect();
    Spread::of(&ratios).map(|spread| spread.median)
}

/// A ratio may be a thousandth or a thousand.
fn three_digits(ratio: f64) -> String {
    let digits = match ratio {
        ratio if ratio >= 100.0 => 0,
        ratio if ratio >= 10.0 => 1,
        ratio if ratio >= 0.1 => 2,
        ratio if ratio >= 0.01 => 3,
        _ => 4,
    };
    format!("{ratio:.digits$}")
}

fn shown(spread: Spread, scale: f64, digits: usize) -> String {
    let number = |value: f64| format!("{:.digits$}", value * scale);
    let [median, min, max] = [spread.median, spread.min, spread.max].map(number);
    if min == max { median } else { format!("{median} ({min}–{max})") }
}

/// The goals, in Markdown.
pub(crate) fn goals(outcomes: &[Outcome]) -> String {
    let mut out = String::from("| goal | bound | found | |\n| --- | --- | --- | --- |\n");
    for outcome in outcomes {
        let bound = match outcome.bound {
            Bound::AtMost(bound) => format!("≤ {bound}"),
            Bound::AtLeast(bound) => format!("≥ {bound}"),
        };
        let found = outcome.found.map_or_else(|| "–".to_owned(), |spread| shown(spread, 1.0, 2));
        push(&mut out, format_args!("| {} | {bound} | {found} | {} |\n", outcome.what, outcome.word()));
    }
    out
}

/// Puts a text between the marks of a document; one without marks gets them at its end.
pub(crate) fn write_between(document: &Path, text: &str) -> anyhow::Result<()> {
    let old = if document.exists() { fs::read_to_string(document)? } else { String::new() };
    let new = match old.split_once(BEGIN) {
        None => format!("{}\n\n{BEGIN}\n\n{}\n\n{END}\n", old.trim_end(), text.trim()),
        Some((before, rest)) => {
            let Some((_, after)) = rest.split_once(END) else {
                bail!("{} has the first mark and not the second", document.display());
            };
            format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim())
        }
    };
    fs::write(document, new.trim_start()).with_context(|| format!("can't write {}", document.display()))
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _infallible = out.write_fmt(text);
}
