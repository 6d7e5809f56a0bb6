//! Pruning: contents that are too many go, beside the commits and never before one that waits.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::spawn_blocking, time::timeout};

use super::clock::Clock;
use crate::store::{Store, StoreError};

/// How long after it failed it is tried again, without another commit: a backlog may wait for it.
const RETRY: Duration = Duration::from_secs(10);

/// At the start and after commits, lets go of contents where the corpus is too full, and tells. What fails here, the next commit will tell: nothing that
/// was acknowledged depends on it.
pub(super) async fn run(
    store: Arc<dyn Store>,
    clock: Arc<Clock>,
    mut commits: watch::Receiver<u64>,
    pruned_sender: watch::Sender<()>,
) {
    // Bounds may have been lowered since, and a node that keeps too much fetches nothing that would be a commit.
    commits.mark_changed();
    let mut retry = false;
    loop {
        match timeout(if retry { RETRY } else { Duration::MAX }, commits.changed()).await {
            Ok(Err(_)) => return,
            Ok(Ok(())) | Err(_) => retry = false,
        }
        let (pruning, now) = (Arc::clone(&store), clock.now().wall);
        match spawn_blocking(move || pruning.prune(now)).await {
            Ok(Ok(pruned)) if pruned.contents > 0 => {
                pruned_sender.send_replace(());
                tracing::info!(
                    contents = pruned.contents,
                    bytes = pruned.bytes,
                    "let go of contents; their entries stay"
                );
            }
            Ok(Ok(_)) => {}
            Ok(Err(StoreError::Full { .. })) => retry = true,
            Ok(Err(error)) => {
                retry = true;
                tracing::warn!(%error, "can't let go of contents");
            }
            Err(_) => return,
        }
    }
}
