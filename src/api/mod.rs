//! The local HTTP API over a node's handle.
//!
//! HTTP/1.1 with JSON on a Unix socket in the data directory, which the command line uses; whoever can open the socket has
//! full rights. The same on loopback TCP, where reading is free and writing needs a token. Nothing is decided here: routes ask the [`Handle`] and put what it says into the words of [`json`].
//! Source: cli.md, Local API.

pub mod corpus;
pub mod error;
mod federation;
pub mod json;
mod latency;
mod limited;
mod linked;
pub mod measurements;
mod patient;
mod routes;
pub mod socket;
pub mod submit;
pub mod tcp;
mod throughput;
pub mod token;
mod unlinked;
pub mod views;

use std::{fs, path::PathBuf, time::Duration};

use axum::{Router, serve::Listener};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use self::token::ApiToken;
pub use self::{
    error::Fault,
    socket::{ApiError, SOCKET_FILE},
    tcp::{ApiListen, TcpPort},
};
use crate::node::Handle;

/// How long requests that are under way may take once the API stops; a node ends within 2 s.
const DRAIN_MAX: Duration = Duration::from_millis(500);

/// A running API; it serves until [`Api::stop`].
#[derive(Debug)]
pub struct Api {
    path: PathBuf,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// Serves the API of that node on `api.sock` in its data directory, and on TCP where it should be there.
///
/// # Errors
/// Where the socket can't be made, or the token can't be used.
///
/// # Cancel safety
/// Nothing is awaited before the API runs.
#[expect(clippy::unused_async, reason = "it needs a runtime, and says so by being awaited")]
pub async fn serve(handle: Handle, TcpPort(tcp): TcpPort) -> Result<Api, ApiError> {
    let data_dir = handle.about().data_dir.clone();
    let path = socket::path_in(&data_dir)?;
    let listener = socket::bind(&path)?;
    let stop = CancellationToken::new();
    let routes = routes::router(handle.clone());
    let mut tasks = vec![spawn(listener, routes.clone(), &stop)];
    if let Some(tcp) = tcp {
        let local = tcp.local_addr().map_err(|source| ApiError::Io { path: path.clone(), source })?;
        let token = ApiToken::of(&data_dir)?;
        tasks.push(spawn(tcp, tcp::guarded(routes, token, local), &stop));
        handle.serves_api_at(local);
    }
    Ok(Api { path, stop, tasks })
}

fn spawn<L>(listener: L, routes: Router, stop: &CancellationToken) -> JoinHandle<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let stopping = stop.clone().cancelled_owned();
    tokio::spawn(async move {
        let serving = axum::serve(listener, routes).with_graceful_shutdown(stopping);
        if let Err(error) = serving.await {
            tracing::error!(%error, "the local API has ended");
        }
    })
}

impl Api {
    /// Takes no more requests, lets those under way finish for half a second, and removes the socket.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the API stopping and its socket in place; the next start replaces it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if timeout(DRAIN_MAX, join_all(&mut self.tasks)).await.is_err() {
            self.tasks.iter().for_each(JoinHandle::abort);
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "can't remove the local socket; the next start replaces it");
        }
    }
}

/// Waits for all of them.
async fn join_all(tasks: &mut [JoinHandle<()>]) {
    for task in tasks {
        // One that failed has ended, too.
        let _ended = task.await;
    }
}
