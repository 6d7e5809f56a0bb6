//! What an entry is worth.
//!
//! Every author has an [`Account`]: a balance of ATP, a trust, a rate window and a few counts. A thought goes in as
//! [`Facts`] (its time and what was measured of its content), and [`fold()`] turns the account into the next one and says
//! what became of the thought: an [`Outcome`] with its [`Verdict`]. Folding an author's log from its genesis entry gives
//! the same account on every node and every processor, because there is nothing in it but integers: no float, no clock,
//! no randomness, no order of a hash map. That is why nobody can lie about a balance, and why no vote is needed.
//!
//! A thought passes nine layers ([`layers`]), each in a file of its own. They are not a chain of filters: proof of work
//! guards the first entry, decay and reputation keep trust, trust, hardware and balance set the quota, and the verdict is
//! the first of *too many*, *too incoherent*, *repeated* that applies. An accepted thought may earn, a rejected one costs.
//!
//! The numbers of all that are a federation's [`Policy`]. [`coherence`] measures contents; [`economy`] looks at all
//! accounts together and decides nothing. The rules are told in full in `docs/ledger.md`.

pub mod account;
pub mod coherence;
pub mod economy;
pub mod fold;
pub mod layers;
pub mod policy;
pub mod types;

pub use self::{
    account::Account,
    coherence::{Features, measure},
    fold::{Facts, Inadmissible, Outcome, Verdict, fold},
    policy::Policy,
};
