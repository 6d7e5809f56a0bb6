//! The network: links, what travels on them, and who can't reach whom.

#![allow(clippy::wildcard_enum_match_arm, reason = "an onlooker takes notice of a few things")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use cogmesh::{
    log::{FederationId, NodeId, Rules},
    protocol::{
        frame::{BalanceFrame, ControlFrame, StreamKind},
        input::{Address, Attempt, Dial, Ended, Input, LinkId},
        refusal::Refusal,
    },
};
use rand_chacha::rand_core::RngCore;

use super::{Action, Block, End, IDLE_MAX, SENT_AGAIN, Stream, Weather, World};

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

    /// What one node sends does not reach another, until that is lifted as often. What is sent meanwhile is late, not lost, unless
    /// the link dies of it.
    pub(crate) fn block(&mut self, from: usize, to: usize) {
        let block = self.blocked.entry((from, to)).or_insert(Block { count: 0, since: self.now });
        block.count += 1;
        if block.count == 1 {
            let since = self.now;
            for link in self.ends_between(from, to) {
                self.later(IDLE_MAX, Action::Silence(link, since));
            }
        }
    }

    pub(crate) fn unblock(&mut self, from: usize, to: usize) {
        let Some(block) = self.blocked.get_mut(&(from, to)) else { return };
        block.count -= 1;
        if block.count > 0 {
            return;
        }
        self.blocked.remove(&(from, to));
        for link in self.ends_between(from, to) {
            self.release(link);
        }
    }

    pub(crate) fn unblock_all(&mut self) {
        for (from, to) in std::mem::take(&mut self.blocked).into_keys() {
            for link in self.ends_between(from, to) {
                self.release(link);
            }
        }
    }

    fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    /// Open ends at one node of links that another node is at the far end of.
    pub(super) fn ends_between(&self, from: usize, to: usize) -> Vec<LinkId> {
        let is_one = |end: &End| {
            end.open && end.node == to && self.links.get(&end.other).is_some_and(|far| far.node == from)
        };
        self.links.iter().filter(|(_, end)| is_one(end)).map(|(link, _)| *link).collect()
    }

    /// A link breaks with all that is on its way; each side notices when it does.
    pub(crate) fn break_links(&mut self, one: usize, other: usize) {
        for link in [self.ends_between(one, other), self.ends_between(other, one)].concat() {
            self.links.get_mut(&link).unwrap().open = false;
            let pause = self.random(IDLE_MAX);
            self.broken_later(pause, link);
        }
    }

    /// An end will notice that its link is dead, unless it hears of it before.
    pub(super) fn broken_later(&mut self, pause: u64, link: LinkId) {
        let broke = Input::Disconnected { link, why: Ended::Broke("no answer".into()) };
        self.later(pause, Action::OnLink(link, broke));
    }

    /// Nothing came for as long as a link may be silent.
    pub(super) fn silence(&mut self, link: LinkId, since: u64) {
        let end = &self.links[&link];
        let (here, other) = (end.node, end.other);
        let far = self.links[&other].node;
        let lasts = self.blocked.get(&(far, here)).is_some_and(|block| block.since == since);
        if end.open && lasts {
            self.broken_later(0, link);
            // From now on the far end hears nothing, either.
            self.broken_later(IDLE_MAX, other);
        }
    }

    pub(super) fn dialled(&mut self, node: usize, boot: u64, dial: &Dial, until: u64) {
        if !self.lives(node, boot) {
            return;
        }
        let is_at = |other: usize, at: &Address| {
            *at == Address::Socket(address(other)) && self.nodes[other].core.is_some()
        };
        let found = dial.addresses.iter().find_map(|at| {
            (0..self.nodes.len()).find(|other| {
                is_at(*other, at)
                    && !self.cut.contains(&(node.min(*other), node.max(*other)))
                    && !self.is_blocked(node, *other)
                    && !self.is_blocked(*other, node)
                    && dial.expect.is_none_or(|expect| expect == self.id(*other))
            })
        });
        let is_cut_off = found.is_none()
            && dial.addresses.iter().any(|at| (0..self.nodes.len()).any(|other| is_at(other, at)));
        let fails = self.chance(self.weather.dial_fails_per_mille);
        let Some(other) = found.filter(|_| !fails) else {
            if is_cut_off && self.now + SENT_AGAIN < until {
                return self.later(SENT_AGAIN, Action::Dialled(node, boot, dial.clone(), until));
            }
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
            ended: false,
            lanes: BTreeMap::new(),
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
        let pause = self.latency();
        self.deliver(there, Stream::Control, pause, connected(there, my_id, None, node));
        self.handle(node, connected(here, their_id, Some(dial.attempt), other));
    }

    /// Sends a balance-sync frame, unless the plan is that it gets lost.
    pub(super) fn send_balance(&mut self, node: usize, link: LinkId, frame: &BalanceFrame) {
        if let BalanceFrame::Heads(reports) = frame {
            reports.iter().for_each(|report| self.note_signed(&report.head));
        }
        if !self.swallows(node, link, frame) && !self.finds_full(node, link, StreamKind::BalanceSync) {
            self.send(link, |link| balance(link, frame));
        }
    }

    /// Sends over a link on the stream of its kind.
    pub(super) fn send(&mut self, link: LinkId, input: impl FnOnce(LinkId) -> Input) {
        let Some(other) = self.links.get(&link).filter(|end| end.open).map(|end| end.other) else {
            return;
        };
        let input = input(other);
        let stream = match &input {
            Input::Heard { .. } => Stream::Thought,
            Input::Balance { .. } => Stream::Balance,
            Input::Proof { .. } => Stream::Own(self.next_stream()),
            other => {
                assert!(matches!(other, Input::Control { .. }), "that has a stream of its own: {other:?}");
                Stream::Control
            }
        };
        let pause = self.latency();
        self.deliver(other, stream, pause, input);
    }

    /// Sends over a link on a stream of its own.
    pub(super) fn send_on(&mut self, link: LinkId, stream: Stream, input: impl FnOnce(LinkId) -> Input) {
        if let Some(other) = self.links.get(&link).filter(|end| end.open).map(|end| end.other) {
            let pause = self.latency();
            self.deliver(other, stream, pause, input(other));
        }
    }

    pub(super) const fn next_stream(&mut self) -> u64 {
        self.streams += 1;
        self.streams
    }

    fn deliver(&mut self, link: LinkId, stream: Stream, pause: u64, input: Input) {
        let now = self.now;
        let end = self.links.get_mut(&link).unwrap();
        let lane = end.lanes.entry(stream).or_default();
        let before = if self.weather.overtaking { &mut lane.last_arrival } else { &mut end.last_arrival };
        let at = (now + pause).max(*before);
        *before = at;
        lane.queue.push_back((at, input));
        self.later(at - now, Action::Arrive(link, stream));
    }

    /// The next frame of a stream has come. It waits where nothing gets through, or where the stream is not read yet.
    pub(super) fn arrive(&mut self, link: LinkId, stream: Stream) {
        let end = &self.links[&link];
        let (node, boot, other, open) = (end.node, end.boot, end.other, end.open);
        let far = self.links[&other].node;
        let is_early = stream != Stream::Control && !end.admitted;
        let waits = is_early || self.is_blocked(far, node);
        if !open {
            return;
        }
        let end = self.links.get_mut(&link).unwrap();
        // What was lost left nothing behind.
        let Some(lane) = end.lanes.get_mut(&stream) else { return };
        if waits {
            lane.waiting += 1;
            return;
        }
        let Some((_, input)) = lane.queue.pop_front() else { return };
        if lane.queue.is_empty() && matches!(stream, Stream::Own(_)) {
            end.lanes.remove(&stream);
        }
        if let Input::Disconnected { .. } = input {
            return self.on_link(link, input);
        }
        if self.lives(node, boot)
            && let Some(input) = self.spoil(node, input)
        {
            self.hear(node, link, stream, input);
        }
    }

    /// The sender is dead: what was lost on its way is not sent again, and nothing behind it on its stream is read.
    pub(super) fn lose_late(&mut self, link: LinkId) {
        let Weather { latency_ms, jitter_ms, .. } = self.weather;
        let end = &self.links[&link];
        let is_blocked = self.is_blocked(self.links[&end.other].node, end.node);
        let latest = if is_blocked { 0 } else { self.now + latency_ms + jitter_ms };
        for lane in self.links.get_mut(&link).unwrap().lanes.values_mut() {
            lane.queue.retain(|(at, _)| *at <= latest);
        }
    }

    /// What waited at an end may come in.
    fn release(&mut self, link: LinkId) {
        let lanes = &mut self.links.get_mut(&link).unwrap().lanes;
        let waiting: Vec<(Stream, usize)> =
            lanes.iter_mut().map(|(stream, lane)| (*stream, std::mem::take(&mut lane.waiting))).collect();
        for (stream, count) in waiting {
            for _ in 0..count {
                self.later(0, Action::Arrive(link, stream));
            }
        }
    }

    /// An end is over: its core is told so once.
    pub(super) fn on_link(&mut self, link: LinkId, input: Input) {
        let end = self.links.get_mut(&link).unwrap();
        end.open = false;
        let is_news = !std::mem::replace(&mut end.ended, true);
        let (node, boot) = (end.node, end.boot);
        if is_news && self.lives(node, boot) {
            self.handle(node, input);
        }
    }

    pub(super) fn admit(&mut self, link: LinkId) {
        self.links.get_mut(&link).unwrap().admitted = true;
        self.release(link);
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
        let pause = self.latency();
        self.deliver(other, Stream::Control, pause, refused);
        // Should that never come through, silence says it.
        self.broken_later(2 * IDLE_MAX, other);
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
