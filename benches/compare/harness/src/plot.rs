//! Plots: bars, one for each contestant, as SVG. Written by hand: three rows of rectangles and words are less than what a library of charts brings along.

use std::fmt::Write;

use crate::{contestants::CONTESTANTS, results::Results};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 130.0;
const BAR: f64 = 18.0;
const GAP: f64 = 8.0;
const TOP: f64 = 44.0;

/// What a plot shows.
pub(crate) struct Plot {
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    measure: &'static str,
    metric: &'static str,
    scale: f64,
    digits: usize,
}

pub(crate) const PLOTS: &[Plot] = &[
    Plot {
        file: "round-trip.svg",
        title: "Round trip of 256 bytes on one processor, p50, µs (shorter is better)",
        measure: "rtt",
        metric: "p50",
        scale: 1.0,
        digits: 1,
    },
    Plot {
        file: "one-way.svg",
        title: "One way at 1,000 messages/s, p50, µs (shorter is better)",
        measure: "oneway",
        metric: "p50",
        scale: 1.0,
        digits: 0,
    },
    Plot {
        file: "flood.svg",
        title: "Flood of 256-byte messages, thousand/s delivered, logarithmic (longer is better)",
        measure: "flood",
        metric: "rate",
        scale: 1e-3,
        digits: 0,
    },
];

/// The plot, where anybody was measured for it.
pub(crate) fn svg(results: &Results, plot: &Plot) -> Option<String> {
    let bars: Vec<_> = CONTESTANTS
        .iter()
        .filter_map(|contestant| {
            Some((contestant, results.spread(plot.measure, contestant.id, plot.metric)?))
        })
        .collect();
    let most = bars.iter().map(|(_, spread)| spread.max * plot.scale).reduce(f64::max)?;
    // From a flood's slowest to its fastest are three orders of magnitude.
    let is_logarithmic = plot.measure == "flood";
    let length = |value: f64| {
        let share = if is_logarithmic { (1.0 + value).ln() / (1.0 + most).ln() } else { value / most };
        share * (WIDTH - LEFT - RIGHT)
    };
    let height = TOP + bars.len() as f64 * (BAR + GAP) + GAP;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"15\" fill=\"#222\">{}</text>\n",
        plot.title
    );
    for (place, (contestant, spread)) in bars.iter().enumerate() {
        let y = TOP + place as f64 * (BAR + GAP);
        let [median, min, max] = [spread.median, spread.min, spread.max].map(|value| value * plot.scale);
        let middle = y + BAR / 2.0;
        let (width, from, to) = (length(median), LEFT + length(min), LEFT + length(max));
        let colour = if contestant.package == "cogmesh" { "#c2410c" } else { "#64748b" };
        let (name, baseline, digits) = (contestant.name.replace('`', ""), middle + 4.5, plot.digits);
        // Writing to a string can't fail.
        let _infallible = write!(
            out,
            "<text x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\" fill=\"#222\">{name}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\n\
             <line x1=\"{from:.1}\" y1=\"{middle:.1}\" x2=\"{to:.1}\" y2=\"{middle:.1}\" stroke=\"#111\" stroke-width=\"1.5\"/>\n\
             <text x=\"{:.1}\" y=\"{baseline:.1}\" fill=\"#222\">{median:.digits$} ({min:.digits$}–{max:.digits$})</text>\n",
            LEFT - 8.0,
            to.max(LEFT + width) + 6.0,
        );
    }
    out.push_str("</svg>\n");
    Some(out)
}
