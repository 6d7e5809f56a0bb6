//! Many thoughts in little time: several submitters at once, over the local API.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::{Value, json};

use super::lab::{Lab, Node, wait_until};

/// Rules under which a node takes whatever comes, as fast as it can.
pub(crate) const POLICY: &str =
    "pow_bits = 4\nrate_base = 1_000_000\npenalty_quality = 0\npenalty_spam = 0\nduplicate_window = 0\n";
/// Requests at a time: so many share a commit.
const SUBMITTERS: usize = 16;

/// A thought that a node has acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Acked {
    pub(crate) seq: u64,
    pub(crate) content: String,
}

/// Another thought each time and on each host.
pub(crate) fn content(host: &str, number: usize) -> String {
    let word: String = number.to_string().bytes().map(|digit| char::from(b'a' + digit - b'0')).collect();
    format!(
        "Observation tag{host}{word} compares measured latency against predicted budgets, noticing where careful batching \
         preserves ordering while federated machines continue sharing evidence"
    )
}

/// Submits a thought until there is an answer.
pub(crate) fn submit(node: &Node, number: usize) -> Acked {
    let content = content(&node.host, number);
    let body = json!({ "content": content, "key": format!("{}-{number}", node.host) });
    let mut acked = None;
    wait_until(&format!("{} records thought {number}", node.host), || {
        let Some((code, answer)) = node.post("/v1/thoughts", &body) else { return false };
        assert!(code == 200 || code == 503, "{code}: {answer}");
        acked = answer["seq"].as_u64();
        code == 200
    });
    Acked { seq: acked.unwrap(), content }
}

/// Lets each node write so many thoughts, all at once.
pub(crate) fn write(nodes: &[&Node], first: usize, each: usize) {
    thread::scope(|scope| {
        for node in nodes {
            let next = std::sync::Arc::new(AtomicUsize::new(first));
            for _ in 0..SUBMITTERS {
                let next = std::sync::Arc::clone(&next);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= first + each {
                            break;
                        }
                        submit(node, number);
                    }
                });
            }
        }
    });
}

/// Nodes on those hosts, under those rules and with those options.
pub(crate) fn start(lab: &Lab, hosts: &[&str], options: &[&str]) -> Vec<Node> {
    hosts.iter().map(|host| lab.node_in(host, &lab.dir().join(host), options)).collect()
}

/// Whether each lists all others as verified.
pub(crate) fn are_meshed(nodes: &[&Node]) -> bool {
    nodes.iter().all(|node| {
        let mut others: Vec<&str> =
            nodes.iter().map(|other| other.host.as_str()).filter(|other| *other != node.host).collect();
        others.sort_unstable();
        node.verified() == others
    })
}

/// Whether all have the same seq, hash, balance and digest of each author, and of so many.
pub(crate) fn are_even(nodes: &[&Node], authors: usize) -> bool {
    let books: Vec<Vec<Value>> = nodes.iter().map(|node| node.books()).collect();
    books[0].len() == authors && books.windows(2).all(|pair| pair[0] == pair[1])
}

/// The last entry that a node holds of that author.
pub(crate) fn seq_of(node: &Node, author: &str) -> Option<u64> {
    let status = node.get("/v1/status")?;
    let authors = status["authors"].as_array()?.clone();
    authors.iter().find(|known| known["name"] == author)?["seq"].as_u64()
}
