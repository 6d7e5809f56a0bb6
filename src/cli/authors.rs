//! `cogmesh authors`: whose logs the running node holds, and what they have come to.

use std::process::ExitCode;

use super::{
    Out,
    client::Client,
    exit::Exit,
    show::{Align, escaped, hardware, ratio, short, table},
};
use crate::{
    api::json::{Author, Authors},
    ledger::types::MicroAtp,
};

/// Asks the running node and lists its authors.
///
/// # Errors
/// Where no node runs or the output can't be written.
pub async fn run(client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let Authors { authors } = client.get("/v1/authors").await?;
    out.list(&authors, text)?;
    Ok(Exit::Done.into())
}

/// Authors for people.
#[must_use]
pub fn text(authors: &[Author]) -> String {
    let headings = [
        ("name", Align::Left),
        ("id", Align::Left),
        ("balance (ATP)", Align::Right),
        ("trust", Align::Right),
        ("weight", Align::Right),
        ("seq", Align::Right),
        ("accepted", Align::Right),
        ("rejected", Align::Right),
        ("hardware", Align::Left),
        ("state", Align::Left),
    ];
    let rows: Vec<[String; 10]> = authors.iter().map(row).collect();
    table(headings, &rows)
}

fn row(author: &Author) -> [String; 10] {
    [
        escaped(&author.name),
        short(&author.id),
        MicroAtp(author.balance_uatp).to_string(),
        ratio(author.trust_ppm),
        ratio(author.weight_ppm),
        author.seq.to_string(),
        author.accepted.to_string(),
        author.rejected.to_string(),
        format!("{}, level {}", hardware(&author.hardware, None), author.level),
        escaped(&author.state),
    ]
}
