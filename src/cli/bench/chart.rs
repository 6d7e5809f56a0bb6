//! Charts of a measurement as SVG: how latencies spread, and how they went on over time.
//!
//! Written by hand: what a page needs is two kinds of lines over two axes, with colours that a style sheet turns with the reader's dark or
//! light theme. A library for plots brings its own colours, fonts and a dozen crates for that.

use std::fmt::Write as _;

use crate::api::measurements::{Latency, Spread};

/// The size of a chart, and where its lines are; the rest is for the axes.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 850.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 258.0;

/// The shares of the samples that took so long, on a logarithmic axis, each kind as high as its highest bar.
pub(super) fn histogram(latency: &Latency) -> String {
    let spreads = with_samples(latency, |spread| !spread.histogram.is_empty());
    let reaches = spreads.iter().flat_map(|(_, spread)| spread.histogram.iter().map(|bar| bar.to));
    let Some(x) = Scale::around(reaches, (LEFT, RIGHT)) else { return String::new() };
    let mut svg = opening("How latencies spread");
    for (value, label) in x.ticks() {
        vertical(&mut svg, x.at(value), &label);
    }
    for (name, spread) in &spreads {
        let highest = spread.histogram.iter().map(|bar| bar.count).max().unwrap_or(1).max(1) as f64;
        let mut points = vec![];
        let mut from = x.at(spread.histogram.first().map_or(1.0, |bar| bar.to / 1.1));
        points.push((from, BOTTOM));
        for bar in &spread.histogram {
            let (to, height) = (x.at(bar.to), (BOTTOM - TOP) * bar.count as f64 / highest);
            points.extend([(from, BOTTOM - height), (to, BOTTOM - height)]);
            from = to;
        }
        points.push((from, BOTTOM));
        line(&mut svg, &format!("area k-{name}"), &points);
    }
    caption(&mut svg, "µs, logarithmic; each kind as high as its most frequent latency");
    closing(svg)
}

/// The median of each second as a line, and its 99th percentile as a thinner one.
pub(super) fn series(latency: &Latency) -> String {
    let spreads = with_samples(latency, |spread| !spread.series.is_empty());
    let values = spreads.iter().flat_map(|(_, spread)| spread.series.iter().flat_map(|at| [at.p50, at.p99]));
    let Some(y) = Scale::around(values, (BOTTOM, TOP)) else { return String::new() };
    let last = spreads.iter().filter_map(|(_, spread)| spread.series.last()).map(|at| at.second).max();
    let seconds = last.unwrap_or(0).max(1) as f64;
    let x = |second: u64| LEFT + (RIGHT - LEFT) * second as f64 / seconds;
    let mut svg = opening("How latencies went on");
    for (value, label) in y.ticks() {
        horizontal(&mut svg, y.at(value), &label);
    }
    let step = [1, 2, 5, 10, 20, 60, 120].into_iter().find(|step| seconds / f64::from(*step) <= 10.0);
    for second in (0..=last.unwrap_or(0)).step_by(step.unwrap_or(120) as usize) {
        vertical(&mut svg, x(second), &second.to_string());
    }
    for (name, spread) in &spreads {
        let p99: Vec<_> = spread.series.iter().map(|at| (x(at.second), y.at(at.p99))).collect();
        line(&mut svg, &format!("line thin k-{name}"), &p99);
        let p50: Vec<_> = spread.series.iter().map(|at| (x(at.second), y.at(at.p50))).collect();
        line(&mut svg, &format!("line k-{name}"), &p50);
    }
    caption(
        &mut svg,
        "seconds; µs upwards, logarithmic; the median of each second, and thinner its 99th percentile",
    );
    closing(svg)
}

fn with_samples(latency: &Latency, has: impl Fn(&Spread) -> bool) -> Vec<(&'static str, &Spread)> {
    let kinds = latency.kinds().into_iter();
    kinds.filter_map(|(name, spread)| Some((name, spread?))).filter(|(_, spread)| has(spread)).collect()
}

/// A logarithmic axis.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// One that holds these values, with some room; `None` without values.
    fn around(values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values {
            let value = value.max(0.1);
            (low, high) = (low.min(value), high.max(value));
        }
        (high > 0.0).then(|| Self { low: low / 1.3, high: high * 1.3, from, to })
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(0.1) / self.low).ln() / (self.high / self.low).ln();
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }

    /// 1, 2 and 5 of each power of ten; only the powers where there are many.
    fn ticks(&self) -> Vec<(f64, String)> {
        let steps: &[f64] = if self.high / self.low > 2_000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = (-1..=7).map(|power| 10.0_f64.powi(power));
        let values = powers.flat_map(|power| steps.iter().map(move |step| step * power));
        let within = values.filter(|value| (self.low..=self.high).contains(value));
        within
            .map(|value| (value, if value < 1.0 { format!("{value:.1}") } else { format!("{value:.0}") }))
            .collect()
    }
}

fn opening(title: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{title}</title>\n")
}

fn closing(mut svg: String) -> String {
    svg.push_str("</svg>\n");
    svg
}

fn vertical(svg: &mut String, x: f64, label: &str) {
    let below = BOTTOM + 16.0;
    // Writing to a string can't fail.
    let _infallible = writeln!(
        svg,
        "<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/><text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>"
    );
}

fn horizontal(svg: &mut String, y: f64, label: &str) {
    let (before, middle) = (LEFT - 8.0, y + 4.0);
    let _infallible = writeln!(
        svg,
        "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text x=\"{before}\" y=\"{middle:.1}\" text-anchor=\"end\">{label}</text>"
    );
}

fn caption(svg: &mut String, text: &str) {
    let (middle, below) = (f64::midpoint(LEFT, RIGHT), HEIGHT - 6.0);
    let _infallible =
        writeln!(svg, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{text}</text>");
}

fn line(svg: &mut String, class: &str, points: &[(f64, f64)]) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _infallible = writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_holds_its_values_and_its_ticks_lie_within() {
        let scale = Scale::around([20.0, 900.0].into_iter(), (0.0, 100.0)).unwrap();
        assert!(scale.at(20.0) > 0.0 && scale.at(900.0) < 100.0 && scale.at(20.0) < scale.at(21.0));
        let labels: Vec<String> = scale.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["20", "50", "100", "200", "500", "1000"]);
        assert!(Scale::around(std::iter::empty(), (0.0, 1.0)).is_none());
    }
}
