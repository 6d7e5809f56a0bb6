//! From what was typed to [`Config`]: the command line wins, then the environment, then `cogmesh.toml` in the data
//! directory. What comes out is valid; what can't be is refused here, with the names of the options.

use std::{
    fmt::Display,
    fs::File,
    io::{ErrorKind, Read},
    num::NonZeroU16,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    args::{LogFormat, StartArgs},
    exit::Failure,
    options,
    replay::read_policy,
};
use crate::{
    api::ApiListen,
    ledger::{policy::Policy, types::Level},
    log::{FederationName, Hardware, NodeName},
    node::{
        Config, Listen, PeerOption, config::DISK_FREE_MIN, hardware::Machine, membership::LIFETIME,
        pki::PkiFiles,
    },
    store::{CorpusBounds, Durability},
};

/// The configuration file's name in the data directory.
pub const CONFIG_FILE: &str = "cogmesh.toml";
/// Links of a node that names no number.
const PEERS_MAX_DEFAULT: u16 = crate::node::PEERS_MAX_DEFAULT;
/// Longest configuration file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// How `start` runs: the node, and the process around it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The node.
    pub config: Config,
    /// Where the local API is on TCP.
    pub api: ApiListen,
    /// Whether commands are read from standard input.
    pub interactive: bool,
    /// The form of the log.
    pub log_format: LogFormat,
}

/// `cogmesh.toml`: the options of `start`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileOptions {
    #[serde(default, deserialize_with = "parsed")]
    name: Option<NodeName>,
    #[serde(default)]
    port: Option<NonZeroU16>,
    #[serde(default)]
    interface: OneOrMore,
    #[serde(default)]
    peer: OneOrMore,
    #[serde(alias = "no_mdns")]
    no_mdns: Option<bool>,
    pin: Option<bool>,
    #[serde(alias = "no_bench_throughput")]
    no_bench_throughput: Option<bool>,
    #[serde(default, deserialize_with = "parsed")]
    federation: Option<FederationName>,
    policy: Option<PathBuf>,
    #[serde(default, deserialize_with = "parsed")]
    hardware: Option<Hardware>,
    #[serde(default, deserialize_with = "level")]
    level: Option<u8>,
    #[serde(default, alias = "max_peers", deserialize_with = "max_peers")]
    max_peers: Option<u16>,
    #[serde(default, deserialize_with = "parsed")]
    durability: Option<Durability>,
    #[serde(alias = "write_without_peers")]
    write_without_peers: Option<bool>,
    #[serde(default, alias = "max_thoughts", deserialize_with = "max_thoughts")]
    max_thoughts: Option<u64>,
    #[serde(default, alias = "max_bytes", deserialize_with = "max_bytes")]
    max_bytes: Option<u64>,
    #[serde(default, alias = "disk_min", deserialize_with = "disk_min")]
    disk_min: Option<u64>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default, alias = "certificate_lifetime", deserialize_with = "lifetime")]
    certificate_lifetime: Option<u64>,
    #[serde(default, deserialize_with = "api")]
    api: Option<ApiListen>,
    interactive: Option<bool>,
    #[serde(alias = "log_format")]
    log_format: Option<LogFormat>,
}

/// A string, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(vec![])
    }
}

/// Puts together what was typed, what stands in the file, and what is found on this machine.
///
/// # Errors
/// Where the file or the policy can't be read, or what was asked for can't be meant.
pub fn resolve(typed: StartArgs, data_dir: &Path, machine: &Machine, host: &str) -> anyhow::Result<Run> {
    let file = read(data_dir)?;
    let interface = or_file("interface", typed.interface, file.interface, options::interface)?;
    let peers = or_file("peer", typed.peer, file.peer, options::peer)?;
    let policy = policy(typed.policy.as_deref(), data_dir)?;
    // A path in the file is meant from where the file is.
    let beside = |path: Option<PathBuf>| path.map(|path| data_dir.join(path));
    let pki = pki([
        typed.ca.or_else(|| beside(file.ca)),
        typed.cert.or_else(|| beside(file.cert)),
        typed.key.or_else(|| beside(file.key)),
    ])?;
    let hardware = typed.hardware.or(file.hardware).unwrap_or(machine.hardware);
    let level = match typed.level.or(file.level) {
        Some(number) => Level::try_from(number)?,
        None => machine.level(hardware),
    };
    let peers_max = usize::from(typed.max_peers.or(file.max_peers).unwrap_or(PEERS_MAX_DEFAULT));
    enough_links(&peers, peers_max)?;
    let bounds = CorpusBounds::default();
    let lifetime = typed.certificate_lifetime.or(file.certificate_lifetime);
    let disk_min = typed.disk_min.or(file.disk_min);
    let config = Config {
        data_dir: data_dir.to_owned(),
        name: typed.name.or(file.name).unwrap_or_else(|| NodeName::from_host(host)),
        hardware,
        level,
        federation: typed.federation.or(file.federation),
        pki,
        policy,
        listen: listen(interface),
        port: typed.port.or_else(|| file.port.map(NonZeroU16::get)),
        peers,
        pin: typed.pin.or(file.pin).unwrap_or(false),
        mdns: !typed.no_mdns.or(file.no_mdns).unwrap_or(false),
        certificate_lifetime: lifetime.map_or(LIFETIME, Duration::from_millis),
        peers_max,
        durability: typed.durability.or(file.durability).unwrap_or_default(),
        corpus: CorpusBounds {
            thoughts_max: typed.max_thoughts.or(file.max_thoughts).unwrap_or(bounds.thoughts_max),
            bytes_max: typed.max_bytes.or(file.max_bytes).unwrap_or(bounds.bytes_max),
        },
        disk_free_min: disk_min.map_or(DISK_FREE_MIN, |mib| mib << 20),
        write_without_peers: typed.write_without_peers.or(file.write_without_peers).unwrap_or(false),
        rebuild_from_peers: typed.rebuild_from_peers,
        lends_arenas: !typed.no_bench_throughput.or(file.no_bench_throughput).unwrap_or(false),
    };
    Ok(Run {
        config,
        api: typed.api.or(file.api).unwrap_or_default(),
        interactive: typed.interactive.or(file.interactive).unwrap_or(false),
        log_format: typed.log_format.or(file.log_format).unwrap_or_default(),
    })
}

/// The rules that a node of that data directory would have, or those in the file that was typed.
///
/// # Errors
/// Where a file can't be read, or holds something else.
pub fn policy(typed: Option<&Path>, data_dir: &Path) -> anyhow::Result<Policy> {
    match (typed, read(data_dir)?.policy) {
        (Some(typed), _) => read_policy(typed),
        // A path in the file is meant from where the file is.
        (None, Some(path)) => read_policy(&data_dir.join(path)),
        (None, None) => Ok(Policy::default()),
    }
}

/// The name that a node of that data directory would start with, or has.
///
/// # Errors
/// Where the file can't be read.
pub fn name_in(data_dir: &Path, host: &str) -> anyhow::Result<NodeName> {
    Ok(read(data_dir)?.name.unwrap_or_else(|| NodeName::from_host(host)))
}

/// This machine's name, which may hold anything.
#[must_use]
pub fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

fn pki([ca, certificate, key]: [Option<PathBuf>; 3]) -> Result<Option<PkiFiles>, Failure> {
    match (ca, certificate, key) {
        (Some(ca), Some(certificate), key) => Ok(Some(PkiFiles { ca, certificate, key })),
        (None, None, None) => Ok(None),
        (Some(_), None, _) => Err(Failure::usage("`--ca` needs `--cert`, this node's certificate")),
        (None, _, _) => Err(Failure::usage("`--cert` and `--key` need `--ca`, the certificate of the CA")),
    }
}

fn listen(mut interfaces: Vec<String>) -> Listen {
    interfaces.sort_unstable();
    interfaces.dedup();
    if interfaces.is_empty() { Listen::Everywhere } else { Listen::Interfaces(interfaces) }
}

fn enough_links(peers: &[PeerOption], peers_max: usize) -> Result<(), Failure> {
    let named = peers.len();
    if named <= peers_max {
        return Ok(());
    }
    let message = format!("`--peer` names {named} peers, but `--max-peers` allows {peers_max} links");
    Err(Failure::usage(message).hint(format!("name fewer peers, or set `--max-peers` to {named} or more")))
}

/// What was typed, or else what stands in the file.
fn or_file<T>(
    key: &str,
    typed: Vec<T>,
    file: OneOrMore,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Failure> {
    if !typed.is_empty() {
        return Ok(typed);
    }
    let texts = match file {
        OneOrMore::One(text) => vec![text],
        OneOrMore::More(texts) => texts,
    };
    let parsed = texts.iter().map(|text| {
        parse(text).map_err(|fault| Failure::usage(format!("`{key}` in `{CONFIG_FILE}`: `{text}`: {fault}")))
    });
    parsed.collect()
}

fn read(data_dir: &Path) -> anyhow::Result<FileOptions> {
    let path = data_dir.join(CONFIG_FILE);
    let shown = path.display();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(FileOptions::default());
        }
        Err(error) => return Err(error).context(format!("can't read the configuration file `{shown}`")),
    };
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.with_context(|| format!("can't read the configuration file `{shown}`"))?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        let message = format!("the configuration file `{shown}` is longer than {FILE_BYTES_MAX} bytes");
        return Err(Failure::usage(message).into());
    }
    toml::from_str(&text).map_err(|error| {
        let message =
            format!("the configuration file `{shown}` can't be used: {}", error.to_string().trim_end());
        Failure::usage(message).hint("`cogmesh start --help` lists what may stand in it").into()
    })
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

fn level<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u8>, D::Error> {
    let level = Level::try_from(u8::deserialize(from)?).map_err(D::Error::custom)?;
    Ok(Some(level.number()))
}

fn max_peers<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    let number = u16::deserialize(from)?;
    if (1..=options::PEERS_MAX_LIMIT).contains(&i64::from(number)) {
        return Ok(Some(number));
    }
    Err(D::Error::custom(format!("`max-peers` is 1 to {}, not {number}", options::PEERS_MAX_LIMIT)))
}

fn at_least<'de, D: Deserializer<'de>>(from: D, key: &str, min: u64) -> Result<Option<u64>, D::Error> {
    let number = u64::deserialize(from)?;
    if number >= min {
        return Ok(Some(number));
    }
    Err(D::Error::custom(format!("`{key}` is {min} or more, not {number}")))
}

fn max_thoughts<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    at_least(from, "max-thoughts", options::MAX_THOUGHTS_MIN)
}

fn max_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    at_least(from, "max-bytes", options::MAX_BYTES_MIN)
}

fn disk_min<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let mib = u64::deserialize(from)?;
    if mib <= options::DISK_MIN_MIB_LIMIT {
        return Ok(Some(mib));
    }
    Err(D::Error::custom(format!("`disk-min` is {} MiB at most, not {mib}", options::DISK_MIN_MIB_LIMIT)))
}

fn api<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ApiListen>, D::Error> {
    options::api(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

fn lifetime<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    options::lifetime(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { hardware: Hardware::Software, memory_kib: Some(8 << 20), model: None }
    }

    fn with_file(text: &str, typed: StartArgs) -> anyhow::Result<Run> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG_FILE), text).unwrap();
        resolve(typed, dir.path(), &machine(), "Legion.local")
    }

    fn refused(text: &str) -> String {
        with_file(text, StartArgs::default()).unwrap_err().to_string()
    }

    #[test]
    fn without_anything_a_node_is_named_after_its_host() {
        let run = resolve(StartArgs::default(), Path::new("/nowhere"), &machine(), "Legion.local").unwrap();
        assert_eq!(run.config.name.as_str(), "legion-local");
        assert_eq!((run.config.federation, run.config.port, run.config.mdns), (None, None, true));
        assert_eq!((run.config.listen, run.config.peers_max), (Listen::Everywhere, 64));
        assert_eq!((run.interactive, run.log_format), (false, LogFormat::Text));
        assert_eq!(run.config.level.number(), 3);
        assert!(run.config.lends_arenas);
    }

    #[test]
    fn the_file_sets_every_option_and_what_was_typed_wins() {
        let file = "name = 'thor'\nport = 9000\ninterface = 'eth0'\npeer = ['a:1', 'b:2']\nno-mdns = true\n\
            federation = 'workshop'\nhardware = 'trustzone'\nlevel = 2\nmax-peers = 8\ndurability = 'normal'\n\
            write-without-peers = true\nmax-thoughts = 500\nmax-bytes = 2000000\ndisk-min = 64\ninteractive = true\nlog-format = 'json'\n\
            ca = '/etc/pki/ca.pem'\ncert = 'node.pem'\nno-bench-throughput = true\n";
        let run = with_file(file, StartArgs::default()).unwrap();
        assert_eq!((run.config.name.as_str(), run.config.port), ("thor", Some(9000)));
        assert_eq!(run.config.listen, Listen::Interfaces(vec!["eth0".to_owned()]));
        assert_eq!((run.config.peers.len(), run.config.mdns, run.config.peers_max), (2, false, 8));
        assert_eq!((run.config.hardware, run.config.level.number()), (Hardware::TrustZone, 2));
        assert_eq!((run.interactive, run.log_format), (true, LogFormat::Json));
        assert_eq!((run.config.durability, run.config.write_without_peers), (Durability::Normal, true));
        assert_eq!(run.config.corpus, CorpusBounds { thoughts_max: 500, bytes_max: 2_000_000 });
        assert_eq!(run.config.disk_free_min, 64 << 20);
        assert!(!run.config.lends_arenas);
        let pki = run.config.pki.unwrap();
        assert_eq!((pki.ca.as_path(), pki.key), (Path::new("/etc/pki/ca.pem"), None));
        assert!(pki.certificate.is_absolute() && pki.certificate.ends_with("node.pem"), "beside the file");
        let typed = StartArgs { port: Some(9001), no_mdns: Some(false), ..StartArgs::default() };
        let run = with_file(file, typed).unwrap();
        assert_eq!((run.config.port, run.config.mdns, run.config.name.as_str()), (Some(9001), true, "thor"));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_named() {
        let cases = [
            ("prot = 9000", "prot"),
            ("port = 'nine'", "port"),
            ("port = 0", "port"),
            ("port = 70000", "port"),
            ("name = 'Big Name'", "name"),
            ("level = 6", "level"),
            ("hardware = 'abacus'", "hardware"),
            ("log-format = 'xml'", "log-format"),
            ("max-peers = 0", "max-peers"),
            ("durability = 'never'", "durability"),
            ("max-thoughts = 3", "max-thoughts"),
            ("max-bytes = 3", "max-bytes"),
            ("disk-min = -1", "disk-min"),
            ("rebuild-from-peers = true", "rebuild-from-peers"),
            ("peer = 'thor'", "peer"),
            ("api = '0.0.0.0:8880'", "loopback"),
            ("api = '8880'", "api"),
            ("interface = 5", "interface"),
            ("no-mdns = 'maybe'", "no-mdns"),
            ("name =", "line 1"),
        ];
        for (text, name) in cases {
            let error = refused(text);
            assert!(error.contains(name) && error.contains(CONFIG_FILE), "{text}: {error}");
        }
    }

    #[test]
    fn more_peers_than_links_are_refused_with_both_names() {
        let error = refused("peer = ['a:1', 'b:2']\nmax-peers = 1");
        assert!(error.contains("--peer") && error.contains("--max-peers"), "{error}");
    }

    #[test]
    fn a_pki_needs_a_ca_and_a_certificate() {
        for (text, missing) in [("ca = 'a'", "--cert"), ("cert = 'b'", "--ca"), ("key = 'c'", "--ca")] {
            let error = refused(text);
            assert!(error.contains(missing), "{text}: {error}");
        }
    }

    #[test]
    fn a_policy_in_the_file_is_looked_for_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG_FILE), "policy = 'rules.toml'").unwrap();
        std::fs::write(dir.path().join("rules.toml"), "pow_bits = 4").unwrap();
        let run = resolve(StartArgs::default(), dir.path(), &machine(), "").unwrap();
        assert_eq!(run.config.policy.pow_bits, 4);
    }
}
