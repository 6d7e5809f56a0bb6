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
    net::Endpoint,
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

/// Sends that author's entries of that span, as far as the store holds them undamaged; `commits` tells of what it stores
/// meanwhile. Ends early where the link goes, and gives back the first damaged entry that it met.
///
/// # Cancel safety
/// The peer keeps what it got, and asks for the rest.
pub(super) async fn serve(
    endpoint: Arc<Endpoint>,
    store: Arc<dyn Store>,
    keys: (Arc<Identity>, FederationId),
    (link, author): (LinkId, NodeId),
    span: Span,
    mut commits: watch::Receiver<u64>,
) -> Option<Seq> {
    let (identity, federation) = keys;
    let mut stream = endpoint.catch_up(link)?;
    let patience = Instant::now() + STORED_WITHIN;
    let mut from = span.first;
    let mut bytes_max = FIRST_BYTES;
    let mut damaged = None;
    while from <= span.last {
        let reading = Arc::clone(&store);
        commits.mark_unchanged();
        let read = spawn_blocking(move || reading.entries(author, from, bytes_max)).await;
        let stored = match read {
            Ok(Ok(stored)) if stored.is_empty() => match timeout_at(patience, commits.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) | Err(_) => break,
            },
            Ok(Ok(stored)) => stored,
            Ok(Err(StoreError::DamagedEntry { seq, .. })) => {
                damaged = Some(seq);
                break;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, author = %author, "can't read stored entries for a peer");
                break;
            }
            Err(_) => break,
        };
        let was_short = bytes_max < SEGMENT_BYTES_MAX;
        bytes_max = bytes_max.saturating_mul(2).min(SEGMENT_BYTES_MAX);
        let segment = if author == identity.node_id() {
            own_segment(&identity, &federation, &stored, span.last)
        } else {
            match signed_segment(&federation, author, &stored, span.last) {
                Some(segment) => Some(segment),
                // The next signed head may stand behind what was read.
                None if was_short && !stored.is_empty() => continue,
                None => covered(&store, &federation, author, &stored).await,
            }
        };
        let Some(segment) = segment else { break };
        from = segment.last().next();
        if stream.send(&segment).await.is_err() {
            return damaged;
        }
    }
    // A stream that ends early is asked for again; there is nothing else to do about it.
    let _gone = stream.finish().await;
    damaged
}

/// Our own entries: what was signed once may be signed again, so the last one read is, but nothing behind `through`.
fn own_segment(
    identity: &Identity,
    federation: &FederationId,
    stored: &[StoredEntry],
    through: Seq,
) -> Option<Segment> {
    let mut entries = parsed(federation, stored)?;
    entries.retain(|entry| entry.seq() <= through);
    Segment::own(entries, identity, federation).ok().map(|segment| segment.into_inner())
}

/// What is left of a convicted author's log behind its last signed entry.
async fn covered(
    store: &Arc<dyn Store>,
    federation: &FederationId,
    author: NodeId,
    stored: &[StoredEntry],
) -> Option<Segment> {
    let reading = Arc::clone(store);
    let cover = spawn_blocking(move || reading.cover(author)).await.ok()?.ok()??;
    covered_segment(federation, stored, &cover, SEGMENT_BYTES_MAX)
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
