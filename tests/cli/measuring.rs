//! `cogmesh ping` and `cogmesh bench latency` between running nodes: what they print, that nothing is left of it, and how they end.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::support::{Node, QUALITY, assert_fails, code, cogmesh, err, json, out};

const PATIENCE: Duration = Duration::from_secs(30);
const KINDS: [&str; 5] = ["floor_us", "probe_us", "datagram_us", "stream_us", "thought_us"];

/// Two nodes that are linked: the one that asks, and its peer.
fn pair() -> (Node, Node) {
    let thor = Node::start(&["--name", "thor", "--interface", "lo"]);
    let legion = Node::start(&["--name", "legion", "--interface", "lo", "--peer", &thor.address]);
    legion.wait_for(&["peers"], |peers| peers.iter().any(|peer| peer["verified"] == true));
    (legion, thor)
}

/// What a node holds of every author, and how much of it.
fn books(node: &Node) -> (Value, Vec<Value>) {
    let status = json(&node.ask(&["status", "--json"]));
    (serde_json::json!([status["corpus"], status["authors"]]), node.lines(&["thoughts"]))
}

fn counter(node: &Node, name: &str) -> u64 {
    json(&node.ask(&["status", "--json"]))["counters"][name].as_u64().unwrap()
}

#[test]
fn a_ping_prints_a_line_each_time_and_a_summary_at_its_end() {
    let (legion, thor) = pair();
    let pinged = legion.ask(&["ping", "thor", "-c", "3", "-i", "0.01"]);
    let text = out(&pinged);
    assert_eq!(code(&pinged), 0, "{}", err(&pinged));
    let id = json(&thor.ask(&["id", "--json"]))["id"].as_str().unwrap().to_owned();
    let start = format!("64 bytes from thor ({}) at {}: seq=", &id[..8], thor.address);
    let lines: Vec<&str> = text.lines().collect();
    for (seq, line) in lines[..3].iter().enumerate() {
        assert!(line.starts_with(&format!("{start}{} time=", seq + 1)) && line.ends_with(" ms"), "{line}");
    }
    assert!(text.contains("3 sent, 3 received, 0.0 % lost\nmin/avg/max/mdev = "), "{text}");

    let lines = legion.lines(&["ping", &id[..6], "-c", "2", "-i", "0.01", "-s", "1000"]);
    assert_eq!(lines.len(), 2);
    for (line, seq) in lines.iter().zip(1..) {
        assert_eq!(
            (&line["seq"], &line["bytes"], &line["peer"]),
            (&seq.into(), &1_000.into(), &id.as_str().into())
        );
        assert!(line["rtt_us"].as_f64().unwrap() > 0.0, "{line}");
    }
    assert_fails(&legion.ask(&["ping", "nobody"]), 1, &["nobody", "cogmesh peers"]);
    assert_fails(&legion.ask(&["ping", "thor", "-s", "5"]), 2, &["from 16 to 65536"]);
    assert_fails(&legion.ask(&["ping", "thor", "-i", "0"]), 2, &["interval"]);
}

#[test]
fn a_ping_goes_on_until_it_is_interrupted_and_then_sums_up() {
    let (legion, _thor) = pair();
    let data_dir = legion.data_dir().to_str().unwrap();
    let mut ping = cogmesh(&["ping", "thor", "-i", "0.05", "--data-dir", data_dir])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(ping.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..3 {
        said.read_line(&mut line).unwrap();
    }
    signal(ping.id(), "INT");
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("--- thor ---") && rest.contains("0.0 % lost"), "{line}{rest}");
    assert_eq!(ping.wait().unwrap().code(), Some(0));
}

#[test]
fn a_ping_that_nothing_comes_back_to_fails() {
    let (legion, thor) = pair();
    // It holds its link, and answers nothing.
    thor.signal("STOP");
    let data_dir = legion.data_dir().to_str().unwrap();
    let mut ping =
        cogmesh(&["ping", "thor", "-c", "1", "--data-dir", data_dir]).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    ping.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    thor.signal("CONT");
    assert_eq!(ping.wait().unwrap().code(), Some(1), "{text}");
    assert!(text.contains("seq=1: ") && text.contains("1 sent, 0 received, 100.0 % lost\n"), "{text}");
}

#[test]
fn a_measurement_has_every_kind_and_leaves_the_books_of_both_as_they_were() {
    let (legion, thor) = pair();
    assert_eq!(code(&legion.ask(&["submit", QUALITY])), 0);
    thor.wait_for(&["thoughts"], |thoughts| thoughts.len() == 1);
    let before = (books(&legion), books(&thor), counter(&thor, "segments_verified"));
    let measured = legion.ask(&["bench", "latency", "thor", "--duration", "2s", "--rate", "50", "--json"]);
    assert_eq!(code(&measured), 0, "{}", err(&measured));
    let said = json(&measured);
    assert_eq!((&said["name"], &said["size"], &said["rate"]), (&"thor".into(), &64.into(), &50.into()));
    assert_eq!((&said["floor_why"], &said["ended"]), (&Value::Null, &Value::Null), "{said}");
    assert_eq!(said["count"], 500, "{said}");
    for kind in KINDS {
        let spread = &said[kind];
        assert_eq!(spread["count"], 100, "{kind}: {said}");
        let values = ["min", "p50", "p90", "p99", "p999", "max"].map(|name| spread[name].as_f64().unwrap());
        assert!(values[0] > 0.0 && values.is_sorted(), "{kind}: {spread}");
        assert!(spread["jitter"].is_f64() && spread["lost"].is_u64(), "{kind}: {spread}");
        assert!(spread.get("series").is_none() && spread.get("histogram").is_none(), "{kind}: {spread}");
    }
    let added = said["probe_us"]["p50"].as_f64().unwrap() - said["floor_us"]["p50"].as_f64().unwrap();
    assert!((said["added_us"].as_f64().unwrap() - added).abs() < 0.06, "{said}");
    assert!(said["late_us"]["max"].is_f64(), "{said}");
    let after = (books(&legion), books(&thor), counter(&thor, "segments_verified"));
    assert_eq!(before, after);
    let did = ["measure_ports", "measure_thoughts", "measure_thoughts_busy"].map(|name| counter(&thor, name));
    assert_eq!(did, [1, 100, 0]);
    assert!((1..=100).contains(&counter(&thor, "measure_datagrams")));
}

#[test]
fn without_a_peer_all_are_measured_one_after_the_other_and_a_page_shows_them() {
    let (legion, thor) = pair();
    let sprout = Node::start(&["--name", "sprout", "--interface", "lo", "--peer", &legion.address]);
    legion.wait_for(&["peers"], |peers| peers.iter().filter(|peer| peer["verified"] == true).count() == 2);
    let page = legion.data_dir().join("page.html");
    let args = ["bench", "latency", "--duration", "1s", "--rate", "20", "--html", page.to_str().unwrap()];
    let measured = legion.ask(&args);
    assert_eq!(code(&measured), 0, "{}", err(&measured));
    assert_eq!(err(&measured), "", "no progress where nobody looks");
    let text = out(&measured);
    assert!(text.lines().nth(1).unwrap().starts_with("sprout") && text.contains("\nthor "), "{text}");
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg").count(), 4, "{page}");
    assert!(!page.contains("<script") && !page.contains("http"), "it asks nobody for anything");
    // They say goodbye: a link to one that was killed is missed only after a while.
    thor.signal("TERM");
    sprout.signal("TERM");
    legion.wait_for(&["peers"], |peers| peers.iter().all(|peer| peer["verified"] == false));
    assert_fails(&legion.ask(&["bench", "latency"]), 1, &["no peer", "cogmesh peers"]);
}

#[test]
fn a_measurement_is_the_only_one_and_ends_with_whoever_asked_for_it() {
    let (legion, thor) = pair();
    let data_dir = legion.data_dir().to_str().unwrap();
    let mut first =
        cogmesh(&["bench", "latency", "thor", "--duration", "10m", "--data-dir", data_dir]).spawn().unwrap();
    let short = || legion.ask(&["bench", "latency", "thor", "--duration", "1s", "--rate", "10"]);
    let asked = Instant::now();
    while counter(&thor, "measure_thoughts") == 0 {
        assert!(asked.elapsed() < PATIENCE, "the first one does not begin");
    }
    let busy = short();
    assert_fails(&busy, 1, &["measuring already"]);
    // Not INT: whoever runs tests in the background has them ignore it, and with them what they start.
    signal(first.id(), "TERM");
    first.wait().unwrap();
    let gone = Instant::now();
    while code(&short()) != 0 {
        assert!(gone.elapsed() < PATIENCE, "the node measures for nobody");
    }
}

#[test]
fn a_measurement_whose_peer_leaves_ends_early_and_says_so() {
    let (legion, thor) = pair();
    let data_dir = legion.data_dir().to_str().unwrap();
    let measuring =
        cogmesh(&["bench", "latency", "thor", "--duration", "10m", "--json", "--data-dir", data_dir])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let begun = Instant::now();
    while counter(&thor, "measure_thoughts") < 5 {
        assert!(begun.elapsed() < PATIENCE);
    }
    thor.signal("TERM");
    let measured = measuring.wait_with_output().unwrap();
    let said = json(&measured);
    assert_eq!((code(&measured), said["ended"].as_str()), (1, Some("the link is gone")), "{said}");
    assert!(said["probe_us"]["count"].as_u64().unwrap() >= 5, "what came back counts: {said}");
}

#[test]
fn a_node_that_measures_stops_like_any_other() {
    let (legion, thor) = pair();
    let data_dir = legion.data_dir().to_str().unwrap().to_owned();
    let measuring = cogmesh(&["bench", "latency", "thor", "--duration", "10m", "--data-dir", &data_dir])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while counter(&thor, "measure_thoughts") < 5 {
        assert!(begun.elapsed() < PATIENCE);
    }
    legion.signal("TERM");
    let (code, took, log, _dir) = legion.ended();
    assert_eq!(code, 0, "{log}");
    assert!(took < PATIENCE, "{took:?}");
    assert_eq!(measuring.wait_with_output().unwrap().status.code(), Some(1));
}

#[test]
fn what_can_not_be_measured_is_refused_with_its_bounds() {
    let (legion, _thor) = pair();
    for (args, part) in [
        (["--rate", "0"], "from 1 to 10000"),
        (["--size", "1151"], "from 16 to 1150"),
        (["--duration", "11m"], "from 100 to 600000"),
    ] {
        let refused = legion.ask(&[&["bench", "latency", "thor"][..], &args].concat());
        assert_fails(&refused, 2, &[part]);
    }
    let body = r#"{"peer": "thor", "kinds": ["smoke"]}"#;
    let (status, said) = legion.http("POST /v1/bench/latency", Some("application/json"), body);
    assert_eq!((status, said["error"]["code"].as_str()), (400, Some("bad_kind")));
    let unwritable = legion.ask(&["bench", "latency", "thor", "--html", "/no/such/folder/page.html"]);
    assert_fails(&unwritable, 1, &["can't write the page"]);
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap();
    assert!(sent.success());
}
