//! cogmesh: nodes that share scored thoughts, where every node computes every balance itself from signed logs.
//!
//! The rooms, in reading order: [`ledger`] (what an entry is worth), [`log`] (who said what), [`protocol`] (what a node does
//! with what it hears), [`store`], [`net`], [`monitor`], [`node`], [`api`], [`cli`]. Imports point one way: a room may use
//! those before it (`tests/house.rs` keeps the table). The first three decide and do no I/O: time and messages are passed
//! in, effects come out.

// What fuzz targets don't reach is left out of them (scripts/fuzz): it is two fifths of the time that this crate takes to build there.
#[cfg(not(fuzzing))]
pub mod api;
#[cfg(not(fuzzing))]
pub mod cli;
mod failing;
#[deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::float_arithmetic)]
pub mod ledger;
#[deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::float_arithmetic)]
pub mod log;
pub mod monitor;
pub mod net;
#[cfg(not(fuzzing))]
pub mod node;
#[deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::float_arithmetic)]
pub mod protocol;
pub mod store;
