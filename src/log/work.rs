//! Proof of work: what a new identity costs. It is bound to key and federation, so it can be neither sold on nor replayed.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::digest::{Context, SHA256};

use super::{federation::FederationId, identity::NodeId};

/// The number that proves the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub u64);

/// Too little work. Whoever sent it could have seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof of work has {bits} leading zero bits, {bits_min} are needed")]
pub struct WorkFault {
    /// What it has.
    pub bits: u32,
    /// What the policy asks for.
    pub bits_min: u8,
}

/// Checks a proof of work: one hash.
///
/// # Errors
/// It has fewer leading zero bits than `bits_min`.
pub fn check_work(
    federation: &FederationId,
    node: &NodeId,
    nonce: Nonce,
    bits_min: u8,
) -> Result<(), WorkFault> {
    let bits = work_bits(federation, node, nonce);
    if bits < u32::from(bits_min) {
        return Err(WorkFault { bits, bits_min });
    }
    Ok(())
}

/// How many leading zero bits this nonce gives.
#[must_use]
pub fn work_bits(federation: &FederationId, node: &NodeId, nonce: Nonce) -> u32 {
    Prefix::new(federation, node).bits(nonce)
}

/// A search for a nonce, or a part of one: threads share it by taking every `step`-th nonce each, from 0, 1, 2 and so on.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Where the identity is to be used.
    pub federation: FederationId,
    /// The identity.
    pub node: NodeId,
    /// How many leading zero bits are wanted.
    pub bits_min: u8,
    /// The first nonce to try.
    pub first: u64,
    /// How far to the next.
    pub step: NonZeroU64,
}

/// How many nonces are tried between two looks at the stop flag: at most some milliseconds.
const NONCES_PER_LOOK: u32 = 4096;

impl Search {
    /// Tries nonces until one proves the work, or `stop` is set (looked at every 4096 nonces), or none is left.
    #[must_use]
    pub fn run(&self, stop: &AtomicBool) -> Option<Nonce> {
        let prefix = Prefix::new(&self.federation, &self.node);
        let mut nonce = Nonce(self.first);
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..NONCES_PER_LOOK {
                if prefix.bits(nonce) >= u32::from(self.bits_min) {
                    return Some(nonce);
                }
                nonce = Nonce(nonce.0.checked_add(self.step.get())?);
            }
        }
        None
    }
}

/// The hash of everything before the nonce, to be continued from for each one. That saves the first of two blocks: as fast
/// as a hash of the whole where the processor has SHA instructions (13 million a second either way), faster where it has none.
struct Prefix(Context);

impl Prefix {
    fn new(federation: &FederationId, node: &NodeId) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"cogmesh pow v1\0");
        context.update(&federation.0);
        context.update(node.as_bytes());
        Self(context)
    }

    fn bits(&self, nonce: Nonce) -> u32 {
        let mut context = self.0.clone();
        context.update(&nonce.0.to_le_bytes());
        leading_zero_bits(context.finish().as_ref())
    }
}

fn leading_zero_bits(hash: &[u8]) -> u32 {
    let mut bits = 0;
    for byte in hash {
        bits += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(first: u64, step: u64) -> Search {
        Search {
            federation: FederationId([1; 32]),
            node: NodeId::from_stored([2; 32]),
            bits_min: 10,
            first,
            step: NonZeroU64::new(step).unwrap(),
        }
    }

    #[test]
    fn leading_zero_bits_are_counted_across_bytes() {
        assert_eq!(leading_zero_bits(&[0x80, 0]), 0);
        assert_eq!(leading_zero_bits(&[0, 0x1f, 0]), 11);
        assert_eq!(leading_zero_bits(&[0; 32]), 256);
    }

    #[test]
    fn what_is_found_proves_the_work_for_this_key_and_federation_alone() {
        let whole = search(0, 1);
        let nonce = whole.run(&AtomicBool::new(false)).unwrap();
        assert_eq!(check_work(&whole.federation, &whole.node, nonce, 10), Ok(()));
        let elsewhere = FederationId([3; 32]);
        let bits = work_bits(&elsewhere, &whole.node, nonce);
        assert!(bits < 10, "a nonce that fits two federations by chance: take another seed");
        let refused = Err(WorkFault { bits, bits_min: 10 });
        assert_eq!(check_work(&elsewhere, &whole.node, nonce, 10), refused);
    }

    #[test]
    fn a_shared_search_finds_what_one_alone_finds() {
        let go = AtomicBool::new(false);
        let alone = search(0, 1).run(&go);
        let shared = (0..3).filter_map(|first| search(first, 3).run(&go)).min();
        assert_eq!(alone, shared);
    }

    #[test]
    fn a_search_ends_when_told_to_and_where_no_nonce_is_left() {
        assert_eq!(search(0, 1).run(&AtomicBool::new(true)), None);
        let impossible = Search { bits_min: 255, ..search(u64::MAX - 5, 2) };
        assert_eq!(impossible.run(&AtomicBool::new(false)), None);
    }
}
