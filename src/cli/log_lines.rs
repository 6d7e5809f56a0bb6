//! The log of a running node: each event as a line. What came from others is escaped.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::show::escaped;
use crate::{
    ledger::{fold::Verdict, types::Millis},
    log::{NodeId, NodeName},
    monitor::counter_of,
    protocol::{
        event::{EntryEvent, Event, SegmentRefusal},
        input::{Address, Ended},
        refusal::{Blame, Refusal},
    },
};

/// Most lines of one kind within [`WINDOW`]. Strangers can cause most kinds as often as they like, and a full disk is
/// worse than a line that is missing; the counters have all of them.
const LINES_PER_KIND_MAX: u64 = 200;
/// The window in which they are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Writes a line for each event until the node is gone.
pub async fn tell(mut events: Receiver<Arc<Event>>) {
    let mut quota = Quota { since: Instant::now(), written: BTreeMap::new() };
    loop {
        match events.recv().await {
            Ok(event) => {
                if quota.allows(&event, Instant::now()) {
                    line(&event);
                }
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "the log could not keep up and misses events");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// How many lines of each kind were written in the current window.
struct Quota {
    since: Instant,
    written: BTreeMap<String, u64>,
}

impl Quota {
    /// Whether one more line of that kind may be written. Where a window ends that had too many, says so.
    fn allows(&mut self, event: &Event, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            for (kind, count) in std::mem::take(&mut self.written) {
                let left_out = count.saturating_sub(LINES_PER_KIND_MAX);
                if left_out > 0 {
                    tracing::warn!(
                        kind,
                        left_out,
                        "too many events of a kind; the counters have all of them"
                    );
                }
            }
            self.since = now;
        }
        let count = self.written.entry(counter_of(event)).or_default();
        *count = count.saturating_add(1);
        *count <= LINES_PER_KIND_MAX
    }
}

fn peer_software(id: &NodeId, software: &str) {
    tracing::debug!(id = %id.short(), software, "what a peer runs");
}

/// What an author did, and what is made of it.
fn fault(event: &Event) {
    if let Event::AuthorFault { author, fault } = event {
        let (kind, seq, (first, second)) = (fault.kind.name(), fault.cut, fault.hashes);
        let what = "an author is convicted: its log ends before that entry, and nothing more of it is taken";
        tracing::warn!(author = %author.short(), kind, %seq, %first, %second, "{what}");
    }
    if let Event::AuthorCleared { author } = event {
        tracing::info!(author = %author.short(), "a convicted author's log is taken again");
    }
    if let Event::ForkSuspected { author, peer, seq } = event {
        let what = "a peer's copy of a log differs from ours; looking for the first entry that does";
        tracing::info!(author = %author.short(), peer = %peer.short(), %seq, "{what}");
    }
}

fn line(event: &Event) {
    match event {
        Event::Entry(entry) => self::entry(entry),
        Event::PeerVerified { id, name, address, dialled } => peer_verified(id, name, address, *dialled),
        Event::PeerSoftware { id, software } => peer_software(id, software),
        Event::PeerLost { id, why } => tracing::info!(id = %id.short(), why = %ended(why), "peer lost"),
        Event::LinkReplaced { id } => tracing::debug!(id = %id.short(), "second link to a peer closed"),
        Event::Refused { id, refusal } => self::refusal(id.as_ref(), refusal, "refused a peer"),
        Event::RefusedBy { id, refusal } => self::refusal(Some(id), refusal, "refused by a peer"),
        Event::DialFailed { id, addresses, why } => dial_failed(id.as_ref(), addresses, why),
        Event::Seen { id, source, ours } => {
            tracing::debug!(id = %who(id.as_ref()), source = source.name(), ours, "heard of a node");
        }
        Event::SegmentRefused { from, why } => segment_refused(from, why),
        Event::RecordsRefused { from } => records_refused(from),
        Event::PeerPending { id, name } => peer_pending(id, name.as_deref()),
        Event::MemberRevoked { node, own } => revoked(node, *own),
        Event::ClockSkew { author, ahead } => clock_skew(author, *ahead),
        Event::OwnClockSkew { ahead } => own_clock_skew(*ahead),
        Event::Divergence { author, peer, seq, ours, theirs } => {
            let what = "two nodes computed different accounts from one log; report it with the logs of both";
            let (ours, theirs) = (ours.0, theirs.0);
            tracing::warn!(author = %author.short(), peer = %peer.short(), %seq, %ours, %theirs, "{what}");
        }
        Event::OwnLogAwaited { why } => tracing::warn!("this node does not write yet: {}", escaped(why)),
        Event::OwnLogRecovered { through } => {
            let through = through.map_or_else(|| "nothing".to_owned(), |through| through.to_string());
            tracing::info!(through, "this node has its own log whole, and writes");
        }
        Event::OwnLogBehind { peer, theirs } => {
            tracing::warn!(peer = %peer.short(), %theirs, "a peer holds entries of our own log that we lack");
        }
        Event::WritingHalted { why } => tracing::error!("this node writes nothing more: {}", escaped(why)),
        Event::Clone { id, own } => match own {
            true => tracing::error!(id = %id.short(), "another process runs with this node's key"),
            false => tracing::warn!(id = %id.short(), "two processes run with one peer's key"),
        },
        Event::DiskLow(low) => {
            let (free_mib, min_mib) = (low.free >> 20, low.min >> 20);
            tracing::error!(
                free_mib,
                min_mib,
                "too little room on the disk: this node only reads and serves"
            );
        }
        Event::DiskRoomy => tracing::info!("there is room on the disk again: this node writes"),
        Event::EntryDamaged { author, seq } => {
            tracing::error!(author = %author.short(), %seq, "a stored entry is damaged; it is fetched again");
        }
        Event::StoreUnreadable { what } => tracing::error!("{}", escaped(what)),
        Event::Mending { author, span } => {
            let (first, last) = (span.first, span.last);
            tracing::debug!(author = %author.short(), %first, %last, "asked for entries that are missing here");
        }
        Event::AuthorFault { .. } | Event::AuthorCleared { .. } | Event::ForkSuspected { .. } => fault(event),
        Event::NameTaken { id, name } => {
            tracing::warn!(id = %id.short(), %name, "another node had that name first; this one is shown with its id");
        }
        Event::PeerBehind { id } => tracing::debug!(id = %id.short(), "a peer is behind and will catch up"),
        Event::Wanted { from, author } => {
            tracing::debug!(from = %from.short(), author = %author.short(), "asked for entries");
        }
        Event::Serving { to, author } => {
            tracing::debug!(to = %to.short(), author = %author.short(), "sending entries that were asked for");
        }
        Event::HandshakeFailed { address, fault, why } => {
            tracing::info!(%address, code = fault.name(), why = %escaped(why), "a connection came to nothing");
        }
        Event::Trouble { what } => tracing::warn!("{}", escaped(what)),
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

#[expect(clippy::fn_params_excessive_bools, reason = "the event has it so")]
fn peer_verified(id: &NodeId, name: &NodeName, address: &SocketAddr, dialled: bool) {
    let how = if dialled { "dialled" } else { "accepted" };
    tracing::info!(peer = %name, id = %id.short(), %address, how, "peer verified");
}

/// Refusals that are nobody's fault are details: every pair of nodes that dial each other has one.
fn refusal(id: Option<&NodeId>, refusal: &Refusal, what: &'static str) {
    let (id, code, remedy) = (who(id), refusal.code.name(), refusal.code.remedy());
    let why = escaped(&refusal.to_string());
    match refusal.code.blame() {
        Blame::Nobody => tracing::debug!(%id, code, %why, "{what}"),
        Blame::Peer | Blame::Author | Blame::Ours => tracing::info!(%id, code, %why, remedy, "{what}"),
    }
}

fn dial_failed(id: Option<&NodeId>, addresses: &[Address], why: &str) {
    let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
    let addresses = escaped(&addresses.join(", "));
    tracing::debug!(id = %who(id), %addresses, why = %escaped(why), "dialling led nowhere");
}

fn records_refused(from: &NodeId) {
    tracing::info!(from = %from.short(), "a peer record refused that its node did not sign");
}

fn segment_refused(from: &NodeId, why: &SegmentRefusal) {
    tracing::info!(from = %from.short(), why = %escaped(&why.to_string()), "entries refused");
}

fn peer_pending(id: &NodeId, name: Option<&str>) {
    let name = escaped(name.unwrap_or_default());
    tracing::warn!(id = %id, %name, "a node waits to be approved; `cogmesh peers approve` links it");
}

#[expect(clippy::fn_params_excessive_bools, reason = "it says who, not what to do")]
fn revoked(node: &NodeId, own: bool) {
    match own {
        true => tracing::error!("this node is a member of its federation no more"),
        false => tracing::warn!(id = %node.short(), "a node is a member of this federation no more"),
    }
}

fn clock_skew(author: &NodeId, ahead: Millis) {
    tracing::warn!(
        author = %author.short(),
        ahead_ms = ahead.0,
        "an author's clock is ahead of this node's: its entries wait; check both clocks"
    );
}

fn own_clock_skew(ahead: Millis) {
    tracing::warn!(
        ahead_ms = ahead.0,
        "this node's clock is ahead of its peers': it writes with theirs; set the clock"
    );
}

fn who(id: Option<&NodeId>) -> String {
    id.map_or_else(|| "unknown".to_owned(), NodeId::short)
}

fn ended(why: &Ended) -> String {
    match why {
        Ended::Closed => "closed by this node".to_owned(),
        Ended::Refused(refusal) => escaped(&refusal.to_string()),
        Ended::Broke(what) => escaped(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event::HandshakeFault;

    #[test]
    fn a_flood_of_one_kind_is_cut_and_leaves_the_other_kinds_alone() {
        let start = Instant::now();
        let mut quota = Quota { since: start, written: BTreeMap::new() };
        let failed = Event::HandshakeFailed {
            address: SocketAddr::from(([10, 0, 0, 1], 1)),
            fault: HandshakeFault::BrokeRules,
            why: "no TLS".to_owned(),
        };
        let written = (0..10_000).filter(|_| quota.allows(&failed, start)).count();
        assert_eq!(written, 200);
        assert!(quota.allows(&Event::Trouble { what: "multicast".to_owned() }, start));
        assert!(quota.allows(&failed, start + WINDOW), "a new window");
    }
}
