//! Two subnets that a router joins and multicast does not: one node that all are told of brings them together.

use super::{
    lab::{Lab, Node, measured, wait_until},
    load::{self, POLICY, are_even, content, seq_of, submit},
};

const UPPER: [&str; 2] = ["thor", "oak"];
const LOWER: [&str; 2] = ["sprout", "elm"];

/// Whether a node keeps the contents of a thought of each of these, too.
fn has_thoughts(node: &Node, authors: &[&str], number: usize) -> bool {
    let text = String::from_utf8(node.cli(&["thoughts", "--json"]).stdout).unwrap();
    authors.iter().all(|author| text.contains(&content(author, number)))
}

#[test]
fn subnets_without_multicast_between_them_share_everything_through_a_node_that_both_reach() {
    let groups = format!("{}/{}/legion", UPPER.join(","), LOWER.join(","));
    let Some(lab) = Lab::start(&["--subnets", &groups]) else { return };
    lab.lan(&["split", &UPPER.join(","), &LOWER.join(",")]);
    let policy = lab.policy(POLICY);
    let told = ["--policy", &policy, "--peer", "legion:8888"];
    let alone = ["--policy", policy.as_str()];
    let mut legion = lab.node_in("legion", &lab.dir().join("legion"), &alone);
    let upper = load::start(&lab, &UPPER, &told);
    let lower = load::start(&lab, &LOWER, &told);
    let (upper, lower): (Vec<&Node>, Vec<&Node>) = (upper.iter().collect(), lower.iter().collect());
    let (thor, sprout) = (upper[0], lower[0]);
    wait_until("each subnet is linked, and legion with all", || {
        legion.verified() == ["elm", "oak", "sprout", "thor"]
            && [thor, upper[1]].iter().all(|node| node.verified().len() == 2)
            && [sprout, lower[1]].iter().all(|node| node.verified().len() == 2)
    });
    for node in [upper.as_slice(), &lower, &[&legion]].concat() {
        submit(node, 1);
    }
    let all = ["elm", "legion", "oak", "sprout", "thor"];
    let shared = wait_until("the same books everywhere", || {
        are_even(&[upper.as_slice(), &lower, &[&legion]].concat(), all.len())
    });
    for node in [upper.as_slice(), &lower, &[&legion]].concat() {
        wait_until("every thought", || has_thoughts(node, &all, 1));
    }
    assert!(!thor.verified().contains(&"sprout".to_owned()), "they can't reach each other");

    legion.terminate();
    for node in [thor, sprout] {
        wait_until("legion is missed", || !node.verified().contains(&"legion".to_owned()));
        submit(node, 2);
    }
    wait_until("a subnet goes on", || are_even(&upper, all.len()) && are_even(&lower, all.len()));
    assert_eq!((seq_of(thor, "thor"), seq_of(sprout, "thor")), (Some(2), Some(1)), "by itself");
    assert_eq!((seq_of(thor, "sprout"), seq_of(sprout, "sprout")), (Some(1), Some(2)));

    legion = lab.node_in("legion", &lab.dir().join("legion"), &alone);
    let back = wait_until("the same books everywhere", || {
        are_even(&[upper.as_slice(), &lower, &[&legion]].concat(), all.len())
            && seq_of(&legion, "thor") == Some(2)
            && seq_of(&legion, "sprout") == Some(2)
    });
    wait_until("every thought", || has_thoughts(thor, &["sprout"], 2) && has_thoughts(sprout, &["thor"], 2));
    measured(&format!(
        "subnets: books even {shared:?} after the last thought, and {back:?} after legion's start"
    ));
}
