//! What all contestants share, so that all of them do the same: messages, clock, histograms, and how they talk with the harness.
//!
//! A contestant is a program that takes a role and a scenario ([`Task`]), says `ready ADDRESS…` when others may connect or when it is
//! connected, obeys orders, a line each, from its standard input ([`Child`]), and ends with a report, one line of JSON ([`Report`]). What
//! broadcasts messages implements [`PubSub`], and its scenarios are run by [`pubsub::run`]; the others use the pieces.

mod child;
mod clock;
mod flow;
mod message;
pub mod pubsub;
mod report;
pub mod streams;
mod tally;
mod task;

pub use child::{Child, Order};
pub use clock::{cpu_ns, now_ns, pace};
pub use flow::{Sent, arrived, bulk, flood, handshakes, receive_bulk, round_trips, subscribe};
pub use message::{Kind, MESSAGE_BYTES, Message, text};
pub use pubsub::PubSub;
pub use report::{Latencies, Report};
pub use tally::Tally;
pub use task::{Role, Scenario, Task};

/// Bytes of each write of a bulk transfer.
pub const CHUNK_BYTES: usize = 64 << 10;
