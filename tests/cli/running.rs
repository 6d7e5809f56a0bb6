//! What a running node answers, over its socket and through the command line.

use std::{fs, net::UdpSocket, os::unix::fs::PermissionsExt, time::Duration};

use serde_json::Value;

use super::support::{Node, QUALITY, SPAM, assert_fails, code, err, json, out, run, run_with_input};

fn numbers(value: &Value, names: &[&str]) -> bool {
    names.iter().all(|name| value[name].is_i64() || value[name].is_u64())
}

#[test]
fn a_submission_is_answered_with_its_verdict_and_the_exit_code_says_it_too() {
    let node = Node::start(&["--name", "legion"]);
    let accepted = node.ask(&["submit", QUALITY, "--json", "--session", "lab", "--mode", "verifying"]);
    assert_eq!(code(&accepted), 0, "{}", err(&accepted));
    let said = json(&accepted);
    assert_eq!(
        (said["verdict"].as_str(), said["layer"].is_null(), said["seq"].as_u64()),
        (Some("accepted"), true, Some(1))
    );
    let names = ["coherence_ppm", "delta_uatp", "balance_uatp", "trust_ppm", "peers_sent"];
    assert!(numbers(&said, &names) && said["reason"].is_string(), "{said}");

    let would = node.ask(&["submit", SPAM, "--dry-run", "--json"]);
    assert_eq!((code(&would), json(&would)["verdict"].as_str()), (3, Some("rejected")));
    let rejected = node.ask(&["submit", SPAM, "--json"]);
    let penalty = json(&rejected);
    assert_eq!(
        (code(&rejected), penalty["layer"].as_str(), penalty["seq"].as_u64()),
        (3, Some("quality"), Some(2))
    );
    let change = penalty["balance_uatp"].as_i64().unwrap() - said["balance_uatp"].as_i64().unwrap();
    assert_eq!(penalty["delta_uatp"].as_i64(), Some(change), "the dry run cost nothing");
}

#[test]
fn the_corpus_is_asked_by_session_author_and_time() {
    let node = Node::start(&["--name", "legion"]);
    assert_eq!(code(&node.ask(&["submit", QUALITY, "--session", "lab", "--mode", "verifying"])), 0);
    let thoughts = node.lines(&["thoughts"]);
    let [thought] = thoughts.as_slice() else { panic!("{thoughts:?}") };
    assert_eq!(
        (thought["content"].as_str(), thought["session"].as_str(), thought["mode"].as_str()),
        (Some(QUALITY), Some("lab"), Some("verifying"))
    );
    assert_eq!((thought["name"].as_str(), thought["seq"].as_u64()), (Some("legion"), Some(1)));
    let names = ["time_ms", "coherence_ppm", "weight_ppm", "reward_uatp", "received_ms"];
    assert!(numbers(thought, &names), "{thought}");
    assert!(node.lines(&["thoughts", "--session", "other"]).is_empty());
    assert_eq!(node.lines(&["thoughts", "--author", "legion", "--since", "1h", "--limit", "5"]).len(), 1);
    assert_fails(&node.ask(&["thoughts", "--author", "nobody"]), 1, &["nobody", "cogmesh authors"]);
}

#[test]
fn the_corpus_is_searched_by_words_in_any_script() {
    let node = Node::start(&["--name", "legion"]);
    let cjk = "集合的な知性は、信頼と検証から生まれる。それぞれの節点が帳簿を自分で計算するから。";
    assert_eq!(code(&node.ask(&["submit", QUALITY, "--session", "lab"])), 0);
    assert_eq!(code(&node.ask(&["submit", cjk])), 0);
    let seqs = |args: &[&str]| -> Vec<u64> {
        let lines = node.lines(&[&["thoughts"], args].concat());
        lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seqs(&["--search", "MACHINES economic"]), [1]);
    assert_eq!(seqs(&["--search", "知性 帳簿"]), [2]);
    assert_eq!(seqs(&["--search", "\"machines\" OR"]), [0_u64; 0]);
    assert_eq!(seqs(&["--search", "machines", "--session", "main"]), [0_u64; 0]);
    assert_eq!(seqs(&["--search", "machines", "--session", "lab", "--since", "1h", "--limit", "1"]), [1]);
}

#[test]
fn what_is_too_long_or_empty_is_not_recorded() {
    let node = Node::start(&[]);
    let too_long = node.ask_with_input(&["submit", "-"], &[b'a'; 20_000]);
    assert_fails(&too_long, 4, &["20000", "16384", "nothing was recorded"]);
    assert_fails(&node.ask(&["submit", ""]), 2, &["nothing to submit"]);
    assert_eq!(node.lines(&["authors"])[0]["rejected"].as_u64(), Some(0));
}

#[test]
fn a_repetition_with_the_same_key_gets_the_first_answer_and_records_nothing() {
    let node = Node::start(&[]);
    let first = json(&node.ask(&["submit", QUALITY, "--key", "k1", "--json"]));
    let again = json(&node.ask(&["submit", "something else entirely", "--key", "k1", "--json"]));
    for field in ["verdict", "seq", "delta_uatp", "balance_uatp", "trust_ppm", "coherence_ppm", "reason"] {
        assert_eq!(first[field], again[field], "{field}");
    }
    assert_eq!(node.lines(&["thoughts"]).len(), 1);
}

#[test]
fn a_frozen_author_is_told_so_and_nothing_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("strict.toml");
    fs::write(&policy, "pow_bits = 4\npenalty_quality = 300000000\n").unwrap();
    let node = Node::start(&["--policy", policy.to_str().unwrap()]);
    assert_eq!(code(&node.ask(&["submit", SPAM])), 3);
    let frozen = node.ask(&["submit", QUALITY, "--json"]);
    let said = json(&frozen);
    assert_eq!(
        (code(&frozen), said["verdict"].as_str(), said["delta_uatp"].as_i64()),
        (4, Some("inadmissible"), Some(0))
    );
    assert_eq!((said["seq"].as_u64(), said["recorded"].as_bool()), (Some(1), Some(false)));
    assert_eq!(node.lines(&["authors"])[0]["state"].as_str(), Some("frozen"));
}

#[test]
fn explaining_adds_up_to_what_the_verdict_changed() {
    let node = Node::start(&["--name", "legion"]);
    assert_fails(&node.ask(&["explain"]), 1, &["no thought yet"]);
    node.ask(&["submit", QUALITY]);
    let rejected = json(&node.ask(&["submit", SPAM, "--json"]));
    let explained = json(&node.ask(&["explain", "2", "--author", "legion", "--json"]));
    assert_eq!(explained, json(&node.ask(&["explain", "--json"])), "the last one of this node");
    for field in ["verdict", "layer", "seq", "coherence_ppm", "delta_uatp", "balance_uatp", "trust_ppm"] {
        assert_eq!(explained[field], rejected[field], "{field}");
    }
    let layers = explained["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 9);
    let sum: i64 = layers.iter().map(|layer| layer["delta_uatp"].as_i64().unwrap()).sum();
    assert_eq!(Some(sum), explained["delta_uatp"].as_i64());
    assert!(out(&node.ask(&["explain", "1"])).contains("9 atp"));
    assert_fails(&node.ask(&["explain", "99"]), 1, &["ends at entry 2"]);
    assert_fails(&node.ask(&["explain", "0"]), 2, &["entry 1"]);
}

#[test]
fn two_nodes_meet_by_address_and_show_the_same_books() {
    let legion = Node::start(&["--name", "legion", "--hardware", "tpm2", "--level", "5"]);
    let thor = Node::start(&["--name", "thor", "--peer", &legion.address]);
    let peers = thor.wait_for(&["peers"], |peers| peers.iter().any(|peer| peer["verified"] == true));
    let peer = peers.iter().find(|peer| peer["verified"] == true).unwrap();
    assert_eq!((peer["name"].as_str(), peer["method"].as_str()), (Some("legion"), Some("software_bridge")));
    assert_eq!((peer["hardware"].as_str(), peer["level"].as_u64()), (Some("tpm2"), Some(5)));
    assert!(numbers(peer, &["rtt_us", "connected_s", "bytes_sent", "bytes_received"]), "{peer}");
    assert!(out(&thor.ask(&["peers"])).contains("tpm2, claimed"));
    let answer = json(&legion.ask(&["submit", QUALITY, "--json"]));
    assert_eq!(answer["peers_sent"].as_u64(), Some(1));
    thor.wait_for(&["thoughts"], |thoughts| thoughts.iter().any(|thought| thought["content"] == QUALITY));
    let books = |node: &Node| -> Vec<Value> {
        let keep = [
            "id",
            "name",
            "seq",
            "hash",
            "balance_uatp",
            "trust_ppm",
            "weight_ppm",
            "accepted",
            "rejected",
            "digest",
        ];
        let status = json(&node.ask(&["status", "--json"]));
        let authors = status["authors"].as_array().unwrap();
        authors.iter().map(|author| keep.iter().map(|name| author[name].clone()).collect()).collect()
    };
    assert_eq!(books(&legion), books(&thor));
    assert_eq!(books(&thor).len(), 2);
    let economics = json(&thor.ask(&["economics", "--json"]));
    assert_eq!((economics["nodes"].as_u64(), economics["balances"].as_array().unwrap().len()), (Some(2), 2));
    assert_eq!(thor.lines(&["sessions"])[0]["session"].as_str(), Some("main"));
    assert!(thor.lines(&["alerts"]).is_empty());
}

#[test]
fn status_has_every_field_that_scripts_rely_on() {
    let node = Node::start(&["--name", "legion", "--federation", "workshop"]);
    node.wait_for(&["authors"], |authors| authors.len() == 1);
    let status = json(&node.ask(&["status", "--json"]));
    assert_eq!(
        (status["node"]["name"].as_str(), status["node"]["federation"]["name"].as_str()),
        (Some("legion"), Some("workshop"))
    );
    assert!(numbers(&status["node"], &["level", "uptime_s"]), "{status}");
    assert_eq!(status["node"]["id"].as_str().unwrap().len(), 52);
    assert_eq!(status["node"]["federation"]["closed"].as_bool(), Some(false));
    for list in ["listen", "peers", "authors", "alerts"] {
        assert!(status[list].is_array(), "{list}");
    }
    let author = &status["authors"][0];
    assert!(
        numbers(
            author,
            &["seq", "balance_uatp", "trust_ppm", "weight_ppm", "accepted", "rejected", "frozen_until_ms"]
        ),
        "{author}"
    );
    assert_eq!((author["hash"].as_str().unwrap().len(), author["digest"].as_str().unwrap().len()), (64, 64));
    assert_eq!(author["state"].as_str(), Some("ok"));
    let text = out(&node.ask(&["status"]));
    assert!(text.contains("legion") && text.contains("workshop") && text.contains("claimed"), "{text}");
    let id = json(&node.ask(&["id", "--json"]));
    assert_eq!((&id["id"], id["name"].as_str()), (&status["node"]["id"], Some("legion")));
    assert_eq!(id["certificate_fingerprint"].as_str().unwrap().len(), 64);
}

#[test]
fn nothing_that_a_terminal_acts_on_comes_through_a_content() {
    let node = Node::start(&[]);
    let hostile = "Hidden \u{1b}[2J escapes, \u{202e}reversed\u{202c} words, \u{9b}31m colours and zero\u{200b}width marks\nnever reach terminals.";
    assert_eq!(code(&node.ask_with_input(&["submit", "-"], hostile.as_bytes())), 0);
    for args in [&["thoughts"][..], &["thoughts", "--json"]] {
        let text = out(&node.ask(args));
        let raw =
            |c: char| (c.is_control() && c != '\n') || ['\u{202e}', '\u{202c}', '\u{200b}'].contains(&c);
        assert!(!text.chars().any(raw), "{text:?}");
    }
    assert_eq!(node.lines(&["thoughts"])[0]["content"].as_str(), Some(hostile), "the value is the same");
}

#[test]
fn the_socket_is_private_and_a_dead_nodes_socket_is_replaced() {
    let node = Node::start(&[]);
    let socket = node.data_dir().join("api.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(node.data_dir().join("node.key")).unwrap().permissions().mode() & 0o777, 0o600);
    node.signal("KILL");
    let (_, _, _, dir) = node.ended();
    assert!(dir.path().join("api.sock").exists(), "who is killed cleans nothing up");
    let again = Node::start_in(dir, &[]);
    assert_eq!(code(&again.ask(&["status"])), 0);
}

#[test]
fn the_socket_speaks_http_and_says_no_with_a_code() {
    let node = Node::start(&[]);
    let json = Some("application/json");
    let long = format!(r#"{{"content":"{}"}}"#, "a".repeat(17_000));
    for (request, kind, body, status, code) in [
        ("GET /v1/nothing", None, "", 404, "no_such_path"),
        ("DELETE /v1/peers", None, "", 405, "method_not_allowed"),
        ("GET /v1/thoughts?colour=red", None, "", 400, "bad_query"),
        ("GET /v1/thoughts?limit=0", None, "", 400, "bad_limit"),
        ("GET /v1/thoughts?search=%22%21", None, "", 400, "bad_search"),
        ("GET /v1/thoughts?author=nobody", None, "", 404, "author_unknown"),
        ("GET /v1/explain?seq=7", None, "", 404, "entry_unknown"),
        ("POST /v1/thoughts", None, r#"{"content":"x"}"#, 415, "not_json"),
        ("POST /v1/thoughts", Some("text/plain"), r#"{"content":"x"}"#, 415, "not_json"),
        ("POST /v1/thoughts", json, r#"{"content":5}"#, 400, "bad_request"),
        ("POST /v1/thoughts", json, r#"{"content":"x","colour":"red"}"#, 400, "bad_request"),
        ("POST /v1/thoughts", json, r#"{"content":""}"#, 400, "content_empty"),
        ("POST /v1/thoughts", json, r#"{"content":"x","mode":"shouting"}"#, 400, "bad_mode"),
        ("POST /v1/thoughts", json, r#"{"content":"x","key":""}"#, 400, "bad_key"),
        ("POST /v1/thoughts", json, &long, 413, "content_too_long"),
    ] {
        let (found, answer) = node.http(request, kind, body);
        assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)), "{request}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    for path in ["/healthz", "/readyz", "/v1/status", "/v1/economics"] {
        assert_eq!(node.http(&format!("GET {path}"), None, "").0, 200, "{path}");
    }
    assert_eq!(node.lines(&["authors"])[0]["seq"].as_u64(), Some(0), "nothing was recorded");
    let (status, answer) = node.http("POST /v1/thoughts", json, &format!(r#"{{"content":"{QUALITY}"}}"#));
    assert_eq!(
        (status, answer["verdict"].as_str(), answer["seq"].as_u64()),
        (200, Some("accepted"), Some(1))
    );
}

#[test]
fn a_second_node_on_the_same_directory_is_refused() {
    let node = Node::start(&[]);
    let second = node.ask(&["start", "--no-mdns"]);
    assert_fails(&second, 1, &["another node runs", "--data-dir"]);
    assert_eq!(code(&node.ask(&["status"])), 0, "the first one goes on");
}

#[test]
fn a_port_that_was_named_and_is_taken_is_refused_and_never_changed() {
    let taken = UdpSocket::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["start", "--no-mdns", "--port", &port, "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains(&format!("error: UDP port {port} is taken")), "{}", err(&output));
}

#[test]
fn an_interface_that_is_not_there_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        run(&["start", "--no-mdns", "--interface", "nope0", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("nope0") && err(&output).contains("hint: "), "{}", err(&output));
}

#[test]
fn a_node_ends_within_two_seconds_of_either_signal_and_cleans_up() {
    for signal in ["TERM", "INT"] {
        let node = Node::start(&["--name", "legion"]);
        node.ask(&["submit", QUALITY]);
        node.signal(signal);
        let (exit, took, log, dir) = node.ended();
        assert_eq!(exit, 0, "{log}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(
            log.contains("legion (") && log.contains("listens on") && log.contains("thought accepted"),
            "{log}"
        );
        assert!(!log.contains('\u{1b}'), "no colour where no terminal is");
        assert!(!dir.path().join("api.sock").exists());
    }
}

#[test]
fn a_restarted_node_remembers_its_name_its_balance_and_its_thoughts() {
    let node = Node::start(&["--name", "legion"]);
    let answer = json(&node.ask(&["submit", QUALITY, "--json"]));
    let before = node.lines(&["authors"]);
    node.signal("KILL");
    let (_, _, _, dir) = node.ended();
    let again = Node::start_in(dir, &["--name", "other"]);
    assert_eq!(again.lines(&["authors"]), before);
    assert_eq!(before[0]["balance_uatp"], answer["balance_uatp"]);
    assert_eq!(json(&again.ask(&["status", "--json"]))["node"]["name"].as_str(), Some("legion"));
    assert_eq!(again.lines(&["thoughts"]).len(), 1);
}

#[test]
fn an_interactive_node_obeys_its_input_and_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let start = ["start", "--no-mdns", "--interactive", "--data-dir", dir.path().to_str().unwrap()];
    let input = format!("submit {QUALITY}\n\nfr\u{1b}obnicate\nmetrics\nstatus\npeers\nhelp\n");
    let output = run_with_input(&start, input.as_bytes());
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    for part in ["accepted: ", "entries_genesis_own", "listens on", "no peer is linked", "submit TEXT"] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    assert!(err(&output).contains(r"unknown command `fr\u{1b}obnicate`"), "{}", err(&output));
    let quit = run_with_input(&start, b"quit\nsubmit never\n");
    assert_eq!((code(&quit), out(&quit).as_str()), (0, ""));
}

#[test]
fn the_log_can_be_json_lines() {
    let node = Node::start(&["--log-format", "json"]);
    node.signal("TERM");
    let (exit, _, log, _) = node.ended();
    assert_eq!(exit, 0);
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
    assert!(log.contains(r#""message":"listens""#), "{log}");
}

#[test]
fn two_peers_say_of_each_other_that_they_are_in_step() {
    let legion = Node::start(&["--name", "legion"]);
    let thor = Node::start(&["--name", "thor", "--peer", &legion.address]);
    assert_eq!(code(&thor.ask(&["submit", QUALITY])), 0);
    let id = json(&thor.ask(&["id", "--json"]))["id"].as_str().unwrap().to_owned();
    let peers = legion.wait_for(&["peers"], |peers| {
        let step = peers.iter().find(|peer| peer["verified"] == true).map(|peer| &peer["step"]);
        step.is_some_and(|step| {
            let told = step["acknowledged"].as_array().unwrap();
            step["identical_since_ms"].is_u64()
                && told.iter().any(|head| head["author"] == id.as_str() && head["seq"] == 1)
        })
    });
    let step = &peers[0]["step"];
    assert_eq!((step["missing_here"].as_u64(), step["missing_there"].as_u64()), (Some(0), Some(0)));
    assert!(out(&legion.ask(&["peers"])).contains("since 20"), "{}", out(&legion.ask(&["peers"])));
    assert_eq!(json(&legion.ask(&["status", "--json"]))["counters"]["lost_thoughts"], 0);
}

#[test]
fn only_a_convicted_author_can_be_cleared() {
    let node = Node::start(&["--name", "legion"]);
    let cleared = node.ask(&["authors", "--clear", "legion", "--json"]);
    assert_eq!((code(&cleared), json(&cleared)["was_convicted"].as_bool()), (0, Some(false)));
    assert!(out(&node.ask(&["authors", "--clear", "legion"])).contains("nothing has changed"));
    assert_fails(&node.ask(&["authors", "--clear", "nobody"]), 1, &["nobody", "cogmesh authors"]);
}
