//! The page of a measurement: one file without scripts, that asks nobody for anything.

use std::fmt::Write as _;

use super::{chart, meaning, row, verdict};
use crate::{
    api::measurements::Latency,
    cli::{
        show::{escaped, short},
        time,
    },
};

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1c1e21; --back: #ffffff; --grid: #dfe3e8;
  --floor: #6b7280; --probe: #2563eb; --datagram: #059669; --stream: #d97706; --thought: #be185d; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --back: #14171a; --grid: #2c3238;
  --floor: #9aa4b0; --probe: #7aa7ff; --datagram: #4ade9f; --stream: #fbbf5c; --thought: #f472b6; } }
body { margin: 2rem auto; max-width: 900px; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--text); }
table { border-collapse: collapse; } th, td { padding: .15rem .7rem; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
td:first-child::before { content: ''; display: inline-block; width: .7em; height: .7em; margin-right: .5em; background: var(--kind); }
.grid { stroke: var(--grid); fill: none; } .area, .line { stroke: var(--kind); stroke-width: 2; fill: none; }
.area { fill: var(--kind); fill-opacity: .15; stroke-width: 1.5; } .thin { stroke-width: 1; stroke-dasharray: 3 3; }
.k-floor { --kind: var(--floor); } .k-probe { --kind: var(--probe); } .k-datagram { --kind: var(--datagram); }
.k-stream { --kind: var(--stream); } .k-thought { --kind: var(--thought); }
";

/// All of it.
pub(super) fn page(measured: &[Latency]) -> String {
    let made = time::shown(time::now_ms());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>cogmesh: latency</title>\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<style>{STYLE}</style></head><body>\n<h1>Latency</h1>\n<p>Measured by cogmesh {} until {made}. \
         A sample counts from when it was due, so nothing is omitted while something stands still.</p>\n",
        env!("CARGO_PKG_VERSION")
    );
    for latency in measured {
        section(&mut page, latency);
    }
    page.push_str("</body></html>\n");
    page
}

fn section(page: &mut String, latency: &Latency) {
    let (name, id) = (safe(&latency.name), safe(&short(&latency.peer)));
    let address = safe(&latency.address);
    // Writing to a string can't fail.
    let _infallible = writeln!(
        page,
        "<h2>{name} ({id}) at {address}</h2>\n<p>{} bytes, {} of each kind a second, for {:.1} s</p>",
        latency.size,
        latency.rate,
        latency.duration_ms as f64 / 1_000.0
    );
    for sentence in verdict(latency).lines() {
        let _infallible = writeln!(page, "<p>{}</p>", safe(sentence));
    }
    page.push_str(
        "<table><tr><th>in µs</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th><th>jitter</th><th>sent</th>\
         <th>lost</th></tr>\n",
    );
    for (kind, spread) in latency.kinds() {
        let Some(spread) = spread else { continue };
        let cells = row(meaning(kind), spread).map(|cell| format!("<td>{cell}</td>")).concat();
        let _infallible = writeln!(page, "<tr class=\"k-{kind}\">{cells}</tr>");
    }
    page.push_str("</table>\n");
    page.push_str(&chart::histogram(latency));
    page.push_str(&chart::series(latency));
}

/// Foreign text in a page: nothing of it is markup, and nothing turns directions around.
fn safe(text: &str) -> String {
    escaped(text).chars().fold(String::new(), |mut safe, c| {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::measurements::{Bucket, Second},
        cli::bench::tests::measured,
    };

    #[test]
    fn a_page_stands_alone_and_what_others_call_themselves_is_text_in_it() {
        let mut latency = measured("<script src=//evil.example>'\"&\u{202e}");
        let probe = latency.probe_us.as_mut().unwrap();
        probe.histogram = vec![Bucket { to: 200.0, count: 3 }, Bucket { to: 220.0, count: 7 }];
        probe.series = (0..3).map(|second| Second { second, p50: 200.0, p99: 210.0, max: 220.0 }).collect();
        let page = page(&[latency]);
        assert!(
            page.contains("&lt;script src=//evil.example&gt;&#39;&quot;&amp;\\u{202e} (3f9k2q7a)"),
            "{page}"
        );
        for part in ["<script", "http:", "https:", "src=\"", "href", "url(", "@import"] {
            assert!(!page.contains(part), "{part}");
        }
        assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (2, 2));
        assert_eq!(page.matches("<polyline class=\"area k-probe\"").count(), 1);
        assert_eq!(page.matches("k-probe\" points").count(), 3, "a histogram, and two lines over time");
        assert!(page.contains("the stack adds 22.0 µs to your network&#39;s 180.0"));
    }

    #[test]
    fn a_peer_of_which_nothing_came_back_has_no_chart_and_says_why() {
        let mut latency = measured("thor").in_short();
        latency.ended = Some("the link is gone".to_owned());
        let page = page(&[latency]);
        assert!(!page.contains("<svg") && page.contains("it ended early: the link is gone"));
    }
}
