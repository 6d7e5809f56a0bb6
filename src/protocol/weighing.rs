//! Weighing: what the rules say of a thought that is checked and folded like a live one and then forgotten. Measurements send such.

use super::frame::Weighed;
use crate::{
    ledger::{
        account::Account,
        fold::{Facts, Verdict, fold},
        policy::Policy,
        types::Level,
    },
    log::{Body, Segment, Verified},
};

/// Folds a segment on an account that nobody has. Its author need not be known: no table is looked at, and none grows.
#[must_use]
pub fn weigh(policy: &Policy, segment: &Verified<Segment>) -> Weighed {
    let mut outcome = Weighed::Inadmissible;
    let Some(first) = segment.entries().first() else { return outcome };
    let mut account = Account::open(policy, Level::MAX, first.header().time);
    for entry in segment.entries() {
        let Body::Thought(thought) = &entry.header().body else { return Weighed::Inadmissible };
        let (time, content_bytes, features) = (entry.header().time, thought.content_bytes, thought.features);
        outcome = match fold(policy, &mut account, &Facts { time, content_bytes, features }) {
            Ok(folded) => match folded.verdict {
                Verdict::Accepted { .. } => Weighed::Accepted,
                Verdict::Rejected { .. } => Weighed::Rejected,
            },
            Err(_) => return Weighed::Inadmissible,
        };
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::types::{Millis, Seq},
        log::{Entry, FederationId, Hash, Header, Identity, Mode, Thought},
    };

    fn dry(seq: u64, content: &str) -> Verified<Segment> {
        let (identity, federation) = (Identity::from_seed(&[7; 32]).unwrap(), FederationId([5; 32]));
        let thought = Thought::new("bench".parse().unwrap(), Mode::Exploring, content);
        let header = Header {
            author: identity.node_id(),
            seq: Seq(seq),
            prev: Hash([3; 32]),
            time: Millis(90_000_000),
            body: Body::Thought(thought),
        };
        Segment::own(vec![Entry::new(&federation, header, Some(content))], &identity, &federation).unwrap()
    }

    #[test]
    fn a_thought_is_weighed_by_the_rules_whoever_wrote_it_and_however_often() {
        let policy = Policy::default();
        let good = "What emerges when economic incentives align with epistemic quality across distributed machines that remember?";
        for seq in [1, 1, 900] {
            assert_eq!(weigh(&policy, &dry(seq, good)), Weighed::Accepted);
            assert_eq!(weigh(&policy, &dry(seq, "spam spam spam spam")), Weighed::Rejected);
        }
        let short = Policy { content_max_bytes: 3, ..policy };
        assert_eq!(weigh(&short, &dry(1, "four")), Weighed::Inadmissible);
    }
}
