//! The ledger from outside: the specification's vectors, and properties that hold for every input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail where it likes"
)]

mod plain;
mod properties;
mod vectors;
