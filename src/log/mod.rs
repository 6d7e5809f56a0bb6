//! Who said what, in which order.
//!
//! Every node writes a log of its own, and only that one. An [`Entry`] is a [`Header`] and, for a thought, its content. The
//! header names its author, its place (`seq`), and the hash of the header before it, so that an entry's hash seals all that came
//! before:
//!
//! ```text
//!   genesis, seq 0          thought, seq 1           thought, seq 2           Head
//!   prev: zeros        ┌─── prev: hash of 0     ┌─── prev: hash of 1     ┌─── seq 2, hash of 2,
//!   name, hardware  ◄──┘    content's hash   ◄──┘    content's hash   ◄──┘    signed by the author
//!   proof of work           and features             and features
//! ```
//!
//! Only the [`Head`], the statement "my log goes up to here", is signed. It covers every entry before it, so a burst of a thousand
//! thoughts costs one signature and one verification; an entry that no signed head covers is not valid. What travels is a
//! [`Segment`]: consecutive entries and the head of the last. Contents can be pruned: the header keeps what the ledger needs to
//! know about them (`Features`), and whoever still has a content can check it.
//!
//! A [`NodeId`] is an Ed25519 public key; a new one costs a proof of work ([`Search`]). Every hash and signature carries the
//! [`FederationId`], which a node's rules are part of: what was signed under other rules means nothing here.
//!
//! **Invariants.** This room does no I/O and knows no clock; randomness is passed in. Hashed and signed bytes are laid out by hand,
//! passed on as they came and read strictly: what parses is written again as the same bytes. A [`Verified`] value can only be
//! made here, by the check itself. One crypto library verifies everywhere, because two could disagree about one signature.

pub mod alive;
pub mod books;
pub mod ca;
pub mod claim;
pub mod entry;
pub mod fault;
mod federation;
pub mod head;
mod header;
pub mod identity;
mod layout;
pub mod name;
pub mod peer_record;
pub mod segment;
pub mod stored;
pub mod ticket;
mod work;

pub use alive::Alive;
pub use ca::{CaHash, CaKey, Revocation};
pub use claim::Claim;
pub use entry::{Body, Entry, Genesis, Hardware, Hash, Header, Mode, Thought};
pub use fault::{FaultKind, Proof, ProofFault};
pub use head::Head;
pub use identity::{FederationId, Identity, NodeId, Nonce, Search, Signature};
pub(crate) use layout::sha256;
pub use name::{Architecture, FederationName, NodeName, SessionName};
pub use peer_record::NodeRecord;
pub use segment::{Rules, SEGMENT_ENTRIES_MAX, Segment, SegmentFault, Verified};
pub use ticket::{Ticket, TicketFault, Token};
