//! `cogmesh status`: what the running node is and knows.

use std::process::ExitCode;

use super::{
    Out, alerts, authors,
    client::Client,
    exit::Exit,
    peers,
    show::{duration, escaped, fields, hardware},
};
use crate::api::json::{Corpus, OwnLog, Status};

/// Asks the running node and shows its status.
///
/// # Errors
/// Where no node runs or the output can't be written.
pub async fn run(client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let status: Status = client.get("/v1/status").await?;
    out.one(&status, text)?;
    Ok(Exit::Done.into())
}

/// A status for people.
#[must_use]
pub fn text(status: &Status) -> String {
    let node = &status.node;
    let federation = &node.federation;
    let kind = if federation.closed { "closed" } else { "open" };
    let head = fields(&[
        ("node", format!("{} ({})", escaped(&node.name), escaped(&node.id))),
        (
            "hardware",
            format!("{}, level {}, {}", hardware(&node.hardware, None), node.level, escaped(&node.arch)),
        ),
        ("federation", format!("{} ({kind}, {})", escaped(&federation.name), escaped(&federation.id))),
        ("listens on", escaped(&status.listen.join(", "))),
        ("own log", own_log(&status.own_log)),
        ("corpus", corpus(&status.corpus)),
        ("running for", duration(node.uptime_s)),
        ("version", escaped(&node.version)),
    ]);
    let alerts = match status.alerts.as_slice() {
        [] => String::new(),
        some => format!("\nalerts\n{}", alerts::text(some)),
    };
    format!(
        "{head}\npeers\n{}\nauthors\n{}{alerts}",
        peers::text(&status.peers),
        authors::text(&status.authors)
    )
}

fn own_log(own: &OwnLog) -> String {
    match &own.why {
        None => escaped(&own.state),
        Some(why) => format!("{}: {}", escaped(&own.state), escaped(why)),
    }
}

fn corpus(corpus: &Corpus) -> String {
    let Corpus { thoughts, bytes, missing } = corpus;
    let missing = match missing {
        0 => String::new(),
        missing => format!(", {missing} entries or contents missing"),
    };
    format!("{thoughts} thoughts, {} KiB of contents{missing}", bytes.div_ceil(1_024))
}
