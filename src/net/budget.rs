//! Budgets of handshakes: how many a second, and how many at a time, for one address and for all. Pure: time is passed in.
//!
//! Only an address that is proved (QUIC's Retry) has a budget of its own: else whoever forges a node's address could use up what that
//! node has. What comes without proof has one small budget for all together, and who finds it spent is asked for the proof, which
//! costs this node nothing to remember.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    ledger::types::Millis,
    protocol::bucket::{Allowance, Bucket},
};

/// What others may make an endpoint do before it has admitted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorBounds {
    /// Handshakes a second of all proved addresses together. One costs about a millisecond of a core, so the default of 256 leaves
    /// most of it for the peers that are there.
    pub all_per_second: u32,
    /// Handshakes a second of one proved address, and twice as many in a burst. Default 16: a node that is killed and started again
    /// five times a second needs five.
    pub address_per_second: u32,
    /// Connections of one proved address that are not admitted yet. Default 16, of 128 in all.
    pub address_at_once: usize,
    /// Handshakes a second without proof of the address; beyond, each one is asked for it, which costs it a round trip. Default 64.
    pub unproved_per_second: u32,
    /// Connections in all that are not admitted yet, their handshakes among them: 128 at most, which is the default.
    pub at_once: usize,
    /// Whether this machine's own addresses have a budget, too. Default: not, for many nodes may run on it, and whoever runs programs on it
    /// needs no connections to slow it down.
    pub loopback_too: bool,
}

impl Default for DoorBounds {
    fn default() -> Self {
        Self {
            all_per_second: 256,
            address_per_second: 16,
            address_at_once: 16,
            unproved_per_second: 64,
            at_once: STRANGERS_MAX,
            loopback_too: false,
        }
    }
}

/// Most connections of others at a time that are not admitted yet, their handshakes among them. One costs about 64 KiB.
pub(super) const STRANGERS_MAX: usize = 128;
/// Most addresses that are remembered, about 100 bytes each; the one that has used least goes first.
pub(super) const ADDRESSES_MAX: usize = 1_024;
/// So many seconds' worth may come at once.
const BURST_SECONDS: u32 = 2;

const fn allowance(per_second: u32) -> Allowance {
    Allowance { burst: per_second.saturating_mul(BURST_SECONDS), per_minute: per_second.saturating_mul(60) }
}

/// Why there is no handshake now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// Too many of that address are not admitted yet.
    AddressAtOnce,
    /// That address comes too often.
    Address,
    /// All together come too often.
    All,
}

/// Whom a budget is for: an IPv4 address, or the 64 bits of an IPv6 address that a machine can't choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Home(IpAddr);

impl Home {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// What is left of all budgets. Times are monotonic.
#[derive(Debug)]
pub(super) struct Budgets {
    bounds: DoorBounds,
    all: Bucket,
    unproved: Bucket,
    homes: BTreeMap<Home, Account>,
}

#[derive(Debug)]
struct Account {
    bucket: Bucket,
    at_once: usize,
}

impl Budgets {
    pub(super) fn new(bounds: DoorBounds) -> Self {
        let bucket = |per_second| Bucket::full(allowance(per_second), Millis::ZERO);
        Self {
            bounds,
            all: bucket(bounds.all_per_second),
            unproved: bucket(bounds.unproved_per_second),
            homes: BTreeMap::new(),
        }
    }

    /// Whether one more may shake hands without proof of its address.
    pub(super) fn take_unproved(&mut self, now: Millis) -> bool {
        self.unproved.take(now)
    }

    /// Whether a proved address may shake hands; with `Ok`, [`Self::done`] is owed for the home that it gives.
    pub(super) fn take(&mut self, now: Millis, address: IpAddr) -> Result<Option<Home>, Spent> {
        if address.to_canonical().is_loopback() && !self.bounds.loopback_too {
            return if self.all.take(now) { Ok(None) } else { Err(Spent::All) };
        }
        let home = Home::of(address);
        self.make_room(now, home);
        let account = self.homes.entry(home).or_insert_with(|| Account {
            bucket: Bucket::full(allowance(self.bounds.address_per_second), now),
            at_once: 0,
        });
        if account.at_once >= self.bounds.address_at_once {
            return Err(Spent::AddressAtOnce);
        }
        if !account.bucket.take(now) {
            return Err(Spent::Address);
        }
        if !self.all.take(now) {
            return Err(Spent::All);
        }
        account.at_once += 1;
        Ok(Some(home))
    }

    /// One of that home was admitted, or is gone.
    pub(super) fn done(&mut self, home: Home) {
        if let Some(account) = self.homes.get_mut(&home) {
            account.at_once = account.at_once.saturating_sub(1);
        }
    }

    /// Those that have somebody at the door stay: there are fewer of them than the table has places.
    fn make_room(&mut self, now: Millis, home: Home) {
        if self.homes.len() < ADDRESSES_MAX || self.homes.contains_key(&home) {
            return;
        }
        let idle = self.homes.iter().filter(|(_, account)| account.at_once == 0);
        let fullest = idle.max_by_key(|(_, account)| account.bucket.units(now)).map(|(home, _)| *home);
        if let Some(fullest) = fullest {
            self.homes.remove(&fullest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(100_000);
    const BOUNDS: DoorBounds = DoorBounds {
        all_per_second: 8,
        address_per_second: 2,
        address_at_once: 100,
        unproved_per_second: 3,
        at_once: STRANGERS_MAX,
        loopback_too: false,
    };

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn taken(budgets: &mut Budgets, now: Millis, address: IpAddr) -> usize {
        (0..100).take_while(|_| budgets.take(now, address).is_ok()).count()
    }

    #[test]
    fn an_address_has_a_burst_and_then_its_rate() {
        let mut budgets = Budgets::new(BOUNDS);
        assert_eq!(taken(&mut budgets, NOW, v4(1)), 4);
        assert_eq!(budgets.take(NOW, v4(1)), Err(Spent::Address));
        assert_eq!(taken(&mut budgets, NOW.plus(Millis(499)), v4(1)), 0);
        assert_eq!(taken(&mut budgets, NOW.plus(Millis(500)), v4(1)), 1);
        assert_eq!(taken(&mut budgets, NOW.plus(Millis(60_000)), v4(1)), 4, "what is unused is not saved up");
    }

    #[test]
    fn one_address_leaves_the_others_what_is_theirs_and_all_together_have_a_bound() {
        let mut budgets = Budgets::new(BOUNDS);
        let each: Vec<usize> = (1..=6).map(|last| taken(&mut budgets, NOW, v4(last))).collect();
        assert_eq!(each, [4, 4, 4, 4, 0, 0]);
        assert_eq!(budgets.take(NOW, v4(6)), Err(Spent::All));
    }

    #[test]
    fn whoever_is_not_admitted_yet_counts_until_it_is_done() {
        let mut budgets = Budgets::new(DoorBounds { address_at_once: 2, ..BOUNDS });
        let home = budgets.take(NOW, v4(1)).unwrap().unwrap();
        budgets.take(NOW, v4(1)).unwrap();
        assert_eq!(budgets.take(NOW, v4(1)), Err(Spent::AddressAtOnce));
        budgets.done(home);
        assert!(budgets.take(NOW, v4(1)).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_budget_and_ipv4_in_ipv6_clothes_is_ipv4() {
        let mut budgets = Budgets::new(BOUNDS);
        let of = |address: &str| Home::of(address.parse().unwrap());
        assert_eq!(of("fe80::1:2"), of("fe80::3"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_eq!(taken(&mut budgets, NOW, "fe80::1".parse().unwrap()), 4);
        assert_eq!(taken(&mut budgets, NOW, "fe80::2".parse().unwrap()), 0);
    }

    #[test]
    fn unproved_addresses_use_up_nobody_elses_budget() {
        let mut budgets = Budgets::new(BOUNDS);
        assert_eq!((0..100).filter(|_| budgets.take_unproved(NOW)).count(), 6);
        assert_eq!(taken(&mut budgets, NOW, v4(1)), 4);
    }

    #[test]
    fn this_machine_has_no_budget_of_its_own_unless_asked_for() {
        let lo = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(taken(&mut Budgets::new(BOUNDS), NOW, lo), 16, "all together have a bound still");
        let mut strict = Budgets::new(DoorBounds { loopback_too: true, ..BOUNDS });
        assert_eq!(taken(&mut strict, NOW, lo), 4);
    }

    #[test]
    fn a_crowd_of_addresses_takes_bounded_room_and_does_not_forget_who_is_at_the_door() {
        let generous =
            DoorBounds { all_per_second: u32::MAX, address_per_second: 1, address_at_once: 1, ..BOUNDS };
        let mut budgets = Budgets::new(generous);
        budgets.take(NOW, v4(1)).unwrap();
        for number in 0..5_000_u32 {
            let [_, _, high, low] = number.to_be_bytes();
            let home = budgets.take(NOW, [10, 1, high, low].into()).unwrap().unwrap();
            budgets.done(home);
        }
        assert_eq!(budgets.homes.len(), ADDRESSES_MAX);
        assert_eq!(budgets.take(NOW, v4(1)), Err(Spent::AddressAtOnce));
    }
}
