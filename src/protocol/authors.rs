//! Authors: what the node knows of every log, in memory; the store holds the same.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ledger::types::Seq,
    log::{
        NodeId, NodeName,
        books::{AuthorBook, Books},
    },
};

/// Most authors that a node takes. Each costs about 3 KiB of memory (the fingerprints of its last thoughts), so this
/// is 30 MiB; every one has paid a proof of work.
pub const AUTHORS_MAX: usize = 10_000;

/// Every author known.
#[derive(Debug, Default)]
pub struct Authors {
    known: BTreeMap<NodeId, Author>,
    /// Whose a name is: the first that was seen with it.
    names: BTreeMap<NodeName, NodeId>,
    /// Convicted authors: where their logs end.
    cuts: BTreeMap<NodeId, Seq>,
}

/// One author.
#[derive(Debug)]
pub struct Author {
    /// What is known of it. Shared with snapshots, so that reading never copies an account.
    pub book: Arc<AuthorBook>,
    /// Of `book.account`; made when it is first asked for, because an account has 2 KiB.
    digest: Option<[u8; 32]>,
}

impl Author {
    /// The digest of the account after the last entry.
    pub fn digest(&mut self) -> [u8; 32] {
        let account = &self.book.account;
        *self.digest.get_or_insert_with(|| account.digest())
    }
}

impl Authors {
    /// Whether there are as many as a node takes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.known.len() >= AUTHORS_MAX
    }

    /// Those of the books. Who had a name first keeps it.
    #[must_use]
    pub fn load(books: Books) -> Self {
        let cuts = books
            .faults
            .iter()
            .filter(|(_, fault)| !fault.cleared)
            .map(|(id, fault)| (*id, fault.cut))
            .collect();
        let mut authors = Self { cuts, ..Self::default() };
        let mut first_known: Vec<_> = books.authors.into_iter().collect();
        first_known.sort_by_key(|(id, book)| (book.known_since, *id));
        for (id, book) in first_known {
            authors.put(id, Arc::new(book));
        }
        authors
    }

    /// The author with that id.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Author> {
        self.known.get(&id)
    }

    /// The author with that id, to ask for its digest or to mark it.
    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Author> {
        self.known.get_mut(&id)
    }

    /// The last seq of that author's log; `None` where no entry is known.
    #[must_use]
    pub fn seq(&self, id: NodeId) -> Option<Seq> {
        self.known.get(&id).map(|author| author.book.seq())
    }

    /// The first seq of that author's log that is not known.
    #[must_use]
    pub fn missing_from(&self, id: NodeId) -> Seq {
        self.seq(id).map_or(Seq::GENESIS, Seq::next)
    }

    /// Replaces what is known of an author. Returns whether its name was another's before.
    pub fn put(&mut self, id: NodeId, book: Arc<AuthorBook>) -> NameIs {
        let owner = *self.names.entry(book.name.clone()).or_insert(id);
        let is_new = !self.known.contains_key(&id);
        self.known.insert(id, Author { book, digest: None });
        if is_new && owner != id { NameIs::Taken } else { NameIs::Free }
    }

    /// Where a convicted author's log ends: the first seq that is not part of it.
    #[must_use]
    pub fn cut(&self, id: NodeId) -> Option<Seq> {
        self.cuts.get(&id).copied()
    }

    /// Whether nothing more is taken of that author: it is convicted, and all before its cut is here.
    #[must_use]
    pub fn is_closed(&self, id: NodeId) -> bool {
        self.cut(id).is_some_and(|cut| self.missing_from(id) >= cut)
    }

    /// An author's log ends before that seq, or no longer does.
    pub fn set_cut(&mut self, id: NodeId, cut: Option<Seq>) {
        match cut {
            Some(cut) => self.cuts.insert(id, cut),
            None => self.cuts.remove(&id),
        };
    }

    /// Nothing is left of an author's log.
    pub fn erase(&mut self, id: NodeId) {
        if let Some(author) = self.known.remove(&id)
            && self.names.get(&author.book.name) == Some(&id)
        {
            self.names.remove(&author.book.name);
        }
    }

    /// How an author's name is shown: with its short id where another had the name first.
    #[must_use]
    pub fn shown_name(&self, id: NodeId, name: &NodeName) -> String {
        match self.names.get(name) {
            Some(owner) if *owner != id => format!("{name}~{}", id.short()),
            Some(_) | None => name.to_string(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Author)> {
        self.known.iter().map(|(id, author)| (*id, author))
    }
}

/// Whether an author that was just met shares its name with an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameIs {
    /// It has the name to itself.
    Free,
    /// Another had it first.
    Taken,
}
