//! Serving a want: an author's stored entries as segments on a catch-up stream, read while they are sent.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use crate::{
    ledger::types::Seq,
    log::{
        FederationId, Identity, NodeId, Rules, Segment,
        books::{Span, StoredEntry},
        stored::{Comparison, compare, covered_segment, parsed, signed_segment},
    },
    net::{Apart, Ending, Endpoint},
    protocol::{input::LinkId, wire::SEGMENT_BYTES_MAX},
    store::{Store, StoreError},
};

/// Bytes of a stream's first segment; each one after it has twice as many, up to what fits. The other side has something to verify
/// and store after a few milliseconds instead of dozens.
const FIRST_BYTES: usize = 32 << 10;
const _: () = assert!(FIRST_BYTES <= SEGMENT_BYTES_MAX);
/// Entries that this node told of stand in its memory, and in its store a little later. A want of them waits so long, which is
/// less than whoever asked waits for a word.
const STORED_WITHIN: Duration = Duration::from_secs(3);

/// What entries are served with.
#[derive(Clone)]
pub(super) struct Shelf {
    store: Arc<dyn Store>,
    identity: Arc<Identity>,
    federation: FederationId,
    /// Where what takes long is done.
    apart: Arc<Apart>,
}

/// What was read for the next segment.
enum Next {
    /// Nothing is stored there yet.
    Nothing,
    Segment(Segment),
    /// No signed head stands in what was read.
    Unsigned(Vec<StoredEntry>),
    /// What is stored makes no segment.
    Unfit,
}

/// Sends that author's entries of that span, as far as the store holds them undamaged; `commits` tells of what it stores
/// meanwhile. Ends early where the link goes, and gives back the first damaged entry that it met.
///
/// # Cancel safety
/// The peer keeps what it got, and asks for the rest.
pub(super) async fn serve(
    endpoint: Arc<Endpoint>,
    shelf: Shelf,
    (link, author): (LinkId, NodeId),
    span: Span,
    mut commits: watch::Receiver<u64>,
) -> Option<Seq> {
    let mut stream = endpoint.catch_up(link)?;
    let patience = Instant::now() + STORED_WITHIN;
    let mut from = span.first;
    let mut bytes_max = FIRST_BYTES;
    let mut damaged = None;
    while from <= span.last {
        commits.mark_unchanged();
        let was_short = bytes_max < SEGMENT_BYTES_MAX;
        let reading = shelf.clone();
        let next = shelf.apart.run(move || reading.next(author, (from, span.last), bytes_max)).await;
        bytes_max = bytes_max.saturating_mul(2).min(SEGMENT_BYTES_MAX);
        let segment = match next {
            Ok(Ok(Next::Segment(segment))) => segment,
            Ok(Ok(Next::Nothing)) => match timeout_at(patience, commits.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) | Err(_) => break,
            },
            // The next signed head may stand behind what was read.
            Ok(Ok(Next::Unsigned(_))) if was_short => continue,
            Ok(Ok(Next::Unsigned(stored))) => match shelf.covered(author, stored).await {
                Some(segment) => segment,
                None => break,
            },
            Ok(Ok(Next::Unfit)) => break,
            Ok(Err(StoreError::DamagedEntry { seq, .. })) => {
                damaged = Some(seq);
                break;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, author = %author, "can't read stored entries for a peer");
                break;
            }
            Err(Ending) => break,
        };
        from = segment.last().next();
        if stream.send(&segment).await.is_err() {
            return damaged;
        }
    }
    // A stream that ends early is asked for again; there is nothing else to do about it.
    let _gone = stream.finish().await;
    damaged
}

impl Shelf {
    pub(super) fn new(store: Arc<dyn Store>, identity: Arc<Identity>, federation: FederationId) -> Self {
        Self { store, identity, federation, apart: Arc::new(Apart::default()) }
    }

    /// Reads the next segment. Blocks.
    fn next(
        &self,
        author: NodeId,
        (from, through): (Seq, Seq),
        bytes_max: usize,
    ) -> Result<Next, StoreError> {
        let stored = self.store.entries(author, from, bytes_max)?;
        if stored.is_empty() {
            return Ok(Next::Nothing);
        }
        if author == self.identity.node_id() {
            return Ok(self.own(&stored, through).map_or(Next::Unfit, Next::Segment));
        }
        Ok(match signed_segment(&self.federation, author, &stored, through) {
            Some(segment) => Next::Segment(segment),
            None => Next::Unsigned(stored),
        })
    }

    /// Our own entries: what was signed once may be signed again, so the last one read is, but nothing behind `through`.
    fn own(&self, stored: &[StoredEntry], through: Seq) -> Option<Segment> {
        let mut entries = parsed(&self.federation, stored)?;
        entries.retain(|entry| entry.seq() <= through);
        Segment::own(entries, &self.identity, &self.federation).ok().map(|segment| segment.into_inner())
    }

    /// What is left of a convicted author's log behind its last signed entry.
    async fn covered(&self, author: NodeId, stored: Vec<StoredEntry>) -> Option<Segment> {
        let shelf = self.clone();
        let covered = move || {
            let cover = shelf.store.cover(author).ok()??;
            covered_segment(&shelf.federation, &stored, &cover, SEGMENT_BYTES_MAX)
        };
        self.apart.run(covered).await.ok()?
    }
}

/// Shows a peer what convicts an author.
pub(super) async fn prove(endpoint: Arc<Endpoint>, store: Arc<dyn Store>, link: LinkId, author: NodeId) {
    let read = spawn_blocking(move || store.proof(author)).await;
    match read {
        Ok(Ok(Some(proof))) => {
            // Where the link goes, the peer asks another.
            let _gone = endpoint.send_proof(link, &proof.to_bytes()).await;
        }
        Ok(Ok(None)) => tracing::warn!(author = %author, "what convicts an author is not in the store"),
        Ok(Err(error)) => tracing::error!(%error, author = %author, "can't read what convicts an author"),
        // The runtime is ending.
        Err(_) => {}
    }
}

/// Compares a peer's entries with what the store holds of the same author.
pub(super) async fn compared(store: Arc<dyn Store>, rules: Rules, theirs: Segment) -> Option<Comparison> {
    let author = theirs.author();
    // As many entries as a segment has, whatever their contents take.
    let covers = Arc::clone(&store);
    let cover = move || covers.cover(author).ok()?;
    let read = move |from: Seq| match store.entries(author, from, usize::MAX) {
        Ok(stored) => Some(stored),
        Err(error) => {
            tracing::warn!(%error, author = %author, "can't read stored entries to compare them");
            None
        }
    };
    spawn_blocking(move || compare(&rules, read, cover, theirs)).await.ok()?
}
