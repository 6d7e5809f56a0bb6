//! A closed federation on a lab's hosts, made and joined by the commands that people use.

use std::path::PathBuf;

use serde_json::Value;

use super::{
    lab::{Lab, Node, cogmesh, wait_until},
    load::{POLICY, are_meshed},
};

/// Legion founded it, and holds the CA's key.
pub(crate) struct Closed {
    pub(crate) lab: Lab,
    pub(crate) policy: String,
    name: &'static str,
}

impl Closed {
    pub(crate) fn found(lab: Lab, name: &'static str) -> Self {
        let policy = lab.policy(POLICY);
        let federation = Self { lab, policy, name };
        let words = ["federation", "create", name, "--no-passphrase", "--policy", &federation.policy];
        federation.run("legion", &words);
        federation
    }

    pub(crate) fn data_dir(&self, host: &str) -> PathBuf {
        self.lab.dir().join(host)
    }

    /// A command on a host's data directory.
    pub(crate) fn run(&self, host: &str, words: &[&str]) -> Value {
        let data_dir = self.data_dir(host);
        let words = [words, &["--json", "--data-dir", data_dir.to_str().unwrap()]].concat();
        let output = self.lab.run(host, cogmesh(), &words);
        assert!(output.status.success(), "{host}: {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn start(&self, host: &str, options: &[&str]) -> Node {
        let options = [&["--policy", &self.policy, "--max-thoughts", "1000000"], options].concat();
        self.lab.node_in(host, &self.data_dir(host), &options)
    }

    /// Makes that host a member. Returns the ticket that did it.
    pub(crate) fn join(&self, legion: &Node, host: &str) -> String {
        legion.status();
        let invited = legion.cli(&["invite", "--json"]);
        assert!(invited.status.success(), "{}", String::from_utf8_lossy(&invited.stderr));
        let invited: Value = serde_json::from_slice(&invited.stdout).unwrap();
        let ticket = invited["ticket"].as_str().unwrap();
        let joined = self.run(host, &["join", ticket, "--policy", &self.policy]);
        assert_eq!(joined["federation"], self.name);
        ticket.to_owned()
    }

    /// The founder, with those options, and members on those hosts; all linked.
    pub(crate) fn linked(&self, members: &[&str], founders_options: &[&str]) -> Vec<Node> {
        let legion = self.start("legion", founders_options);
        for host in members {
            self.join(&legion, host);
        }
        let others = members.iter().map(|host| self.start(host, &[]));
        let nodes: Vec<Node> = std::iter::once(legion).chain(others).collect();
        wait_until("members meet", || are_meshed(&nodes.iter().collect::<Vec<_>>()));
        nodes
    }
}
