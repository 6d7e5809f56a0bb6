//! Bytes on the wire, and nothing decided.

pub mod discovery;
