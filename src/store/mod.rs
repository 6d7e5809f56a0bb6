//! What a node must not forget, on disk.
