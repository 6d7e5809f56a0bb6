//! The witness: what every node ever said or stored of every log, and whether it all goes together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use cogmesh::{
    ledger::types::Seq,
    log::{Entry, Hash, NodeId},
    node::identity_file,
    store::{SqliteStore, Store, StoreOptions},
};
use data_encoding::HEXLOWER;
use serde_json::Value;

use super::{
    load::Acked,
    nodes::{Node, federation, policy},
};

/// Most bytes of one read.
const READ_BYTES_MAX: usize = 1 << 20;

/// Remembers which hash each entry had.
#[derive(Default)]
pub(crate) struct Witness {
    hashes: BTreeMap<(String, u64), String>,
}

/// One author's log, as a store holds it.
pub(crate) type StoredLog = Vec<Entry>;

impl Witness {
    /// An entry was seen somewhere.
    fn note(&mut self, author: &str, seq: u64, hash: &str, place: &str) {
        let known = self.hashes.entry((author.to_owned(), seq)).or_insert_with(|| hash.to_owned());
        assert_eq!(known, hash, "{place}: entry {seq} of {author} is another one than before");
    }

    /// A node's list of authors was seen.
    pub(crate) fn note_authors(&mut self, authors: &Value, place: &str) {
        for author in authors["authors"].as_array().unwrap() {
            let (id, hash) = (author["id"].as_str().unwrap(), author["hash"].as_str().unwrap());
            self.note(id, author["seq"].as_u64().unwrap(), hash, place);
        }
    }

    /// Looks into the store of a node that does not run, on a copy: the files stay as the kill left them. Every thought
    /// of it that was acknowledged is there at its seq, none of its thoughts is there twice, and no entry is another one than
    /// was seen anywhere before.
    pub(crate) fn check_store(&mut self, place: usize, node: &Node, acked: &[Acked]) {
        let Some(logs) = stored_logs(&node.dir) else {
            assert!(!acked.iter().any(|acked| acked.node == place), "{} has lost its key", node.name);
            return;
        };
        let (own, logs) = logs;
        for (author, log) in &logs {
            for entry in log {
                let hash = HEXLOWER.encode(&entry.hash().0);
                self.note(&author.to_text(), entry.seq().0, &hash, &node.name);
            }
        }
        let log = logs.get(&own).map_or(&[][..], Vec::as_slice);
        check_own(place, &node.name, log, acked);
    }
}

fn check_own(place: usize, name: &str, log: &[Entry], acked: &[Acked]) {
    for acked in acked.iter().filter(|acked| acked.node == place) {
        let found = usize::try_from(acked.seq).ok().and_then(|seq| log.get(seq)).and_then(content);
        assert_eq!(found, Some(acked.content.as_bytes()), "{name} has lost what it acknowledged: {acked:?}");
    }
    let contents: Vec<&[u8]> = log.iter().filter_map(content).collect();
    let distinct: BTreeSet<&[u8]> = contents.iter().copied().collect();
    assert_eq!(distinct.len(), contents.len(), "{name} has recorded a submission twice");
}

fn content(entry: &Entry) -> Option<&[u8]> {
    entry.content().map(|content| &content[..])
}

/// Whose store it is, and all logs in it, each whole and chained. `None` where there is no store yet.
fn stored_logs(dir: &Path) -> Option<(NodeId, BTreeMap<NodeId, StoredLog>)> {
    let own = identity_file::load(dir).unwrap()?.node_id();
    let copy = tempfile::tempdir().unwrap();
    for file in ["store.db", "store.db-wal"] {
        if dir.join(file).exists() {
            fs::copy(dir.join(file), copy.path().join(file)).unwrap();
        }
    }
    let options = StoreOptions::new(federation(), own, policy());
    let store = SqliteStore::open(&copy.path().join("store.db"), options).unwrap();
    let books = store.load().unwrap();
    let logs = books.authors.iter().map(|(author, book)| {
        let log = stored_log(&store, *author).unwrap();
        let last = log.last().map(|last| (last.seq(), last.hash()));
        assert_eq!(last, Some((book.seq(), book.hash)), "the book of {author} is not the one after its log");
        (*author, log)
    });
    Some((own, logs.collect()))
}

/// One author's log from its store, whole and chained; or what is wrong with it.
pub(crate) fn stored_log(store: &dyn Store, author: NodeId) -> Result<StoredLog, String> {
    let mut log: StoredLog = vec![];
    loop {
        let from = log.last().map_or(Seq::GENESIS, |last| last.seq().next());
        let stored = store.entries(author, from, READ_BYTES_MAX).map_err(|error| error.to_string())?;
        if stored.is_empty() {
            return Ok(log);
        }
        for entry in stored {
            let entry = Entry::parse(&federation(), entry.header, entry.content);
            let entry = entry.map_err(|error| format!("after {} entries of {author}: {error}", log.len()))?;
            let prev = log.last().map_or(Hash::ZERO, Entry::hash);
            if (entry.seq(), entry.header().prev) != (Seq(log.len() as u64), prev) {
                return Err(format!("entry {} of {author} does not follow", log.len()));
            }
            log.push(entry);
        }
    }
}
