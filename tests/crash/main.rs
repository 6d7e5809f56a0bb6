//! Nothing is lost: nodes that are killed at any moment, power cuts at any write, and a disk that fails to sync.
//!
//! * `kills.rs`: three nodes under load, killed at random moments; a dozen kills by default. The long run:
//!   `COGMESH_CRASH_KILLS=200 cargo test --test crash kills -- --nocapture`, another one with `COGMESH_CRASH_SEED=N`.
//! * `points.rs`: one kill at each named step of a commit (`src/failing.rs`).
//! * `power/`: every write and sync of a node recorded, and the disk put together as a power cut might have left it; a
//!   sample by default. All of them: `COGMESH_POWER_STATES=all cargo test --test crash power -- --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail where it likes, and says what it did"
)]

mod kills;
mod load;
mod nodes;
mod points;
mod power;
mod witness;
