//! What is known of one place: where it is, who says so, why it is not linked, and when it may be dialled.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;

use super::{ADDRESSES_MAX, AWAITED_MAX, Place, RECORD_RETRY};
use crate::{
    ledger::types::Millis,
    log::NodeId,
    protocol::{
        chance::below,
        input::{Address, Attempt, Source},
        refusal::Refusal,
        view::Unlinked,
    },
};

/// A place that had no room is asked again after this and up to half as much again, later after twice and more of it.
const FULL_RETRY: Millis = Millis(60_000);
/// So often that pause doubles.
const FULL_DOUBLINGS_MAX: u32 = 3;
/// So often that pause doubles.
const RECORD_DOUBLINGS_MAX: u32 = 3;
/// Attempts without an answer after which a place no longer counts as somebody who is there.
const FAILURES_OF_THE_GONE: u32 = 8;
/// The same of a place that is known by a peer record alone: anybody can make those.
const FAILURES_OF_A_GHOST: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Who was found at an address.
    pub(super) found: Option<NodeId>,
    pub(super) name: Option<String>,
    /// The likeliest first.
    pub(super) addresses: Vec<Address>,
    /// Where its own record says that it is; tried after the others.
    pub(super) recorded: Vec<Address>,
    pub(super) sources: BTreeSet<Source>,
    /// Why it is not to be dialled at all.
    pub(super) stranger: Option<Stranger>,
    pub(super) dialling: Option<Attempt>,
    pub(super) failures: u32,
    /// How often in a row it had no room.
    pub(super) was_full: u32,
    pub(super) next: Millis,
    /// When it was last dialled.
    pub(super) dialled: Option<Millis>,
    /// When it was last a peer, in this run.
    pub(super) was_peer: Option<Millis>,
    pub(super) last_fault: Option<Fault>,
}

#[derive(Clone, Debug)]
pub(super) enum Stranger {
    /// With these first digits of its federation's id.
    OtherFederation(String),
    Ourselves,
}

#[derive(Clone, Debug)]
pub(super) enum Fault {
    NoAnswer(String),
    Refused(Refusal),
    Lost(String),
}

impl Known {
    /// Takes the addresses of a newer record for those of an older one. Returns whether one of them is new.
    pub(super) fn learn_record(&mut self, addresses: Vec<Address>) -> bool {
        let is_known =
            |address: &Address| self.addresses.contains(address) || self.recorded.contains(address);
        let is_new = !addresses.iter().all(is_known);
        self.recorded = addresses;
        is_new
    }

    /// Where it is dialled: what was heard or seen, then what its record says.
    pub(super) fn all_addresses(&self) -> Vec<Address> {
        let recorded = self.recorded.iter().filter(|address| !self.addresses.contains(*address));
        self.addresses.iter().chain(recorded).take(ADDRESSES_MAX).cloned().collect()
    }

    pub(super) fn node(&self, place: &Place) -> Option<NodeId> {
        match place {
            Place::Node(node) => Some(*node),
            Place::At(_) => self.found,
        }
    }

    pub(super) fn is_named(&self) -> bool {
        self.sources.contains(&Source::Seed)
    }

    /// Whether it is dialled often for as long as nobody answers.
    pub(super) fn is_awaited(&self, mono: Millis) -> bool {
        self.is_named() || self.was_peer.is_some_and(|at| mono.since(at) < AWAITED_MAX)
    }

    /// Whether nothing but a record says that somebody is there.
    pub(super) fn is_by_record_only(&self) -> bool {
        self.addresses.is_empty() && !self.recorded.is_empty()
    }

    /// Whether nobody seems to be there. The first attempt counts from its beginning.
    pub(super) fn is_gone(&self) -> bool {
        let enough = if self.is_by_record_only() { FAILURES_OF_A_GHOST } else { FAILURES_OF_THE_GONE };
        self.failures >= enough
    }

    /// When it may be dialled.
    pub(super) fn due(&self) -> Millis {
        match self.dialled {
            Some(at) if self.is_by_record_only() => {
                let doublings = self.failures.saturating_sub(1).min(RECORD_DOUBLINGS_MAX);
                self.next.max(at.plus(Millis(RECORD_RETRY.0 << doublings)))
            }
            Some(_) | None => self.next,
        }
    }

    pub(super) fn why(&self, mono: Millis, lacking: usize) -> Unlinked {
        let again = self.due().since(mono);
        match (&self.stranger, &self.last_fault) {
            (Some(Stranger::OtherFederation(prefix)), _) => {
                Unlinked::OtherFederation { prefix: prefix.clone() }
            }
            (Some(Stranger::Ourselves), _) => Unlinked::Ourselves,
            (None, _) if self.dialling.is_some() && self.last_fault.is_none() => Unlinked::Dialling,
            (None, Some(Fault::NoAnswer(what))) => Unlinked::NoAnswer { what: what.clone(), again },
            (None, Some(Fault::Refused(refusal))) => Unlinked::Refused { refusal: refusal.clone(), again },
            (None, Some(Fault::Lost(what))) => Unlinked::Lost { what: what.clone(), again },
            (None, None) if self.addresses.is_empty() && self.recorded.is_empty() => Unlinked::NoAddress,
            (None, None) if lacking == 0 && !self.is_named() => Unlinked::Spare,
            (None, None) if self.is_by_record_only() => Unlinked::ByRecord { again },
            (None, None) => Unlinked::Dialling,
        }
    }

    /// Half as much again as the bound at most, so that those who were turned away together don't come back together.
    pub(super) fn pause_when_full(&mut self, rng: &mut ChaCha8Rng) -> Millis {
        let pause = FULL_RETRY.0 << self.was_full.min(FULL_DOUBLINGS_MAX);
        self.was_full = self.was_full.saturating_add(1);
        let spread = below(rng, usize::try_from(pause / 2).unwrap_or(0));
        Millis(pause).plus(Millis(u64::try_from(spread).unwrap_or(0)))
    }
}

/// What may be dialled, gathered in one look at all places.
pub(super) struct Due<'a> {
    pub(super) now: Millis,
    pub(super) named: Vec<&'a Place>,
    pub(super) others: Vec<&'a Place>,
    pub(super) by_record: Vec<&'a Place>,
    /// When the first of those that are not due yet is.
    pub(super) wake: Option<Millis>,
}

impl<'a> Due<'a> {
    pub(super) fn add(&mut self, place: &'a Place, known: &Known) {
        let at = known.due();
        if at > self.now {
            self.wake = self.wake.into_iter().chain([at]).min();
        } else if known.is_named() {
            self.named.push(place);
        } else if known.is_by_record_only() {
            self.by_record.push(place);
        } else {
            self.others.push(place);
        }
    }
}
