//! Programs that we did not write: browsers of DNS-SD, and a QUIC client that is no node.

use std::time::Duration;

use serde_json::Value;

use super::lab::{Lab, Node, beside, foreign_python, installed, skip, wait_until};

fn stranger(lab: &Lab, host: &str, words: &[&str]) -> Option<Value> {
    let python = foreign_python()?;
    let output = lab.command(host, python).arg(beside("quic_stranger.py")).args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let trouble = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(serde_json::from_str(&text).unwrap_or_else(|_| panic!("{words:?}: {text} {trouble}")))
}

fn listening(node: &Node) {
    wait_until("the node answers", || node.get("/v1/status").is_some());
}

#[test]
fn the_zeroconf_package_sees_the_service_with_its_address_port_and_txt() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor"]) else {
        return;
    };
    let Some(python) = foreign_python() else { return };
    let node = lab.node("legion");
    listening(&node);
    let output = lab.command("thor", python).arg(beside("zeroconf_browse.py")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let service: Value = serde_json::from_str(text.trim())
        .unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)));
    let status = node.get("/v1/status").unwrap();
    let id = status["node"]["id"].as_str().unwrap();
    assert_eq!(service["name"], format!("legion-{}._cogmesh._udp.local.", &id[..8]));
    assert_eq!(service["server"], format!("{}.local.", &id[..8]));
    assert_eq!(service["port"], 8888);
    assert_eq!(service["txt"]["v"], "1");
    assert_eq!(service["txt"]["id"], id);
    let federation = status["node"]["federation"]["id"].as_str().unwrap();
    assert_eq!(service["txt"]["fed"], federation[..16]);
    assert!(service["addresses"].to_string().contains("10.77.0.1"), "{service}");
}

#[test]
fn avahi_sees_the_service_beside_a_node_that_shares_its_port() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor"]) else {
        return;
    };
    if !["avahi-daemon", "avahi-browse", "dbus-daemon"].iter().all(|tool| installed(tool)) {
        return skip("avahi-daemon, avahi-utils or dbus is missing; run `scripts/install-test-tools`");
    }
    let node = lab.node("legion");
    // A node on avahi's own host: both listen on port 5353 there.
    let beside_avahi = lab.node("thor");
    listening(&node);
    listening(&beside_avahi);
    let output = lab.command("thor", beside("avahi_browse.sh")).arg("legion").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().any(|line| {
        line.starts_with('=')
            && line.contains("legion-")
            && line.contains("10.77.0.1;8888;")
            && line.contains("\"v=1\"")
    });
    assert!(found, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    wait_until("the nodes met all the same", || node.verified() == ["thor"]);
}

#[test]
fn a_foreign_quic_client_gets_no_further_than_it_may_and_harms_nobody() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout"]) else {
        return;
    };
    if foreign_python().is_none() {
        return;
    }
    let (legion, thor) = (lab.node("legion"), lab.node("thor"));
    wait_until("legion and thor met", || legion.verified() == ["thor"] && thor.verified() == ["legion"]);
    let target = ["10.77.0.1", "8888"];
    let ask = |mode: &[&str]| stranger(&lab, "sprout", &[&target, mode].concat()).unwrap();

    let without = ask(&["--no-certificate"]);
    assert_eq!(without["closed"], true, "{without}");
    // TLS alert 116, certificate_required, as a QUIC crypto error.
    assert_eq!(without["error_code"], 0x100 + 116, "{without}");

    let silent = ask(&["--silent"]);
    assert_eq!(silent["handshake"], true, "{silent}");
    let after = silent["after_ms"].as_u64().unwrap();
    assert!((4_000..7_000).contains(&after), "dropped at 5 s: {silent}");
    assert_eq!(silent["error_code"], 12, "handshake_timeout: {silent}");

    let other = ask(&["--alpn", "http/1"]);
    assert_eq!(other["error_code"], 0x100 + 120, "no_application_protocol: {other}");

    let garbage = ask(&["--garbage"]);
    assert_eq!(garbage["error_code"], 15, "malformed: {garbage}");
    let too_long = ask(&["--too-long"]);
    assert_eq!(too_long["error_code"], 16, "frame_too_large: {too_long}");

    let status = legion.get("/v1/status").unwrap();
    for counter in
        ["handshakes_failed", "refused_handshake_timeout", "refused_malformed", "refused_frame_too_large"]
    {
        assert!(status["counters"][counter].as_u64() >= Some(1), "{counter}: {status}");
    }
    assert_eq!(legion.verified(), ["thor"], "without harm to the others");
    assert!(legion.started.elapsed() > Duration::from_secs(5));
    assert!(std::fs::exists(format!("/proc/{}", legion.pid())).unwrap());
}
