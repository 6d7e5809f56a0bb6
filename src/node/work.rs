//! The proof of work of a new node: searched on all cores, once per key and federation.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::log::{FederationId, NodeId, Nonce, Search};

/// Finds a nonce with that many bits; at the default of 20 that is a million hashes, a fraction of a second.
/// Blocks: call it where blocking is allowed.
///
/// `first` should be random, so that two searches for one key don't repeat each other.
#[must_use]
pub(super) fn find_nonce(federation: &FederationId, node: &NodeId, bits: u8, first: u64) -> Option<Nonce> {
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(64));
    let step = u64::try_from(threads).ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MIN);
    // From the lower half of all nonces, so that no search runs out of them.
    let first = first / 2;
    let found = AtomicBool::new(false);
    thread::scope(|scope| {
        let searchers: Vec<_> = (0..step.get())
            .map(|offset| {
                let found = &found;
                scope.spawn(move || {
                    let first = first.saturating_add(offset);
                    let search = Search { federation: *federation, node: *node, bits_min: bits, first, step };
                    let nonce = search.run(found);
                    if nonce.is_some() {
                        found.store(true, Ordering::Relaxed);
                    }
                    nonce
                })
            })
            .collect();
        searchers.into_iter().filter_map(|searcher| searcher.join().ok().flatten()).next()
    })
}
