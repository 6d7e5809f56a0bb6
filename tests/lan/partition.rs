//! A LAN in two halves that both go on, and are one again.

use std::{
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::{
    lab::{Lab, Node, measured, number, wait_until},
    load::{self, POLICY, are_even, are_meshed},
};

const LEFT: [&str; 2] = ["legion", "thor"];
const RIGHT: [&str; 3] = ["sprout", "oak", "elm"];
/// All are even again within so much time.
const EVEN_MAX: Duration = Duration::from_secs(3);
/// What is received may be so many percent of the entries that were missing.
const BYTES_PERCENT_MAX: u64 = 130;
/// Whether the time counts from the heal itself, or from the first link across, which comes when somebody dials again.
const FROM_THE_HEAL: bool = false;

#[test]
fn two_halves_that_wrote_thousands_of_thoughts_are_even_seconds_after_they_meet_and_fetch_little_twice() {
    let Some(lab) = Lab::start(&["--hosts", &[LEFT.as_slice(), &RIGHT].concat().join(",")]) else { return };
    let each_side = usize::try_from(number("COGMESH_PARTITION_THOUGHTS", 2_000)).unwrap();
    let policy = lab.policy(POLICY);
    let left = load::start(&lab, &LEFT, &["--policy", &policy, "--max-thoughts", "1000000"]);
    let right = load::start(&lab, &RIGHT, &["--policy", &policy, "--max-thoughts", "1000000"]);
    let (left, right): (Vec<&Node>, Vec<&Node>) = (left.iter().collect(), right.iter().collect());
    let all = [left.as_slice(), &right].concat();
    wait_until("all five are linked", || are_meshed(&all));
    lab.lan(&["split", &LEFT.join(","), &RIGHT.join(",")]);
    let split = Instant::now();
    for side in [&left, &right] {
        load::write(side, 0, each_side.div_ceil(side.len()));
    }
    let written = split.elapsed();
    wait_until("the halves miss each other", || are_meshed(&left) && are_meshed(&right));
    for side in [&left, &right] {
        wait_until("a half agrees", || {
            let all_there = |node: &Node| side.iter().all(|author| of(node, author) == of(author, author));
            side.iter().all(|node| all_there(node))
        });
    }
    let missing = missing_bytes(&lab, &left, &right) + missing_bytes(&lab, &right, &left);
    let idle_a_second = idle_bytes(&lab);
    let before = received_bytes(&lab);
    lab.lan(&["heal"]);
    let healed = Instant::now();
    let linked = wait_until("the halves meet", || all.iter().any(|node| crosses(node)));
    wait_until("all are even", || are_even(&all, 5));
    let even = healed.elapsed();
    wait_until("all five are linked", || are_meshed(&all));
    let meshed = healed.elapsed();
    let received = received_bytes(&lab) - before;
    let idle = idle_a_second * u64::try_from(healed.elapsed().as_millis()).unwrap() / 1_000;
    let spent = received.saturating_sub(idle);
    measured(&format!(
        "partition: {each_side} thoughts a side, written in {written:?}; after the heal: first link {linked:?}, even {even:?}, all \
         links {meshed:?}; {missing} bytes were missing, {received} received in UDP packets on all hosts (handshakes, \
         acknowledgements and mDNS included; {idle_a_second} a second when idle): {} % of what was missing",
        spent * 100 / missing,
    ));
    let counted = if FROM_THE_HEAL { even } else { even - linked };
    assert!(counted < EVEN_MAX, "even after {counted:?}");
    assert!(spent <= missing * BYTES_PERCENT_MAX / 100, "{spent} bytes for {missing} that were missing");
}

/// What a node holds of an author: seq and digest.
fn of(node: &Node, author: &Node) -> Option<(u64, Value)> {
    let status = node.get("/v1/status")?;
    let known =
        status["authors"].as_array()?.iter().find(|known| known["name"] == author.host.as_str())?.clone();
    Some((known["seq"].as_u64()?, known["digest"].clone()))
}

fn crosses(node: &Node) -> bool {
    let mine: &[&str] = if LEFT.contains(&node.host.as_str()) { &LEFT } else { &RIGHT };
    node.verified().iter().any(|peer| !mine.contains(&peer.as_str()))
}

/// What some lack that the others wrote: headers and contents, as they are stored and sent.
fn missing_bytes(lab: &Lab, those: &[&Node], authors: &[&Node]) -> u64 {
    let size = |author: &&Node| -> u64 {
        let file = lab.dir().join(&author.host).join("store.db");
        let store = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let sum = |table: &str, column: &str| -> u64 {
            let question = format!(
                "SELECT sum(length(CAST({column} AS BLOB))) FROM {table} JOIN authors ON number_of = author WHERE name = ?"
            )
            .replace("number_of", "authors.number");
            let sum: i64 = store.query_row(&question, [&author.host], |row| row.get(0)).unwrap();
            sum.unsigned_abs()
        };
        sum("entries", "header") + sum("contents", "content")
    };
    authors.iter().map(size).sum::<u64>() * those.len() as u64
}

/// What all hosts received but for the headers of Ethernet, IP and UDP, as the switch counts it: closed links count, too.
fn received_bytes(lab: &Lab) -> u64 {
    const HEADERS: u64 = 14 + 20 + 8;
    let status: Value = serde_json::from_str(&lab.lan(&["status"])).unwrap();
    let hosts = status["received"].as_object().unwrap();
    hosts
        .values()
        .map(|host| host["bytes"].as_u64().unwrap() - HEADERS * host["frames"].as_u64().unwrap())
        .sum()
}

/// What is received while nobody writes, in a second.
fn idle_bytes(lab: &Lab) -> u64 {
    let before = received_bytes(lab);
    // A rate needs time that passes.
    thread::sleep(Duration::from_secs(1));
    received_bytes(lab) - before
}
