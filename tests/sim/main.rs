//! Stories of whole federations on virtual time: every run has a seed, and the same seed gives the same run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail where it likes"
)]

mod chaos;
mod disk;
mod floods;
mod forks;
mod losses;
mod overlay;
mod own_log;
mod relays;
mod returning;
mod revocations;
mod stories;
mod world;
