//! The local API on loopback TCP, as a browser or a program without Unix sockets meets it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use serde_json::{Value, json};

use super::support::{Node, QUALITY, assert_fails, code, json as one, run};

/// A request as it is typed, and the status, the headers and the body that come back.
fn http(address: SocketAddr, request: &str, headers: &[&str], body: &str) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\n{headers}content-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
}

fn api(node: &Node) -> SocketAddr {
    one(&node.ask(&["status", "--json"]))["api"].as_str().unwrap().parse().unwrap()
}

#[test]
fn reading_is_free_writing_needs_the_token_and_foreign_pages_get_nothing() {
    let node = Node::start(&["--name", "legion", "--interface", "lo"]);
    let address = api(&node);
    assert!(address.ip().is_loopback());
    let host = format!("host: {address}");
    let (status, head, body) = http(address, "GET /v1/status", &[&host], "");
    assert_eq!((status, &body["node"]["name"]), (200, &"legion".into()));
    assert!(
        head.contains("nosniff") && head.contains("no-store") && !head.contains("access-control"),
        "{head}"
    );

    let token_file = node.data_dir().join("api.token");
    assert_eq!(fs::metadata(&token_file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&token_file).unwrap();
    let bearer = format!("authorization: Bearer {}", secret.trim());
    let thought = json!({ "content": QUALITY }).to_string();
    let post = |headers: &[&str]| http(address, "POST /v1/thoughts", headers, &thought);
    let (status, head, body) = post(&[&host]);
    assert_eq!((status, &body["error"]["code"]), (401, &"no_token".into()));
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    let wrong = format!("authorization: Bearer {}", secret.trim().chars().rev().collect::<String>());
    assert_eq!(post(&[&host, &wrong]).0, 401);

    // A name that a hostile page's owner made point to 127.0.0.1, and the page itself.
    let (status, _, body) = http(address, "GET /v1/thoughts", &["host: evil.example"], "");
    assert_eq!((status, &body["error"]["code"]), (403, &"foreign_host".into()));
    let absolute = format!("GET http://evil.example:{}/v1/thoughts", address.port());
    assert_eq!(http(address, &absolute, &[&host], "").0, 403);
    let (status, _, body) = post(&[&host, &bearer, "origin: http://evil.example"]);
    assert_eq!((status, &body["error"]["code"]), (403, &"foreign_origin".into()));
    assert_eq!(post(&[&host, &bearer, "origin: null"]).0, 403);
    let (status, _, body) =
        http(address, "OPTIONS /v1/thoughts", &[&host, "origin: http://evil.example"], "");
    assert_eq!((status, &body["error"]["code"]), (403, &"foreign_origin".into()), "no preflight succeeds");
    assert!(node.lines(&["thoughts"]).is_empty(), "nothing of that was recorded");

    let own = format!("origin: http://localhost:{}", address.port());
    let (status, _, body) = post(&[&host, &bearer, &own]);
    assert_eq!((status, &body["verdict"]), (200, &"accepted".into()));
    assert_eq!(node.lines(&["thoughts"]).len(), 1);
    node.signal("TERM");
    let (exit, _, log, dir) = node.ended();
    assert_eq!(exit, 0);
    assert!(!log.contains(secret.trim()), "no secret in the log");
    let node = Node::start_in(dir, &["--interface", "lo"]);
    assert_eq!(fs::read_to_string(&token_file).unwrap(), secret, "scripts keep it across restarts");
    drop(node);
}

#[test]
fn the_address_is_chosen_named_or_left_out() {
    let first = Node::start(&["--name", "legion", "--interface", "lo"]);
    let second = Node::start(&["--name", "thor", "--interface", "lo"]);
    assert_ne!(api(&first), api(&second));
    let off = Node::start(&["--name", "sprout", "--interface", "lo", "--api", "off"]);
    assert_eq!(one(&off.ask(&["status", "--json"]))["api"], Value::Null);
    assert!(!off.data_dir().join("api.token").exists());
    assert_eq!(code(&off.ask(&["submit", QUALITY])), 0, "the command line needs none");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let start =
        ["start", "--no-mdns", "--interface", "lo", "--data-dir", dir.path().to_str().unwrap(), "--api"];
    assert_fails(&run(&[&start[..], &[&address]].concat()), 1, &[&address, "hint: ", "--api"]);
    assert_fails(&run(&[&start[..], &["0.0.0.0:8880"]].concat()), 2, &["loopback"]);
}
