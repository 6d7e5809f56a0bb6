//! Nothing that is secret leaves the files that hold it: not in a log at its most talkative, an answer, an error, a backup or an export.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
};

use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};
use tempfile::TempDir;

use super::support::{QUALITY, code, cogmesh, err, json, run};

const PASSPHRASE: &str = "correct horse battery staple";

/// A node whose log, with everything that all libraries have to say, goes into a file.
struct Talkative {
    child: Child,
    dir: TempDir,
    log: PathBuf,
}

impl Talkative {
    fn start(dir: TempDir, name: &str) -> Self {
        let log = dir.path().join("talkative.log");
        let mut child =
            cogmesh(&["start", "-vv", "--no-mdns", "--interface", "lo", "--json", "--name", name])
                .arg("--data-dir")
                .arg(dir.path())
                .stdout(Stdio::piped())
                .stderr(fs::File::create(&log).unwrap())
                .spawn()
                .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with('{'), "{}", fs::read_to_string(&log).unwrap());
        Self { child, dir, log }
    }

    fn on(&self, args: &[&str]) -> Output {
        on(self.dir.path(), args)
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn on(dir: &Path, args: &[&str]) -> Output {
    run(&[args, &["--data-dir", dir.to_str().unwrap()]].concat())
}

/// A secret in every form in which it could be written down.
fn forms(what: &str, secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let whole_groups = &secret[..secret.len() / 3 * 3];
    let texts = [
        ("hex", HEXLOWER.encode(secret)),
        ("base32", BASE32_NOPAD.encode(secret).to_lowercase()),
        ("base64", BASE64.encode(whole_groups)),
        ("a list of numbers", format!("{secret:?}").trim_matches(['[', ']']).to_owned()),
    ];
    let mut forms = vec![(what.to_owned(), secret.to_vec())];
    forms.extend(texts.map(|(form, text)| (format!("{what} as {form}"), text.into_bytes())));
    forms
}

/// The seed of an Ed25519 key in PKCS#8: the last 32 bytes of version 1, without a public key behind it (RFC 8410, 7).
fn seed(dir: &Path) -> Vec<u8> {
    let pem = pem::parse(fs::read(dir.join("node.key")).unwrap()).unwrap();
    let mark = [4, 34, 4, 32];
    let at = pem.contents().windows(4).position(|window| window == mark).unwrap() + 4;
    pem.contents()[at..at + 32].to_vec()
}

#[test]
fn no_log_answer_error_backup_or_export_holds_a_key_a_passphrase_or_a_token() {
    let files = tempfile::tempdir().unwrap();
    let passphrase = files.path().join("passphrase");
    fs::write(&passphrase, format!("{PASSPHRASE}\n")).unwrap();
    let passphrase = passphrase.to_str().unwrap();
    let (founder, newcomer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut said =
        vec![on(founder.path(), &["federation", "create", "lab", "--passphrase-file", passphrase])];

    let legion = Talkative::start(founder, "legion");
    let invited = legion.on(&["invite", "--json", "--passphrase-file", passphrase]);
    let ticket = json(&invited)["ticket"].as_str().unwrap().to_owned();
    said.push(on(newcomer.path(), &["join", &ticket]));
    let thor = Talkative::start(newcomer, "thor");
    // The ticket is used up: what is said of it then is an error.
    let late = tempfile::tempdir().unwrap();
    said.extend([on(late.path(), &["join", &ticket]), on(late.path(), &["join", &ticket[..60]])]);
    let backup = files.path().join("backup.db");
    let asked: [&[&str]; 12] = [
        &["submit", QUALITY],
        &["status", "--json"],
        &["peers", "--json"],
        &["members", "--json"],
        &["alerts", "--json"],
        &["invite", "--list", "--json"],
        &["id", "--json"],
        &["explain", "1", "--json"],
        &["export"],
        &["audit", "--json"],
        &["backup", backup.to_str().unwrap()],
        &["invite", "--cancel", "nosuchname"],
    ];
    for node in [&legion, &thor] {
        said.extend(asked.iter().map(|words| node.on(words)));
        fs::rename(&backup, node.dir.path().join("copied.db")).unwrap();
    }
    said.push(legion.on(&["revoke", "thor", "--passphrase-file", passphrase]));
    assert_eq!(code(said.last().unwrap()), 0, "{}", err(said.last().unwrap()));

    let mut secrets = forms("the passphrase", PASSPHRASE.as_bytes());
    for node in [&legion, &thor] {
        secrets.extend(forms("a node's key", &seed(node.dir.path())));
        let token = fs::read_to_string(node.dir.path().join("api.token")).unwrap();
        secrets.push(("the API's token".to_owned(), token.trim().as_bytes().to_vec()));
    }
    secrets.push(("the ticket".to_owned(), ticket.as_bytes()["COGMESH-".len()..].to_vec()));

    let mut texts: Vec<(String, Vec<u8>)> = said
        .iter()
        .enumerate()
        .map(|(number, output)| (format!("output {number}"), [&output.stdout[..], &output.stderr].concat()))
        .collect();
    for node in [&legion, &thor] {
        for name in ["talkative.log", "copied.db", "store.db", "store.db-wal"] {
            let path = node.dir.path().join(name);
            texts.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    let log = fs::read_to_string(&legion.log).unwrap();
    assert!(log.contains("TRACE") && log.contains("quinn"), "it is not at its most talkative");
    let found = |text: &[u8]| -> Vec<&str> {
        let text = text.to_ascii_lowercase();
        let stands = |secret: &[u8]| text.windows(secret.len()).any(|part| part.eq_ignore_ascii_case(secret));
        secrets.iter().filter(|(_, secret)| stands(secret)).map(|(what, _)| what.as_str()).collect()
    };
    for (place, text) in &texts {
        assert!(found(text).is_empty(), "{:?} stands in {place}", found(text));
    }
    // The search finds what is there: the answer that is meant to show the ticket, and the key's own file.
    assert_eq!(found(&invited.stdout), ["the ticket"]);
    let key = pem::parse(fs::read(legion.dir.path().join("node.key")).unwrap()).unwrap();
    assert_eq!(found(key.contents()), ["a node's key"]);
}
