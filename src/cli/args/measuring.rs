//! What can be typed about measurements.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    api::measurements::{BYTES_DEFAULT, CONTENT_BYTES_DEFAULT, RATE_DEFAULT},
    cli::options,
    store::Durability,
};

/// Options of `ping`.
#[derive(Args, Clone, Debug)]
pub struct PingArgs {
    /// Linked peer: an id, the start of one, or a name
    #[arg(value_name = "PEER")]
    pub peer: String,
    /// End after so many [default: until Ctrl-C]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Seconds between two, 0.01 or more
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = options::interval)]
    pub interval: f64,
    /// Bytes each way, 16 to 65536
    #[arg(short, long, value_name = "BYTES", default_value_t = BYTES_DEFAULT)]
    pub size: usize,
}

/// What can be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure how long things take to a peer and back, on the running node and beside its work
    Latency(LatencyArgs),
    /// Measure how much gets through to a peer, between throw-away nodes here and there
    Throughput(ThroughputArgs),
}

/// Options of `bench throughput`.
///
/// Thoughts that are signed, delivered, verified and stored, a catch-up of all of them, and bytes in bulk. The thoughts are those of throw-away
/// nodes, which both sides make for it and remove afterwards, so nobody's books change. It keeps both machines busy while it runs.
#[derive(Args, Clone, Debug)]
pub struct ThroughputArgs {
    /// Linked peer: an id, the start of one, or a name [default: all that are linked, one after the other]
    #[arg(value_name = "PEER")]
    pub peer: Option<String>,
    /// How long to write to each peer: 5s, 1m; at most 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = options::lifetime)]
    pub duration: u64,
    /// Bytes of each content, 64 to 16384
    #[arg(long, value_name = "BYTES", default_value_t = CONTENT_BYTES_DEFAULT)]
    pub size: usize,
    /// When a commit counts, on both sides: full (when it is on the disk) or normal
    #[arg(long, value_name = "WHEN", default_value = "full")]
    pub durability: Durability,
}

/// Options of `bench latency`.
///
/// A bare UDP ping-pong between the two processes, a stream that stands, a datagram, a fresh stream, and the whole path of a thought that
/// nobody keeps, all in the same seconds. Nothing is stored, and no balance changes.
#[derive(Args, Clone, Debug)]
pub struct LatencyArgs {
    /// Linked peer: an id, the start of one, or a name [default: all that are linked, one after the other]
    #[arg(value_name = "PEER")]
    pub peer: Option<String>,
    /// How long to measure each peer: 10s, 2m; at most 10m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = options::lifetime)]
    pub duration: u64,
    /// Samples of each kind a second, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = RATE_DEFAULT)]
    pub rate: u32,
    /// Bytes of each payload, 16 to 1150
    #[arg(long, value_name = "BYTES", default_value_t = BYTES_DEFAULT)]
    pub size: usize,
    /// Write a page with histograms and time series
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}
