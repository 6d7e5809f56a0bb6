//! Asking: one measurement of one link, from its streams and sockets to their end. It says when something came back; what that means is
//! decided by whoever measures.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::SendStream;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::timeout,
};

use super::{ASKED, Echo, Kind, MeasureError, PAYLOAD_BYTES_MAX, floor::Floor, lane::Lanes, payload};
use crate::{
    log::{FederationId, Segment},
    net::{links::Link, reader::Frames, sending, streams::row},
    protocol::{
        frame::{MeasureFrame, StreamKind},
        wire,
    },
};

/// How long the peer has to say where its bare port is.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// A measurement that is going on. Dropping it ends what it opened, here and at the peer.
#[derive(Debug)]
pub struct Measuring {
    link: Arc<Link>,
    bytes: usize,
    echoes: mpsc::Sender<Echo>,
    floor: Result<Floor, String>,
    lanes: Lanes,
    thoughts: Thoughts,
    _readers: JoinSet<()>,
    _listening: Listening,
}

/// Takes thoughts for the other side's core, in whatever order they come.
#[derive(Clone, Debug)]
pub struct Thoughts(Arc<Mutex<SendStream>>);

/// The link's datagrams are ours to hear until this is dropped.
#[derive(Debug)]
struct Listening(Arc<Link>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listener.clear();
    }
}

impl Measuring {
    /// Begins: asks the peer for a bare port and tries it, and opens the streams. Payloads have so many bytes; what comes back is told
    /// through `echoes`, and what finds no room there is lost.
    pub(in crate::net) async fn open(
        link: Arc<Link>,
        federation: FederationId,
        bytes: usize,
        echoes: mpsc::Sender<Echo>,
    ) -> Result<Self, MeasureError> {
        // Datagrams came into the protocol together with the measure stream, and are told of in the handshake.
        if link.quic.max_datagram_size().is_none_or(|most| most <= PAYLOAD_BYTES_MAX) {
            return Err(MeasureError::Unsupported);
        }
        if !link.listener.set(echoes.clone()) {
            return Err(MeasureError::Taken);
        }
        let listening = Listening(Arc::clone(&link));
        let (send, mut frames) = open_stream(&link).await?;
        let mut readers = JoinSet::new();
        let asked = timeout(ANSWER_MAX, ask_floor(&link, &federation, &mut frames, bytes));
        let floor = asked.await.map_err(|_| MeasureError::NoAnswer)??;
        if let Ok(floor) = &floor {
            readers.spawn(floor.clone().listen(echoes.clone()));
        }
        readers.spawn(hear(frames, federation, echoes.clone()));
        let lanes = Lanes::open(Arc::clone(&link), bytes, echoes.clone()).await?;
        let thoughts = Thoughts(Arc::new(Mutex::new(send)));
        Ok(Self { link, bytes, echoes, floor, lanes, thoughts, _readers: readers, _listening: listening })
    }

    /// Whether there is a bare port that can be reached, or why not, for people.
    ///
    /// # Errors
    /// Why not.
    pub fn has_floor(&self) -> Result<(), &str> {
        self.floor.as_ref().map(|_| ()).map_err(String::as_str)
    }

    /// Sends a bare datagram.
    pub fn ask_floor(&self, number: u64) {
        if let Ok(floor) = &self.floor {
            floor.ask(number);
        }
    }

    /// Sends a datagram of QUIC's. Where others wait already, the oldest is lost.
    pub fn ask_datagram(&self, number: u64) {
        let datagram = Bytes::from(payload(&[ASKED], number, self.bytes));
        let _lost = self.link.quic.send_datagram(datagram);
    }

    /// Sends on the stream that stands.
    ///
    /// # Errors
    /// The link is gone.
    ///
    /// # Cancel safety
    /// None: what comes after a payload that was cut short is out of step.
    pub async fn ask_probe(&mut self, number: u64) -> Result<(), MeasureError> {
        self.lanes.ask(number).await
    }

    /// Opens a stream, sends, and waits until it is back.
    pub fn ask_stream(&self, number: u64) -> impl Future<Output = ()> + Send + use<> {
        let (link, echoes) = (Arc::clone(&self.link), self.echoes.clone());
        let bytes = Bytes::from(payload(&[], number, self.bytes));
        async move {
            if sending::probe(&link, bytes).await.is_ok() {
                let _lost =
                    echoes.try_send(Echo { kind: Kind::Stream, number, at: std::time::Instant::now() });
            }
        }
    }

    /// Where thoughts are sent.
    #[must_use]
    pub fn thoughts(&self) -> Thoughts {
        self.thoughts.clone()
    }
}

impl Thoughts {
    /// Encodes a thought and sends it; that it was weighed is told as its echo. Where it does not get its turn within `patience`, it is not
    /// sent.
    ///
    /// # Cancel safety
    /// None: where part of it was sent, the peer would take what follows for garbage, and end the link for it.
    pub async fn ask(&self, number: u64, segment: Segment, patience: Duration) {
        let Ok(frame) = wire::encode_measure(&MeasureFrame::Dry { number, segment }) else { return };
        let Ok(mut stream) = timeout(patience, self.0.lock()).await else { return };
        // Where the stream is gone, nothing comes back.
        drop(stream.write_chunk(frame).await);
    }
}

async fn open_stream(link: &Link) -> Result<(SendStream, Frames), MeasureError> {
    link.admitted.wait().await;
    let (mut send, receive) = link.quic.open_bi().await.map_err(|_| MeasureError::LinkGone)?;
    // It fails only where the stream is gone, and then so does the write.
    drop(send.set_priority(row(StreamKind::Measure).priority));
    let kind = [StreamKind::Measure.number()];
    send.write_all(&kind).await.map_err(|_| MeasureError::LinkGone)?;
    let asked = wire::encode_measure(&MeasureFrame::Floor).map_err(|_| MeasureError::LinkGone)?;
    send.write_chunk(asked).await.map_err(|_| MeasureError::LinkGone)?;
    Ok((send, Frames::new(receive, ANSWER_MAX)))
}

async fn ask_floor(
    link: &Link,
    federation: &FederationId,
    frames: &mut Frames,
    bytes: usize,
) -> Result<Result<Floor, String>, MeasureError> {
    let answer = frames.next().await.ok().flatten().ok_or(MeasureError::LinkGone)?;
    match wire::decode_measure(&answer, federation) {
        Ok(MeasureFrame::FloorAt { port, token }) => {
            Ok(Floor::reach(link.address(), port, token, bytes).await)
        }
        Ok(_) | Err(_) => Ok(Err("the peer can open no UDP port for this measurement".to_owned())),
    }
}

/// Tells which thoughts were weighed. One that was not looked at, or did not hold, never went the whole way.
async fn hear(mut frames: Frames, federation: FederationId, echoes: mpsc::Sender<Echo>) {
    while let Ok(Some(frame)) = frames.next().await {
        let at = std::time::Instant::now();
        if let Ok(MeasureFrame::Weighed { number, outcome }) = wire::decode_measure(&frame, &federation)
            && outcome.is_judged()
        {
            let _lost = echoes.try_send(Echo { kind: Kind::Thought, number, at });
        }
    }
}
