//! The network: links, what travels on them, and who can't reach whom.

use std::net::{Ipv4Addr, SocketAddr};

use cogmesh::{
    log::{Entry, FederationId, NodeId, Rules, Segment, Verified, books::Span},
    protocol::{
        frame::{BalanceFrame, ControlFrame},
        input::{Address, Attempt, Dial, Ended, Input, LinkId},
        refusal::Refusal,
    },
};
use rand_chacha::rand_core::RngCore;

use super::{Action, End, IDLE_MAX, World};

impl World {
    pub(crate) fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert((one.min(other), one.max(other)));
        let over: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, end)| {
                let there = self.links.get(&end.other).map_or(usize::MAX, |end| end.node);
                (end.node, there) == (one, other) || (end.node, there) == (other, one)
            })
            .map(|(id, _)| *id)
            .collect();
        for link in over {
            self.links.get_mut(&link).unwrap().open = false;
            let broke = Input::Disconnected { link, why: Ended::Broke("idle".into()) };
            self.later(IDLE_MAX, Action::OnLink(link, broke));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        for node in 0..self.nodes.len() {
            let boot = self.nodes[node].boots;
            self.later(0, Action::Input(node, boot, Input::NetworkChanged));
        }
    }

    pub(super) fn dialled(&mut self, node: usize, boot: u64, dial: &Dial) {
        if !self.lives(node, boot) {
            return;
        }
        let found = dial.addresses.iter().find_map(|at| {
            (0..self.nodes.len()).find(|other| {
                *at == Address::Socket(address(*other))
                    && self.nodes[*other].core.is_some()
                    && !self.cut.contains(&(node.min(*other), node.max(*other)))
                    && dial.expect.is_none_or(|expect| expect == self.id(*other))
            })
        });
        let Some(other) = found else {
            let input = Input::DialFailed { attempt: dial.attempt, why: "nobody there".into() };
            return self.handle(node, input);
        };
        let (here, there) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        let mut exporter = [0; 32];
        self.rng.fill_bytes(&mut exporter);
        let end = |node: usize, boot, other| End {
            node,
            boot,
            other,
            admitted: false,
            open: true,
            unread: vec![],
            last_arrival: 0,
        };
        self.links.insert(here, end(node, boot, there));
        self.links.insert(there, end(other, self.nodes[other].boots, here));
        let connected = |link, peer: NodeId, attempt: Option<Attempt>, at: usize| Input::Connected {
            link,
            node: peer,
            attempt,
            address: address(at),
            exporter,
        };
        let (my_id, their_id) = (self.id(node), self.id(other));
        // The dialler's TLS is done first; what it sends follows in order.
        let pause = 1 + self.random(5);
        self.deliver(there, pause, connected(there, my_id, None, node));
        self.handle(node, connected(here, their_id, Some(dial.attempt), other));
    }

    pub(super) fn send(&mut self, link: LinkId, input: impl FnOnce(LinkId) -> Input) {
        let Some(other) = self.links.get(&link).filter(|end| end.open).map(|end| end.other) else {
            return;
        };
        let pause = 1 + self.random(4);
        self.deliver(other, pause, input(other));
    }

    pub(super) fn deliver(&mut self, link: LinkId, pause: u64, input: Input) {
        let end = self.links.get_mut(&link).unwrap();
        let at = (self.now + pause).max(end.last_arrival);
        end.last_arrival = at;
        self.later(at - self.now, Action::OnLink(link, input));
    }

    pub(super) fn on_link(&mut self, link: LinkId, input: Input) {
        let end = self.links.get_mut(&link).unwrap();
        let ends = matches!(input, Input::Disconnected { .. });
        if !ends && !end.open {
            return;
        }
        let needs_admission = !ends && !matches!(input, Input::Connected { .. } | Input::Control { .. });
        if needs_admission && !end.admitted {
            end.unread.push(input);
            return;
        }
        if ends {
            end.open = false;
        }
        let (node, boot) = (end.node, end.boot);
        if self.lives(node, boot) {
            self.handle(node, input);
        }
    }

    pub(super) fn admit(&mut self, link: LinkId) {
        let end = self.links.get_mut(&link).unwrap();
        end.admitted = true;
        for input in std::mem::take(&mut end.unread) {
            self.deliver(link, 0, input);
        }
    }

    pub(super) fn close(&mut self, link: LinkId, refusal: Refusal) {
        let Some(end) = self.links.get_mut(&link) else {
            return;
        };
        if !end.open {
            return;
        }
        end.open = false;
        let other = end.other;
        self.later(0, Action::OnLink(link, Input::Disconnected { link, why: Ended::Closed }));
        let refused = Input::Disconnected { link: other, why: Ended::Refused(refusal) };
        let pause = 1 + self.random(4);
        self.deliver(other, pause, refused);
    }

    pub(super) fn serve(&mut self, node: usize, link: LinkId, author: NodeId, span: Span) {
        let mut from = span.first;
        let (identity, federation) =
            (self.nodes[node].setup.identity.clone(), self.nodes[node].setup.federation);
        let stored = self.nodes[node].disk.entries.get(&author).cloned().unwrap_or_default();
        loop {
            let own = author == identity.node_id();
            let segment = if own {
                let is_next = |entry: &&Entry| (from..=span.last).contains(&entry.seq());
                let entries: Vec<Entry> = stored
                    .iter()
                    .map(|(judged, _)| &judged.entry)
                    .filter(is_next)
                    .take(16)
                    .cloned()
                    .collect();
                (!entries.is_empty()).then(|| Segment::own(entries, &identity, &federation).unwrap())
            } else {
                let segment = self.segment_of(node, author, from, span.last);
                segment.map(|segment| segment.verify(&self.rules(federation)).unwrap())
            };
            let Some(segment) = segment else { break };
            self.note_signed(segment.head());
            from = segment.last().next();
            let is_done = from > span.last;
            self.send(link, |link| Input::Heard { link, segment: Verified::clone(&segment) });
            if is_done {
                break;
            }
        }
        self.send(link, |link| Input::CaughtUp { link, author });
        let boot = self.nodes[node].boots;
        self.later(3, Action::Input(node, boot, Input::Served { link, author }));
    }

    pub(super) fn rules(&self, federation: FederationId) -> Rules {
        Rules { federation, pow_bits: self.policy.pow_bits, content_bytes_max: self.policy.content_max_bytes }
    }
}

pub(super) fn address(node: usize) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1_000 + u16::try_from(node).unwrap()).into()
}

pub(super) fn control(link: LinkId, frame: &ControlFrame) -> Input {
    Input::Control { link, frame: frame.clone() }
}

pub(super) fn balance(link: LinkId, frame: &BalanceFrame) -> Input {
    Input::Balance { link, frame: frame.clone() }
}
