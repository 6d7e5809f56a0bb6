//! `cogmesh authors`: whose logs the running node holds, and what they have come to.

use std::process::ExitCode;

use super::{
    Out,
    args::AuthorsArgs,
    client::Client,
    exit::Exit,
    show::{Align, escaped, hardware, ratio, short, table},
};
use crate::{
    api::json::{Author, Authors, Clear, Cleared},
    ledger::types::MicroAtp,
};

/// Asks the running node and lists its authors.
///
/// # Errors
/// Where no node runs or the output can't be written.
pub async fn run(client: &Client, args: AuthorsArgs, mut out: Out) -> anyhow::Result<ExitCode> {
    if let Some(author) = args.clear {
        let cleared: Cleared = client.post("/v1/authors/clear", &Clear { author }).await?;
        out.one(&cleared, cleared_text)?;
        return Ok(Exit::Done.into());
    }
    let Authors { authors } = client.get("/v1/authors").await?;
    out.list(&authors, text)?;
    Ok(Exit::Done.into())
}

fn cleared_text(cleared: &Cleared) -> String {
    let id = escaped(&cleared.id);
    match cleared.was_convicted {
        true => format!("the log of {id} is taken again by this node\n"),
        false => format!("{id} was not convicted; nothing has changed\n"),
    }
}

/// Authors for people; below them why the logs of some end.
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
    let ends: String = authors.iter().filter_map(end).collect();
    table(headings, &rows) + &ends
}

fn end(author: &Author) -> Option<String> {
    let fault = author.fault.as_ref().filter(|fault| !fault.cleared)?;
    let did = match fault.kind.as_str() {
        "fork" => "signed two different entries",
        _ => "signed a false header as entry",
    };
    let ([first, second], id) = (&fault.hashes, short(&author.id));
    Some(format!(
        "forked: {} ({id}) {did} {}: {} and {}; its log ends before it. Once its operator has set it right, \
         `cogmesh authors --clear {id}` takes it again\n",
        escaped(&author.name),
        fault.seq,
        escaped(first),
        escaped(second),
    ))
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
