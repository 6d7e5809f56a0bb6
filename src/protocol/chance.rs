//! Chance: the few random choices that the core makes, all from the seed that it was given.

use rand_chacha::{ChaCha8Rng, rand_core::RngCore};

use crate::ledger::types::Millis;

/// A number below `bound`; 0 where `bound` is 0. The bias of the remainder is far below what any choice here could feel.
pub fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX);
    match rng.next_u64().checked_rem(bound) {
        Some(number) => usize::try_from(number).unwrap_or(0),
        None => 0,
    }
}

/// One of those, each as likely as the others.
pub fn one_of<T: Copy>(rng: &mut ChaCha8Rng, choice: &[T]) -> Option<T> {
    if choice.is_empty() {
        return None;
    }
    choice.get(below(rng, choice.len())).copied()
}

/// Puts at most `count` of those in front, in random order, and drops the others (Fisher and Yates, cut short).
pub fn pick<T>(rng: &mut ChaCha8Rng, list: &mut Vec<T>, count: usize) {
    for place in 0..count.min(list.len()) {
        let other = place.saturating_add(below(rng, list.len().saturating_sub(place)));
        list.swap(place, other);
    }
    list.truncate(count);
}

/// Anywhere from half of that to one and a half of it, so that nodes which began together do not go on together.
pub fn around(rng: &mut ChaCha8Rng, middle: Millis) -> Millis {
    let spread = usize::try_from(middle.0).unwrap_or(usize::MAX);
    Millis((middle.0 / 2).saturating_add(u64::try_from(below(rng, spread)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn everything_is_picked_now_and_then_and_nothing_twice() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [0; 10];
        for _ in 0..1_000 {
            let mut list: Vec<usize> = (0..10).collect();
            pick(&mut rng, &mut list, 3);
            assert_eq!(list.len(), 3);
            list.iter().for_each(|number| seen[*number] += 1);
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), 3);
        }
        assert!(seen.iter().all(|times| (200..400).contains(times)), "{seen:?}");
    }

    #[test]
    fn nothing_to_choose_from_is_no_choice() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(one_of::<u8>(&mut rng, &[]), None);
        assert_eq!(below(&mut rng, 0), 0);
        pick(&mut rng, &mut Vec::<u8>::new(), 3);
        let paused = around(&mut rng, Millis(30_000));
        assert!((15_000..45_000).contains(&paused.0), "{paused:?}");
    }
}
