//! Contents: texts that the rules like, each with other concepts than all before, made before they are needed: what is measured is not
//! how fast texts are made.

use std::fmt::Write as _;

/// So many are made before, and begin with other names each time.
const TEXTS: u64 = 512;
/// As many words as people use; half of what is written comes from the first hundred, as in real texts.
const WORDS: u64 = 20_000;
/// Letters of a word, three of these each.
const SYLLABLES: [&str; 64] = [
    "ba", "be", "bi", "bo", "da", "de", "di", "do", "fa", "fe", "fi", "fo", "ga", "ge", "gi", "go", "ha",
    "he", "hi", "ho", "ja", "je", "ji", "jo", "ka", "ke", "ki", "ko", "la", "le", "li", "lo", "ma", "me",
    "mi", "mo", "na", "ne", "ni", "no", "pa", "pe", "pi", "po", "ra", "re", "ri", "ro", "sa", "se", "si",
    "so", "ta", "te", "ti", "to", "va", "ve", "vi", "vo", "za", "ze", "zi", "zo",
];

/// Texts of one length.
#[derive(Debug)]
pub(super) struct Contents {
    texts: Vec<String>,
    bytes: usize,
}

impl Contents {
    /// Of so many bytes each.
    pub(super) fn new(bytes: usize) -> Self {
        let text = |number: u64| {
            let mut text = String::with_capacity(bytes + 8);
            for place in 0.. {
                if text.len() >= bytes {
                    break;
                }
                text.push(' ');
                text.push_str(&word(rank(mixed(number << 32 | place))));
            }
            text
        };
        Self { texts: (0..TEXTS).map(text).collect(), bytes }
    }

    /// How many bytes each has.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// That of this number; no two are alike.
    pub(super) fn of(&self, number: u64) -> String {
        let mut content = String::with_capacity(self.bytes + 8);
        // Names that nobody else has, as in real texts: one, and another for each quarter of a million. What a name begins with is in no word.
        let mut rest = number;
        for letter in ['x', 'q', 'w', 'y'] {
            content.push(letter);
            content.push_str(&word(rest % (1 << 18)));
            rest >>= 18;
            if rest == 0 {
                break;
            }
            content.push(' ');
        }
        let place = usize::try_from(number % TEXTS).unwrap_or(0);
        // Writing to a string can't fail.
        let _infallible = content.write_str(self.texts.get(place).map_or("", String::as_str));
        // All of it is ASCII.
        content.truncate(self.bytes);
        content
    }
}

/// The word of that number; letters only, so that it is a concept.
fn word(number: u64) -> String {
    [12, 6, 0]
        .iter()
        .filter_map(|shift| SYLLABLES.get(usize::try_from(number >> shift & 63).ok()?))
        .copied()
        .collect()
}

/// Common words more often than rare ones: a power of a uniform number is near enough to Zipf's law.
fn rank(uniform: u64) -> u64 {
    let exponent = (uniform % 1_000_000) as f64 / 1_000_000.0;
    (WORDS as f64).powf(exponent) as u64
}

/// A number that looks random (SplitMix64).
const fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        ledger::{coherence::measure, policy::Policy},
        node::throughput::SIZE,
    };

    #[test]
    fn every_content_has_its_length_and_passes_the_rules() {
        let min = Policy::default().coherence_min_ppm;
        for bytes in [*SIZE.start(), 100, 256, 2_000, *SIZE.end()] {
            let contents = Contents::new(bytes);
            for number in (0..TEXTS).step_by(3).chain([1 << 18, u64::MAX]) {
                let content = contents.of(number);
                assert_eq!(content.len(), bytes);
                assert!(measure(&content).coherence() >= min, "{bytes}: {content}");
            }
        }
    }

    #[test]
    fn no_two_contents_have_the_same_concepts() {
        let contents = Contents::new(*SIZE.start());
        let numbers = (0..5_000).chain((1 << 18)..(1 << 18) + 5_000);
        let prints: BTreeSet<_> = numbers.map(|number| measure(&contents.of(number)).fingerprint).collect();
        assert_eq!(prints.len(), 10_000);
    }
}
