//! `cogmesh members`: who belongs to a closed federation, as far as this node knows.

use std::process::ExitCode;

use super::{
    Out,
    client::Client,
    exit::Exit,
    show::{Align, escaped, short, table},
    time,
};
use crate::api::json::{Member, Members};

/// Asks the running node.
///
/// # Errors
/// Where no node runs, its federation is an open one, or the output can't be written.
pub async fn run(client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let Members { members } = client.get("/v1/members").await?;
    out.list(&members, text)?;
    Ok(Exit::Done.into())
}

fn text(members: &[Member]) -> String {
    let row = |member: &Member| {
        [
            escaped(&member.name),
            member.id.as_deref().map(short).unwrap_or_default(),
            escaped(&member.state),
            member.certificate_expires_ms.map(time::shown).unwrap_or_default(),
        ]
    };
    let rows: Vec<[String; 4]> = members.iter().map(row).collect();
    let headings = [
        ("name", Align::Left),
        ("id", Align::Left),
        ("state", Align::Left),
        ("certificate until", Align::Left),
    ];
    table(headings, &rows)
}
