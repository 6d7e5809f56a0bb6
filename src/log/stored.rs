//! Stored entries as segments again: what a node makes of its log for a peer, and how a peer's entries compare with it. Whoever has a store
//! reads; what comes of it is decided here, the same for every store.

use super::{
    Entry, FederationId, Head, NodeId, Proof, Rules, Segment, Signature, Verified,
    books::StoredEntry,
    fault::{Difference, difference},
};
use crate::ledger::types::Seq;

/// How entries that a peer sent compare with those that the store holds of the same author.
#[derive(Debug)]
pub enum Comparison {
    /// As far as both go they are the same.
    Same {
        /// The last that was compared; `None` where the store has none of them.
        through: Option<Seq>,
    },
    /// They differ before the first of them.
    Before {
        /// The first of them.
        first: Seq,
    },
    /// They differ, and both sides are signed.
    Fork(Box<Verified<Proof>>),
}

/// The entries themselves; `None` where there are none, or a header is none.
#[must_use]
pub fn parsed(federation: &FederationId, stored: &[StoredEntry]) -> Option<Vec<Entry>> {
    let parsed: Result<Vec<Entry>, _> = stored
        .iter()
        .map(|entry| Entry::parse(federation, entry.header.clone(), entry.content.clone()))
        .collect();
    parsed.ok().filter(|entries| !entries.is_empty())
}

/// Another's entries, up to the first at or behind `through` for which we hold its author's signature, or else the last one.
#[must_use]
pub fn signed_segment(
    federation: &FederationId,
    author: NodeId,
    stored: &[StoredEntry],
    through: Seq,
) -> Option<Segment> {
    let entries = parsed(federation, stored)?;
    let signed = entries.iter().zip(stored).enumerate().filter(|(_, (_, stored))| stored.signature.is_some());
    let signed: Vec<(usize, Seq)> = signed.map(|(place, (entry, _))| (place, entry.seq())).collect();
    let enough = signed.iter().find(|(_, seq)| *seq >= through);
    let (last_signed, _) = *enough.or_else(|| signed.last())?;
    let signature = stored.get(last_signed)?.signature?;
    let entries: Vec<Entry> = entries.into_iter().take(last_signed.saturating_add(1)).collect();
    let last = entries.last()?;
    let head = Head { author, seq: last.seq(), hash: last.hash(), signature };
    Segment::new(entries, head).ok()
}

/// The last entries that are left of a convicted author's log: no signed head among them covers them, but one behind the cut does, and its
/// entries go along without contents. Of contents go as many as fit into `bytes_max`, from the first on.
#[must_use]
pub fn covered_segment(
    federation: &FederationId,
    stored: &[StoredEntry],
    cover: &Segment,
    bytes_max: usize,
) -> Option<Segment> {
    let whole = parsed(federation, stored)?;
    let last = whole.last()?.seq();
    let bare = stored.iter().map(|entry| Entry::parse(federation, entry.header.clone(), None));
    let mut entries: Vec<Entry> = bare.collect::<Result<_, _>>().ok()?;
    entries.extend(cover.entries().iter().filter(|entry| entry.seq() > last).cloned());
    let mut bytes: usize = entries.iter().map(Entry::byte_len).sum();
    for (place, entry) in entries.iter_mut().zip(whole) {
        bytes = bytes.saturating_add(entry.content().map_or(0, bytes::Bytes::len));
        if bytes > bytes_max {
            break;
        }
        *place = entry;
    }
    Segment::new(entries, *cover.head()).ok()
}

/// What a cut leaves without a signed head: the entries from behind the last signed one before the cut through the first signed one at or
/// behind it, bare. `log`: the author's entries, at least those, with their signatures.
#[must_use]
pub fn covering(log: &[(Entry, Option<Signature>)], cut: Seq) -> Option<Segment> {
    let is_signed = |(_, signature): &&(Entry, Option<Signature>)| signature.is_some();
    let before = log.iter().filter(|(entry, _)| entry.seq() < cut).rfind(is_signed);
    let (last, signature) = log.iter().filter(|(entry, _)| entry.seq() >= cut).find(is_signed)?;
    let covered = log
        .iter()
        .map(|(entry, _)| entry)
        .filter(|entry| before.is_none_or(|(before, _)| entry.seq() > before.seq()))
        .filter(|entry| entry.seq() <= last.seq());
    let head = Head { author: last.author(), seq: last.seq(), hash: last.hash(), signature: (*signature)? };
    Segment::new(covered.cloned().collect(), head).ok().map(Segment::bare)
}

/// Compares a peer's verified entries with ours. `read` gives as many of ours as a segment has, from a seq on; `cover` is what covers the last of
/// them where the log was cut before. `None` where ours can't be read, or are not signed so far.
pub fn compare(
    rules: &Rules,
    read: impl Fn(Seq) -> Option<Vec<StoredEntry>>,
    cover: impl FnOnce() -> Option<Segment>,
    theirs: Segment,
) -> Option<Comparison> {
    let (author, first) = (theirs.author(), theirs.first());
    let ours = parsed(&rules.federation, &read(Seq(first.0.saturating_sub(1)))?)?;
    match difference(&ours, theirs.entries()) {
        Difference::Before => Some(Comparison::Before { first }),
        Difference::None => {
            let last = ours.last().map(Entry::seq).filter(|last| *last >= first);
            Some(Comparison::Same { through: last.map(|last| last.min(theirs.last())) })
        }
        Difference::At(seq) => {
            let stored = read(seq)?;
            let signed = signed_segment(&rules.federation, author, &stored, seq);
            let ours =
                signed.or_else(|| covered_segment(&rules.federation, &stored, &cover()?, usize::MAX))?;
            let proof = Proof::fork(ours, theirs)?.verify(rules).ok()?;
            Some(Comparison::Fork(Box::new(proof)))
        }
    }
}
