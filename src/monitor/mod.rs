//! Folds events into counters and alerts. No counter is touched inside the core.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use data_encoding::HEXLOWER;

use crate::{
    ledger::fold::Verdict,
    log::{FaultKind, NodeId, books::AuthorFault},
    protocol::{event::Event, frame::SOFTWARE, refusal::RefusalCode},
};

/// Most alerts that are kept, one for each thing that they are about; the oldest goes first.
const ALERTS_MAX: usize = 256;

/// Peers whose programs are remembered, 64 bytes each at most.
const SOFTWARE_MAX: usize = 1_024;

/// What happened so far, in numbers.
#[derive(Debug, Default)]
pub struct Monitor {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counters: BTreeMap<String, u64>,
    alerts: Vec<Alert>,
    /// What programs peers run; at most [`SOFTWARE_MAX`].
    software: BTreeMap<NodeId, String>,
}

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What kind, such as `divergence`.
    pub name: &'static str,
    /// What it is about; may hold foreign text.
    pub about: String,
    /// When it was first seen: milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How often it was seen.
    pub count: u64,
}

impl Monitor {
    /// Takes an event in. `wall_ms`: milliseconds since the Unix epoch.
    pub fn note(&self, event: &Event, wall_ms: u64) {
        let mut state = self.lock();
        state.count(counter_of(event));
        if let Event::HandshakeFailed { fault, .. } = event {
            state.count(format!("handshakes_failed_{}", fault.name()));
        }
        if let Event::PeerSoftware { id, software } = event {
            state.remember(*id, software);
        }
        if let Some((name, mut about)) = alert_of(event) {
            if let Event::Divergence { peer, .. } = event {
                let theirs = state.software.get(peer).map_or("an unknown program", String::as_str);
                about.push_str(&format!("; {SOFTWARE} here, {theirs} there"));
            }
            state.raise(name, about, wall_ms);
        }
        if let Event::AuthorCleared { author } = event {
            let about = format!("author {author} ");
            state.alerts.retain(|alert| alert.name != "fork" || !alert.about.starts_with(&about));
        }
        if let Some(name) = ended_by(event) {
            state.alerts.retain(|alert| alert.name != name);
        }
    }

    /// Raises an alert that no event tells of.
    pub fn raise(&self, name: &'static str, about: String, wall_ms: u64) {
        self.lock().raise(name, about, wall_ms);
    }

    /// Counts what no event tells.
    pub fn tally(&self, name: &str) {
        self.lock().count(name.to_owned());
    }

    /// Ends an alert that no event ends.
    pub fn end(&self, name: &str) {
        self.lock().alerts.retain(|alert| alert.name != name);
    }

    /// How often what happened since the process started.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.lock().counters.clone()
    }

    /// What a person should look at, the oldest first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.lock().alerts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counting can't leave the numbers half changed, so a panic elsewhere does not spoil them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, id: NodeId, software: &str) {
        if self.software.len() < SOFTWARE_MAX || self.software.contains_key(&id) {
            self.software.insert(id, software.to_owned());
        }
    }

    fn count(&mut self, name: String) {
        let counter = self.counters.entry(name).or_default();
        *counter = counter.saturating_add(1);
    }

    fn raise(&mut self, name: &'static str, about: String, wall_ms: u64) {
        if let Some(alert) = self.alerts.iter_mut().find(|alert| alert.name == name && alert.about == about) {
            alert.count = alert.count.saturating_add(1);
            return;
        }
        if self.alerts.len() >= ALERTS_MAX {
            self.alerts.remove(0);
        }
        self.alerts.push(Alert { name, about, since_ms: wall_ms, count: 1 });
    }
}

/// The counter that an event moves. Names are made of our own words only, so their number is bounded.
#[must_use]
pub fn counter_of(event: &Event) -> String {
    match event {
        Event::Entry(entry) => {
            let whose = if entry.own { "own" } else { "others" };
            match entry.verdict {
                None => format!("entries_genesis_{whose}"),
                Some(Verdict::Accepted { .. }) => format!("entries_accepted_{whose}"),
                Some(Verdict::Rejected { .. }) => format!("entries_rejected_{whose}"),
            }
        }
        Event::PeerVerified { .. } => "peers_verified".to_owned(),
        Event::PeerLost { .. } => "peers_lost".to_owned(),
        Event::LinkReplaced { .. } => "links_replaced".to_owned(),
        Event::PeerSoftware { .. } => "peers_told_software".to_owned(),
        Event::Refused { refusal, .. } => format!("refused_{}", refusal.code.name()),
        Event::RefusedBy { refusal, .. } => format!("refused_by_peer_{}", refusal.code.name()),
        Event::DialFailed { .. } => "dials_failed".to_owned(),
        Event::Seen { source, .. } => format!("seen_{}", source.name()),
        Event::SegmentRefused { .. } => "segments_refused".to_owned(),
        Event::RecordsRefused { .. } => "records_refused".to_owned(),
        Event::PeerPending { .. } => "peers_pending".to_owned(),
        Event::MemberRevoked { .. } => "members_revoked".to_owned(),
        Event::ClockSkew { .. } => "clock_skew".to_owned(),
        Event::OwnClockSkew { .. } => "clock_skew_own".to_owned(),
        Event::Divergence { .. } => "divergence".to_owned(),
        Event::OwnLogBehind { .. } => "own_log_behind".to_owned(),
        Event::OwnLogAwaited { .. } => "own_log_awaited".to_owned(),
        Event::OwnLogRecovered { .. } => "own_log_recovered".to_owned(),
        Event::WritingHalted { .. } => "writing_halted".to_owned(),
        Event::Clone { .. } => "clones".to_owned(),
        Event::DiskLow(_) => "disk_low".to_owned(),
        Event::DiskRoomy => "disk_roomy".to_owned(),
        Event::EntryDamaged { .. } => "entries_damaged".to_owned(),
        Event::StoreUnreadable { .. } => "store_unreadable".to_owned(),
        Event::Mending { .. } => "mends_asked".to_owned(),
        Event::AuthorFault { fault, .. } => format!("authors_convicted_{}", fault.kind.name()),
        Event::AuthorCleared { .. } => "authors_cleared".to_owned(),
        Event::ForkSuspected { .. } => "forks_suspected".to_owned(),
        Event::NameTaken { .. } => "names_taken".to_owned(),
        Event::PeerBehind { .. } => "peers_behind".to_owned(),
        Event::Wanted { .. } => "wants_sent".to_owned(),
        Event::Serving { .. } => "wants_served".to_owned(),
        Event::HandshakeFailed { .. } => "handshakes_failed".to_owned(),
        Event::Trouble { .. } => "troubles".to_owned(),
    }
}

fn alert_of(event: &Event) -> Option<(&'static str, String)> {
    match event {
        Event::Divergence { author, peer, seq, ours, theirs } => Some((
            "divergence",
            format!(
                "author {author} at entry {seq}: {} here, {} at peer {peer}; account digest {} here, {} there",
                ours.0,
                theirs.0,
                HEXLOWER.encode(&ours.1),
                HEXLOWER.encode(&theirs.1)
            ),
        )),
        Event::OwnLogBehind { peer, theirs } => Some((
            "own_log_behind",
            format!("peer {peer} holds our entry {theirs}, and this data directory does not"),
        )),
        Event::OwnLogAwaited { why } => Some(("own_log_awaited", why.clone())),
        Event::WritingHalted { why } => Some(("writing_halted", why.clone())),
        Event::Clone { id, .. } => Some(("clone", clone_about(*id))),
        Event::DiskLow(low) => Some((
            "disk_low",
            format!(
                "fewer than {} MiB are free; the node only reads and serves until there is more",
                low.min >> 20
            ),
        )),
        Event::StoreUnreadable { what } => Some(("store_damaged", what.clone())),
        Event::EntryDamaged { author, .. } => Some(("store_damaged", format!("entries of author {author}"))),
        Event::AuthorFault { author, fault } => Some(("fork", fork_about(*author, fault))),
        Event::ClockSkew { author, .. } => Some(("clock_skew", format!("author {author}"))),
        Event::OwnClockSkew { .. } => {
            Some(("clock_skew", "this node's clock is ahead of its peers'".to_owned()))
        }
        Event::NameTaken { id, name } => Some(("name_taken", format!("{id} claims the name {name}"))),
        Event::Trouble { what } => Some(("trouble", what.clone())),
        Event::MemberRevoked { own: true, .. } => {
            Some(("revoked", "this node is a member of its federation no more".to_owned()))
        }
        // Who was away when it was revoked gets no further than this, so the CA's word never reaches it: only what its peers say.
        Event::RefusedBy { refusal, .. } if refusal.code == RefusalCode::Revoked => {
            Some(("revoked", "peers refuse this node: they say that its membership was revoked".to_owned()))
        }
        Event::Entry(_)
        | Event::PeerSoftware { .. }
        | Event::PeerVerified { .. }
        | Event::PeerLost { .. }
        | Event::LinkReplaced { .. }
        | Event::Refused { .. }
        | Event::RefusedBy { .. }
        | Event::DialFailed { .. }
        | Event::Seen { .. }
        | Event::SegmentRefused { .. }
        | Event::RecordsRefused { .. }
        | Event::MemberRevoked { own: false, .. }
        | Event::PeerPending { .. }
        | Event::PeerBehind { .. }
        | Event::Wanted { .. }
        | Event::Serving { .. }
        | Event::AuthorCleared { .. }
        | Event::ForkSuspected { .. }
        | Event::OwnLogRecovered { .. }
        | Event::DiskRoomy
        | Event::Mending { .. }
        | Event::HandshakeFailed { .. } => None,
    }
}

fn fork_about(author: NodeId, fault: &AuthorFault) -> String {
    let (cut, (first, second)) = (fault.cut, fault.hashes);
    match fault.kind {
        FaultKind::Fork => format!("author {author} signed two entries {cut}: {first} and {second}"),
        FaultKind::FalseHeader => {
            format!("author {author} signed a false header as entry {cut}: {first}, of the content {second}")
        }
    }
}

fn clone_about(id: NodeId) -> String {
    format!("node key {id} is live in two places")
}

/// The alert that an event ends.
const fn ended_by(event: &Event) -> Option<&'static str> {
    match event {
        Event::OwnLogRecovered { .. } | Event::WritingHalted { .. } => Some("own_log_awaited"),
        Event::DiskRoomy => Some("disk_low"),
        Event::Entry(_)
        | Event::PeerSoftware { .. }
        | Event::PeerVerified { .. }
        | Event::PeerLost { .. }
        | Event::LinkReplaced { .. }
        | Event::Refused { .. }
        | Event::RefusedBy { .. }
        | Event::DialFailed { .. }
        | Event::Seen { .. }
        | Event::SegmentRefused { .. }
        | Event::RecordsRefused { .. }
        | Event::MemberRevoked { .. }
        | Event::PeerPending { .. }
        | Event::ClockSkew { .. }
        | Event::OwnClockSkew { .. }
        | Event::Divergence { .. }
        | Event::OwnLogAwaited { .. }
        | Event::OwnLogBehind { .. }
        | Event::Clone { .. }
        | Event::DiskLow(_)
        | Event::EntryDamaged { .. }
        | Event::StoreUnreadable { .. }
        | Event::Mending { .. }
        | Event::AuthorFault { .. }
        | Event::AuthorCleared { .. }
        | Event::ForkSuspected { .. }
        | Event::NameTaken { .. }
        | Event::PeerBehind { .. }
        | Event::Wanted { .. }
        | Event::HandshakeFailed { .. }
        | Event::Trouble { .. }
        | Event::Serving { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::protocol::event::HandshakeFault;

    #[test]
    fn a_failed_handshake_is_counted_among_all_and_by_its_code() {
        let monitor = Monitor::default();
        for fault in [HandshakeFault::Expired, HandshakeFault::NoCertificate, HandshakeFault::Expired] {
            let address = SocketAddr::from(([10, 0, 0, 1], 1));
            monitor.note(&Event::HandshakeFailed { address, fault, why: String::new() }, 0);
        }
        let counted = [
            ("handshakes_failed".to_owned(), 3),
            ("handshakes_failed_expired".to_owned(), 2),
            ("handshakes_failed_no_certificate".to_owned(), 1),
        ];
        assert_eq!(monitor.counters(), counted.into());
    }
}
