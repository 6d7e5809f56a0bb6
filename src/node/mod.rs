//! One running node: configuration, the loop, the handle.
