//! `cogmesh demo`: legion, thor and sprout in one process over real QUIC on loopback, each with a store of its own.
//! It runs the four scenarios of the Session 176 plan and prints each criterion with its measured value.

mod lab;
mod report;
mod scenarios;

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::Args;

use self::report::Report;

/// Runs three nodes, legion, thor and sprout, in this process over real QUIC on loopback, and checks what they promise.
///
/// Nothing leaves the machine. Each node has a temporary store that is removed at the end. The four scenarios are
/// basic federation, quality selection, resilience, and load; every criterion is printed with what was measured, and
/// the exit code is 0 only where all of them hold.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Thoughts that each node submits in the load scenario
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub load: u32,
}

/// Runs the demo and prints its report.
///
/// # Errors
/// Where a node can't be started or the report can't be written; a criterion that does not hold is no error but exit
/// code 1.
#[expect(clippy::fn_params_excessive_bools, reason = "the flag as it was typed")]
pub async fn run(args: &DemoArgs, json: bool) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    let running = scenarios::run(args, &mut report);
    tokio::select! {
        result = running => result?,
        stopped = tokio::signal::ctrl_c() => {
            stopped.context("can't listen for Ctrl-C")?;
            anyhow::bail!("stopped by Ctrl-C; the nodes and their temporary stores are gone");
        }
    }
    let mut out = std::io::stdout().lock();
    if json {
        report.write_json(&mut out)?;
    } else {
        report.write_text(&mut out)?;
    }
    out.flush()?;
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
