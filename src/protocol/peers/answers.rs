//! Answers: whether a peer still answers after the network changed. A link whose path is gone says nothing for 8 s, and then it
//! is given up; long before, its node is dialled again, and the new link takes the old one's place.

use super::{Peers, Stage};
use crate::{
    ledger::types::Millis,
    log::NodeId,
    protocol::{
        frame::ControlFrame,
        input::{Effect, Now},
    },
};

/// From the change of the network until a ping must be answered. A packet that is lost is sent again within that.
const ANSWER_MAX: Millis = Millis(1_000);

/// What is known of a link's path since the network changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing speaks against it.
    #[default]
    Given,
    /// That ping is to be answered until then.
    Awaited { number: u64, until: Millis },
    /// None came in time.
    Missing,
}

impl Answer {
    /// A pong came.
    pub(super) fn heard(&mut self, number: u64) {
        match self {
            // The answer to an earlier ping may have been on its way when the network changed.
            Self::Awaited { number: asked, .. } if *asked != number => {}
            Self::Given | Self::Awaited { .. } | Self::Missing => *self = Self::Given,
        }
    }

    /// When it is missing.
    pub(super) const fn until(self) -> Option<Millis> {
        match self {
            Self::Awaited { until, .. } => Some(until),
            Self::Given | Self::Missing => None,
        }
    }
}

impl Peers {
    /// The network changed: asks every peer for a sign of life.
    pub fn ask_all(&mut self, now: Now, out: &mut Vec<Effect>) {
        for (id, link) in &mut self.links {
            let Stage::Admitted(admitted) = &mut link.stage else { continue };
            self.ping_number = self.ping_number.wrapping_add(1);
            let number = self.ping_number;
            admitted.answer = Answer::Awaited { number, until: now.mono.plus(ANSWER_MAX) };
            let frame = ControlFrame::Ping { number, clock: now.wall };
            out.push(Effect::Control { link: *id, frame });
        }
    }

    /// Notes whose time is over. Returns whether there is one.
    pub fn miss_answers(&mut self, mono: Millis) -> bool {
        let mut some = false;
        for link in self.links.values_mut() {
            let Stage::Admitted(admitted) = &mut link.stage else { continue };
            if admitted.answer.until().is_some_and(|until| until <= mono) {
                admitted.answer = Answer::Missing;
                some = true;
            }
        }
        some
    }

    /// Whether a node is linked and owes us an answer that it should have given.
    #[must_use]
    pub fn owes_answer(&self, node: NodeId) -> bool {
        let link = self.admitted.get(&node).and_then(|link| self.links.get(link));
        link.is_some_and(
            |link| matches!(&link.stage, Stage::Admitted(admitted) if admitted.answer == Answer::Missing),
        )
    }
}
