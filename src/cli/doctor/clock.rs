//! The clock: whether this machine knows what time it is, and, where a node runs, whether its peers agree.

use super::{About, Check, peers};
use crate::{
    api::json::Peer,
    cli::{show::duration, time},
    ledger::types::Millis,
    node::RELEASED,
    protocol::{CLOCK_AHEAD_MAX_MS, admission::AHEAD_MAX},
};

const SET_IT: &str = "set it: `timedatectl set-ntp true`, where systemd keeps the time; a board without a clock battery needs that at each start";

/// This machine's clock by itself. A wrong one may still be behind what the program can know.
pub(super) fn system(now_ms: u64) -> Check {
    let about = About::of_all("clock");
    let shown = time::shown(now_ms);
    if Millis(now_ms) < RELEASED {
        let released = time::shown(RELEASED.0);
        return about.wrong(format!("it says {shown}, and this program was released at {released}"), SET_IT);
    }
    about.ok(format!("it says {shown}"))
}

/// Against the clocks of linked peers. A node writes with its peers' time where its own is ahead; and what is written by peers that are
/// further ahead than [`AHEAD_MAX`] waits.
pub(super) fn against(peers: &[Peer]) -> Vec<Check> {
    let ahead: Vec<(&Peer, i64)> =
        peers.iter().filter_map(|peer| Some((peer, peer.clock_ahead_ms?))).collect();
    let mut sorted: Vec<i64> = ahead.iter().map(|(_, ahead_ms)| *ahead_ms).collect();
    sorted.sort_unstable();
    let Some(median_ms) = sorted.get(sorted.len() / 2).copied() else { return vec![] };
    let mut checks = vec![median(median_ms, sorted.len())];
    // Where most disagree with this machine, it is this machine that is told.
    if !is_far(median_ms) {
        let far = ahead.iter().filter(|(_, ahead_ms)| is_far(*ahead_ms));
        checks.extend(far.map(|(peer, ahead_ms)| one(peer, *ahead_ms)));
    }
    checks
}

fn median(ahead_ms: i64, peers: usize) -> Check {
    let about = About::new("clock", "against peers");
    let apart = apart(ahead_ms);
    let whose = match peers {
        1 => "its only peer's: one of the two is wrong".to_owned(),
        more => format!("the median of its {more} peers'"),
    };
    if ahead_ms.saturating_neg() > CLOCK_AHEAD_MAX_MS {
        return about.wrong(format!("this machine's clock is {apart} ahead of {whose}"), SET_IT);
    }
    if ahead_ms > behind_max_ms() {
        return about
            .wrong(format!("this machine's clock is {apart} behind {whose}; what they write waits"), SET_IT);
    }
    if is_far(ahead_ms) {
        return about.hint(format!("this machine's clock is {apart} behind {whose}"), SET_IT);
    }
    about.ok(format!("this machine's clock and those of linked peers ({peers}) are {apart} apart"))
}

fn one(peer: &Peer, ahead_ms: i64) -> Check {
    let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
    About::new("clock", peers::named(peer)).hint(
        format!("its clock is {} {direction} this machine's, which the others agree with", apart(ahead_ms)),
        "set the clock of that machine",
    )
}

fn behind_max_ms() -> i64 {
    i64::try_from(AHEAD_MAX.0).unwrap_or(i64::MAX)
}

const fn is_far(ahead_ms: i64) -> bool {
    ahead_ms.unsigned_abs() > CLOCK_AHEAD_MAX_MS.unsigned_abs()
}

fn apart(ahead_ms: i64) -> String {
    match ahead_ms.unsigned_abs() {
        ms @ 0..10_000 => format!("{}.{:03} s", ms / 1_000, ms % 1_000),
        ms => duration(ms / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    fn peer(name: &str, ahead_ms: i64) -> Peer {
        Peer { name: name.to_owned(), verified: true, clock_ahead_ms: Some(ahead_ms), ..Peer::default() }
    }

    #[test]
    fn a_clock_before_the_release_is_wrong() {
        assert_eq!(system(RELEASED.0).state, State::Ok);
        let check = system(86_400_000);
        assert!(check.state == State::Wrong && check.found.contains("1970-01-02"), "{check:?}");
    }

    #[test]
    fn a_clock_is_held_against_the_median_of_the_peers() {
        let states = |ahead: &[i64]| {
            let peers: Vec<Peer> = ahead.iter().map(|ahead| peer("thor", *ahead)).collect();
            against(&peers).iter().map(|check| check.state).collect::<Vec<_>>()
        };
        assert_eq!(states(&[]), []);
        assert_eq!(states(&[12]), [State::Ok]);
        assert_eq!(states(&[-5_001]), [State::Wrong], "ahead of its peers");
        assert_eq!(states(&[60_000]), [State::Hint], "behind its peers");
        assert_eq!(states(&[120_001]), [State::Wrong], "so far behind that what they write waits");
        assert_eq!(states(&[0, 3, 90_000]), [State::Ok, State::Hint], "one peer is wrong");
        assert_eq!(states(&[-90_000, -90_000, 0]), [State::Wrong], "this machine is wrong");
    }

    #[test]
    fn how_far_clocks_are_apart_is_said_with_the_direction() {
        let check = &against(&[peer("thor", 0), peer("sprout", -7_250), peer("legion", 1)])[1];
        assert_eq!(check.subject, "sprout");
        assert!(check.found.contains("7.250 s behind this machine's"), "{check:?}");
    }
}
