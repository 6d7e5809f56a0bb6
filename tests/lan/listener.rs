//! Somebody who listens on the LAN: dumpcap writes down what all hosts send, tshark says what that is, and here it is searched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
};

use data_encoding::HEXLOWER_PERMISSIVE;

use super::lab::{Lab, installed, skip, wait_until};

/// Nobody listens to that group (RFC 2365 keeps it for such use), so nobody complains about what is sent there.
const NOBODY: &str = "239.77.0.1";
/// The last packet of a capture goes there. It is no node's, and in no answer below.
const END_PORT: u16 = 9;
const END: &str = "here the capture ends";

/// Writes down each frame once, as it leaves its host.
pub(crate) struct Listener {
    dumpcap: Child,
    said: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Listener {
    /// Begins, and returns when nothing is missed any more; `None`, said aloud, where the programs are missing.
    pub(crate) fn start(lab: &Lab) -> Option<Self> {
        if !["tshark", "dumpcap"].iter().all(|tool| installed(tool)) {
            skip("tshark is missing; run `scripts/install-test-tools`");
            return None;
        }
        let file = lab.dir().join("capture.pcap");
        let mut dumpcap = lab
            .on_the_switch("dumpcap")
            .args(["-q", "-P", "-i", "any", "-f", "inbound", "-w"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(dumpcap.stderr.take().unwrap());
        // It names its file when its socket is open, and what comes from then on waits there for it.
        let mut all = String::new();
        while !all.contains("File: ") {
            assert_ne!(said.read_line(&mut all).unwrap(), 0, "dumpcap does not listen: {all}");
        }
        Some(Self { dumpcap, said, file })
    }

    /// Ends, when all that was sent before this call is written down.
    pub(crate) fn end(mut self, lab: &Lab, host: &str) -> Capture {
        send(lab, host, END_PORT, &[END]);
        wait_until("the capture has its end", || contains(&fs::read(&self.file).unwrap(), END.as_bytes()));
        let pid = self.dumpcap.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        assert!(self.dumpcap.wait().unwrap().success(), "{said}");
        assert!(said.contains("/0 (pcap:0/dumpcap:0/"), "nothing was missed: {said}");
        Capture { file: self.file.clone() }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.dumpcap.kill());
        drop(self.dumpcap.wait());
    }
}

/// Sends those words in clear from a host, a datagram each, from one port.
pub(crate) fn send(lab: &Lab, host: &str, port: u16, words: &[&str]) {
    let script = format!(r#"exec 3> /dev/udp/{NOBODY}/{port}; for words; do printf %s "$words" >&3; done"#);
    let output = lab.command(host, "bash").args(["-c", &script, "send"]).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What was heard.
pub(crate) struct Capture {
    file: PathBuf,
}

/// Bytes that a listener has.
pub(crate) enum Heard {
    /// A frame as it was.
    Frame(Vec<u8>),
    /// What anybody can decrypt or put together: QUIC's first packets are encrypted with what stands in them.
    Opened(Vec<u8>),
}

impl Heard {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(bytes) | Self::Opened(bytes) => bytes,
        }
    }
}

impl Capture {
    /// For each frame that the filter takes, the values of each field.
    pub(crate) fn rows(&self, filter: &str, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
        let mut words = vec!["-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"];
        words.extend(fields.iter().flat_map(|field| ["-e", field]));
        let values =
            |field: &str| field.split('|').filter(|value| !value.is_empty()).map(str::to_owned).collect();
        self.tshark(filter, &words).lines().map(|row| row.split('\t').map(values).collect()).collect()
    }

    /// All values that a field has in those frames.
    pub(crate) fn values(&self, filter: &str, field: &str) -> BTreeSet<String> {
        self.rows(filter, &[field]).into_iter().flatten().flatten().collect()
    }

    /// Of what kinds those frames are.
    pub(crate) fn kinds(&self, filter: &str) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for row in self.rows(filter, &["frame.protocols"]) {
            let layers: Vec<&str> = row[0][0].split(':').collect();
            // What is carried by one of these is its own affair, as the packet that an ICMP error is about.
            let known = ["_ws.malformed", "icmp", "icmpv6", "mdns", "quic"];
            let kind =
                known.into_iter().find(|kind| layers.contains(kind)).unwrap_or(layers[layers.len() - 1]);
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
        kinds
    }

    /// The bytes of those frames, and of what tshark opened in them.
    pub(crate) fn heard(&self, filter: &str) -> Vec<Heard> {
        let mut heard = vec![];
        let mut is_frame = true;
        let mut bytes = vec![];
        let dump = self.tshark(filter, &["-x"]);
        for line in dump.lines().chain([""]) {
            if let Some((_, hex)) = line.split_once("  ").filter(|_| !line.ends_with("):")) {
                // 16 bytes of three characters; behind them the same as text.
                let hex: String = hex.chars().take(16 * 3).filter(|sign| *sign != ' ').collect();
                bytes.extend(HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).unwrap());
                continue;
            }
            if !bytes.is_empty() {
                let part = std::mem::take(&mut bytes);
                heard.push(if is_frame { Heard::Frame(part) } else { Heard::Opened(part) });
            }
            // A frame in which nothing was opened has no heading.
            is_frame = line.is_empty() || line.starts_with("Frame (");
        }
        heard
    }

    /// What UDP carried from one port of one host to another, put together.
    pub(crate) fn flows(&self, filter: &str) -> Vec<Vec<u8>> {
        let ends = ["ip.src", "ipv6.src", "udp.srcport", "ip.dst", "ipv6.dst", "udp.dstport", "udp.payload"];
        let mut flows: BTreeMap<Vec<Vec<String>>, Vec<u8>> = BTreeMap::new();
        for mut row in self.rows(&format!("udp && !icmp && !icmpv6 && ({filter})"), &ends) {
            let payload = row.pop().unwrap().concat().replace(':', "");
            flows.entry(row).or_default().extend(HEXLOWER_PERMISSIVE.decode(payload.as_bytes()).unwrap());
        }
        flows.into_values().collect()
    }

    fn tshark(&self, filter: &str, words: &[&str]) -> String {
        let output = Command::new("tshark")
            // A listener's own settings must not decide what is seen.
            .env("WIRESHARK_CONFIG_DIR", self.file.with_extension("settings"))
            // No names: looking them up would ask the network.
            .args(["-n", "-r"])
            .arg(&self.file)
            .args(["-Y", &format!("!(udp.dstport == {END_PORT}) && ({filter})")])
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Something that may not be heard, or must be.
pub(crate) struct Needle {
    what: String,
    bytes: Vec<u8>,
}

impl Needle {
    /// Text, in whatever case.
    pub(crate) fn text(what: &str, text: &str) -> Self {
        Self::bytes(&format!("{what} `{text}`"), text.as_bytes())
    }

    pub(crate) fn bytes(what: &str, bytes: &[u8]) -> Self {
        // Anything shorter is found in noise.
        assert!(bytes.len() >= 6, "{what} is too short to be looked for");
        Self { what: what.to_owned(), bytes: bytes.to_ascii_lowercase() }
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }
}

/// Which of those stand somewhere in there.
pub(crate) fn found<'a, 'h>(
    needles: &'a [Needle],
    haystacks: impl IntoIterator<Item = &'h [u8]>,
) -> BTreeSet<&'a str> {
    // One way through each haystack, and a look at a table at each place, because there are many needles.
    let start_of = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    let mut by_start: Vec<Vec<&Needle>> = vec![vec![]; 1 << 16];
    for needle in needles {
        by_start[start_of(&needle.bytes)].push(needle);
    }
    let mut found = BTreeSet::new();
    for haystack in haystacks {
        let haystack = haystack.to_ascii_lowercase();
        for (at, start) in haystack.windows(2).enumerate() {
            let here = by_start[start_of(start)].iter();
            found.extend(
                here.filter(|needle| haystack[at..].starts_with(&needle.bytes)).map(|needle| needle.what()),
            );
        }
    }
    found
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
