//! Trace: what happened in order, a line for each input and effect of a core.

#![allow(clippy::wildcard_enum_match_arm, reason = "an onlooker takes notice of a few things")]

use std::{
    collections::hash_map::DefaultHasher,
    fmt::{Debug, Write as _},
    hash::{Hash as _, Hasher as _},
};

use cogmesh::{
    log::{Segment, books::Record},
    protocol::input::{Effect, Input},
};

use super::World;

/// Longer lines are cut.
const LINE_MAX: usize = 240;

#[derive(Default)]
pub(crate) enum Trace {
    /// Nobody looks.
    #[default]
    Off,
    /// Only whether two runs are the same is asked.
    Hashed(DefaultHasher),
    /// Every line is kept.
    Kept(Vec<String>),
}

impl World {
    /// What somebody outside does to the world.
    pub(crate) fn note_fate(&mut self, what: &impl Debug) {
        self.trace.fate(self.now, what);
    }
}

impl Trace {
    pub(crate) fn hashed() -> Self {
        Self::Hashed(DefaultHasher::new())
    }

    /// Of all lines so far.
    pub(crate) fn hash(&self) -> u64 {
        match self {
            Self::Off => 0,
            Self::Hashed(hasher) => hasher.finish(),
            Self::Kept(lines) => {
                let mut hasher = DefaultHasher::new();
                lines.iter().for_each(|line| line.hash(&mut hasher));
                hasher.finish()
            }
        }
    }

    pub(super) fn input(&mut self, at: u64, node: usize, input: &Input) {
        self.line(at, node, "<-", || match input {
            Input::Heard { link, segment } => format!("Heard {link:?} {}", segment_line(segment)),
            _ => shown(input),
        });
    }

    pub(super) fn effect(&mut self, at: u64, node: usize, effect: &Effect) {
        self.line(at, node, "->", || match effect {
            Effect::Publish { to, segment } => format!("Publish {to:?} {}", segment_line(segment)),
            Effect::Compare { link, segment } => format!("Compare {link:?} {}", segment_line(segment)),
            Effect::Store(records) => records.iter().map(record_line).collect::<Vec<_>>().join(", "),
            _ => shown(effect),
        });
    }

    fn fate(&mut self, at: u64, what: &impl Debug) {
        if !matches!(self, Self::Off) {
            self.keep(format!("{at:>7} ** {what:?}"));
        }
    }

    fn line(&mut self, at: u64, node: usize, way: &str, what: impl FnOnce() -> String) {
        if !matches!(self, Self::Off) {
            self.keep(format!("{at:>7} n{node} {way} {}", what()));
        }
    }

    fn keep(&mut self, line: String) {
        match self {
            Self::Off => {}
            Self::Hashed(hasher) => line.hash(hasher),
            Self::Kept(lines) => lines.push(line),
        }
    }
}

fn segment_line(segment: &Segment) -> String {
    format!("{} {}..={}", segment.author(), segment.first(), segment.last())
}

fn record_line(record: &Record) -> String {
    match record {
        Record::Entries { author, entries, book } => {
            format!("Store {author} {} entries through {}", entries.len(), book.seq())
        }
        _ => format!("Store {}", shown(record)),
    }
}

/// The beginning of what `{:?}` says.
fn shown(what: &impl Debug) -> String {
    let mut text = Short(String::new());
    // It fails where there is enough.
    let _enough = write!(text, "{what:?}");
    text.0
}

struct Short(String);

impl std::fmt::Write for Short {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        if self.0.len() > LINE_MAX {
            return Err(std::fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}
