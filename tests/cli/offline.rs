//! What needs no running node: usage, configuration, `id`, `replay`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::support::{assert_fails, code, cogmesh, err, out, run, run_with_input};

const COMMANDS: [&str; 18] = [
    "start",
    "submit",
    "status",
    "peers",
    "authors",
    "thoughts",
    "sessions",
    "economics",
    "alerts",
    "id",
    "explain",
    "replay",
    "demo",
    "doctor",
    "audit",
    "backup",
    "restore",
    "export",
];

/// A `start` that fails before it does anything, whatever it is asked.
fn start(data_dir: &Path, args: &[&str]) -> std::process::Output {
    let data_dir = data_dir.to_str().unwrap();
    run(&[&["start", "--no-mdns", "--data-dir", data_dir], args].concat())
}

#[test]
fn every_command_has_help_that_fits_a_terminal() {
    let overview = out(&run(&["--help"]));
    for command in COMMANDS {
        assert!(overview.contains(command), "{command}");
        let help = run(&[command, "--help"]);
        assert_eq!(code(&help), 0, "{command}");
        let text = out(&help);
        assert!(text.contains(&format!("Usage: cogmesh {command}")), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    }
    assert!(out(&run(&["--version"])).starts_with("cogmesh "));
}

#[test]
fn wrong_usage_ends_with_2_and_shows_nothing_raw() {
    let dir = tempfile::tempdir().unwrap();
    for (args, part) in [
        (&["statsu"][..], "statsu"),
        (&["status", "--loud"], "--loud"),
        (&["submit"], "TEXT"),
        (&["backup"], "FILE"),
        (&["restore"], "FILE"),
        (&["submit", "x", "--mode", "shouting"], "exploring"),
        (&["submit", "x", "--session", "a\u{1b}[31mb"], "session name"),
        (&["submit", "x", "--key", ""], "1 to 128"),
        (&["submit", "x", "--key", "k", "--dry-run"], "--dry-run"),
        (&["thoughts", "--since", "yesterday"], "15m"),
        (&["thoughts", "--limit", "0"], "10000"),
        (&["thoughts", "--search", " ?! "], "no word to search for"),
        (&["thoughts", "--search", &"word ".repeat(17)], "16 words"),
        (&["explain", "first"], "SEQ"),
        (&["--data-dir"], "--data-dir"),
    ] {
        assert_fails(&run(args), 2, &[part]);
    }
    for (args, part) in [
        (&["--name", "Big Name"][..], "node name"),
        (&["--name", "a\u{1b}[2Jb"], "node name"),
        (&["--port", "0"], "--port"),
        (&["--port", "70000"], "--port"),
        (&["--peer", "thor"], "port is missing"),
        (&["--peer", "me@thor:8888"], "node id"),
        (&["--interface", "a b"], "interface"),
        (&["--hardware", "abacus"], "trustzone"),
        (&["--level", "6"], "--level"),
        (&["--max-peers", "0"], "--max-peers"),
        (&["--log-format", "xml"], "json"),
        (&["--federation", ""], "federation name"),
    ] {
        assert_fails(&start(dir.path(), args), 2, &[part]);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn peers_beyond_the_links_that_are_allowed_are_refused_with_both_names() {
    let dir = tempfile::tempdir().unwrap();
    let output = start(dir.path(), &["--peer", "a:1", "--peer", "b:2", "--max-peers", "1"]);
    assert_fails(&output, 2, &["--peer", "--max-peers", "hint: "]);
}

#[test]
fn a_file_with_an_unknown_key_or_a_wrong_value_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (text, part) in [
        ("prot = 9000\n", "prot"),
        ("port = \"nine\"\n", "port"),
        ("level = 9\n", "level"),
        ("name = \"a\u{202e}b\"\n", "name"),
        ("peer = [\"thor\"]\n", "peer"),
        ("api = \"0.0.0.0:1\"\n", "loopback"),
        ("= 5\n", "line 1"),
    ] {
        fs::write(dir.path().join("cogmesh.toml"), text).unwrap();
        let output = start(dir.path(), &[]);
        assert_fails(&output, 2, &["cogmesh.toml", part]);
        assert!(!err(&output).contains('\u{202e}'));
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cogmesh.toml"), "policy = \"of-file.toml\"\n").unwrap();
    let data_dir = dir.path().to_str().unwrap();
    // A policy that is not there names itself, and ends the start before it makes anything.
    let mut file = cogmesh(&["--data-dir", data_dir]);
    assert_fails(&file.output().unwrap(), 1, &["of-file.toml"]);
    let mut environment = cogmesh(&["start", "--data-dir", data_dir]);
    environment.env("COGMESH_POLICY", "/nowhere/of-environment.toml");
    assert_fails(&environment.output().unwrap(), 1, &["of-environment.toml"]);
    environment.args(["--policy", "/nowhere/of-command-line.toml"]);
    assert_fails(&environment.output().unwrap(), 1, &["of-command-line.toml"]);
    let mut broken = cogmesh(&["start", "--data-dir", data_dir]);
    broken.env("COGMESH_PORT", "no\u{1b}ne");
    assert_fails(&broken.output().unwrap(), 2, &["--port", "hint: ", "`COGMESH_PORT`"]);
    // Where it was typed, the variable is not to blame.
    broken.args(["--port", "nine"]);
    let typed = broken.output().unwrap();
    assert_fails(&typed, 2, &["--port", "nine"]);
    assert!(!err(&typed).contains("COGMESH_PORT"), "{}", err(&typed));
}

#[test]
fn a_variable_that_looks_like_an_option_and_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    // What ends the start comes after the warning.
    let mut start = cogmesh(&["start", "--no-mdns", "--data-dir", data_dir, "--interface", "nowhere0"]);
    start.env("COGMESH_PROT", "9000").env("COGMESH_PORT", "9000").env("COGMESH_A\u{1b}[2J", "1");
    let output = start.output().unwrap();
    let text = err(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert!(text.contains("`COGMESH_PROT`") && !text.contains("`COGMESH_PORT`"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_policy_file_that_is_wrong_is_refused_with_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    fs::write(&policy, "rate_bas = 100\n").unwrap();
    assert_fails(
        &start(dir.path(), &["--policy", policy.to_str().unwrap()]),
        2,
        &["policy.toml", "rate_bas", "hint: ", "docs/ledger.md"],
    );
    // A file without end is not read to its end.
    assert_fails(&start(dir.path(), &["--policy", "/dev/zero"]), 2, &["/dev/zero", "longer than"]);
}

#[test]
fn without_a_node_every_question_ends_with_5_and_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    for question in ["status", "peers", "authors", "thoughts", "sessions", "economics", "alerts", "explain"] {
        assert_fails(&run(&[question, "--data-dir", data_dir]), 5, &["no node is running", "cogmesh start"]);
    }
    assert_fails(&run(&["submit", "x", "--data-dir", data_dir]), 5, &["no node is running"]);
    // A socket that a dead process left.
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("api.sock")).unwrap());
    assert_fails(&run(&["status", "--data-dir", data_dir]), 5, &["no node is running"]);
}

#[test]
fn a_data_directory_too_deep_for_a_socket_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    assert_fails(&start(&deep, &[]), 1, &["107", "--data-dir"]);
    assert!(!deep.exists());
    assert_fails(&run(&["status", "--data-dir", deep.to_str().unwrap()]), 1, &["107"]);
}

#[test]
fn what_can_not_be_a_thought_is_refused_before_anyone_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let submit = ["submit", "-", "--data-dir", dir.path().to_str().unwrap()];
    assert_fails(&run_with_input(&submit, b"abc\xffdef"), 2, &["UTF-8", "position 3"]);
    assert_fails(&run_with_input(&submit, b"\n"), 2, &["nothing to submit"]);
    assert_fails(&run_with_input(&submit, &vec![b'a'; 1 << 20]), 4, &["longer than"]);
}

#[test]
fn the_key_says_who_a_node_is_and_others_may_not_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    assert_fails(
        &run(&["id", "--data-dir", data_dir]),
        1,
        &["no node in the data directory", "cogmesh start"],
    );
    let key = dir.path().join("node.key");
    fs::write(&key, "not a key\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_fails(&run(&["id", "--data-dir", data_dir]), 1, &["644", "chmod 600"]);
    assert_fails(&start(dir.path(), &[]), 1, &["644", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_fails(&run(&["id", "--data-dir", data_dir]), 1, &["damaged"]);
}

#[test]
fn replay_prints_a_row_for_each_thought_and_names_the_line_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("thoughts.jsonl");
    let thought = r#"{"author": "a\u001b", "level": 5, "time_ms": 1767945600000, "content": "Signed logs let every machine recompute balances alone, without leader."}"#;
    fs::write(&file, format!("{thought}\n{thought}\n")).unwrap();
    let output = run(&["replay", file.to_str().unwrap()]);
    let rows = out(&output);
    assert_eq!((code(&output), rows.lines().count()), (0, 2), "{}", err(&output));
    assert!(rows.lines().next().unwrap().contains(r#""verdict": "accepted""#), "{rows}");
    assert!(rows.lines().nth(1).unwrap().contains(r#""layer": "spam""#), "{rows}");
    assert!(!rows.contains('\u{1b}'));
    assert_eq!(out(&run_with_input(&["replay"], fs::read(&file).unwrap().as_slice())), rows);
    let broken = run_with_input(&["replay", "-"], format!("{thought}\n{{\n").as_bytes());
    assert_fails(&broken, 1, &["line 2"]);
    assert_fails(&run(&["replay", "/nowhere/thoughts.jsonl"]), 1, &["/nowhere/thoughts.jsonl"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let thought = r#"{"author": "a", "time_ms": 1767945600000, "content": "x"}"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("{thought}\n").repeat(10_000)).unwrap();
    let mut child = cogmesh(&["replay", file.path().to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
}
