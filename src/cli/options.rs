//! How single values are read, wherever they were typed.

use std::net::SocketAddr;

use super::time;
use crate::{api::ApiListen, log::NodeId, node::PeerOption, store::SearchWords};

/// Most links that `--max-peers` may allow: each may hold 3 MiB, so 1,024 are 3 GiB at the very worst.
pub const PEERS_MAX_LIMIT: i64 = 1_024;
/// Fewest thoughts that `--max-thoughts` may keep: with fewer, pruning would be all that the node does.
pub const MAX_THOUGHTS_MIN: u64 = 100;
/// Fewest bytes that `--max-bytes` may keep: some dozens of the longest contents.
pub const MAX_BYTES_MIN: u64 = 1 << 20;
/// Most MiB that `--disk-min` may ask for: no disk is larger than an exbibyte.
pub const DISK_MIN_MIB_LIMIT: u64 = 1 << 40;
/// Longest name of a network interface that Linux knows.
const INTERFACE_BYTES_MAX: usize = 15;
/// Longest key of a submission.
const KEY_BYTES_MAX: usize = 128;
/// Longest host name of the domain name system.
const HOST_BYTES_MAX: usize = 253;

/// A peer: `[NODEID@]HOST:PORT`, an IPv6 address in brackets.
///
/// # Errors
/// What is wrong with it.
pub fn peer(text: &str) -> Result<PeerOption, String> {
    let (node, address) = match text.rsplit_once('@') {
        Some((id, address)) => (Some(id.parse::<NodeId>().map_err(|fault| fault.to_string())?), address),
        None => (None, text),
    };
    let (host, port) =
        address.rsplit_once(':').ok_or("a peer is `HOST:PORT` or `NODEID@HOST:PORT`; the port is missing")?;
    match port.parse::<u16>() {
        Ok(1..) => {}
        Ok(0) | Err(_) => return Err("a port is a number from 1 to 65535".to_owned()),
    }
    let bare = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or("the bracket around the IPv6 address is not closed")?,
        None if host.contains(':') => {
            return Err(format!("an IPv6 address stands in brackets: `[{host}]:{port}`"));
        }
        None => host,
    };
    let fits = (1..=HOST_BYTES_MAX).contains(&bare.len());
    if !fits || bare.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("the host is a name or an address".to_owned());
    }
    Ok(PeerOption { node, address: address.to_owned() })
}

/// Where the local API is on TCP: a loopback address with a port, or `off`.
///
/// # Errors
/// What is wrong with it.
pub fn api(text: &str) -> Result<ApiListen, String> {
    if text == "off" {
        return Ok(ApiListen::Off);
    }
    let address: SocketAddr = text.parse().map_err(
        |_| "the API's address is `ADDRESS:PORT`, such as `127.0.0.1:8880` or `[::1]:8880`, or `off`",
    )?;
    if !address.ip().is_loopback() {
        return Err("the API speaks plain HTTP, so it listens on loopback addresses only; reach it from elsewhere through ssh".to_owned());
    }
    Ok(ApiListen::At(address))
}

/// The name of a network interface; whether there is such a one shows when the node starts.
///
/// # Errors
/// What is wrong with it.
pub fn interface(text: &str) -> Result<String, String> {
    let fits = (1..=INTERFACE_BYTES_MAX).contains(&text.len());
    if fits && text.chars().all(|c| c.is_ascii_graphic() && c != '/') {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "an interface's name has 1 to {INTERFACE_BYTES_MAX} letters, digits and signs, such as `eth0`"
        ))
    }
}

/// The key of a submission.
///
/// # Errors
/// What is wrong with it.
pub fn key(text: &str) -> Result<String, String> {
    match text.len() {
        1..=KEY_BYTES_MAX => Ok(text.to_owned()),
        bytes => Err(format!("a submission key has 1 to {KEY_BYTES_MAX} bytes, not {bytes}")),
    }
}

/// Words to search for, as they were typed.
///
/// # Errors
/// What is wrong with them.
pub fn search(text: &str) -> Result<String, String> {
    text.parse::<SearchWords>().map(|_| text.to_owned()).map_err(|fault| fault.to_string())
}

/// A time, as milliseconds since the Unix epoch.
///
/// # Errors
/// What is wrong with it.
pub fn since(text: &str) -> Result<u64, String> {
    time::parse(text, time::now_ms()).ok_or_else(|| {
        "a time is `2026-11-23T07:15:02Z`, `2026-11-23`, so long ago (`90s`, `15m`, `2h`, `3d`), or milliseconds since 1970"
            .to_owned()
    })
}

/// How long something lasts, in milliseconds.
///
/// # Errors
/// What is wrong with it.
pub fn lifetime(text: &str) -> Result<u64, String> {
    time::duration(text)
        .filter(|ms| *ms > 0)
        .ok_or_else(|| "a time is a number with `s`, `m`, `h` or `d`, such as `2h`".to_owned())
}

/// Seconds between two pings.
///
/// # Errors
/// What is wrong with them.
pub fn interval(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.01..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "an interval is a number of seconds from 0.01 to 86400, such as `0.2`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_host_a_port_and_perhaps_an_id() {
        for address in ["thor:8888", "192.0.2.7:1", "[fe80::1%eth0]:8888", "[::1]:65535"] {
            assert_eq!(peer(address), Ok(PeerOption { node: None, address: address.to_owned() }));
        }
        let id = crate::log::Identity::from_seed(&[1; 32]).unwrap().node_id();
        let pinned = peer(&format!("{}@thor:8888", id.to_text())).unwrap();
        assert_eq!(pinned, PeerOption { node: Some(id), address: "thor:8888".to_owned() });
    }

    #[test]
    fn what_is_no_peer_is_refused_with_a_sentence() {
        let cases = [
            ("thor", "port is missing"),
            ("thor:", "1 to 65535"),
            ("thor:0", "1 to 65535"),
            ("thor:65536", "1 to 65535"),
            (":8888", "host"),
            ("::1:8888", "brackets"),
            ("[::1:8888", "not closed"),
            ("a b:8888", "host"),
            ("me@thor:8888", "node id"),
        ];
        for (text, part) in cases {
            let error = peer(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_api_is_on_loopback_or_nowhere() {
        assert_eq!(api("off"), Ok(ApiListen::Off));
        for text in ["127.0.0.1:8880", "[::1]:9000", "127.0.0.1:0"] {
            assert_eq!(api(text), Ok(ApiListen::At(text.parse().unwrap())));
        }
        for (text, part) in [
            ("0.0.0.0:8880", "loopback"),
            ("192.0.2.7:8880", "ssh"),
            ("8880", "ADDRESS:PORT"),
            ("localhost:1", "off"),
        ] {
            let error = api(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_interval_is_a_number_of_seconds_and_never_none() {
        assert_eq!(interval("0.2"), Ok(0.2));
        for text in ["0", "-1", "nan", "inf", "1e9", "", "1s"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_interface_is_a_name_that_linux_could_have_given() {
        assert!(interface("enp0s31f6").is_ok());
        for text in ["", "eth0/1", "eth 0", "a-name-of-16-byte", "\u{1b}"] {
            assert!(interface(text).is_err(), "{text:?}");
        }
    }
}
