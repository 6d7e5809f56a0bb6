//! Dialling: all candidate addresses of a node side by side, a little apart; the first that answers wins.
//! Source: protocol.md, Discovery (after RFC 8305, "happy eyeballs").

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    connection::{Side, run, sentence},
    event::NetEvent,
    links::Shared,
    tls,
};
use crate::{
    log::NodeId,
    protocol::input::{Address, Dial},
};

/// Most addresses that are tried for one attempt.
const CANDIDATES_MAX: usize = 16;
/// A try that stays silent is joined by a fresh one at the same address after this; whichever is answered first wins. QUIC
/// sends again after 0.3, 0.9, 2.1 and 4.5 s: alone that is too seldom for a network that begins to work meanwhile.
const FRESH_AFTER: Duration = Duration::from_secs(2);
/// TLS wants a name for the other side; ours has none but its key, and it is not sent.
const NO_NAME: &str = "cogmesh";

/// What a dial needs of its endpoint.
#[derive(Clone, Debug)]
pub(super) struct Dialler {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoints: Arc<[quinn::Endpoint]>,
    pub(super) transport: Arc<quinn::TransportConfig>,
}

/// One address through one socket.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    address: SocketAddr,
    through: usize,
}

/// A connection that stands, and whose it is; or which address failed, and why.
type Tried = Result<(quinn::Connection, NodeId), (SocketAddr, String)>;

/// The state of one attempt.
struct Race {
    dialler: Dialler,
    expect: Option<NodeId>,
    names: JoinSet<(String, io::Result<Vec<SocketAddr>>)>,
    waiting: VecDeque<Candidate>,
    /// Those that were started, and when they are tried afresh, in this order.
    silent: VecDeque<(Instant, Candidate)>,
    tries: JoinSet<Tried>,
    /// Those that have not come back yet.
    under_way: Vec<SocketAddr>,
    started: usize,
    faults: Vec<String>,
}

impl Dialler {
    /// Dials, and attends to the connection that comes of it.
    pub(super) async fn dial(self, dial: Dial) {
        let shared = Arc::clone(&self.shared);
        let Dial { attempt, expect, addresses } = dial;
        let raced = tokio::select! {
            raced = Race::new(self, expect).run(addresses) => raced,
            () = shared.closing.cancelled() => Err("the node is stopping".to_owned()),
        };
        match raced {
            Ok((connection, node)) => run(shared, connection, node, Side::Dialler(attempt)).await,
            Err(why) => drop(shared.tell(NetEvent::DialFailed { attempt, why }).await),
        }
    }
}

impl Race {
    fn new(dialler: Dialler, expect: Option<NodeId>) -> Self {
        Self {
            dialler,
            expect,
            names: JoinSet::new(),
            waiting: VecDeque::new(),
            silent: VecDeque::new(),
            tries: JoinSet::new(),
            under_way: vec![],
            started: 0,
            faults: vec![],
        }
    }

    async fn run(mut self, addresses: Vec<Address>) -> Result<(quinn::Connection, NodeId), String> {
        let timing = self.dialler.shared.timing;
        let deadline = Instant::now() + timing.handshake;
        for address in addresses.into_iter().take(CANDIDATES_MAX) {
            match address {
                Address::Socket(address) => self.add(address),
                Address::Name(name) => drop(self.names.spawn(resolve(name))),
            }
        }
        let mut next = Instant::now();
        while !(self.waiting.is_empty() && self.names.is_empty() && self.tries.is_empty()) {
            // Not by the timer, which counts in whole milliseconds: the first try would wait for as long as a handshake takes.
            if !self.waiting.is_empty() && next <= Instant::now() {
                self.start();
                next = Instant::now() + timing.stagger;
            }
            let fresh = self.silent.front().map(|(at, _)| *at);
            let step = async {
                tokio::select! {
                    Some(resolved) = self.names.join_next() => Step::Resolved(resolved.ok()),
                    Some(tried) = self.tries.join_next() => Step::Tried(tried.ok()),
                    () = sleep_until(next), if !self.waiting.is_empty() => Step::Next,
                    () = sleep_until(fresh.unwrap_or(deadline)), if fresh.is_some() => Step::Afresh,
                }
            };
            match timeout_at(deadline, step).await {
                Ok(Step::Resolved(resolved)) => self.resolved(resolved),
                Ok(Step::Tried(Some(Ok(won)))) => return Ok(won),
                Ok(Step::Tried(Some(Err((address, why))))) => {
                    self.failed(address, &why);
                    // Nothing to wait for: the next one may start at once.
                    next = Instant::now();
                }
                Ok(Step::Tried(None)) => self.faults.push("a try failed without a word".to_owned()),
                Ok(Step::Next) => {
                    self.start();
                    next = Instant::now() + timing.stagger;
                }
                Ok(Step::Afresh) => {
                    if let Some((_, candidate)) = self.silent.pop_front() {
                        self.start_try(candidate);
                    }
                }
                Err(_) => break,
            }
        }
        Err(self.why())
    }

    /// Takes an address in, once for each socket that may reach it.
    fn add(&mut self, address: SocketAddr) {
        if !may_be_a_node(address) {
            self.faults.push(format!("{address}: no address that a node can have"));
            return;
        }
        for (through, endpoint) in self.dialler.endpoints.iter().enumerate() {
            let fits = endpoint.local_addr().is_ok_and(|local| local.is_ipv6() || address.is_ipv4());
            if fits {
                self.waiting.push_back(Candidate { address, through });
            }
        }
    }

    fn resolved(&mut self, resolved: Option<(String, io::Result<Vec<SocketAddr>>)>) {
        match resolved {
            Some((_, Ok(addresses))) => addresses.into_iter().for_each(|address| self.add(address)),
            Some((name, Err(error))) => {
                self.faults.push(format!("`{}`: can't be resolved ({error})", name.escape_debug()));
            }
            None => self.faults.push("a name was not resolved".to_owned()),
        }
    }

    fn start(&mut self) {
        let Some(candidate) = self.waiting.pop_front() else {
            return;
        };
        self.started += 1;
        if self.started >= CANDIDATES_MAX {
            self.waiting.clear();
        }
        self.start_try(candidate);
    }

    fn start_try(&mut self, candidate: Candidate) {
        let Some(endpoint) = self.dialler.endpoints.get(candidate.through).cloned() else {
            return;
        };
        self.under_way.push(candidate.address);
        self.silent.push_back((Instant::now() + FRESH_AFTER, candidate));
        let (dialler, expect) = (self.dialler.clone(), self.expect);
        self.tries.spawn(async move {
            let address = candidate.address;
            connect(&dialler, &endpoint, address, expect).await.map_err(|why| (address, why))
        });
    }

    fn failed(&mut self, address: SocketAddr, why: &str) {
        // It is not silent.
        self.silent.retain(|(_, candidate)| candidate.address != address);
        if let Some(place) = self.under_way.iter().position(|other| *other == address) {
            self.under_way.swap_remove(place);
        }
        self.faults.push(format!("{address}: {why}"));
    }

    /// Why nothing came of it, address by address.
    fn why(mut self) -> String {
        let patience = self.dialler.shared.timing.handshake;
        let silent = self.under_way.iter().map(|address| format!("{address}: no answer within {patience:?}"));
        self.faults.extend(silent);
        self.faults.sort();
        self.faults.dedup();
        if self.faults.is_empty() {
            return "there is no address to dial".to_owned();
        }
        self.faults.join("; ")
    }
}

enum Step {
    Resolved(Option<(String, io::Result<Vec<SocketAddr>>)>),
    Tried(Option<Tried>),
    Next,
    Afresh,
}

async fn connect(
    dialler: &Dialler,
    endpoint: &quinn::Endpoint,
    address: SocketAddr,
    expect: Option<NodeId>,
) -> Result<(quinn::Connection, NodeId), String> {
    let (crypto, found) = dialler.shared.credentials.dialling(expect).map_err(|error| error.to_string())?;
    let mut config = quinn::ClientConfig::new(crypto);
    config.transport_config(Arc::clone(&dialler.transport));
    let connecting = endpoint.connect_with(config, address, NO_NAME).map_err(|error| error.to_string())?;
    let connection = connecting
        .await
        .map_err(|error| found.get().map_or_else(|| sentence(&error), ToString::to_string))?;
    let node = tls::peer_of(&connection).map_err(|fault| fault.to_string())?;
    Ok((connection, node))
}

/// Resolves `host:port` anew; an IPv6 address in brackets may name its interface.
async fn resolve(name: String) -> (String, io::Result<Vec<SocketAddr>>) {
    let resolved = match bracketed(&name) {
        Some(host_and_port) => lookup_host(host_and_port).await.map(Iterator::collect),
        None => lookup_host(name.as_str()).await.map(Iterator::collect),
    };
    (name, resolved)
}

/// `[fe80::1%eth0]:8888` in two parts: the standard library's own parser takes no interface names.
fn bracketed(name: &str) -> Option<(&str, u16)> {
    let (host, port) = name.strip_prefix('[')?.split_once("]:")?;
    Some((host, port.parse().ok()?))
}

/// Never a group of machines, never nowhere (protocol.md, Discovery).
fn may_be_a_node(address: SocketAddr) -> bool {
    let nobody = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    };
    address.port() != 0 && !nobody
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_nowhere_are_never_dialled_and_scopes_stay() {
        for nobody in
            ["0.0.0.0:1", "224.0.0.251:5353", "255.255.255.255:9", "[::]:1", "[ff02::1]:1", "10.0.0.1:0"]
        {
            assert!(!may_be_a_node(nobody.parse().unwrap()), "{nobody}");
        }
        assert!(!may_be_a_node("[::ffff:224.0.0.1]:9".parse().unwrap()));
        assert!(may_be_a_node("[fe80::1%3]:8888".parse().unwrap()));
        assert_eq!(bracketed("[fe80::1%eth0]:8888"), Some(("fe80::1%eth0", 8888)));
        assert_eq!(bracketed("thor.local:8888"), None);
    }
}
