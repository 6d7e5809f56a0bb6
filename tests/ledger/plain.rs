//! The features of a content as the specification says them, sentence by sentence and without regard to speed: what the ledger's own
//! measure is compared with. Source: ledger.md, Coherence.

use std::collections::BTreeSet;

use cogmesh::ledger::{Features, coherence::is_cjk, types::Ppm};

use aws_lc_rs::digest;

/// The window of the moving-average type-token ratio, in tokens.
const WINDOW: usize = 50;

/// Measures a content.
pub(crate) fn measure(content: &str) -> Features {
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

/// The distinct tokens of each window, counted anew.
fn distinct_in_windows(tokens: &[Token]) -> usize {
    tokens.windows(WINDOW).map(|window| window.iter().collect::<BTreeSet<_>>().len()).sum()
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
    hash.update(b"cogmesh concepts v1\0");
    for concept in concepts {
        hash.update(&u32::try_from(concept.len()).unwrap().to_be_bytes());
        hash.update(concept.as_bytes());
    }
    hash.finish().as_ref().try_into().unwrap()
}

fn is_white_space(scalar: char) -> bool {
    matches!(scalar,
        '\u{0009}'..='\u{000D}' | '\u{0020}' | '\u{0085}' | '\u{00A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}'
        | '\u{2028}' | '\u{2029}' | '\u{202F}' | '\u{205F}' | '\u{3000}')
}

fn is_punctuation(scalar: char) -> bool {
    matches!(scalar,
        '\u{0021}'..='\u{002F}' | '\u{003A}'..='\u{0040}' | '\u{005B}'..='\u{0060}' | '\u{007B}'..='\u{007E}')
}
