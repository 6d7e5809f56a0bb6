//! The certificates of `certs/generate`: nodes are linked by the good ones, and the bad ones are refused where a node is started with
//! them, for the same reasons as openssl has where both look at the same thing.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use tempfile::TempDir;

use super::support::{Node, assert_fails, code, err, json, out, run};

/// A folder that `certs/generate` filled.
struct Made(TempDir);

impl Made {
    fn new(words: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = generate(dir.path(), words);
        assert_eq!(code(&made), 0, "{}", err(&made));
        Self(dir)
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn options(&self, pair: &str) -> Vec<String> {
        let files =
            [self.file("ca.pem"), self.file(&format!("{pair}.pem")), self.file(&format!("{pair}.key"))];
        ["--ca", "--cert", "--key"]
            .map(str::to_owned)
            .into_iter()
            .zip(files)
            .flat_map(<[_; 2]>::from)
            .collect()
    }

    fn start(&self, pair: &str, more: &[&str]) -> Node {
        let options = self.options(pair);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Node::start(&[&options[..], &["--interface", "lo"], more].concat())
    }

    /// Whether openssl takes that certificate as it would for a server, with what stands behind it in its file.
    fn openssl_takes(&self, pair: &str) -> bool {
        let file = self.file(&format!("{pair}.pem"));
        let words = ["verify", "-CAfile", &self.file("ca.pem"), "-untrusted", &file, &file];
        Command::new("openssl").args(words).output().unwrap().status.success()
    }
}

fn generate(dir: &Path, words: &[&str]) -> std::process::Output {
    Command::new("certs/generate").arg(dir).args(words).output().unwrap()
}

fn is_linked_to(node: &Node, name: &str) {
    node.wait_for(&["peers"], |peers| {
        peers.iter().any(|peer| peer["verified"] == true && peer["name"] == name)
    });
}

#[test]
fn nodes_with_generated_certificates_are_one_closed_federation() {
    let made = Made::new(&["--federation", "workshop", "--bad"]);
    let legion = made.start("legion", &["--name", "legion"]);
    let thor = made.start("thor", &["--name", "thor", "--peer", &legion.address]);
    is_linked_to(&thor, "legion");
    let status = json(&legion.ask(&["status", "--json"]));
    assert_eq!(status["node"]["federation"]["name"], "workshop");
    assert_eq!(status["node"]["federation"]["closed"], true);
    for (node, name) in [(&legion, "legion"), (&thor, "thor")] {
        let id = fs::read_to_string(made.file(&format!("{name}.id"))).unwrap();
        assert_eq!(json(&node.ask(&["id", "--json"]))["id"], id.trim_end());
        let mode = fs::metadata(made.file(&format!("{name}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // The only one in the folder of bad ones with which nothing is wrong.
    let chained = made.start("bad/with-ca-bit", &["--name", "sprout", "--peer", &legion.address]);
    is_linked_to(&chained, "legion");
}

#[test]
fn bad_certificates_are_refused_at_the_start_and_openssl_agrees_where_it_looks_at_the_same() {
    let made = Made::new(&["--bad"]);
    let not_of_the_ca = "not one of this federation's CA";
    // What a node says, and whether openssl says no as well: it knows nothing of node ids and of what a handshake may carry.
    let bad = [
        ("expired", "has expired", true),
        ("not-yet-valid", "not valid yet", true),
        ("self-signed", not_of_the_ca, true),
        ("other-ca", not_of_the_ca, true),
        ("no-ca-bit", not_of_the_ca, true),
        ("truncated", "can't be read", true),
        ("other-name", "given to another node", false),
        ("other-key", "none of Ed25519", false),
        ("huge", "at most 64 KiB", false),
    ];
    for (name, why, openssl_agrees) in bad {
        let pair = format!("bad/{name}");
        let dir = tempfile::tempdir().unwrap();
        let options = made.options(&pair);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let common = ["start", "--no-mdns", "--interface", "lo", "--data-dir", dir.path().to_str().unwrap()];
        assert_fails(&run(&[&common[..], &options].concat()), 1, &[why]);
        assert!(!dir.path().join("node.key").exists(), "{name}: nothing of it made the directory somebody's");
        assert_eq!(made.openssl_takes(&pair), !openssl_agrees, "{name}");
    }
    for good in ["legion", "thor", "sprout", "bad/with-ca-bit"] {
        assert!(made.openssl_takes(good), "{good}");
    }

    let root = made.file("bad/ca-without-bit.pem");
    let (certificate, key) = (made.file("legion.pem"), made.file("legion.key"));
    let dir = tempfile::tempdir().unwrap();
    let common = ["start", "--no-mdns", "--interface", "lo", "--data-dir", dir.path().to_str().unwrap()];
    let options = ["--ca", &root, "--cert", &certificate, "--key", &key];
    assert_fails(&run(&[&common[..], &options].concat()), 1, &["CA:TRUE"]);
}

#[test]
fn every_bad_pair_has_a_row_in_the_table_and_the_table_is_true_of_openssl() {
    let made = Made::new(&["--bad", "one"]);
    let page = fs::read_to_string("certs/README.md").unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .skip_while(|line| *line != "## Bad ones")
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut names: Vec<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    for (name, row) in names.iter().zip(&rows) {
        assert_eq!(made.openssl_takes(&format!("bad/{name}")), row[2] == "takes it", "{name}");
    }
    names.push("ca-without-bit".to_owned());
    names.sort();
    let files = fs::read_dir(made.0.path().join("bad")).unwrap().map(|file| file.unwrap().path());
    let mut made_here: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "pem"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    made_here.sort();
    assert_eq!(made_here, names);
    let told = fs::read_to_string(made.file("bad/README")).unwrap();
    assert!(rows.iter().all(|row| told.contains(row[1])), "{told}");
}

#[test]
fn a_folder_in_use_is_left_alone_and_what_makes_no_sense_is_named() {
    let made = Made::new(&["--days", "3", "one"]);
    let key = fs::read(made.file("one.key")).unwrap();
    let again = generate(made.0.path(), &["one"]);
    assert_eq!(code(&again), 1);
    assert!(err(&again).contains("is not empty") && err(&again).contains("--force"), "{}", err(&again));
    assert_eq!(fs::read(made.file("one.key")).unwrap(), key);
    let forced = generate(made.0.path(), &["--force", "one"]);
    assert_eq!(code(&forced), 0, "{}", err(&forced));
    assert_ne!(fs::read(made.file("one.key")).unwrap(), key);
    assert!(made.openssl_takes("one"));

    let empty = tempfile::tempdir().unwrap();
    for (words, why) in [
        (&["--federation", "a/b"][..], "`a/b`"),
        (&["--federation"], "needs a value"),
        (&["--days", "soon"], "`soon`"),
        (&["Legion"], "`Legion`"),
        (&["ca"], "`ca`"),
        (&["--worse"], "`--worse`"),
    ] {
        let refused = generate(empty.path(), words);
        assert_eq!(code(&refused), 2, "{words:?}");
        assert!(err(&refused).contains(why), "{words:?}: {}", err(&refused));
    }
    assert!(fs::read_dir(empty.path()).unwrap().next().is_none());
    let help = Command::new("certs/generate").arg("--help").output().unwrap();
    assert_eq!(code(&help), 0);
    assert!(out(&help).contains("--bad"));
}
