//! Scrubbing: all that is stored is looked through now and then, so that what a disk has lost is found while a peer still
//! has it. Slowly, so that nobody notices.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};

use crate::{ledger::types::Seq, log::NodeId, store::Store};

/// Entries of one look: some ten milliseconds.
const ROWS: usize = 512;
/// How long it rests after a look: a million entries take some minutes.
const REST: Duration = Duration::from_millis(100);
/// How long it rests after the last entry.
const ROUND: Duration = Duration::from_secs(24 * 3_600);
/// How long it rests after a failure.
const FAILED: Duration = Duration::from_secs(600);

/// What a look found.
#[derive(Debug)]
pub(super) enum Finding {
    /// That entry is damaged.
    Damaged(NodeId, Seq),
    /// The store can't be read through; for people.
    Failed(String),
}

/// Looks through the store again and again, and tells what is damaged.
pub(super) async fn run(store: Arc<dyn Store>, told: mpsc::Sender<Finding>) {
    let mut from = None;
    loop {
        let reading = Arc::clone(&store);
        let Ok(look) = spawn_blocking(move || reading.scrub(from, ROWS)).await else { return };
        let pause = match look {
            Ok(look) => {
                for (author, seq) in look.damaged {
                    if told.send(Finding::Damaged(author, seq)).await.is_err() {
                        return;
                    }
                }
                from = look.next;
                if from.is_some() { REST } else { ROUND }
            }
            Err(error) => {
                from = None;
                if told.send(Finding::Failed(error.to_string())).await.is_err() {
                    return;
                }
                FAILED
            }
        };
        sleep(pause).await;
    }
}
