//! The linked peer that a request means, and numbers that it names.

use std::net::SocketAddr;

use super::error::Fault;
use crate::{
    log::NodeId,
    protocol::{
        input::LinkId,
        view::{PeerState, PeerView, View},
    },
};

/// Fewest characters of an id that may stand for the whole.
const ID_PREFIX_CHARS_MIN: usize = 4;

/// A peer that is linked.
#[derive(Clone, Debug)]
pub(super) struct Linked {
    pub(super) id: NodeId,
    pub(super) name: String,
    pub(super) link: LinkId,
    pub(super) address: SocketAddr,
}

/// The linked peer that a person means: by id, name, or the start of an id.
pub(super) fn find_linked(view: &View, meant: &str) -> Result<Linked, Fault> {
    let linked: Vec<Linked> = view.peers.iter().filter_map(linked).collect();
    let id = meant.to_ascii_lowercase();
    let is_long = id.len() >= ID_PREFIX_CHARS_MIN;
    let named: Vec<&Linked> = linked.iter().filter(|peer| peer.name == meant).collect();
    let found = match named.is_empty() {
        true => linked.iter().filter(|peer| is_long && peer.id.to_text().starts_with(&id)).collect(),
        false => named,
    };
    match found.as_slice() {
        [peer] => Ok((*peer).clone()),
        [] => Err(Fault::not_found(
            "no_such_peer",
            format!(
                "no linked peer is called `{}`; a peer is an id, the first {ID_PREFIX_CHARS_MIN} or more characters of one, or a name \
                 that `cogmesh peers` lists",
                meant.escape_debug()
            ),
        )),
        several => Err(Fault::bad_request(
            "ambiguous",
            format!("`{}` can mean {} peers; use more of the id", meant.escape_debug(), several.len()),
        )),
    }
}

fn linked(peer: &PeerView) -> Option<Linked> {
    match &peer.state {
        PeerState::Verified(verified) => Some(Linked {
            id: peer.id?,
            name: peer.name.clone(),
            link: verified.link,
            address: verified.address,
        }),
        PeerState::Seen(_) => None,
    }
}

/// Refuses what is out of its range.
pub(super) fn in_range<T: Copy + PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<(), Fault> {
    if range.contains(&value) {
        return Ok(());
    }
    let message = format!("`{name}` is from {} to {}, not {value}", range.start(), range.end());
    Err(Fault::bad_request("out_of_range", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_their_range_are_named() {
        let fault = in_range("rate", 10_001, 1..=10_000).unwrap_err();
        assert_eq!(fault.message(), "`rate` is from 1 to 10000, not 10001");
        assert!(in_range("size", 16, 16..=1_150).is_ok());
    }
}
