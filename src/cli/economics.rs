//! `cogmesh economics`: the balances of the federation in a few numbers.

use std::process::ExitCode;

use super::{
    Out,
    client::Client,
    exit::Exit,
    show::{Align, atp, escaped, fields, millionths, ratio, short, table},
};
use crate::{
    api::json::{Balance, Economics},
    ledger::types::MicroAtp,
};

/// Asks the running node and shows the numbers.
///
/// # Errors
/// Where no node runs or the output can't be written.
pub async fn run(client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let economics: Economics = client.get("/v1/economics").await?;
    out.one(&economics, text)?;
    Ok(Exit::Done.into())
}

/// Economics for people.
#[must_use]
pub fn text(economics: &Economics) -> String {
    let numbers = fields(&[
        ("nodes", economics.nodes.to_string()),
        ("total", atp(economics.total_uatp)),
        ("mean", atp(economics.mean_uatp)),
        ("least", atp(economics.min_uatp)),
        ("most", atp(economics.max_uatp)),
        ("Gini", ratio(economics.gini_ppm)),
        ("rewards", format!("{} a minute", millionths(economics.rewards_per_min_ppm))),
        ("penalties", format!("{} a minute", millionths(economics.penalties_per_min_ppm))),
    ]);
    let row = |one: &Balance| [escaped(&one.name), short(&one.id), MicroAtp(one.balance_uatp).to_string()];
    let headings = [("name", Align::Left), ("id", Align::Left), ("balance (ATP)", Align::Right)];
    let rows: Vec<[String; 3]> = economics.balances.iter().map(row).collect();
    format!("{numbers}\n{}", table(headings, &rows))
}
