//! Entries: a header with the bytes that it came in, its hash, and for a thought its content as long as that is kept.

use std::fmt;

use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::{federation::FederationId, identity::NodeId, layout::sha256};
pub use super::{
    header::{Body, Genesis, HEADER_BYTES_MAX, Hardware, Header, HeaderFault, Mode, Thought, UnknownName},
    layout::LayoutFault,
    name::{Architecture, SessionName},
};
use crate::ledger::{
    coherence::{Features, measure},
    types::Seq,
};

/// One entry of a log. The header's bytes are kept as they came, so that what is passed on is what was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    header: Header,
    bytes: Bytes,
    hash: Hash,
    content: Option<Bytes>,
}

/// Content that does not belong to its header. Nothing was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// A genesis entry has no content, but some came with it.
    #[error("a genesis entry has no content")]
    Unexpected,
    /// It is another content than the header names. Anyone could have attached it.
    #[error("the content is not the one that its header names")]
    Hash,
    /// It is the content that the author signed, and the author lied about its length.
    #[error("the content has {bytes} bytes, its header says {signed}")]
    Length {
        /// What the header says.
        signed: u32,
        /// What it is.
        bytes: usize,
    },
    /// It is the content that the author signed, and no text.
    #[error("the content is not UTF-8")]
    Utf8,
    /// It is the content that the author signed, and the author lied about what it is worth.
    #[error("the content's features are not those that its header says")]
    Features {
        /// What the header says.
        signed: Features,
        /// What they are.
        measured: Features,
    },
}

impl ContentFault {
    /// Whether the author signed what is not so: header and content then convict it, whoever sent them.
    #[must_use]
    pub const fn is_proof_against_author(&self) -> bool {
        match self {
            Self::Unexpected | Self::Hash => false,
            Self::Length { .. } | Self::Utf8 | Self::Features { .. } => true,
        }
    }
}

impl Entry {
    /// An entry of our own. `content` is that from which a thought's header was made; a genesis entry has none.
    #[must_use]
    pub fn new(federation: &FederationId, header: Header, content: Option<&str>) -> Self {
        let bytes = Bytes::from(header.to_bytes());
        let hash = Hash::of_header(federation, &bytes);
        let content = content.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        Self { header, bytes, hash, content }
    }

    /// An entry as it was sent or stored. Its content is not looked at (see [`Self::check_content`]).
    ///
    /// # Errors
    /// The bytes are not a header.
    pub fn parse(
        federation: &FederationId,
        header_bytes: Bytes,
        content: Option<Bytes>,
    ) -> Result<Self, HeaderFault> {
        let header = Header::parse(&header_bytes)?;
        let hash = Hash::of_header(federation, &header_bytes);
        Ok(Self { header, bytes: header_bytes, hash, content })
    }

    /// Checks the content against the header; there is nothing to check where it is not there.
    ///
    /// # Errors
    /// It does not belong to the header, or the header lies about it.
    pub fn check_content(&self) -> Result<(), ContentFault> {
        let Some(content) = &self.content else {
            return Ok(());
        };
        match &self.header.body {
            Body::Genesis(_) => Err(ContentFault::Unexpected),
            Body::Thought(thought) => thought.check(content),
        }
    }

    /// Whether those bytes are the content that the header names; what the header says of them is not looked at.
    #[must_use]
    pub fn is_content(&self, content: &[u8]) -> bool {
        match &self.header.body {
            Body::Genesis(_) => false,
            Body::Thought(thought) => sha256(&[content]) == thought.content_hash,
        }
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The header's bytes, as they were hashed.
    #[must_use]
    pub const fn header_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The hash by which the next entry and the head name this one.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// The content; none for a genesis entry, and where it was pruned.
    #[must_use]
    pub const fn content(&self) -> Option<&Bytes> {
        self.content.as_ref()
    }

    /// The content as text; none where there is no content, or where it is no text (which its check says).
    #[must_use]
    pub fn content_text(&self) -> Option<&str> {
        str::from_utf8(self.content.as_ref()?).ok()
    }

    /// Lets go of the content.
    pub(super) fn strip(&mut self) {
        self.content = None;
    }

    /// Puts a content beside the header; whether it belongs there is not looked at.
    pub(super) fn put_content(&mut self, content: Bytes) {
        self.content = Some(content);
    }

    /// Whose log it belongs to.
    #[must_use]
    pub const fn author(&self) -> NodeId {
        self.header.author
    }

    /// Its place there.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.header.seq
    }

    /// Bytes of header and content.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len() + self.content.as_ref().map_or(0, Bytes::len)
    }
}

impl Thought {
    /// The hash comes first: until it fits, a wrong length or feature says nothing about the author.
    fn check(&self, content: &[u8]) -> Result<(), ContentFault> {
        if sha256(&[content]) != self.content_hash {
            return Err(ContentFault::Hash);
        }
        let bytes = content.len();
        if u32::try_from(bytes) != Ok(self.content_bytes) {
            return Err(ContentFault::Length { signed: self.content_bytes, bytes });
        }
        let text = str::from_utf8(content).map_err(|_| ContentFault::Utf8)?;
        let measured = measure(text);
        if measured != self.features {
            return Err(ContentFault::Features { signed: self.features, measured });
        }
        Ok(())
    }
}

/// The hash of an entry: its name within the federation, and through `prev` the seal on all before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What a genesis entry has for the hash of the entry before it.
    pub const ZERO: Self = Self([0; 32]);

    fn of_header(federation: &FederationId, header_bytes: &[u8]) -> Self {
        Self(sha256(&[b"cogmesh entry v1\0", &federation.0, header_bytes]))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::types::{Level, Millis, Ppm},
        log::{name::NodeName, work::Nonce},
    };

    const FEDERATION: FederationId = FederationId([5; 32]);
    const CONTENT: &str = "networks remember what their members forget";

    fn thought(change: impl FnOnce(&mut Thought)) -> Header {
        let mut thought = Thought::new("main".parse().unwrap(), Mode::Exploring, CONTENT);
        change(&mut thought);
        Header {
            author: NodeId::from_stored([1; 32]),
            seq: Seq(1),
            prev: Hash([2; 32]),
            time: Millis(3),
            body: Body::Thought(thought),
        }
    }

    fn check(header: &Header, content: &[u8]) -> Result<(), ContentFault> {
        let bytes = Bytes::from(header.to_bytes());
        let entry = Entry::parse(&FEDERATION, bytes, Some(Bytes::copy_from_slice(content))).unwrap();
        entry.check_content()
    }

    #[test]
    fn an_entry_that_was_sent_is_the_one_that_was_written() {
        let own = Entry::new(&FEDERATION, thought(|_| {}), Some(CONTENT));
        let sent = Entry::parse(&FEDERATION, own.header_bytes().clone(), own.content().cloned()).unwrap();
        assert_eq!(own, sent);
        assert_eq!(sent.content_text(), Some(CONTENT));
        assert_eq!(sent.check_content(), Ok(()));

        let pruned = Entry::parse(&FEDERATION, own.header_bytes().clone(), None).unwrap();
        assert_eq!(pruned.hash(), own.hash());
        assert_eq!(pruned.check_content(), Ok(()));
    }

    #[test]
    fn a_header_that_lies_about_its_content_is_proof_against_its_author() {
        let longer = check(&thought(|t| t.content_bytes += 1), CONTENT.as_bytes());
        assert_eq!(longer, Err(ContentFault::Length { signed: 44, bytes: 43 }));

        let measured = measure(CONTENT);
        let signed = Features { diversity: Ppm(1), ..measured };
        let better = check(&thought(|t| t.features = signed), CONTENT.as_bytes());
        assert_eq!(better, Err(ContentFault::Features { signed, measured }));

        let noise = [0xff, 0xfe];
        let unreadable =
            check(&thought(|t| (t.content_hash, t.content_bytes) = (sha256(&[&noise]), 2)), &noise);
        assert_eq!(unreadable, Err(ContentFault::Utf8));
        for fault in [longer, better, unreadable] {
            assert!(fault.unwrap_err().is_proof_against_author());
        }
    }

    #[test]
    fn a_content_that_somebody_swapped_is_no_proof_against_the_author() {
        let swapped = check(&thought(|_| {}), b"something else").unwrap_err();
        assert_eq!(swapped, ContentFault::Hash);
        assert!(!swapped.is_proof_against_author());

        let genesis = Genesis {
            name: NodeName::new("legion").unwrap(),
            hardware: Hardware::Software,
            level: Level::MAX,
            arch: Architecture::new("x86_64").unwrap(),
            nonce: Nonce(0),
        };
        let header = Header { seq: Seq::GENESIS, body: Body::Genesis(genesis), ..thought(|_| {}) };
        let attached = check(&header, b"x").unwrap_err();
        assert_eq!(attached, ContentFault::Unexpected);
        assert!(!attached.is_proof_against_author());
    }
}
