//! `cogmesh alerts`: what a person should look at.

use std::process::ExitCode;

use super::{
    Out,
    client::Client,
    exit::Exit,
    show::{Align, duration, escaped, table},
    time,
};
use crate::api::json::{Alert, Alerts};

/// Asks the running node and lists its alerts.
///
/// # Errors
/// Where no node runs or the output can't be written.
pub async fn run(client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let Alerts { alerts } = client.get("/v1/alerts").await?;
    out.list(&alerts, text)?;
    Ok(Exit::Done.into())
}

/// Alerts for people, the oldest first.
#[must_use]
pub fn text(alerts: &[Alert]) -> String {
    if alerts.is_empty() {
        return "no alerts\n".to_owned();
    }
    let now_ms = time::now_ms();
    let row = |alert: &Alert| {
        let age = duration(now_ms.saturating_sub(alert.since_ms) / 1_000);
        [escaped(&alert.name), format!("{age} ago"), alert.count.to_string(), escaped(&alert.about)]
    };
    let headings =
        [("alert", Align::Left), ("first", Align::Right), ("times", Align::Right), ("about", Align::Left)];
    table(headings, &alerts.iter().map(row).collect::<Vec<_>>())
}
