//! The figures as a plot. Written by hand, as the pages of `cogmesh bench latency` are: two charts of lines and bars over two axes
//! are not worth a library.

use std::fmt::Write as _;

use crate::{
    Point, Varied,
    group::{Bounds, Way},
    support::median,
};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 360.0;
const RATIO_MAX: f64 = 2.0;

/// A chart's place, and what its axis reaches from and to, logarithmic.
struct Chart {
    left: f64,
    right: f64,
    low: f64,
    high: f64,
}

/// What a thought costs beside the control, by the size of the store and by the number of authors.
pub(crate) fn svg(points: &[Point]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>What a thought costs as store and authors grow</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    text(
        &mut svg,
        (16.0, 22.0),
        "start",
        "Processor time of a thought, beside a node with 10,000 thoughts of 20 authors that was measured in turns",
    );
    let sizes = Chart { left: 60.0, right: 560.0, low: 8_000.0, high: 1_250_000.0 };
    let authors = Chart { left: 640.0, right: 880.0, low: 2.5, high: 60.0 };
    frame(&mut svg, &sizes, "thoughts in the store", &by(points, Varied::Thoughts, |point| point.thoughts));
    frame(&mut svg, &authors, "authors", &by(points, Varied::Authors, |point| u64::from(point.authors)));
    for (number, way) in Way::ALL.into_iter().enumerate() {
        let colour = ["#0b6bcb", "#b3541e", "#2c7a3f"][number];
        for bounds in [Bounds::Usual, Bounds::All] {
            let of = |varied: Varied, x: fn(&Point) -> f64| -> Vec<(f64, Vec<f64>)> {
                let chosen = points.iter().filter(|point| point.varied == varied && point.bounds == bounds);
                chosen.map(|point| (x(point), point.ratios(way))).collect()
            };
            let dashes = if bounds == Bounds::All { " stroke-dasharray=\"5 4\"" } else { "" };
            // Side by side, so that the bars of all can be seen.
            let aside = number as f64 * 6.0 - 6.0 + if bounds == Bounds::All { 3.0 } else { 0.0 };
            series(
                &mut svg,
                &sizes,
                &of(Varied::Thoughts, |point| point.thoughts as f64),
                (colour, dashes, aside),
            );
            series(
                &mut svg,
                &authors,
                &of(Varied::Authors, |point| f64::from(point.authors)),
                (colour, dashes, aside),
            );
            let (x, y) = (60.0 + number as f64 * 270.0, if bounds == Bounds::All { 58.0 } else { 42.0 });
            let _infallible = writeln!(
                svg,
                "<path d=\"M{x} {}h28\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
                y - 4.0
            );
            text(&mut svg, (x + 34.0, y), "start", &format!("{}, {}", way.name(), bounds.name()));
        }
    }
    text(&mut svg, (16.0, HEIGHT - 10.0), "start", "Medians of the rounds; bars from the least to the most");
    svg.push_str("</svg>\n");
    svg
}

fn by(points: &[Point], varied: Varied, x: impl Fn(&Point) -> u64) -> Vec<u64> {
    let mut values: Vec<u64> = points.iter().filter(|point| point.varied == varied).map(x).collect();
    values.dedup();
    values
}

impl Chart {
    fn x(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.left + (self.right - self.left) * share
    }
}

fn y(ratio: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * ratio.min(RATIO_MAX) / RATIO_MAX
}

fn frame(svg: &mut String, chart: &Chart, below: &str, ticks: &[u64]) {
    for quarter in 0..=8_u8 {
        let ratio = f64::from(quarter) / 4.0;
        let (left, right, y) = (chart.left, chart.right, y(ratio));
        let colour = if quarter == 4 { "#777" } else { "#ddd" };
        // Writing to a string can't fail.
        let _infallible = writeln!(svg, "<path d=\"M{left} {y:.1}H{right}\" stroke=\"{colour}\"/>");
        if quarter % 2 == 0 {
            text(svg, (left - 6.0, y + 4.0), "end", &format!("{ratio:.1}"));
        }
    }
    for tick in ticks {
        let x = chart.x(*tick as f64);
        let _infallible = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{BOTTOM}\" stroke=\"#eee\"/>");
        text(svg, (x, BOTTOM + 18.0), "middle", &named(*tick));
    }
    text(svg, (f64::midpoint(chart.left, chart.right), BOTTOM + 38.0), "middle", below);
}

fn named(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{}k", number / 1_000),
        _ => format!("{}M", number / 1_000_000),
    }
}

fn series(
    svg: &mut String,
    chart: &Chart,
    points: &[(f64, Vec<f64>)],
    (colour, dashes, aside): (&str, &str, f64),
) {
    let at = |value: f64| chart.x(value) + aside;
    let line: Vec<String> =
        points.iter().map(|(x, ratios)| format!("{:.1},{:.1}", at(*x), y(median(ratios)))).collect();
    let _infallible = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
        line.join(" ")
    );
    for (value, ratios) in points {
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let (x, from, to, middle) = (at(*value), y(least), y(most), y(median(ratios)));
        let _infallible = writeln!(
            svg,
            "<path d=\"M{x:.1} {from:.1}V{to:.1}\" stroke=\"{colour}\"/><circle cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"3\" fill=\"{colour}\"/>"
        );
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, what: &str) {
    let _infallible =
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#333\">{what}</text>");
}
