//! The keys that submitters gave: a repetition gets the first answer and records nothing.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    ledger::types::Seq,
    log::books::{Recorded, SUBMISSION_KEYS_MAX},
};

/// The submission keys that are remembered: so many, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_key: BTreeMap<String, Known>,
    by_age: VecDeque<String>,
}

/// What is known of a key.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// It waits for the disk, as that entry.
    Waiting(Seq),
    /// It was answered.
    Stored(Recorded),
}

impl Keys {
    pub(super) fn load(submissions: Vec<(String, Recorded)>) -> Self {
        let mut keys = Self::default();
        for (key, recorded) in submissions {
            keys.insert(key, Known::Stored(recorded));
        }
        keys
    }

    pub(super) fn find(&self, key: &str) -> Option<Known> {
        self.by_key.get(key).cloned()
    }

    pub(super) fn insert(&mut self, key: String, known: Known) {
        if self.by_key.insert(key.clone(), known).is_none() {
            self.by_age.push_back(key);
        }
        if self.by_age.len() > SUBMISSION_KEYS_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.by_key.remove(&oldest);
        }
    }

    /// What waited with that key is not answered in this process: a repetition begins anew.
    pub(super) fn forget(&mut self, key: &str) {
        self.by_key.remove(key);
        self.by_age.retain(|known| known != key);
    }
}
