//! Policy: the rules of a federation. Its bytes are part of the federation id, so nodes with different rules never mix.
//! One table of fields serves the bytes, the file form, the ranges and the first difference. Source: ledger.md, Policy.

use std::fmt::Write;

use super::types::{Level, MicroAtp, Millis, Ppm};

/// The rules of a federation. Every field is documented in `docs/ledger.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Leading zero bits of the proof of work.
    pub pow_bits: u8,
    /// Length of a rate window.
    pub rate_window_ms: Millis,
    /// Thoughts per window before multipliers.
    pub rate_base: u32,
    /// Below this coherence a thought is rejected.
    pub coherence_min_ppm: Ppm,
    /// Trust of a new author.
    pub trust_initial_ppm: Ppm,
    /// Added to it at `hardware_level_min` and above.
    pub trust_hardware_bonus_ppm: Ppm,
    /// Times coherence, for an accepted thought.
    pub trust_gain_ppm: Ppm,
    /// For a rejected one.
    pub trust_loss_ppm: Ppm,
    /// Added to trust to give the trust weight, at `hardware_level_min` and above.
    pub weight_hardware_bonus_ppm: Ppm,
    /// The capability level from which hardware counts.
    pub hardware_level_min: Level,
    /// Rate multiplier at that level.
    pub hardware_rate_ppm: Ppm,
    /// Days of silence before trust decays.
    pub decay_start_days: u32,
    /// Decay per unit of ln(1 + days past the start).
    pub decay_rate_ppm: Ppm,
    /// Trust never decays below this.
    pub decay_floor_ppm: Ppm,
    /// What a new author has.
    pub initial_balance: MicroAtp,
    /// Reward at the threshold.
    pub reward_base: MicroAtp,
    /// Reward at coherence 1.0.
    pub reward_max: MicroAtp,
    /// Below this coherence no reward.
    pub reward_threshold_ppm: Ppm,
    /// Most that an author earns in one UTC day.
    pub reward_day_max: MicroAtp,
    /// Penalty for exceeding the rate.
    pub penalty_rate: MicroAtp,
    /// Penalty for repeating oneself.
    pub penalty_spam: MicroAtp,
    /// Penalty for too little coherence.
    pub penalty_quality: MicroAtp,
    /// Rate bonus per 10 ATP above the initial balance (negative below it).
    pub atp_rate_bonus_ppm: Ppm,
    /// Lower bound of the ATP rate multiplier.
    pub multiplier_min_ppm: Ppm,
    /// Upper bound of the ATP rate multiplier.
    pub multiplier_max_ppm: Ppm,
    /// Below it the multiplier is `multiplier_min_ppm`.
    pub min_balance: MicroAtp,
    /// At or below it, after a penalty, the author is frozen.
    pub freeze_balance: MicroAtp,
    /// For this long after the entry that froze it.
    pub freeze_ms: Millis,
    /// How many of its last accepted thoughts an author may not repeat.
    pub duplicate_window: u16,
    /// Longest content, in bytes of UTF-8; a longer one is inadmissible.
    pub content_max_bytes: u32,
}

/// How many bytes a policy has.
pub const POLICY_BYTES: usize = 156;

/// Why a policy can't be used. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A value out of its range.
    #[error("`{field}` is {value}; it may be {min} to {max}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: i128,
        /// The least that it may be.
        min: i64,
        /// The most that it may be.
        max: i64,
    },
    /// Two values that don't go together.
    #[error("`{low}` is above `{high}`")]
    Crossed {
        /// The field that must not be larger.
        low: &'static str,
        /// The field that it must not exceed.
        high: &'static str,
    },
    /// A key of the file that is no field.
    #[error("unknown key `{}`", key.escape_debug())]
    UnknownKey {
        /// Which.
        key: String,
    },
    /// A value of the file that is no whole number.
    #[error("`{field}` must be a whole number")]
    NotANumber {
        /// Which field.
        field: &'static str,
    },
    /// The file is not TOML.
    #[error("not TOML: {what}")]
    NotToml {
        /// Where and why.
        what: String,
    },
    /// Too few or too many bytes.
    #[error("a policy has {POLICY_BYTES} bytes, not {bytes}")]
    Length {
        /// How many there were.
        bytes: usize,
    },
}

/// The first field in which two policies differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyDifference {
    /// Its name.
    pub field: &'static str,
    /// Its value here.
    pub ours: i64,
    /// Its value there.
    pub theirs: i64,
}

/// One field: its name, how many bytes it has, its range, and how it is read and set.
struct Field {
    name: &'static str,
    width: usize,
    min: i64,
    max: i64,
    get: fn(&Policy) -> i64,
    set: fn(&mut Policy, i64),
}

// The ranges keep every product of the fold far inside 128 bits and every division away from zero.
const PPM_MAX: i64 = 1_000_000;
const RATE_PPM_MAX: i64 = 1_000_000_000;
const COUNT_MAX: i64 = 4_294_967_295;
const MS_MAX: i64 = 4_000_000_000_000;
const ATP_MAX: i64 = 1_000_000_000_000_000;

macro_rules! field {
    ($name:ident, $width:literal, $min:expr, $max:expr, $read:expr, $write:expr) => {
        Field {
            name: stringify!($name),
            width: $width,
            min: $min,
            max: $max,
            get: |policy| {
                let read: fn(&Policy) -> i64 = $read;
                read(policy)
            },
            set: $write,
        }
    };
}

/// A field that is a ratio.
macro_rules! ppm {
    ($name:ident, $max:expr) => {
        field!($name, 4, 0, $max, |policy| i64::from(policy.$name.0), |policy, value| {
            policy.$name = Ppm(u32::try_from(value).unwrap_or(u32::MAX));
        })
    };
}

/// A field that is an amount.
macro_rules! atp {
    ($name:ident, $min:expr) => {
        field!($name, 8, $min, ATP_MAX, |policy| policy.$name.0, |policy, value| {
            policy.$name = MicroAtp(value);
        })
    };
}

/// A field that is a count.
macro_rules! count {
    ($name:ident, $min:expr, $max:expr) => {
        field!($name, 4, $min, $max, |policy| i64::from(policy.$name), |policy, value| {
            policy.$name = u32::try_from(value).unwrap_or(u32::MAX);
        })
    };
}

/// A field that is a time.
macro_rules! ms {
    ($name:ident, $min:expr) => {
        field!(
            $name,
            8,
            $min,
            MS_MAX,
            |policy| i64::try_from(policy.$name.0).unwrap_or(i64::MAX),
            |policy, value| policy.$name = Millis(u64::try_from(value).unwrap_or(0))
        )
    };
}

/// Every field, in the order of the specification, which is that of the bytes.
static FIELDS: [Field; 30] = [
    field!(pow_bits, 1, 0, 40, |policy| i64::from(policy.pow_bits), |policy, value| {
        policy.pow_bits = u8::try_from(value).unwrap_or(u8::MAX);
    }),
    ms!(rate_window_ms, 1),
    count!(rate_base, 0, COUNT_MAX),
    ppm!(coherence_min_ppm, PPM_MAX),
    ppm!(trust_initial_ppm, PPM_MAX),
    ppm!(trust_hardware_bonus_ppm, PPM_MAX),
    ppm!(trust_gain_ppm, PPM_MAX),
    ppm!(trust_loss_ppm, PPM_MAX),
    ppm!(weight_hardware_bonus_ppm, PPM_MAX),
    field!(
        hardware_level_min,
        1,
        1,
        5,
        |policy| i64::from(policy.hardware_level_min.number()),
        |policy, value| {
            if let Some(level) = u8::try_from(value).ok().and_then(|number| Level::try_from(number).ok()) {
                policy.hardware_level_min = level;
            }
        }
    ),
    ppm!(hardware_rate_ppm, RATE_PPM_MAX),
    count!(decay_start_days, 0, 36_500),
    ppm!(decay_rate_ppm, RATE_PPM_MAX),
    ppm!(decay_floor_ppm, PPM_MAX),
    atp!(initial_balance, -ATP_MAX),
    atp!(reward_base, 0),
    atp!(reward_max, 0),
    // Below 1.0, because the reward grows over what lies above it.
    ppm!(reward_threshold_ppm, PPM_MAX - 1),
    atp!(reward_day_max, 0),
    atp!(penalty_rate, 0),
    atp!(penalty_spam, 0),
    atp!(penalty_quality, 0),
    ppm!(atp_rate_bonus_ppm, RATE_PPM_MAX),
    ppm!(multiplier_min_ppm, RATE_PPM_MAX),
    ppm!(multiplier_max_ppm, RATE_PPM_MAX),
    atp!(min_balance, -ATP_MAX),
    atp!(freeze_balance, -ATP_MAX),
    ms!(freeze_ms, 0),
    field!(duplicate_window, 2, 0, 4_096, |policy| i64::from(policy.duplicate_window), |policy, value| {
        policy.duplicate_window = u16::try_from(value).unwrap_or(u16::MAX);
    }),
    count!(content_max_bytes, 1, 65_536),
];

impl Default for Policy {
    fn default() -> Self {
        Self {
            pow_bits: 20,
            rate_window_ms: Millis(60_000),
            rate_base: 10,
            coherence_min_ppm: Ppm(300_000),
            trust_initial_ppm: Ppm(100_000),
            trust_hardware_bonus_ppm: Ppm(200_000),
            trust_gain_ppm: Ppm(50_000),
            trust_loss_ppm: Ppm(150_000),
            weight_hardware_bonus_ppm: Ppm(300_000),
            hardware_level_min: Level::MAX,
            hardware_rate_ppm: Ppm(1_500_000),
            decay_start_days: 7,
            decay_rate_ppm: Ppm(100_000),
            decay_floor_ppm: Ppm(10_000),
            initial_balance: MicroAtp::from_atp(100),
            reward_base: MicroAtp::from_atp(1),
            reward_max: MicroAtp::from_atp(2),
            reward_threshold_ppm: Ppm(600_000),
            reward_day_max: MicroAtp::from_atp(100),
            penalty_rate: MicroAtp::from_atp(7),
            penalty_spam: MicroAtp::from_atp(5),
            penalty_quality: MicroAtp::from_atp(3),
            atp_rate_bonus_ppm: Ppm(100_000),
            multiplier_min_ppm: Ppm(100_000),
            multiplier_max_ppm: Ppm(3_000_000),
            min_balance: MicroAtp::ZERO,
            freeze_balance: MicroAtp::from_atp(-100),
            freeze_ms: Millis(86_400_000),
            duplicate_window: 256,
            content_max_bytes: 16_384,
        }
    }
}

impl Policy {
    /// Its bytes: every field in order, little-endian, of fixed width.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(POLICY_BYTES);
        for field in &FIELDS {
            let value = (field.get)(self).to_le_bytes();
            // A value within its range fits its width, so what is cut off is zeros (or the sign of a full width).
            bytes.extend(value.iter().take(field.width));
        }
        bytes
    }

    /// A policy from its bytes.
    ///
    /// # Errors
    /// Where their number is wrong, a value is out of range, or two don't go together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() != POLICY_BYTES {
            return Err(PolicyError::Length { bytes: bytes.len() });
        }
        let mut policy = Self::default();
        let mut rest = bytes;
        for field in &FIELDS {
            let (taken, after) = rest.split_at_checked(field.width).unwrap_or((&[], &[]));
            rest = after;
            let mut wide = [0; 8];
            wide.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
            field.put(&mut policy, i128::from(i64::from_le_bytes(wide)))?;
        }
        policy.go_together()?;
        Ok(policy)
    }

    /// A policy from its file form: TOML, amounts in micro-ATP; a missing key has its default.
    ///
    /// # Errors
    /// Where the text is not TOML, a key is unknown, or a value is no whole number within its range.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| PolicyError::NotToml { what: error.to_string() })?;
        let mut policy = Self::default();
        for (key, value) in &table {
            let field = FIELDS
                .iter()
                .find(|field| field.name == key)
                .ok_or_else(|| PolicyError::UnknownKey { key: key.clone() })?;
            let number = value.as_integer().ok_or(PolicyError::NotANumber { field: field.name })?;
            field.put(&mut policy, i128::from(number))?;
        }
        policy.go_together()?;
        Ok(policy)
    }

    /// Its file form, every key written out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        FIELDS.iter().fold(String::new(), |mut text, field| {
            // Writing to a string can't fail.
            let _infallible = writeln!(text, "{} = {}", field.name, (field.get)(self));
            text
        })
    }

    /// Checks every range.
    ///
    /// # Errors
    /// For the first value that is out of its range, or two that don't go together.
    pub fn validate(&self) -> Result<(), PolicyError> {
        for field in &FIELDS {
            field.check(i128::from((field.get)(self)))?;
        }
        self.go_together()
    }

    /// The first field, in order, in which the two differ.
    #[must_use]
    pub fn first_difference(&self, theirs: &Self) -> Option<PolicyDifference> {
        FIELDS.iter().find_map(|field| {
            let (ours, theirs) = ((field.get)(self), (field.get)(theirs));
            (ours != theirs).then_some(PolicyDifference { field: field.name, ours, theirs })
        })
    }

    const fn go_together(&self) -> Result<(), PolicyError> {
        if self.reward_base.0 > self.reward_max.0 {
            return Err(PolicyError::Crossed { low: "reward_base", high: "reward_max" });
        }
        if self.multiplier_min_ppm.0 > self.multiplier_max_ppm.0 {
            return Err(PolicyError::Crossed { low: "multiplier_min_ppm", high: "multiplier_max_ppm" });
        }
        Ok(())
    }
}

impl Field {
    fn check(&self, value: i128) -> Result<i64, PolicyError> {
        let error = PolicyError::OutOfRange { field: self.name, value, min: self.min, max: self.max };
        let fits = i64::try_from(value).ok().filter(|value| (self.min..=self.max).contains(value));
        fits.ok_or(error)
    }

    fn put(&self, policy: &mut Policy, value: i128) -> Result<(), PolicyError> {
        (self.set)(policy, self.check(value)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_byte_of_a_policy() {
        assert_eq!(FIELDS.iter().map(|field| field.width).sum::<usize>(), POLICY_BYTES);
        assert_eq!(Policy::default().to_bytes().len(), POLICY_BYTES);
        Policy::default().validate().unwrap();
    }

    #[test]
    fn bytes_and_file_form_give_the_policy_back() {
        let policy = Policy { rate_base: 77, freeze_balance: MicroAtp(-5), ..Policy::default() };
        assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap(), policy);
        assert_eq!(Policy::from_toml(&policy.to_toml()).unwrap(), policy);
    }

    #[test]
    fn a_missing_key_has_its_default_and_a_wrong_one_is_named() {
        let policy = Policy::from_toml("rate_base = 100").unwrap();
        assert_eq!(policy, Policy { rate_base: 100, ..Policy::default() });
        for (text, named) in [
            ("rate_bass = 1", "rate_bass"),
            ("rate_base = -1", "rate_base"),
            ("rate_base = 1.5", "rate_base"),
            ("pow_bits = 64", "pow_bits"),
            ("reward_base = 3_000_000", "reward_max"),
            ("rate_base", "TOML"),
        ] {
            let error = Policy::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_difference_is_named_with_both_values() {
        let theirs = Policy { rate_base: 100, penalty_spam: MicroAtp(1), ..Policy::default() };
        let difference = Policy::default().first_difference(&theirs).unwrap();
        assert_eq!(difference, PolicyDifference { field: "rate_base", ours: 10, theirs: 100 });
        assert_eq!(theirs.first_difference(&theirs), None);
    }
}
