//! The local HTTP API over a node's handle.
//!
//! HTTP/1.1 with JSON on a Unix socket in the data directory, which the command line uses; whoever can open the socket has
//! full rights. Nothing is decided here: routes ask the [`Handle`] and put what it says into the words of [`json`].
//! Source: cli.md, Local API.

pub mod corpus;
pub mod error;
mod federation;
pub mod json;
mod routes;
pub mod socket;
pub mod submit;
mod unlinked;
pub mod views;

use std::{fs, path::PathBuf, time::Duration};

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

pub use self::{
    error::Fault,
    socket::{ApiError, SOCKET_FILE},
};
use crate::node::Handle;

/// How long requests that are under way may take once the API stops; a node ends within 2 s.
const DRAIN_MAX: Duration = Duration::from_millis(500);

/// A running API; it serves until [`Api::stop`].
#[derive(Debug)]
pub struct Api {
    path: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Serves the API of that node on `api.sock` in its data directory.
///
/// # Errors
/// Where the socket can't be made.
///
/// # Cancel safety
/// Nothing is awaited before the API runs.
#[expect(clippy::unused_async, reason = "it needs a runtime, and says so by being awaited")]
pub async fn serve(handle: Handle) -> Result<Api, ApiError> {
    let path = socket::path_in(&handle.about().data_dir)?;
    let listener = socket::bind(&path)?;
    let stop = CancellationToken::new();
    let stopping = stop.clone().cancelled_owned();
    let task = tokio::spawn(async move {
        let serving = axum::serve(listener, routes::router(handle)).with_graceful_shutdown(stopping);
        if let Err(error) = serving.await {
            tracing::error!(%error, "the local API has ended");
        }
    });
    Ok(Api { path, stop, task })
}

impl Api {
    /// Takes no more requests, lets those under way finish for half a second, and removes the socket.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the API stopping and its socket in place; the next start replaces it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if timeout(DRAIN_MAX, &mut self.task).await.is_err() {
            self.task.abort();
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "can't remove the local socket; the next start replaces it");
        }
    }
}
