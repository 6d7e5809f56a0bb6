//! Backups, restores and exports, with nodes that run and nodes that don't.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;

use super::support::{Node, QUALITY, SPAM, assert_fails, code, cogmesh, err, json, out, run};

fn on(data_dir: &Path, args: &[&str]) -> std::process::Output {
    run(&[args, &["--data-dir", data_dir.to_str().unwrap()]].concat())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_is_made_while_the_node_runs_and_restored_once_it_is_stopped() {
    let node = Node::start(&["--name", "legion"]);
    let away = tempfile::tempdir().unwrap();
    let (file, again) = (away.path().join("legion.db"), away.path().join("again.db"));
    let (file, again) = (file.to_str().unwrap(), again.to_str().unwrap());
    assert_eq!(code(&node.ask(&["submit", QUALITY])), 0);
    let made = json(&node.ask(&["backup", file, "--json"]));
    assert_eq!(
        (made["file"].as_str(), made["authors"].as_u64(), made["entries"].as_u64()),
        (Some(file), Some(1), Some(2))
    );
    assert_eq!(made["bytes"].as_u64(), Some(fs::metadata(file).unwrap().len()));
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_fails(&node.ask(&["backup", file]), 1, &["exists already", "--force"]);
    let forced = node.ask(&["backup", file, "--force"]);
    assert!(out(&forced).contains("node.key") && err(&forced).is_empty(), "{forced:?}");

    assert_eq!(code(&node.ask(&["submit", SPAM])), 3);
    assert_fails(&node.ask(&["restore", file]), 1, &["is running", "hint: stop it first"]);
    assert_eq!(node.lines(&["authors"])[0]["seq"].as_u64(), Some(2), "nothing was changed");
    node.signal("TERM");
    let (_, _, _, dir) = node.ended();

    // It is not needed for a backup that the node runs.
    assert_eq!(json(&on(dir.path(), &["backup", again, "--json"]))["entries"].as_u64(), Some(3));
    let restored = json(&on(dir.path(), &["restore", file, "--json"]));
    assert_eq!((restored["authors"].as_u64(), restored["entries"].as_u64()), (Some(1), Some(2)));
    let before = restored["before"].as_str().unwrap();
    assert!(before.contains("store.db.before-restore-2") && Path::new(before).exists(), "{before}");
    let stores = names(dir.path()).into_iter().filter(|name| name.starts_with("store.db"));
    assert_eq!(stores.count(), 2, "{:?}", names(dir.path()));
    let node = Node::start_in(dir, &[]);
    assert_eq!(node.lines(&["authors"])[0]["seq"].as_u64(), Some(1));
    assert_eq!(node.lines(&["thoughts"])[0]["content"].as_str(), Some(QUALITY));
}

#[test]
fn a_restore_says_what_will_happen_and_refuses_what_is_not_this_nodes_backup() {
    let node = Node::start(&["--name", "legion"]);
    let away = tempfile::tempdir().unwrap();
    let file = away.path().join("legion.db");
    let file = file.to_str().unwrap();
    assert_eq!(code(&node.ask(&["backup", file])), 0);
    node.signal("TERM");
    let (_, _, _, dir) = node.ended();

    let empty = tempfile::tempdir().unwrap();
    assert_fails(&on(empty.path(), &["restore", file]), 1, &["no key", "hint: ", "node.key"]);
    let new = Node::start(&["--name", "thor"]);
    new.signal("TERM");
    let (_, _, _, other) = new.ended();
    assert_fails(&on(other.path(), &["restore", file]), 1, &["another node key", "hint: "]);
    assert_fails(&on(dir.path(), &["restore", "/nowhere/at\u{1b}all"]), 1, &["no store", "at\\u{1b}all"]);
    let text = away.path().join("notes");
    fs::write(&text, "no backup").unwrap();
    assert_fails(
        &on(dir.path(), &["restore", text.to_str().unwrap()]),
        1,
        &["is no backup", "cogmesh backup"],
    );

    // A machine whose disk is new: the key from its safe place, the store from its backup.
    fs::copy(dir.path().join("node.key"), empty.path().join("node.key")).unwrap();
    let restored = on(empty.path(), &["restore", file]);
    assert_eq!(code(&restored), 0, "{}", err(&restored));
    let said = out(&restored);
    assert!(
        said.contains("1 entry of 1 author") && said.contains("from its peers") && !said.contains("is now"),
        "{said}"
    );
    assert_eq!(names(empty.path()), ["lock", "node.key", "store.db"]);
}

#[test]
fn an_export_has_a_line_for_each_thought_whatever_became_of_it() {
    let node = Node::start(&["--name", "legion"]);
    assert_eq!(code(&node.ask(&["submit", QUALITY, "--session", "lab"])), 0);
    assert_eq!(code(&node.ask(&["submit", SPAM])), 3);
    let exported = node.ask(&["export"]);
    assert_eq!((code(&exported), err(&exported).as_str()), (0, ""));
    let lines: Vec<Value> = out(&exported).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [accepted, rejected] = lines.as_slice() else { panic!("{lines:?}") };
    let shown = node.lines(&["thoughts"]).remove(0);
    for (name, value) in shown.as_object().unwrap() {
        assert_eq!(accepted[name], *value, "{name}");
    }
    assert_eq!((accepted["verdict"].as_str(), accepted["layer"].is_null()), (Some("accepted"), true));
    assert_eq!(accepted["delta_uatp"], accepted["reward_uatp"]);
    assert_eq!(
        (rejected["verdict"].as_str(), rejected["layer"].as_str()),
        (Some("rejected"), Some("quality"))
    );
    assert_eq!(
        (rejected["delta_uatp"].as_i64(), rejected["content"].as_str()),
        (Some(-3_000_000), Some(SPAM))
    );
    node.signal("KILL");
    let (_, _, _, dir) = node.ended();
    assert_eq!(out(&on(dir.path(), &["export", "--json"])), out(&exported), "no node is needed");
    let mut piped = cogmesh(&["export", "--data-dir", dir.path().to_str().unwrap()]);
    let mut child =
        piped.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (code(&output), err(&output).as_str()),
        (0, ""),
        "a reader that has seen enough is no failure"
    );
}

#[test]
fn without_a_store_there_is_nothing_to_copy_to_export_or_to_audit() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to.db");
    for args in [&["backup", to.to_str().unwrap()][..], &["export"], &["audit"]] {
        assert_fails(&on(dir.path(), args), 1, &["there is no store", "store.db", "hint: ", "--data-dir"]);
    }
    assert_eq!(names(dir.path()), [""; 0], "nothing was made");
}

#[test]
fn an_audit_agrees_with_what_a_node_wrote_and_finds_what_was_changed_since() {
    let node = Node::start(&["--name", "legion"]);
    assert_eq!(code(&node.ask(&["submit", QUALITY])), 0);
    assert_eq!(code(&node.ask(&["submit", SPAM])), 3);
    let agrees = node.ask(&["audit", "--json"]);
    let said = json(&agrees);
    assert_eq!(
        (code(&agrees), said["ok"].as_bool(), said["mismatches"].as_array().unwrap().len()),
        (0, Some(true), 0)
    );
    assert_eq!(
        (said["authors"].as_u64(), said["entries"].as_u64(), said["contents"].as_u64()),
        (Some(1), Some(3), Some(2))
    );
    node.signal("TERM");
    let (_, _, _, dir) = node.ended();
    let raw = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    raw.execute("UPDATE entries SET delta_uatp = 7 WHERE seq = 2", []).unwrap();
    drop(raw);
    let differs = on(dir.path(), &["audit", "--json"]);
    let said = json(&differs);
    assert_eq!((code(&differs), said["ok"].as_bool()), (1, Some(false)));
    assert_eq!(said["mismatches"][0]["seq"].as_u64(), Some(2), "{said}");
    let text = out(&on(dir.path(), &["audit"]));
    assert!(text.contains("mismatch: entry 2 of") && text.contains("damaged"), "{text}");
}
