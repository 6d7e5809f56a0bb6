//! `POST /v1/bench/throughput`: a linked peer in, rates out.

use std::time::Duration;

use axum::response::Response;

use super::{
    error::Fault,
    linked::{Linked, find_linked, in_range},
    measurements::{BenchThroughput, Throughput},
    patient,
};
use crate::{
    node::{
        Handle,
        throughput::{self, DURATION_MAX, Flood, Plan, SIZE, ThroughputError},
    },
    store::Durability,
};

/// Shortest time for which there is written: below it, starts and ends are all that is seen.
const DURATION_MS_MIN: u64 = 200;

/// Begins to measure; the answer comes when that is done, and it is given up where the asker goes away before.
///
/// # Errors
/// Where the question is wrong, nobody linked is meant, or somebody else measures.
pub(super) async fn bench(handle: &Handle, request: &BenchThroughput) -> Result<Response, Fault> {
    let duration_ms_max = u64::try_from(DURATION_MAX.as_millis()).unwrap_or(u64::MAX);
    in_range("duration_ms", request.duration_ms, DURATION_MS_MIN..=duration_ms_max)?;
    in_range("size", request.size, SIZE)?;
    let durability: Durability =
        request.durability.parse().map_err(|fault| Fault::bad_request("bad_durability", fault))?;
    let linked = find_linked(&handle.view().await?, &request.peer)?;
    let Some(measuring) = handle.measuring_turn() else {
        return Err(Fault::conflict("busy", "this node is measuring already; two would measure each other"));
    };
    let turn = handle.throughput_turn().await.map_err(|error| match error {
        ThroughputError::Taken => Fault::conflict("busy", error.to_string()),
        ThroughputError::NoRoom => Fault::unavailable("disk_low", error.to_string()),
    })?;
    let duration = Duration::from_millis(request.duration_ms);
    let plan = Plan { link: linked.link, duration, bytes: request.size, durability };
    let handle = handle.clone();
    Ok(patient::answer(async move {
        let _measuring = measuring;
        let measured = handle.measure_throughput(turn, plan).await;
        shown(&plan, linked, measured)
    }))
}

fn shown(plan: &Plan, linked: Linked, measured: throughput::Throughput) -> Throughput {
    let throughput::Throughput { flood, catch_up_per_s, bulk_bytes_per_s, why } = measured;
    // Of nothing that arrived, nothing can be said for each.
    let flood_of = |value: fn(&Flood) -> Option<f64>| {
        flood.as_ref().filter(|flood| flood.stored > 0).and_then(value).map(one_decimal)
    };
    Throughput {
        peer: linked.id.to_text(),
        name: linked.name,
        address: linked.address.to_string(),
        thoughts_per_s: flood_of(|flood| Some(flood.stored as f64 / flood.took.as_secs_f64())),
        lost: flood.map(|flood| flood.acknowledged.saturating_sub(flood.stored)),
        catch_up_per_s: catch_up_per_s.map(one_decimal),
        bulk_mb_per_s: bulk_bytes_per_s.map(|bytes| one_decimal(bytes / 1e6)),
        cpu_us_per_thought: flood_of(|flood| {
            Some(flood.cpu_here_us.saturating_add(flood.cpu_there_us) as f64 / flood.stored as f64)
        }),
        wire_bytes_per_thought: flood_of(|flood| Some(flood.wire_bytes? as f64 / flood.stored as f64)),
        durability: plan.durability.name().to_owned(),
        size: plan.bytes,
        thoughts: flood.map(|flood| flood.stored),
        duration_ms: flood.map(|flood| u64::try_from(flood.took.as_millis()).unwrap_or(u64::MAX)),
        cpu_here_us: flood_of(|flood| Some(flood.cpu_here_us as f64 / flood.stored as f64)),
        cpu_there_us: flood_of(|flood| Some(flood.cpu_there_us as f64 / flood.stored as f64)),
        why_code: why.as_ref().map(|why| why.code.to_owned()),
        why: why.map(|why| why.text),
    }
}

fn one_decimal(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{log::Identity, node::throughput::Why, protocol::input::LinkId};

    fn shown_of(flood: Option<Flood>, why: Option<Why>) -> Throughput {
        let linked = Linked {
            id: Identity::from_seed(&[1; 32]).unwrap().node_id(),
            name: "thor".to_owned(),
            link: LinkId(1),
            address: "10.77.0.2:8888".parse().unwrap(),
        };
        let plan = Plan {
            link: LinkId(1),
            duration: Duration::from_secs(5),
            bytes: 256,
            durability: Durability::Full,
        };
        let bulk_bytes_per_s = Some(812_345_678.0);
        shown(&plan, linked, throughput::Throughput { flood, catch_up_per_s: None, bulk_bytes_per_s, why })
    }

    #[test]
    fn rates_are_of_what_was_stored_there() {
        let flood = Flood {
            acknowledged: 10_010,
            stored: 10_000,
            took: Duration::from_millis(2_500),
            cpu_here_us: 150_000,
            cpu_there_us: 100_000,
            wire_bytes: Some(4_123_400),
        };
        let shown = shown_of(Some(flood), None);
        assert_eq!(
            (shown.thoughts_per_s, shown.lost, shown.thoughts),
            (Some(4_000.0), Some(10), Some(10_000))
        );
        assert_eq!(
            (shown.cpu_us_per_thought, shown.cpu_here_us, shown.cpu_there_us),
            (Some(25.0), Some(15.0), Some(10.0))
        );
        assert_eq!((shown.wire_bytes_per_thought, shown.bulk_mb_per_s), (Some(412.3), Some(812.3)));
        assert_eq!((shown.duration_ms, shown.why), (Some(2_500), None));
    }

    #[test]
    fn what_was_not_measured_is_null_and_the_reason_stands_beside_it() {
        let nothing = Flood {
            acknowledged: 7,
            stored: 0,
            took: Duration::ZERO,
            cpu_here_us: 1,
            cpu_there_us: 1,
            wire_bytes: None,
        };
        let shown = shown_of(Some(nothing), None);
        assert_eq!((shown.lost, shown.thoughts_per_s, shown.cpu_us_per_thought), (Some(7), None, None));
        let why = Why { code: "unreachable", text: "a firewall".to_owned() };
        let shown = shown_of(None, Some(why));
        assert_eq!((shown.lost, shown.bulk_mb_per_s), (None, Some(812.3)));
        assert_eq!(
            (shown.why_code.as_deref(), shown.why.as_deref()),
            (Some("unreachable"), Some("a firewall"))
        );
    }
}
