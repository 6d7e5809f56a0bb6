//! How soon this machine's own changes are noticed: on a pair of interfaces in the network namespace of this test run.

use std::{
    env,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use cogmesh::net::discovery::{Discovery, DiscoveryConfig, Found, Interfaces};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::common::{FEDERATION, PATIENCE, identity};

/// A look comes every second by itself: what is seen this soon was told of. The kernel itself may hold back the loss of a
/// carrier for a second, but not its return.
const AT_ONCE: Duration = Duration::from_millis(250);

/// Runs these commands of `ip` in one process, so that nothing comes between them.
fn ip(commands: &str) -> bool {
    let child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    child.wait().unwrap().success()
}

/// Whether there is a cable between two interfaces, the first of which has an address. Says so where there is not.
fn cable(one: &str, other: &str) -> bool {
    let inside = env::var_os("COGMESH_NETNS").is_some_and(|value| value == "1");
    // Without IPv6 addresses, which come and go by themselves.
    let is_there = inside
        && ip(&format!(
            "link add {one} type veth peer name {other}\n\
             link set {one} addrgenmode none\n\
             address add 10.99.0.1/24 dev {one}\n\
             link set {other} up\n\
             link set {one} up\n"
        ));
    if !is_there {
        assert!(env::var_os("CI").is_none(), "this must run in CI");
        let said = "\nSKIPPED: no network namespace of our own, or no `ip` (iproute2)\n\n";
        std::io::stderr().lock().write_all(said.as_bytes()).unwrap();
    }
    is_there
}

fn watch(interface: &str) -> (Discovery, mpsc::Receiver<Found>) {
    let (found, inbox) = mpsc::channel(16);
    let config = DiscoveryConfig {
        id: identity(1).node_id(),
        name: "legion".parse().unwrap(),
        federation: FEDERATION,
        port: 1,
        interfaces: Interfaces::Named(vec![interface.to_owned()]),
        mdns: false,
    };
    (Discovery::start(config, found), inbox)
}

/// Waits until nothing has changed for so long that what was done before has been seen.
async fn quiet(inbox: &mut mpsc::Receiver<Found>) {
    while timeout(Duration::from_millis(1_500), inbox.recv()).await.is_ok() {}
}

/// How long it takes until the change is told.
async fn told(inbox: &mut mpsc::Receiver<Found>, commands: &str) -> Duration {
    assert!(ip(commands), "{commands}");
    let done = Instant::now();
    let changed = async { while inbox.recv().await.expect("discovery runs") != Found::NetworkChanged {} };
    timeout(PATIENCE, changed).await.expect("the change is told");
    done.elapsed()
}

#[tokio::test]
async fn an_address_that_comes_or_goes_is_seen_at_once() {
    if !cable("comes0", "comes1") {
        return;
    }
    let (_discovery, mut inbox) = watch("comes0");
    quiet(&mut inbox).await;
    for change in ["add", "del"] {
        let took = told(&mut inbox, &format!("address {change} 10.99.0.2/24 dev comes0\n")).await;
        assert!(took < AT_ONCE, "{change}: {took:?}");
        quiet(&mut inbox).await;
    }
}

#[tokio::test]
async fn a_cable_that_is_pulled_and_put_back_is_seen_though_every_address_is_as_it_was() {
    if !cable("pulled0", "pulled1") {
        return;
    }
    let (_discovery, mut inbox) = watch("pulled0");
    quiet(&mut inbox).await;
    let took = told(&mut inbox, "link set pulled1 down\nlink set pulled1 up\n").await;
    assert!(took < AT_ONCE, "{took:?}");
}
