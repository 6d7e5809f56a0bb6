//! TCP without delay, for orientation: nothing is encrypted. A flood is gathered into writes of 64 KiB.

use std::net::Ipv4Addr;

use contest::{CHUNK_BYTES, Child, Role, Scenario, Task, streams};
use tokio::{
    io::BufWriter,
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

fn main() -> anyhow::Result<()> {
    let task = Task::from_args()?;
    Builder::new_current_thread().enable_all().build()?.block_on(run(&task))
}

async fn run(task: &Task) -> anyhow::Result<()> {
    let mut child = Child::new();
    if task.role == Role::Subscriber {
        let stream = TcpStream::connect(task.peer()?).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        return streams::hear(task, &mut child, write, read).await;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    child.ready(&[listener.local_addr()?.to_string()]);
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    if task.scenario == Scenario::Flood {
        return streams::publish(task, &mut child, BufWriter::with_capacity(CHUNK_BYTES, write), read).await;
    }
    streams::publish(task, &mut child, write, read).await
}
