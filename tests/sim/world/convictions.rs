//! What a node's shell does about convicted authors, and an author that deserves it.

use std::sync::Arc;

use cogmesh::{
    ledger::types::{Millis, Seq},
    log::{
        Body, Entry, Genesis, Hash, Head, Header, Identity, Mode, NodeId, Proof, Rules, Segment, Thought,
        Verified,
        books::StoredEntry,
        stored::{Comparison, compare, covered_segment, signed_segment},
    },
    protocol::{
        input::{Answer, Input, LinkId, Ticket},
        wire::SEGMENT_BYTES_MAX,
    },
};

use super::{Action, World};
use crate::disk::Disk;

impl Disk {
    /// As many entries as a segment has.
    pub(crate) fn stored(&self, author: NodeId, from: Seq) -> Vec<StoredEntry> {
        let log = self.entries.get(&author).map(Vec::as_slice).unwrap_or_default();
        let first = usize::try_from(from.0).unwrap();
        let stored = log.iter().skip(first).take(1_024).map(|(judged, signature)| StoredEntry {
            header: judged.entry.header_bytes().clone(),
            content: judged.entry.content().cloned(),
            signature: *signature,
        });
        stored.collect()
    }
}

impl World {
    /// Entries of another's log as a node serves them.
    pub(super) fn segment_of(&self, node: usize, author: NodeId, from: Seq, last: Seq) -> Option<Segment> {
        let state = &self.nodes[node];
        let mut stored = state.disk.stored(author, from);
        // Small segments, so that a catch-up has many.
        stored.truncate(16);
        signed_segment(&state.setup.federation, author, &stored, last).or_else(|| {
            let stored = state.disk.stored(author, from);
            signed_segment(&state.setup.federation, author, &stored, last).or_else(|| {
                covered_segment(
                    &state.setup.federation,
                    &stored,
                    state.disk.covers.get(&author)?,
                    SEGMENT_BYTES_MAX,
                )
            })
        })
    }

    pub(super) fn prove(&mut self, node: usize, link: LinkId, author: NodeId) {
        let rules = self.rules(self.nodes[node].setup.federation);
        // What is not written yet can't be read; the peer asks again.
        let Some(proof) = self.nodes[node].disk.proofs.get(&author).cloned() else { return };
        let sent = Proof::parse(&proof.to_bytes(), &rules.federation).unwrap().verify(&rules).unwrap();
        self.send(link, |link| Input::Proof { link, proof: Box::new(sent) });
    }

    pub(super) fn compare(&mut self, node: usize, link: LinkId, theirs: Segment) {
        let rules = self.rules(self.nodes[node].setup.federation);
        let author = theirs.author();
        let disk = &self.nodes[node].disk;
        let compared = compare(
            &rules,
            |from| Some(disk.stored(author, from)),
            || disk.covers.get(&author).cloned(),
            theirs,
        );
        let comparison = compared.unwrap_or(Comparison::Same { through: None });
        let boot = self.nodes[node].boots;
        let pause = 1 + self.random(3);
        self.later(pause, Action::Input(node, boot, Input::Compared { link, author, comparison }));
    }

    /// An operator takes a convicted author's log again; says whether it was convicted.
    pub(crate) fn clear(&mut self, node: usize, author: NodeId) -> bool {
        self.nodes[node].tickets += 1;
        let ticket = Ticket(self.nodes[node].tickets);
        self.handle(node, Input::Clear { ticket, author });
        self.nodes[node].answers[&ticket] == Answer::Cleared(true)
    }

    /// A peer sends a live segment of somebody's making.
    pub(crate) fn send_live(&mut self, from: usize, to: usize, segment: &Verified<Segment>) {
        let link = self.verified(from)[&self.id(to)];
        let segment = segment.clone();
        self.send(link, |link| Input::Heard { link, segment });
    }

    /// A peer shows a proof of somebody's making.
    pub(crate) fn show(&mut self, from: usize, to: usize, proof: &Verified<Proof>) {
        let link = self.verified(from)[&self.id(to)];
        let proof = proof.clone();
        self.send(link, |link| Input::Proof { link, proof: Box::new(proof) });
    }

    pub(crate) fn rules_of(&self, node: usize) -> Rules {
        self.rules(self.nodes[node].setup.federation)
    }

    /// How many contents of any author's log are on a node's disk.
    pub(crate) fn contents_of(&self, node: usize, author: NodeId) -> usize {
        let log = &self.nodes[node].disk.entries[&author];
        log.iter().filter(|(judged, _)| judged.entry.content().is_some()).count()
    }

    /// A node's log as another node's disk holds it.
    pub(crate) fn segment_on_disk(&self, node: usize, author: usize) -> Segment {
        let stored = self.nodes[node].disk.stored(self.id(author), Seq::GENESIS);
        signed_segment(&self.federation(node), self.id(author), &stored, Seq(u64::MAX)).unwrap()
    }

    /// A node has taken a forger's whole history from somebody who is gone.
    pub(crate) fn give_on_disk(&mut self, node: usize, forger: &Forger) {
        let messenger = self.add("messenger");
        self.start(messenger);
        let linked = |world: &Self| world.is_meshed(&[node, messenger]);
        self.hint(messenger, node);
        self.run_until(3_000, "the messenger is linked", linked);
        for from in (0..forger.log.len()).step_by(50) {
            let to = forger.log.len().min(from + 50);
            let part = Forger { log: forger.log[..to].to_vec(), ..forger.clone() };
            self.send_live(messenger, node, &part.segment(from));
        }
        let last = forger.log.last().unwrap().seq();
        let author = forger.id();
        self.run_until(3_000, "the history is taken", |world| {
            world.view(node).known.authors.get(&author).is_some_and(|known| known.book.seq() == last)
        });
        self.run_for(50);
        self.kill(messenger);
        self.run_for(11_000);
        self.nodes.pop();
    }

    /// A forger with a node's key, who knows that node's first entry.
    pub(crate) fn forger_with_key_of(&mut self, node: usize) -> Forger {
        let genesis = self.nodes[node].disk.entries[&self.id(node)][0].0.entry.clone();
        Forger { log: vec![genesis], identity: self.identity(node), federation: self.federation(node) }
    }

    /// A forger with a node's key, who knows that node's log through an entry.
    pub(crate) fn forger_after(&self, node: usize, through: Seq) -> Option<Forger> {
        let log = self.nodes[node].disk.entries.get(&self.id(node))?;
        let log: Vec<Entry> = log.iter().map(|(judged, _)| judged.entry.clone()).collect();
        let end = usize::try_from(through.0).unwrap();
        let log = log.get(..=end)?.to_vec();
        Some(Forger { log, identity: self.identity(node), federation: self.federation(node) })
    }

    /// The same key with another first entry.
    pub(crate) fn forger_again(&mut self, forger: &Forger) -> Forger {
        self.forger_of(Arc::clone(&forger.identity), "forger-again")
    }

    /// An author that is no node, with a proof of work.
    pub(crate) fn forger(&mut self) -> Forger {
        let mut seed = [0; 32];
        rand_chacha::rand_core::RngCore::fill_bytes(&mut self.rng, &mut seed);
        self.forger_of(Arc::new(Identity::from_seed(&seed).unwrap()), "forger")
    }

    fn forger_of(&self, identity: Arc<Identity>, name: &str) -> Forger {
        let federation = self.nodes[0].setup.federation;
        let search = cogmesh::log::Search {
            federation,
            node: identity.node_id(),
            bits_min: self.policy.pow_bits,
            first: 0,
            step: std::num::NonZeroU64::MIN,
        };
        let nonce = search.run(&std::sync::atomic::AtomicBool::new(false)).unwrap();
        let genesis = Genesis {
            name: name.parse().unwrap(),
            hardware: cogmesh::log::Hardware::Software,
            level: cogmesh::ledger::types::Level::MAX,
            arch: "x86_64".parse().unwrap(),
            nonce,
        };
        let header = Header {
            author: identity.node_id(),
            seq: Seq::GENESIS,
            prev: Hash::ZERO,
            time: Millis(super::BEGINNING),
            body: Body::Genesis(genesis),
        };
        Forger { log: vec![Entry::new(&federation, header, None)], identity, federation }
    }
}

/// A key that signs what it likes.
#[derive(Clone)]
pub(crate) struct Forger {
    identity: Arc<Identity>,
    federation: cogmesh::log::FederationId,
    /// One history; a clone can go on with another.
    pub(crate) log: Vec<Entry>,
}

impl Forger {
    pub(crate) fn id(&self) -> NodeId {
        self.identity.node_id()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Goes on with a thought for each content.
    pub(crate) fn think(&mut self, contents: impl IntoIterator<Item = String>) {
        for content in contents {
            self.think_as(&content, |_| {});
        }
    }

    /// Goes on with a thought, whose header says of it what it likes.
    pub(crate) fn think_as(&mut self, content: &str, change: impl FnOnce(&mut Thought)) {
        let mut thought = Thought::new("main".parse().unwrap(), Mode::Exploring, content);
        change(&mut thought);
        let before = self.log.last().unwrap();
        let header = Header {
            author: self.id(),
            seq: before.seq().next(),
            prev: before.hash(),
            time: before.header().time.plus(Millis(100)),
            body: Body::Thought(thought),
        };
        self.log.push(Entry::new(&self.federation, header, Some(content)));
    }

    /// Its entries from one on, signed.
    pub(crate) fn segment(&self, from: usize) -> Verified<Segment> {
        Segment::own(self.log[from..].to_vec(), &self.identity, &self.federation).unwrap()
    }

    /// A head of it, for whoever plays along.
    pub(crate) fn head(&self) -> Head {
        let last = self.log.last().unwrap();
        Head::sign(&self.identity, &self.federation, last.seq(), last.hash())
    }
}
