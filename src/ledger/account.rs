//! An author's account: what its log has come to. Every node computes it for itself. Source: ledger.md, An author's account.

use std::collections::VecDeque;

use aws_lc_rs::digest;

use super::{
    coherence::sha256_bytes,
    layers,
    policy::Policy,
    types::{Level, MicroAtp, Millis, Ppm, Seq},
};

/// Milliseconds of a UTC day.
pub(super) const DAY_MS: u64 = 86_400_000;

/// What an author's log has come to after its last entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// From the genesis entry.
    pub level: Level,
    /// What the author has.
    pub balance: MicroAtp,
    /// How far the author is trusted.
    pub trust: Ppm,
    /// Of the last entry.
    pub seq: Seq,
    /// Of the last entry, as its author wrote it.
    pub time: Millis,
    /// When the current rate window opened.
    pub window_start: Millis,
    /// Thoughts in it so far, whatever their verdict.
    pub window_count: u32,
    /// How many it allows; set when it opened.
    pub window_limit: u32,
    /// The UTC day of `earned_today`, counted from the epoch.
    pub day: u64,
    /// Rewards of that day.
    pub earned_today: MicroAtp,
    /// All rewards.
    pub earned: MicroAtp,
    /// All penalties.
    pub lost: MicroAtp,
    /// Accepted thoughts.
    pub accepted: u64,
    /// Rejected thoughts.
    pub rejected: u64,
    /// Entries before this time are inadmissible.
    pub frozen_until: Millis,
    /// The first 8 bytes of the fingerprints of the last accepted thoughts, oldest first.
    pub recent: VecDeque<[u8; 8]>,
}

/// Why bytes are no account. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Too few bytes, or some left over.
    #[error("an account has another length than {bytes} bytes")]
    Length {
        /// How many there were.
        bytes: usize,
    },
    /// A level that is not 1 to 5, or more fingerprints than the policy keeps.
    #[error("an account holds a value out of its range")]
    OutOfRange,
}

impl Account {
    /// The account that a genesis entry of that level and time opens.
    #[must_use]
    pub fn open(policy: &Policy, level: Level, time: Millis) -> Self {
        let mut account = Self {
            level,
            balance: policy.initial_balance,
            trust: layers::hardware::initial_trust(policy, level),
            seq: Seq::GENESIS,
            time,
            window_start: time,
            window_count: 0,
            window_limit: 0,
            day: time.0 / DAY_MS,
            earned_today: MicroAtp::ZERO,
            earned: MicroAtp::ZERO,
            lost: MicroAtp::ZERO,
            accepted: 0,
            rejected: 0,
            frozen_until: Millis::ZERO,
            recent: VecDeque::new(),
        };
        account.window_limit = layers::trust_quota::limit(policy, &account);
        account
    }

    /// The trust weight: how much the author's thoughts count.
    #[must_use]
    pub fn weight(&self, policy: &Policy) -> Ppm {
        layers::hardware::weight(policy, self.level, self.trust)
    }

    /// Whether an entry of that time would be inadmissible because the account is frozen.
    #[must_use]
    pub fn is_frozen_at(&self, time: Millis) -> bool {
        time < self.frozen_until
    }

    /// Its bytes: every field in order, little-endian, then the fingerprints with their count.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.recent.len() * 8);
        bytes.push(self.level.number());
        bytes.extend(self.balance.0.to_le_bytes());
        bytes.extend(self.trust.0.to_le_bytes());
        bytes.extend(self.seq.0.to_le_bytes());
        bytes.extend(self.time.0.to_le_bytes());
        bytes.extend(self.window_start.0.to_le_bytes());
        bytes.extend(self.window_count.to_le_bytes());
        bytes.extend(self.window_limit.to_le_bytes());
        bytes.extend(self.day.to_le_bytes());
        bytes.extend(self.earned_today.0.to_le_bytes());
        bytes.extend(self.earned.0.to_le_bytes());
        bytes.extend(self.lost.0.to_le_bytes());
        bytes.extend(self.accepted.to_le_bytes());
        bytes.extend(self.rejected.to_le_bytes());
        bytes.extend(self.frozen_until.0.to_le_bytes());
        // At most `duplicate_window`, which is a u16.
        bytes.extend(u16::try_from(self.recent.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.recent.iter().for_each(|prefix| bytes.extend(prefix));
        bytes
    }

    /// An account from its bytes.
    ///
    /// # Errors
    /// Where the length is wrong or a value is out of its range.
    pub fn from_bytes(bytes: &[u8], policy: &Policy) -> Result<Self, AccountError> {
        let mut reader = Reader { rest: bytes, bytes: bytes.len() };
        let level = Level::try_from(reader.u8()?).map_err(|_| AccountError::OutOfRange)?;
        let mut account = Self {
            level,
            balance: MicroAtp(reader.i64()?),
            trust: Ppm(reader.u32()?),
            seq: Seq(reader.u64()?),
            time: Millis(reader.u64()?),
            window_start: Millis(reader.u64()?),
            window_count: reader.u32()?,
            window_limit: reader.u32()?,
            day: reader.u64()?,
            earned_today: MicroAtp(reader.i64()?),
            earned: MicroAtp(reader.i64()?),
            lost: MicroAtp(reader.i64()?),
            accepted: reader.u64()?,
            rejected: reader.u64()?,
            frozen_until: Millis(reader.u64()?),
            recent: VecDeque::new(),
        };
        let count = u16::from_le_bytes(reader.take()?);
        if count > policy.duplicate_window || account.trust > Ppm::ONE {
            return Err(AccountError::OutOfRange);
        }
        for _ in 0..count {
            account.recent.push_back(reader.take()?);
        }
        if reader.rest.is_empty() { Ok(account) } else { Err(reader.wrong_length()) }
    }

    /// SHA-256 of its bytes: two nodes that have the same one have the same account.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256_bytes(&digest::digest(&digest::SHA256, &self.to_bytes()))
    }
}

const FIXED_BYTES: usize = 1 + 8 + 4 + 3 * 8 + 2 * 4 + 4 * 8 + 3 * 8 + 2;

struct Reader<'a> {
    rest: &'a [u8],
    bytes: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], AccountError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.wrong_length())?;
        self.rest = rest;
        Ok(*taken)
    }

    const fn wrong_length(&self) -> AccountError {
        AccountError::Length { bytes: self.bytes }
    }

    fn u8(&mut self) -> Result<u8, AccountError> {
        Ok(u8::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, AccountError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, AccountError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn i64(&mut self) -> Result<i64, AccountError> {
        Ok(i64::from_le_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_give_the_account_back_and_nothing_else_does() {
        let policy = Policy::default();
        let mut account = Account::open(&policy, Level::MAX, Millis(1_767_945_600_000));
        account.recent.push_back([7; 8]);
        let bytes = account.to_bytes();
        assert_eq!(bytes.len(), FIXED_BYTES + 8);
        assert_eq!(Account::from_bytes(&bytes, &policy).unwrap(), account);
        for cut in 0..bytes.len() {
            assert!(Account::from_bytes(&bytes[..cut], &policy).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Account::from_bytes(&longer, &policy).is_err());
        let mut sixth_level = bytes;
        sixth_level[0] = 6;
        assert_eq!(Account::from_bytes(&sixth_level, &policy), Err(AccountError::OutOfRange));
    }
}
