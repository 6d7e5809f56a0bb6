//! What a node does with what it hears.
