//! Pruning: contents that are too many go, beside the commits and never before one that waits.

use std::sync::Arc;

use tokio::{sync::watch, task::spawn_blocking};

use super::clock::Clock;
use crate::store::{Store, StoreError};

/// After commits, lets go of contents where the corpus is too full. What fails here, the next commit will tell: nothing that
/// was acknowledged depends on it.
pub(super) async fn run(store: Arc<dyn Store>, clock: Arc<Clock>, mut commits: watch::Receiver<u64>) {
    while commits.changed().await.is_ok() {
        let (pruning, now) = (Arc::clone(&store), clock.now().wall);
        match spawn_blocking(move || pruning.prune(now)).await {
            Ok(Ok(pruned)) if pruned.contents > 0 => {
                tracing::info!(
                    contents = pruned.contents,
                    bytes = pruned.bytes,
                    "let go of contents; their entries stay"
                );
            }
            Ok(Ok(_) | Err(StoreError::Full { .. })) => {}
            Ok(Err(error)) => tracing::warn!(%error, "can't let go of contents"),
            Err(_) => return,
        }
    }
}
