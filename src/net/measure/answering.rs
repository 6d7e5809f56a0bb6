//! Answering a peer that measures: a bare port; dry thoughts, which go the way of live ones as far as the core and are then forgotten; and
//! what it asks of an arena that it was given.

use std::sync::{Arc, atomic::Ordering};

use quinn::SendStream;
use tokio::{sync::oneshot, task::JoinSet};

use super::{
    arena::{ArenaPlace, Lent},
    floor::Port,
};
use crate::{
    log::Segment,
    net::{
        event::NetEvent,
        links::{Link, Shared},
        reader::{Frames, Stopped},
        streams::row,
    },
    protocol::{
        frame::{MeasureFrame, StreamKind, Weighed},
        refusal::{Refusal, RefusalCode},
        wire,
    },
};

/// Answers what comes on a measure stream until its end. What was opened for it ends with it.
pub(in crate::net) async fn answer(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    mut send: SendStream,
    frames: &mut Frames,
) -> Result<(), Stopped> {
    let Ok(_turn) = link.measure_in.acquire().await else { return Ok(()) };
    // It fails only where the stream is gone, and then so does the write.
    drop(send.set_priority(row(StreamKind::Measure).priority));
    let mut ports = JoinSet::new();
    let mut lent: Option<Lent> = None;
    while let Some(bytes) = frames.next().await? {
        let decoded = wire::decode_measure(&bytes, &shared.rules.federation);
        let answer = match decoded.map_err(|fault| Stopped::Violated(fault.refusal()))? {
            MeasureFrame::Floor if ports.is_empty() => floor(shared, link, &mut ports).await,
            MeasureFrame::Floor => return Err(malformed("a second bare port on one stream")),
            MeasureFrame::Dry { number, segment } => {
                let Some(outcome) = weighed(shared, link, segment).await else { return Ok(()) };
                MeasureFrame::Weighed { number, outcome }
            }
            MeasureFrame::Arena(wanted) if lent.is_none() => match Lent::ask(shared, link, wanted).await {
                Some(Ok((given, ArenaPlace { node, port }))) => {
                    lent = Some(given);
                    shared.measured.arenas.fetch_add(1, Ordering::Relaxed);
                    MeasureFrame::ArenaAt { node, port }
                }
                Some(Err(why)) => MeasureFrame::NoArena(why),
                None => return Ok(()),
            },
            MeasureFrame::Arena(_) => return Err(malformed("a second arena on one stream")),
            MeasureFrame::Tally { thoughts } => match &lent {
                Some(given) => match given.tally(thoughts).await {
                    Some(tally) => MeasureFrame::Tallied(tally),
                    // It was taken away; the stream's end says so.
                    None => return Ok(()),
                },
                None => return Err(malformed("a tally without an arena")),
            },
            MeasureFrame::Bulk { bytes } => {
                let taken = lent.as_mut().is_some_and(|given| given.takes(bytes));
                if !taken {
                    return Err(malformed("bytes in bulk without an arena, or too many of them"));
                }
                frames.skip(usize::try_from(bytes).unwrap_or(usize::MAX)).await?;
                MeasureFrame::Taken { bytes }
            }
            MeasureFrame::FloorAt { .. }
            | MeasureFrame::NoFloor
            | MeasureFrame::Weighed { .. }
            | MeasureFrame::ArenaAt { .. }
            | MeasureFrame::NoArena(_)
            | MeasureFrame::Tallied(_)
            | MeasureFrame::Taken { .. } => {
                return Err(malformed("an answer to a question that was not asked"));
            }
        };
        let frame = wire::encode_measure(&answer).map_err(|_| Stopped::Broke)?;
        send.write_chunk(frame).await.map_err(|_| Stopped::Broke)?;
    }
    Ok(())
}

async fn floor(shared: &Shared, link: &Link, ports: &mut JoinSet<()>) -> MeasureFrame {
    let port = match Port::open(link.address()).await {
        Ok(port) => port,
        Err(error) => {
            tracing::debug!(link = link.id.0, %error, "no bare port can be had for a measurement");
            return MeasureFrame::NoFloor;
        }
    };
    let Ok((number, token)) = port.told() else { return MeasureFrame::NoFloor };
    ports.spawn(port.echo());
    shared.measured.floors.fetch_add(1, Ordering::Relaxed);
    MeasureFrame::FloorAt { port: number, token }
}

/// Checked here like a live one, folded by the core like a live one; `None` where nobody listens any more.
async fn weighed(shared: &Shared, link: &Link, segment: Segment) -> Option<Weighed> {
    if !shared.measured.takes_dry(link) {
        return Some(Weighed::Busy);
    }
    let Ok(segment) = segment.verify(&shared.rules) else { return Some(Weighed::Unfit) };
    let (answer, answered) = oneshot::channel();
    let told = shared.tell_live(NetEvent::Dry { link: link.id, segment, answer }).await;
    if told { answered.await.ok() } else { None }
}

fn malformed(about: &str) -> Stopped {
    Stopped::Violated(Refusal::about(RefusalCode::Malformed, about))
}
