//! Closed federations from the command line: made, joined with tickets, and shut to everybody else.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::Value;
use tempfile::TempDir;

use super::support::{Node, QUALITY, assert_fails, code, err, json, out, run};

/// Runs a command on that data directory.
fn on(dir: &TempDir, args: &[&str]) -> std::process::Output {
    run(&[args, &["--data-dir", dir.path().to_str().unwrap()]].concat())
}

fn founded(args: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let created = on(&dir, &[&["federation", "create", "lab", "--json"], args].concat());
    assert_eq!(code(&created), 0, "{}", err(&created));
    assert_eq!(json(&created)["name"], "lab");
    dir
}

fn ticket(node: &Node, args: &[&str]) -> String {
    let invited = json(&node.ask(&[&["invite", "--json"], args].concat()));
    invited["ticket"].as_str().unwrap().to_owned()
}

fn file_modes(dir: &Path) -> Vec<(String, u32)> {
    let mode =
        |name: &str| (name.to_owned(), fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777);
    ["ca.crt", "ca.key", "node.crt", "node.key"].map(mode).to_vec()
}

fn is_linked_to(peers: &[Value], name: &str) -> bool {
    peers.iter().any(|peer| peer["verified"] == true && peer["name"] == name)
}

#[test]
fn a_federation_is_made_and_joined_with_a_ticket_and_members_share_thoughts() {
    let dir = founded(&["--no-passphrase"]);
    assert!(file_modes(dir.path()).iter().all(|(_, mode)| *mode == 0o600), "{:?}", file_modes(dir.path()));
    assert_fails(&on(&dir, &["federation", "create", "other", "--no-passphrase"]), 1, &["already", "hint: "]);

    let legion = Node::start_in(dir, &["--name", "legion", "--interface", "lo"]);
    let status = json(&legion.ask(&["status", "--json"]));
    assert_eq!(status["node"]["federation"]["closed"], true);
    assert_eq!(status["node"]["federation"]["name"], "lab");

    let first = ticket(&legion, &[]);
    let newcomer = tempfile::tempdir().unwrap();
    let joined = json(&on(&newcomer, &["join", &first.to_lowercase(), "--json"]));
    assert_eq!(joined["federation"], "lab");
    let days = (joined["certificate_expires_ms"].as_u64().unwrap() - 1_795_392_000_000) / 86_400_000;
    assert!(days >= 30, "{joined}");
    // It knows from its ticket where the inviter is: neither mDNS nor `--peer`.
    let thor = Node::start_in(newcomer, &["--name", "thor", "--interface", "lo"]);
    thor.wait_for(&["peers"], |peers| is_linked_to(peers, "legion"));
    assert_eq!(code(&thor.ask(&["submit", QUALITY])), 0);
    legion.wait_for(&["thoughts"], |thoughts| thoughts.iter().any(|thought| thought["name"] == "thor"));

    let members = legion.lines(&["members"]);
    let states: Vec<(&Value, &Value)> =
        members.iter().map(|member| (&member["name"], &member["state"])).collect();
    assert_eq!(states, [(&"legion".into(), &"member".into()), (&"thor".into(), &"member".into())]);
    assert!(members.iter().all(|member| member["certificate_expires_ms"].is_u64()), "{members:?}");

    let late = tempfile::tempdir().unwrap();
    assert_fails(&on(&late, &["join", &first]), 1, &["used already", "hint: ", "cogmesh invite"]);
    assert_fails(&thor.ask(&["invite"]), 2, &["CA's key is not on this node"]);
    assert_fails(&on(&late, &["join", &first[..40]]), 2, &["ticket"]);
}

#[test]
fn tickets_are_listed_taken_back_and_forgotten_when_their_time_is_over() {
    let legion = Node::start_in(founded(&["--no-passphrase"]), &["--name", "legion", "--interface", "lo"]);
    let kept = ticket(&legion, &["--for", "2h"]);
    let cancelled = json(&legion.ask(&["invite", "--json"]));
    assert_eq!(legion.lines(&["invite", "--list"]).len(), 2);
    let name = cancelled["name"].as_str().unwrap();
    assert_eq!(code(&legion.ask(&["invite", "--cancel", name])), 0);
    assert_fails(&legion.ask(&["invite", "--cancel", name]), 1, &[name]);
    let stranger = tempfile::tempdir().unwrap();
    let refused = on(&stranger, &["join", cancelled["ticket"].as_str().unwrap()]);
    assert_fails(&refused, 1, &["cancelled", "hint: "]);

    let short = ticket(&legion, &["--for", "1s"]);
    legion.wait_for(&["invite", "--list"], |open| open.len() == 1);
    assert_fails(&on(&stranger, &["join", &short]), 1, &["expired", "hint: "]);
    assert_eq!(code(&on(&stranger, &["join", &kept])), 0, "whoever was refused may come with a good one");
    assert!(legion.lines(&["invite", "--list"]).is_empty());
    let text = out(&legion.ask(&["invite", "--qr"]));
    assert!(text.contains('█') && text.contains("COGMESH-"), "{text}");
}

#[test]
fn a_passphrase_opens_the_ca_key_and_stands_nowhere() {
    let files = tempfile::tempdir().unwrap();
    let file = |text: &str| {
        let path = files.path().join(text.replace(' ', "-"));
        fs::write(&path, format!("{text}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("correct horse"), file("wrong horse"));
    let empty = tempfile::tempdir().unwrap();
    assert_fails(&on(&empty, &["federation", "create", "lab"]), 2, &["no terminal", "--passphrase-file"]);
    let short = file("short");
    let refused = on(&empty, &["federation", "create", "lab", "--passphrase-file", &short]);
    assert_fails(&refused, 2, &["8 characters"]);

    let dir = founded(&["--passphrase-file", &right]);
    assert!(fs::read_to_string(dir.path().join("ca.key")).unwrap().contains("ENCRYPTED"));
    let legion = Node::start_in(dir, &["--name", "legion", "--interface", "lo"]);
    assert_fails(&legion.ask(&["invite"]), 2, &["no terminal", "--passphrase-file"]);
    assert_fails(&legion.ask(&["invite", "--passphrase-file", &wrong]), 2, &["passphrase"]);
    let ticket = ticket(&legion, &["--passphrase-file", &right]);
    // Open until the node stops.
    assert_eq!(code(&legion.ask(&["invite"])), 0);
    let newcomer = tempfile::tempdir().unwrap();
    assert_eq!(code(&on(&newcomer, &["join", &ticket])), 0);
    for entry in fs::read_dir(legion.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(13).any(|part| part == b"correct horse"), "{}", path.display());
    }
}

#[test]
fn whoever_has_no_certificate_stays_outside_and_both_say_why() {
    let legion = Node::start_in(founded(&["--no-passphrase"]), &["--name", "legion", "--interface", "lo"]);
    let stranger = Node::start(&["--interface", "lo", "--federation", "lab", "--peer", &legion.address]);
    let outside = |peers: &[Value]| {
        peers.iter().any(|peer| peer["reason"].as_str().is_some_and(|why| why.contains("certificate")))
    };
    stranger.wait_for(&["peers"], outside);
    assert!(legion.lines(&["peers"]).iter().all(|peer| peer["verified"] == false));
    assert_fails(&stranger.ask(&["members"]), 2, &["open federation"]);
    let taken = on(&founded(&["--no-passphrase"]), &["start", "--federation", "workshop", "--no-mdns"]);
    assert_fails(&taken, 1, &["closed federation `lab`, not to `workshop`", "hint: "]);
}

#[test]
fn certificates_are_renewed_in_time_without_a_lost_link_and_the_new_ones_are_shown() {
    let dir = founded(&["--no-passphrase"]);
    let legion =
        Node::start_in(dir, &["--name", "legion", "--interface", "lo", "--certificate-lifetime", "9s"]);
    let newcomer = tempfile::tempdir().unwrap();
    let joined = json(&on(&newcomer, &["join", &ticket(&legion, &[]), "--json"]));
    let thor = Node::start_in(newcomer, &["--name", "thor", "--interface", "lo"]);
    thor.wait_for(&["peers"], |peers| is_linked_to(peers, "legion"));
    let own = |members: &[Value]| members[0]["certificate_expires_ms"].as_u64().unwrap();
    let first = joined["certificate_expires_ms"].as_u64().unwrap();
    // Twice, so that the second one was asked for with the first.
    let members = thor.wait_for(&["members"], |members| own(members) >= first + 12_000);
    let counters = &json(&thor.ask(&["status", "--json"]))["counters"];
    assert_eq!(
        (&counters["peers_verified"], &counters["peers_lost"]),
        (&1.into(), &Value::Null),
        "{counters}"
    );
    // What was written down is what is shown: a node that starts anew is let in, though its first certificate has long expired.
    thor.signal("TERM");
    let (_, _, _, dir) = thor.ended();
    let thor = Node::start_in(dir, &["--name", "thor", "--interface", "lo"]);
    thor.wait_for(&["peers"], |peers| is_linked_to(peers, "legion"));
    assert!(own(&thor.lines(&["members"])) >= own(&members));
}

#[test]
fn a_member_that_is_thrown_out_is_cut_off_everywhere_and_one_that_was_away_learns_it_on_its_return() {
    let legion = Node::start_in(founded(&["--no-passphrase"]), &["--name", "legion", "--interface", "lo"]);
    let member = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(code(&on(&dir, &["join", &ticket(&legion, &[])])), 0);
        Node::start_in(dir, &["--name", name, "--interface", "lo"])
    };
    let (thor, sprout, orin) = (member("thor"), member("sprout"), member("orin"));
    for node in [&thor, &sprout] {
        node.wait_for(&["peers"], |peers| is_linked_to(peers, "orin") && is_linked_to(peers, "legion"));
    }
    sprout.signal("TERM");
    let (_, _, _, away) = sprout.ended();
    assert_fails(&thor.ask(&["revoke", "orin"]), 2, &["CA's key is not on this node"]);
    assert_fails(&legion.ask(&["revoke", "nobody"]), 1, &["no such member"]);
    let orin_id = json(&orin.ask(&["id", "--json"]))["id"].clone();
    assert_eq!(json(&legion.ask(&["revoke", "orin", "--json"]))["id"], orin_id);

    let is_out =
        |peers: &[Value]| peers.iter().all(|peer| peer["id"] != orin_id || peer["verified"] == false);
    legion.wait_for(&["peers"], is_out);
    thor.wait_for(&["peers"], is_out);
    let no_one = |peers: &[Value]| peers.iter().all(|peer| peer["verified"] == false);
    let peers = orin.wait_for(&["peers"], no_one);
    assert!(peers.iter().any(|peer| peer["state"] == "revoked"), "{peers:?}");
    let sprout = Node::start_in(away, &["--name", "sprout", "--interface", "lo"]);
    sprout.wait_for(&["members"], |members| {
        members.iter().any(|member| member["id"] == orin_id && member["state"] == "revoked")
    });
    sprout.wait_for(&["peers"], is_out);

    // It is out after a restart of those that threw it out as well, and no ticket lets the same key in again.
    legion.signal("TERM");
    let (_, _, _, dir) = legion.ended();
    let legion = Node::start_in(dir, &["--name", "legion", "--interface", "lo"]);
    let state =
        |members: &[Value]| members.iter().find(|member| member["id"] == orin_id).unwrap()["state"].clone();
    assert_eq!(state(&legion.lines(&["members"])), "revoked");
    let again = ticket(&legion, &[]);
    orin.signal("TERM");
    let (_, _, _, dir) = orin.ended();
    for name in ["ca.crt", "node.crt", "store.db", "store.db-wal", "store.db-shm"] {
        let _missing = fs::remove_file(dir.path().join(name));
    }
    assert_fails(&on(&dir, &["join", &again]), 1, &["membership was revoked"]);
}

#[test]
fn a_member_that_was_away_for_longer_than_its_certificate_lasts_comes_back_with_a_new_ticket() {
    let legion = Node::start_in(
        founded(&["--no-passphrase"]),
        &["--name", "legion", "--interface", "lo", "--certificate-lifetime", "2s"],
    );
    let dir = tempfile::tempdir().unwrap();
    let joined = json(&on(&dir, &["join", &ticket(&legion, &[]), "--json"]));
    let expires = joined["certificate_expires_ms"].as_u64().unwrap();
    let start = || on(&dir, &["start", "--no-mdns", "--interface", "lo"]);
    // Certificates name whole seconds, and the last one counts.
    while u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() <= expires + 1_000 {
        thread::sleep(Duration::from_millis(50));
    }
    let refused = start();
    let said = err(&refused);
    assert!(code(&refused) == 1 && said.contains("certificate has expired"), "{said}");
    assert!(said.contains("hint: ") && said.contains("cogmesh join"), "{said}");
    assert_eq!(code(&on(&dir, &["join", &ticket(&legion, &[])])), 0);
    let other = founded(&["--no-passphrase"]);
    let stranger = Node::start_in(other, &["--name", "stranger", "--interface", "lo"]);
    assert_fails(&on(&dir, &["join", &ticket(&stranger, &[])]), 1, &["belongs to a federation already"]);
}
