//! A simulated disk, and the sign mark beside it.

use std::collections::BTreeMap;

use cogmesh::{
    log::{
        NodeId, Signature,
        books::{Books, Judged, Record},
    },
    protocol::recovery::{Doubt, Standing},
};

use super::world::Node;

#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) books: Books,
    pub(crate) entries: BTreeMap<NodeId, Vec<(Judged, Option<Signature>)>>,
}

impl Node {
    pub(crate) fn standing(&self, books: &Books) -> Standing {
        let doubt = if books.restored { Some(Doubt::Restored) } else { self.doubt };
        Standing { through: self.mark, doubt, write_without_peers: self.write_without_peers }
    }
}

impl Disk {
    pub(crate) fn write(&mut self, record: Record, own: NodeId) {
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
                self.books.authors.insert(author, *book);
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
                    assert_eq!(log[place].0.entry.hash(), entry.hash());
                    if entry.content().is_some() {
                        log[place].0.entry = entry;
                    }
                }
            }
            Record::Doubted => self.books.restored = true,
            Record::Recovered => self.books.restored = false,
        }
    }
}
