//! `cogmesh export`: every thought of the store as a line of JSON, accepted or not.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use serde::Serialize;

use super::{exit::Exit, show::json_line};
use crate::{
    api::submit,
    ledger::{Verdict, economy::economic_value},
    node::STORE_FILE,
    store::{self, ExportedThought},
};

/// One line: the fields of `thoughts`, and the verdict.
#[derive(Clone, Debug, Serialize)]
struct Exported {
    author: String,
    name: String,
    seq: u64,
    time_ms: u64,
    session: String,
    mode: String,
    /// Null where this node does not keep it.
    content: Option<String>,
    coherence_ppm: u32,
    weight_ppm: u32,
    reward_uatp: i64,
    economic_value_ppm: u32,
    received_ms: u64,
    verdict: &'static str,
    layer: Option<&'static str>,
    delta_uatp: i64,
}

/// Writes the lines to standard output.
///
/// # Errors
/// Where there is no store, it can't be read, or the output can't be written.
pub fn run(data_dir: &Path) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    store::export(&data_dir.join(STORE_FILE), &mut |thought| {
        out.write_all(json_line(&exported(thought))?.as_bytes())
    })?;
    out.flush().context("can't write the thoughts")?;
    Ok(Exit::Done.into())
}

fn exported(thought: ExportedThought) -> Exported {
    let (verdict, layer) = submit::verdict(thought.verdict);
    let (reward_uatp, economic_value_ppm) = match thought.verdict {
        Verdict::Accepted { reward } => (reward.0, economic_value(thought.coherence, thought.weight).0),
        Verdict::Rejected { .. } => (0, 0),
    };
    Exported {
        author: thought.author.to_text(),
        name: thought.name.to_string(),
        seq: thought.seq.0,
        time_ms: thought.time.0,
        session: thought.session.to_string(),
        mode: thought.mode.name().to_owned(),
        content: thought.content,
        coherence_ppm: thought.coherence.0,
        weight_ppm: thought.weight.0,
        reward_uatp,
        economic_value_ppm,
        received_ms: thought.received.0,
        verdict,
        layer,
        delta_uatp: thought.delta.0,
    }
}
