//! The command line as its users meet it: the real binary, its exit codes, and what it prints.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests end the test"
)]

mod copies;
mod doctor;
mod federation;
mod generate;
mod measuring;
mod offline;
mod own_log;
mod peers;
mod pins;
mod pki;
mod running;
mod secrets;
mod stalled;
mod support;
mod tcp;
mod throughput;
