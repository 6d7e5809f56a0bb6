//! `cogmesh sessions`: thoughts by their session, with its collective coherence.

use std::{collections::BTreeMap, process::ExitCode};

use super::{
    Out,
    client::Client,
    exit::Exit,
    show::{Align, escaped, ratio, table},
};
use crate::api::json::{Session, Sessions};

/// Asks the running node and lists its sessions.
///
/// # Errors
/// Where no node runs or the output can't be written.
pub async fn run(client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let Sessions { sessions } = client.get("/v1/sessions").await?;
    out.list(&sessions, text)?;
    Ok(Exit::Done.into())
}

fn text(sessions: &[Session]) -> String {
    if sessions.is_empty() {
        return "no thoughts yet\n".to_owned();
    }
    let row = |session: &Session| {
        [
            escaped(&session.session),
            session.thoughts.to_string(),
            session.participants.len().to_string(),
            ratio(session.collective_coherence_ppm),
            shares(&session.modes),
            shares(&session.hardware),
        ]
    };
    let headings = [
        ("session", Align::Left),
        ("thoughts", Align::Right),
        ("authors", Align::Right),
        ("coherence", Align::Right),
        ("modes", Align::Left),
        ("hardware", Align::Left),
    ];
    table(headings, &sessions.iter().map(row).collect::<Vec<_>>())
}

fn shares(counts: &BTreeMap<String, u64>) -> String {
    let shares: Vec<String> =
        counts.iter().map(|(name, count)| format!("{count} {}", escaped(name))).collect();
    shares.join(", ")
}
