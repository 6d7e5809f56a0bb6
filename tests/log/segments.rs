//! What is no segment, which segments are refused, and whom a refused one convicts.

use std::collections::BTreeSet;

use bytes::Bytes;
use cogmesh::{
    ledger::types::Seq,
    log::{
        Body, Entry, FederationId, Hash, Head, Header, Identity, NodeId, Rules, Segment, Signature,
        entry::ContentFault,
        identity::BadSignature,
        segment::{SEGMENT_ENTRIES_MAX, SegmentFault},
    },
};

use super::{federation, identity, rules, worked_genesis, worked_log, worked_segment};

/// Every bit that travels: of each header, each content, and of the head's fields.
#[test]
fn a_changed_bit_anywhere_in_a_segment_is_refused() {
    let (entries, head) = worked_segment().into_parts();
    let check = |parts: Option<(Vec<Entry>, Head)>| -> bool {
        let Some((entries, head)) = parts else {
            return false;
        };
        Segment::new(entries, head).is_ok_and(|segment| segment.verify(&rules()).is_ok())
    };
    assert!(check(Some((entries.clone(), head))));

    let mut tried = 0_usize;
    for (at, entry) in entries.iter().enumerate() {
        let with = |header: Bytes, content: Option<Bytes>| {
            let mut changed = entries.clone();
            changed[at] = Entry::parse(&federation(), header, content).ok()?;
            Some((changed, head))
        };
        for header in flipped(entry.header_bytes()) {
            assert!(!check(with(header.into(), entry.content().cloned())));
            tried += 1;
        }
        for content in entry.content().into_iter().flat_map(|content| flipped(content)) {
            assert!(!check(with(entry.header_bytes().clone(), Some(content.into()))));
            tried += 1;
        }
    }
    let fields = [head.author.as_bytes(), &head.seq.0.to_le_bytes()[..], &head.hash.0, &head.signature.0];
    for bytes in flipped(&fields.concat()) {
        let changed = Head {
            author: NodeId::from_stored(bytes[..32].try_into().unwrap()),
            seq: Seq(u64::from_le_bytes(bytes[32..40].try_into().unwrap())),
            hash: Hash(bytes[40..72].try_into().unwrap()),
            signature: Signature(bytes[72..].try_into().unwrap()),
        };
        assert!(!check(Some((entries.clone(), changed))));
        tried += 1;
    }
    assert_eq!(tried, worked_segment().byte_len() * 8);
}

fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

#[test]
fn entries_that_do_not_follow_each_other_are_no_segment() {
    let (entries, head) = worked_segment().into_parts();
    let build = |entries: Vec<Entry>| Segment::new(entries, head).map(|_| ());
    assert_eq!(build(vec![]), Err(SegmentFault::Empty));
    let mut gap = entries.clone();
    gap.remove(1);
    assert_eq!(build(gap), Err(SegmentFault::Gap { before: Seq(0), found: Seq(2) }));
    let cut = entries[..3].to_vec();
    assert_eq!(build(cut), Err(SegmentFault::Head { last: Seq(2) }));
    assert_eq!(build(entries[2..].to_vec()), Ok(()), "a segment may start anywhere");

    let other = Identity::from_seed(&[9; 32]).unwrap();
    let found = entries[0].author();
    let refused = SegmentFault::Author { author: other.node_id(), found };
    assert_eq!(Segment::own(entries, &other, &federation()), Err(refused));
}

/// Rewrites the worked log from an entry on, so that it is chained and signed again.
fn rewritten(from: usize, change: impl FnOnce(&mut Header), content: Option<&str>) -> Vec<Entry> {
    let mut entries = worked_log();
    entries.truncate(from + 1);
    let mut header = entries.pop().unwrap().header().clone();
    change(&mut header);
    entries.push(Entry::new(&federation(), header, content));
    entries
}

#[test]
fn a_log_starts_with_its_one_genesis_entry() {
    let own = |entries| Segment::own(entries, &identity(), &federation()).map(|_| ());
    let second = rewritten(1, |h| h.body = Body::Genesis(worked_genesis()), None);
    assert_eq!(own(second), Err(SegmentFault::Place { seq: Seq(1) }));
    let thought = worked_log()[1].header().body.clone();
    let headless = rewritten(0, |h| h.body = thought, None);
    assert_eq!(own(headless), Err(SegmentFault::Place { seq: Seq(0) }));
    let rooted = rewritten(0, |h| h.prev = Hash([1; 32]), None);
    assert_eq!(own(rooted), Err(SegmentFault::Chain { seq: Seq(0) }));
    let unchained = rewritten(2, |h| h.prev = Hash([1; 32]), None);
    assert_eq!(own(unchained), Err(SegmentFault::Chain { seq: Seq(2) }));
}

#[test]
fn an_entry_cannot_follow_itself_at_the_end_of_all_seqs() {
    let one = rewritten(1, |h| h.seq = Seq(u64::MAX), None).pop().unwrap();
    let prev = one.hash();
    let other = rewritten(1, |h| (h.seq, h.prev) = (Seq(u64::MAX), prev), None).pop().unwrap();
    let own = Segment::own(vec![one, other], &identity(), &federation());
    assert_eq!(own, Err(SegmentFault::Gap { before: Seq(u64::MAX), found: Seq(u64::MAX) }));
}

#[test]
fn a_segment_has_a_bound_and_one_signature_covers_it() {
    let mut entries = worked_log();
    let thought = entries[1].header().body.clone();
    let text = entries[1].content_text().unwrap().to_owned();
    while entries.len() <= SEGMENT_ENTRIES_MAX {
        let before = entries.last().unwrap();
        let header = Header {
            seq: before.seq().next(),
            prev: before.hash(),
            body: thought.clone(),
            ..before.header().clone()
        };
        entries.push(Entry::new(&federation(), header, Some(&text)));
    }
    let too_many = Segment::own(entries.clone(), &identity(), &federation());
    assert_eq!(too_many, Err(SegmentFault::TooMany { entries: SEGMENT_ENTRIES_MAX + 1 }));
    entries.pop();
    let full = Segment::own(entries, &identity(), &federation()).unwrap().into_inner();
    assert_eq!((full.first(), full.last()), (Seq(0), Seq(1023)));
    assert!(full.verify(&rules()).is_ok());
}

#[test]
fn too_little_work_is_seen_before_the_signature() {
    let (entries, head) = worked_segment().into_parts();
    let forged = Head { signature: Signature([0; 64]), ..head };
    let segment = Segment::new(entries, forged).unwrap();
    let fault = segment.clone().verify(&Rules { pow_bits: 40, ..rules() }).unwrap_err();
    assert!(matches!(fault, SegmentFault::Work(_)), "{fault}");
    let node = segment.author();
    assert_eq!(segment.verify(&rules()), Err(BadSignature { node }.into()));
}

#[test]
fn a_signed_lie_convicts_its_author_and_an_attached_one_does_not() {
    let content = worked_log()[2].content_text().unwrap().to_owned();
    let lie = |header: &mut Header| {
        let Body::Thought(thought) = &mut header.body else { panic!("a thought") };
        thought.features.concepts += 1;
    };
    let verify = |entries| {
        let segment = Segment::own(entries, &identity(), &federation()).unwrap().into_inner();
        segment.verify(&rules()).map(|_| ()).unwrap_err()
    };
    let signed = verify(rewritten(2, lie, Some(&content)));
    let expected =
        matches!(signed, SegmentFault::Content { seq: Seq(2), fault: ContentFault::Features { .. } });
    assert!(expected && signed.is_proof_against_author(), "{signed}");

    let attached = verify(rewritten(2, |_| {}, Some("another content")));
    assert_eq!(attached, SegmentFault::Content { seq: Seq(2), fault: ContentFault::Hash });
    assert!(!attached.is_proof_against_author());
}

#[test]
fn pruned_contents_are_no_fault_and_longer_ones_than_the_policy_allows_are() {
    let pruned: Vec<Entry> = worked_log()
        .iter()
        .map(|entry| Entry::parse(&federation(), entry.header_bytes().clone(), None).unwrap())
        .collect();
    let segment = Segment::own(pruned, &identity(), &federation()).unwrap().into_inner();
    assert!(segment.clone().verify(&rules()).is_ok());
    let fault = segment.verify(&Rules { content_bytes_max: 100, ..rules() });
    let expected = SegmentFault::TooLong { seq: Seq(1), bytes: 105, bytes_max: 100 };
    assert_eq!(fault, Err(expected));
}

#[test]
fn no_two_federations_share_a_hash_or_a_signature() {
    let elsewhere = FederationId([9; 32]);
    let here: BTreeSet<Hash> = worked_log().iter().map(Entry::hash).collect();
    let there = worked_log()
        .into_iter()
        .map(|entry| Entry::parse(&elsewhere, entry.header_bytes().clone(), None).unwrap().hash());
    assert!(there.into_iter().all(|hash| !here.contains(&hash)));
    let rules = Rules { federation: elsewhere, pow_bits: 0, ..rules() };
    let node = identity().node_id();
    assert_eq!(worked_segment().verify(&rules), Err(BadSignature { node }.into()));
}
