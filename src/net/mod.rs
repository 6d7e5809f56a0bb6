//! Bytes on the wire, and nothing decided.
