//! What somebody who listens on the LAN gets of nodes that join, meet, share thoughts and catch up: QUIC with TLS 1.3 and a
//! post-quantum key exchange, and in clear what mDNS announces by design.

use std::{collections::BTreeSet, fs};

use cogmesh::{ledger::policy::Policy, log::Ticket};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::{
    closed::Closed,
    lab::{Lab, Node, measured, wait_until},
    listener::{Capture, Heard, Listener, Needle, found, send},
    load::{POLICY, are_even, are_meshed},
};

/// Names that no noise contains.
const HOSTS: [&str; 5] = ["legion", "lantern", "sprout", "juniper", "hawthorn"];
const CLOSED: &str = "thaumaturgical-archive";
const OPEN: &str = "kaleidoscopic-workshop";
const SESSION: &str = "palimpsest-cartography";
const THOUGHTS: [&str; 3] = [
    "Thermohaline sluicegates recalibrate marsupial spectrographs whenever archivists misplace chrysanthemum ledgers beneath the observatory",
    "Bioluminescent quarterdecks exasperate apothecaries, because gyroscopic barnacles transliterate every moonlit manuscript differently",
    "What emerges when vermiculite accordions photosynthesise alongside bureaucratic hummingbirds that remember their incandescent promises?",
];
/// 4588: X25519MLKEM768, in the numbers of IANA; 29: X25519.
const GROUPS: [u64; 2] = [0x11ec, 0x001d];
const TLS_1_3: u64 = 0x0304;
const CIPHERS_OF_TLS_1_3: [u64; 3] = [0x1301, 0x1302, 0x1303];
/// Of TLS extensions: a connection that is resumed, and data before the handshake is over.
const PRE_SHARED_KEY: u64 = 41;
const EARLY_DATA: u64 = 42;
/// Of DNS records: A, PTR, TXT, AAAA, SRV, and NSEC, which says that a name has no other.
const RECORDS: [u64; 6] = [1, 12, 16, 28, 33, 47];

/// Nodes of two federations and what they must keep to themselves.
struct Session {
    /// What was captured goes with its lab.
    _closed: Closed,
    capture: Capture,
    nodes: Vec<Value>,
    secrets: Vec<Needle>,
    announced: Vec<Needle>,
}

#[test]
fn a_listener_gets_tls_1_3_with_x25519mlkem768_and_nothing_in_clear_but_what_mdns_announces() {
    let Some(session) = session() else { return };
    let Session { capture, nodes, secrets, announced, .. } = &session;
    only_quic_leaves_a_node_besides_mdns_and_what_the_kernel_says(capture);
    handshakes_are_tls_1_3_with_a_post_quantum_exchange(capture);
    mdns_says_what_it_should_and_no_more(capture, nodes);

    let all = capture.heard("frame");
    let flows = capture.flows("frame");
    let everywhere = all.iter().map(Heard::bytes).chain(flows.iter().map(Vec::as_slice));
    assert_eq!(found(secrets, everywhere), BTreeSet::new(), "in clear");
    let (quiet, flows) = (capture.heard("!mdns"), capture.flows("!mdns"));
    let elsewhere = quiet.iter().map(Heard::bytes).chain(flows.iter().map(Vec::as_slice));
    assert_eq!(found(announced, elsewhere), BTreeSet::new(), "in clear beside mDNS");
    let mdns = capture.heard("mdns");
    let there = found(announced, mdns.iter().map(Heard::bytes));
    assert_eq!(there, announced.iter().map(Needle::what).collect(), "it is found where it is");
    // What anybody can decrypt was looked into, too: the name of the protocol stands nowhere else.
    let protocol = [Needle::text("ALPN", "cogmesh/1")];
    let frames = quiet.iter().filter(|heard| matches!(heard, Heard::Frame(_))).map(Heard::bytes);
    assert!(found(&protocol, frames).is_empty());
    assert!(!found(&protocol, quiet.iter().map(Heard::bytes)).is_empty());
    measured(&format!(
        "capture: {} secrets and {} announced names looked for in {} packets, {} bytes",
        secrets.len(),
        announced.len(),
        all.iter().filter(|heard| matches!(heard, Heard::Frame(_))).count(),
        all.iter().map(|heard| heard.bytes().len()).sum::<usize>()
    ));
}

#[test]
fn what_is_sent_in_clear_is_found_in_a_capture_whole_or_in_pieces() {
    let Some(lab) = Lab::start(&["--hosts", "legion,lantern"]) else { return };
    let Some(listener) = Listener::start(&lab) else { return };
    send(&lab, "legion", 7_777, &[&THOUGHTS[0].to_uppercase()]);
    let (start, end) = THOUGHTS[1].split_at(40);
    send(&lab, "lantern", 7_777, &[start, end]);
    let capture = listener.end(&lab, "legion");
    let needles = THOUGHTS.map(|thought| Needle::text("thought", thought));
    let packets = capture.heard("frame");
    assert_eq!(found(&needles, packets.iter().map(Heard::bytes)).len(), 1);
    let flows = capture.flows("frame");
    assert_eq!(found(&needles, flows.iter().map(Vec::as_slice)).len(), 2);
    assert_eq!(capture.kinds("udp").keys().collect::<Vec<_>>(), ["data"], "and it is no QUIC");
}

/// Three nodes of a closed federation, of which one comes later and catches up, and two of an open one, of which one tries the closed
/// one's door; from the first packet to the last goodbye.
fn session() -> Option<Session> {
    let lab = Lab::start(&["--hosts", &HOSTS.join(",")])?;
    let listener = Listener::start(&lab)?;
    let closed = Closed::found(lab, CLOSED);
    let open = ["--federation", OPEN, "--peer", "10.77.0.1:8888"];
    let mut nodes = closed.linked(&["lantern"], &[]);
    nodes.push(closed.start("juniper", &open));
    nodes.push(closed.start("hawthorn", &open[..2]));
    wait_until("the open ones meet", || are_meshed(&[&nodes[2], &nodes[3]]));
    for (node, thought) in nodes.iter().zip(THOUGHTS) {
        let body = json!({ "content": thought, "session": SESSION });
        let (code, answer) = node.post("/v1/thoughts", &body).unwrap();
        assert_eq!((code, &answer["verdict"]), (200, &"accepted".into()), "{answer}");
    }
    let ticket = closed.join(&nodes[0], "sprout");
    nodes.insert(2, closed.start("sprout", &[]));
    let (members, others) = nodes.split_at(3);
    wait_until("sprout catches up", || {
        let members: Vec<&Node> = members.iter().collect();
        are_meshed(&members) && are_even(&members, 3) && are_even(&others.iter().collect::<Vec<_>>(), 2)
    });
    assert!(nodes[2].status()["counters"]["wants_sent"].as_u64() >= Some(1), "it asked for what it lacked");
    wait_until("juniper is refused at the door", || {
        nodes[0].status()["counters"]["handshakes_failed"].as_u64() >= Some(1)
    });
    let said: Vec<Value> = nodes.iter().map(Node::status).collect();
    let secrets = secrets(&closed, &said, &ticket);
    let announced = announced(&said);
    nodes.iter_mut().for_each(|node| {
        node.terminate();
    });
    let capture = listener.end(&closed.lab, "legion");
    Some(Session { _closed: closed, capture, nodes: said, secrets, announced })
}

fn only_quic_leaves_a_node_besides_mdns_and_what_the_kernel_says(capture: &Capture) {
    let kinds = capture.kinds("frame");
    let nodes_own = ["quic", "mdns"];
    let kernels_own = ["arp", "icmp", "icmpv6", "igmp"];
    assert!(
        kinds.keys().all(|kind| nodes_own.contains(&&**kind) || kernels_own.contains(&&**kind)),
        "{kinds:?}"
    );
    assert!(nodes_own.iter().all(|kind| kinds[*kind] > 10), "{kinds:?}");
    measured(&format!("capture: frames by kind: {kinds:?}"));
    assert_eq!(capture.values("quic", "quic.version"), ["0x00000001".to_owned()].into());
    // Initial, Handshake; no 0-RTT.
    assert_eq!(capture.values("quic", "quic.long.packet_type"), ["0".to_owned(), "2".to_owned()].into());
}

fn handshakes_are_tls_1_3_with_a_post_quantum_exchange(capture: &Capture) {
    let fields = [
        "quic.connection.number",
        "tls.handshake.extensions_supported_group",
        "tls.handshake.extensions_key_share_group",
        "tls.handshake.extensions.supported_version",
        "tls.handshake.extensions_alpn_str",
        "tls.handshake.extensions_server_name",
        "tls.handshake.extension.type",
    ];
    let hellos = capture.rows("tls.handshake.type == 1", &fields);
    for hello in &hellos {
        assert_eq!(numbers(&hello[1]), GROUPS, "{hello:?}");
        assert_eq!(numbers(&hello[2]), GROUPS, "shares of both, so that nobody has to ask twice: {hello:?}");
        assert_eq!(numbers(&hello[3]), [TLS_1_3], "{hello:?}");
        assert!(hello[4] == ["cogmesh/1"] || hello[4] == ["cogmesh-join/1"], "{hello:?}");
        assert!(hello[5].is_empty(), "no name: {hello:?}");
        let extensions = numbers(&hello[6]);
        assert!(!extensions.contains(&PRE_SHARED_KEY) && !extensions.contains(&EARLY_DATA), "{hello:?}");
    }
    let fields = [fields[0], fields[2], fields[3], "tls.handshake.ciphersuite"];
    let answers = capture.rows("tls.handshake.type == 2", &fields);
    for answer in &answers {
        assert_eq!(numbers(&answer[1]), GROUPS[..1], "the other side takes the post-quantum one: {answer:?}");
        assert_eq!(numbers(&answer[2]), [TLS_1_3], "{answer:?}");
        assert!(numbers(&answer[3]).iter().all(|cipher| CIPHERS_OF_TLS_1_3.contains(cipher)), "{answer:?}");
    }
    let connections =
        |rows: &[Vec<Vec<String>>]| rows.iter().flat_map(|row| row[0].clone()).collect::<BTreeSet<_>>();
    let (asked, answered) = (connections(&hellos), connections(&answers));
    // Two that joined, three links of members, one of the open ones, one who was turned away at least.
    assert!(answered.len() >= 7 && answered.is_subset(&asked), "{asked:?}, {answered:?}");
    let all = capture.values("quic", "quic.connection.number");
    assert!(
        all.is_subset(&asked),
        "each packet belongs to a connection whose beginning was seen: {all:?}, {asked:?}"
    );
    // At the end nodes dial others that are stopping.
    measured(&format!("capture: {} connections, {} of them answered", asked.len(), answered.len()));
}

fn mdns_says_what_it_should_and_no_more(capture: &Capture, nodes: &[Value]) {
    const SERVICE: &str = "_cogmesh._udp.local";
    let mut names = BTreeSet::from([SERVICE.to_owned()]);
    let mut texts = BTreeSet::from(["v=1".to_owned()]);
    for node in nodes.iter().map(|status| &status["node"]) {
        let (name, id) = (text(&node["name"]), text(&node["id"]));
        names.extend([format!("{name}-{}.{SERVICE}", &id[..8]), format!("{}.local", &id[..8])]);
        texts.extend([format!("id={id}"), format!("fed={}", &text(&node["federation"]["id"])[..16])]);
    }
    let said = [
        "dns.qry.name",
        "dns.resp.name",
        "dns.ptr.domain_name",
        "dns.srv.target",
        "dns.nsec.next_domain_name",
    ];
    let said: BTreeSet<String> = said.iter().flat_map(|field| capture.values("mdns", field)).collect();
    assert_eq!(said, names);
    assert_eq!(capture.values("mdns", "dns.txt"), texts);
    assert_eq!(capture.values("mdns", "dns.srv.port"), ["8888".to_owned()].into());
    let hosts = 1..=HOSTS.len();
    assert_eq!(
        capture.values("mdns", "dns.a"),
        hosts.clone().map(|host| format!("10.77.0.{host}")).collect()
    );
    assert_eq!(
        capture.values("mdns", "dns.aaaa"),
        hosts.map(|host| format!("fe80::c0:9eff:fe00:{host}")).collect()
    );
    let types: Vec<String> = capture.values("mdns", "dns.resp.type").into_iter().collect();
    assert!(numbers(&types).iter().all(|kind| RECORDS.contains(kind)), "{types:?}");
}

/// What nobody outside may have.
fn secrets(closed: &Closed, nodes: &[Value], ticket: &str) -> Vec<Needle> {
    let mut secrets = vec![
        Needle::text("session", SESSION),
        Needle::text("closed federation", CLOSED),
        Needle::text("open federation", OPEN),
        Needle::text("ticket", ticket),
        Needle::bytes("token", &ticket.parse::<Ticket>().unwrap().token.0),
        Needle::bytes("rules", &Policy::from_toml(POLICY).unwrap().to_bytes()),
        Needle::text("program", &format!("cogmesh {}", env!("CARGO_PKG_VERSION"))),
        Needle::text("architecture", std::env::consts::ARCH),
    ];
    for thought in THOUGHTS {
        secrets.push(Needle::text("thought", thought));
        let words = thought.split(|sign: char| !sign.is_ascii_alphabetic());
        secrets.extend(words.filter(|word| word.len() >= 8).map(|word| Needle::text("word", word)));
    }
    secrets.extend(
        POLICY.split_whitespace().filter(|word| word.contains('_')).map(|word| Needle::text("rule", word)),
    );
    for host in &HOSTS[..3] {
        for file in ["node.crt", "ca.crt"] {
            let pem = fs::read(closed.data_dir(host).join(file)).unwrap();
            let der = pem::parse(pem).unwrap().into_contents();
            // The end of a certificate is its signature, which no other has.
            secrets.push(Needle::bytes(&format!("{file} of {host}"), &der[der.len() - 64..]));
        }
    }
    nodes.iter().for_each(|node| secrets.extend(secrets_of(node)));
    secrets
}

fn secrets_of(node: &Value) -> Vec<Needle> {
    let own = &node["node"];
    let id = data_encoding::BASE32_NOPAD.decode(text(&own["id"]).to_ascii_uppercase().as_bytes()).unwrap();
    let federation = text(&own["federation"]["id"]);
    let mut secrets = vec![
        Needle::bytes("node id", &id),
        Needle::bytes("start of a node id", &id[..8]),
        Needle::text("node id in hex", &HEXLOWER.encode(&id)),
        Needle::text("federation id", federation),
        Needle::bytes("federation id", &HEXLOWER.decode(federation.as_bytes()).unwrap()),
        Needle::text("fingerprint", text(&own["certificate_fingerprint"])),
    ];
    for author in node["authors"].as_array().unwrap() {
        let balance = author["balance_uatp"].as_u64().unwrap();
        secrets.extend([
            Needle::text("balance", &balance.to_string()),
            Needle::text("balance", &format!("{}.{:06}", balance / 1_000_000, balance % 1_000_000)),
            Needle::bytes("balance in bytes", &balance.to_le_bytes()),
            Needle::bytes("balance in bytes", &balance.to_be_bytes()),
        ]);
        for field in ["hash", "digest"] {
            let bytes = HEXLOWER.decode(text(&author[field]).as_bytes()).unwrap();
            secrets.push(Needle::bytes(field, &bytes));
        }
    }
    secrets
}

/// What mDNS announces by design, and nothing else may.
fn announced(nodes: &[Value]) -> Vec<Needle> {
    let needles = |status: &Value| {
        let own = &status["node"];
        let id = text(&own["id"]);
        [
            Needle::text("node name", text(&own["name"])),
            Needle::text("node id", id),
            Needle::text("short node id", &id[..8]),
            Needle::text("start of the federation id", &text(&own["federation"]["id"])[..16]),
        ]
    };
    nodes.iter().flat_map(needles).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// tshark writes some numbers in decimal and others in hexadecimal, and not all versions the same.
fn numbers(values: &[String]) -> Vec<u64> {
    let number = |value: &String| match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => value.parse().unwrap(),
    };
    values.iter().map(number).collect()
}
