//! Restored backups, cloned data directories and full disks, with real processes on a real LAN: nothing forks, nothing that was
//! acknowledged is lost, and people are told.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    lab::{Lab, Node, cogmesh, wait_until},
    meeting::{agree, meet, trio},
};

/// Within so much time both processes with one key must know of each other.
const CLONE_ALARM_MAX: Duration = Duration::from_secs(5);

fn lab() -> Option<Lab> {
    Lab::start(&["--hosts", "legion,thor,sprout,copy"])
}

/// Another thought each time: the ledger rejects repetitions.
fn thought(number: usize) -> String {
    let word: String = number.to_string().bytes().map(|digit| char::from(b'a' + digit - b'0')).collect();
    format!(
        "Observation tag{word} compares measured latency against predicted budgets, noticing where careful batching preserves \
         ordering while federated machines continue sharing evidence"
    )
}

fn submit(node: &Node, number: usize) -> Output {
    node.cli(&["submit", &thought(number), "--json"])
}

fn recorded(node: &Node, number: usize) -> u64 {
    let output = submit(node, number);
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(answer["verdict"], "accepted", "{answer}");
    answer["seq"].as_u64().unwrap()
}

fn refused(node: &Node, number: usize) -> String {
    let output = submit(node, number);
    assert_eq!(output.status.code(), Some(1), "it is refused");
    String::from_utf8(output.stderr).unwrap()
}

fn own_log(node: &Node) -> String {
    let status = node.get("/v1/status");
    status.map_or_else(String::new, |status| status["own_log"]["state"].as_str().unwrap().to_owned())
}

fn has_alert(node: &Node, name: &str) -> bool {
    let Some(status) = node.get("/v1/status") else { return false };
    status["alerts"].as_array().unwrap().iter().any(|alert| alert["name"] == name)
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn stop(nodes: &mut [Node]) {
    for node in nodes {
        node.terminate();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    done(&Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap());
}

/// Three nodes with some thoughts each everywhere, and a backup of thor from before the last three of its thoughts.
fn with_backup(lab: &Lab) -> Vec<Node> {
    let nodes = trio(lab);
    meet(lab, &nodes);
    recorded(&nodes[1], 0);
    let backup = lab.dir().join("thor.backup");
    done(&nodes[1].cli(&["backup", backup.to_str().unwrap()]));
    for number in 1..4 {
        recorded(&nodes[1], number);
    }
    agree(&nodes);
    nodes
}

fn restore(lab: &Lab, thor: &Node) {
    done(&thor.cli(&["restore", lab.dir().join("thor.backup").to_str().unwrap()]));
}

#[test]
fn a_restored_backup_gets_its_own_log_back_from_its_peers_and_then_writes() {
    let Some(lab) = lab() else { return };
    let mut nodes = with_backup(&lab);
    let running = nodes[1].cli(&["restore", lab.dir().join("thor.backup").to_str().unwrap()]);
    assert_eq!(running.status.code(), Some(1), "never under a running node");
    nodes[1].terminate();
    restore(&lab, &nodes[1]);
    nodes[1] = lab.node("thor");
    wait_until("its log is back", || own_log(&nodes[1]) == "open");
    assert_eq!(recorded(&nodes[1], 10), 5, "after the four that it had written");
    agree(&nodes);
}

#[test]
fn with_all_peers_down_a_restored_backup_waits_until_one_is_back() {
    let Some(lab) = lab() else { return };
    let mut nodes = with_backup(&lab);
    stop(&mut nodes);
    restore(&lab, &nodes[1]);
    nodes[1] = lab.node("thor");
    wait_until("it waits", || own_log(&nodes[1]) == "waiting");
    assert!(has_alert(&nodes[1], "own_log_awaited"));
    let said = refused(&nodes[1], 10);
    assert!(said.contains("--write-without-peers"), "{said}");
    assert!(lab.log("thor").contains("does not write yet"), "and the log says so");
    nodes[2] = lab.node("sprout");
    wait_until("its log is back", || own_log(&nodes[1]) == "open");
    assert!(!has_alert(&nodes[1], "own_log_awaited"), "the alarm is over");
    assert_eq!(recorded(&nodes[1], 11), 5);
    nodes[0] = lab.node("legion");
    meet(&lab, &nodes);
    agree(&nodes);
}

#[test]
fn a_store_that_is_set_aside_is_fetched_again_with_the_nodes_own_log() {
    let Some(lab) = lab() else { return };
    let mut nodes = with_backup(&lab);
    nodes[1].terminate();
    let dir = lab.dir().join("thor");
    fs::write(dir.join("store.db"), "no store at all, but longer than the header of one would be").unwrap();
    let refused = lab.run("thor", cogmesh(), &["start", "--data-dir", dir.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "what is no store is never written to");
    nodes[1] = lab.node_in("thor", &dir, &["--rebuild-from-peers"]);
    wait_until("its log is back", || own_log(&nodes[1]) == "open");
    assert_eq!(recorded(&nodes[1], 10), 5);
    agree(&nodes);
    let aside = fs::read_dir(&dir).unwrap().filter_map(Result::ok);
    assert!(aside.map(|file| file.file_name()).any(|name| name.to_string_lossy().contains(".aside-")));
}

/// Thor keeps a hundred thoughts, legion all of them.
#[test]
fn a_late_joiner_gets_the_books_whole_and_the_contents_that_somebody_still_has() {
    let Some(lab) = lab() else { return };
    let policy = lab.dir().join("rules.toml");
    fs::write(&policy, "rate_base = 100000\npow_bits = 8\nreward_day_max = 1000000000\n").unwrap();
    let start = |host: &str, more: &[&str]| {
        let options = [&["--policy", policy.to_str().unwrap()], more].concat();
        lab.node_in(host, &lab.dir().join(host), &options)
    };
    let mut legion = start("legion", &[]);
    let thor = start("thor", &["--max-thoughts", "100"]);
    wait_until("they meet", || thor.verified() == ["legion"] && legion.verified() == ["thor"]);
    for number in 0..130 {
        recorded(&thor, number);
    }
    let kept = |node: &Node| {
        node.get("/v1/status").map_or(0, |status| status["corpus"]["thoughts"].as_u64().unwrap())
    };
    wait_until("legion has them all", || kept(&legion) == 130);
    wait_until("thor let go of some", || kept(&thor) < 100);
    legion.terminate();
    let sprout = start("sprout", &[]);
    wait_until("sprout has the books", || sprout.books() == thor.books() && sprout.books().len() == 3);
    // Books count in memory at once, and contents once they are stored.
    wait_until("and what thor has", || kept(&sprout) == kept(&thor));
    let _legion = start("legion", &[]);
    wait_until("and now the rest", || kept(&sprout) == 130);
    let status = sprout.get("/v1/status").unwrap();
    assert_eq!(status["corpus"]["missing"], 0);
    let audit =
        |node: &Node| -> Value { serde_json::from_slice(&node.cli(&["audit", "--json"]).stdout).unwrap() };
    assert_eq!((&audit(&sprout)["ok"], &audit(&sprout)["contents_absent"]), (&true.into(), &0.into()));
    let (pruned, gone) = (audit(&thor), 130 - kept(&thor));
    assert_eq!((&pruned["ok"], &pruned["contents_absent"]), (&true.into(), &gone.into()));
}

/// An entry of legion's, a content of its own, and sprout's account, which its log gives back.
#[test]
fn what_a_disk_has_spoiled_comes_back_from_a_peer_and_is_never_shown() {
    let Some(lab) = lab() else { return };
    let mut nodes = with_backup(&lab);
    for number in 20..24 {
        recorded(&nodes[0], number);
    }
    agree(&nodes);
    nodes[1].terminate();
    let store = rusqlite::Connection::open(lab.dir().join("thor/store.db")).unwrap();
    let author = |name: &str| format!("(SELECT number FROM authors WHERE name = '{name}')");
    let (legion, thor) = (author("legion"), author("thor"));
    store
        .execute_batch(&format!(
            "UPDATE entries SET header = zeroblob(150) WHERE seq = 2 AND author = {legion};
             UPDATE contents SET content = CAST('spoiled' AS BLOB) WHERE seq = 1 AND author = {thor};
             UPDATE authors SET account = zeroblob(100) WHERE name = 'sprout';"
        ))
        .unwrap();
    drop(store);
    nodes[1] = lab.node("thor");
    let audit =
        |node: &Node| -> Value { serde_json::from_slice(&node.cli(&["audit", "--json"]).stdout).unwrap() };
    wait_until(&format!("all is mended\n{}", lab.log("thor")), || {
        let audit = audit(&nodes[1]);
        audit["ok"] == true && audit["missing"] == 0 && audit["contents_absent"] == 0
    });
    assert!(has_alert(&nodes[1], "store_damaged"));
    let thoughts = String::from_utf8(nodes[1].cli(&["thoughts", "--json"]).stdout).unwrap();
    assert!(
        !thoughts.contains("spoiled") && thoughts.contains(&thought(0)) && thoughts.contains(&thought(21))
    );
    agree(&nodes);
    assert_eq!(recorded(&nodes[1], 30), 5);
}

/// Both know of each other within five seconds of the moment at which the copy listens, and neither writes.
fn both_are_alarmed(lab: &Lab, original: &Node, copy: &Node) {
    wait_until("the copy runs", || copy.get("/v1/status").is_some());
    let running = Instant::now();
    for node in [original, copy] {
        wait_until(&format!("{} raises the alarm\n{}", node.host, lab.log(&node.host)), || {
            has_alert(node, "clone")
        });
    }
    let taken = running.elapsed();
    assert!(taken < CLONE_ALARM_MAX, "{taken:?}");
    for node in [original, copy] {
        let said = refused(node, 30);
        assert!(said.contains("id --renew"), "{said}");
    }
}

#[test]
fn a_cloned_directory_alarms_both_and_neither_writes_until_one_has_a_new_identity() {
    let Some(lab) = lab() else { return };
    let mut nodes = trio(&lab);
    meet(&lab, &nodes);
    recorded(&nodes[1], 0);
    agree(&nodes);
    let copied = lab.dir().join("copied");
    copy_dir(&lab.dir().join("thor"), &copied);
    let mut copy = lab.node_in("copy", &copied, &["--name", "copy"]);
    both_are_alarmed(&lab, &nodes[1], &copy);
    assert!(has_alert(&nodes[0], "clone") || has_alert(&nodes[2], "clone"), "a peer says so, too");
    copy.terminate();
    done(&copy.cli(&["id", "--renew"]));
    nodes[1].terminate();
    nodes[1] = lab.node("thor");
    let copy = lab.node_in("copy", &copied, &["--name", "copy"]);
    for node in [&nodes[1], &copy] {
        wait_until("it writes again", || own_log(node) == "open");
    }
    assert_eq!(recorded(&nodes[1], 31), 2);
    wait_until("the copy is somebody of its own", || copy.verified() == ["legion", "sprout", "thor"]);
    assert_eq!(recorded(&copy, 32), 1);
    nodes.push(copy);
    agree(&nodes);
}

#[test]
fn a_cloned_directory_and_its_original_find_each_other_without_anybody_else() {
    let Some(lab) = lab() else { return };
    let mut nodes = trio(&lab);
    meet(&lab, &nodes);
    recorded(&nodes[1], 0);
    agree(&nodes);
    nodes[0].terminate();
    nodes[2].terminate();
    let copied = lab.dir().join("copied");
    copy_dir(&lab.dir().join("thor"), &copied);
    let copy = lab.node_in("copy", &copied, &[]);
    both_are_alarmed(&lab, &nodes[1], &copy);
}

#[test]
fn a_cloned_directory_that_reaches_nobody_waits() {
    let Some(lab) = lab() else { return };
    let mut nodes = trio(&lab);
    meet(&lab, &nodes);
    recorded(&nodes[1], 0);
    agree(&nodes);
    let copied = lab.dir().join("copied");
    copy_dir(&lab.dir().join("thor"), &copied);
    stop(&mut nodes);
    let copy = lab.node_in("copy", &copied, &[]);
    wait_until("it waits", || own_log(&copy) == "waiting");
    assert!(refused(&copy, 1).contains("copy"));
}

/// What runs on a host, in the lab's own view of the files: a small disk is seen there only.
fn on(lab: &Lab, host: &str, data_dir: &str, words: &[&str]) -> Output {
    let mut all = vec!["--data-dir", data_dir, "--json"];
    all.extend(words);
    lab.run(host, cogmesh(), &all)
}

fn state_on(lab: &Lab, host: &str, data_dir: &str) -> String {
    let output = on(lab, host, data_dir, &["status"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    status["own_log"]["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged_and_is_got_over() {
    let Some(lab) = lab() else { return };
    let Some(disk) = lab.small_disk("disk", 24) else { return };
    let (disk, dir) = (disk.to_str().unwrap(), disk.join("thor"));
    let dir = dir.to_str().unwrap();
    let policy = lab.dir().join("rules.toml");
    fs::write(&policy, "rate_base = 100000\n").unwrap();
    let legion = lab.node_in("legion", &lab.dir().join("legion"), &["--policy", policy.to_str().unwrap()]);
    let options = ["--policy", policy.to_str().unwrap(), "--disk-min", "4"];
    let mut thor = lab.node_in("thor", Path::new(dir), &options);
    wait_until("thor writes", || state_on(&lab, "thor", dir) == "open");
    wait_until("legion knows it", || legion.verified() == ["thor"]);
    let mut acknowledged = vec![];
    let mut write = |number: usize| {
        let output = on(&lab, "thor", dir, &["submit", &thought(number)]);
        if let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout) {
            acknowledged.push((answer["seq"].as_u64().unwrap(), thought(number)));
        }
        String::from_utf8(output.stderr).unwrap()
    };
    (0..5).for_each(|number| drop(write(number)));
    // Below the minimum it refuses with a sentence; with not a byte left it does not fall over either.
    let filler = format!("dd if=/dev/zero of={disk}/filler bs=1M count=21 2>/dev/null; true");
    done(&lab.run("thor", "sh", &["-c", &filler]));
    wait_until("it only reads", || state_on(&lab, "thor", dir) == "read_only");
    let said = write(10);
    assert!(said.contains("too little room"), "{said}");
    done(&lab.run("thor", "sh", &["-c", &format!("cat /dev/zero > {disk}/filler 2>/dev/null; true")]));
    assert!(write(11).contains("too little room"));
    let alerts = on(&lab, "thor", dir, &["alerts"]);
    assert!(String::from_utf8_lossy(&alerts.stdout).contains("disk_low"));
    recorded(&legion, 50);
    done(&lab.run("thor", "rm", &[&format!("{disk}/filler")]));
    wait_until("it writes again", || state_on(&lab, "thor", dir) == "open");
    (20..25).for_each(|number| drop(write(number)));
    assert_eq!(acknowledged.len(), 10);
    wait_until("legion's thought came in, late", || {
        String::from_utf8_lossy(&on(&lab, "thor", dir, &["thoughts"]).stdout).contains(&thought(50))
    });
    thor.kill_9();
    let audit = on(&lab, "thor", dir, &["audit"]);
    done(&audit);
    let export = on(&lab, "thor", dir, &["export"]);
    let rows: Vec<Value> = String::from_utf8(export.stdout)
        .unwrap()
        .lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    for (seq, content) in &acknowledged {
        let kept =
            rows.iter().any(|row| row["seq"] == *seq && row["content"] == *content && row["name"] == "thor");
        assert!(kept, "entry {seq} is there");
    }
}

/// Without a minimum the commits themselves find the disk full: they wait, and so do their submitters.
#[test]
fn a_commit_that_finds_the_disk_full_waits_for_room_and_is_answered_then() {
    let Some(lab) = lab() else { return };
    let Some(disk) = lab.small_disk("disk", 16) else { return };
    let (disk, dir) = (disk.to_str().unwrap(), disk.join("thor"));
    let dir = dir.to_str().unwrap();
    let mut thor = lab.node_in("thor", Path::new(dir), &["--disk-min", "0"]);
    wait_until("thor writes", || state_on(&lab, "thor", dir) == "open");
    done(&on(&lab, "thor", dir, &["submit", &thought(0)]));
    done(&lab.run("thor", "sh", &["-c", &format!("cat /dev/zero > {disk}/filler 2>/dev/null; true")]));
    // Until the write-ahead log has to grow, there is room in what it has.
    let waiting: Vec<_> = (1..9)
        .map(|number| {
            let words = ["--data-dir", dir, "--json", "submit", &thought(number)];
            lab.command("thor", cogmesh())
                .args(words)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    wait_until("a commit waits", || state_on(&lab, "thor", dir) == "read_only");
    done(&lab.run("thor", "rm", &[&format!("{disk}/filler")]));
    let answers: Vec<Output> = waiting.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    wait_until("it writes again", || state_on(&lab, "thor", dir) == "open");
    let seqs: Vec<u64> = answers
        .iter()
        .filter(|answer| answer.status.success())
        .map(|answer| serde_json::from_slice::<Value>(&answer.stdout).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert!(!seqs.is_empty(), "those that waited for the disk are answered");
    thor.kill_9();
    let export = String::from_utf8(on(&lab, "thor", dir, &["export"]).stdout).unwrap();
    for seq in seqs {
        assert!(export.contains(&format!("\"seq\":{seq},")), "entry {seq} is there: {export}");
    }
}
