//! Peers of the running node: linked or not, with the reason and the remedy that `cogmesh peers` shows.

use super::{About, Check};
use crate::{
    api::json::Peer,
    cli::show::{duration, rtt, short},
};

/// A check for each, and one where there is none.
pub(super) fn judged(peers: &[Peer]) -> Vec<Check> {
    if peers.is_empty() {
        let none = About::of_all("peer").hint(
            "this node has heard of no other",
            "start one on another machine of this LAN; where multicast does not get through, name it with `--peer HOST:PORT`",
        );
        return vec![none];
    }
    peers.iter().map(peer).collect()
}

fn peer(peer: &Peer) -> Check {
    let about = About::new("peer", who(peer));
    if peer.verified {
        let rtt = peer.rtt_us.map(|micros| format!(", {} there and back", rtt(micros))).unwrap_or_default();
        return about.ok(format!("it is linked{rtt}"));
    }
    let reason = peer.reason.as_deref().unwrap_or("the node does not say why it is not linked");
    let again = peer.retry_s.map(|seconds| format!("; again in {}", duration(seconds))).unwrap_or_default();
    let found = format!("{reason}{again}");
    let remedy = peer.remedy.as_deref().unwrap_or("`cogmesh peers` shows more");
    match peer.state.as_str() {
        // As it should be: there is nothing to do.
        "this_node" | "spare" => about.ok(found),
        "dialling" | "stopping" | "duplicate" | "too_many_peers" => about.hint(found, remedy),
        // Such a node may be on the LAN for good.
        "other_federation" | "pending" | "record_only" if !is_wanted(peer) => about.hint(found, remedy),
        // Who was there once may be switched off.
        "no_answer" | "lost" | "no_address" if !is_there(peer) => about.hint(found, remedy),
        _ => about.wrong(found, remedy),
    }
}

/// The operator named it.
fn is_wanted(peer: &Peer) -> bool {
    peer.sources.iter().any(|source| source == "peer_option")
}

/// Something else than what this or another node remembers says that it runs.
fn is_there(peer: &Peer) -> bool {
    is_wanted(peer) || peer.sources.iter().any(|source| source == "mdns")
}

fn who(peer: &Peer) -> String {
    let address = peer.address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default();
    format!("{}{address}", named(peer))
}

/// Its name and the start of its id.
pub(super) fn named(peer: &Peer) -> String {
    let name = if peer.name.is_empty() { "somebody" } else { &peer.name };
    let id = peer.id.as_deref().map(|id| format!(" ({})", short(id))).unwrap_or_default();
    format!("{name}{id}")
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    fn not_linked(state: &str, source: &str) -> Peer {
        Peer {
            name: "thor".to_owned(),
            address: Some("192.0.2.7:8888".to_owned()),
            sources: vec![source.to_owned()],
            state: state.to_owned(),
            reason: Some("nobody answers".to_owned()),
            remedy: Some("check that it runs".to_owned()),
            retry_s: Some(7),
            ..Peer::default()
        }
    }

    #[test]
    fn a_peer_that_should_answer_and_does_not_is_wrong_in_the_words_of_peers() {
        for source in ["peer_option", "mdns"] {
            let check = peer(&not_linked("no_answer", source));
            assert_eq!((check.state, check.subject.as_str()), (State::Wrong, "thor at 192.0.2.7:8888"));
            assert_eq!(
                (check.found.as_str(), check.remedy.as_deref()),
                ("nobody answers; again in 7 s", Some("check that it runs"))
            );
        }
        assert_eq!(peer(&not_linked("policy_differs", "remembered")).state, State::Wrong);
    }

    #[test]
    fn a_peer_that_may_be_switched_off_or_elsewhere_is_a_hint_unless_it_was_named() {
        for (state, source, named) in [
            ("no_answer", "remembered", State::Wrong),
            ("lost", "peer_record", State::Wrong),
            ("other_federation", "mdns", State::Wrong),
            ("pending", "mdns", State::Wrong),
            ("dialling", "mdns", State::Hint),
        ] {
            assert_eq!(peer(&not_linked(state, source)).state, State::Hint, "{state}");
            assert_eq!(peer(&not_linked(state, "peer_option")).state, named, "{state}");
        }
    }

    #[test]
    fn a_linked_peer_is_well_and_so_is_a_spare_one() {
        let linked = Peer { verified: true, rtt_us: Some(320), ..not_linked("linked", "mdns") };
        assert_eq!(
            (peer(&linked).state, peer(&linked).found.as_str()),
            (State::Ok, "it is linked, 320 µs there and back")
        );
        assert_eq!(peer(&not_linked("spare", "mdns")).state, State::Ok);
        assert_eq!(judged(&[])[0].state, State::Hint);
    }
}
