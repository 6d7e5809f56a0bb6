//! Serving a want: an author's stored entries as segments on a catch-up stream, read while they are sent.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::{
    ledger::types::Seq,
    log::{Entry, FederationId, Head, Identity, NodeId, Segment, Signature, books::StoredEntry},
    net::Endpoint,
    protocol::{input::LinkId, wire::SEGMENT_BYTES_MAX},
    store::Store,
};

/// Sends that author's entries from `from` on, as far as the store holds them. Ends early where the link goes.
///
/// # Cancel safety
/// The peer keeps what it got, and asks for the rest.
pub(super) async fn serve(
    endpoint: Arc<Endpoint>,
    store: Arc<dyn Store>,
    keys: (Arc<Identity>, FederationId),
    (link, author): (LinkId, NodeId),
    mut from: Seq,
) {
    let (identity, federation) = keys;
    let Some(mut stream) = endpoint.catch_up(link) else {
        return;
    };
    loop {
        let reading = Arc::clone(&store);
        let read = spawn_blocking(move || reading.entries(author, from, SEGMENT_BYTES_MAX)).await;
        let stored = match read {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) => {
                tracing::error!(%error, author = %author, "can't read stored entries for a peer");
                break;
            }
            Err(_) => break,
        };
        let segment = if author == identity.node_id() {
            own_segment(&identity, &federation, &stored)
        } else {
            signed_segment(&federation, author, &stored)
        };
        let Some(segment) = segment else { break };
        from = segment.last().next();
        if stream.send(&segment).await.is_err() {
            return;
        }
    }
    // A stream that ends early is asked for again; there is nothing else to do about it.
    let _gone = stream.finish().await;
}

/// Our own entries: what the store holds may be signed, so the last one read is.
fn own_segment(identity: &Identity, federation: &FederationId, stored: &[StoredEntry]) -> Option<Segment> {
    let entries = parse(federation, stored)?;
    Segment::own(entries, identity, federation).ok().map(|segment| segment.into_inner())
}

/// Another's entries, up to the last one for which we hold its author's signature.
fn signed_segment(federation: &FederationId, author: NodeId, stored: &[StoredEntry]) -> Option<Segment> {
    let last_signed = stored.iter().rposition(|entry| entry.signature.is_some())?;
    let signature: Signature = stored.get(last_signed)?.signature?;
    let entries = parse(federation, stored.get(..=last_signed)?)?;
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
