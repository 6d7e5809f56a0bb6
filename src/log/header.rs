//! Headers: what an author signs about an entry, and the one way to write it in bytes.

use std::{fmt, str::FromStr};

use super::{
    entry::Hash,
    identity::NodeId,
    layout::{LayoutFault, Reader, put_short, sha256},
    name::{Architecture, NameFault, NodeName, SessionName},
    work::Nonce,
};
use crate::ledger::{
    coherence::{Features, measure},
    types::{Level, LevelOutOfRange, Millis, Ppm, Seq},
};

/// The signed part of an entry. Headers stay for ever; the contents that they name may be pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose log it belongs to.
    pub author: NodeId,
    /// Its place there, from 0.
    pub seq: Seq,
    /// The hash of the entry before it; zeros at the start.
    pub prev: Hash,
    /// When its author wrote it, since the Unix epoch.
    pub time: Millis,
    /// What it says.
    pub body: Body,
}

/// The two kinds of entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The first entry of a log, and only the first.
    Genesis(Genesis),
    /// Every other.
    Thought(Thought),
}

/// How an author introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// What it calls itself.
    pub name: NodeName,
    /// The hardware that it claims to hold its key in.
    pub hardware: Hardware,
    /// The capability level that it claims.
    pub level: Level,
    /// Its processor architecture.
    pub arch: Architecture,
    /// The proof of work for its key in this federation.
    pub nonce: Nonce,
}

/// A thought, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thought {
    /// The session that it belongs to.
    pub session: SessionName,
    /// What kind of thinking it is.
    pub mode: Mode,
    /// The SHA-256 of its content.
    pub content_hash: [u8; 32],
    /// The length of its content.
    pub content_bytes: u32,
    /// What the ledger needs to know of its content.
    pub features: Features,
}

impl Thought {
    /// The thought with this content: hashes and measures it.
    #[must_use]
    pub fn new(session: SessionName, mode: Mode, content: &str) -> Self {
        Self {
            session,
            mode,
            content_hash: sha256(&[content.as_bytes()]),
            // 4 GiB are 16,000 times what a frame holds; such a content fails its own check later.
            content_bytes: u32::try_from(content.len()).unwrap_or(u32::MAX),
            features: measure(content),
        }
    }
}

/// The longest header: 81 bytes before the body, and a thought's body with the longest session name (146 bytes; a genesis
/// entry's has at most 76). 1024 of them fill nine tenths of a frame of 256 KiB.
pub const HEADER_BYTES_MAX: usize = FIXED_BYTES + THOUGHT_BYTES_MAX;

/// Author, seq, prev, time, kind.
const FIXED_BYTES: usize = 32 + 8 + 32 + 8 + 1;
/// Session, mode, content hash and length, and the four features.
const THOUGHT_BYTES_MAX: usize = 1 + SessionName::BYTES_MAX + 1 + 32 + 4 + (4 + 4 + 4 + 32);
/// Name, hardware, level, architecture, nonce.
const GENESIS_BYTES_MAX: usize = 1 + NodeName::BYTES_MAX + 1 + 1 + 1 + Architecture::BYTES_MAX + 8;
const _: () = assert!(GENESIS_BYTES_MAX <= THOUGHT_BYTES_MAX);

const KIND_GENESIS: u8 = 0;
const KIND_THOUGHT: u8 = 1;

/// Bytes that are not a header. Whoever sent them could have seen it; nothing was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Too few bytes, or too many.
    #[error("not a header: {0}")]
    Layout(#[from] LayoutFault),
    /// A kind of entry that version 1 does not have.
    #[error("there is no kind of entry with number {0}")]
    Kind(u8),
    /// A hardware that version 1 does not have.
    #[error("there is no kind of hardware with number {0}")]
    Hardware(u8),
    /// A mode that version 1 does not have.
    #[error("there is no mode with number {0}")]
    Mode(u8),
    /// A level out of range.
    #[error(transparent)]
    Level(#[from] LevelOutOfRange),
    /// A name that breaks its rule.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// A ratio above 1.
    #[error("a diversity is at most 1, not {0}")]
    Diversity(Ppm),
}

impl Header {
    /// The bytes that are hashed, stored and sent: protocol.md, The log.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES_MAX);
        out.extend_from_slice(self.author.as_bytes());
        out.extend_from_slice(&self.seq.0.to_le_bytes());
        out.extend_from_slice(&self.prev.0);
        out.extend_from_slice(&self.time.0.to_le_bytes());
        match &self.body {
            Body::Genesis(genesis) => {
                out.push(KIND_GENESIS);
                genesis.put(&mut out);
            }
            Body::Thought(thought) => {
                out.push(KIND_THOUGHT);
                thought.put(&mut out);
            }
        }
        out
    }

    /// Reads what [`Self::to_bytes`] writes, and nothing else: whatever is read is written again as the same bytes.
    /// Whether the author's key is sound, and whether the entry stands where it may, a segment checks.
    ///
    /// # Errors
    /// A value is out of range, or a byte is missing or left over.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let mut reader = Reader::new(bytes);
        let header = Self {
            author: NodeId::from_stored(reader.array()?),
            seq: Seq(reader.u64()?),
            prev: Hash(reader.array()?),
            time: Millis(reader.u64()?),
            body: match reader.u8()? {
                KIND_GENESIS => Body::Genesis(Genesis::read(&mut reader)?),
                KIND_THOUGHT => Body::Thought(Thought::read(&mut reader)?),
                kind => return Err(HeaderFault::Kind(kind)),
            },
        };
        reader.finish()?;
        Ok(header)
    }
}

impl Genesis {
    fn put(&self, out: &mut Vec<u8>) {
        put_short(out, self.name.as_str());
        out.push(self.hardware.number());
        out.push(self.level.number());
        put_short(out, self.arch.as_str());
        out.extend_from_slice(&self.nonce.0.to_le_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, HeaderFault> {
        let name = NodeName::try_from(reader.short()?)?;
        let hardware = reader.u8()?;
        Ok(Self {
            name,
            hardware: Hardware::from_number(hardware).ok_or(HeaderFault::Hardware(hardware))?,
            level: Level::try_from(reader.u8()?)?,
            arch: Architecture::try_from(reader.short()?)?,
            nonce: Nonce(reader.u64()?),
        })
    }
}

impl Thought {
    fn put(&self, out: &mut Vec<u8>) {
        put_short(out, self.session.as_str());
        out.push(self.mode.number());
        out.extend_from_slice(&self.content_hash);
        out.extend_from_slice(&self.content_bytes.to_le_bytes());
        out.extend_from_slice(&self.features.chars.to_le_bytes());
        out.extend_from_slice(&self.features.concepts.to_le_bytes());
        out.extend_from_slice(&self.features.diversity.0.to_le_bytes());
        out.extend_from_slice(&self.features.fingerprint);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, HeaderFault> {
        let session = SessionName::try_from(reader.short()?)?;
        let mode = reader.u8()?;
        let thought = Self {
            session,
            mode: Mode::from_number(mode).ok_or(HeaderFault::Mode(mode))?,
            content_hash: reader.array()?,
            content_bytes: reader.u32()?,
            features: Features {
                chars: reader.u32()?,
                concepts: reader.u32()?,
                diversity: Ppm(reader.u32()?),
                fingerprint: reader.array()?,
            },
        };
        if thought.features.diversity > Ppm::ONE {
            return Err(HeaderFault::Diversity(thought.features.diversity));
        }
        Ok(thought)
    }
}

/// What an author says that it keeps its key in. A claim, unless the node that checked it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hardware {
    /// A file.
    Software,
    /// A TPM 2.0.
    Tpm2,
    /// ARM TrustZone.
    TrustZone,
}

/// A name that none of the known ones equals. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what}; known are {known}")]
pub struct UnknownName {
    /// What was meant.
    pub what: &'static str,
    /// The names that there are.
    pub known: &'static str,
}

impl Hardware {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Software, Self::Tpm2, Self::TrustZone];

    /// The name in commands, files and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Tpm2 => "tpm2",
            Self::TrustZone => "trustzone",
        }
    }

    /// The number in layouts.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Software => 0,
            Self::Tpm2 => 1,
            Self::TrustZone => 2,
        }
    }

    /// The hardware with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl FromStr for Hardware {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let unknown = UnknownName { what: "hardware", known: "software, tpm2, trustzone" };
        Self::ALL.into_iter().find(|hardware| hardware.name() == name).ok_or(unknown)
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What kind of thinking a thought is, as its author says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Looking for something new.
    Exploring,
    /// Asking.
    Questioning,
    /// Putting things together.
    Integrating,
    /// Checking what was said.
    Verifying,
    /// Seeing it another way.
    Reframing,
}

impl Mode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Exploring, Self::Questioning, Self::Integrating, Self::Verifying, Self::Reframing];

    /// The name in commands, files and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exploring => "exploring",
            Self::Questioning => "questioning",
            Self::Integrating => "integrating",
            Self::Verifying => "verifying",
            Self::Reframing => "reframing",
        }
    }

    /// The number in layouts.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Exploring => 0,
            Self::Questioning => 1,
            Self::Integrating => 2,
            Self::Verifying => 3,
            Self::Reframing => 4,
        }
    }

    /// The mode with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl FromStr for Mode {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let known = "exploring, questioning, integrating, verifying, reframing";
        let unknown = UnknownName { what: "mode", known };
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or(unknown)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_value() {
        for hardware in Hardware::ALL {
            assert_eq!(hardware.name().parse(), Ok(hardware));
            assert_eq!(Hardware::from_number(hardware.number()), Some(hardware));
        }
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
            assert_eq!(Mode::from_number(mode.number()), Some(mode));
        }
        assert_eq!(Mode::from_number(5), None);
        assert!("Exploring".parse::<Mode>().is_err());
    }

    #[test]
    fn the_longest_header_is_as_long_as_its_bound() {
        let session = SessionName::new(&"s".repeat(64)).unwrap();
        let longest = Header {
            author: NodeId::from_stored([1; 32]),
            seq: Seq(1),
            prev: Hash::ZERO,
            time: Millis(1),
            body: Body::Thought(Thought::new(session, Mode::Verifying, "x")),
        };
        assert_eq!(longest.to_bytes().len(), HEADER_BYTES_MAX);
        assert_eq!(HEADER_BYTES_MAX, 227);
    }
}
