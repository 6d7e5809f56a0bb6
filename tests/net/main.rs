//! Real QUIC on 127.0.0.1: who gets in, what is heard, and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what is wrong by panicking, and its helpers are no tests to clippy"
)]

mod attacks;
mod closed;
mod common;
mod door;
mod endings;
mod flow;
mod fuzzed;
mod impersonation;
mod interfaces;
mod links;
mod measure;
mod raw;
mod victim;
mod violations;
