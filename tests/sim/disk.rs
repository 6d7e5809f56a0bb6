//! A simulated disk, and the sign mark beside it.

use std::{collections::BTreeMap, sync::Arc};

use cogmesh::{
    ledger::{Policy, types::Millis},
    log::{
        Entry, NodeId, Proof, Segment, Signature,
        books::{AuthorFault, Books, Judged, Record},
        stored::covering,
    },
    protocol::recovery::{Doubt, Standing},
};

use super::world::Node;

#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) books: Books,
    pub(crate) entries: BTreeMap<NodeId, Vec<(Judged, Option<Signature>)>>,
    pub(crate) proofs: BTreeMap<NodeId, Proof>,
    pub(crate) covers: BTreeMap<NodeId, Segment>,
}

impl Node {
    pub(crate) fn standing(&self, books: &Books) -> Standing {
        let doubt = if books.restored { Some(Doubt::Restored) } else { self.doubt };
        Standing { through: self.mark, doubt, write_without_peers: self.write_without_peers }
    }
}

impl Disk {
    fn convict(&mut self, author: NodeId, found: Millis, proof: &Proof, policy: &Policy) {
        let cut = usize::try_from(proof.cut().0).unwrap();
        if let Some(log) = self.entries.get_mut(&author) {
            let pairs: Vec<_> =
                log.iter().map(|(judged, signature)| (judged.entry.clone(), *signature)).collect();
            self.covers.extend(covering(&pairs, proof.cut()).map(|cover| (author, cover)));
            let had = log.len();
            log.truncate(cut);
            if log.len() < had {
                let signature = log.last().and_then(|(_, signature)| *signature);
                let left: Vec<Entry> = log.iter().map(|(judged, _)| judged.entry.clone()).collect();
                let book = self.books.authors.remove(&author).unwrap();
                let left = book.refolded(policy, &left, signature);
                self.books.authors.extend(left.map(|book| (author, book)));
            }
        }
        self.books.faults.insert(author, AuthorFault::of(proof, found));
        self.proofs.insert(author, proof.clone());
    }

    pub(crate) fn write(&mut self, record: Record, own: NodeId, policy: &Policy) {
        match record {
            Record::Entries { author, entries, book } => {
                let log = self.entries.entry(author).or_default();
                let last = entries.len() - 1;
                for (index, judged) in entries.into_iter().enumerate() {
                    let place = usize::try_from(judged.entry.seq().0).unwrap();
                    assert_eq!(place, log.len(), "entries are written in order, each once");
                    let signature = book.signature.filter(|_| index == last && author != own);
                    log.push((judged, signature));
                }
                self.books.authors.insert(author, Arc::unwrap_or_clone(book));
            }
            Record::Submission { key, recorded } => self.books.submissions.push((key, recorded)),
            Record::Peer { id, peer } => {
                self.books.peers.insert(id, peer);
            }
            Record::NewestTime(time) => self.books.newest_time = time,
            Record::Mended { author, entries, .. } => {
                let log = self.entries.entry(author).or_default();
                for entry in entries {
                    let place = usize::try_from(entry.seq().0).unwrap();
                    // What is of another history than the log, or was cut off it meanwhile, fits nowhere.
                    let kept = log.get_mut(place).map(|(judged, _)| &mut judged.entry);
                    if let Some(kept) = kept.filter(|kept| kept.hash() == entry.hash())
                        && entry.content().is_some()
                    {
                        *kept = entry;
                    }
                }
            }
            Record::Fault { author, found, proof } => self.convict(author, found, &proof, policy),
            Record::Cover { author, cover } => drop(self.covers.insert(author, *cover)),
            Record::Cleared { author } => self.books.faults.get_mut(&author).unwrap().cleared = true,
            Record::Doubted => self.books.restored = true,
            Record::Recovered => self.books.restored = false,
        }
    }
}
