//! What a node does with what it hears.

pub mod frame;
pub mod input;
pub mod refusal;
pub mod wire;
