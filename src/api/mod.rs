//! The local HTTP API over a node's handle.
