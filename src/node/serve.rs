//! Serving a want: an author's stored entries as segments on a catch-up stream, read while they are sent.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::{
    ledger::types::Seq,
    log::{
        Entry, FederationId, Head, Identity, NodeId, Segment, Signature,
        books::{Span, StoredEntry},
    },
    net::Endpoint,
    protocol::{input::LinkId, wire::SEGMENT_BYTES_MAX},
    store::{Store, StoreError},
};

/// Sends that author's entries of that span, as far as the store holds them undamaged. Ends early where the link goes, and
/// gives back the first damaged entry that it met.
///
/// # Cancel safety
/// The peer keeps what it got, and asks for the rest.
pub(super) async fn serve(
    endpoint: Arc<Endpoint>,
    store: Arc<dyn Store>,
    keys: (Arc<Identity>, FederationId),
    (link, author): (LinkId, NodeId),
    span: Span,
) -> Option<Seq> {
    let (identity, federation) = keys;
    let mut stream = endpoint.catch_up(link)?;
    let mut from = span.first;
    let mut damaged = None;
    while from <= span.last {
        let reading = Arc::clone(&store);
        let read = spawn_blocking(move || reading.entries(author, from, SEGMENT_BYTES_MAX)).await;
        let stored = match read {
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
        let segment = if author == identity.node_id() {
            own_segment(&identity, &federation, &stored, span.last)
        } else {
            signed_segment(&federation, author, &stored, span.last)
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
    let mut entries = parse(federation, stored)?;
    entries.retain(|entry| entry.seq() <= through);
    Segment::own(entries, identity, federation).ok().map(|segment| segment.into_inner())
}

/// Another's entries, up to the first at or behind `through` for which we hold its author's signature, or else the last one.
fn signed_segment(
    federation: &FederationId,
    author: NodeId,
    stored: &[StoredEntry],
    through: Seq,
) -> Option<Segment> {
    let entries = parse(federation, stored)?;
    let signed = entries.iter().zip(stored).enumerate().filter(|(_, (_, stored))| stored.signature.is_some());
    let signed: Vec<(usize, Seq)> = signed.map(|(place, (entry, _))| (place, entry.seq())).collect();
    let enough = signed.iter().find(|(_, seq)| *seq >= through);
    let (last_signed, _) = *enough.or_else(|| signed.last())?;
    let signature: Signature = stored.get(last_signed)?.signature?;
    let entries: Vec<Entry> = entries.into_iter().take(last_signed.saturating_add(1)).collect();
    let last = entries.last()?;
    let head = Head { author, seq: last.header().seq, hash: last.hash(), signature };
    Segment::new(entries, head).ok()
}

fn parse(federation: &FederationId, stored: &[StoredEntry]) -> Option<Vec<Entry>> {
    let parsed: Result<Vec<Entry>, _> = stored
        .iter()
        .map(|entry| Entry::parse(federation, entry.header.clone(), entry.content.clone()))
        .collect();
    match parsed {
        Ok(entries) if !entries.is_empty() => Some(entries),
        Ok(_) => None,
        Err(error) => {
            tracing::error!(%error, "a stored entry is damaged and is not sent");
            None
        }
    }
}
