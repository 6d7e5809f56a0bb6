//! One key, two histories, with real processes: an operator runs a copy of a data directory and tells it not to ask anybody.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::lab::{Lab, Node, wait_until};

/// From the link between the two that were lied to, until both have cut the log.
const CUT_MAX: Duration = Duration::from_secs(2);

fn thought(number: u8) -> String {
    format!(
        "Observation tag{} compares measured latency against predicted budgets, noticing where careful batching preserves \
         ordering while federated machines continue sharing evidence",
        char::from(b'a' + number)
    )
}

fn submit(node: &Node, number: u8) {
    let output = node.cli(&["submit", &thought(number)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn author(node: &Node, name: &str) -> Option<Value> {
    let authors = node.get("/v1/authors")?;
    authors["authors"].as_array().unwrap().iter().find(|author| author["name"] == name).cloned()
}

fn seq(node: &Node, name: &str) -> Option<u64> {
    author(node, name)?["seq"].as_u64()
}

/// State, last entry, balance and digest: what all must agree on.
fn end(node: &Node) -> Option<(String, u64, i64, String)> {
    let author = author(node, "forger")?;
    Some((
        author["state"].as_str()?.to_owned(),
        author["seq"].as_u64()?,
        author["balance_uatp"].as_i64()?,
        author["digest"].as_str()?.to_owned(),
    ))
}

fn copy_dir(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn two_histories_of_one_key_end_at_the_same_entry_on_every_node_and_an_operator_can_clear_it() {
    let Some(lab) = Lab::start(&["--hosts", "forger,legion,copy,thor,late"]) else { return };
    lab.lan(&["split", "forger,legion", "copy,thor,late"]);
    let (legion, mut forger, thor) = (lab.node("legion"), lab.node("forger"), lab.node("thor"));
    wait_until("forger meets legion", || forger.verified() == ["legion"]);
    for number in 0..3 {
        submit(&forger, number);
    }
    wait_until("legion has what both histories share", || seq(&legion, "forger") == Some(3));
    forger.terminate();
    let data_dir = lab.dir().join("forger");
    copy_dir(&data_dir, &lab.dir().join("copy"));
    let mut forger = lab.node_in("forger", &data_dir, &[]);
    wait_until("forger is back", || forger.verified() == ["legion"]);
    submit(&forger, 3);
    submit(&forger, 4);
    wait_until("legion has one history", || seq(&legion, "forger") == Some(5));
    forger.terminate();

    let options = ["--name", "forger", "--write-without-peers"];
    let mut copy = lab.node_in("copy", &lab.dir().join("copy"), &options);
    wait_until("the copy meets thor", || copy.verified() == ["thor"]);
    submit(&copy, 5);
    wait_until("thor has the other", || seq(&thor, "forger") == Some(4));
    copy.terminate();

    lab.lan(&["heal"]);
    wait_until("legion and thor meet", || legion.verified() == ["thor"] && thor.verified() == ["legion"]);
    let linked = Instant::now();
    wait_until("both have cut the log", || {
        end(&legion).is_some_and(|end| end.0 == "forked") && end(&legion) == end(&thor)
    });
    let took = linked.elapsed();
    println!("cut {} ms after the link", took.as_millis());
    assert!(took < CUT_MAX, "{took:?}");
    assert_eq!(end(&legion).unwrap().1, 3, "what both histories share is left");
    for node in [&legion, &thor] {
        let fault = author(node, "forger").unwrap()["fault"].clone();
        assert_eq!((fault["kind"].as_str(), fault["seq"].as_u64()), (Some("fork"), Some(4)));
        let alerts = node.get("/v1/alerts").unwrap();
        let alert =
            alerts["alerts"].as_array().unwrap().iter().find(|alert| alert["name"] == "fork").cloned();
        let about = alert.unwrap()["about"].as_str().unwrap().to_owned();
        let both = fault["hashes"].as_array().unwrap();
        assert!(both.iter().all(|hash| about.contains(hash.as_str().unwrap())), "{about}: {both:?}");
    }

    let late = lab.node("late");
    wait_until("who comes later has the same", || end(&late).is_some() && end(&late) == end(&thor));
    assert!(late.verified().contains(&"legion".to_owned()));

    let mut back = lab.node_in("forger", &data_dir, &[]);
    wait_until("the forger hears that it is refused, and why", || {
        back.get("/v1/status").is_some_and(|status| {
            status["counters"]["refused_by_peer_forked"].as_u64().is_some_and(|count| count > 0)
        })
    });
    back.terminate();

    let cleared = thor.cli(&["authors", "--clear", "forger"]);
    assert!(cleared.status.success() && String::from_utf8_lossy(&cleared.stdout).contains("is taken again"));
    assert_eq!(end(&thor).unwrap().0, "ok");
    assert_eq!(end(&legion).unwrap().0, "forked", "each node's operator decides for that node");
}
