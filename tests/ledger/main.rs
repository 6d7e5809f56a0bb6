//! The ledger from outside: the specification's vectors, and properties that hold for every input.

mod properties;
mod vectors;
