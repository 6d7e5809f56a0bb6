//! A closed federation whose certificates come from an operator's own PKI, here one made with openssl: a root on P-256, an intermediate,
//! and Ed25519 keys of nodes.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use super::support::{Node, QUALITY, assert_fails, code, err, json, out, run};

struct Pki {
    dir: TempDir,
}

impl Pki {
    fn new(name: &str) -> Self {
        Self::of(&format!("/CN={name}"))
    }

    fn of(subject: &str) -> Self {
        let pki = Self { dir: tempfile::tempdir().unwrap() };
        pki.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout root.key -out root.pem -days 30 -subj {subject} \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
        ));
        fs::write(
            pki.path("intermediate.ext"),
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n",
        )
        .unwrap();
        pki.openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout intermediate.key -out intermediate.csr -subj /CN=devices");
        pki.openssl(
            "x509 -req -in intermediate.csr -CA root.pem -CAkey root.key -days 20 -extfile intermediate.ext -out intermediate.pem",
        );
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn openssl(&self, words: &str) -> Vec<u8> {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(self.dir.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{words}: {}", err(&output));
        output.stdout
    }

    /// A key for a node.
    fn key(&self, node: &str) {
        self.openssl(&format!("genpkey -algorithm ed25519 -out {node}.key"));
        fs::set_permissions(self.path(&format!("{node}.key")), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A certificate for that key that lasts so many days, with the intermediate behind it.
    fn certify(&self, node: &str, id: &str, days: u32) {
        fs::write(self.path("node.ext"), format!("subjectAltName=URI:cogmesh:{id}\n")).unwrap();
        self.openssl(&format!("req -new -key {node}.key -out {node}.csr -subj /CN={node}"));
        let serial = format!("-set_serial {}", 1_000 + days);
        self.openssl(&format!(
            "x509 -req -in {node}.csr -CA intermediate.pem -CAkey intermediate.key {serial} -days {days} -extfile node.ext -out {node}.pem"
        ));
        let intermediate = fs::read(self.path("intermediate.pem")).unwrap();
        let mut chain = fs::File::options().append(true).open(self.path(&format!("{node}.pem"))).unwrap();
        chain.write_all(&intermediate).unwrap();
    }

    /// The node id of a key: the last 32 bytes of its public half, in base32.
    fn id(&self, node: &str) -> String {
        let public = self.openssl(&format!("pkey -in {node}.key -pubout -outform DER"));
        data_encoding::BASE32_NOPAD.encode(&public[public.len() - 32..]).to_lowercase()
    }

    fn member(&self, node: &str) {
        self.key(node);
        self.certify(node, &self.id(node), 5);
    }

    fn options(&self, node: &str) -> Vec<String> {
        let words = ["--ca", "root.pem", "--cert", &format!("{node}.pem"), "--key", &format!("{node}.key")]
            .map(str::to_owned);
        words.into_iter().map(|word| if word.contains('.') { self.text(&word) } else { word }).collect()
    }

    fn start(&self, node: &str, more: &[&str]) -> Node {
        self.start_in(tempfile::tempdir().unwrap(), node, more)
    }

    fn start_in(&self, dir: TempDir, node: &str, more: &[&str]) -> Node {
        let options = self.options(node);
        let mut words: Vec<&str> = options.iter().map(String::as_str).collect();
        words.extend(["--name", node, "--interface", "lo"]);
        words.extend(more);
        Node::start_in(dir, &words)
    }

    /// How a start fails.
    fn fails(&self, options: &[String], dir: &Path, parts: &[&str]) {
        let words: Vec<&str> = options.iter().map(String::as_str).collect();
        let common = ["start", "--no-mdns", "--interface", "lo", "--data-dir", dir.to_str().unwrap()];
        assert_fails(&run(&[&common[..], &words].concat()), 1, parts);
    }
}

fn is_linked_to(peers: &[Value], name: &str) -> bool {
    peers.iter().any(|peer| peer["verified"] == true && peer["name"] == name)
}

fn fingerprint(node: &Node) -> Value {
    json(&node.ask(&["id", "--json"]))["certificate_fingerprint"].clone()
}

#[test]
fn certificates_of_an_existing_pki_make_a_closed_federation() {
    let pki = Pki::new("workshop");
    ["legion", "thor"].iter().for_each(|node| pki.member(node));
    let legion = pki.start("legion", &[]);
    let thor = pki.start("thor", &["--peer", &legion.address]);
    thor.wait_for(&["peers"], |peers| is_linked_to(peers, "legion"));
    let status = json(&legion.ask(&["status", "--json"]));
    assert_eq!(status["node"]["id"], pki.id("legion"), "the key of the PKI is the node");
    assert_eq!(status["node"]["federation"]["name"], "workshop", "called as its CA is");
    assert_eq!(status["node"]["federation"]["closed"], true);
    // Keys that were made elsewhere: the nodes ask each other before they write.
    thor.wait_for(&["status"], |status| status[0]["own_log"]["state"] == "open");
    assert_eq!(code(&thor.ask(&["submit", QUALITY])), 0);
    legion.wait_for(&["thoughts"], |thoughts| thoughts.iter().any(|thought| thought["name"] == "thor"));
    assert_fails(&legion.ask(&["invite"]), 2, &["CA's key is not on this node"]);

    let other = Pki::new("workshop");
    other.member("mallory");
    let stranger = other.start("mallory", &["--peer", &legion.address]);
    let outside = |peers: &[Value]| {
        peers.iter().any(|peer| peer["reason"].as_str().is_some_and(|why| why.contains("certificate")))
    };
    stranger.wait_for(&["peers"], outside);
    assert!(!is_linked_to(&legion.lines(&["peers"]), "mallory"));
    let dir = {
        thor.signal("TERM");
        thor.ended().3
    };
    let thor = pki.start_in(dir, "thor", &["--peer", &legion.address]);
    thor.wait_for(&["peers"], |peers| is_linked_to(peers, "legion"));
}

#[test]
fn new_certificates_are_shown_after_sighup_and_unusable_ones_leave_the_old_in_place() {
    let pki = Pki::new("workshop");
    ["legion", "thor", "sprout"].iter().for_each(|node| pki.member(node));
    let legion = pki.start("legion", &[]);
    let thor = pki.start("thor", &["--peer", &legion.address]);
    thor.wait_for(&["peers"], |peers| is_linked_to(peers, "legion"));
    let first = fingerprint(&legion);

    // Another node's, another CA's, garbage: none of them is shown.
    let whole = fs::read(pki.path("legion.pem")).unwrap();
    let root = fs::read(pki.path("root.pem")).unwrap();
    let bad: [(&str, Vec<u8>); 4] = [
        ("legion.pem", fs::read(pki.path("thor.pem")).unwrap()),
        ("root.pem", fs::read(Pki::new("workshop").path("root.pem")).unwrap()),
        ("legion.pem", whole[..whole.len() / 2].to_vec()),
        ("legion.pem", b"\xff\xfe\n".to_vec()),
    ];
    for (number, (name, bytes)) in (1..).zip(bad) {
        fs::write(pki.path(name), bytes).unwrap();
        legion.signal("HUP");
        let status =
            legion.wait_for(&["status"], |status| status[0]["counters"]["certificates_unusable"] == number);
        let alerts = status[0]["alerts"].as_array().unwrap();
        assert!(alerts.iter().any(|alert| alert["name"] == "certificate"), "{alerts:?}");
        assert_eq!(fingerprint(&legion), first);
        fs::write(pki.path("legion.pem"), &whole).unwrap();
        fs::write(pki.path("root.pem"), &root).unwrap();
    }

    pki.certify("legion", &pki.id("legion"), 7);
    legion.signal("HUP");
    legion.wait_for(&["id"], |id| id[0]["certificate_fingerprint"] != first);
    let status = json(&legion.ask(&["status", "--json"]));
    assert!(status["alerts"].as_array().unwrap().is_empty(), "{status}");
    let counters = &status["counters"];
    assert_eq!(counters["peers_lost"], Value::Null, "the link stands: {counters}");
    let sprout = pki.start("sprout", &["--peer", &legion.address]);
    sprout.wait_for(&["peers"], |peers| is_linked_to(peers, "legion"));
    legion.signal("TERM");
    let (exit, _, log, _) = legion.ended();
    assert_eq!(exit, 0, "{log}");
    assert!(log.contains("were read again"), "{log}");
}

#[test]
fn files_that_make_no_member_are_named_with_what_is_wrong() {
    let pki = Pki::new("workshop");
    pki.member("legion");
    let dir = tempfile::tempdir().unwrap();
    let good = pki.options("legion");
    let with = |option: &str, file: &str| {
        let mut options = good.clone();
        let at = options.iter().position(|word| word == option).unwrap();
        options[at + 1] = pki.text(file);
        options
    };
    pki.member("thor");
    pki.fails(
        &with("--cert", "thor.pem"),
        dir.path(),
        &["another key than this node's", "thor.pem", "hint: "],
    );
    pki.fails(&with("--cert", "none.pem"), dir.path(), &["none.pem"]);
    pki.fails(&with("--cert", "legion.key"), dir.path(), &["certificate in PEM"]);
    pki.fails(&with("--ca", "legion.pem"), dir.path(), &["holds 2 certificates"]);
    pki.fails(&with("--ca", "intermediate.csr"), dir.path(), &["certificate in PEM"]);
    pki.fails(&with("--key", "intermediate.key"), dir.path(), &["none of Ed25519"]);
    // The intermediate is there, but so far behind that it is not read.
    let whole = fs::read_to_string(pki.path("legion.pem")).unwrap();
    let (own, between) = whole.split_at(whole.rfind("-----BEGIN").unwrap());
    fs::write(pki.path("long.pem"), [own, &"\n".repeat(64 << 10), between].concat()).unwrap();
    pki.fails(&with("--cert", "long.pem"), dir.path(), &["long.pem", "at most 64 KiB"]);
    pki.fails(&with("--key", "none.key"), dir.path(), &["no key file"]);
    fs::set_permissions(pki.path("legion.key"), fs::Permissions::from_mode(0o644)).unwrap();
    pki.fails(&good, dir.path(), &["chmod 600"]);
    fs::set_permissions(pki.path("legion.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!dir.path().join("node.key").exists(), "nothing of it made the directory somebody's");
    pki.certify("legion", &pki.id("thor"), 5);
    pki.fails(&good, dir.path(), &["given to another node", "URI", "hint: "]);
    pki.certify("legion", &pki.id("legion"), 5);

    let nameless = Pki::of("/O=ACME");
    nameless.member("legion");
    let other = tempfile::tempdir().unwrap();
    nameless.fails(
        &nameless.options("legion"),
        other.path(),
        &["no name that a federation could have", "--federation", "hint: "],
    );
    let legion = pki.start_in(dir, "legion", &["--federation", "lab"]);
    assert_eq!(json(&legion.ask(&["status", "--json"]))["node"]["federation"]["name"], "lab");
    assert!(out(&legion.ask(&["id"])).contains(&pki.id("legion")));
    legion.signal("TERM");
    let (_, _, _, dir) = legion.ended();
    pki.fails(&pki.options("thor"), dir.path(), &["another key than the data directory", "hint: "]);
}

#[test]
fn doctor_looks_at_the_files_that_a_node_would_be_started_with() {
    let pki = Pki::new("workshop");
    ["legion", "thor"].iter().for_each(|node| pki.member(node));
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let certificate = |options: &[String]| {
        let words: Vec<&str> = options.iter().map(String::as_str).collect();
        let common =
            ["doctor", "--no-mdns", "--interface", "lo", "--disk-min=0", "--json", "--data-dir", data_dir];
        let output = run(&[&common[..], &words].concat());
        let report = json(&output);
        let wrong: Vec<&Value> =
            report["checks"].as_array().unwrap().iter().filter(|check| check["state"] == "wrong").collect();
        assert_eq!(code(&output), i32::from(!wrong.is_empty()), "{report}");
        assert!(wrong.iter().all(|check| check["check"] == "certificate"), "{report}");
        let key = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "key").unwrap();
        assert_eq!(key["subject"], pki.text("legion.key"), "the key that the first start takes in");
        let found = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "certificate");
        (wrong.len(), found.unwrap().clone())
    };
    let options = pki.options("legion");
    let (wrong, found) = certificate(&options);
    assert!(wrong == 0 && found["found"].as_str().unwrap().contains("expires in 4 d"), "{found}");
    pki.certify("legion", &pki.id("thor"), 5);
    let (wrong, found) = certificate(&options);
    assert!(wrong == 1 && found["remedy"].as_str().unwrap().contains("certs/README.md"), "{found}");
    fs::copy(pki.path("thor.pem"), pki.path("legion.pem")).unwrap();
    let (wrong, found) = certificate(&options);
    assert!(wrong == 1 && found["found"].as_str().unwrap().contains("another key"), "{found}");
    fs::remove_file(pki.path("root.pem")).unwrap();
    let (wrong, found) = certificate(&options);
    assert!(wrong == 1 && found["found"].as_str().unwrap().contains("root.pem"), "{found}");
    fs::write(dir.path().join("ca.crt"), "").unwrap();
    let (wrong, found) = certificate(&options);
    assert!(
        wrong == 1 && found["found"].as_str().unwrap().contains("belongs to a closed federation"),
        "{found}"
    );
}
