//! The network of this machine, as a node would meet it: sockets, ports, interfaces, multicast. Nothing is sent.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
};

use tokio::task::spawn_blocking;

use super::{About, Check};
use crate::{
    api::{
        ApiListen,
        socket::ApiError,
        tcp::{self, API_PORT_FIRST, API_PORT_LAST},
    },
    net::{
        BUFFER_BYTES, Room, SocketError, batch_datagrams,
        discovery::{Family, Lan, Lans, Obstacle},
        free_port,
    },
    node::{
        Config, Listen,
        config::{PORT_FIRST, PORT_LAST},
    },
};

/// What the system gives UDP sockets.
pub(super) fn sockets() -> Vec<Check> {
    [Room::look().map(buffers), batch_datagrams().map(batches)].into_iter().map(or_no_socket).collect()
}

/// Whether the UDP port could be had, where no node has it yet. An interface that is not there is told where interfaces are.
pub(super) fn udp_port(config: &Config) -> Option<Check> {
    match free_port(&config.listen.sockets(), config.port) {
        Err(SocketError::NoInterface { .. }) => None,
        tried => Some(port(config.port, tried)),
    }
}

/// Where the running node listens, against the port that is configured.
pub(super) fn listening(listen: &[String], configured: Option<u16>) -> Check {
    let about = About::new("udp_port", listen.join(", "));
    let ports = || listen.iter().filter_map(|address| address.parse::<SocketAddr>().ok()).map(|at| at.port());
    match configured {
        Some(configured) if !ports().any(|port| port == configured) => about.hint(
            format!("the running node listens there, and not on port {configured}, which is configured"),
            "start it again with that port, where it should have it",
        ),
        Some(_) | None => about.ok("the running node listens there"),
    }
}

/// Whether the local API could have its port, where no node has it yet.
pub(super) async fn api(listen: ApiListen) -> Check {
    api_port(listen, tcp::open(listen).await.map(|port| port.address()))
}

/// Where the local API of the running node is.
pub(super) fn api_of(address: Option<&str>, listen: ApiListen) -> Check {
    match (address, listen) {
        (Some(address), _) => About::new("api", address).ok("the running node answers there"),
        (None, ApiListen::Off) => off(),
        (None, ApiListen::Anywhere | ApiListen::At(_)) => About::new("api", "tcp").hint(
            "the running node answers on the Unix socket in its data directory only",
            "where programs and browsers should reach it, free a port (`ss -ltnp`) or name one with `--api`, and start it again",
        ),
    }
}

/// Interfaces that a node would use, and, unless that is switched off, whether multicast works on each.
pub(super) fn interfaces(config: &Config) -> Vec<Check> {
    let lans = match Lans::look(&config.listen.interfaces()) {
        Ok(lans) => lans,
        Err(error) => {
            return vec![
                About::of_all("interface").fails(&error.into(), "see what `ip -brief address` says"),
            ];
        }
    };
    let mut checks: Vec<Check> = lans.used.iter().map(|lan| up(lan.name(), &lan.addresses())).collect();
    checks.extend(left_out(&lans, config));
    if config.mdns {
        checks.extend(lans.used.iter().map(multicast));
    }
    checks
}

/// Whether what is said on each of these interfaces is heard there; all are tried at once.
pub(super) async fn echoes(config: &Config) -> Vec<Check> {
    // Where the system does not tell them, that was told already.
    let Ok(lans) = Lans::look(&config.listen.interfaces()) else { return vec![] };
    let asked: Vec<_> =
        lans.used.into_iter().map(|lan| (lan.name().to_owned(), tokio::spawn(heard_on(lan)))).collect();
    let mut checks = vec![];
    for (name, asked) in asked {
        checks.extend(asked.await.map(|heard| echo(&name, heard)).unwrap_or_default());
    }
    checks
}

/// What became of a question in each version of the Internet protocol.
type Echoes = Vec<(Family, Result<(), Obstacle>)>;

async fn heard_on(lan: Lan) -> Echoes {
    let asked: Vec<_> = lan
        .families()
        .into_iter()
        .map(|family| {
            let lan = lan.clone();
            (family, spawn_blocking(move || lan.echo(family)))
        })
        .collect();
    let mut heard = vec![];
    for (family, asked) in asked {
        heard.extend(asked.await.ok().map(|answer| (family, answer)));
    }
    heard
}

/// One version that carries multicast is enough to be found.
fn echo(name: &str, heard: Echoes) -> Vec<Check> {
    let is_enough = heard.iter().any(|(_, answer)| answer.is_ok());
    let each = heard.into_iter().map(|(family, answer)| {
        let about = About::new("multicast_echo", format!("{name} {family}"));
        match answer {
            Ok(()) => about.ok("this machine hears what it says there"),
            Err(obstacle) if is_enough => about.hint(obstacle.found, obstacle.remedy),
            Err(obstacle) => about.wrong(obstacle.found, obstacle.remedy),
        }
    });
    each.collect()
}

fn or_no_socket(looked: io::Result<Check>) -> Check {
    let about = || About::of_all("udp_buffers");
    looked.unwrap_or_else(|error| {
        about().wrong(
            format!("the system gives no UDP socket: {error}"),
            "see how many files may be open (`ulimit -n`)",
        )
    })
}

fn buffers(room: Room) -> Check {
    let about = About::of_all("udp_buffers");
    match room.lack() {
        Some((found, remedy)) => about.hint(found, remedy),
        None => about
            .ok(format!("the system gives UDP sockets the {} KiB that are asked for", BUFFER_BYTES >> 10)),
    }
}

fn batches(datagrams: usize) -> Check {
    let about = About::of_all("segmentation");
    match datagrams {
        0 | 1 => about.hint(
            "the system takes UDP datagrams one by one (no segmentation offload), which costs processor time",
            "nothing needs to be done for it to work; Linux 4.18 or newer takes many at once, some containers don't let it",
        ),
        many => about.ok(format!("the system takes up to {many} UDP datagrams at once")),
    }
}

fn port(configured: Option<u16>, tried: Result<u16, SocketError>) -> Check {
    let about = match configured {
        Some(port) => About::new("udp_port", port.to_string()),
        None => About::new("udp_port", format!("{PORT_FIRST} to {PORT_LAST}")),
    };
    match tried {
        Ok(port) if configured.is_some() || port == PORT_FIRST => about.ok(format!("port {port} is free")),
        Ok(port) => about.ok(format!("port {port} is the first free one")),
        Err(SocketError::PortTaken { port }) => about.wrong(
            format!("UDP port {port} is taken"),
            format!("`ss -ulpn sport = :{port}` names what uses it: end that, or choose another port with `--port`"),
        ),
        Err(SocketError::PortsTaken) => about.wrong(
            "every one of these UDP ports is taken",
            "`ss -ulpn` names what uses them; choose another port with `--port`",
        ),
        Err(error @ SocketError::NoInterface { .. }) => about.fails(&error.into(), "`ip -brief link` lists the interfaces of this machine"),
        Err(SocketError::Io { place, source }) => {
            let remedy = if source.kind() == ErrorKind::PermissionDenied {
                "a port below 1024 may need root; choose another with `--port`"
            } else {
                "choose another port with `--port`, or other interfaces with `--interface`"
            };
            about.wrong(format!("a node can't listen on {place}: {source}"), remedy)
        }
    }
}

fn api_port(listen: ApiListen, opened: Result<Option<SocketAddr>, ApiError>) -> Check {
    let subject = match listen {
        ApiListen::Off => return off(),
        ApiListen::At(address) => address.to_string(),
        ApiListen::Anywhere => format!("127.0.0.1, ports {API_PORT_FIRST} to {API_PORT_LAST}"),
    };
    let about = About::new("api", subject);
    match opened {
        Ok(Some(address)) => about.ok(format!("port {} is free", address.port())),
        Ok(None) => about.hint(
            "no port is free there, so a node would answer on the Unix socket in its data directory only",
            "`ss -ltnp` shows who listens there; `--api` names another address, or `off`",
        ),
        Err(error) => about.fails(&error.into(), "`--api` names another address, or `off`"),
    }
}

fn off() -> Check {
    About::new("api", "tcp")
        .ok("it is switched off; the Unix socket in the data directory is there for the command line")
}

fn up(name: &str, addresses: &[IpAddr]) -> Check {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    About::new("interface", name).ok(format!("it is up with {}", addresses.join(", ")))
}

/// What was named and can't be used, or that there is none at all.
fn left_out(lans: &Lans, config: &Config) -> Vec<Check> {
    let used = |name: &String| lans.used.iter().any(|lan| lan.name() == name);
    match &config.listen {
        Listen::Interfaces(names) => {
            let unused = names.iter().filter(|name| !used(name));
            unused.map(|name| not_usable(name, lans.left_out.get(name).copied())).collect()
        }
        Listen::Everywhere | Listen::Loopback | Listen::At(_) if lans.used.is_empty() => {
            vec![no_lan(lans, config)]
        }
        Listen::Everywhere | Listen::Loopback | Listen::At(_) => vec![],
    }
}

fn not_usable(name: &str, why: Option<&str>) -> Check {
    let about = About::new("interface", name);
    match why {
        Some("down") => about.wrong(
            "it is down",
            format!("`ip link set {name} up`; then its cable, or the network that it should be in"),
        ),
        Some("without an address") => about.wrong(
            "it has no address",
            format!("see what DHCP says, or give it one: `ip address add ADDRESS/BITS dev {name}`"),
        ),
        Some("point-to-point") => about.hint(
            "it is point-to-point, so nothing is announced over it",
            "name the peers behind it with `--peer HOST:PORT`",
        ),
        Some(why) => about.wrong(format!("it can't be used: {why}"), "name another one with `--interface`"),
        None => about
            .wrong("there is no such interface", "`ip -brief address` lists the interfaces of this machine"),
    }
}

fn no_lan(lans: &Lans, config: &Config) -> Check {
    let why: Vec<String> = lans.left_out.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
    let found = format!("no interface leads to a LAN{why}");
    let remedy = "connect this machine to one, or name interfaces to use all the same with `--interface`; `ip -brief address` lists them";
    let about = About::of_all("interface");
    // Without mDNS, or with peers that are named, a VPN may be all that is wanted.
    if config.mdns && config.peers.is_empty() {
        about.wrong(found, remedy)
    } else {
        about.hint(found, remedy)
    }
}

fn multicast(lan: &Lan) -> Check {
    let about = About::new("multicast", lan.name());
    match lan.join_and_leave() {
        Ok(()) => {
            about.ok("the group of mDNS can be joined; whether the LAN carries it, another node on it shows")
        }
        Err(obstacle) => about.wrong(obstacle.found, obstacle.remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn a_port_that_is_taken_is_wrong_with_how_to_find_who_has_it() {
        assert_eq!(port(None, Ok(PORT_FIRST)).state, State::Ok);
        let later = port(None, Ok(8_890));
        assert!(later.state == State::Ok && later.found.contains("8890"), "{later:?}");
        let check = port(Some(9_000), Err(SocketError::PortTaken { port: 9_000 }));
        assert!(
            check.state == State::Wrong && check.remedy.as_ref().unwrap().contains("sport = :9000"),
            "{check:?}"
        );
        assert_eq!(port(None, Err(SocketError::PortsTaken)).state, State::Wrong);
        let denied =
            SocketError::Io { place: "any address".to_owned(), source: ErrorKind::PermissionDenied.into() };
        assert!(port(Some(443), Err(denied)).remedy.unwrap().contains("root"));
    }

    #[test]
    fn a_node_that_listens_elsewhere_than_configured_is_told() {
        let listen = ["[::]:8888".to_owned()];
        assert_eq!(listening(&listen, None).state, State::Ok);
        assert_eq!(listening(&listen, Some(8_888)).state, State::Ok);
        assert_eq!(listening(&listen, Some(9_000)).state, State::Hint);
    }

    #[test]
    fn an_api_without_a_port_is_wrong_only_where_one_was_named() {
        let address: SocketAddr = "127.0.0.1:8880".parse().unwrap();
        let taken = || ApiError::Tcp { address, source: ErrorKind::AddrInUse.into() };
        assert_eq!(api_port(ApiListen::At(address), Err(taken())).state, State::Wrong);
        assert_eq!(api_port(ApiListen::Anywhere, Ok(None)).state, State::Hint);
        assert_eq!(api_port(ApiListen::Anywhere, Ok(Some(address))).state, State::Ok);
        assert_eq!(api_port(ApiListen::Off, Ok(None)).state, State::Ok);
        assert_eq!(api_of(None, ApiListen::Anywhere).state, State::Hint);
        assert_eq!(api_of(None, ApiListen::Off).state, State::Ok);
    }

    #[test]
    fn little_room_and_single_datagrams_are_hints() {
        assert_eq!(buffers(Room::default()).state, State::Ok);
        let check = buffers(Room { receive: Some(208 << 10), send: None });
        assert!(check.state == State::Hint && check.remedy.unwrap().contains("net.core.rmem_max"));
        assert_eq!((batches(1).state, batches(64).state), (State::Hint, State::Ok));
    }

    #[test]
    fn an_echo_over_one_version_of_the_protocol_is_enough() {
        let silent = || Err(Obstacle::silence("eth0", "it does not come back".to_owned()));
        let states = |heard: Echoes| echo("eth0", heard).iter().map(|check| check.state).collect::<Vec<_>>();
        assert_eq!(states(vec![(Family::V4, Ok(())), (Family::V6, silent())]), [State::Ok, State::Hint]);
        assert_eq!(
            states(vec![(Family::V4, silent()), (Family::V6, silent())]),
            [State::Wrong, State::Wrong]
        );
        assert_eq!(echo("eth0", vec![(Family::V6, Ok(()))])[0].subject, "eth0 IPv6");
    }

    #[test]
    fn an_interface_that_was_named_and_can_not_be_used_says_why() {
        assert!(not_usable("eth1", Some("down")).remedy.unwrap().contains("ip link set eth1 up"));
        assert_eq!(not_usable("wg0", Some("point-to-point")).state, State::Hint);
        assert_eq!(not_usable("eth9", None).state, State::Wrong);
    }
}
