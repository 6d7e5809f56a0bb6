//! Why a node that is known is not linked, and what a person can do about it: the core says it as data, and here are the words.

use super::json;
use crate::{
    ledger::types::Millis,
    protocol::view::{PeerView, Unlinked},
};

/// Puts state, reason, remedy and the time of the next try to what is known of a node that is not linked.
pub(super) fn explained(peer: &PeerView, why: &Unlinked, heard_of: json::Peer) -> json::Peer {
    let (reason, remedy) = words(why, peer);
    json::Peer {
        state: code(why).to_owned(),
        reason: Some(reason),
        remedy: Some(remedy),
        retry_s: again(why).map(|again| again.0.div_ceil(1_000)),
        ..heard_of
    }
}

/// The state's name in JSON.
const fn code(why: &Unlinked) -> &'static str {
    match why {
        Unlinked::OtherFederation { .. } => "other_federation",
        Unlinked::Ourselves => "this_node",
        Unlinked::NoAddress => "no_address",
        Unlinked::Dialling => "dialling",
        Unlinked::NoAnswer { .. } => "no_answer",
        Unlinked::Refused { refusal, .. } => refusal.code.name(),
        Unlinked::Lost { .. } => "lost",
        Unlinked::BackingOff { .. } => "refused_here",
        Unlinked::Spare => "spare",
        Unlinked::ByRecord { .. } => "record_only",
        Unlinked::Pending => "pending",
    }
}

/// Until it is tried again, or taken in again.
const fn again(why: &Unlinked) -> Option<Millis> {
    match why {
        Unlinked::NoAnswer { again, .. }
        | Unlinked::Refused { again, .. }
        | Unlinked::Lost { again, .. }
        | Unlinked::ByRecord { again }
        | Unlinked::BackingOff { left: again } => Some(*again),
        Unlinked::OtherFederation { .. }
        | Unlinked::Ourselves
        | Unlinked::NoAddress
        | Unlinked::Dialling
        | Unlinked::Spare
        | Unlinked::Pending => None,
    }
}

/// A sentence that says why, and one that says what to do.
fn words(why: &Unlinked, peer: &PeerView) -> (String, String) {
    match why {
        Unlinked::OtherFederation { prefix } => (
            format!("it belongs to another federation ({prefix})"),
            "start both nodes with the same `--federation` and `--policy`".to_owned(),
        ),
        Unlinked::Ourselves => ("this node itself answers there".to_owned(), NOTHING.to_owned()),
        Unlinked::NoAddress => {
            ("nobody said where it is".to_owned(), "name it with `--peer HOST:PORT`".to_owned())
        }
        Unlinked::Dialling => ("it is being dialled".to_owned(), NOTHING.to_owned()),
        Unlinked::NoAnswer { what, .. } => (
            format!("nobody answers at {} ({what})", places(peer)),
            "check that it runs, and that no firewall drops UDP to its port".to_owned(),
        ),
        Unlinked::Refused { refusal, .. } => {
            (format!("it refused this node: {refusal}"), refusal.code.remedy().to_owned())
        }
        Unlinked::Lost { what, .. } => (
            format!("the connection ended: {what}"),
            "nothing needs to be done, unless it stays so: then look at its log".to_owned(),
        ),
        Unlinked::BackingOff { .. } => (
            "this node refuses it for a while, for what it sent".to_owned(),
            "wait; if it comes back, update the peer: its software sends what is wrong".to_owned(),
        ),
        Unlinked::Spare => (
            "this node has links enough, and keeps it for when it needs one".to_owned(),
            "nothing needs to be done: entries come through the others; for more links, raise `--max-peers`"
                .to_owned(),
        ),
        Unlinked::Pending => {
            let id = peer.id.map(|id| id.to_text()).unwrap_or_default();
            (
                "it was not approved, and this node takes only peers that are (`--pin`)".to_owned(),
                format!("where it is one of yours: `cogmesh peers approve {id}`"),
            )
        }
        Unlinked::ByRecord { .. } => (
            "only a record that a peer passed along says that it is there".to_owned(),
            "nothing needs to be done: it is dialled soon, at most once a minute".to_owned(),
        ),
    }
}

const NOTHING: &str = "nothing needs to be done";

fn places(peer: &PeerView) -> String {
    match peer.addresses.as_slice() {
        [] => "its address".to_owned(),
        [only] => only.to_string(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        refusal::{Refusal, RefusalCode},
        view::PeerState,
    };

    #[test]
    fn every_reason_has_a_code_a_sentence_and_a_remedy() {
        let again = Millis(1_500);
        let refusal = Refusal::about(RefusalCode::TooManyPeers, "64 of 64");
        let all = [
            (Unlinked::OtherFederation { prefix: "00ff".into() }, "other_federation", "00ff", None),
            (Unlinked::Ourselves, "this_node", "this node itself", None),
            (Unlinked::NoAddress, "no_address", "where", None),
            (Unlinked::Dialling, "dialling", "dialled", None),
            (Unlinked::NoAnswer { what: "timed out".into(), again }, "no_answer", "192.0.2.7:8888", Some(2)),
            (Unlinked::Refused { refusal, again }, "too_many_peers", "64 of 64", Some(2)),
            (Unlinked::Lost { what: "a reset".into(), again }, "lost", "a reset", Some(2)),
            (Unlinked::BackingOff { left: Millis(61_000) }, "refused_here", "refuses it", Some(61)),
            (Unlinked::Spare, "spare", "links enough", None),
            (Unlinked::ByRecord { again: Millis::ZERO }, "record_only", "record", Some(0)),
            (Unlinked::Pending, "pending", "approved", None),
        ];
        for (why, code, part, retry_s) in all {
            let address = "192.0.2.7:8888".parse().map(crate::protocol::input::Address::Socket).unwrap();
            let peer = PeerView {
                id: None,
                name: String::new(),
                addresses: vec![address],
                sources: vec![],
                state: PeerState::Seen(why.clone()),
                step: None,
            };
            let told = explained(&peer, &why, json::Peer::default());
            assert_eq!((told.state.as_str(), told.retry_s), (code, retry_s));
            assert!(told.reason.unwrap().contains(part), "{code}");
            assert!(!told.remedy.unwrap().is_empty());
        }
    }
}
