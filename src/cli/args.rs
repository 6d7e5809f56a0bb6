//! What can be typed. The words here are the help: one sentence an option, and why where it is not plain.

mod checking;
mod measuring;

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum,
    builder::BoolishValueParser,
    error::{ContextKind, ContextValue},
};
use serde::Deserialize;

pub use self::{
    checking::DoctorArgs,
    measuring::{BenchCommand, LatencyArgs, PingArgs, ThroughputArgs},
};
use super::{demo::DemoArgs, exit::Exit, options, replay::ReplayArgs, show::escaped_lines};
use crate::{
    api::{
        ApiListen,
        submit::{MODE_DEFAULT, SESSION_DEFAULT},
    },
    log::{FederationName, Hardware, Mode, NodeName, SessionName},
    node::PeerOption,
    store::Durability,
};

/// What the variables of our options start with.
const VARIABLE_START: &str = "COGMESH_";
/// Set by `scripts/netns-run` around tests.
const VARIABLE_OF_TESTS: &str = "COGMESH_NETNS";

/// Nodes of one LAN find each other, share scored thoughts, and compute every balance themselves from signed logs.
///
/// Without a command, a node is started.
#[derive(Debug, Parser)]
#[command(
    name = "cogmesh",
    version,
    subcommand_required = true,
    override_usage = "cogmesh [OPTIONS] [COMMAND]",
    arg_required_else_help = false
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Data directory: key, store and local socket [default: $XDG_DATA_HOME/cogmesh, else ~/.local/share/cogmesh]
    #[arg(long, value_name = "DIR", global = true, env = "COGMESH_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,
    /// Print JSON: one object, or one object a line for lists
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more in the log; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node until SIGINT or SIGTERM
    Start(Box<StartArgs>),
    /// Submit a thought to the running node
    Submit(SubmitArgs),
    /// Show what the running node is and knows
    Status,
    /// List nodes that are linked or were heard of, and with `--pin` those that wait to be approved
    Peers(PeersArgs),
    /// List authors with their balances
    Authors(AuthorsArgs),
    /// List accepted thoughts
    Thoughts(ThoughtsArgs),
    /// List sessions with their collective coherence
    Sessions,
    /// Show the balances of the federation in a few numbers
    Economics,
    /// List what a person should look at
    Alerts,
    /// Make a closed federation
    #[command(subcommand)]
    Federation(FederationCommand),
    /// Make a ticket that lets one node into this closed federation
    Invite(InviteArgs),
    /// Become a member of a closed federation; the node must not run yet
    Join(JoinArgs),
    /// List who belongs to this closed federation
    Members,
    /// Throw a member out of this closed federation, for good
    Revoke(RevokeArgs),
    /// Show who this node is; needs no running node
    Id(IdArgs),
    /// Show why a thought got its verdict, layer by layer
    Explain(ExplainArgs),
    /// Recompute every balance and check every hash and signature; needs no running node
    Audit,
    /// Copy the store to a file, whether the node runs or not
    Backup(BackupArgs),
    /// Put a backup in the place of the store; the node must not run
    Restore(RestoreArgs),
    /// Print every thought as a line of JSON; needs no running node
    ///
    /// Accepted and rejected ones, author by author, each in the order of its log. `content` is null where this node does
    /// not keep it.
    Export,
    /// Fold thoughts from a file under a policy; needs no running node
    Replay(ReplayArgs),
    /// Send a peer some bytes each second and show how long they take there and back
    Ping(PingArgs),
    /// Measure the running node
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Check this machine for a node, running or not: ports, interfaces, multicast, clock, disk, keys, peers
    ///
    /// Says for each what is wrong and what to do; exit code 1 where something is. Takes every option of `start`, and looks at what a node would
    /// meet that is started with them. Without `--multicast` it sends nothing; but it joins mDNS's group for an instant on each interface, which a
    /// kernel may tell its LAN, and which `--no-mdns` leaves out.
    #[command(mut_args(checking::of_doctor))]
    Doctor(Box<DoctorArgs>),
    /// Run three nodes on loopback and check what they promise; needs no running node
    Demo(DemoArgs),
}

/// Options of `start`. Each can also stand in `cogmesh.toml` in the data directory, under its name without the dashes in
/// front, and in the environment as shown. The command line wins, then the environment, then the file.
#[derive(Args, Clone, Debug, Default)]
pub struct StartArgs {
    /// Name of the node, 1 to 32 of a-z, 0-9 and -; counts at the first start only [default: the host name]
    #[arg(long, value_name = "NAME", env = "COGMESH_NAME", hide_env_values = true)]
    pub name: Option<NodeName>,
    /// UDP port; a named one is never changed silently [default: the first free one of 8888 to 8987]
    #[arg(long, value_name = "PORT", env = "COGMESH_PORT", hide_env_values = true, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Listen and look for nodes on this interface only; can be given several times [default: all]
    #[arg(long, value_name = "IF", env = "COGMESH_INTERFACE", hide_env_values = true, value_delimiter = ',', value_parser = options::interface)]
    pub interface: Vec<String>,
    /// Dial this peer, besides those that are found; can be given several times
    #[arg(long, value_name = "[NODEID@]HOST:PORT", env = "COGMESH_PEER", hide_env_values = true, value_delimiter = ',', value_parser = options::peer)]
    pub peer: Vec<PeerOption>,
    /// Neither announce this node nor look for others over multicast DNS
    #[arg(long, env = "COGMESH_NO_MDNS", hide_env_values = true, num_args = 0..=1, require_equals = true, value_name = "BOOL", default_missing_value = "true", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub no_mdns: Option<bool>,
    /// Link only with nodes that this one knew when it was first started so, that were approved with `cogmesh peers approve`, or whose
    /// ids `--peer` names
    #[arg(long, env = "COGMESH_PIN", hide_env_values = true, num_args = 0..=1, require_equals = true, value_name = "BOOL", default_missing_value = "true", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub pin: Option<bool>,
    /// Take no part in peers' `bench throughput`, which keeps a machine busy for some seconds, at most for a fifth of the time
    #[arg(long, env = "COGMESH_NO_BENCH_THROUGHPUT", hide_env_values = true, num_args = 0..=1, require_equals = true, value_name = "BOOL", default_missing_value = "true", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub no_bench_throughput: Option<bool>,
    /// Federation to take part in [default: lan]
    #[arg(long, value_name = "NAME", env = "COGMESH_FEDERATION", hide_env_values = true)]
    pub federation: Option<FederationName>,
    /// Rules of the federation (TOML); all its nodes must have the same [default: the built-in ones]
    #[arg(long, value_name = "FILE", env = "COGMESH_POLICY", hide_env_values = true)]
    pub policy: Option<PathBuf>,
    /// Hardware to claim: software, tpm2 or trustzone; counts at the first start only [default: what is found]
    #[arg(long, value_name = "KIND", env = "COGMESH_HARDWARE", hide_env_values = true)]
    pub hardware: Option<Hardware>,
    /// Capability level to claim, 1 to 5; counts at the first start only [default: from hardware and memory]
    #[arg(long, value_name = "N", env = "COGMESH_LEVEL", hide_env_values = true, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub level: Option<u8>,
    /// Most links at a time, 1 to 1024 [default: 64]
    #[arg(long, value_name = "N", env = "COGMESH_MAX_PEERS", hide_env_values = true, value_parser = clap::value_parser!(u16).range(1..=options::PEERS_MAX_LIMIT))]
    pub max_peers: Option<u16>,
    /// When a commit is on the disk: full (when it is acknowledged) or normal (soon after; faster, but after a power cut the
    /// node waits for a peer that has its own log) [default: full]
    #[arg(long, value_name = "WHEN", env = "COGMESH_DURABILITY", hide_env_values = true)]
    pub durability: Option<Durability>,
    /// Write though this node's own log is in doubt and no peer can be asked; where a peer does hold entries that this node lacks, its
    /// log forks and nobody takes more of it
    #[arg(long, env = "COGMESH_WRITE_WITHOUT_PEERS", hide_env_values = true, num_args = 0..=1, require_equals = true, value_name = "BOOL", default_missing_value = "true", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub write_without_peers: Option<bool>,
    /// Set the store aside and fetch everything again from the peers, this node's own log first; on the command line only
    #[arg(long)]
    pub rebuild_from_peers: bool,
    /// Accepted thoughts whose contents are kept, 100 or more; the least worthy go first [default: 10000]
    #[arg(long, value_name = "N", env = "COGMESH_MAX_THOUGHTS", hide_env_values = true, value_parser = clap::value_parser!(u64).range(options::MAX_THOUGHTS_MIN..))]
    pub max_thoughts: Option<u64>,
    /// Bytes of contents that are kept, 1048576 or more [default: 104857600]
    #[arg(long, value_name = "BYTES", env = "COGMESH_MAX_BYTES", hide_env_values = true, value_parser = clap::value_parser!(u64).range(options::MAX_BYTES_MIN..))]
    pub max_bytes: Option<u64>,
    /// MiB that should stay free on the disk: below it the node only reads and serves; 0 for no limit [default: 256]
    #[arg(long, value_name = "MIB", env = "COGMESH_DISK_MIN", hide_env_values = true, value_parser = clap::value_parser!(u64).range(..=options::DISK_MIN_MIB_LIMIT))]
    pub disk_min: Option<u64>,
    /// Certificate of your own PKI's CA (PEM), which makes the federation a closed one; with `--cert`. SIGHUP reads the files again
    #[arg(long, value_name = "FILE", env = "COGMESH_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// Certificate that your own PKI gave this node (PEM), and after it those between it and the CA
    #[arg(long, value_name = "FILE", env = "COGMESH_CERT", hide_env_values = true)]
    pub cert: Option<PathBuf>,
    /// This node's key (Ed25519, PKCS#8 in PEM), taken into the data directory at the first start [default: the one in the data directory]
    #[arg(long, value_name = "FILE", env = "COGMESH_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// How long the certificates last that this node gives to members, where it holds the CA's key of a closed federation [default: 30d]
    #[arg(long, value_name = "TIME", env = "COGMESH_CERTIFICATE_LIFETIME", hide_env_values = true, value_parser = options::lifetime)]
    pub certificate_lifetime: Option<u64>,
    /// Where the local API is on TCP: a loopback address with a port, or `off` [default: 127.0.0.1 and the first free port of 8880 to 8979]
    #[arg(long, value_name = "ADDR", env = "COGMESH_API", hide_env_values = true, value_parser = options::api)]
    pub api: Option<ApiListen>,
    /// Read commands from standard input: submit TEXT, status, metrics, peers, help, quit
    #[arg(long, env = "COGMESH_INTERACTIVE", hide_env_values = true, num_args = 0..=1, require_equals = true, value_name = "BOOL", default_missing_value = "true", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub interactive: Option<bool>,
    /// Form of the log on standard error [default: text]
    #[arg(long, value_name = "FORM", env = "COGMESH_LOG_FORMAT", hide_env_values = true, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// Options of `peers`.
#[derive(Args, Clone, Debug)]
pub struct PeersArgs {
    /// What to do; without it they are listed
    #[command(subcommand)]
    pub command: Option<PeersCommand>,
}

/// What can be done about peers.
#[derive(Clone, Debug, Subcommand)]
pub enum PeersCommand {
    /// Let nodes be linked that wait for it, on a node that runs with `--pin`
    Approve {
        /// Ids of the nodes, or their first 16 or more characters; names prove nothing
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<String>,
    },
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Options of `submit`.
///
/// Exit code 3: the thought was rejected (recorded, penalty applied; with `--dry-run` it would be). Exit code 4: it is
/// inadmissible, and nothing was recorded.
#[derive(Args, Clone, Debug)]
pub struct SubmitArgs {
    /// The thought; `-` reads it from standard input, without the line break at its end
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Session that it belongs to
    #[arg(long, value_name = "NAME", default_value = SESSION_DEFAULT)]
    pub session: SessionName,
    /// What kind of thinking it is: exploring, questioning, integrating, verifying or reframing
    #[arg(long, value_name = "MODE", default_value_t = MODE_DEFAULT)]
    pub mode: Mode,
    /// Show the verdict only; nothing is recorded
    #[arg(long)]
    pub dry_run: bool,
    /// Repeating a submission with the same key (1 to 128 bytes) returns the first result and records nothing
    #[arg(long, value_name = "KEY", value_parser = options::key, conflicts_with = "dry_run")]
    pub key: Option<String>,
}

/// Options of `thoughts`.
#[derive(Args, Clone, Debug)]
pub struct ThoughtsArgs {
    /// Of this session only
    #[arg(long, value_name = "NAME")]
    pub session: Option<SessionName>,
    /// Of this author only: an id, the start of one, or a name
    #[arg(long, value_name = "AUTHOR")]
    pub author: Option<String>,
    /// With all these words, in any order; case and accents don't matter
    #[arg(long, value_name = "WORDS", value_parser = options::search)]
    pub search: Option<String>,
    /// Not older than this: 2026-11-23T07:15:02Z, 2026-11-23, 90s, 15m, 2h, 3d, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = options::since)]
    pub since: Option<u64>,
    /// The newest N of them, 1 to 10000 [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub limit: Option<u16>,
}

/// Options of `backup`.
///
/// The copy is checked before it counts. The node's key is not in it: keep a copy of `node.key` as well, as safe as a password.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// File to write, best on another disk
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Replace the file where there is one
    #[arg(long)]
    pub force: bool,
}

/// Options of `restore`.
///
/// The backup is checked first, and the store that is there is kept beside it. The node's key must be in the data directory. Once
/// started, the node gets back from its peers what it wrote after the backup was made, before it writes again.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// Backup to put back
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// What can be done with a federation as a whole.
#[derive(Debug, Subcommand)]
pub enum FederationCommand {
    /// Make a closed federation: a CA beside this node's key, which makes members of others; the node must not run yet
    Create(CreateArgs),
}

/// Options of `federation create`.
///
/// Nobody comes into a closed federation without a ticket (`cogmesh invite`). It needs a data directory that belongs to no
/// federation yet.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// Name of the federation
    #[arg(value_name = "NAME")]
    pub name: FederationName,
    /// Its rules (TOML); all its nodes must have the same [default: those of `cogmesh.toml`, else the built-in ones]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// File whose first line is the passphrase that encrypts the CA's key [default: it is asked for]
    #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase")]
    pub passphrase_file: Option<PathBuf>,
    /// Leave the CA's key in clear, in a file that its owner alone may read: the node can then make members without being asked
    #[arg(long)]
    pub no_passphrase: bool,
}

/// Options of `invite`.
///
/// A ticket lets one node in, once, and expires. Whoever has it may use it.
#[derive(Args, Clone, Debug)]
pub struct InviteArgs {
    /// How long the ticket is good, such as `15m`, `2h` or `3d`
    #[arg(long = "for", value_name = "TIME", value_parser = options::lifetime)]
    pub lifetime: Option<u64>,
    /// Show it as a QR code as well
    #[arg(long)]
    pub qr: bool,
    /// File whose first line is the passphrase of the CA's key [default: it is asked for, where it is needed]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// List the tickets that could still be used
    #[arg(long, conflicts_with_all = ["lifetime", "qr", "passphrase_file", "cancel"])]
    pub list: bool,
    /// Take a ticket back, by its name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["lifetime", "qr", "passphrase_file"])]
    pub cancel: Option<String>,
}

/// Options of `revoke`.
///
/// Every member turns the node away from then on, those that are away now when they come back. It can come in again only as another
/// node, with another ticket. What it has written stays in the books.
#[derive(Args, Clone, Debug)]
pub struct RevokeArgs {
    /// Who: an id, the start of one, or a name
    #[arg(value_name = "NODE")]
    pub member: String,
    /// File whose first line is the passphrase of the CA's key [default: it is asked for, where it is needed]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Options of `join`.
#[derive(Args, Clone, Debug)]
pub struct JoinArgs {
    /// Ticket, as `cogmesh invite` printed it
    #[arg(value_name = "TICKET")]
    pub ticket: String,
    /// Rules of the federation (TOML) [default: those of `cogmesh.toml`, else the built-in ones]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// Options of `id`.
#[derive(Args, Clone, Copy, Debug)]
pub struct IdArgs {
    /// Give the data directory of a stopped node a new identity: for one of two that run with the same key. Key, store and sign mark of
    /// the old one are put away beside it, and the next start begins a new log, with the initial balance
    #[arg(long)]
    pub renew: bool,
}

/// Options of `authors`.
#[derive(Args, Clone, Debug)]
pub struct AuthorsArgs {
    /// Take the log of a convicted author (`forked`) again, once its operator has set it right; do it on every node
    #[arg(long, value_name = "AUTHOR")]
    pub clear: Option<String>,
}

/// Options of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// Entry of the author's log [default: the last]
    #[arg(value_name = "SEQ")]
    pub seq: Option<u64>,
    /// Author: an id, the start of one, or a name [default: this node]
    #[arg(long, value_name = "AUTHOR")]
    pub author: Option<String>,
}

/// What was typed, or the exit code where help was asked for or it can't be understood.
///
/// # Errors
/// The exit code; everything that is to be said has been said.
pub fn parse(typed: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let words = with_start(typed.into_iter().collect());
    Cli::try_parse_from(&words).map_err(|error| {
        if error.use_stderr() {
            // What was typed stands in the message, and may hold anything.
            let text = escaped_lines(error.render().to_string().trim_end());
            let hint = hint_of_environment(&error, &words).unwrap_or_default();
            // Where standard error is gone, the exit code has to do.
            let _unheard = writeln!(io::stderr().lock(), "{text}{hint}");
            return Exit::Usage.into();
        }
        // Help for a reader that has seen enough is no failure.
        let _unread = error.print();
        Exit::Done.into()
    })
}

/// Which variable a refused value stands in, where it was not typed: the message names the option only.
fn hint_of_environment(error: &clap::Error, words: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let option = shown.split([' ', '=', '[']).next()?;
    let is_typed = |word: &OsString| {
        let word = word.to_string_lossy();
        word.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    if words.iter().any(is_typed) {
        return None;
    }
    let variable =
        options_in_environment().find(|(long, _)| option.strip_prefix("--") == Some(long.as_str()))?.1;
    env::var_os(&variable)?;
    Some(format!("\n\nhint: the value stands in the environment variable `{variable}`"))
}

/// Variables of the environment that look like options of ours and are none, sorted. They are no error, unlike unknown
/// keys of the file: supervisors put variables named after their services (`COGMESH_SERVICE_HOST`) there unasked.
#[must_use]
pub fn unknown_in_environment() -> Vec<String> {
    let known: Vec<String> = options_in_environment().map(|(_, variable)| variable).collect();
    let names = env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let mut unknown: Vec<String> = names
        .filter(|name| name.starts_with(VARIABLE_START) && name != VARIABLE_OF_TESTS && !known.contains(name))
        .collect();
    unknown.sort_unstable();
    unknown
}

/// Options of every command and of `start` that can stand in the environment: without dashes, and as variables.
fn options_in_environment() -> impl Iterator<Item = (String, String)> {
    let start = StartArgs::augment_args(Common::augment_args(clap::Command::new("start")));
    let pairs: Vec<_> = start
        .get_arguments()
        .filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.get_env()?.to_string_lossy().into_owned())))
        .collect();
    pairs.into_iter()
}

/// Puts `start` in where no command is named: options of every command may stand before it.
fn with_start(mut typed: Vec<OsString>) -> Vec<OsString> {
    let mut at = 1;
    while let Some(word) = typed.get(at) {
        match word.to_str() {
            Some("--data-dir") => at += 2,
            Some(word) if is_common(word) => at += 1,
            _ => break,
        }
    }
    if at > typed.len() {
        // `--data-dir` without a directory: clap says so better than we could.
        return typed;
    }
    let starts = match typed.get(at).map(OsString::as_os_str) {
        None => true,
        Some(word) if is_help(word) => false,
        Some(word) => word.to_str().is_some_and(|word| word.starts_with("--")),
    };
    if starts {
        typed.insert(at, "start".into());
    }
    typed
}

fn is_common(word: &str) -> bool {
    let verbose =
        word.strip_prefix('-').is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c == 'v'));
    verbose || matches!(word, "--json" | "--verbose") || word.starts_with("--data-dir=")
}

fn is_help(word: &OsStr) -> bool {
    [OsStr::new("-h"), OsStr::new("--help"), OsStr::new("-V"), OsStr::new("--version")].contains(&word)
}

/// Checks that the definitions above go together.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(typed: &str) -> Vec<OsString> {
        typed.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_definitions_go_together() {
        definition().debug_assert();
    }

    #[test]
    fn without_a_command_a_node_is_started() {
        for (typed, meant) in [
            ("cogmesh", "cogmesh start"),
            ("cogmesh --port 9000", "cogmesh start --port 9000"),
            ("cogmesh --data-dir d -vv", "cogmesh --data-dir d -vv start"),
            ("cogmesh --json --data-dir=d --name a", "cogmesh --json --data-dir=d start --name a"),
            ("cogmesh --data-dir d status", "cogmesh --data-dir d status"),
            ("cogmesh --help", "cogmesh --help"),
            ("cogmesh statsu", "cogmesh statsu"),
            ("cogmesh --data-dir", "cogmesh --data-dir"),
        ] {
            assert_eq!(with_start(words(typed)), words(meant), "{typed}");
        }
    }

    #[test]
    fn options_of_every_command_stand_before_and_after_it() {
        let before = Cli::try_parse_from(words("cogmesh --json --data-dir d peers")).unwrap();
        let after = Cli::try_parse_from(words("cogmesh peers --json --data-dir d")).unwrap();
        assert!(before.common.json && after.common.json);
        assert_eq!(before.common.data_dir, after.common.data_dir);
    }
}
