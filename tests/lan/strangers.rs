//! Strangers: two QUIC clients that nobody here wrote (the aioquic package, and openssl's) at the door of a closed and of an open
//! federation: with no certificate, with every bad one of `certs/generate`, with a stolen one, with a good one, and with other tricks.
//!
//! What a bad certificate leads to stands in the table of certs/README.md, and these tests hold the node to it.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use super::{
    lab::{Lab, Node, beside, foreign_python, installed, skip, wait_until},
    load::{seq_of, submit},
};

/// Where the node listens to which they come.
const ADDRESS: (&str, &str) = ("10.77.0.1", "8888");
/// The rows of the table.
const PAIRS: [&str; 10] = [
    "expired",
    "not-yet-valid",
    "other-key",
    "self-signed",
    "other-ca",
    "other-name",
    "no-ca-bit",
    "with-ca-bit",
    "truncated",
    "huge",
];
/// A Hello's kind and version on the control stream, and then nothing that one could be.
const NOISE: &[u8] = b"\x00\x28\0\0\0\0\0\0\0\x01\x00";

/// How a stranger's connection ended: the code that it saw, and the one in the node's log and counters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    seen: u64,
    told: String,
}

impl End {
    fn alert(number: u64, told: &str) -> Self {
        Self { seen: 0x100 + number, told: told.to_owned() }
    }

    /// It got in, sent noise, and that was the trouble.
    fn taken() -> Self {
        Self { seen: 15, told: "malformed".to_owned() }
    }

    /// The counters that move by one.
    fn counted(&self) -> BTreeMap<String, u64> {
        let refused = ["malformed", "handshake_timeout"].contains(&&*self.told);
        let names = if refused {
            vec![format!("refused_{}", self.told)]
        } else {
            vec!["handshakes_failed".to_owned(), format!("handshakes_failed_{}", self.told)]
        };
        names.into_iter().chain(["incoming_taken".to_owned()]).map(|name| (name, 1)).collect()
    }
}

/// Which federation they come to, and so which column of the table counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Closed,
    Open,
}

impl Kind {
    /// What the table says of that pair.
    fn says_of(self, pair: &str) -> End {
        let text = fs::read_to_string("certs/README.md").unwrap();
        let row = text.lines().find(|line| line.starts_with(&format!("| `{pair}` |"))).unwrap();
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let cell = match self {
            Self::Closed => cells[3],
            Self::Open => cells[4],
        };
        if cell == "taken" {
            return End::taken();
        }
        let (told, seen) = cell.split_once(", 0x").unwrap();
        End { seen: u64::from_str_radix(seen, 16).unwrap(), told: told.trim_matches('`').to_owned() }
    }
}

/// A federation of two nodes, and a machine beside them for strangers.
struct Scene {
    lab: Lab,
    kind: Kind,
    pki: PathBuf,
    legion: Node,
    thor: Node,
    /// Lines of legion's log that were looked at.
    read: usize,
}

impl Scene {
    fn new(kind: Kind) -> Option<Self> {
        if !["openssl", "base32"].iter().all(|tool| installed(tool)) {
            skip("openssl or base32 is missing; run `scripts/install-test-tools`");
            return None;
        }
        let lab = Lab::start(&["--hosts", "legion,thor,sprout"])?;
        let pki = lab.dir().join("pki");
        let made = Command::new("certs/generate").arg(&pki).arg("--bad").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let node = |host: &str, more: &[&str]| {
            let file = |name: &str| pki.join(name).to_str().unwrap().to_owned();
            let (ca, certificate, key) =
                (file("ca.pem"), file(&format!("{host}.pem")), file(&format!("{host}.key")));
            let member = ["--ca", &ca, "--cert", &certificate, "--key", &key];
            let member = if kind == Kind::Closed { &member[..] } else { &[] };
            let common = ["--no-mdns", "--log-format", "json"];
            lab.node_in(host, &lab.dir().join(host), &[&common, member, more].concat())
        };
        let legion = node("legion", &[]);
        // A dial that finds nobody yet, and is given up, would be counted among the strangers'.
        legion.status();
        let thor = node("thor", &["--peer", &format!("{}:{}", ADDRESS.0, ADDRESS.1)]);
        wait_until("legion and thor met", || legion.verified() == ["thor"] && thor.verified() == ["legion"]);
        let read = lab.log("legion").lines().count();
        Some(Self { lab, kind, pki, legion, thor, read })
    }

    fn file(&self, name: &str) -> String {
        self.pki.join(name).to_str().unwrap().to_owned()
    }

    /// What is shown of a pair in the folder, and with which key.
    fn shows(&self, certificate: &str, key: &str) -> [String; 4] {
        let (certificate, key) = (self.file(&format!("{certificate}.pem")), self.file(&format!("{key}.key")));
        ["--certificate".to_owned(), certificate, "--key".to_owned(), key]
    }

    /// Somebody comes to the door. It ends as it should for the one who comes, in legion's log and in legion's counters.
    #[track_caller]
    fn ends(&mut self, how: &End, who: &str, come: impl FnOnce(&Self) -> Came) {
        let before = self.counters();
        let came = come(self);
        assert_eq!(came.code, Some(how.seen), "{who}: {came:?}");
        let mut line = Value::Null;
        wait_until(&format!("{who} is in the log"), || {
            let log = self.lab.log("legion");
            let lines: Vec<&str> = log.lines().collect();
            let found = lines[self.read..].iter().position(|line| {
                line.contains("\"a connection came to nothing\"") || line.contains("\"refused a peer\"")
            });
            found.is_some_and(|at| {
                line = serde_json::from_str(lines[self.read + at]).unwrap();
                self.read += at + 1;
                true
            })
        });
        assert_eq!(line["code"], how.told, "{who}: {line}");
        if let (Some(address), Some(port)) = (line["address"].as_str(), came.port) {
            assert_eq!(address, format!("10.77.0.3:{port}"), "{who}");
        }
        assert_eq!(difference(&before, &self.counters()), how.counted(), "{who}");
    }

    /// What was tried never reached the node.
    #[track_caller]
    fn never_came(&self, who: &str, try_it: impl FnOnce(&Self) -> Came) -> String {
        let before = self.counters();
        let came = try_it(self);
        assert_eq!(came.code, None, "{who}: {came:?}");
        assert_eq!(difference(&before, &self.counters()), BTreeMap::new(), "{who}");
        came.text
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let status = self.legion.get("/v1/status").unwrap();
        let counters = status["counters"].as_object().unwrap();
        let of_the_door =
            |name: &str| ["handshakes_", "refused_", "incoming_"].iter().any(|start| name.starts_with(start));
        let counters = counters.iter().filter(|(name, _)| of_the_door(name));
        counters.map(|(name, value)| (name.clone(), value.as_u64().unwrap())).collect()
    }

    /// The two go on as if nobody had come.
    fn is_unharmed(&self) {
        assert_eq!(self.legion.verified(), ["thor"]);
        let acked = submit(&self.thor, 0);
        wait_until("thor's thought is at legion", || seq_of(&self.legion, "thor") == Some(acked.seq));
    }
}

fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = |(name, value): (&String, &u64)| {
        let more = value - before.get(name).unwrap_or(&0);
        (more > 0).then(|| (name.clone(), more))
    };
    after.iter().filter_map(more).collect()
}

/// What a client says of its try.
struct Came {
    /// The code with which QUIC closed its connection.
    code: Option<u64>,
    /// From which port it came, where it says that.
    port: Option<u64>,
    text: String,
}

impl fmt::Debug for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.text.lines().collect();
        write!(
            f,
            "{:?}, the end of what it says: {}",
            self.code,
            lines[lines.len().saturating_sub(20)..].join("\n")
        )
    }
}

/// The aioquic package, in a process that tries once a line.
struct Aioquic {
    process: Child,
    tells: ChildStdin,
    hears: BufReader<ChildStdout>,
}

impl Aioquic {
    fn new(scene: &Scene) -> Option<Self> {
        let mut process = scene
            .lab
            .command("sprout", foreign_python()?)
            .arg(beside("quic_stranger.py"))
            .args([ADDRESS.0, ADDRESS.1])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let tells = process.stdin.take().unwrap();
        let hears = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, tells, hears })
    }

    fn tries(&mut self, options: &[&str]) -> (Came, Value) {
        writeln!(self.tells, "{}", serde_json::json!(options)).unwrap();
        let mut text = String::new();
        // It gives up by itself after some seconds.
        self.hears.read_line(&mut text).unwrap();
        let received: Value = serde_json::from_str(&text).unwrap();
        (Came { code: received["error_code"].as_u64(), port: received["port"].as_u64(), text }, received)
    }
}

impl Drop for Aioquic {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Everything that the aioquic package is made to try.
fn aioquic_tries_everything(mut scene: Scene) {
    let Some(mut client) = Aioquic::new(&scene) else { return };
    let good = scene.shows("thor", "thor");
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    let with = |more: &[&'static str]| [&good[..], more].concat();

    // Were it not taken here, all the rest would show nothing.
    scene.ends(&End::taken(), "a good certificate", |_| client.tries(&with(&["--garbage"])).0);
    scene.ends(&End::alert(116, "no_certificate"), "no certificate", |_| {
        client.tries(&["--no-certificate"]).0
    });
    for pair in PAIRS {
        let end = scene.kind.says_of(pair);
        scene.ends(&end, pair, |scene| {
            let shows = scene.shows(&format!("bad/{pair}"), &format!("bad/{pair}"));
            let shows: Vec<&str> = shows.iter().map(String::as_str).collect();
            client.tries(&[&shows[..], &["--garbage"]].concat()).0
        });
    }
    scene.ends(&End::alert(51, "not_its_key"), "a stolen certificate", |scene| {
        let shows = scene.shows("thor", "sprout");
        client.tries(&shows.each_ref().map(String::as_str)).0
    });
    scene.ends(&End::alert(70, "other_tls"), "TLS 1.2", |_| client.tries(&with(&["--tls12"])).0);
    scene.ends(&End::alert(120, "other_protocol"), "another protocol", |_| {
        client.tries(&with(&["--alpn", "http/1"])).0
    });

    // Noise that is read ends a connection at once, as the good certificate's did. Said before the handshake, and not again, it was
    // never read: the node waits for a Hello until there is no more time.
    let unread = End { seen: 12, told: "handshake_timeout".to_owned() };
    scene.ends(&unread, "0-RTT", |_| {
        let (came, received) = client.tries(&with(&["--early", "--garbage"]));
        assert_eq!(received["tickets"], 0, "none was given, so it makes one: {received}");
        assert!(received["early_bytes"].as_u64() > Some(40), "it was sent: {received}");
        assert_eq!(received["early_accepted"], false, "{received}");
        assert_eq!(received["confirmed"], true, "by a whole handshake: {received}");
        came
    });
    scene.ends(&End::alert(116, "no_certificate"), "0-RTT and no certificate", |_| {
        client.tries(&["--no-certificate", "--early", "--garbage"]).0
    });
    scene.is_unharmed();
}

#[test]
fn aioquic_gets_into_a_closed_federation_with_a_good_certificate_and_nothing_else() {
    let Some(scene) = Scene::new(Kind::Closed) else { return };
    aioquic_tries_everything(scene);
}

#[test]
fn aioquic_gets_into_an_open_federation_with_a_readable_certificate_of_its_own_key_and_nothing_else() {
    let Some(scene) = Scene::new(Kind::Open) else { return };
    aioquic_tries_everything(scene);
}

/// An openssl whose client speaks QUIC; `None`, said aloud, without.
fn openssl_with_quic() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-openssl/openssl");
    let found = [unpacked, PathBuf::from("openssl")].into_iter().find(|program| {
        let help = Command::new(program).args(["s_client", "-help"]).output();
        help.is_ok_and(|help| {
            String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains(" -quic ")
        })
    });
    if found.is_none() {
        skip("no openssl here speaks QUIC; run `scripts/install-test-tools`");
    }
    found
}

/// openssl's client tries once. It connects with those options, sends noise, and says what it was closed with.
fn s_client(scene: &Scene, openssl: &Path, options: &[&str]) -> Came {
    let mut process = scene
        .lab
        .command("sprout", "timeout")
        .arg("20")
        .arg(openssl)
        .args(["s_client", "-quic", "-trace", "-connect", &format!("{}:{}", ADDRESS.0, ADDRESS.1)])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    // It may have ended already, where it did not even begin.
    let _ended = input.write_all(&[NOISE, &[0xff; 34]].concat()).and_then(|()| input.flush());
    let mut came = Came { code: None, port: None, text: String::new() };
    let mut close = false;
    for line in BufReader::new(process.stdout.take().unwrap()).split(b'\n') {
        let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
        came.text.push_str(&line);
        came.text.push('\n');
        // What the node says on the stream is printed as it comes, without a line of its own.
        close |= line.contains("Received Frame: Connection close");
        if let (true, Some(code)) = (close, line.trim().strip_prefix("Error Code: ")) {
            came.code = code.parse().ok();
            break;
        }
    }
    // It may end with the stream, on which the node says why before it closes; then it has no code, and what was said tells it.
    if came.code.is_none() && came.text.contains("bytes that are no frame") {
        came.code = Some(End::taken().seen);
    }
    // With its input it ends, too, where it has not yet.
    drop(input);
    let output = process.wait_with_output().unwrap();
    came.text.push_str(&String::from_utf8_lossy(&output.stderr));
    came
}

/// Everything that openssl's client can be made to try.
fn openssl_tries_everything(mut scene: Scene) {
    let Some(openssl) = openssl_with_quic() else { return };
    let client = |scene: &Scene, options: &[&str]| s_client(scene, &openssl, options);
    let ours = ["-alpn", "cogmesh/1"];
    let shows = |scene: &Scene, certificate: &str, key: &str, more: &[&str]| {
        let [_, certificate, _, key] = scene.shows(certificate, key);
        // It takes the first certificate of a file, and what stands between that one and the CA only from another.
        let pem = fs::read_to_string(&certificate).unwrap();
        let between = scene.file("between.pem");
        let chain = match pem.match_indices("-----BEGIN CERTIFICATE").nth(1) {
            Some((at, _)) => {
                fs::write(&between, &pem[at..]).unwrap();
                &["-cert_chain", &between][..]
            }
            None => &[],
        };
        client(scene, &[&ours[..], &["-cert", &certificate, "-key", &key], chain, more].concat())
    };

    scene.ends(&End::taken(), "a good certificate", |scene| shows(scene, "thor", "thor", &[]));
    scene.ends(&End::alert(116, "no_certificate"), "no certificate", |scene| client(scene, &ours));
    for pair in PAIRS {
        let of = format!("bad/{pair}");
        let try_it = |scene: &Scene| shows(scene, &of, &of, &[]);
        let end = match pair {
            // It is told that only Ed25519 is taken, and shows nothing then.
            "other-key" => End::alert(116, "no_certificate"),
            "truncated" => {
                let text = scene.never_came(pair, try_it);
                assert!(text.contains("Could not find client certificate"), "it reads what it shows: {text}");
                continue;
            }
            _ => scene.kind.says_of(pair),
        };
        scene.ends(&end, pair, try_it);
    }
    let text = scene.never_came("a stolen certificate", |scene| shows(scene, "thor", "sprout", &[]));
    assert!(text.contains("key values mismatch"), "it compares key and certificate: {text}");
    let text = scene.never_came("TLS 1.2", |scene| shows(scene, "thor", "thor", &["-tls1_2"]));
    assert!(text.contains("Cannot supply multiple protocol flags"), "QUIC is TLS 1.3 to it: {text}");
    scene.ends(&End::alert(120, "other_protocol"), "another protocol", |scene| {
        client(scene, &["-alpn", "http/1"])
    });

    // For 0-RTT it needs a session of an earlier connection, and the node gives out none.
    let session = scene.file("session");
    let early = scene.file("ca.pem");
    scene.ends(&End::taken(), "0-RTT", |scene| {
        let came = shows(scene, "thor", "thor", &["-sess_out", &session, "-early_data", &early]);
        // Without a session it sends nothing early, though it was told to; the trace would show it.
        assert!(came.text.contains("ClientHello") && !came.text.contains("early_data"), "{came:?}");
        assert!(!came.text.contains("NewSessionTicket"), "{came:?}");
        came
    });
    assert!(!fs::exists(&session).unwrap(), "no session was given");
    scene.is_unharmed();
}

#[test]
fn openssl_gets_into_a_closed_federation_with_a_good_certificate_and_nothing_else() {
    let Some(scene) = Scene::new(Kind::Closed) else { return };
    openssl_tries_everything(scene);
}

#[test]
fn openssl_gets_into_an_open_federation_with_a_readable_certificate_of_its_own_key_and_nothing_else() {
    let Some(scene) = Scene::new(Kind::Open) else { return };
    openssl_tries_everything(scene);
}
