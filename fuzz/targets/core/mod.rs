//! Whatever its peers say, in whatever order, and however the disk, the clock and the connections behave meanwhile: the core of a node does not
//! panic, keeps its books straight, signs no seq twice, and says nothing that could not be understood.
//!
//! The bytes are a programme: each step is a byte that says what happens, and what belongs to it. Most of what a peer says here is signed as it
//! should be, because no fuzzer finds a signature; whatever else stands in a frame, the bytes decide.

mod cast;
mod node;
mod seeds;
mod steps;

use cogmesh::protocol::recovery::Doubt;

pub(crate) use self::seeds::seeds;
use self::{
    cast::{CAST, Manner},
    node::Node,
};

/// Most steps: a longer programme says nothing that a shorter one does not.
const STEPS_MAX: usize = 256;

/// Says whether anybody was admitted as a peer.
pub(crate) fn check(data: &[u8]) -> bool {
    let mut bytes = Bytes(data);
    let how = bytes.u8();
    let manner = Manner { closed: how & 1 != 0, pinned: how & 2 != 0, crowded: how & 4 != 0 };
    let doubt = (how & 8 != 0).then_some(Doubt::Copied);
    let mut node = Node::new(CAST.setup(0, manner), doubt);
    let mut has_peer = false;
    for _ in 0..STEPS_MAX {
        if bytes.0.is_empty() {
            break;
        }
        steps::step(&mut node, &mut bytes);
        has_peer |= node.links.values().any(|link| link.admitted);
    }
    node.settle();
    has_peer
}

/// What is left of the programme; behind its end stand zeros.
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn u8(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.u8()) % end.max(1)
    }

    fn one_in(&mut self, count: u8) -> bool {
        self.u8().is_multiple_of(count)
    }

    /// A number that is mostly small and sometimes at the very end.
    fn number(&mut self) -> u64 {
        match self.u8() {
            255 => u64::MAX,
            254 => u64::MAX - 1,
            253 => u64::from(u32::MAX),
            small => u64::from(small),
        }
    }

    /// As many as the two bytes before them say.
    fn some(&mut self) -> &'a [u8] {
        let length = usize::from(self.u16()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }
}
