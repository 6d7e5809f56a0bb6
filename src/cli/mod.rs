//! The command line, one file a command.
//!
//! `args` says what can be typed, `config` makes a valid configuration of it, `client` asks a running node, `show` decides
//! how answers look, and `exit` how a command ends. Results go to standard output, messages to standard error.

pub mod alerts;
pub mod args;
pub mod audit;
pub mod authors;
pub mod backup;
pub mod bench;
pub mod client;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod economics;
pub mod exit;
pub mod explain;
pub mod export;
pub mod federation;
pub mod id;
pub mod interactive;
pub mod invite;
pub mod join;
pub mod log_lines;
pub mod members;
pub mod options;
pub mod passphrase;
pub mod peers;
pub mod ping;
pub mod progress;
pub mod replay;
pub mod restore;
pub mod sessions;
pub mod show;
pub mod start;
pub mod status;
pub mod submit;
pub mod thoughts;
pub mod time;

use std::{
    env,
    io::{self, BufWriter, StdoutLock},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use self::{
    args::{BenchCommand, Cli, Command, Common, FederationCommand, PeersArgs, PeersCommand},
    client::Client,
    exit::{Exit, Failure},
    show::{Form, Show},
};

/// How long tasks that block may take once a command is done; a read of standard input may never end.
const LEAVE_MAX: Duration = Duration::from_millis(100);

/// Standard output, as commands write to it.
pub type Out = Show<BufWriter<StdoutLock<'static>>>;

/// Parses what was typed and runs it.
#[must_use]
pub fn run() -> ExitCode {
    match args::parse(env::args_os()) {
        Ok(cli) => exit::report(dispatch(cli), &mut io::stderr().lock()),
        Err(code) => code,
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { common, command } = cli;
    match command {
        Command::Start(args) => {
            let data_dir = data_dir(&common)?;
            wait_for(Builder::new_multi_thread(), start::run(*args, &data_dir, common.verbose, out(&common)))
        }
        Command::Demo(args) => {
            start::log_to_stderr(args::LogFormat::Text, common.verbose)?;
            wait_for(Builder::new_multi_thread(), demo::run(&args, common.json))
        }
        Command::Doctor(args) => {
            let data_dir = data_dir(&common)?;
            ask(doctor::run(*args, &data_dir, out(&common)))
        }
        Command::Replay(args) => replay::run(&args).map(|()| Exit::Done.into()),
        Command::Audit => audit::run(&data_dir(&common)?, out(&common)),
        Command::Backup(args) => backup::run(&args, &data_dir(&common)?, out(&common)),
        Command::Restore(args) => restore::run(&args, &data_dir(&common)?, out(&common)),
        Command::Export => export::run(&data_dir(&common)?),
        Command::Id(args) => {
            let data_dir = data_dir(&common)?;
            if args.renew {
                return id::renew(&data_dir, out(&common));
            }
            ask(id::run(&data_dir, out(&common)))
        }
        Command::Federation(FederationCommand::Create(args)) => {
            federation::create(&args, &data_dir(&common)?, out(&common))
        }
        Command::Join(args) => {
            let data_dir = data_dir(&common)?;
            ask(join::run(args, &data_dir, out(&common)))
        }
        Command::Invite(args) => {
            with_node(&common, async |client, out| invite::run(&client, args, out).await)
        }
        Command::Revoke(args) => {
            with_node(&common, async |client, out| members::revoke(&client, args, out).await)
        }
        Command::Members => with_node(&common, async |client, out| members::run(&client, out).await),
        Command::Submit(args) => {
            with_node(&common, async |client, out| submit::run(args, &client, out).await)
        }
        Command::Status => with_node(&common, async |client, out| status::run(&client, out).await),
        Command::Peers(PeersArgs { command: None }) => {
            with_node(&common, async |client, out| peers::run(&client, out).await)
        }
        Command::Peers(PeersArgs { command: Some(PeersCommand::Approve { nodes }) }) => {
            with_node(&common, async |client, out| peers::approve(&client, nodes, out).await)
        }
        Command::Ping(args) => with_node(&common, async |client, out| ping::run(args, &client, out).await),
        Command::Bench(BenchCommand::Latency(args)) => {
            with_node(&common, async |client, out| bench::latency(args, &client, out).await)
        }
        Command::Bench(BenchCommand::Throughput(args)) => {
            with_node(&common, async |client, out| bench::throughput::run(args, &client, out).await)
        }
        Command::Authors(args) => {
            with_node(&common, async |client, out| authors::run(&client, args, out).await)
        }
        Command::Thoughts(args) => {
            with_node(&common, async |client, out| thoughts::run(args, &client, out).await)
        }
        Command::Sessions => with_node(&common, async |client, out| sessions::run(&client, out).await),
        Command::Economics => with_node(&common, async |client, out| economics::run(&client, out).await),
        Command::Alerts => with_node(&common, async |client, out| alerts::run(&client, out).await),
        Command::Explain(args) => {
            with_node(&common, async |client, out| explain::run(args, &client, out).await)
        }
    }
}

fn with_node(
    common: &Common,
    command: impl AsyncFnOnce(Client, Out) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let client = Client::new(&data_dir(common)?);
    ask(command(client, out(common)))
}

fn ask(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    wait_for(Builder::new_current_thread(), command)
}

fn wait_for(
    mut runtime: Builder,
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let runtime: Runtime = runtime.enable_all().build().context("can't start the runtime")?;
    let result = runtime.block_on(command);
    runtime.shutdown_timeout(LEAVE_MAX);
    result
}

fn out(common: &Common) -> Out {
    let form = if common.json { Form::Json } else { Form::Text };
    Show::new(BufWriter::new(io::stdout().lock()), form)
}

/// Where the node's files are: as typed, or where the system keeps a user's data.
fn data_dir(common: &Common) -> Result<PathBuf, Failure> {
    if let Some(typed) = &common.data_dir {
        return match typed.as_os_str().is_empty() {
            false => Ok(typed.clone()),
            true => Err(Failure::usage("`--data-dir` is empty")),
        };
    }
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data_home =
        absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    data_home.map(|data_home| data_home.join("cogmesh")).ok_or_else(|| {
        Failure::usage(
            "there is no place for the node's data: neither `XDG_DATA_HOME` nor `HOME` is an absolute path",
        )
        .hint("name a data directory with `--data-dir`")
    })
}
