//! `cogmesh doctor` on the hosts of a LAN: what is well there is well, and a fault that is made there is named.

use serde_json::Value;

use super::{
    lab::{Lab, cogmesh},
    meeting,
};

/// What doctor finds on a host, where its node runs.
fn checks(lab: &Lab, host: &str) -> Vec<Value> {
    let data_dir = lab.dir().join(host);
    let words = ["doctor", "--multicast", "--json", "--disk-min=0", "--data-dir", data_dir.to_str().unwrap()];
    let output = lab.run(host, cogmesh(), &words);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let checks = report["checks"].as_array().unwrap().clone();
    let is_well = checks.iter().all(|check| check["state"] != "wrong");
    assert_eq!((report["ok"] == true, output.status.success()), (is_well, is_well), "{report}");
    checks
}

fn of<'a>(checks: &'a [Value], name: &str) -> Vec<&'a Value> {
    checks.iter().filter(|check| check["check"] == name).collect()
}

#[test]
fn doctor_finds_a_lan_well_and_names_a_cable_that_is_out() {
    let Some(lab) = Lab::start(&["--hosts", "legion,thor,sprout"]) else {
        return;
    };
    let nodes = meeting::trio(&lab);
    meeting::meet(&lab, &nodes);
    let legion = checks(&lab, "legion");
    assert!(legion.iter().all(|check| check["state"] != "wrong"), "{legion:?}");
    for (name, subjects) in [("interface", &["eth0"][..]), ("multicast", &["eth0"])] {
        let found: Vec<&str> =
            of(&legion, name).iter().filter_map(|check| check["subject"].as_str()).collect();
        assert_eq!(found, subjects, "{name}");
    }
    let echoes = of(&legion, "multicast_echo");
    assert!(
        echoes.iter().any(|check| check["subject"] == "eth0 IPv4" && check["state"] == "ok"),
        "{echoes:?}"
    );
    let peers = of(&legion, "peer");
    assert!(peers.len() == 2 && peers.iter().all(|peer| peer["state"] == "ok"), "{peers:?}");

    lab.lan(&["link", "thor", "down"]);
    let thor = checks(&lab, "thor");
    let interface = of(&thor, "interface")[0];
    assert!(
        interface["state"] == "wrong" && interface["found"].as_str().unwrap().contains("eth0: down"),
        "{thor:?}"
    );
    assert!(of(&thor, "multicast").is_empty() && of(&thor, "multicast_echo").is_empty(), "{thor:?}");
}
