//! Raw UDP: a socket on each side. Nothing is encrypted, nothing is repeated, and what finds no room is lost.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::bail;
use contest::{
    Child, Kind, MESSAGE_BYTES, Message, Order, Role, Scenario, Tally, Task, flood, round_trips, subscribe,
};
use tokio::{net::UdpSocket, runtime::Builder, task::yield_now};

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    Builder::new_current_thread().enable_all().build()?.block_on(run(&task))
}

async fn run(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    if task.role == Role::Subscriber {
        socket.connect(task.peer()?).await?;
        socket.send(b"hello").await?;
        child.ready(&[]);
        let tally = Arc::new(Tally::default());
        let reading = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&tally)));
        subscribe(&mut child, &tally).await?;
        reading.abort();
        return Ok(());
    }
    child.ready(&[socket.local_addr()?.to_string()]);
    let mut buffer = [0; MESSAGE_BYTES];
    let (_, from) = socket.recv_from(&mut buffer).await?;
    socket.connect(from).await?;
    child.wait_for(Order::Warm).await?;
    socket.send(&Message { kind: Kind::Warm, number: 0, due_ns: 0 }.encode()).await?;
    child.wait_for(Order::Go).await?;
    match task.scenario {
        Scenario::Rtt => {
            let report = round_trips(task, async |number| {
                socket.send(&Message { kind: Kind::Ping, number, due_ns: 0 }.encode()).await?;
                socket.recv(&mut buffer).await?;
                Ok(())
            });
            let report = report.await?;
            child.sent(0);
            child.wait_for(Order::End).await?;
            child.report(&report);
        }
        Scenario::Flood => {
            let sent = flood(task, async |number| {
                socket.send(&Message { kind: Kind::Data, number, due_ns: 0 }.encode()).await?;
                if number % 64 == 0 {
                    yield_now().await;
                }
                Ok(())
            });
            let sent = sent.await?;
            child.sent(sent.count);
            child.wait_for(Order::End).await?;
            child.report(&sent.report());
        }
        Scenario::Oneway | Scenario::Bulk | Scenario::Connect | Scenario::Rest => {
            bail!("it does not do that")
        }
    }
    Ok(())
}

async fn read(socket: Arc<UdpSocket>, tally: Arc<Tally>) -> anyhow::Result<()> {
    let mut buffer = [0; MESSAGE_BYTES];
    loop {
        let bytes = socket.recv(&mut buffer).await?;
        let Some(message) = Message::decode(&buffer[..bytes]) else { continue };
        match message.kind {
            Kind::Data => tally.deliver(message.number, 0),
            Kind::Warm => tally.warm(),
            Kind::Ping => drop(socket.send(&Message { kind: Kind::Pong, ..message }.encode()).await?),
            Kind::Pong => {}
        }
    }
}
