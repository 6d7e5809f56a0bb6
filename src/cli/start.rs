//! `cogmesh start`: runs a node until it is asked to stop.

use std::{
    env,
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};
use tracing_subscriber::EnvFilter;

use super::{
    Out,
    args::{self, LogFormat, StartArgs},
    config,
    exit::{Exit, Failure},
    interactive, log_lines,
    show::{Form, escaped},
    time,
};
use crate::{
    api::{
        self, Api,
        views::{self, Readiness},
    },
    node::{self, Handle, hardware::Machine},
};

/// How long a node may take to stop. With what the runtime needs afterwards it stays below the 2 s of the specification.
const STOP_MAX: Duration = Duration::from_millis(1_800);
/// How long the ready line waits for the genesis entry, and how often it looks.
const LOG_BEGUN_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long the last log lines may take.
const LAST_LINES_MAX: Duration = Duration::from_millis(50);

/// What `start --json` prints once the node listens.
#[derive(Clone, Debug, Serialize)]
struct Ready {
    id: String,
    name: String,
    listen: Vec<String>,
    /// Where the local API is on TCP.
    api: Option<String>,
}

/// Starts a node and waits until it is asked to stop, by a signal or, where it is interactive, by its user.
///
/// # Errors
/// Where what was asked for can't be meant, or the node can't start, fails, or does not stop in time.
pub async fn run(typed: StartArgs, data_dir: &Path, verbose: u8, mut out: Out) -> anyhow::Result<ExitCode> {
    let machine = Machine::find(Path::new("/"));
    let run = config::resolve(typed, data_dir, &machine, &config::host())?;
    log_to_stderr(run.log_format, verbose)?;
    // Before a key and a store are made in a place where the node can't run.
    api::socket::path_in(data_dir)?;
    let port = api::tcp::open(run.api).await?;
    tell_machine(&machine);
    for variable in args::unknown_in_environment() {
        tracing::warn!(
            "`{}` in the environment is no option; `cogmesh start --help` lists them",
            escaped(&variable)
        );
    }
    // Before anything takes time, so that no signal is lost.
    let mut signals = Signals::listen()?;
    let hangups = run.config.pki.is_some().then(|| listen(SignalKind::hangup())).transpose()?;
    let handle = tokio::select! {
        started = node::start(run.config) => started?,
        () = signals.next() => return Ok(Exit::Done.into()),
    };
    let telling = tokio::spawn(log_lines::tell(handle.events()));
    let api = match api::serve(handle.clone(), port).await {
        Ok(api) => api,
        Err(error) => {
            handle.stop();
            // What failed first is what is told.
            let _late = timeout(STOP_MAX, handle.stopped()).await;
            return Err(error.into());
        }
    };
    let told = tokio::select! {
        () = log_begun(&handle) => tell_ready(&handle, run.log_format, &mut out),
        () = signals.next() => return stop(handle, api, &mut signals).await,
    };
    let user = run.interactive.then_some(&mut out);
    let reloading = hangups.map(|hangups| tokio::spawn(reload(handle.clone(), hangups)));
    // Who wants to be told and can't be does not want the node.
    let ran = match told {
        Ok(()) => until_asked(&handle, &mut signals, user).await,
        Err(error) => Err(error),
    };
    reloading.inspect(tokio::task::JoinHandle::abort);
    let stopped = stop(handle, api, &mut signals).await;
    // The events end with the last handle; what is told by then is told.
    let _late = timeout(LAST_LINES_MAX, telling).await;
    ran?;
    stopped
}

/// Waits until a new node's genesis entry is stored: whoever is told that it is ready finds its account. A disk that takes
/// longer than usual holds nothing else up.
async fn log_begun(handle: &Handle) {
    let begun = async {
        while views::is_ready(handle).await == Ok(Readiness::Starting) {
            sleep(LOOK_AGAIN).await;
        }
    };
    // What is wrong with the disk, the node says itself.
    let _late = timeout(LOG_BEGUN_MAX, begun).await;
}

/// Reads the certificates of the operator's own PKI again at each SIGHUP. Without one the signal ends the process, as it does any
/// whose terminal goes.
async fn reload(handle: Handle, mut asked: Signal) {
    while asked.recv().await.is_some() {
        match handle.reload_certificates().await {
            Some(Ok(until)) => {
                tracing::info!(until = %time::shown(until.0), "the certificates were read again, and are shown from now on");
            }
            Some(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "the certificates can't be used; the old ones still count");
            }
            None => {}
        }
    }
}

/// Ends well where somebody asked, and with the reason where the node ended by itself.
async fn until_asked(handle: &Handle, signals: &mut Signals, user: Option<&mut Out>) -> anyhow::Result<()> {
    let user = async {
        match user {
            Some(out) => interactive::run(handle, out).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.next() => Ok(()),
        ended = handle.stopped() => Ok(ended?),
        left = user => left,
    }
}

async fn stop(handle: Handle, api: Api, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    tracing::info!("stopping");
    handle.stop();
    let stopping = async { tokio::join!(handle.stopped(), api.stop()).0 };
    tokio::select! {
        stopped = timeout(STOP_MAX, stopping) => match stopped {
            Ok(stopped) => stopped.map(|()| Exit::Done.into()).map_err(Into::into),
            Err(_) => {
                let hint = "what was acknowledged is stored; peers notice within 10 s";
                Err(Failure::new(Exit::Failed, "the node did not finish in time and was ended").hint(hint).into())
            }
        },
        // Who asks twice does not want to wait.
        () = signals.next() => Ok(Exit::Failed.into()),
    }
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("can't listen for signals")
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn tell_machine(machine: &Machine) {
    let model = machine.model.as_deref().map_or_else(String::new, escaped);
    tracing::debug!(hardware = %machine.hardware, memory_kib = machine.memory_kib, %model, "this machine");
}

/// For people a line on standard error, whatever the log's level; for programs an object on standard output.
fn tell_ready(handle: &Handle, log_format: LogFormat, out: &mut Out) -> anyhow::Result<()> {
    let (about, api) = (handle.about(), handle.api_address().map(|address| address.to_string()));
    let listen: Vec<String> = handle.listen().iter().map(ToString::to_string).collect();
    let (name, id, shown) = (&about.name, about.id.short(), listen.join(", "));
    match log_format {
        LogFormat::Text => {
            // A node whose standard error is closed still runs.
            let api = api.as_ref().map(|api| format!("; API on http://{api}")).unwrap_or_default();
            let _unheard = writeln!(io::stderr().lock(), "{name} ({id}) listens on {shown}{api}");
        }
        LogFormat::Json => {
            let api = api.as_deref().unwrap_or_default();
            tracing::info!(%name, %id, listen = %shown, %api, "listens");
        }
    }
    if out.form() == Form::Json {
        let ready = Ready { id: about.id.to_text(), name: name.to_string(), listen, api };
        out.one(&ready, |_| String::new())?;
    }
    Ok(())
}

/// Sends the log to standard error. `RUST_LOG` decides what is in it, or else the number of `-v`.
///
/// # Errors
/// Where `RUST_LOG` can't be understood.
pub fn log_to_stderr(format: LogFormat, verbose: u8) -> anyhow::Result<()> {
    let asked = env::var("RUST_LOG").ok().filter(|asked| !asked.is_empty());
    let filter = match &asked {
        Some(asked) => EnvFilter::try_new(asked).map_err(|error| {
            Failure::usage(format!("`RUST_LOG` can't be understood: {error}"))
                .hint("for example `RUST_LOG=cogmesh=debug`")
        })?,
        None => EnvFilter::new(match verbose {
            0 => "warn,cogmesh=info",
            1 => "info,cogmesh=debug",
            _ => "trace",
        }),
    };
    let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_target(verbose > 0);
    let set = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| Failure::new(Exit::Failed, format!("can't start the log: {error}")).into())
}
