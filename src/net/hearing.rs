//! Hearing: what the peer's streams say, as events. Segments are verified here, in the task of their stream: in order on
//! each link, in parallel over all links.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::{
    apart::Ending,
    event::NetEvent,
    links::{Link, Manner, Shared},
    measure,
    reader::{Frames, Stopped},
    sending::PROBE_BYTES_MAX,
    streams::row,
};
use crate::{
    ledger::types::Seq,
    log::{NodeId, Proof, fault::PROOF_BYTES_MAX, segment::Unfit},
    protocol::{
        frame::{ControlFrame, StreamKind},
        refusal::{Refusal, RefusalCode},
        wire::{self, WireFault},
    },
};

/// Why a stream is read no further.
enum End {
    /// The peer ended it, or it broke.
    Stream(Stopped),
    /// Nobody listens any more.
    Inbox,
}

impl From<Stopped> for End {
    fn from(stopped: Stopped) -> Self {
        Self::Stream(stopped)
    }
}

impl From<Ending> for End {
    fn from(_: Ending) -> Self {
        Self::Inbox
    }
}

impl From<WireFault> for End {
    fn from(fault: WireFault) -> Self {
        Self::Stream(Stopped::Violated(fault.refusal()))
    }
}

/// Reads the control stream until its end, which is the end of the link.
pub(super) async fn control(shared: &Shared, link: &Link, mut frames: Frames) {
    let end = read_control(shared, link, &mut frames).await;
    match end {
        Ok(()) | Err(End::Stream(Stopped::Broke)) => {}
        Err(End::Inbox) => return,
        Err(End::Stream(stopped @ Stopped::Violated(_))) => {
            return self::stopped(shared, link, stopped).await;
        }
    }
    // Whoever ends its control stream closes the connection next. If it does not, we do.
    if timeout(shared.timing.farewell, link.quic.closed()).await.is_err() {
        link.give_up("the other side ended its control stream");
    }
}

/// Until the stream's end or a refusal.
async fn read_control(shared: &Shared, link: &Link, frames: &mut Frames) -> Result<(), End> {
    while let Some(bytes) = frames.next().await? {
        let frame = wire::decode_control(&bytes)?;
        let refusal = match &frame {
            ControlFrame::Refused(refusal) => Some(refusal.clone()),
            ControlFrame::Hello(_)
            | ControlFrame::Admitted(_)
            | ControlFrame::Ping { .. }
            | ControlFrame::Pong { .. }
            | ControlFrame::Rival { .. }
            | ControlFrame::Alive(_)
            | ControlFrame::Clone(_)
            | ControlFrame::Records(_)
            | ControlFrame::About { .. }
            | ControlFrame::Revocations(_) => None,
        };
        let last = refusal.is_some();
        if let Some(refusal) = refusal
            && !link.parting.initialized()
        {
            link.refused.get_or_init(|| refusal);
        }
        tell(shared, NetEvent::Control { link: link.id, frame }).await?;
        if last {
            break;
        }
    }
    Ok(())
}

/// Reads a stream that only the peer writes.
pub(super) async fn one_way(shared: Arc<Shared>, link: Arc<Link>, stream: RecvStream) {
    let mut frames = Frames::new(stream, shared.timing.frame);
    let reading = read_one_way(&shared, &link, &mut frames);
    let end = tokio::select! {
        biased;
        () = link.deaf.cancelled() => return,
        end = reading => end,
    };
    if let Err(End::Stream(stopped)) = end {
        if let Stopped::Violated(refusal) = &stopped {
            frames.stop(refusal.code);
        }
        self::stopped(&shared, &link, stopped).await;
    }
}

async fn read_one_way(shared: &Shared, link: &Link, frames: &mut Frames) -> Result<(), End> {
    let number = frames.kind().await?;
    match StreamKind::from_number(number) {
        Some(StreamKind::Thought) if link.claim_thought() => live(shared, link, frames).await,
        Some(StreamKind::BalanceSync) if link.claim_balance() => balance(shared, link, frames).await,
        Some(kind @ (StreamKind::Thought | StreamKind::BalanceSync)) => {
            let about = format!("a second {} stream", kind.name());
            Err(Stopped::Violated(Refusal::about(RefusalCode::Malformed, about)).into())
        }
        Some(StreamKind::CatchUp) => {
            // QUIC's limit leaves room for streams that the peer did not open otherwise; this one does not.
            let Ok(_turn) = link.catch_up_in.acquire().await else {
                return Ok(());
            };
            let mut author = None;
            let read = catch_up(shared, link, frames, &mut author).await;
            if let Some(author) = author {
                let ended = NetEvent::CaughtUp { link: link.id, author };
                if !shared.tell_caught_up(link, ended).await {
                    return Err(End::Inbox);
                }
            }
            read
        }
        Some(StreamKind::Proof) => {
            let Ok(_turn) = link.proof_in.acquire().await else {
                return Ok(());
            };
            proof(shared, link, frames).await
        }
        Some(StreamKind::Control | StreamKind::Probe | StreamKind::Measure) | None => {
            Err(unknown(number, "one way").into())
        }
    }
}

/// What convicts an author: its bytes come in frames, and are looked at when all are there.
async fn proof(shared: &Shared, link: &Link, frames: &mut Frames) -> Result<(), End> {
    let mut bytes = vec![];
    while let Some(frame) = frames.next().await? {
        if bytes.len() + frame.len() > PROOF_BYTES_MAX {
            let about = format!("a proof of more than {PROOF_BYTES_MAX} bytes");
            return Err(Stopped::Violated(Refusal::about(RefusalCode::FrameTooLarge, about)).into());
        }
        bytes.extend_from_slice(&frame);
    }
    let rules = shared.rules;
    let check = move || Proof::parse(&bytes, &rules.federation).and_then(|proof| proof.verify(&rules));
    let event = match shared.apart.run(check).await? {
        Ok(proof) => NetEvent::Proof { link: link.id, proof: Box::new(proof) },
        Err(fault) => NetEvent::ProofWrong { link: link.id, fault },
    };
    tell(shared, event).await
}

/// Live segments. What the node holds already has come another way, and is not looked at again.
async fn live(shared: &Shared, link: &Link, frames: &mut Frames) -> Result<(), End> {
    while let Some(bytes) = frames.next().await? {
        let event = match wire::peek_segment(&bytes) {
            Some((author, last)) if shared.held.knows(author, last) => {
                NetEvent::Known { link: link.id, author, last }
            }
            Some(_) | None => segment(shared, link, bytes).await?,
        };
        if !shared.tell_live(event).await {
            return Err(End::Inbox);
        }
    }
    Ok(())
}

/// Segments that were asked for, all verified: what is known of them may still mend something. What is known and was not asked for, or
/// comes again on the same stream, is not looked at, so that nobody can have old segments verified over and over. `author` is left as
/// the last whose segment came.
async fn catch_up(
    shared: &Shared,
    link: &Link,
    frames: &mut Frames,
    author: &mut Option<NodeId>,
) -> Result<(), End> {
    let mut asked: Option<(NodeId, Option<Seq>)> = None;
    while let Some(bytes) = frames.next().await? {
        let seen = wire::peek_segment(&bytes);
        *author = seen.map(|(author, _)| author).or(*author);
        if asked.is_none()
            && let Some((author, _)) = seen
            && link.claim_asked(author)
        {
            asked = Some((author, None));
        }
        let event = match (seen, &mut asked) {
            (Some((of, last)), Some((author, before))) if of == *author && *before < Some(last) => {
                *before = Some(last);
                segment(shared, link, bytes).await?
            }
            (Some((author, last)), _) if shared.held.knows(author, last) => {
                NetEvent::Known { link: link.id, author, last }
            }
            (Some(_) | None, _) => segment(shared, link, bytes).await?,
        };
        if !shared.tell_caught_up(link, event).await {
            return Err(End::Inbox);
        }
    }
    Ok(())
}

/// Longest frame of segments that is decoded and verified in its stream's own task: about a third of a millisecond. A full one
/// takes five, and packets, pings and other links should not wait for that.
const BYTES_AT_ONCE_MAX: usize = 32 << 10;

async fn segment(shared: &Shared, link: &Link, bytes: Bytes) -> Result<NetEvent, End> {
    let rules = shared.rules;
    let is_short = bytes.len() <= BYTES_AT_ONCE_MAX;
    let verify = move || {
        wire::decode_segment(&bytes, &rules.federation).map(|segment| segment.verify_or_convict(&rules))
    };
    let verified = if is_short { verify() } else { shared.apart.run(verify).await? };
    if verified.is_ok() {
        shared.held.count_verified();
    }
    Ok(match verified {
        Ok(Ok(segment)) => NetEvent::Heard { link: link.id, segment },
        Ok(Err(Unfit { fault, proof })) => {
            if let Some(proof) = proof {
                tell(shared, NetEvent::Proof { link: link.id, proof }).await?;
            }
            NetEvent::HeardWrong { link: link.id, fault }
        }
        Err(WireFault::Segment(fault)) => NetEvent::HeardWrong { link: link.id, fault },
        Err(fault) => return Err(fault.into()),
    })
}

async fn balance(shared: &Shared, link: &Link, frames: &mut Frames) -> Result<(), End> {
    while let Some(bytes) = frames.next().await? {
        let frame = wire::decode_balance(&bytes)?;
        tell(shared, NetEvent::Balance { link: link.id, frame }).await?;
    }
    Ok(())
}

/// Answers a stream that both sides write: probes and measurements, besides the control stream.
pub(super) async fn both_ways(shared: Arc<Shared>, link: Arc<Link>, send: SendStream, receive: RecvStream) {
    let mut frames = Frames::new(receive, shared.timing.frame);
    let answering = async {
        let number = frames.kind().await?;
        match StreamKind::from_number(number) {
            Some(StreamKind::Probe) => {
                // A probe that is cut short is the prober's affair.
                drop(timeout(shared.timing.frame, echo(send, frames.into_stream())).await);
                Ok(())
            }
            Some(StreamKind::Measure) => {
                let answered = measure::answer(&shared, &link, send, &mut frames).await;
                if let Err(Stopped::Violated(refusal)) = &answered {
                    frames.stop(refusal.code);
                }
                answered
            }
            Some(_) | None => {
                frames.stop(RefusalCode::UnknownKind);
                Err(unknown(number, "both ways"))
            }
        }
    };
    let answered = tokio::select! {
        biased;
        () = link.deaf.cancelled() => return,
        answered = answering => answered,
    };
    if let Err(stopped) = answered {
        self::stopped(&shared, &link, stopped).await;
    }
}

/// Sends back what comes, up to a bound.
async fn echo(mut send: SendStream, mut receive: RecvStream) {
    drop(send.set_priority(row(StreamKind::Probe).priority));
    let mut left = PROBE_BYTES_MAX;
    while left > 0 {
        let Ok(Some(chunk)) = receive.read_chunk(left, true).await else {
            break;
        };
        left -= chunk.bytes.len();
        if send.write_chunk(chunk.bytes).await.is_err() {
            break;
        }
    }
    // Its end tells the prober that this is all.
    drop(send.finish());
}

/// What follows from a stream that stopped: a violation is told to the owner and ends the link.
pub(super) async fn stopped(shared: &Shared, link: &Link, stopped: Stopped) {
    match stopped {
        Stopped::Broke => {}
        Stopped::Violated(refusal) => {
            shared
                .tell(NetEvent::Violated { link: link.id, node: link.node, refusal: refusal.clone() })
                .await;
            link.part(refusal, Manner::AtOnce);
        }
    }
}

async fn tell(shared: &Shared, event: NetEvent) -> Result<(), End> {
    if shared.tell(event).await { Ok(()) } else { Err(End::Inbox) }
}

fn unknown(number: u8, way: &str) -> Stopped {
    Stopped::Violated(Refusal::about(RefusalCode::UnknownKind, format!("a stream of kind {number}, {way}")))
}
