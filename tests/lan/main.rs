//! Whole processes on a LAN of network namespaces: real multicast, real QUIC, real kills.
//! Where a system gives no namespaces these tests say so and skip; in CI that is a failure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail where it likes"
)]

mod absence;
mod capture;
mod closed;
mod disasters;
mod doctor;
mod floods;
mod foreign;
mod forks;
mod lab;
mod latency;
mod listener;
mod load;
mod meeting;
mod members;
mod network;
mod partition;
mod powerups;
mod strangers;
mod subnets;
mod throughput;
mod weather;
