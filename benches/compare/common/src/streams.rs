//! Whatever has a stream of both ways between two processes: how it is driven through the scenarios. The subscriber has opened the stream and
//! written one byte, so that the publisher knows of it.

use std::sync::Arc;

use anyhow::bail;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    CHUNK_BYTES, Child, Kind, MESSAGE_BYTES, Message, Order, Scenario, Tally, Task,
    flow::{bulk, flood, receive_bulk, round_trips, subscribe},
};

/// What a subscriber writes on its new stream.
pub const HELLO: u8 = 1;

/// The publisher's part once a subscriber's stream is there.
///
/// # Errors
/// The stream ended too early, or an order made no sense.
pub async fn publish(
    task: &Task,
    child: &mut Child,
    mut write: impl AsyncWrite + Unpin,
    mut read: impl AsyncRead + Unpin,
) -> anyhow::Result<()> {
    read.read_u8().await?;
    child.wait_for(Order::Warm).await?;
    if task.scenario != Scenario::Bulk {
        write.write_all(&Message { kind: Kind::Warm, number: 0, due_ns: 0 }.encode()).await?;
        write.flush().await?;
    }
    child.wait_for(Order::Go).await?;
    let sent = match task.scenario {
        Scenario::Rtt => {
            let mut buffer = [0; MESSAGE_BYTES];
            let report = round_trips(task, async |number| {
                write.write_all(&Message { kind: Kind::Ping, number, due_ns: 0 }.encode()).await?;
                write.flush().await?;
                read.read_exact(&mut buffer).await?;
                Ok(())
            });
            let report = report.await?;
            child.sent(0);
            child.wait_for(Order::End).await?;
            child.report(&report);
            return Ok(());
        }
        Scenario::Flood => {
            let sent = flood(task, async |number| {
                Ok(write.write_all(&Message { kind: Kind::Data, number, due_ns: 0 }.encode()).await?)
            });
            let sent = sent.await?;
            write.flush().await?;
            sent
        }
        Scenario::Bulk => {
            let chunk = vec![7; CHUNK_BYTES];
            let sent = bulk(task, async || Ok(write.write_all(&chunk).await?)).await?;
            write.shutdown().await?;
            sent
        }
        Scenario::Oneway | Scenario::Connect | Scenario::Rest => bail!("it does not do that"),
    };
    child.sent(sent.count);
    child.wait_for(Order::End).await?;
    child.report(&sent.report());
    Ok(())
}

/// The subscriber's part, on a stream that it has opened.
///
/// # Errors
/// The stream ended too early, or an order made no sense.
pub async fn hear(
    task: &Task,
    child: &mut Child,
    mut write: impl AsyncWrite + Unpin + Send + 'static,
    mut read: impl AsyncRead + Unpin + Send + 'static,
) -> anyhow::Result<()> {
    write.write_u8(HELLO).await?;
    write.flush().await?;
    if task.scenario == Scenario::Bulk {
        child.ready(&[]);
        child.warm();
        let mut buffer = vec![0; 4 * CHUNK_BYTES];
        let report = receive_bulk(async || Ok(read.read(&mut buffer).await?)).await?;
        child.expected().await?;
        child.report(&report);
        return child.wait_for(Order::End).await;
    }
    child.ready(&[]);
    let tally = Arc::new(Tally::default());
    let reading = tokio::spawn(read_messages(write, read, Arc::clone(&tally)));
    subscribe(child, &tally).await?;
    reading.abort();
    Ok(())
}

async fn read_messages(
    mut write: impl AsyncWrite + Unpin,
    mut read: impl AsyncRead + Unpin,
    tally: Arc<Tally>,
) -> anyhow::Result<()> {
    let mut buffer = BytesMut::with_capacity(2 * CHUNK_BYTES);
    while read.read_buf(&mut buffer).await? > 0 {
        while buffer.len() >= MESSAGE_BYTES {
            let message = buffer.split_to(MESSAGE_BYTES);
            let Some(message) = Message::decode(&message) else { bail!("that is no message") };
            match message.kind {
                Kind::Data => tally.deliver(message.number, message.due_ns),
                Kind::Ping => {
                    write.write_all(&Message { kind: Kind::Pong, ..message }.encode()).await?;
                    write.flush().await?;
                }
                Kind::Warm => tally.warm(),
                Kind::Pong => {}
            }
        }
        buffer.reserve(CHUNK_BYTES);
    }
    Ok(())
}
