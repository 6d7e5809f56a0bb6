//! What is measured: who, for how long, and what is taken from the reports.

use std::collections::BTreeMap;

/// Names and values of one run, or of one report.
pub(crate) type Values = BTreeMap<String, f64>;

/// A scenario with its sizes.
#[derive(Debug)]
pub(crate) struct Measure {
    /// How it is called on the command line and in results.
    pub(crate) id: &'static str,
    /// What a contestant is told.
    pub(crate) scenario: &'static str,
    pub(crate) subscribers: usize,
    /// Whether all processes run on one processor.
    pub(crate) pinned: bool,
    pub(crate) seconds: f64,
    /// How many, where that is fixed.
    pub(crate) count: u64,
    /// Runs more than so many add nothing.
    pub(crate) runs_max: usize,
    pub(crate) contestants: &'static [&'static str],
    /// What is shown of a run while it goes on.
    pub(crate) shown: &'static [(&'static str, &'static str)],
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Full,
    /// For trying whether it works.
    Quick,
}

const US: &[(&str, &str)] = &[("p50", "µs p50"), ("p99", "µs p99")];
const FLOOD: &[(&str, &str)] = &[
    ("rate", "messages/s"),
    ("lost_percent", "% lost"),
    ("cpu_us", "µs of processor each"),
    ("rss_mib", "MiB"),
];

/// All of them, in the order in which they run.
pub(crate) fn measures(size: Size) -> Vec<Measure> {
    let full = size == Size::Full;
    let seconds = |most: f64| if full { most } else { most.min(1.0) };
    vec![
        Measure {
            id: "rtt",
            scenario: "rtt",
            subscribers: 1,
            pinned: true,
            seconds: seconds(1.0),
            count: 0,
            runs_max: usize::MAX,
            contestants: &[
                "cogmesh",
                "quinn",
                "udp",
                "tcp",
                "iroh",
                "iroh-gossip",
                "libp2p",
                "zenoh-tcp",
                "zenoh-quic",
                "nats",
            ],
            shown: US,
        },
        Measure {
            id: "oneway",
            scenario: "oneway",
            subscribers: 1,
            pinned: false,
            seconds: seconds(2.0),
            count: 0,
            runs_max: usize::MAX,
            contestants: &[
                "cogmesh-normal",
                "iroh-gossip",
                "cogmesh",
                "libp2p",
                "zenoh-tcp",
                "zenoh-quic",
                "nats",
            ],
            shown: US,
        },
        Measure {
            id: "flood",
            scenario: "flood",
            subscribers: 1,
            pinned: false,
            seconds: seconds(3.0),
            count: 0,
            runs_max: usize::MAX,
            contestants: &[
                "cogmesh",
                "iroh-gossip",
                "libp2p",
                "zenoh-quic",
                "zenoh-tcp",
                "nats",
                "iroh",
                "quinn",
                "tcp",
                "udp",
            ],
            shown: FLOOD,
        },
        Measure {
            id: "flood2",
            scenario: "flood",
            subscribers: 2,
            pinned: false,
            seconds: seconds(3.0),
            count: 0,
            runs_max: usize::MAX,
            contestants: &["cogmesh", "iroh-gossip", "libp2p", "zenoh-quic"],
            shown: FLOOD,
        },
        Measure {
            id: "bulk",
            scenario: "bulk",
            subscribers: 1,
            pinned: false,
            seconds: seconds(1.0),
            count: if full { 100_000 } else { 20_000 },
            runs_max: usize::MAX,
            contestants: &["cogmesh", "quinn", "iroh", "tcp"],
            shown: &[("mb_s", "MB/s"), ("entries_s", "entries/s")],
        },
        Measure {
            id: "handshake",
            scenario: "connect",
            subscribers: 1,
            pinned: false,
            seconds: 0.0,
            count: if full { 100 } else { 20 },
            runs_max: usize::MAX,
            contestants: &["cogmesh", "quinn", "quinn-pq"],
            shown: &[("p50", "ms p50"), ("p99", "ms p99")],
        },
        Measure {
            id: "connect",
            scenario: "connect",
            subscribers: 1,
            pinned: false,
            seconds: 0.0,
            count: if full { 20 } else { 5 },
            runs_max: usize::MAX,
            contestants: &["cogmesh-node", "iroh", "zenoh-tcp", "zenoh-quic"],
            shown: &[("p50", "ms p50"), ("p99", "ms p99"), ("admission", "ms of it without store and key")],
        },
        Measure {
            id: "rest",
            scenario: "rest",
            subscribers: 2,
            pinned: false,
            seconds: if full { 10.0 } else { 2.0 },
            count: 0,
            runs_max: 1,
            contestants: &["cogmesh", "iroh-gossip", "libp2p", "zenoh-quic"],
            shown: &[("rss_mib", "MiB"), ("cpu_percent", "% of a processor")],
        },
    ]
}

/// What a run says: from the publisher's report, the subscribers', and what the harness saw of the publisher's process itself.
pub(crate) fn sample(measure: &Measure, publisher: &Values, subscribers: &[Values], seen: &Values) -> Values {
    let mut sample = Values::new();
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            sample.insert(name.to_owned(), value);
        }
    };
    let of = |values: &Values, name: &str| values.get(name).copied();
    let first = subscribers.first();
    match measure.id {
        "rtt" => {
            for share in ["p50", "p90", "p99", "max"] {
                put(share, of(publisher, &format!("rtt_{share}_us")));
            }
        }
        "oneway" => {
            for share in ["p50", "p90", "p99", "max"] {
                put(share, first.and_then(|report| of(report, &format!("oneway_{share}_us"))));
            }
            put("lost_percent", lost(publisher, subscribers));
        }
        "flood" | "flood2" => {
            // The slowest subscriber's, so that two are two.
            let begun = of(publisher, "begun_ns").unwrap_or(f64::NAN);
            let rates = subscribers
                .iter()
                .filter_map(|report| Some(of(report, "delivered")? / (of(report, "last_ns")? - begun) * 1e9));
            put("rate", rates.reduce(f64::min));
            put("lost_percent", lost(publisher, subscribers));
            let cpu: f64 =
                subscribers.iter().chain([publisher]).filter_map(|report| of(report, "cpu_us")).sum();
            put("cpu_us", first.and_then(|report| Some(cpu / of(report, "delivered")?)));
            let peaks = subscribers.iter().chain([publisher]).filter_map(|report| of(report, "rss_peak_kib"));
            put("rss_mib", peaks.reduce(f64::max).map(|kib| kib / 1024.0));
        }
        "bulk" => {
            let seconds =
                first.and_then(|report| Some((of(report, "last_ns")? - of(report, "first_ns")?) / 1e9));
            let per_second = |name| Some(of(first?, name)? / seconds?);
            put("mb_s", per_second("bytes").map(|bytes| bytes / 1e6));
            put("entries_s", per_second("entries"));
        }
        "handshake" | "connect" => {
            let name = if measure.id == "handshake" { "handshake" } else { "connect" };
            for share in ["p50", "p99"] {
                let us = first.and_then(|report| of(report, &format!("{name}_{share}_us")));
                put(share, us.map(|us| us / 1e3));
            }
            // What of it is neither locks nor key nor store.
            let us = first.and_then(|report| of(report, "admission_p50_us"));
            put("admission", us.map(|us| us / 1e3));
        }
        _ => {
            put("rss_mib", of(seen, "rss_kib").map(|kib| kib / 1024.0));
            put("cpu_percent", of(seen, "cpu_percent"));
        }
    }
    sample
}

/// Percent of what was accepted that did not come, of all subscribers.
fn lost(publisher: &Values, subscribers: &[Values]) -> Option<f64> {
    let accepted = publisher.get("accepted")?;
    let delivered: f64 = subscribers.iter().filter_map(|report| report.get("delivered")).sum();
    let expected = accepted * subscribers.len() as f64;
    Some(100.0 * (expected - delivered).max(0.0) / expected)
}
