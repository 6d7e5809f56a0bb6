//! `POST /v1/probe` and `POST /v1/bench/latency`: a linked peer in, times out.

use std::time::Duration;

use axum::response::Response;

use super::{
    error::Fault,
    linked::{Linked, find_linked, in_range},
    measurements::{BenchLatency, Bucket, Late, Latency, Probe, Probed, Second, Spread},
    patient,
};
use crate::node::{
    Handle,
    latency::{
        self, Kind, MeasureError, Measured, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN, PING_BYTES_MAX, Plan,
        ProbeError,
    },
};

/// How long a measurement may take.
const DURATION_MS: std::ops::RangeInclusive<u64> = 100..=600_000;
/// How often a kind may be sent in a second.
const RATE: std::ops::RangeInclusive<u32> = 1..=10_000;
/// How much longer each bar of a histogram reaches than the one before, beginning with a microsecond.
const BAR_GROWTH: f64 = 1.1;
const BAR_FIRST: u64 = 10;

/// Sends some bytes to a peer and back.
///
/// # Errors
/// Where nobody linked is meant, or the peer does not answer.
pub(super) async fn probe(handle: &Handle, request: &Probe) -> Result<Probed, Fault> {
    in_range("bytes", request.bytes, PAYLOAD_BYTES_MIN..=PING_BYTES_MAX)?;
    let Linked { id, name, link, address } = find_linked(&handle.view().await?, &request.peer)?;
    let took = handle.ping(link, request.bytes).await.map_err(|error| match error {
        ProbeError::NoEcho => Fault::unavailable("no_echo", error.to_string()),
        ProbeError::LinkGone | ProbeError::TooLong { .. } | ProbeError::Differs => {
            Fault::unavailable("link_gone", error.to_string())
        }
    })?;
    let rtt_us = micros(u64::try_from(took.as_nanos() / 100).unwrap_or(u64::MAX));
    Ok(Probed { peer: id.to_text(), name, address: address.to_string(), bytes: request.bytes, rtt_us })
}

/// Begins to measure; the answer comes when that is done, and it is given up where the asker goes away before.
///
/// # Errors
/// Where the question is wrong, nobody linked is meant, or somebody else measures.
pub(super) async fn bench(handle: &Handle, request: &BenchLatency) -> Result<Response, Fault> {
    in_range("duration_ms", request.duration_ms, DURATION_MS)?;
    in_range("rate", request.rate, RATE)?;
    in_range("size", request.size, PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX)?;
    let kinds = kinds(request.kinds.as_deref())?;
    let linked = find_linked(&handle.view().await?, &request.peer)?;
    let Some(turn) = handle.measuring_turn() else {
        return Err(Fault::conflict("busy", "this node is measuring already; two would measure each other"));
    };
    let plan = Plan {
        link: linked.link,
        duration: Duration::from_millis(request.duration_ms),
        rate: request.rate,
        bytes: request.size,
        kinds,
    };
    let (handle, request) = (handle.clone(), request.clone());
    Ok(patient::answer(async move {
        let _turn = turn;
        let measured = handle.measure_latency(plan).await;
        shown(&request, linked, measured)
    }))
}

/// The kinds that are named, in their order. What the others are held against is always among them.
fn kinds(named: Option<&[String]>) -> Result<Vec<Kind>, Fault> {
    let Some(named) = named else { return Ok(Kind::ALL.to_vec()) };
    if let Some(unknown) = named.iter().find(|name| Kind::ALL.iter().all(|kind| kind.name() != *name)) {
        let known = Kind::ALL.map(Kind::name).join(", ");
        let message = format!("there is no kind `{}`; known are {known}", unknown.escape_debug());
        return Err(Fault::bad_request("bad_kind", message));
    }
    // A thought's way back is taken from the probe.
    let is_wanted = |kind: &Kind| *kind == Kind::Probe || named.iter().any(|name| name == kind.name());
    Ok(Kind::ALL.into_iter().filter(is_wanted).collect())
}

fn shown(
    request: &BenchLatency,
    linked: Linked,
    measured: Result<latency::Latency, MeasureError>,
) -> Latency {
    let mut shown = Latency {
        peer: linked.id.to_text(),
        name: linked.name,
        address: linked.address.to_string(),
        size: request.size,
        rate: request.rate,
        duration_ms: request.duration_ms,
        count: 0,
        lost: 0,
        floor_us: None,
        probe_us: None,
        datagram_us: None,
        stream_us: None,
        thought_us: None,
        added_us: None,
        late_us: Late::default(),
        floor_why: None,
        ended: None,
    };
    let measured = match measured {
        Ok(measured) => measured,
        Err(error) => {
            shown.ended = Some(error.to_string());
            return shown;
        }
    };
    let [p50, p99, max] = measured.late.map(micros);
    (shown.late_us, shown.floor_why, shown.ended) =
        (Late { p50, p99, max }, measured.floor_why, measured.ended);
    for kind in &measured.kinds {
        // What nothing came back of was not measured: a floor that can't be reached is no loss.
        if kind.kind == Kind::Floor && shown.floor_why.is_some() {
            continue;
        }
        shown.count += kind.count;
        shown.lost += kind.lost;
        let place = match kind.kind {
            Kind::Floor => &mut shown.floor_us,
            Kind::Probe => &mut shown.probe_us,
            Kind::Datagram => &mut shown.datagram_us,
            Kind::Stream => &mut shown.stream_us,
            Kind::Thought => &mut shown.thought_us,
        };
        *place = (!kind.histogram.is_empty()).then(|| spread(kind));
    }
    if let (Some(floor), Some(probe)) = (&shown.floor_us, &shown.probe_us) {
        shown.added_us = Some(one_decimal(probe.p50 - floor.p50));
    }
    shown
}

fn spread(kind: &Measured) -> Spread {
    let at = |quantile| micros(kind.histogram.value_at_quantile(quantile));
    let second = |second: &latency::Second| Second {
        second: second.second,
        p50: micros(second.p50),
        p99: micros(second.p99),
        max: micros(second.max),
    };
    let bars = kind.histogram.iter_log(BAR_FIRST, BAR_GROWTH);
    let bars = bars
        .map(|bar| Bucket { to: micros(bar.value_iterated_to()), count: bar.count_since_last_iteration() });
    Spread {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: micros(kind.histogram.max()),
        min: micros(kind.histogram.min()),
        mean: one_decimal(kind.histogram.mean() / 10.0),
        jitter: one_decimal(kind.jitter / 10.0),
        count: kind.count,
        lost: kind.lost,
        series: kind.seconds.iter().map(second).collect(),
        histogram: bars.skip_while(|bar| bar.count == 0).collect(),
    }
}

/// Microseconds of tenths of them.
fn micros(tenths: u64) -> f64 {
    tenths as f64 / 10.0
}

fn one_decimal(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_and_the_probe_is_always_among_them() {
        let named = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            kinds(Some(&names))
        };
        assert_eq!(kinds(None).unwrap(), Kind::ALL);
        assert_eq!(named(&["thought", "floor"]).unwrap(), [Kind::Floor, Kind::Probe, Kind::Thought]);
        assert_eq!(named(&["smoke\u{1b}"]).unwrap_err().code(), "bad_kind");
    }
}
