//! The quantities of the ledger, each a type of its own, so that no two can be mixed up.
//! This is the only place with raw integers; everything else of the ledger names what it counts.

use std::fmt;

/// An amount of ATP in millionths (1 ATP = 1,000,000). May be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroAtp(pub i64);

impl MicroAtp {
    /// No ATP at all.
    pub const ZERO: Self = Self(0);

    /// That many whole ATP.
    #[must_use]
    pub const fn from_atp(atp: i32) -> Self {
        // An i32 times a million always fits an i64.
        Self(atp as i64 * 1_000_000)
    }

    /// The sum, kept within the range of an `i64`. A balance moves by a few ATP an entry, so that bound
    /// is out of reach of any log that could be written; saturating only makes "no input overflows" plain.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, kept within the range of an `i64` (see [`Self::saturating_add`]).
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for MicroAtp {
    /// Whole ATP with six decimals, exact: `-3.000000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:06}", magnitude / 1_000_000, magnitude % 1_000_000)
    }
}

/// A ratio in parts per million: 1,000,000 is the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ppm(pub u32);

impl Ppm {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole.
    pub const ONE: Self = Self(1_000_000);
}

impl fmt::Display for Ppm {
    /// A decimal with six places: `0.300000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Milliseconds: since the Unix epoch, or of a duration; the field's name says which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The start of time, and a duration of nothing.
    pub const ZERO: Self = Self(0);

    /// How long after `earlier` this is; nothing where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// That much later, at most the end of time.
    #[must_use]
    pub const fn plus(self, duration: Self) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}

/// The place of an entry in its author's log; the genesis entry is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The genesis entry's.
    pub const GENESIS: Self = Self(0);

    /// The one after this; the last one stays the last.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The capability level of an author's hardware: 1 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

/// A level that is not 1 to 5. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a capability level is 1 to 5, not {0}")]
pub struct LevelOutOfRange(pub u8);

impl Level {
    /// The lowest.
    pub const MIN: Self = Self(1);
    /// The highest.
    pub const MAX: Self = Self(5);

    /// The number, 1 to 5.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Level {
    type Error = LevelOutOfRange;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            1..=5 => Ok(Self(number)),
            _ => Err(LevelOutOfRange(number)),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
