//! Whether a node writes into its own log, and what it says where it does not.

use std::{process::Command, time::Duration};

use tempfile::TempDir;

use super::support::{Node, QUALITY, SPAM, assert_fails, code, json, out, run};

fn state(node: &Node) -> String {
    json(&node.ask(&["status", "--json"]))["own_log"]["state"].as_str().unwrap().to_owned()
}

fn stopped(node: Node) -> TempDir {
    node.signal("TERM");
    let (code, _, error, dir) = node.ended();
    assert_eq!(code, 0, "{error}");
    dir
}

fn copy_of(dir: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = format!("{}/.", dir.path().display());
    assert!(Command::new("cp").args(["-a", &from]).arg(copy.path()).status().unwrap().success());
    copy
}

#[test]
fn a_copied_directory_waits_and_says_so_until_the_operator_answers_for_it() {
    let node = Node::start(&["--name", "legion"]);
    assert_eq!(code(&node.ask(&["submit", QUALITY])), 0);
    let copy = copy_of(&stopped(node));
    let node = Node::start_in(copy, &[]);
    assert_eq!(state(&node), "waiting");
    assert_fails(&node.ask(&["submit", SPAM]), 1, &["is a copy", "--write-without-peers"]);
    assert!(out(&node.ask(&["alerts"])).contains("own_log_awaited"));
    let (status, answer) = node.http("GET /readyz", None, "");
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("waiting")));
    assert_eq!(node.http("GET /healthz", None, "").0, 200, "the process lives");
    assert_eq!(node.lines(&["thoughts"]).len(), 1, "and it reads");
    let dir = stopped(node);
    // It still is a copy when it is started again.
    let node = Node::start_in(dir, &[]);
    assert_eq!(state(&node), "waiting");
    let dir = stopped(node);
    let node = Node::start_in(dir, &["--write-without-peers"]);
    assert_eq!(state(&node), "open");
    assert_eq!(code(&node.ask(&["submit", SPAM])), 3);
    let node = Node::start_in(stopped(node), &[]);
    assert_eq!(state(&node), "open", "the operator need not answer twice");
}

#[test]
fn a_renewed_identity_begins_a_new_log_and_keeps_the_old_files() {
    let node = Node::start(&["--name", "legion"]);
    assert_eq!(code(&node.ask(&["submit", QUALITY])), 0);
    let before = json(&node.ask(&["id", "--json"]))["id"].as_str().unwrap().to_owned();
    assert_fails(&node.ask(&["id", "--renew"]), 1, &["another node runs", "hint: stop it first"]);
    let dir = stopped(node);
    let path = dir.path().to_str().unwrap().to_owned();
    let renewed = json(&run(&["--data-dir", &path, "id", "--renew", "--json"]));
    assert_eq!(renewed["before"].as_str(), Some(before.as_str()));
    assert!(std::path::Path::new(renewed["aside"].as_str().unwrap()).join("store.db").exists());
    let node = Node::start_in(dir, &[]);
    let authors = node.lines(&["authors"]);
    assert_eq!((authors.len(), &authors[0]["id"]), (1, &renewed["id"]));
    assert_eq!(state(&node), "open");
    let empty = tempfile::tempdir().unwrap();
    let nothing = run(&["--data-dir", empty.path().to_str().unwrap(), "id", "--renew"]);
    assert_fails(&nothing, 1, &["there is no node"]);
}

#[test]
fn too_little_room_on_the_disk_makes_a_node_read_only_and_says_how_much_is_wanted() {
    let node = Node::start(&["--disk-min", "1000000000"]);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while state(&node) != "read_only" {
        assert!(std::time::Instant::now() < deadline, "it looks once a second");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_fails(&node.ask(&["submit", QUALITY]), 1, &["1000000000 MiB should be"]);
    let (status, answer) = node.http("GET /readyz", None, "");
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("read_only")));
}

#[test]
fn a_node_that_never_met_anyone_goes_on_after_a_kill_whatever_its_durability() {
    let mut dir = tempfile::tempdir().unwrap();
    for expected in [0, 3] {
        let node = Node::start_in(dir, &["--durability", "normal"]);
        assert_eq!(state(&node), "open");
        let content = if expected == 0 { QUALITY } else { SPAM };
        assert_eq!(code(&node.ask(&["submit", content])), expected);
        node.signal("KILL");
        dir = node.ended().3;
    }
}

#[test]
fn a_key_whose_store_is_gone_does_not_begin_its_log_anew() {
    let node = Node::start(&["--name", "legion"]);
    let dir = stopped(node);
    for name in ["store.db", "sign.mark"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    let node = Node::start_in(dir, &[]);
    assert_eq!(state(&node), "waiting");
    assert!(node.lines(&["authors"]).is_empty(), "no second first entry");
}
