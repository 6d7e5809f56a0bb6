//! `cogmesh peers`: nodes that the running node is linked with, and those that it has only heard of.

use std::process::ExitCode;

use super::{
    Out,
    client::Client,
    exit::Exit,
    show::{Align, bytes, duration, escaped, hardware, rtt, short, table},
    time,
};
use crate::api::json::{Approve, ApprovedPeer, Peer, Peers, Step};

/// Asks the running node and lists its peers.
///
/// # Errors
/// Where no node runs or the output can't be written.
pub async fn run(client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let Peers { peers } = client.get("/v1/peers").await?;
    out.list(&peers, text)?;
    Ok(Exit::Done.into())
}

/// Approves of nodes.
///
/// # Errors
/// Where no node runs, it takes any peer, no such node waits, or the output can't be written.
pub async fn approve(client: &Client, nodes: Vec<String>, mut out: Out) -> anyhow::Result<ExitCode> {
    let mut approved = vec![];
    for node in nodes {
        approved.push(client.post::<ApprovedPeer>("/v1/peers/approve", &Approve { node }).await?);
    }
    out.list(&approved, |approved| {
        approved.iter().map(|peer| format!("{} may be linked from now on\n", escaped(&peer.id))).collect()
    })?;
    Ok(Exit::Done.into())
}

/// Peers for people: linked ones in a table, below it those only heard of, each with the reason.
#[must_use]
pub fn text(peers: &[Peer]) -> String {
    let (linked, heard_of): (Vec<&Peer>, Vec<&Peer>) = peers.iter().partition(|peer| peer.verified);
    let mut text = if linked.is_empty() { "no peer is linked\n".to_owned() } else { links(&linked) };
    for peer in heard_of {
        text.push_str(&format!("not linked: {} {}\n", who(peer), why(peer)));
    }
    text
}

fn links(linked: &[&Peer]) -> String {
    let rows: Vec<[String; 9]> = linked.iter().map(|peer| row(peer)).collect();
    let headings = [
        ("name", Align::Left),
        ("id", Align::Left),
        ("address", Align::Left),
        ("hardware", Align::Left),
        ("rtt", Align::Right),
        ("linked for", Align::Right),
        ("sent", Align::Right),
        ("received", Align::Right),
        ("in step", Align::Left),
    ];
    table(headings, &rows)
}

/// Whether both hold the same, and what is missing where.
fn in_step(step: &Step) -> String {
    match (step.missing_here, step.missing_there, step.identical_since_ms) {
        (0, 0, Some(since)) => format!("since {}", time::shown(since)),
        (0, 0, None) => "not yet told".to_owned(),
        (here, there, _) => format!("{here} missing here, {there} there"),
    }
}

fn row(peer: &Peer) -> [String; 9] {
    let claimed = peer.hardware.as_deref().unwrap_or("unknown");
    let level = peer.level.map(|level| format!(", level {level}")).unwrap_or_default();
    [
        escaped(&peer.name),
        peer.id.as_deref().map(short).unwrap_or_default(),
        peer.address.as_deref().map(escaped).unwrap_or_default(),
        format!("{}{level}", hardware(claimed, peer.method.as_deref())),
        peer.rtt_us.map(rtt).unwrap_or_default(),
        peer.connected_s.map(duration).unwrap_or_default(),
        peer.bytes_sent.map(bytes).unwrap_or_default(),
        peer.bytes_received.map(bytes).unwrap_or_default(),
        peer.step.as_ref().map(in_step).unwrap_or_default(),
    ]
}

/// Why it is not linked, when it is tried again, and what to do.
fn why(peer: &Peer) -> String {
    let reason = escaped(peer.reason.as_deref().unwrap_or_default());
    let again = peer.retry_s.map(|seconds| format!("; again in {}", duration(seconds))).unwrap_or_default();
    let remedy = peer.remedy.as_deref().map(|remedy| format!("\n  {}", escaped(remedy))).unwrap_or_default();
    format!("{reason}{again}{remedy}")
}

fn who(peer: &Peer) -> String {
    let id = peer.id.as_deref().map(|id| format!(" ({})", short(id))).unwrap_or_default();
    let address =
        peer.address.as_deref().map(|address| format!(" at {}", escaped(address))).unwrap_or_default();
    let name = if peer.name.is_empty() { "somebody".to_owned() } else { escaped(&peer.name) };
    format!("{name}{id}{address}:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard_of(name: &str, reason: &str) -> Peer {
        Peer {
            id: Some("aoqqpp7t".repeat(6)),
            name: name.to_owned(),
            address: Some("192.0.2.7:8888".to_owned()),
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
            sources: vec!["mdns".to_owned()],
            reason: Some(reason.to_owned()),
            step: None,
            state: "no_answer".to_owned(),
            remedy: Some("check that it runs".to_owned()),
            retry_s: Some(7),
            addresses: vec!["192.0.2.7:8888".to_owned()],
        }
    }

    #[test]
    fn a_peer_that_was_only_heard_of_is_listed_with_the_reason_and_nothing_raw() {
        let text = text(&[heard_of("th\u{1b}[31mor", "it does not\nanswer")]);
        assert_eq!(
            text,
            "no peer is linked\nnot linked: th\\u{1b}[31mor (aoqqpp7t) at 192.0.2.7:8888: it does not\\nanswer; again in 7 s\n  check \
             that it runs\n"
        );
    }

    #[test]
    fn what_a_linked_peer_claims_is_shown_as_a_claim() {
        let linked = Peer {
            verified: true,
            method: Some("software_bridge".to_owned()),
            hardware: Some("tpm2".to_owned()),
            level: Some(5),
            rtt_us: Some(320),
            ..heard_of("legion", "")
        };
        let text = text(&[linked]);
        assert!(text.contains("tpm2, claimed, level 5") && text.contains("320 µs"), "{text}");
    }
}
