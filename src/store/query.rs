//! Questions to the corpus, and their answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use crate::{
    ledger::{
        economy::{self, Session, SessionThought},
        types::{MicroAtp, Millis, Ppm, Seq},
    },
    log::{Hardware, Mode, NodeId, NodeName, SessionName},
};

/// Most thoughts that one query returns. At the longest content that is 160 MiB, so callers ask for fewer.
pub const THOUGHTS_MAX: u32 = 10_000;

/// Which accepted thoughts are wanted; the newest that fit, told oldest first (by time, author and seq, so that every
/// node tells the same thoughts in the same order).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThoughtQuery {
    /// Of that session only.
    pub session: Option<SessionName>,
    /// Of that author only.
    pub author: Option<NodeId>,
    /// Whose time, as its author wrote it, is not before that.
    pub since: Option<Millis>,
    /// Whose content has all those words.
    pub search: Option<SearchWords>,
    /// At most so many, up to [`THOUGHTS_MAX`].
    pub limit: u32,
}

impl Default for ThoughtQuery {
    /// The last hundred.
    fn default() -> Self {
        Self { session: None, author: None, since: None, search: None, limit: 100 }
    }
}

/// Most bytes of a search.
pub const SEARCH_BYTES_MAX: usize = 256;
/// Most words of a search.
pub const SEARCH_WORDS_MAX: usize = 16;

/// Words to search for, all of which a content must have; whatever is typed is a word, and nothing is syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchWords(Vec<String>);

/// A search that can't be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchFault {
    /// There is no word in it.
    #[error("there is no word to search for")]
    Empty,
    /// It is too long.
    #[error("a search has at most {SEARCH_WORDS_MAX} words in {SEARCH_BYTES_MAX} bytes")]
    TooLong,
}

impl SearchWords {
    /// The words.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for SearchWords {
    type Err = SearchFault;

    fn from_str(text: &str) -> Result<Self, SearchFault> {
        let words: Vec<String> = text
            .split_whitespace()
            .filter(|word| word.chars().any(char::is_alphanumeric))
            .map(str::to_owned)
            .collect();
        if words.is_empty() {
            return Err(SearchFault::Empty);
        }
        if text.len() > SEARCH_BYTES_MAX || words.len() > SEARCH_WORDS_MAX {
            return Err(SearchFault::TooLong);
        }
        Ok(Self(words))
    }
}

/// An accepted thought as the corpus has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThoughtRow {
    /// Whose.
    pub author: NodeId,
    /// Its author's name, as the genesis entry says.
    pub name: NodeName,
    /// Its place in its author's log.
    pub seq: Seq,
    /// Its time, as its author wrote it.
    pub time: Millis,
    /// Its session.
    pub session: SessionName,
    /// Its mode.
    pub mode: Mode,
    /// Its text.
    pub content: String,
    /// Its coherence.
    pub coherence: Ppm,
    /// Its author's trust weight after it.
    pub weight: Ppm,
    /// What it earned.
    pub reward: MicroAtp,
    /// When this node got it: milliseconds since the Unix epoch.
    pub received: Millis,
}

/// How many thoughts earned and cost something in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Accepted ones that earned something.
    pub rewards: u64,
    /// Rejected ones.
    pub penalties: u64,
}

/// What a session needs of an accepted thought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionRow {
    pub(super) session: SessionName,
    pub(super) author: NodeId,
    pub(super) mode: Mode,
    pub(super) hardware: Hardware,
    pub(super) coherence: Ppm,
    pub(super) weight: Ppm,
}

/// See [`super::Store::sessions`].
pub(super) fn sessions(rows: &[SessionRow]) -> BTreeMap<String, Session> {
    // Each id is written out once, not once a thought.
    let authors: BTreeSet<NodeId> = rows.iter().map(|row| row.author).collect();
    let ids: BTreeMap<NodeId, String> = authors.into_iter().map(|id| (id, id.to_text())).collect();
    economy::sessions(rows.iter().filter_map(|row| {
        Some(SessionThought {
            session: row.session.as_str(),
            author: ids.get(&row.author)?,
            mode: row.mode.name(),
            hardware: row.hardware.name(),
            coherence: row.coherence,
            weight: row.weight,
        })
    }))
}
