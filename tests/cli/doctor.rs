//! `cogmesh doctor`: with and without a running node, and with faults that it must name.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde_json::Value;
use tempfile::TempDir;

use super::support::{Node, assert_fails, code, err, json, out, run};

/// On loopback, without mDNS, and whatever room the disk of the tests has.
const QUIET: [&str; 5] = ["doctor", "--no-mdns", "--interface", "lo", "--disk-min=0"];

/// A data directory as a start makes it, whatever the umask of the tests is.
fn owned() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

/// What doctor finds in that data directory, and its exit code.
fn examined(data_dir: &Path, args: &[&str]) -> (Vec<Value>, i32) {
    let output = run(&[&QUIET, args, &["--json", "--data-dir", data_dir.to_str().unwrap()]].concat());
    let report = json(&output);
    let checks = report["checks"].as_array().unwrap().clone();
    let wrong = checks.iter().filter(|check| check["state"] == "wrong").count();
    assert_eq!((report["ok"] == true, code(&output)), (wrong == 0, i32::from(wrong > 0)), "{report}");
    for check in &checks {
        assert_eq!(check["remedy"].is_null(), check["state"] == "ok", "{check}");
    }
    (checks, code(&output))
}

fn the<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    let named: Vec<&Value> = checks.iter().filter(|check| check["check"] == name).collect();
    assert_eq!(named.len(), 1, "{name} in {checks:?}");
    named[0]
}

/// One fault is found, told with what to do, and nothing else is wrong.
#[track_caller]
fn assert_wrong((checks, exit): (Vec<Value>, i32), name: &str, found: &str, remedy: &str) {
    let wrong: Vec<&Value> = checks.iter().filter(|check| check["state"] == "wrong").collect();
    assert_eq!((wrong.len(), exit), (1, 1), "{wrong:?}");
    assert_eq!(wrong[0]["check"], name, "{wrong:?}");
    assert!(wrong[0]["found"].as_str().unwrap().contains(found), "{wrong:?}");
    assert!(wrong[0]["remedy"].as_str().unwrap().contains(remedy), "{wrong:?}");
}

#[test]
fn a_machine_without_a_node_is_looked_at_and_left_as_it_was() {
    let dir = owned();
    let (checks, exit) = examined(dir.path(), &[]);
    assert_eq!(exit, 0, "{checks:?}");
    for (name, found) in [
        ("node", "no node is running"),
        ("udp_buffers", "KiB"),
        ("segmentation", "datagrams"),
        ("udp_port", "free"),
        ("api", "free"),
        ("interface", "127.0.0.1"),
        ("clock", "it says 20"),
        ("data_dir", "mode 700"),
        ("disk", ""),
        ("key", "none yet"),
    ] {
        let check = the(&checks, name);
        assert!(check["found"].as_str().unwrap().contains(found), "{check}");
    }
    assert_eq!(checks.len(), 10, "what is not checked is not listed: {checks:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    let absent = dir.path().join("not/yet");
    let (checks, exit) = examined(&absent, &[]);
    assert_eq!((exit, the(&checks, "data_dir")["state"].as_str()), (0, Some("ok")));
    assert!(!dir.path().join("not").exists());
}

#[test]
fn people_get_a_line_for_each_check_with_what_to_do_below_it_and_nothing_raw() {
    let dir = owned();
    let data_dir = dir.path().join("d\u{1b}[2J");
    fs::create_dir(&data_dir).unwrap();
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o777)).unwrap();
    let output = run(&[&QUIET[..], &["--data-dir", data_dir.to_str().unwrap()]].concat());
    let text = out(&output);
    assert_eq!((code(&output), err(&output).as_str()), (1, ""));
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    let at = text.find("WRONG  data dir ").unwrap();
    let below = text[at..].lines().nth(1).unwrap();
    assert!(below.starts_with("       run `chmod 700 ") && below.contains("\\u{1b}"), "{text}");
    assert!(text.contains("\nok     clock: it says ") && text.contains("\n1 thing is wrong"), "{text}");
}

#[test]
fn ports_that_others_have_are_named() {
    let dir = owned();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port().to_string();
    assert_wrong(
        examined(dir.path(), &["--port", &port]),
        "udp_port",
        "is taken",
        &format!("sport = :{port}"),
    );
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = tcp.local_addr().unwrap().to_string();
    assert_wrong(examined(dir.path(), &["--api", &api]), "api", &api, "--api");
    assert_eq!(examined(dir.path(), &["--api", "off"]).1, 0);
    // As they are written down.
    fs::write(dir.path().join("cogmesh.toml"), format!("port = {port}\n")).unwrap();
    assert_wrong(examined(dir.path(), &[]), "udp_port", "is taken", "--port");
}

#[test]
fn a_key_or_token_that_the_node_would_refuse_is_named() {
    let dir = owned();
    let key = dir.path().join("node.key");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::write(&key, "not a key\n").unwrap();
    mode(&key, 0o644);
    assert_wrong(examined(dir.path(), &[]), "key", "mode 644", "chmod 600");
    mode(&key, 0o600);
    assert_wrong(examined(dir.path(), &[]), "key", "damaged", "backup");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    mode(&key, 0o700);
    assert_wrong(examined(dir.path(), &[]), "key", "can't use the key file", "ls -l");
    fs::remove_dir(&key).unwrap();
    fs::write(dir.path().join("store.db"), "").unwrap();
    assert_wrong(examined(dir.path(), &[]), "key", "but a store", "backup");
    fs::remove_file(dir.path().join("store.db")).unwrap();
    let token = dir.path().join("api.token");
    fs::write(&token, "none\n").unwrap();
    mode(&token, 0o640);
    assert_wrong(examined(dir.path(), &[]), "token", "mode 640", "chmod 600");
    mode(&token, 0o600);
    assert_wrong(examined(dir.path(), &[]), "token", "holds no token", "delete it");
}

#[test]
fn a_disk_with_too_little_room_an_open_directory_and_an_absent_interface_are_named() {
    let dir = owned();
    let data_dir = dir.path().to_str().unwrap();
    let too_much = (1_u64 << 40).to_string();
    let args = [
        "doctor",
        "--no-mdns",
        "--interface",
        "lo",
        "--json",
        "--data-dir",
        data_dir,
        "--disk-min",
        &too_much,
    ];
    let report = json(&run(&args));
    let checks = report["checks"].as_array().unwrap().clone();
    assert_wrong((checks, 1), "disk", "MiB are free", "--disk-min");
    let absent =
        ["doctor", "--no-mdns", "--interface", "nowhere0", "--disk-min=0", "--json", "--data-dir", data_dir];
    let report = json(&run(&absent));
    let checks = report["checks"].as_array().unwrap().clone();
    assert_wrong((checks, 1), "interface", "no such interface", "ip -brief");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (checks, exit) = examined(dir.path(), &[]);
    assert_eq!((exit, the(&checks, "data_dir")["state"].as_str()), (0, Some("hint")));
}

#[test]
fn multicast_is_tried_on_the_interfaces_that_are_used() {
    let dir = owned();
    // Loopback alone, where neither a membership report nor a question leaves the machine.
    let args =
        ["doctor", "--interface", "lo", "--disk-min=0", "--json", "--data-dir", dir.path().to_str().unwrap()];
    let checks = json(&run(&args))["checks"].as_array().unwrap().clone();
    let check = the(&checks, "multicast");
    assert_eq!((check["subject"].as_str(), check["state"].as_str()), (Some("lo"), Some("ok")), "{check}");
    assert!(checks.iter().all(|check| check["check"] != "multicast_echo"), "nobody asked for it");
    let checks = json(&run(&[&args[..], &["--multicast"]].concat()))["checks"].as_array().unwrap().clone();
    let echo =
        checks.iter().find(|check| check["check"] == "multicast_echo" && check["subject"] == "lo IPv4");
    assert_eq!(echo.unwrap()["state"], "ok", "{checks:?}");
    let both = run(&[&QUIET[..], &["--multicast", "--data-dir", dir.path().to_str().unwrap()]].concat());
    assert_fails(&both, 2, &["--multicast", "--no-mdns"]);
}

#[test]
fn options_that_can_not_be_meant_are_wrong_usage_as_they_are_for_start() {
    let dir = owned();
    fs::write(dir.path().join("cogmesh.toml"), "prot = 1\n").unwrap();
    let output = run(&[&QUIET[..], &["--data-dir", dir.path().to_str().unwrap()]].concat());
    assert_fails(&output, 2, &["cogmesh.toml", "prot"]);
}

#[test]
fn a_running_node_says_where_it_listens_and_how_its_peers_are() {
    let legion = Node::start(&["--name", "legion", "--interface", "lo"]);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let thor = Node::start_in(owned(), &["--name", "thor", "--interface", "lo", "--peer", &legion.address]);
    thor.wait_for(&["peers"], |peers| peers.iter().any(|peer| peer["verified"] == true));
    let (checks, exit) = examined(thor.data_dir(), &[]);
    assert_eq!(exit, 0, "{checks:?}");
    let port = thor.address.rsplit(':').next().unwrap();
    assert!(the(&checks, "udp_port")["subject"].as_str().unwrap().ends_with(port), "{checks:?}");
    assert!(the(&checks, "node")["found"].as_str().unwrap().contains("thor is running"));
    assert!(the(&checks, "key")["found"].as_str().unwrap().contains("it is that of node"));
    assert_eq!(the(&checks, "token")["state"], "ok");
    let peer = the(&checks, "peer");
    assert!(peer["subject"].as_str().unwrap().starts_with("legion (") && peer["state"] == "ok", "{peer}");
    let clocks: Vec<&Value> = checks.iter().filter(|check| check["check"] == "clock").collect();
    assert!(
        clocks.len() == 2 && clocks[1]["subject"] == "against peers" && clocks[1]["state"] == "ok",
        "{clocks:?}"
    );

    let sprout = Node::start_in(owned(), &["--name", "sprout", "--interface", "lo", "--peer", &address]);
    let is_silent = |peer: &Value| peer["state"] == "no_answer";
    let peers = sprout.wait_for(&["peers"], |peers| peers.iter().any(is_silent));
    let reason = peers.iter().find(|peer| is_silent(peer)).unwrap()["reason"].as_str().unwrap();
    let start = reason.split(" (").next().unwrap();
    assert_wrong(examined(sprout.data_dir(), &["--peer", &address]), "peer", start, "no firewall drops UDP");
    assert!(fs::read_dir(sprout.data_dir()).unwrap().count() > 0);
}

#[test]
fn a_closed_federation_has_a_certificate_that_expires_and_a_key_of_its_ca() {
    let dir = owned();
    let data_dir = dir.path().to_str().unwrap();
    let made = run(&["federation", "create", "workshop", "--no-passphrase", "--data-dir", data_dir]);
    assert_eq!(code(&made), 0, "{}", err(&made));
    let (checks, exit) = examined(dir.path(), &[]);
    assert_eq!(exit, 0, "{checks:?}");
    assert!(the(&checks, "certificate")["found"].as_str().unwrap().contains("expires in 29 d"), "{checks:?}");
    assert_eq!(the(&checks, "ca_key")["state"], "ok");
    fs::set_permissions(dir.path().join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_wrong(examined(dir.path(), &[]), "ca_key", "mode 644", "chmod 600");
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    // Another node's certificate.
    let other = tempfile::tempdir().unwrap();
    let made = run(&[
        "federation",
        "create",
        "workshop",
        "--no-passphrase",
        "--data-dir",
        other.path().to_str().unwrap(),
    ]);
    assert_eq!(code(&made), 0, "{}", err(&made));
    fs::copy(other.path().join("node.crt"), dir.path().join("node.crt")).unwrap();
    assert_wrong(examined(dir.path(), &[]), "certificate", "another key", "cogmesh join");
}
