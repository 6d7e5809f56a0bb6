//! Coherence: one score, from the content alone. Length, substance and diversity multiply, so that none can stand in
//! for another. Source: ledger.md, Coherence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aws_lc_rs::digest;

use super::types::Ppm;

/// Opens the hash of a fingerprint, so that no other hash of ours can be one.
const FINGERPRINT_DOMAIN: &[u8] = b"cogmesh concepts v1\0";
/// The window of the moving-average type-token ratio, in tokens (Covington & McFall 2010).
const WINDOW: usize = 50;
/// So many scalar values count as full length.
const CHARS_FULL: u64 = 100;
/// So many distinct concepts count as full substance.
const CONCEPTS_FULL: u64 = 8;

/// What a header says of its content, and whoever holds the content checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Scalar values that are not white space, a CJK one counted three times.
    pub chars: u32,
    /// How many distinct concepts.
    pub concepts: u32,
    /// Moving-average type-token ratio over 50 tokens.
    pub diversity: Ppm,
    /// SHA-256 over the distinct concepts in byte order.
    pub fingerprint: [u8; 32],
}

impl Features {
    /// The product of length, substance and diversity, each at most 1.0. Total: whatever a header claims, each factor
    /// is capped before it is multiplied.
    #[must_use]
    pub fn coherence(&self) -> Ppm {
        let length = capped(u64::from(self.chars) * 1_000_000 / CHARS_FULL);
        let substance = capped(u64::from(self.concepts) * 1_000_000 / CONCEPTS_FULL);
        let diversity = capped(u64::from(self.diversity.0) * 10 / 7);
        let product = length * substance / 1_000_000 * diversity / 1_000_000;
        Ppm(u32::try_from(product).unwrap_or(Ppm::ONE.0))
    }

    /// What an account remembers of an accepted thought.
    #[must_use]
    pub const fn fingerprint_prefix(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.fingerprint;
        [a, b, c, d, e, f, g, h]
    }
}

/// Measures a content. Time and memory grow with its length and no faster.
#[must_use]
pub fn measure(content: &str) -> Features {
    let tokens = tokens(content);
    let concepts = concepts(&tokens);
    Features {
        chars: chars(content),
        concepts: u32::try_from(concepts.len()).unwrap_or(u32::MAX),
        diversity: diversity(&tokens),
        fingerprint: fingerprint(&concepts),
    }
}

/// A token: its text, and whether it is a CJK scalar by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Token {
    text: String,
    is_cjk: bool,
}

fn tokens(content: &str) -> Vec<Token> {
    let mut tokens = vec![];
    let mut run = String::new();
    for scalar in content.chars() {
        if is_white_space(scalar) {
            end_run(&mut run, &mut tokens);
        } else if is_cjk(scalar) {
            end_run(&mut run, &mut tokens);
            tokens.push(Token { text: scalar.to_string(), is_cjk: true });
        } else {
            run.push(scalar.to_ascii_lowercase());
        }
    }
    end_run(&mut run, &mut tokens);
    tokens
}

fn end_run(run: &mut String, tokens: &mut Vec<Token>) {
    let text = run.trim_matches(is_punctuation);
    if !text.is_empty() {
        tokens.push(Token { text: text.to_owned(), is_cjk: false });
    }
    run.clear();
}

fn concepts(tokens: &[Token]) -> BTreeSet<String> {
    let words = tokens
        .iter()
        .filter(|token| !token.is_cjk && token.text.chars().nth(3).is_some())
        .filter(|token| !token.text.bytes().any(|byte| byte.is_ascii_digit()))
        .map(|token| token.text.clone());
    let pairs = tokens.windows(2).filter_map(|pair| match pair {
        [one, two] if one.is_cjk && two.is_cjk => Some(format!("{}{}", one.text, two.text)),
        _ => None,
    });
    words.chain(pairs).collect()
}

fn diversity(tokens: &[Token]) -> Ppm {
    let count = tokens.len();
    if count == 0 {
        return Ppm::ZERO;
    }
    let (distinct_sum, token_sum) = if count <= WINDOW {
        (tokens.iter().collect::<BTreeSet<_>>().len(), count)
    } else {
        // 16 KiB of content hold at most 16,384 tokens, so neither sum comes near the end of a usize.
        (distinct_in_windows(tokens), WINDOW * (count - (WINDOW - 1)))
    };
    let distinct_sum = u64::try_from(distinct_sum).unwrap_or(u64::MAX);
    let token_sum = u64::try_from(token_sum).unwrap_or(u64::MAX);
    let ratio = distinct_sum.saturating_mul(1_000_000) / token_sum;
    Ppm(u32::try_from(ratio).unwrap_or(Ppm::ONE.0))
}

/// The distinct tokens of each window, added up, with one step a token instead of a window a token.
fn distinct_in_windows(tokens: &[Token]) -> usize {
    let mut window: VecDeque<&Token> = VecDeque::with_capacity(WINDOW);
    let mut counts: BTreeMap<&Token, usize> = BTreeMap::new();
    let mut sum = 0;
    for token in tokens {
        if window.len() == WINDOW
            && let Some(oldest) = window.pop_front()
            && let Some(count) = counts.get_mut(oldest)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(oldest);
            }
        }
        window.push_back(token);
        *counts.entry(token).or_default() += 1;
        if window.len() == WINDOW {
            sum += counts.len();
        }
    }
    sum
}

fn chars(content: &str) -> u32 {
    let weight = |scalar: char| match scalar {
        scalar if is_white_space(scalar) => 0,
        scalar if is_cjk(scalar) => 3,
        _ => 1,
    };
    // Contents are bounded far below; saturating makes the function total.
    content.chars().map(weight).fold(0, u32::saturating_add)
}

fn fingerprint(concepts: &BTreeSet<String>) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(FINGERPRINT_DOMAIN);
    for concept in concepts {
        let bytes = u32::try_from(concept.len()).unwrap_or(u32::MAX);
        hash.update(&bytes.to_be_bytes());
        hash.update(concept.as_bytes());
    }
    sha256_bytes(&hash.finish())
}

/// The 32 bytes of a SHA-256.
pub(super) fn sha256_bytes(digest: &digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

fn capped(value: u64) -> u64 {
    value.min(1_000_000)
}

// The three classes are fixed here and not taken from a library, so that two builds can never disagree.

fn is_white_space(scalar: char) -> bool {
    matches!(scalar,
        '\u{0009}'..='\u{000D}' | '\u{0020}' | '\u{0085}' | '\u{00A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}'
        | '\u{2028}' | '\u{2029}' | '\u{202F}' | '\u{205F}' | '\u{3000}')
}

/// Whether a scalar is a word by itself: those scripts set no spaces.
#[must_use]
pub const fn is_cjk(scalar: char) -> bool {
    matches!(scalar,
        '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{2FA1F}')
}

fn is_punctuation(scalar: char) -> bool {
    matches!(scalar,
        '\u{0021}'..='\u{002F}' | '\u{003A}'..='\u{0040}' | '\u{005B}'..='\u{0060}' | '\u{007B}'..='\u{007E}')
}
