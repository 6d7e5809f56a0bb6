//! `cogmesh bench throughput` between running nodes: what it prints, that nobody's books change, and how it ends.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::support::{Node, QUALITY, assert_fails, code, cogmesh, err, json, out};

const PATIENCE: Duration = Duration::from_secs(60);

/// Two nodes that are linked: the one that asks, and its peer, which was started with these options.
fn pair(options: &[&str]) -> (Node, Node) {
    let thor = Node::start(&[&["--name", "thor", "--interface", "lo"], options].concat());
    let legion = Node::start(&["--name", "legion", "--interface", "lo", "--peer", &thor.address]);
    legion.wait_for(&["peers"], |peers| peers.iter().any(|peer| peer["verified"] == true));
    (legion, thor)
}

/// Everything that a node says of itself and of others but what passes with time and traffic, and what it did for others' measurements.
fn all_that_it_knows(node: &Node) -> Value {
    let mut status = json(&node.ask(&["status", "--json"]));
    status["node"]["uptime_s"].take();
    for peer in status["peers"].as_array_mut().unwrap() {
        for passing in ["rtt_us", "connected_s", "bytes_sent", "bytes_received", "clock_ahead_ms"] {
            peer[passing].take();
        }
    }
    status["counters"]["measure_arenas"].take();
    let mut economics = json(&node.ask(&["economics", "--json"]));
    for passing in ["rewards_per_min_ppm", "penalties_per_min_ppm"] {
        economics[passing].take();
    }
    let audit = json(&node.ask(&["audit", "--json"]));
    assert_eq!(audit["ok"], true, "{audit}");
    json!([
        status,
        economics,
        audit,
        node.lines(&["thoughts"]),
        node.lines(&["alerts"]),
        node.lines(&["authors"])
    ])
}

fn arenas(node: &Node) -> u64 {
    json(&node.ask(&["status", "--json"]))["counters"]["measure_arenas"].as_u64().unwrap()
}

/// Begins a measurement that goes on for as long as it may.
fn begin(node: &Node) -> Child {
    let data_dir = node.data_dir().to_str().unwrap();
    cogmesh(&["bench", "throughput", "thor", "--duration", "1m", "--json", "--data-dir", data_dir])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not yet");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn has_arena(data_dir: &Path) -> bool {
    data_dir.join("arena").exists()
}

/// Both have files of a measurement, and what is written gets across.
fn wait_for_both(legion: &Node, thor: &Node) {
    let stores = |node: &Node| {
        let Ok(arenas) = std::fs::read_dir(node.data_dir().join("arena")) else { return 0 };
        let stores = arenas.flatten().filter_map(|arena| arena.path().join("store.db-wal").metadata().ok());
        stores.map(|store| store.len()).max().unwrap_or(0)
    };
    wait_until("a measurement is under way", || [legion, thor].iter().all(|node| stores(node) > 200_000));
}

#[test]
fn what_gets_through_is_measured_and_nothing_that_either_node_knows_changes() {
    let (legion, thor) = pair(&[]);
    assert_eq!(code(&legion.ask(&["submit", QUALITY])), 0);
    thor.wait_for(&["thoughts"], |thoughts| thoughts.len() == 1);
    for node in [&legion, &thor] {
        node.wait_for(&["peers"], |peers| peers[0]["step"]["identical_since_ms"].is_u64());
    }
    let before = [&legion, &thor].map(all_that_it_knows);
    let measured =
        legion.ask(&["bench", "throughput", "thor", "--duration", "1s", "--size", "300", "--json"]);
    assert_eq!(code(&measured), 0, "{}{}", out(&measured), err(&measured));
    let said = json(&measured);
    assert_eq!(
        (&said["name"], &said["size"], &said["durability"]),
        (&"thor".into(), &300.into(), &"full".into())
    );
    assert_eq!(
        (&said["lost"], &said["why"], &said["why_code"]),
        (&0.into(), &Value::Null, &Value::Null),
        "{said}"
    );
    assert!(
        said["thoughts"].as_u64().unwrap() > 0 && said["duration_ms"].as_u64().unwrap() >= 1_000,
        "{said}"
    );
    let number = |name: &str| said[name].as_f64().unwrap_or_else(|| panic!("{name}: {said}"));
    for name in ["thoughts_per_s", "catch_up_per_s", "bulk_mb_per_s", "cpu_here_us", "cpu_there_us"] {
        assert!(number(name) > 0.0, "{name}: {said}");
    }
    let both = number("cpu_here_us") + number("cpu_there_us");
    assert!((number("cpu_us_per_thought") - both).abs() < 0.2, "{said}");
    assert!(number("wire_bytes_per_thought") > 300.0, "a content travels once, at least: {said}");
    let rate = number("thoughts") / number("duration_ms") * 1e3;
    assert!((number("thoughts_per_s") - rate).abs() < 0.01 * rate, "{said}");
    let after = [&legion, &thor].map(all_that_it_knows);
    assert_eq!(before, after);
    assert_eq!((arenas(&legion), arenas(&thor)), (0, 1));
    assert!(!has_arena(legion.data_dir()), "what was written here is gone before the answer comes");
    wait_until("what was written there is gone", || !has_arena(thor.data_dir()));
}

#[test]
fn without_a_peer_all_are_measured_one_after_the_other_and_a_table_shows_each() {
    let (legion, thor) = pair(&[]);
    let _sprout = Node::start(&["--name", "sprout", "--interface", "lo", "--peer", &legion.address]);
    legion.wait_for(&["peers"], |peers| peers.iter().filter(|peer| peer["verified"] == true).count() == 2);
    let args = ["bench", "throughput", "--duration", "1s", "--size", "64", "--durability", "normal"];
    let measured = legion.ask(&args);
    assert_eq!(code(&measured), 0, "{}{}", out(&measured), err(&measured));
    assert_eq!(err(&measured), "", "no progress where nobody looks");
    let text = out(&measured);
    for name in ["sprout", "thor"] {
        let start = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} (")))
            .unwrap_or_else(|| panic!("{text}"));
        assert!(start.ends_with(": thoughts of 64 bytes, durability normal"), "{text}");
    }
    assert_eq!(text.matches("\nlost ").count(), 2, "{text}");
    assert!(!text.contains(" -\n"), "nothing is missing: {text}");
    // It can be done the other way round, too: who dialled whom makes no difference.
    let back = thor.lines(&["bench", "throughput", "legion", "--duration", "1s"]);
    assert_eq!((&back[0]["name"], &back[0]["why"]), (&"legion".into(), &Value::Null));
}

#[test]
fn a_node_that_takes_no_part_says_so_and_may_measure_all_the_same() {
    let (legion, thor) = pair(&["--no-bench-throughput"]);
    let refused = legion.ask(&["bench", "throughput", "thor", "--duration", "1s", "--json"]);
    let said = json(&refused);
    assert_eq!((code(&refused), said["why_code"].as_str()), (1, Some("peer_unwilling")), "{said}");
    assert!(said["why"].as_str().unwrap().contains("--no-bench-throughput"), "{said}");
    assert_eq!(
        (&said["lost"], &said["thoughts_per_s"], &said["bulk_mb_per_s"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let text = out(&legion.ask(&["bench", "throughput", "thor", "--duration", "1s"]));
    assert!(text.contains("could not be measured: the peer refuses: "), "{text}");
    assert_eq!(arenas(&thor), 0);
    assert!(!has_arena(thor.data_dir()) && !has_arena(legion.data_dir()));
    let measured = thor.ask(&["bench", "throughput", "legion", "--duration", "1s", "--json"]);
    assert_eq!(code(&measured), 0, "{}{}", out(&measured), err(&measured));
}

#[test]
fn a_node_takes_part_in_one_measurement_at_a_time_and_it_ends_with_whoever_asked() {
    let (legion, thor) = pair(&[]);
    let sprout = Node::start(&["--name", "sprout", "--interface", "lo", "--peer", &thor.address]);
    sprout.wait_for(&["peers"], |peers| {
        peers.iter().any(|peer| peer["name"] == "thor" && peer["verified"] == true)
    });
    let mut first = begin(&legion);
    wait_for_both(&legion, &thor);
    assert_fails(&legion.ask(&["bench", "throughput", "thor"]), 1, &["measuring already"]);
    assert_fails(&thor.ask(&["bench", "throughput", "sprout"]), 1, &["a peer measures"]);
    let busy = sprout.ask(&["bench", "throughput", "thor", "--duration", "1s", "--json"]);
    let said = json(&busy);
    assert_eq!((code(&busy), said["why_code"].as_str()), (1, Some("peer_busy")), "{said}");
    // Not INT: whoever runs tests in the background has them ignore it, and with them what they start.
    signal(first.id(), "TERM");
    first.wait().unwrap();
    wait_until("both are done with it", || !has_arena(legion.data_dir()) && !has_arena(thor.data_dir()));
    let measured = sprout.ask(&["bench", "throughput", "thor", "--duration", "1s", "--json"]);
    assert_eq!(code(&measured), 0, "{}{}", out(&measured), err(&measured));
    assert_eq!(arenas(&thor), 2);
}

#[test]
fn a_measurement_whose_peer_stops_ends_and_says_so() {
    let (legion, thor) = pair(&[]);
    let measuring = begin(&legion);
    wait_for_both(&legion, &thor);
    thor.signal("TERM");
    let (exit, _, log, dir) = thor.ended();
    assert_eq!(exit, 0, "{log}");
    assert!(!has_arena(dir.path()), "a node that stops leaves nothing of a measurement");
    let measured = measuring.wait_with_output().unwrap();
    let said = json(&measured);
    let why = said["why_code"].as_str().unwrap_or_else(|| panic!("{said}"));
    assert!(code(&measured) == 1 && ["link_gone", "peer_ended"].contains(&why), "{said}");
    assert!(said["bulk_mb_per_s"].as_f64().unwrap() > 0.0, "what was measured before counts: {said}");
    wait_until("nothing is left here", || !has_arena(legion.data_dir()));
}

#[test]
fn a_node_that_measures_stops_like_any_other_and_what_a_killed_one_leaves_goes_at_its_next_start() {
    let (legion, thor) = pair(&[]);
    let measuring = begin(&legion);
    wait_for_both(&legion, &thor);
    legion.signal("TERM");
    let (exit, _, log, dir) = legion.ended();
    assert_eq!(exit, 0, "{log}");
    assert!(!has_arena(dir.path()));
    assert_eq!(measuring.wait_with_output().unwrap().status.code(), Some(1));
    wait_until("the peer is done with it", || !has_arena(thor.data_dir()));

    let legion = Node::start_in(dir, &["--interface", "lo", "--peer", &thor.address]);
    legion.wait_for(&["peers"], |peers| peers.iter().any(|peer| peer["verified"] == true));
    let measuring = begin(&legion);
    wait_for_both(&legion, &thor);
    thor.signal("KILL");
    let (_, _, _, dir) = thor.ended();
    assert!(has_arena(dir.path()), "it had no time to clear up");
    let thor = Node::start_in(dir, &["--interface", "lo"]);
    assert!(!has_arena(thor.data_dir()));
    // Nobody says goodbye for a process that was killed: its peer waits until the link is missed.
    let measured = measuring.wait_with_output().unwrap();
    assert!(code(&measured) == 1 && json(&measured)["why"].is_string(), "{}", out(&measured));
}

#[test]
fn what_can_not_be_measured_is_refused_with_its_bounds() {
    let (legion, _thor) = pair(&[]);
    for (args, part) in [
        (["--size", "63"], "from 64 to 16384"),
        (["--size", "16385"], "from 64 to 16384"),
        (["--duration", "61s"], "from 200 to 60000"),
        (["--durability", "never"], "full` or `normal"),
    ] {
        let refused = legion.ask(&[&["bench", "throughput", "thor"][..], &args].concat());
        assert_fails(&refused, 2, &[part]);
    }
    assert_fails(&legion.ask(&["bench", "throughput", "nobody"]), 1, &["nobody", "cogmesh peers"]);
    let body = r#"{"peer": "thor", "durability": "never"}"#;
    let (status, said) = legion.http("POST /v1/bench/throughput", Some("application/json"), body);
    assert_eq!((status, said["error"]["code"].as_str()), (400, Some("bad_durability")));
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap();
    assert!(sent.success());
}
