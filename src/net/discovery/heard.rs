//! Heard: what announcements said and the core was not told yet. Bounded, and each record once.
//! And when to ask the LAN again. Time is passed in.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{log::NodeId, protocol::input::Hint};

/// Most records that wait for the core, and most that are remembered. More nodes than one node can link to (64), and
/// few enough to be nothing: 256 records of at most 1 KiB.
pub(in crate::net) const RECORDS_MAX: usize = 256;
/// Most hints that the core gets in a second. It shares its task with the real work, and invented nodes cost nothing.
const HINTS_PER_SECOND_MAX: u32 = 128;
/// The library resolves one record several times while its addresses arrive; what says nothing new is dropped this long.
const REPEAT_MIN: Duration = Duration::from_secs(1);

/// One announced record: who, and by which of its names. A stranger who announces somebody else's id under another
/// name gets a hint of his own, and does not replace the true one.
pub(super) type Key = (NodeId, String);

/// What was heard on one interface.
#[derive(Debug, Default)]
pub(super) struct Heard {
    waiting: BTreeMap<Key, Hint>,
    order: VecDeque<Key>,
    told: BTreeMap<Key, (Hint, Instant)>,
    window: Option<Instant>,
    sent: u32,
}

impl Heard {
    /// Takes a record; says whether there was room for it.
    pub(super) fn insert(&mut self, key: Key, hint: Hint, now: Instant) -> bool {
        let repeated = self.told.get(&key).is_some_and(|(told, at)| *told == hint && now < *at + REPEAT_MIN);
        if repeated {
            return true;
        }
        if let Some(waiting) = self.waiting.get_mut(&key) {
            *waiting = hint;
            return true;
        }
        if self.order.len() >= RECORDS_MAX {
            return false;
        }
        self.order.push_back(key.clone());
        self.waiting.insert(key, hint);
        true
    }

    /// Whether the core may be told something now.
    pub(super) fn ready(&mut self, now: Instant) -> bool {
        if self.window.is_none_or(|start| now >= start + Duration::from_secs(1)) {
            self.window = Some(now);
            self.sent = 0;
        }
        !self.order.is_empty() && self.sent < HINTS_PER_SECOND_MAX
    }

    /// The record that has waited longest.
    pub(super) fn next(&mut self, now: Instant) -> Option<Hint> {
        let key = self.order.pop_front()?;
        let hint = self.waiting.remove(&key)?;
        self.sent = self.sent.saturating_add(1);
        self.remember(key, hint.clone(), now);
        Some(hint)
    }

    fn remember(&mut self, key: Key, hint: Hint, now: Instant) {
        if self.told.len() >= RECORDS_MAX && !self.told.contains_key(&key) {
            let oldest = self.told.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.told.remove(&oldest));
        }
        self.told.insert(key, (hint, now));
    }

    /// The full names under which a node was announced.
    pub(super) fn names_of(&self, node: NodeId) -> Vec<String> {
        let from = (node, String::new());
        self.told
            .range(from..)
            .take_while(|((id, _), _)| *id == node)
            .map(|((_, name), _)| name.clone())
            .collect()
    }
}

/// A record does not go out again within a second of the last time (RFC 6762, 6), so asking sooner gets no answers.
const ASK_AGAIN_MIN: Duration = Duration::from_secs(1);
/// How long a lost node's record is asked for before it is flushed; then browsing starts afresh.
pub(super) const VERIFY: Duration = Duration::from_millis(1_000);
/// How often the LAN is asked for a node that was lost less than a minute ago. The library's own questions back off
/// to an hour, so after a silent partition they come too late.
const ASK_SOON: Duration = Duration::from_secs(3);
/// How often afterwards.
const ASK_LATER: Duration = Duration::from_secs(15);
/// How long a node is new among the lost ones.
const LOST_NEWLY: Duration = Duration::from_secs(60);
/// After which time nobody asks for it any more; if it starts again, it announces itself.
const LOST_MAX: Duration = Duration::from_secs(600);

/// When to start browsing afresh.
#[derive(Debug)]
pub(super) struct Search {
    last: Instant,
    due: Option<Instant>,
    lost: BTreeMap<NodeId, Instant>,
}

impl Search {
    pub(super) const fn new(now: Instant) -> Self {
        Self { last: now, due: None, lost: BTreeMap::new() }
    }

    /// Browsing is wanted as soon as it makes sense.
    pub(super) fn again(&mut self, now: Instant) {
        self.want(now);
    }

    /// A connection to a node died; `jitter` is a share of 256. All who lost it notice at once, and should not all ask
    /// at once.
    pub(super) fn lost(&mut self, node: NodeId, now: Instant, jitter: u8) {
        if self.lost.len() < RECORDS_MAX {
            self.lost.entry(node).or_insert(now);
        }
        self.want(now + VERIFY + share(VERIFY, jitter));
    }

    /// A node is announced.
    pub(super) fn sighted(&mut self, node: NodeId) {
        self.lost.remove(&node);
    }

    /// Whether to start afresh now; if so, that counts as done.
    pub(super) fn due(&mut self, now: Instant, jitter: u8) -> bool {
        let due = self.due.is_some_and(|due| now >= due);
        if due {
            self.done(now, jitter);
        }
        due
    }

    /// Browsing started afresh.
    pub(super) fn done(&mut self, now: Instant, jitter: u8) {
        self.last = now;
        self.lost.retain(|_, since| now < *since + LOST_MAX);
        let newly = self.lost.values().any(|since| now < *since + LOST_NEWLY);
        let pause = if newly { ASK_SOON } else { ASK_LATER };
        self.due = (!self.lost.is_empty()).then(|| now + pause - share(pause / 3, jitter));
    }

    fn want(&mut self, at: Instant) {
        let at = at.max(self.last + ASK_AGAIN_MIN);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// A share of a time, in 256ths.
pub(super) fn share(time: Duration, of_256: u8) -> Duration {
    time * u32::from(of_256) / 256
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::input::{Address, Source};

    const SECOND: Duration = Duration::from_secs(1);

    fn hint(byte: u8, port: u16) -> (Key, Hint) {
        let node = NodeId::from_stored([byte; 32]);
        let hint = Hint {
            source: Source::Mdns,
            node: Some(node),
            name: None,
            federation: None,
            addresses: vec![Address::Name(format!("x:{port}"))],
        };
        ((node, "a".to_owned()), hint)
    }

    fn insert(heard: &mut Heard, (key, hint): (Key, Hint), now: Instant) -> bool {
        heard.insert(key, hint, now)
    }

    #[test]
    fn a_record_is_told_once_until_it_changes_or_is_heard_again_later() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        assert!(insert(&mut heard, hint(1, 1), now) && insert(&mut heard, hint(1, 2), now));
        assert_eq!(heard.next(now), Some(hint(1, 2).1));
        insert(&mut heard, hint(1, 2), now);
        assert_eq!(heard.next(now), None);
        insert(&mut heard, hint(1, 3), now);
        assert_eq!(heard.next(now), Some(hint(1, 3).1));
        insert(&mut heard, hint(1, 3), now + SECOND);
        assert_eq!(heard.next(now), Some(hint(1, 3).1));
    }

    #[test]
    fn a_flood_of_nodes_is_bounded_in_memory_and_in_time() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        let flood = |heard: &mut Heard| {
            (0..=u16::MAX)
                .filter(|n| {
                    let (mut key, hint) = hint(0, 1);
                    key.1 = n.to_string();
                    heard.insert(key, hint, now)
                })
                .count()
        };
        assert_eq!(flood(&mut heard), RECORDS_MAX);
        let mut told = 0;
        while heard.ready(now) {
            heard.next(now);
            told += 1;
        }
        assert_eq!(told, HINTS_PER_SECOND_MAX);
        assert!(heard.ready(now + SECOND));
        for _ in 0..8 {
            flood(&mut heard);
            while heard.next(now).is_some() {}
        }
        assert_eq!(heard.told.len(), RECORDS_MAX);
    }

    #[test]
    fn a_node_is_asked_for_by_all_names_that_it_was_announced_by() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        for (byte, name) in [(1, "a"), (2, "b"), (2, "c"), (3, "d")] {
            let (_, hint) = hint(byte, 1);
            heard.insert((NodeId::from_stored([byte; 32]), name.to_owned()), hint, now);
            heard.next(now);
        }
        assert_eq!(heard.names_of(NodeId::from_stored([2; 32])), ["b", "c"]);
    }

    #[test]
    fn browsing_starts_afresh_once_for_many_wishes() {
        let now = Instant::now();
        let mut search = Search::new(now);
        search.again(now);
        search.again(now + SECOND / 2);
        assert!(!search.due(now + SECOND / 2, 0), "nobody answers twice in a second");
        assert!(search.due(now + SECOND, 0));
        assert!(!search.due(now + SECOND * 2, 0));
    }

    #[test]
    fn a_lost_node_is_asked_for_until_it_is_back_or_long_gone() {
        let (now, node) = (Instant::now(), NodeId::from_stored([1; 32]));
        let mut search = Search::new(now);
        search.lost(node, now + SECOND, 255);
        let asked = (0..2_000).filter(|tenth| search.due(now + SECOND * *tenth / 2, 128)).count();
        assert!((40..80).contains(&asked), "{asked}");
        assert!(!search.due(now + SECOND * 3_000, 0), "long gone");

        search.lost(node, now + SECOND * 3_000, 0);
        search.sighted(node);
        assert!(search.due(now + SECOND * 3_002, 0), "what was asked for is still asked once");
        assert!(!search.due(now + SECOND * 3_100, 0));
    }
}
