//! What the API says of measurements, field for field as users' scripts rely on it. Add fields, never rename them.
//! Times are in microseconds and rates have one decimal, as this program's clock saw them.

use serde::{Deserialize, Serialize};

/// Payloads of a measurement where nothing else is said: what `ping` sends.
pub const BYTES_DEFAULT: usize = 64;
/// How long a measurement takes where nothing else is said.
pub const DURATION_MS_DEFAULT: u64 = 10_000;
/// Bytes of a content where nothing else is said.
pub const CONTENT_BYTES_DEFAULT: usize = 256;
/// For how long there is written where nothing else is said.
pub const WRITE_MS_DEFAULT: u64 = 5_000;
/// Samples of each kind a second where nothing else is said: a few hundred small packets, which disturb nobody.
pub const RATE_DEFAULT: u32 = 100;

/// `POST /v1/probe`: one round trip.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// A linked peer: its id, the start of that, or its name.
    pub peer: String,
    /// Bytes each way.
    #[serde(default = "bytes_default")]
    pub bytes: usize,
}

/// It came back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probed {
    /// The peer's id.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// The link's other end.
    pub address: String,
    /// Bytes each way.
    pub bytes: usize,
    /// How long it took.
    pub rtt_us: f64,
}

/// `POST /v1/bench/latency`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchLatency {
    /// A linked peer: its id, the start of that, or its name.
    pub peer: String,
    /// For how long.
    #[serde(default = "duration_ms_default")]
    pub duration_ms: u64,
    /// Samples of each kind a second.
    #[serde(default = "rate_default")]
    pub rate: u32,
    /// Bytes of each payload.
    #[serde(default = "bytes_default")]
    pub size: usize,
    /// Which kinds: `floor`, `probe`, `datagram`, `stream`, `thought`; all where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
}

/// `POST /v1/bench/throughput`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchThroughput {
    /// A linked peer: its id, the start of that, or its name.
    pub peer: String,
    /// For how long there is written.
    #[serde(default = "write_ms_default")]
    pub duration_ms: u64,
    /// Bytes of each content.
    #[serde(default = "content_bytes_default")]
    pub size: usize,
    /// When a commit counts: `full` or `normal`.
    #[serde(default = "durability_default")]
    pub durability: String,
}

/// How much gets through between this node and one peer; null where that could not be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// The peer's id.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// The link's other end.
    pub address: String,
    /// Thoughts a second, from the first until the last was delivered, verified and stored.
    pub thoughts_per_s: Option<f64>,
    /// Thoughts that were acknowledged here and not stored there.
    pub lost: Option<u64>,
    /// Entries a second of a catch-up, until they were stored.
    pub catch_up_per_s: Option<f64>,
    /// Millions of bytes a second in bulk over the link.
    pub bulk_mb_per_s: Option<f64>,
    /// Processor time of both processes: microseconds.
    pub cpu_us_per_thought: Option<f64>,
    /// UDP payload, both ways.
    pub wire_bytes_per_thought: Option<f64>,
    /// When a commit counted: `full` or `normal`.
    pub durability: String,
    /// Bytes of each content.
    pub size: usize,
    /// Thoughts that were stored there.
    pub thoughts: Option<u64>,
    /// From the first until the last was stored there.
    pub duration_ms: Option<u64>,
    /// Processor time of this process for a thought: microseconds.
    pub cpu_here_us: Option<f64>,
    /// Of the peer's.
    pub cpu_there_us: Option<f64>,
    /// Why something is missing, for people.
    pub why: Option<String>,
    /// Why, for programs.
    pub why_code: Option<String>,
}

/// What was measured between this node and one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The peer's id.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// The link's other end.
    pub address: String,
    /// Bytes of each payload.
    pub size: usize,
    /// Samples of each kind a second.
    pub rate: u32,
    /// For how long it was to be measured.
    pub duration_ms: u64,
    /// Samples that were sent, of all kinds.
    pub count: u64,
    /// How many of them were not back within two seconds.
    pub lost: u64,
    /// A bare UDP ping-pong between the two processes, there and back.
    pub floor_us: Option<Spread>,
    /// There and back on a stream that stands.
    pub probe_us: Option<Spread>,
    /// There and back in a QUIC datagram.
    pub datagram_us: Option<Spread>,
    /// There and back on a stream that is opened for it.
    pub stream_us: Option<Spread>,
    /// One way through the whole path of a thought but the disks.
    pub thought_us: Option<Spread>,
    /// What the stack adds to the network's round trip: the median probe less the median floor.
    pub added_us: Option<f64>,
    /// How late samples were sent; that is part of each latency.
    pub late_us: Late,
    /// Why there is no floor.
    pub floor_why: Option<String>,
    /// Why it ended early.
    pub ended: Option<String>,
}

/// How the latencies of one kind spread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub p50: f64,
    /// Nine of ten are no longer.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The shortest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The mean difference of a latency to that of the sample which came back before it.
    pub jitter: f64,
    /// Samples that were sent.
    pub count: u64,
    /// How many of them were not back within two seconds.
    pub lost: u64,
    /// Second by second; in the API only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Second>,
    /// How many latencies lie between this bound and the one before; in the API only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub histogram: Vec<Bucket>,
}

/// The samples of one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Which, from 0.
    pub second: u64,
    /// The median.
    pub p50: f64,
    /// 99 of 100 are no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// One bar of a histogram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The longest latency in it.
    pub to: f64,
    /// How many.
    pub count: u64,
}

/// How late samples were sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Late {
    /// The median.
    pub p50: f64,
    /// 99 of 100 were sent sooner.
    pub p99: f64,
    /// The latest.
    pub max: f64,
}

impl Latency {
    /// Each kind with its name, in the order in which they are shown.
    #[must_use]
    pub fn kinds(&self) -> [(&'static str, Option<&Spread>); 5] {
        [
            ("floor", self.floor_us.as_ref()),
            ("probe", self.probe_us.as_ref()),
            ("datagram", self.datagram_us.as_ref()),
            ("stream", self.stream_us.as_ref()),
            ("thought", self.thought_us.as_ref()),
        ]
    }

    /// Without what only pages and programs look at.
    #[must_use]
    pub fn in_short(mut self) -> Self {
        let kinds = [
            &mut self.floor_us,
            &mut self.probe_us,
            &mut self.datagram_us,
            &mut self.stream_us,
            &mut self.thought_us,
        ];
        for spread in kinds.into_iter().flatten() {
            spread.series.clear();
            spread.histogram.clear();
        }
        self
    }
}

const fn bytes_default() -> usize {
    BYTES_DEFAULT
}

const fn duration_ms_default() -> u64 {
    DURATION_MS_DEFAULT
}

const fn write_ms_default() -> u64 {
    WRITE_MS_DEFAULT
}

const fn content_bytes_default() -> usize {
    CONTENT_BYTES_DEFAULT
}

fn durability_default() -> String {
    "full".to_owned()
}

const fn rate_default() -> u32 {
    RATE_DEFAULT
}
