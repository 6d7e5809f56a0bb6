//! `cogmesh ping PEER`: how long some bytes take to a peer and back, a line each time, as `ping` shows it.

use std::{process::ExitCode, time::Duration};

use serde::Serialize;
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

use super::{
    Out,
    args::PingArgs,
    client::Client,
    exit::{Exit, Failure},
    show::{Form, escaped, short},
};
use crate::api::measurements::{Probe, Probed};

/// Pings until it was often enough or Ctrl-C is pressed.
///
/// # Errors
/// Where no node runs, nobody linked is meant, or the output can't be written.
pub async fn run(args: PingArgs, client: &Client, mut out: Out) -> anyhow::Result<ExitCode> {
    let request = Probe { peer: args.peer, bytes: args.size };
    let mut pings = Pings::default();
    let mut every = interval(Duration::from_secs_f64(args.interval));
    // One that takes longer than the interval is not followed by a burst.
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut peer = None;
    let mut enough = std::pin::pin!(tokio::signal::ctrl_c());
    while args.count.is_none_or(|count| pings.sent < count) {
        let answer = select! {
            biased;
            _ = &mut enough => break,
            answer = async { every.tick().await; client.post::<Probed>("/v1/probe", &request).await } => answer,
        };
        pings.sent += 1;
        match answer {
            Ok(probed) => {
                pings.came_back(probed.rtt_us);
                let line = Line::new(pings.sent, &probed);
                out.one(&line, |line| line.text(&probed))?;
                peer = Some(probed);
            }
            Err(error) if is_lost(&error) => {
                let line = Lost { seq: pings.sent, lost: true, why: error.to_string() };
                out.one(&line, |line| format!("seq={}: {}\n", line.seq, escaped(&line.why)))?;
            }
            Err(error) => return Err(error),
        }
    }
    if pings.sent > 0 && out.form() == Form::Text {
        let name = peer.as_ref().map_or(request.peer.as_str(), |peer| &peer.name);
        out.text(&pings.summary(name))?;
    }
    Ok(if pings.received > 0 { Exit::Done } else { Exit::Failed }.into())
}

/// Whether a ping only did not come back: the link may be there again for the next one.
fn is_lost(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<Failure>().and_then(Failure::code);
    matches!(code, Some("no_echo" | "link_gone"))
}

/// One that came back.
#[derive(Debug, Serialize)]
struct Line {
    seq: u64,
    peer: String,
    name: String,
    address: String,
    bytes: usize,
    rtt_us: f64,
}

/// One that did not.
#[derive(Debug, Serialize)]
struct Lost {
    seq: u64,
    lost: bool,
    why: String,
}

impl Line {
    fn new(seq: u64, probed: &Probed) -> Self {
        let Probed { peer, name, address, bytes, rtt_us } = probed.clone();
        Self { seq, peer, name, address, bytes, rtt_us }
    }

    fn text(&self, probed: &Probed) -> String {
        let (name, id, address) = (escaped(&probed.name), short(&probed.peer), escaped(&probed.address));
        let ms = millis(self.rtt_us);
        format!("{} bytes from {name} ({id}) at {address}: seq={} time={ms} ms\n", self.bytes, self.seq)
    }
}

/// What came of all so far.
#[derive(Debug, Default)]
struct Pings {
    sent: u64,
    received: u64,
    least_us: f64,
    most_us: f64,
    sum_us: f64,
    squares: f64,
}

impl Pings {
    fn came_back(&mut self, us: f64) {
        self.least_us = if self.received == 0 { us } else { self.least_us.min(us) };
        self.most_us = self.most_us.max(us);
        self.sum_us += us;
        self.squares += us * us;
        self.received += 1;
    }

    /// As `ping` ends; `mdev` is the standard deviation.
    fn summary(&self, name: &str) -> String {
        let lost = 100.0 * (self.sent - self.received) as f64 / self.sent as f64;
        let mut text = format!(
            "\n--- {} ---\n{} sent, {} received, {lost:.1} % lost\n",
            escaped(name),
            self.sent,
            self.received
        );
        if self.received > 0 {
            let many = self.received as f64;
            let mean = self.sum_us / many;
            let deviation = (self.squares / many - mean * mean).max(0.0).sqrt();
            let [least, mean, most, deviation] = [self.least_us, mean, self.most_us, deviation].map(millis);
            text.push_str(&format!("min/avg/max/mdev = {least}/{mean}/{most}/{deviation} ms\n"));
        }
        text
    }
}

fn millis(us: f64) -> String {
    format!("{:.3}", us / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_ping_says_and_nothing_raw() {
        let probed = Probed {
            peer: "3f9k2q7a".repeat(6),
            name: "th\u{1b}or".to_owned(),
            address: "10.77.0.2:8888".to_owned(),
            bytes: 64,
            rtt_us: 214.3,
        };
        assert_eq!(
            Line::new(1, &probed).text(&probed),
            "64 bytes from th\\u{1b}or (3f9k2q7a) at 10.77.0.2:8888: seq=1 time=0.214 ms\n"
        );
    }

    #[test]
    fn the_summary_counts_what_did_not_come_back() {
        let mut pings = Pings { sent: 4, ..Pings::default() };
        for us in [100.0, 300.0] {
            pings.came_back(us);
        }
        assert_eq!(
            pings.summary("thor"),
            "\n--- thor ---\n4 sent, 2 received, 50.0 % lost\nmin/avg/max/mdev = 0.100/0.200/0.300/0.100 ms\n"
        );
        let none = Pings { sent: 2, ..Pings::default() };
        assert_eq!(none.summary("thor"), "\n--- thor ---\n2 sent, 0 received, 100.0 % lost\n");
    }
}
