//! Tally: what came back of each kind, when, and what of it can be believed. Times are in tenths of a microsecond.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{
    LOST_AFTER,
    pace::{Paced, Schedule, histogram, tenths},
};
use crate::net::{Echo, Kind};

/// What was measured of one kind. Times are in tenths of a microsecond.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub kind: Kind,
    /// How many were sent.
    pub count: u64,
    /// How many of them were not back in time.
    pub lost: u64,
    /// The others.
    pub histogram: Histogram<u64>,
    /// The mean difference of a latency to that of the sample which came back before it.
    pub jitter: f64,
    /// Second by second.
    pub seconds: Vec<Second>,
}

/// The samples that were due in one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Second {
    /// Which, from 0.
    pub second: u64,
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// All kinds of one measurement.
#[derive(Debug)]
pub(super) struct Tallies {
    schedule: Schedule,
    tallies: Vec<Tally>,
    probes: Probes,
}

/// The last round trips of probes: half of the shortest is a thought's way back. The others also hold how late they were sent, or were sent
/// twice, which the way back of an answer has nothing of; a thought is never shown faster than it was for what happened to a probe.
#[derive(Debug)]
struct Probes(VecDeque<Duration>);

/// How many of them.
const PROBES: usize = 9;

#[derive(Debug)]
struct Tally {
    measured: Measured,
    /// One bit a sample: the peer says which one comes back, and may say so twice.
    seen: Vec<u64>,
    last: Option<u64>,
    differences: u64,
    /// Seconds of which samples may still come back.
    open: BTreeMap<u64, Vec<u64>>,
}

impl Tallies {
    pub(super) fn new(schedule: &Schedule, probe: Duration) -> Self {
        let tallies = schedule.kinds().iter().map(|kind| Tally::new(*kind, schedule)).collect();
        Self { schedule: schedule.clone(), tallies, probes: Probes(VecDeque::from([probe])) }
    }

    /// Something came back.
    pub(super) fn back(&mut self, echo: Echo) {
        let Some(tally) = self.tallies.iter_mut().find(|tally| tally.measured.kind == echo.kind) else {
            return;
        };
        let is_sent = echo.number < tally.measured.count;
        let due = self.schedule.due(echo.kind, echo.number.min(tally.measured.count));
        // What comes back before it was due was never sent; what is too late stays lost.
        let Some(took) = echo.at.checked_duration_since(due) else { return };
        if !is_sent || took > LOST_AFTER || !tally.is_first(echo.number) {
            return;
        }
        let counted = match echo.kind {
            Kind::Thought => took.saturating_sub(self.probes.shortest() / 2),
            Kind::Floor | Kind::Probe | Kind::Datagram | Kind::Stream => took,
        };
        if echo.kind == Kind::Probe {
            self.probes.add(took);
        }
        tally.count(tenths(counted), second_of(self.schedule.begin(), due));
    }

    /// So much was sent.
    pub(super) fn asked(&mut self, paced: &Paced) {
        for tally in &mut self.tallies {
            tally.measured.count = self.schedule.count(tally.measured.kind, paced.periods());
        }
    }

    pub(super) fn are_all_back(&self) -> bool {
        self.tallies.iter().all(|tally| tally.measured.histogram.len() >= tally.measured.count)
    }

    pub(super) fn finish(self) -> Vec<Measured> {
        self.tallies.into_iter().map(Tally::finish).collect()
    }
}

impl Probes {
    fn add(&mut self, took: Duration) {
        if self.0.len() >= PROBES {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    fn shortest(&self) -> Duration {
        self.0.iter().min().copied().unwrap_or_default()
    }
}

impl Tally {
    fn new(kind: Kind, schedule: &Schedule) -> Self {
        let count = schedule.count(kind, schedule.periods());
        let seen = vec![0; usize::try_from(count.div_ceil(64)).unwrap_or(0)];
        let measured =
            Measured { kind, count, lost: 0, histogram: histogram(), jitter: 0.0, seconds: vec![] };
        Self { measured, seen, last: None, differences: 0, open: BTreeMap::new() }
    }

    /// Whether that sample comes back for the first time.
    fn is_first(&mut self, number: u64) -> bool {
        let place = usize::try_from(number / 64).ok().and_then(|place| self.seen.get_mut(place));
        let Some(bits) = place else { return false };
        let bit = 1 << (number % 64);
        let is_first = *bits & bit == 0;
        *bits |= bit;
        is_first
    }

    fn count(&mut self, took: u64, second: u64) {
        self.measured.histogram.saturating_record(took.max(1));
        if let Some(last) = self.last.replace(took) {
            self.differences = self.differences.saturating_add(took.abs_diff(last));
        }
        self.open.entry(second).or_default().push(took);
        // Nothing of a second comes back that long after its end.
        let closed = second.saturating_sub(LOST_AFTER.as_secs() + 1);
        while let Some(entry) = self.open.first_entry()
            && *entry.key() < closed
        {
            let (second, samples) = entry.remove_entry();
            self.measured.seconds.extend(summed_up(second, samples));
        }
    }

    fn finish(mut self) -> Measured {
        for (second, samples) in self.open {
            self.measured.seconds.extend(summed_up(second, samples));
        }
        let back = self.measured.histogram.len();
        self.measured.lost = self.measured.count.saturating_sub(back);
        let pairs = back.saturating_sub(1).max(1);
        self.measured.jitter = self.differences as f64 / pairs as f64;
        self.measured
    }
}

fn second_of(begin: Instant, due: Instant) -> u64 {
    due.saturating_duration_since(begin).as_secs()
}

fn summed_up(second: u64, mut samples: Vec<u64>) -> Option<Second> {
    samples.sort_unstable();
    let at = |per_cent: usize| samples.get((samples.len() * per_cent).div_ceil(100).max(1) - 1).copied();
    Some(Second { second, p50: at(50)?, p99: at(99)?, max: *samples.last()? })
}

#[cfg(test)]
mod tests {
    use super::{super::Plan, *};
    use crate::protocol::input::LinkId;

    fn tallies(millis: u64) -> (Schedule, Tallies) {
        let duration = Duration::from_millis(millis);
        let plan = Plan { link: LinkId(1), duration, rate: 10, bytes: 64, kinds: Kind::ALL.to_vec() };
        let schedule = Schedule::new(Instant::now(), &plan);
        let tallies = Tallies::new(&schedule, Duration::from_micros(100));
        (schedule, tallies)
    }

    fn back(schedule: &Schedule, tallies: &mut Tallies, kind: Kind, number: u64, micros: u64) {
        let at = schedule.due(kind, number) + Duration::from_micros(micros);
        tallies.back(Echo { kind, number, at });
    }

    fn of(measured: &[Measured], kind: Kind) -> &Measured {
        measured.iter().find(|measured| measured.kind == kind).unwrap()
    }

    #[test]
    fn latencies_count_from_when_a_sample_was_due_and_what_is_late_is_lost() {
        let (schedule, mut tallies) = tallies(1_000);
        for (number, micros) in [(0, 200), (1, 300), (3, 2_000_001), (4, 250)] {
            back(&schedule, &mut tallies, Kind::Probe, number, micros);
        }
        let measured = tallies.finish();
        let probe = of(&measured, Kind::Probe);
        assert_eq!((probe.count, probe.lost, probe.histogram.len()), (10, 7, 3));
        assert_eq!(probe.histogram.value_at_quantile(0.5), 2_501, "in tenths, to three digits");
        // 100 and 50.
        assert!((probe.jitter - 750.0).abs() < 0.01, "{}", probe.jitter);
        assert_eq!(of(&measured, Kind::Floor).lost, 10);
    }

    #[test]
    fn what_comes_back_twice_or_was_never_sent_is_not_counted() {
        let (schedule, mut tallies) = tallies(1_000);
        for number in [0, 0, 9, 10, 11, 64, u64::MAX] {
            let at = schedule.due(Kind::Datagram, 9) + Duration::from_millis(1);
            tallies.back(Echo { kind: Kind::Datagram, number, at });
        }
        let early = schedule.due(Kind::Datagram, 5) - Duration::from_micros(1);
        tallies.back(Echo { kind: Kind::Datagram, number: 5, at: early });
        assert_eq!(of(&tallies.finish(), Kind::Datagram).histogram.len(), 2);
    }

    #[test]
    fn half_of_the_shortest_of_the_last_probes_is_the_way_back_of_a_thought() {
        let (schedule, mut tallies) = tallies(2_000);
        back(&schedule, &mut tallies, Kind::Thought, 0, 1_000);
        // Ones that were held up say nothing about the way back of the next answer; when all of nine take so long, they do.
        for number in 0..8 {
            back(&schedule, &mut tallies, Kind::Probe, number, 400);
        }
        back(&schedule, &mut tallies, Kind::Thought, 8, 1_001);
        back(&schedule, &mut tallies, Kind::Probe, 8, 400);
        back(&schedule, &mut tallies, Kind::Thought, 9, 1_000);
        let measured = tallies.finish();
        let thought = of(&measured, Kind::Thought);
        let exact = |wanted: u64, value: u64| wanted.abs_diff(value) <= wanted / 1_000;
        assert!(exact(9_510, thought.histogram.max()) && exact(8_000, thought.histogram.min()));
        assert!(exact(9_500, thought.histogram.value_at_quantile(0.5)));
    }

    #[test]
    fn the_seconds_come_in_order_each_with_its_own_percentiles() {
        let (schedule, mut tallies) = tallies(10_000);
        for number in 0..100 {
            back(&schedule, &mut tallies, Kind::Stream, number, 100 + number);
        }
        let measured = tallies.finish();
        let seconds = &of(&measured, Kind::Stream).seconds;
        assert_eq!(
            seconds.iter().map(|second| second.second).collect::<Vec<_>>(),
            (0..10).collect::<Vec<_>>()
        );
        assert_eq!(seconds[3], Second { second: 3, p50: 1_340, p99: 1_390, max: 1_390 });
    }

    #[test]
    fn all_are_back_when_as_many_are_as_were_sent() {
        let (schedule, mut tallies) = tallies(1_000);
        for kind in Kind::ALL {
            assert!(!tallies.are_all_back());
            for number in 0..10 {
                back(&schedule, &mut tallies, kind, number, 100);
            }
        }
        assert!(tallies.are_all_back());
    }
}
