//! The goals: ratios of what was measured in one interleaved run.

use crate::results::{Results, Spread};

/// One value of somebody.
type Of = (&'static str, &'static str, &'static str);

/// What is hoped for.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    value: Value,
    bound: Bound,
}

#[derive(Debug)]
enum Value {
    /// The first divided by the second.
    Ratio(Of, Of),
    /// The first less the second, divided by the third.
    Excess(Of, Of, Of),
    /// As it is.
    Plain(Of),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// What became of a goal.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) what: &'static str,
    pub(crate) bound: Bound,
    /// `None`: somebody who is needed for it did not run.
    pub(crate) found: Option<Spread>,
}

impl Outcome {
    /// Whether it is held, by the median of the runs.
    pub(crate) fn is_held(&self) -> Option<bool> {
        let median = self.found?.median;
        Some(match self.bound {
            AtMost(bound) => median <= bound,
            AtLeast(bound) => median >= bound,
        })
    }

    pub(crate) fn word(&self) -> &'static str {
        match self.is_held() {
            Some(true) => "held",
            Some(false) => "**missed**",
            None => "not measured",
        }
    }
}

const fn ratio(what: &'static str, of: Of, to: Of, bound: Bound) -> Goal {
    Goal { what, value: Value::Ratio(of, to), bound }
}

const fn plain(what: &'static str, of: Of, bound: Bound) -> Goal {
    Goal { what, value: Value::Plain(of), bound }
}

use Bound::{AtLeast, AtMost};

const GOALS: &[Goal] = &[
    ratio("round trip, p50, to quinn's", ("rtt", "cogmesh", "p50"), ("rtt", "quinn", "p50"), AtMost(1.10)),
    ratio("round trip, p99, to quinn's", ("rtt", "cogmesh", "p99"), ("rtt", "quinn", "p99"), AtMost(1.2)),
    ratio(
        "a thought's way, `normal`, p50, to iroh-gossip's",
        ("oneway", "cogmesh-normal", "p50"),
        ("oneway", "iroh-gossip", "p50"),
        AtMost(1.0),
    ),
    ratio(
        "a thought's way, `normal`, p99, to iroh-gossip's",
        ("oneway", "cogmesh-normal", "p99"),
        ("oneway", "iroh-gossip", "p99"),
        AtMost(1.2),
    ),
    ratio(
        "a thought's way, `normal`, p50, to libp2p's",
        ("oneway", "cogmesh-normal", "p50"),
        ("oneway", "libp2p", "p50"),
        AtMost(0.8),
    ),
    Goal {
        what: "a thought's way, `full`, p50: what it takes more than `normal`, in syncs of this disk",
        value: Value::Excess(
            ("oneway", "cogmesh", "p50"),
            ("oneway", "cogmesh-normal", "p50"),
            ("sync", "disk", "p50"),
        ),
        bound: AtMost(1.0),
    },
    ratio(
        "flood, to iroh-gossip's",
        ("flood", "cogmesh", "rate"),
        ("flood", "iroh-gossip", "rate"),
        AtLeast(2.5),
    ),
    ratio("flood, to libp2p's", ("flood", "cogmesh", "rate"), ("flood", "libp2p", "rate"), AtLeast(15.0)),
    ratio(
        "flood, to zenoh's over QUIC",
        ("flood", "cogmesh", "rate"),
        ("flood", "zenoh-quic", "rate"),
        AtLeast(0.3),
    ),
    ratio(
        "flood to two peers, to that to one",
        ("flood2", "cogmesh", "rate"),
        ("flood", "cogmesh", "rate"),
        AtLeast(0.8),
    ),
    plain("flood: processor time of both sides, µs a thought", ("flood", "cogmesh", "cpu_us"), AtMost(7.0)),
    plain("flood: memory of the larger side, MiB", ("flood", "cogmesh", "rss_mib"), AtMost(40.0)),
    plain("flood: lost, %", ("flood", "cogmesh", "lost_percent"), AtMost(0.0)),
    plain("flood to two peers: lost, %", ("flood2", "cogmesh", "lost_percent"), AtMost(0.0)),
    ratio(
        "catch-up, bytes a second, to quinn's bulk",
        ("bulk", "cogmesh", "mb_s"),
        ("bulk", "quinn", "mb_s"),
        AtLeast(0.5),
    ),
    ratio(
        "handshake with X25519MLKEM768, p50, to quinn's with X25519",
        ("handshake", "cogmesh", "p50"),
        ("handshake", "quinn", "p50"),
        AtMost(1.15),
    ),
    ratio(
        "from an endpoint to an admitted peer, p50, to iroh's fresh endpoint to connected",
        ("connect", "cogmesh-node", "admission"),
        ("connect", "iroh", "p50"),
        AtMost(0.5),
    ),
    plain("at rest with two peers: memory, MiB", ("rest", "cogmesh", "rss_mib"), AtMost(15.0)),
];

/// What became of all of them.
pub(crate) fn outcomes(results: &Results) -> Vec<Outcome> {
    let one = |goal: &Goal| {
        let of = |(measure, contestant, metric): Of| results.each(measure, contestant, metric);
        // Each run's with the same run's: what a machine does meanwhile it does to both.
        let found: Vec<f64> = match goal.value {
            Value::Plain(value) => of(value),
            Value::Ratio(value, to) => of(value).iter().zip(of(to)).map(|(value, to)| value / to).collect(),
            Value::Excess(value, less, unit) => {
                let units = of(unit);
                let pairs = of(value).into_iter().zip(of(less));
                pairs.zip(units).map(|((value, less), unit)| (value - less) / unit).collect()
            }
        };
        // A run that somebody did not come through leaves NaN.
        let found: Vec<f64> = found.into_iter().filter(|value| value.is_finite()).collect();
        Outcome { what: goal.what, bound: goal.bound, found: Spread::of(&found) }
    };
    GOALS.iter().map(one).collect()
}
