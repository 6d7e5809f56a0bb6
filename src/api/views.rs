//! What a node knows, as JSON: the core's view and the shell's numbers put together. Nothing is decided here.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use data_encoding::HEXLOWER;

use super::{error::Fault, json, unlinked};
use crate::{
    ledger::{policy::Policy, types::Millis},
    log::{NodeId, books::AuthorFault},
    monitor,
    node::{Approved, Handle, NodeGone},
    protocol::{
        input::{Answer, Source},
        view::{AuthorView, InStep, Known, PeerState, PeerView, Unlinked, VerifiedPeer, View},
    },
};

/// Fewest characters of an id that may stand for the whole: two authors of a federation seldom share four.
const ID_PREFIX_CHARS_MIN: usize = 4;
/// Fewest of one that is to be trusted: 80 bits, more than anybody makes a key for.
const APPROVED_PREFIX_CHARS_MIN: usize = 16;

/// What the node is and knows.
///
/// # Errors
/// Where it stops meanwhile.
pub async fn status(handle: &Handle) -> Result<json::Status, NodeGone> {
    let view = handle.view().await?;
    Ok(json::Status {
        node: node(handle),
        listen: handle.listen().iter().map(ToString::to_string).collect(),
        api: handle.api_address().map(|address| address.to_string()),
        connections: handle.connections(),
        own_log: own_log(&view),
        corpus: corpus(handle, &view),
        peers: peers(handle, &view),
        authors: authors(handle, &view.known),
        counters: counters(handle, &view),
        alerts: alerts(handle),
    })
}

/// What happened so far, and what must not have.
fn counters(handle: &Handle, view: &View) -> BTreeMap<String, u64> {
    let mut counters = handle.counters();
    counters.insert("lost_thoughts".to_owned(), view.lost_thoughts);
    counters
}

fn own_log(view: &View) -> json::OwnLog {
    json::OwnLog { state: view.own_log.name().to_owned(), why: view.own_log.why().map(str::to_owned) }
}

fn corpus(handle: &Handle, view: &View) -> json::Corpus {
    let size = handle.store().corpus();
    json::Corpus { thoughts: size.thoughts, bytes: size.bytes, missing: view.missing }
}

/// Whether the node listens, has an account and may write: not before a new node's genesis entry is stored.
///
/// # Errors
/// Where it stops meanwhile.
pub async fn is_ready(handle: &Handle) -> Result<Readiness, NodeGone> {
    let view = handle.view().await?;
    if let Some(why) = view.own_log.why() {
        return Ok(Readiness::NotWriting { state: view.own_log.name(), why: why.to_owned() });
    }
    let has_begun = view.known.authors.contains_key(&handle.about().id) && !handle.listen().is_empty();
    Ok(if has_begun { Readiness::Ready } else { Readiness::Starting })
}

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is not there yet.
    Starting,
    /// It listens and has an account.
    Ready,
    /// It listens and serves, and may not write.
    NotWriting {
        /// How it stands, in one word.
        state: &'static str,
        /// Why, and what to do.
        why: String,
    },
}

/// What the node says of itself.
#[must_use]
pub fn node(handle: &Handle) -> json::Node {
    let about = handle.about();
    json::Node {
        id: about.id.to_text(),
        name: about.name.to_string(),
        hardware: about.hardware.name().to_owned(),
        level: about.level.number(),
        arch: about.arch.to_string(),
        version: about.version.to_owned(),
        uptime_s: handle.uptime().as_secs(),
        certificate_fingerprint: handle.certificate_fingerprint(),
        certificate_expires_ms: handle.certificate_expires_ms(),
        federation: json::Federation {
            id: about.federation.hex(),
            name: about.federation_name.to_string(),
            closed: about.closed,
        },
    }
}

/// Linked peers first, then those only heard of.
#[must_use]
pub fn peers(handle: &Handle, view: &View) -> Vec<json::Peer> {
    let mut peers: Vec<json::Peer> = view.peers.iter().map(|peer| self::peer(handle, peer)).collect();
    peers.sort_by(|one, other| other.verified.cmp(&one.verified).then_with(|| one.name.cmp(&other.name)));
    peers
}

fn peer(handle: &Handle, peer: &PeerView) -> json::Peer {
    let heard_of = json::Peer {
        id: peer.id.map(|id| id.to_text()),
        name: peer.name.clone(),
        address: peer.addresses.first().map(ToString::to_string),
        verified: false,
        method: None,
        rtt_us: None,
        connected_s: None,
        bytes_sent: None,
        bytes_received: None,
        hardware: None,
        level: None,
        arch: None,
        dialled: None,
        clock_ahead_ms: None,
        sources: peer.sources.iter().copied().map(Source::name).map(str::to_owned).collect(),
        reason: None,
        step: peer.step.as_ref().map(step),
        state: String::new(),
        remedy: None,
        retry_s: None,
        addresses: peer.addresses.iter().map(ToString::to_string).collect(),
    };
    match &peer.state {
        PeerState::Verified(linked) => verified(handle, linked, heard_of),
        PeerState::Seen(why) => unlinked::explained(peer, why, heard_of),
    }
}

fn verified(handle: &Handle, linked: &VerifiedPeer, heard_of: json::Peer) -> json::Peer {
    let stats = handle.link_stats(linked.link);
    let rtt_us = stats.as_ref().map(|stats| u64::try_from(stats.rtt.as_micros()).unwrap_or(u64::MAX));
    json::Peer {
        address: Some(linked.address.to_string()),
        verified: true,
        state: "linked".to_owned(),
        method: Some(linked.method.name().to_owned()),
        rtt_us,
        connected_s: Some(linked.connected.0 / 1_000),
        bytes_sent: stats.as_ref().map(|stats| stats.bytes_sent),
        bytes_received: stats.as_ref().map(|stats| stats.bytes_received),
        hardware: Some(linked.hardware.name().to_owned()),
        level: Some(linked.level),
        arch: Some(linked.arch.to_string()),
        dialled: Some(linked.dialled),
        clock_ahead_ms: Some(linked.clock_ahead_ms),
        ..heard_of
    }
}

fn step(step: &InStep) -> json::Step {
    let acknowledged = step.acknowledged.iter();
    json::Step {
        missing_here: step.missing_here,
        missing_there: step.missing_there,
        identical_since_ms: step.identical_since.map(|since| since.0),
        acknowledged: acknowledged
            .map(|(author, seq)| json::Acknowledged { author: author.to_text(), seq: seq.0 })
            .collect(),
    }
}

/// Every author, in the order of their ids; then convicted ones of whose log nothing is left.
#[must_use]
pub fn authors(handle: &Handle, known: &Known) -> Vec<json::Author> {
    let (policy, now) = (&handle.about().policy, now());
    let authors = known.authors.iter().map(|(id, author)| self::author(policy, now, *id, author));
    authors.chain(known.erased.iter().map(|(id, fault)| erased(*id, *fault))).collect()
}

fn author(policy: &Policy, now: Millis, id: NodeId, author: &AuthorView) -> json::Author {
    let book = &author.book;
    let account = &book.account;
    json::Author {
        id: id.to_text(),
        name: author.name.clone(),
        seq: account.seq.0,
        hash: HEXLOWER.encode(&book.hash.0),
        balance_uatp: account.balance.0,
        trust_ppm: account.trust.0,
        weight_ppm: account.weight(policy).0,
        accepted: account.accepted,
        rejected: account.rejected,
        frozen_until_ms: account.frozen_until.0,
        digest: HEXLOWER.encode(&account.digest()),
        state: state(author, now).to_owned(),
        fault: author.fault.map(fault),
        hardware: book.hardware.name().to_owned(),
        level: account.level.number(),
        arch: book.arch.to_string(),
    }
}

/// A convicted author of whose log nothing is left has an id, and nothing else.
fn erased(id: NodeId, found: AuthorFault) -> json::Author {
    json::Author {
        id: id.to_text(),
        name: id.short(),
        seq: 0,
        hash: String::new(),
        balance_uatp: 0,
        trust_ppm: 0,
        weight_ppm: 0,
        accepted: 0,
        rejected: 0,
        frozen_until_ms: 0,
        digest: String::new(),
        state: "forked".to_owned(),
        fault: Some(fault(found)),
        hardware: "unknown".to_owned(),
        level: 0,
        arch: String::new(),
    }
}

fn fault(fault: AuthorFault) -> json::AuthorFault {
    json::AuthorFault {
        kind: fault.kind.name().to_owned(),
        seq: fault.cut.0,
        hashes: [fault.hashes.0.to_string(), fault.hashes.1.to_string()],
        found_ms: fault.found.0,
        cleared: fault.cleared,
    }
}

/// Takes a convicted author's log again.
///
/// # Errors
/// Where nobody is meant by that name, or more than one, or the node stops meanwhile.
pub async fn clear(handle: &Handle, request: &json::Clear) -> Result<json::Cleared, Fault> {
    let known = handle.known().await?;
    let author = find_author(&known, &request.author)?;
    let was_convicted = handle.clear(author).await? == Answer::Cleared(true);
    Ok(json::Cleared { id: author.to_text(), was_convicted })
}

/// The worst that can be said of an author.
fn state(author: &AuthorView, now: Millis) -> &'static str {
    if author.fault.is_some_and(|fault| !fault.cleared) {
        "forked"
    } else if author.book.account.is_frozen_at(now) {
        "frozen"
    } else if author.behind {
        "behind"
    } else {
        "ok"
    }
}

/// What a person should look at, the oldest first.
#[must_use]
pub fn alerts(handle: &Handle) -> Vec<json::Alert> {
    let alert = |alert: monitor::Alert| json::Alert {
        name: alert.name.to_owned(),
        about: alert.about,
        since_ms: alert.since_ms,
        count: alert.count,
    };
    handle.alerts().into_iter().map(alert).collect()
}

/// What each author has.
pub(super) fn balances(known: &Known) -> Vec<json::Balance> {
    let balance = |(id, author): (&NodeId, &AuthorView)| json::Balance {
        id: id.to_text(),
        name: author.name.clone(),
        balance_uatp: author.book.account.balance.0,
    };
    known.authors.iter().map(balance).collect()
}

/// Lets a node be linked that waits for it, or that is named by its whole id.
///
/// # Errors
/// Where no such node waits, this node takes any peer, or it can't be written down.
pub async fn approve(handle: &Handle, request: json::Approve) -> Result<json::ApprovedPeer, Fault> {
    let node = match request.node.parse() {
        Ok(node) => node,
        Err(_) => find_pending(&handle.view().await?, &request.node)?,
    };
    match handle.approve(node).await? {
        Ok(Approved::Done) => Ok(json::ApprovedPeer { id: node.to_text() }),
        Ok(Approved::NotPinned) => {
            let message = "this node takes any peer; with `cogmesh start --pin` only those that are approved";
            Err(Fault::bad_request("not_pinned", message))
        }
        Err(error) => Err(Fault::internal(error.to_string())),
    }
}

/// The node that waits and whose id starts so. A name is no way to mean one: anybody can announce any.
fn find_pending(view: &View, meant: &str) -> Result<NodeId, Fault> {
    let meant = meant.to_ascii_lowercase();
    let waits = |peer: &&PeerView| peer.state == PeerState::Seen(Unlinked::Pending);
    let mut found = view.peers.iter().filter(waits).filter_map(|peer| peer.id);
    let is_long = meant.len() >= APPROVED_PREFIX_CHARS_MIN;
    match found.find(|id| is_long && id.to_text().starts_with(&meant)) {
        Some(node) => Ok(node),
        None => Err(Fault::not_found(
            "no_such_peer",
            format!(
                "no node waits with that id; say its id, or the first {APPROVED_PREFIX_CHARS_MIN} or more characters of one that \
                 `cogmesh peers` lists as pending"
            ),
        )),
    }
}

/// The author that a person means: by id, name, or the start of an id.
///
/// # Errors
/// Where nobody is meant by it, or more than one.
pub fn find_author(known: &Known, meant: &str) -> Result<NodeId, Fault> {
    if let Ok(id) = meant.parse::<NodeId>() {
        return match known.authors.contains_key(&id) || known.erased.contains_key(&id) {
            true => Ok(id),
            false => Err(unknown_author(meant)),
        };
    }
    let named = |(id, author): (&NodeId, &AuthorView)| (author.name == meant).then_some(*id);
    let prefixed = |id: &NodeId| {
        let long_enough = meant.len() >= ID_PREFIX_CHARS_MIN;
        (long_enough && id.to_text().starts_with(meant)).then_some(*id)
    };
    let mut found: Vec<NodeId> = known.authors.iter().filter_map(named).collect();
    if found.is_empty() {
        found = known.authors.keys().chain(known.erased.keys()).filter_map(prefixed).collect();
    }
    match found.as_slice() {
        [] => Err(unknown_author(meant)),
        [id] => Ok(*id),
        several => Err(Fault::bad_request(
            "author_ambiguous",
            format!("`{}` can mean {} authors; use more of the id", meant.escape_debug(), several.len()),
        )),
    }
}

fn unknown_author(meant: &str) -> Fault {
    let message = format!(
        "this node knows no author `{}`; an author is an id, the first {ID_PREFIX_CHARS_MIN} or more characters of one, or a name",
        meant.escape_debug()
    );
    Fault::not_found("author_unknown", message)
}

/// The system's time; only for showing. What counts is the node's own clock, in the core.
pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
