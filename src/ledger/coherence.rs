//! Coherence: one score, from the content alone. Length, substance and diversity multiply, so that none can stand in
//! for another. Source: ledger.md, Coherence.

use std::borrow::Cow;

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

/// Measures a content. Time grows with its length (but for the sorting of its tokens), and so does memory. Every thought is measured by its
/// author and by everybody who verifies it, so a token is a place in the content and not a text of its own.
#[must_use]
pub fn measure(content: &str) -> Features {
    // The same length, and the same classes of scalars.
    let lowered = content.to_ascii_lowercase();
    let Scan { tokens, chars } = scan(&lowered);
    let distinct = distinct(&tokens);
    let concepts = concepts(&tokens, &distinct);
    Features {
        chars,
        concepts: u32::try_from(concepts.len()).unwrap_or(u32::MAX),
        diversity: diversity(&tokens, &distinct),
        fingerprint: fingerprint(&concepts),
    }
}

/// A token: its text, and whether it is a CJK scalar by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Token<'a> {
    /// The first eight bytes as a number, zeros behind the end. It orders most texts as their bytes do, and says nothing of the others.
    start: u64,
    text: &'a str,
    is_cjk: bool,
}

fn start_of(text: &str) -> u64 {
    let mut start = [0; 8];
    start.iter_mut().zip(text.bytes()).for_each(|(to, byte)| *to = byte);
    u64::from_be_bytes(start)
}

/// What one look through a content gives.
struct Scan<'a> {
    tokens: Vec<Token<'a>>,
    chars: u32,
}

fn scan(lowered: &str) -> Scan<'_> {
    // Words of five letters and a space.
    let mut tokens = Vec::with_capacity(lowered.len() / 6 + 1);
    let (mut chars, mut run_start) = (0_u32, 0);
    for (at, scalar) in lowered.char_indices() {
        if is_white_space(scalar) {
            end_run(lowered.get(run_start..at), &mut tokens);
            run_start = at + scalar.len_utf8();
        } else if is_cjk(scalar) {
            end_run(lowered.get(run_start..at), &mut tokens);
            run_start = at + scalar.len_utf8();
            let text = lowered.get(at..run_start);
            tokens.extend(text.map(|text| Token { start: start_of(text), text, is_cjk: true }));
            chars = chars.saturating_add(3);
        } else {
            // Contents are bounded far below; saturating makes the function total.
            chars = chars.saturating_add(1);
        }
    }
    end_run(lowered.get(run_start..), &mut tokens);
    Scan { tokens, chars }
}

fn end_run<'a>(run: Option<&'a str>, tokens: &mut Vec<Token<'a>>) {
    // Runs begin and end between scalars, so there always is one.
    let text = run.unwrap_or_default().trim_matches(is_punctuation);
    if !text.is_empty() {
        tokens.push(Token { start: start_of(text), text, is_cjk: false });
    }
}

/// The tokens in byte order, each once.
fn distinct<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut distinct = tokens.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

/// The concepts in byte order, each once.
fn concepts<'a>(tokens: &[Token<'a>], distinct: &[Token<'a>]) -> Vec<Cow<'a, str>> {
    let is_word = |token: &&Token<'_>| {
        !token.is_cjk
            && token.text.chars().nth(3).is_some()
            && !token.text.bytes().any(|byte| byte.is_ascii_digit())
    };
    let mut concepts: Vec<_> =
        distinct.iter().filter(is_word).map(|token| Cow::Borrowed(token.text)).collect();
    let words = concepts.len();
    concepts.extend(tokens.windows(2).filter_map(|pair| match pair {
        [one, two] if one.is_cjk && two.is_cjk => Some(Cow::Owned([one.text, two.text].concat())),
        _ => None,
    }));
    if concepts.len() > words {
        concepts.sort_unstable();
        concepts.dedup();
    }
    concepts
}

fn diversity(tokens: &[Token<'_>], distinct: &[Token<'_>]) -> Ppm {
    let count = tokens.len();
    if count == 0 {
        return Ppm::ZERO;
    }
    let (distinct_sum, token_sum) = if count <= WINDOW {
        (distinct.len(), count)
    } else {
        // 16 KiB of content hold at most 16,384 tokens, so neither sum comes near the end of a usize.
        (distinct_in_windows(tokens, distinct), WINDOW * (count - (WINDOW - 1)))
    };
    let distinct_sum = u64::try_from(distinct_sum).unwrap_or(u64::MAX);
    let token_sum = u64::try_from(token_sum).unwrap_or(u64::MAX);
    let ratio = distinct_sum.saturating_mul(1_000_000) / token_sum;
    Ppm(u32::try_from(ratio).unwrap_or(Ppm::ONE.0))
}

/// The distinct tokens of each window, added up, with one step a token instead of a window a token.
fn distinct_in_windows(tokens: &[Token<'_>], distinct: &[Token<'_>]) -> usize {
    // Tokens by their places among the distinct ones. All of them stand there.
    let places = tokens.iter().map(|token| distinct.binary_search(token).unwrap_or_default());
    let places: Vec<usize> = places.collect();
    let mut counts = vec![0_u8; distinct.len()];
    let (mut in_window, mut sum) = (0_usize, 0_usize);
    for (at, place) in places.iter().enumerate() {
        let oldest = at.checked_sub(WINDOW).and_then(|oldest| places.get(oldest));
        // A window is shorter than a u8 counts.
        if let Some(count) = oldest.and_then(|oldest| counts.get_mut(*oldest)) {
            *count -= 1;
            in_window -= usize::from(*count == 0);
        }
        if let Some(count) = counts.get_mut(*place) {
            in_window += usize::from(*count == 0);
            *count += 1;
        }
        if at + 1 >= WINDOW {
            sum += in_window;
        }
    }
    sum
}

fn fingerprint(concepts: &[Cow<'_, str>]) -> [u8; 32] {
    // Put together first: a call of the library for each piece takes longer than the hash.
    let bytes = concepts.iter().map(|concept| concept.len() + size_of::<u32>()).sum::<usize>();
    let mut hashed = Vec::with_capacity(FINGERPRINT_DOMAIN.len() + bytes);
    hashed.extend_from_slice(FINGERPRINT_DOMAIN);
    for concept in concepts {
        let bytes = u32::try_from(concept.len()).unwrap_or(u32::MAX);
        hashed.extend_from_slice(&bytes.to_be_bytes());
        hashed.extend_from_slice(concept.as_bytes());
    }
    sha256_bytes(&digest::digest(&digest::SHA256, &hashed))
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
