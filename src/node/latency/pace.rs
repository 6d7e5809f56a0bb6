//! Pace: when each sample is due, and a thread that is there in time.

use std::{
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio_util::sync::CancellationToken;

use super::{LOST_AFTER, Plan};
use crate::net::Kind;

/// Most thoughts a second: below what a peer checks for one link, so that none is turned away.
pub const THOUGHTS_PER_SECOND_MAX: u32 = 500;
/// So long before a sample is due the thread stops sleeping and gives way to others until then: systems wake a sleeper by some 50 to 100 µs
/// too late, which would stand in every sample.
const AWAKE: Duration = Duration::from_micros(200);
/// Longest sleep between two looks at whether it should stop.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// When which sample is due.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    begin: Instant,
    rate: u64,
    periods: u64,
    kinds: Vec<Kind>,
}

/// What was sent of a schedule.
#[derive(Clone, Debug)]
pub(super) struct Paced {
    /// Periods that were begun.
    periods: u64,
    late: Histogram<u64>,
}

impl Schedule {
    pub(super) fn new(begin: Instant, plan: &Plan) -> Self {
        let rate = u64::from(plan.rate.max(1));
        let periods =
            u64::try_from(plan.duration.as_millis()).unwrap_or(u64::MAX).saturating_mul(rate) / 1_000;
        Self { begin, rate, periods: periods.max(1), kinds: plan.kinds.clone() }
    }

    pub(super) const fn begin(&self) -> Instant {
        self.begin
    }

    pub(super) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    pub(super) const fn periods(&self) -> u64 {
        self.periods
    }

    /// A sample of that kind is sent in every so-manieth period.
    const fn stride(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Thought => self.rate.div_ceil(THOUGHTS_PER_SECOND_MAX as u64),
            Kind::Floor | Kind::Probe | Kind::Datagram | Kind::Stream => 1,
        }
    }

    /// How many samples of a kind there are in so many periods.
    pub(super) const fn count(&self, kind: Kind, periods: u64) -> u64 {
        periods.div_ceil(self.stride(kind))
    }

    /// The kinds in the order in which they are due in a period. Each time another one is first: otherwise whatever happens every few
    /// milliseconds, such as a busy machine's scheduler, would always meet the same kind.
    fn turns(&self, period: u64) -> impl Iterator<Item = Kind> {
        let many = self.kinds.len();
        let turned = usize::try_from(period % (many.max(1) as u64)).unwrap_or(0);
        self.kinds.iter().cycle().skip(many - turned).take(many).copied()
    }

    /// When that sample of a kind is due.
    pub(super) fn due(&self, kind: Kind, number: u64) -> Instant {
        let many = self.kinds.len().max(1) as u128;
        let place = self.kinds.iter().position(|one| *one == kind).unwrap_or(0) as u128;
        let period = u128::from(number) * u128::from(self.stride(kind));
        let slots = period * many + (place + period) % many;
        let nanos = slots * 1_000_000_000 / (u128::from(self.rate) * many);
        self.begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Paced {
    pub(super) const fn periods(&self) -> u64 {
        self.periods
    }

    /// How late samples were sent, in tenths of a microsecond: median, 99th percentile, longest.
    pub(super) fn late(&self) -> [u64; 3] {
        [self.late.value_at_quantile(0.5), self.late.value_at_quantile(0.99), self.late.max()]
    }
}

/// Has each sample sent when it is due, until the end or `stop`. It blocks its thread.
pub(super) fn pace(schedule: &Schedule, stop: &CancellationToken, mut ask: impl FnMut(Kind, u64)) -> Paced {
    let mut paced = Paced { periods: 0, late: histogram() };
    for period in 0..schedule.periods {
        paced.periods = period + 1;
        for kind in schedule.turns(period) {
            let stride = schedule.stride(kind);
            if period % stride != 0 {
                continue;
            }
            let number = period / stride;
            let due = schedule.due(kind, number);
            if !wait(due, stop) {
                return paced;
            }
            paced.late.saturating_record(tenths(due.elapsed()));
            ask(kind, number);
        }
    }
    paced
}

/// Waits until then; false where it should stop.
fn wait(due: Instant, stop: &CancellationToken) -> bool {
    loop {
        if stop.is_cancelled() {
            return false;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        match left.checked_sub(AWAKE) {
            Some(sleep) if !sleep.is_zero() => thread::sleep(sleep.min(SLEEP_MAX)),
            // Not a spin without end: on a busy machine what is measured needs this processor.
            Some(_) | None => thread::yield_now(),
        }
    }
}

/// Tenths of a microsecond, the unit of all that is counted here.
pub(super) fn tenths(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() / 100).unwrap_or(u64::MAX)
}

/// For times up to that after which a sample is lost, to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    let most = tenths(LOST_AFTER);
    // These bounds are constants, and allowed.
    Histogram::new_with_bounds(1, most, 3).unwrap_or_else(|_| unreachable_histogram())
}

fn unreachable_histogram() -> Histogram<u64> {
    unreachable!("a histogram from 1 to two seconds with three digits can be made")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::input::LinkId;

    fn plan(rate: u32, millis: u64) -> Plan {
        let duration = Duration::from_millis(millis);
        Plan { link: LinkId(1), duration, rate, bytes: 64, kinds: Kind::ALL.to_vec() }
    }

    #[test]
    fn kinds_take_turns_within_each_period_and_thoughts_leave_some_out_where_there_are_many() {
        let begin = Instant::now();
        let slow = Schedule::new(begin, &plan(100, 1_000));
        let after = |schedule: &Schedule, kind, number| (schedule.due(kind, number) - begin).as_micros();
        assert_eq!(slow.periods(), 100);
        assert_eq!(Kind::ALL.map(|kind| after(&slow, kind, 0)), [0, 2_000, 4_000, 6_000, 8_000]);
        assert_eq!(Kind::ALL.map(|kind| after(&slow, kind, 1)), [12_000, 14_000, 16_000, 18_000, 10_000]);
        assert_eq!(after(&slow, Kind::Thought, 99), 996_000);
        let fast = Schedule::new(begin, &plan(2_000, 1_000));
        assert_eq!(fast.count(Kind::Probe, fast.periods()), 2_000);
        assert_eq!(fast.count(Kind::Thought, fast.periods()), 500);
        assert_eq!(after(&fast, Kind::Thought, 1), 2_000 + 300);
        assert_eq!(Schedule::new(begin, &plan(1, 100)).periods(), 1, "never none");
        let long = Schedule::new(begin, &plan(10_000, 600_000));
        assert_eq!(after(&long, Kind::Floor, 5_999_995), 599_999_500);
    }

    #[test]
    fn a_sample_is_never_sent_before_it_is_due_and_each_once() {
        let schedule = Schedule::new(Instant::now(), &plan(200, 100));
        let mut sent = vec![];
        let paced = pace(&schedule, &CancellationToken::new(), |kind, number| {
            assert!(Instant::now() >= schedule.due(kind, number));
            sent.push((number, kind));
        });
        assert!(sent.is_sorted_by_key(|(number, kind)| schedule.due(*kind, *number)));
        sent.sort_unstable();
        let all: Vec<_> = (0..20).flat_map(|number| Kind::ALL.map(|kind| (number, kind))).collect();
        assert_eq!((sent, paced.periods()), (all, 20));
    }

    #[test]
    fn a_pace_ends_when_it_is_stopped() {
        let schedule = Schedule::new(Instant::now(), &plan(10, 600_000));
        let stop = CancellationToken::new();
        let mut sent = 0;
        let paced = pace(&schedule, &stop, |_, _| {
            sent += 1;
            stop.cancel();
        });
        assert_eq!((sent, paced.periods()), (1, 1));
    }
}
