//! `cogmesh bench throughput`: the running node and a peer measure how much gets through between them, and this shows what they found.

use std::{process::ExitCode, time::Duration};

use super::{all_linked, shown_meanwhile};
use crate::{
    api::measurements::{BenchThroughput, Throughput},
    cli::{
        Out,
        args::ThroughputArgs,
        client::Client,
        exit::Exit,
        progress::Progress,
        show::{Align, Form, escaped, short, table},
    },
};

/// What comes beside the time for which there is written, usually: bytes in bulk, the catch-up, starts and ends.
const REST_USUAL: Duration = Duration::from_secs(4);
/// And at most.
const REST_MAX: Duration = Duration::from_secs(90);

/// Measures one peer, or one after the other.
///
/// # Errors
/// Where no node runs, nobody linked is meant, somebody measures already, or output can't be written.
pub async fn run(args: ThroughputArgs, client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let peers = match args.peer {
        Some(peer) => vec![peer],
        None => all_linked(client).await?,
    };
    let writes = Duration::from_millis(args.duration);
    let progress = (out.form() == Form::Text).then(|| Progress::new("measuring"));
    let mut measured: Vec<Throughput> = vec![];
    for (place, peer) in peers.iter().enumerate() {
        let request = BenchThroughput {
            peer: peer.clone(),
            duration_ms: args.duration,
            size: args.size,
            durability: args.durability.name().to_owned(),
        };
        let asked = client.post_and_wait("/v1/bench/throughput", &request, writes.saturating_add(REST_MAX));
        let takes = writes.saturating_add(REST_USUAL);
        measured.push(shown_meanwhile(asked, progress.as_ref(), (place, peers.len()), takes).await?);
    }
    drop(progress);
    out.list(&measured, text)?;
    let worked = measured.iter().all(|throughput| throughput.why.is_none());
    Ok(if worked { Exit::Done } else { Exit::Failed }.into())
}

fn text(measured: &[Throughput]) -> String {
    measured.iter().map(one_peer).collect::<Vec<_>>().join("\n")
}

fn one_peer(throughput: &Throughput) -> String {
    let mut text = format!(
        "{} ({}) at {}: thoughts of {} bytes, durability {}\n",
        escaped(&throughput.name),
        short(&throughput.peer),
        escaped(&throughput.address),
        throughput.size,
        escaped(&throughput.durability)
    );
    let whole = |value: Option<f64>| value.map(|value| format!("{value:.0}"));
    let one_decimal = |value: Option<f64>| value.map(|value| format!("{value:.1}"));
    let count = |value: Option<u64>| value.map(|value| value.to_string());
    let rows: Vec<[String; 2]> = [
        ("thoughts a second, delivered, verified and stored", whole(throughput.thoughts_per_s)),
        ("lost", count(throughput.lost)),
        ("catch-up, entries a second", whole(throughput.catch_up_per_s)),
        ("bulk, MB a second", one_decimal(throughput.bulk_mb_per_s)),
        ("processor time for a thought, µs", one_decimal(throughput.cpu_us_per_thought)),
        ("  of it here", one_decimal(throughput.cpu_here_us)),
        ("  of it there", one_decimal(throughput.cpu_there_us)),
        ("bytes on the wire for a thought", whole(throughput.wire_bytes_per_thought)),
        ("thoughts in all", count(throughput.thoughts)),
    ]
    .into_iter()
    .map(|(what, value)| [what.to_owned(), value.unwrap_or_else(|| "-".to_owned())])
    .collect();
    // The empty headings are the line between.
    text.push_str(&table([("", Align::Left), ("", Align::Right)], &rows));
    if let Some(why) = &throughput.why {
        text.push_str(&format!("\nwhat is missing could not be measured: {}\n", escaped(why)));
    }
    text
}
