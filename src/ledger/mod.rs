//! What an entry is worth.
pub mod types;
