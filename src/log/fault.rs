//! Faults that can be proved: an author that signed two histories, or a header that lies about its content. A proof convinces
//! whoever reads it, whoever passed it on; and it says where the author's log ends: before the first entry that is at fault.
//! Source: protocol.md, Faults that can be proved.

use bytes::Bytes;

use super::{
    entry::{Body, Entry, HEADER_BYTES_MAX, Hash, HeaderFault},
    federation::FederationId,
    head::Head,
    identity::{BadSignature, KeyFault, NodeId, Signature},
    layout::{LayoutFault, Reader},
    segment::{Rules, SEGMENT_ENTRIES_MAX, Segment, SegmentFault, Verified},
};
use crate::ledger::types::Seq;

/// The longest proof: two segments of bare headers, or one and a content that would fill a frame.
pub const PROOF_BYTES_MAX: usize = 1 + 8 + SEGMENT_BYTES_MAX + 4 + CONTENT_BYTES_MAX;
const SEGMENT_BYTES_MAX: usize = 2 + SEGMENT_ENTRIES_MAX * (2 + HEADER_BYTES_MAX) + 64;
/// A content that would fill a frame; what a policy allows is checked with the proof.
const CONTENT_BYTES_MAX: usize = 1 << 18;
const _: () = assert!(SEGMENT_BYTES_MAX <= 4 + CONTENT_BYTES_MAX);

/// What an author did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// It signed two different entries with one seq.
    Fork,
    /// It signed a header whose features or length are not those of the content with its hash.
    FalseHeader,
}

impl FaultKind {
    /// Its name in logs, the store and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::FalseHeader => "false_header",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fork, Self::FalseHeader].into_iter().find(|kind| kind.name() == name)
    }
}

/// What convicts an author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    cut: Seq,
    /// Bare entries through a signed head, the one at the cut among them.
    cover: Segment,
    against: Against,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Against {
    /// Entries that are the same before the cut and others from it on.
    Fork(Segment),
    /// The content of the entry at the cut.
    FalseHeader(Bytes),
}

/// Why bytes prove nothing. Whoever sent them could have seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// Too few bytes, or too many.
    #[error("not a proof: {0}")]
    Layout(#[from] LayoutFault),
    /// An entry's header that is none.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// Entries that are no segment.
    #[error(transparent)]
    Segment(#[from] SegmentFault),
    /// A key that no node may have.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// A head that the author did not sign.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// A kind of proof that this version does not know.
    #[error("there is no kind of proof with number {0}")]
    Kind(u8),
    /// The entries don't contradict each other, or not first where it is said, or the content fits its header.
    #[error("what is shown against {0} does not convict it")]
    Nothing(NodeId),
}

/// How a peer's entries compare with ours of the same author, from the first of them on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// They follow another entry than ours do: the difference lies before them.
    Before,
    /// The first that differs.
    At(Seq),
    /// As far as both go they are the same.
    None,
}

/// Compares a peer's entries with ours. `ours` begins with the entry before their first, where there is one.
#[must_use]
pub fn difference(ours: &[Entry], theirs: &[Entry]) -> Difference {
    let Some(first) = theirs.first() else { return Difference::None };
    let before = ours.iter().find(|entry| entry.seq().0.checked_add(1) == Some(first.seq().0));
    if before.is_some_and(|before| before.hash() != first.header().prev) {
        return Difference::Before;
    }
    let same_place = ours.iter().skip_while(|entry| entry.seq() < first.seq());
    let differs = same_place.zip(theirs).find(|(ours, theirs)| ours.hash() != theirs.hash());
    differs.map_or(Difference::None, |(ours, _)| Difference::At(ours.seq()))
}

impl Proof {
    /// Two histories of one author, where they part within both segments. The first becomes the cover.
    #[must_use]
    pub fn fork(cover: Segment, other: Segment) -> Option<Self> {
        let cut = parting(&cover, &other)?;
        Some(Self { cut, cover: cover.bare(), against: Against::Fork(other.bare()) })
    }

    /// A segment whose head is signed and whose entry at that place lies about its content.
    pub(super) fn false_header(segment: Segment, seq: Seq, rules: &Rules) -> Option<Verified<Self>> {
        let content = segment.entry_at(seq)?.content()?.clone();
        let proof = Self { cut: seq, cover: segment.bare(), against: Against::FalseHeader(content) };
        proof.verify(rules).ok()
    }

    /// Checks that it convicts its author.
    ///
    /// # Errors
    /// It does not; see [`ProofFault`].
    pub fn verify(self, rules: &Rules) -> Result<Verified<Self>, ProofFault> {
        let author = self.author();
        NodeId::from_key(*author.as_bytes())?;
        let holds = match &self.against {
            Against::Fork(other) => {
                other.head().verify(&rules.federation)?;
                other.author() == author && parting(&self.cover, other) == Some(self.cut)
            }
            Against::FalseHeader(content) => self.lies_about(content, rules),
        };
        self.cover.head().verify(&rules.federation)?;
        if holds { Ok(Verified::checked(self)) } else { Err(ProofFault::Nothing(author)) }
    }

    fn lies_about(&self, content: &Bytes, rules: &Rules) -> bool {
        let fits = usize::try_from(rules.content_bytes_max).is_ok_and(|max| content.len() <= max);
        let Some(entry) = self.cover.entry_at(self.cut).filter(|_| fits) else { return false };
        let mut entry = entry.clone();
        entry.put_content(content.clone());
        entry.check_content().is_err_and(|fault| fault.is_proof_against_author())
    }

    /// Whom it convicts.
    #[must_use]
    pub const fn author(&self) -> NodeId {
        self.cover.author()
    }

    /// The first entry at fault: the log ends before it.
    #[must_use]
    pub const fn cut(&self) -> Seq {
        self.cut
    }

    /// What was done.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self.against {
            Against::Fork(_) => FaultKind::Fork,
            Against::FalseHeader(_) => FaultKind::FalseHeader,
        }
    }

    /// The hashes of the two entries at the cut; of a false header, its hash and that of its content.
    #[must_use]
    pub fn hashes(&self) -> (Hash, Hash) {
        let at_cut = |segment: &Segment| segment.entry_at(self.cut).map_or(Hash::ZERO, Entry::hash);
        let second = match &self.against {
            Against::Fork(other) => at_cut(other),
            Against::FalseHeader(_) => {
                match self.cover.entry_at(self.cut).map(|entry| &entry.header().body) {
                    Some(Body::Thought(thought)) => Hash(thought.content_hash),
                    Some(Body::Genesis(_)) | None => Hash::ZERO,
                }
            }
        };
        (at_cut(&self.cover), second)
    }

    /// About what it takes in memory.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.cover.byte_len().saturating_add(match &self.against {
            Against::Fork(other) => other.byte_len(),
            Against::FalseHeader(content) => content.len(),
        })
    }

    /// Bare entries through a signed head, the one at the cut among them.
    #[must_use]
    pub const fn cover(&self) -> &Segment {
        &self.cover
    }

    /// The bytes that are stored and sent: kind u8 (0 fork, 1 false header) ‖ cut u64 ‖ segment ‖ the other segment, or the content with its
    /// length as u32. A segment: number of entries u16 ‖ each: length u16 ‖ header ‖ the signature of the last one's head (64).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let kind: u8 = match self.against {
            Against::Fork(_) => 0,
            Against::FalseHeader(_) => 1,
        };
        let mut out = vec![kind];
        out.extend_from_slice(&self.cut.0.to_le_bytes());
        put_segment(&mut out, &self.cover);
        match &self.against {
            Against::Fork(other) => put_segment(&mut out, other),
            Against::FalseHeader(content) => {
                // A content fits a frame.
                out.extend_from_slice(&(content.len() as u32).to_le_bytes());
                out.extend_from_slice(content);
            }
        }
        out
    }

    /// Reads what [`Self::to_bytes`] writes, and nothing else. What it proves is not looked at.
    ///
    /// # Errors
    /// A value is out of range, or a byte is missing or left over.
    pub fn parse(bytes: &[u8], federation: &FederationId) -> Result<Self, ProofFault> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        let cut = Seq(reader.u64()?);
        let cover = read_segment(&mut reader, federation)?;
        let against = match kind {
            0 => Against::Fork(read_segment(&mut reader, federation)?),
            1 => {
                let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
                Against::FalseHeader(Bytes::copy_from_slice(reader.take(length)?))
            }
            kind => return Err(ProofFault::Kind(kind)),
        };
        reader.finish()?;
        Ok(Self { cut, cover, against })
    }
}

/// The first seq at which two segments of one author differ, where both have it and follow the same entry there.
fn parting(one: &Segment, other: &Segment) -> Option<Seq> {
    if one.author() != other.author() {
        return None;
    }
    let first = one.first().max(other.first());
    let from = |segment: &'_ Segment| {
        let skipped = first.0.saturating_sub(segment.first().0);
        usize::try_from(skipped).unwrap_or(usize::MAX)
    };
    let pairs = one.entries().iter().skip(from(one)).zip(other.entries().iter().skip(from(other)));
    let (one, other) = pairs.into_iter().find(|(one, other)| one.hash() != other.hash())?;
    (one.seq() == other.seq() && one.header().prev == other.header().prev).then_some(one.seq())
}

/// The bytes of bare entries and their head, as a store keeps them.
#[must_use]
pub fn cover_bytes(cover: &Segment) -> Vec<u8> {
    let mut out = vec![];
    put_segment(&mut out, cover);
    out
}

/// Reads what [`cover_bytes`] writes, and nothing else.
///
/// # Errors
/// A byte is missing or left over, or they are no segment.
pub fn parse_cover(bytes: &[u8], federation: &FederationId) -> Result<Segment, ProofFault> {
    let mut reader = Reader::new(bytes);
    let cover = read_segment(&mut reader, federation)?;
    reader.finish()?;
    Ok(cover)
}

fn put_segment(out: &mut Vec<u8>, segment: &Segment) {
    // At most SEGMENT_ENTRIES_MAX entries of at most HEADER_BYTES_MAX bytes.
    out.extend_from_slice(&(segment.entries().len() as u16).to_le_bytes());
    for entry in segment.entries() {
        out.extend_from_slice(&(entry.header_bytes().len() as u16).to_le_bytes());
        out.extend_from_slice(entry.header_bytes());
    }
    out.extend_from_slice(&segment.head().signature.0);
}

fn read_segment(reader: &mut Reader<'_>, federation: &FederationId) -> Result<Segment, ProofFault> {
    let count = usize::from(reader.u16()?);
    if count > SEGMENT_ENTRIES_MAX {
        return Err(SegmentFault::TooMany { entries: count }.into());
    }
    let mut entries = vec![];
    for _ in 0..count {
        let length = usize::from(reader.u16()?);
        let header = Bytes::copy_from_slice(reader.take(length)?);
        entries.push(Entry::parse(federation, header, None)?);
    }
    let signature = Signature(reader.array()?);
    let last = entries.last().ok_or(SegmentFault::Empty)?;
    let head = Head { author: last.author(), seq: last.seq(), hash: last.hash(), signature };
    Ok(Segment::new(entries, head)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{
            coherence::measure,
            types::{Level, Millis, Ppm},
        },
        log::{Genesis, Hardware, Header, Identity, Mode, Nonce, Thought},
    };

    const FEDERATION: FederationId = FederationId([5; 32]);
    const RULES: Rules = Rules { federation: FEDERATION, pow_bits: 0, content_bytes_max: 16_384 };

    fn identity() -> Identity {
        Identity::from_seed(&[7; 32]).unwrap()
    }

    fn genesis() -> Entry {
        let genesis = Genesis {
            name: "legion".parse().unwrap(),
            hardware: Hardware::Software,
            level: Level::MAX,
            arch: "x86_64".parse().unwrap(),
            nonce: Nonce(0),
        };
        let header = Header {
            author: identity().node_id(),
            seq: Seq::GENESIS,
            prev: Hash::ZERO,
            time: Millis(1),
            body: Body::Genesis(genesis),
        };
        Entry::new(&FEDERATION, header, None)
    }

    fn next(before: &Entry, content: &str, change: impl FnOnce(&mut Thought)) -> Entry {
        let mut thought = Thought::new("main".parse().unwrap(), Mode::Exploring, content);
        change(&mut thought);
        let header = Header {
            author: before.author(),
            seq: before.seq().next(),
            prev: before.hash(),
            time: Millis(2),
            body: Body::Thought(thought),
        };
        Entry::new(&FEDERATION, header, Some(content))
    }

    fn log(contents: &[&str]) -> Vec<Entry> {
        let mut log = vec![genesis()];
        for content in contents {
            log.push(next(log.last().unwrap(), content, |_| {}));
        }
        log
    }

    fn segment(entries: &[Entry]) -> Segment {
        Segment::own(entries.to_vec(), &identity(), &FEDERATION).unwrap().into_inner()
    }

    #[test]
    fn two_histories_convict_their_author_where_they_part_and_nowhere_else() {
        let (one, other) = (log(&["a", "b", "c", "d"]), log(&["a", "b", "x", "y", "z"]));
        let proof = Proof::fork(segment(&one[1..]), segment(&other[2..5])).unwrap();
        assert_eq!((proof.cut(), proof.kind()), (Seq(3), FaultKind::Fork));
        assert_eq!(proof.hashes(), (one[3].hash(), other[3].hash()));
        assert!(proof.cover().entries().iter().all(|entry| entry.content().is_none()));
        let bytes = proof.to_bytes();
        assert!(bytes.len() <= PROOF_BYTES_MAX);
        let read = Proof::parse(&bytes, &FEDERATION).unwrap();
        assert_eq!(read, proof);
        assert!(read.verify(&RULES).is_ok());

        let elsewhere = Rules { federation: FederationId([6; 32]), ..RULES };
        assert!(Proof::fork(segment(&one[1..]), segment(&other[2..5])).unwrap().verify(&elsewhere).is_err());
        assert_eq!(Proof::fork(segment(&one), segment(&one[..3])), None, "one history");
        assert_eq!(Proof::fork(segment(&one[4..]), segment(&other[4..])), None, "they part before that");
    }

    #[test]
    fn a_proof_that_names_another_place_is_none() {
        let (one, other) = (log(&["a", "b", "c"]), log(&["a", "x", "y"]));
        let proof = Proof::fork(segment(&one), segment(&other)).unwrap();
        assert_eq!(proof.cut(), Seq(2));
        let mut bytes = proof.to_bytes();
        bytes[1] = 3;
        let moved = Proof::parse(&bytes, &FEDERATION).unwrap();
        assert_eq!(moved.verify(&RULES).unwrap_err(), ProofFault::Nothing(identity().node_id()));
        bytes.push(0);
        assert_eq!(Proof::parse(&bytes, &FEDERATION), Err(LayoutFault::LeftOver { bytes: 1 }.into()));
        assert_eq!(Proof::parse(&[9; 9], &FEDERATION), Err(LayoutFault::Short { missing: 2 }.into()));
    }

    #[test]
    fn a_forged_signature_convicts_nobody() {
        let (one, other) = (log(&["a", "b"]), log(&["a", "x"]));
        let mut bytes = Proof::fork(segment(&one), segment(&other)).unwrap().to_bytes();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let forged = Proof::parse(&bytes, &FEDERATION).unwrap();
        assert!(matches!(forged.verify(&RULES), Err(ProofFault::Signature(_))));
    }

    #[test]
    fn a_header_that_lies_convicts_its_author_and_an_honest_one_does_not() {
        let mut log = log(&["a"]);
        log.push(next(&log[1], "two words", |thought| thought.features.diversity = Ppm(1)));
        let fault = segment(&log[1..]).verify_or_convict(&RULES).unwrap_err();
        let proof = fault.proof.unwrap().into_inner();
        assert_eq!((proof.cut(), proof.kind()), (Seq(2), FaultKind::FalseHeader));
        assert_eq!(
            Proof::parse(&proof.to_bytes(), &FEDERATION).unwrap().verify(&RULES).unwrap().get(),
            &proof
        );

        let honest = [log[1].clone(), next(&log[1], "two words", |_| {})];
        assert_ne!(measure("two words").diversity, Ppm(1));
        assert_eq!(Proof::false_header(segment(&honest), Seq(2), &RULES), None);
    }

    #[test]
    fn a_cover_is_read_back_as_it_was_written() {
        let cover = segment(&log(&["a", "b"])).bare();
        assert_eq!(parse_cover(&cover_bytes(&cover), &FEDERATION), Ok(cover));
    }

    #[test]
    fn a_difference_is_found_before_within_or_not_at_all() {
        let (one, other) = (log(&["a", "b", "c", "d"]), log(&["a", "b", "x", "y"]));
        assert_eq!(difference(&one[1..], &other[2..]), Difference::At(Seq(3)));
        assert_eq!(difference(&one[3..], &other[4..]), Difference::Before);
        assert_eq!(difference(&one[..3], &other[1..3]), Difference::None);
        assert_eq!(difference(&one, &other), Difference::At(Seq(3)));
    }
}
