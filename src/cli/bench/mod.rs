//! `cogmesh bench latency`: the running node measures its links, and this shows what it found. (`throughput.rs`: `cogmesh bench throughput`.)

mod chart;
mod page;
pub mod throughput;

use std::{
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{select, time::interval};

use super::{
    Out,
    args::LatencyArgs,
    client::Client,
    exit::{Exit, Failure},
    progress::Progress,
    show::{Align, Form, escaped, short, table},
};
use crate::api::{
    json::Peers,
    measurements::{BenchLatency, Latency, Spread},
};

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Measures one peer, or one after the other.
///
/// # Errors
/// Where no node runs, nobody linked is meant, somebody measures already, or output or page can't be written.
pub async fn latency(args: LatencyArgs, client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    // A page that can't be written is said before ten minutes of measuring, not after.
    if let Some(file) = &args.html {
        // Opened as it is: an older page stays until there is a new one.
        let opened = fs::OpenOptions::new().append(true).create(true).open(file);
        opened.with_context(|| unwritable(file))?;
    }
    let peers = match args.peer {
        Some(peer) => vec![peer],
        None => all_linked(client).await?,
    };
    let takes = Duration::from_millis(args.duration);
    let progress = (out.form() == Form::Text).then(|| Progress::new("measuring"));
    let mut measured: Vec<Latency> = vec![];
    for (place, peer) in peers.iter().enumerate() {
        let request = BenchLatency {
            peer: peer.clone(),
            duration_ms: args.duration,
            rate: args.rate,
            size: args.size,
            kinds: None,
        };
        let asked = client.post_and_wait("/v1/bench/latency", &request, takes);
        measured.push(shown_meanwhile(asked, progress.as_ref(), (place, peers.len()), takes).await?);
    }
    drop(progress);
    if let Some(file) = &args.html {
        fs::write(file, page::page(&measured)).with_context(|| unwritable(file))?;
    }
    let in_short: Vec<Latency> = measured.into_iter().map(Latency::in_short).collect();
    out.list(&in_short, text)?;
    let worked = in_short.iter().all(|latency| latency.probe_us.is_some() && latency.ended.is_none());
    Ok(if worked { Exit::Done } else { Exit::Failed }.into())
}

async fn all_linked(client: &Client) -> anyhow::Result<Vec<String>> {
    let Peers { peers } = client.get("/v1/peers").await?;
    let linked: Vec<String> =
        peers.into_iter().filter(|peer| peer.verified).filter_map(|peer| peer.id).collect();
    if linked.is_empty() {
        let failure =
            Failure::new(Exit::Failed, "this node is linked with no peer, so there is nothing to measure");
        return Err(failure.hint("`cogmesh peers` says why").into());
    }
    Ok(linked)
}

/// Waits, and meanwhile shows how much time has passed of what all will take.
async fn shown_meanwhile<T>(
    asked: impl Future<Output = anyhow::Result<T>>,
    progress: Option<&Progress>,
    (place, many): (usize, usize),
    takes: Duration,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    let mut look = interval(LOOK);
    let mut asked = std::pin::pin!(asked);
    loop {
        select! {
            answer = &mut asked => return answer,
            _ = look.tick() => {
                if let Some(progress) = progress {
                    let each = u64::try_from(takes.as_millis()).unwrap_or(u64::MAX);
                    let passed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).min(each);
                    let before = each.saturating_mul(place as u64);
                    progress.at(before.saturating_add(passed), each.saturating_mul(many as u64));
                }
            }
        }
    }
}

fn unwritable(file: &Path) -> String {
    format!("can't write the page `{}`", file.display())
}

/// One peer with all its numbers, or a line for each of several.
fn text(measured: &[Latency]) -> String {
    match measured {
        [one] => one_peer(one),
        several => matrix(several),
    }
}

fn one_peer(latency: &Latency) -> String {
    let mut text = format!(
        "{} ({}) at {}: {} bytes, {} of each kind a second\n\n",
        escaped(&latency.name),
        short(&latency.peer),
        escaped(&latency.address),
        latency.size,
        latency.rate
    );
    let rows: Vec<[String; 9]> =
        latency.kinds().into_iter().filter_map(|(name, spread)| Some(row(meaning(name), spread?))).collect();
    let headings = [
        ("in µs", Align::Left),
        ("p50", Align::Right),
        ("p90", Align::Right),
        ("p99", Align::Right),
        ("p99.9", Align::Right),
        ("max", Align::Right),
        ("jitter", Align::Right),
        ("sent", Align::Right),
        ("lost", Align::Right),
    ];
    text.push_str(&table(headings, &rows));
    text.push('\n');
    text.push_str(&verdict(latency));
    text
}

fn row(name: &str, spread: &Spread) -> [String; 9] {
    let us = |value: f64| format!("{value:.1}");
    [
        name.to_owned(),
        us(spread.p50),
        us(spread.p90),
        us(spread.p99),
        us(spread.p999),
        us(spread.max),
        us(spread.jitter),
        spread.count.to_string(),
        spread.lost.to_string(),
    ]
}

/// What a kind is, for people.
fn meaning(kind: &str) -> &'static str {
    match kind {
        "floor" => "bare UDP, there and back",
        "probe" => "open stream, there and back",
        "datagram" => "datagram, there and back",
        "stream" => "fresh stream, there and back",
        "thought" => "thought, one way",
        _ => "",
    }
}

/// The sentence that all this is for, and what is to be known about it.
fn verdict(latency: &Latency) -> String {
    let mut text = String::new();
    if let (Some(added), Some(floor)) = (latency.added_us, &latency.floor_us) {
        text.push_str(&match added {
            0.0.. => format!("the stack adds {added:.1} µs to your network's {:.1}\n", floor.p50),
            _ => format!(
                "what the stack adds to your network's {:.1} µs is lost in the noise: its median is {:.1} µs lower\n",
                floor.p50, -added
            ),
        });
    }
    if let Some(why) = &latency.floor_why {
        text.push_str(&format!("what the network takes by itself is not known: {}\n", escaped(why)));
    }
    if let Some(why) = &latency.ended {
        text.push_str(&format!("it ended early: {}\n", escaped(why)));
    }
    let late = &latency.late_us;
    text.push_str(&format!(
        "samples were sent up to {:.1} µs late (half of them up to {:.1}), which is in these numbers\n",
        late.max, late.p50
    ));
    text
}

fn matrix(measured: &[Latency]) -> String {
    let pair = |spread: Option<&Spread>| {
        spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.1} / {:.1}", spread.p50, spread.p99))
    };
    let rows: Vec<[String; 9]> = measured
        .iter()
        .map(|latency| {
            [
                escaped(&latency.name),
                short(&latency.peer),
                pair(latency.floor_us.as_ref()),
                pair(latency.probe_us.as_ref()),
                pair(latency.datagram_us.as_ref()),
                pair(latency.stream_us.as_ref()),
                pair(latency.thought_us.as_ref()),
                latency.added_us.map_or_else(|| "-".to_owned(), |added| format!("{added:.1}")),
                latency.lost.to_string(),
            ]
        })
        .collect();
    let headings = [
        ("p50 / p99 in µs", Align::Left),
        ("id", Align::Left),
        ("bare UDP", Align::Right),
        ("open stream", Align::Right),
        ("datagram", Align::Right),
        ("fresh stream", Align::Right),
        ("thought, one way", Align::Right),
        ("stack adds", Align::Right),
        ("lost", Align::Right),
    ];
    let mut text = table(headings, &rows);
    for latency in measured {
        for why in [&latency.floor_why, &latency.ended].into_iter().flatten() {
            text.push_str(&format!("{}: {}\n", escaped(&latency.name), escaped(why)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::measurements::Late;

    pub(super) fn measured(name: &str) -> Latency {
        let spread = |p50: f64| Spread {
            p50,
            p90: p50 + 1.0,
            p99: p50 + 2.0,
            p999: p50 + 3.0,
            max: p50 + 4.5,
            min: p50 - 1.0,
            mean: p50,
            jitter: 0.5,
            count: 100,
            lost: 1,
            series: vec![],
            histogram: vec![],
        };
        Latency {
            peer: "3f9k2q7a".repeat(6),
            name: name.to_owned(),
            address: "10.77.0.2:8888".to_owned(),
            size: 64,
            rate: 100,
            duration_ms: 1_000,
            count: 500,
            lost: 5,
            floor_us: Some(spread(180.0)),
            probe_us: Some(spread(202.0)),
            datagram_us: Some(spread(201.0)),
            stream_us: Some(spread(230.0)),
            thought_us: Some(spread(400.0)),
            added_us: Some(22.0),
            late_us: Late { p50: 0.3, p99: 10.0, max: 50.0 },
            floor_why: None,
            ended: None,
        }
    }

    #[test]
    fn the_answer_is_what_the_stack_adds_to_the_network() {
        let text = text(&[measured("thor")]);
        assert!(text.starts_with("thor (3f9k2q7a) at 10.77.0.2:8888: 64 bytes, 100 of each kind a second\n"));
        assert!(text.contains("the stack adds 22.0 µs to your network's 180.0\n"), "{text}");
        assert!(
            text.contains(
                "open stream, there and back   202.0  203.0  204.0  205.0  206.5     0.5   100     1\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn without_a_floor_the_reason_is_said_and_nothing_raw() {
        let blocked = Latency {
            floor_us: None,
            added_us: None,
            floor_why: Some("a firewall\u{1b}[31m".to_owned()),
            ..measured("thor")
        };
        let text = text(&[blocked]);
        assert!(!text.contains("the stack adds") && text.contains("a firewall\\u{1b}[31m"), "{text}");
    }

    #[test]
    fn a_stack_that_takes_nothing_off_is_noise() {
        let noisy = Latency { added_us: Some(-115.0), ..measured("thor") };
        let text = text(&[noisy]);
        assert!(text.contains("lost in the noise: its median is 115.0 µs lower\n"), "{text}");
    }

    #[test]
    fn several_peers_are_a_matrix() {
        let gone =
            Latency { thought_us: None, ended: Some("the link is gone".to_owned()), ..measured("sprout") };
        let text = text(&[measured("thor"), gone]);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("180.0 / 182.0") && text.contains("sprout: the link is gone"), "{text}");
    }
}
