//! The log of a running node: each event as a line. What came from others is escaped.

use std::sync::Arc;

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::show::escaped;
use crate::{
    ledger::fold::Verdict,
    log::NodeId,
    protocol::{
        input::{Address, Ended, EntryEvent, Event},
        refusal::Refusal,
    },
};

/// Writes a line for each event until the node is gone.
pub async fn tell(mut events: Receiver<Arc<Event>>) {
    loop {
        match events.recv().await {
            Ok(event) => line(&event),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "the log could not keep up and misses events")
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn line(event: &Event) {
    match event {
        Event::Entry(entry) => self::entry(entry),
        Event::PeerVerified {
            id,
            name,
            address,
            dialled,
        } => {
            let how = if *dialled { "dialled" } else { "accepted" };
            tracing::info!(peer = %name, id = %id.short(), %address, how, "peer verified");
        }
        Event::PeerLost { id, why } => tracing::info!(id = %id.short(), why = %ended(why), "peer lost"),
        Event::Refused { id, refusal } => refused(id.as_ref(), refusal),
        Event::RefusedBy { id, refusal } => refused_by(id, refusal),
        Event::SegmentRefused { from, why } => {
            tracing::info!(from = %from.short(), why = %escaped(&why.to_string()), "entries refused");
        }
        Event::HandshakeFailed { address, why } => {
            tracing::info!(%address, why = %escaped(why), "a connection came to nothing");
        }
        Event::ClockSkew { .. }
        | Event::OwnClockSkew { .. }
        | Event::Divergence { .. }
        | Event::ForkSeen { .. }
        | Event::NameTaken { .. }
        | Event::Trouble { .. } => warning(event),
        Event::LinkReplaced { .. }
        | Event::DialFailed { .. }
        | Event::Seen { .. }
        | Event::PeerBehind { .. }
        | Event::Wanted { .. }
        | Event::Serving { .. } => detail(event),
    }
}

fn entry(entry: &EntryEvent) {
    let (author, id, seq) = (&entry.name, entry.author.short(), entry.seq);
    let (delta, balance) = (entry.delta, entry.balance);
    match entry.verdict {
        None => tracing::info!(%author, %id, %balance, "new author"),
        Some(Verdict::Accepted { .. }) => {
            tracing::info!(%author, %id, %seq, %delta, %balance, "thought accepted");
        }
        Some(Verdict::Rejected { by, .. }) => {
            tracing::info!(%author, %id, %seq, layer = by.name(), %delta, %balance, "thought rejected");
        }
    }
}

/// Ends that are how the protocol works are told as details: every pair of nodes that dial each other has one.
fn refused(id: Option<&NodeId>, refusal: &Refusal) {
    let id = id.map_or_else(|| "unknown".to_owned(), NodeId::short);
    let (code, remedy) = (refusal.code.name(), refusal.code.remedy());
    match refusal.code.blame() {
        crate::protocol::refusal::Blame::Nobody => {
            tracing::debug!(%id, code, why = %escaped(&refusal.to_string()), "link ended");
        }
        crate::protocol::refusal::Blame::Peer
        | crate::protocol::refusal::Blame::Author
        | crate::protocol::refusal::Blame::Ours => {
            tracing::info!(%id, code, why = %escaped(&refusal.to_string()), remedy, "refused a peer");
        }
    }
}

fn refused_by(id: &NodeId, refusal: &Refusal) {
    let (code, remedy) = (refusal.code.name(), refusal.code.remedy());
    match refusal.code.blame() {
        crate::protocol::refusal::Blame::Nobody => {
            tracing::debug!(id = %id.short(), code, why = %escaped(&refusal.to_string()), "link ended by the peer");
        }
        crate::protocol::refusal::Blame::Peer
        | crate::protocol::refusal::Blame::Author
        | crate::protocol::refusal::Blame::Ours => {
            tracing::info!(id = %id.short(), code, why = %escaped(&refusal.to_string()), remedy, "refused by a peer");
        }
    }
}

fn warning(event: &Event) {
    match event {
        Event::ClockSkew { author, ahead } => tracing::warn!(
            author = %author.short(),
            ahead_ms = ahead.0,
            "an author's clock is ahead of this node's: its entries wait; check both clocks"
        ),
        Event::OwnClockSkew { ahead } => tracing::warn!(
            ahead_ms = ahead.0,
            "this node's clock is ahead of its peers': it writes with theirs; set the clock"
        ),
        Event::Divergence {
            author,
            peer,
            seq,
            ours,
            theirs,
        } => tracing::warn!(
            author = %author.short(),
            peer = %peer.short(),
            %seq,
            %ours,
            %theirs,
            "two nodes computed different accounts from one log; report it with the logs of both"
        ),
        Event::ForkSeen { author, seq } => tracing::warn!(
            author = %author.short(),
            %seq,
            "an author signed two different entries with one seq"
        ),
        Event::NameTaken { id, name } => tracing::warn!(
            id = %id.short(),
            %name,
            "another node has that name already; this one is shown with its id"
        ),
        Event::Trouble { what } => tracing::warn!("{}", escaped(what)),
        other => tracing::warn!("{}", escaped(&format!("{other:?}"))),
    }
}

fn detail(event: &Event) {
    match event {
        Event::LinkReplaced { id } => tracing::debug!(id = %id.short(), "second link to a peer closed"),
        Event::DialFailed { id, addresses, why } => {
            let id = id.map_or_else(|| "unknown".to_owned(), |id| id.short());
            let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
            tracing::debug!(%id, addresses = %addresses.join(", "), why = %escaped(why), "dialling led nowhere");
        }
        Event::Seen { id, source, ours } => {
            let id = id.map_or_else(|| "unknown".to_owned(), |id| id.short());
            tracing::debug!(%id, source = source.name(), ours, "heard of a node");
        }
        Event::PeerBehind { id } => tracing::debug!(id = %id.short(), "a peer is behind and will catch up"),
        Event::Wanted { from, author } => {
            tracing::debug!(from = %from.short(), author = %author.short(), "asked for entries");
        }
        Event::Serving { to, author } => {
            tracing::debug!(to = %to.short(), author = %author.short(), "sending entries that were asked for");
        }
        other => tracing::debug!("{}", escaped(&format!("{other:?}"))),
    }
}

fn ended(why: &Ended) -> String {
    match why {
        Ended::Closed => "closed by this node".to_owned(),
        Ended::Refused(refusal) => escaped(&refusal.to_string()),
        Ended::Broke(what) => escaped(what),
    }
}
