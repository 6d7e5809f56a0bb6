//! Stories of whole federations on virtual time: every run has a seed, and the same seed gives the same run.

mod stories;
mod world;
