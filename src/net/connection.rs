//! One connection from its handshake to its end: its control stream first, its other streams once it is admitted.
//!
//! Its task owns all others of the connection and ends after them, so that nothing is heard of a link after its end.

use std::{sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt, WriteError};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    event::NetEvent,
    hearing,
    incoming::Turn,
    links::{Link, Manner, Mouth, Parting, Shared},
    measure,
    reader::{Frames, Stopped},
    streams::{BIDI_STREAMS_MAX, UNI_STREAMS_MAX, WINDOW_BYTES, row},
    tls,
    writer::Waiting,
};
use crate::{
    log::NodeId,
    protocol::{
        frame::{ControlFrame, StreamKind},
        input::{Attempt, Ended},
        refusal::{Refusal, RefusalCode},
        wire,
    },
};

/// Which side of a connection we are.
#[derive(Debug)]
pub(super) enum Side {
    /// We dialled, on that attempt.
    Dialler(Attempt),
    /// The other side dialled, and has that place until it is admitted.
    Acceptor(Turn),
}

/// Who opens the control stream: the dialler.
#[derive(Clone, Copy, Debug)]
enum Opener {
    We,
    They,
}

/// Attends to a connection whose handshake is done, until its end.
pub(super) async fn run(shared: Arc<Shared>, quic: Connection, node: NodeId, side: Side) {
    let Some(exporter) = tls::exporter_of(&quic) else {
        // Only a TLS library without exporters gets here.
        quic.close(VarInt::from_u32(0), b"");
        return;
    };
    let (link, mouth) = shared.links.add(quic, node);
    let attempt = match &side {
        Side::Dialler(attempt) => Some(*attempt),
        Side::Acceptor(_) => None,
    };
    let connected = NetEvent::Connected { link: link.id, node, attempt, address: link.address(), exporter };
    if shared.tell(connected).await {
        let mut tasks = JoinSet::new();
        start(&shared, &link, mouth, side, &mut tasks);
        let error = attend(&shared, &link, &mut tasks).await;
        // What had arrived before the end is still delivered.
        while tasks.join_next().await.is_some() {}
        let why = ended(&link, &error);
        shared.links.remove(link.id);
        link.unread.close();
        tokio::select! {
            () = link.unread.wait() => {}
            () = shared.stop.cancelled() => {}
        }
        // Whether somebody still listens makes no difference: this is the last that there is to tell.
        shared.tell(NetEvent::Disconnected { link: link.id, why }).await;
    } else {
        shared.links.remove(link.id);
        link.give_up("the node stopped");
    }
}

fn start(shared: &Arc<Shared>, link: &Arc<Link>, mouth: Mouth, side: Side, tasks: &mut JoinSet<()>) {
    let Mouth { control: control_mouth, balance, thought } = mouth;
    let opener = match side {
        Side::Dialler(_) => Opener::We,
        Side::Acceptor(turn) => {
            tasks.spawn(hold(Arc::clone(link), turn));
            Opener::They
        }
    };
    tasks.spawn(control(Arc::clone(shared), Arc::clone(link), opener, control_mouth));
    tasks.spawn(write(Arc::clone(link), StreamKind::BalanceSync, balance, shared.timing.farewell));
    tasks.spawn(write(Arc::clone(link), StreamKind::Thought, thought, shared.timing.farewell));
    tasks.spawn(tell_full(Arc::clone(shared), Arc::clone(link)));
    tasks.spawn(datagrams(Arc::clone(shared), Arc::clone(link)));
}

/// Keeps its place at the door until the link is admitted or gone.
async fn hold(link: Arc<Link>, turn: Turn) {
    tokio::select! {
        _ = link.admitted.wait() => {}
        _ = link.quic.closed() => {}
    }
    drop(turn);
}

/// Waits for what can happen to the connection as a whole. Nothing in here waits for the owner's inbox.
async fn attend(shared: &Arc<Shared>, link: &Arc<Link>, tasks: &mut JoinSet<()>) -> ConnectionError {
    let (mut open, mut parting) = (false, false);
    loop {
        tokio::select! {
            error = link.quic.closed() => return error,
            how = link.parting.wait(), if !parting => {
                parting = true;
                tasks.spawn(part(Arc::clone(link), how.clone(), shared.timing.farewell));
            }
            () = may_open(link), if !open => {
                open = true;
                widen(&link.quic);
            }
            Ok(stream) = link.quic.accept_uni(), if open => {
                tasks.spawn(hearing::one_way(Arc::clone(shared), Arc::clone(link), stream));
            }
            Ok((send, receive)) = link.quic.accept_bi(), if open => {
                tasks.spawn(hearing::both_ways(Arc::clone(shared), Arc::clone(link), send, receive));
            }
            Some(task) = tasks.join_next() => {
                if let Err(error) = task
                    && error.is_panic()
                {
                    // The node lives on; only this connection is lost.
                    tracing::error!(link = link.id.0, "a task of a connection panicked");
                    link.give_up("a task of this connection failed");
                }
            }
        }
    }
}

/// The other streams may be opened: the link is admitted, and the first bidirectional stream was the control stream.
async fn may_open(link: &Link) {
    link.admitted.wait().await;
    link.controlled.wait().await;
}

/// Lets an admitted peer open the streams that it needs, and have more bytes under way.
fn widen(quic: &Connection) {
    quic.set_receive_window(VarInt::from_u32(WINDOW_BYTES));
    quic.set_max_concurrent_bi_streams(VarInt::from_u32(BIDI_STREAMS_MAX));
    quic.set_max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX));
}

/// Tells the other side why, gives it a moment to hear it, and closes. quinn drops what is unsent when a connection is
/// closed, so the refusal must be acknowledged before.
async fn part(link: Arc<Link>, how: Parting, farewell: Duration) {
    match how.manner {
        Manner::Flushed if link.admitted.initialized() => {
            link.thought.finish();
            link.balance.finish();
            let emptied = async { tokio::join!(link.thought.emptied(), link.balance.emptied()) };
            // A peer that reads slowly catches up when it connects again.
            drop(timeout(farewell / 2, emptied).await);
        }
        Manner::Flushed | Manner::AtOnce => link.deaf.cancel(),
    }
    if let Ok(frame) = wire::encode_control(&ControlFrame::Refused(how.refusal.clone())) {
        // Where it does not fit, the close code says the same.
        let _full = link.control.push(frame);
    }
    link.control.finish();
    drop(timeout(farewell, link.control.emptied()).await);
    link.quic.close(close_code(&how.refusal), how.refusal.about.as_bytes());
}

/// The code with which a connection is closed for that refusal.
pub(super) fn close_code(refusal: &Refusal) -> VarInt {
    VarInt::from_u32(u32::from(refusal.code.number()))
}

/// Opens or awaits the control stream, then writes and reads it.
async fn control(shared: Arc<Shared>, link: Arc<Link>, opener: Opener, mut mouth: Waiting) {
    let opened = async {
        match opener {
            Opener::We => open_control(&shared, &link).await,
            Opener::They => accept_control(&shared, &link).await,
        }
    };
    let opened = tokio::select! {
        opened = opened => opened,
        _ = link.quic.closed() => return,
        () = link.deaf.cancelled() => return,
    };
    let (mut send, frames) = match opened {
        Ok(stream) => stream,
        Err(stopped) => return hearing::stopped(&shared, &link, stopped).await,
    };
    // Highest of all: a refusal must overtake whatever else waits. It fails only where the stream is gone.
    drop(send.set_priority(row(StreamKind::Control).priority));
    drop(link.controlled.set(()));
    let writing = async {
        let written = tokio::select! {
            written = mouth.write_to(&mut send) => written,
            _ = link.quic.closed() => Ok(()),
        };
        drop(mouth);
        not_read(&link, written, shared.timing.farewell).await;
    };
    let reading = async {
        tokio::select! {
            biased;
            () = link.deaf.cancelled() => {}
            () = hearing::control(&shared, &link, frames) => {}
        }
    };
    tokio::join!(writing, reading);
}

async fn open_control(shared: &Shared, link: &Link) -> Result<(SendStream, Frames), Stopped> {
    let (mut send, receive) = link.quic.open_bi().await.map_err(|_| Stopped::Broke)?;
    send.write_all(&[StreamKind::Control.number()]).await.map_err(|_| Stopped::Broke)?;
    Ok((send, Frames::new(receive, shared.timing.frame)))
}

async fn accept_control(shared: &Shared, link: &Link) -> Result<(SendStream, Frames), Stopped> {
    let (send, receive): (SendStream, RecvStream) =
        link.quic.accept_bi().await.map_err(|_| Stopped::Broke)?;
    let mut frames = Frames::new(receive, shared.timing.frame);
    let number = frames.kind().await?;
    if number == StreamKind::Control.number() {
        return Ok((send, frames));
    }
    frames.stop(RefusalCode::UnknownKind);
    let about = format!("a first stream of kind {number}, not 0 (control)");
    Err(Stopped::Violated(Refusal::about(RefusalCode::UnknownKind, about)))
}

/// Opens our thought or balance-sync stream once the link is admitted, and writes what is queued for it.
async fn write(link: Arc<Link>, kind: StreamKind, mut mouth: Waiting, farewell: Duration) {
    let writing = async {
        link.admitted.wait().await;
        let mut stream = link.quic.open_uni().await?;
        // It fails only where the stream is gone, and then so does the write.
        drop(stream.set_priority(row(kind).priority));
        stream.write_all(&[kind.number()]).await?;
        mouth.write_to(&mut stream).await
    };
    let written = tokio::select! {
        written = writing => written,
        _ = link.quic.closed() => Ok(()),
    };
    drop(mouth);
    not_read(&link, written, farewell).await;
}

/// A peer that stops reading one of our streams is about to end the link; one that is not makes no sense, and we do.
async fn not_read(link: &Link, written: Result<(), WriteError>, farewell: Duration) {
    if written.is_err() && timeout(farewell, link.quic.closed()).await.is_err() {
        link.give_up("the other side stopped reading");
    }
}

async fn datagrams(shared: Arc<Shared>, link: Arc<Link>) {
    measure::datagrams(&shared, &link).await;
}

/// Passes on which queues were full.
async fn tell_full(shared: Arc<Shared>, link: Arc<Link>) {
    loop {
        let kinds = tokio::select! {
            kinds = link.full.take() => kinds,
            _ = link.quic.closed() => return,
        };
        for kind in kinds {
            if !shared.tell(NetEvent::QueueFull { link: link.id, kind }).await {
                return;
            }
        }
        // Whoever overfills a queue does so frame after frame; one word in a while is enough.
        sleep(Duration::from_millis(10)).await;
    }
}

/// Why the link ended, for its owner.
fn ended(link: &Link, error: &ConnectionError) -> Ended {
    if let Some(refusal) = link.refused.get() {
        return Ended::Refused(refusal.clone());
    }
    if link.parting.initialized() {
        return Ended::Closed;
    }
    if let Some(why) = link.broken.get() {
        return Ended::Broke((*why).to_owned());
    }
    match error {
        ConnectionError::ApplicationClosed(close) => {
            match RefusalCode::from_number(close.error_code.into_inner()) {
                Some(code) => Ended::Refused(Refusal::about(code, String::from_utf8_lossy(&close.reason))),
                None => Ended::Broke("the other side closed it without a reason".to_owned()),
            }
        }
        ConnectionError::LocallyClosed => Ended::Closed,
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::CidsExhausted => Ended::Broke(sentence(error)),
    }
}

/// What a QUIC error means, for people.
pub(super) fn sentence(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TimedOut => "no answer".to_owned(),
        ConnectionError::Reset => "the other side was restarted".to_owned(),
        ConnectionError::VersionMismatch => "the other side speaks another version of QUIC".to_owned(),
        ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
            CONNECTION_REFUSED => "the other side takes no more connections".to_owned(),
            NO_APPLICATION_PROTOCOL => "the other side does not speak `cogmesh/1`".to_owned(),
            CERTIFICATE_EXPIRED => {
                "the other side does not take this node's certificate: by the clock there it has expired \
                                    or is not valid yet"
                    .to_owned()
            }
            UNKNOWN_CA => {
                "the other side does not take this node's certificate: it is not one of the CA there"
                    .to_owned()
            }
            BAD_CERTIFICATE..=CERTIFICATE_UNKNOWN | CERTIFICATE_REQUIRED => {
                "the other side does not take this node's certificate".to_owned()
            }
            _ => format!("the other side ended the handshake ({close})"),
        },
        ConnectionError::TransportError(fault) => match u64::from(fault.code) {
            NO_APPLICATION_PROTOCOL => "the other side does not speak `cogmesh/1`".to_owned(),
            CERTIFICATE_REQUIRED => "it shows no certificate".to_owned(),
            PROTOCOL_VERSION => "the other side does not speak TLS 1.3".to_owned(),
            _ => format!("the other side broke the rules of QUIC or TLS ({fault})"),
        },
        ConnectionError::ApplicationClosed(close) => {
            match RefusalCode::from_number(close.error_code.into_inner()) {
                Some(code) => Refusal::about(code, String::from_utf8_lossy(&close.reason)).to_string(),
                None => "the other side closed it without a reason".to_owned(),
            }
        }
        ConnectionError::LocallyClosed => "this node closed it".to_owned(),
        ConnectionError::CidsExhausted => "this node has no connection ids left".to_owned(),
    }
}

/// RFC 9000, 20.1.
const CONNECTION_REFUSED: u64 = 0x2;
/// TLS alerts come as 0x100 and their number (RFC 9001, 4.8).
const BAD_CERTIFICATE: u64 = 0x100 + 42;
const CERTIFICATE_EXPIRED: u64 = 0x100 + 45;
const CERTIFICATE_UNKNOWN: u64 = 0x100 + 46;
const UNKNOWN_CA: u64 = 0x100 + 48;
pub(super) const PROTOCOL_VERSION: u64 = 0x100 + 70;
pub(super) const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;
pub(super) const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
