//! The disk: whether there is room for what the node would store.

use std::{path::PathBuf, time::Duration};

use rustix::fs::statvfs;
use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};

use crate::protocol::input::DiskLow;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A sixteenth more than the minimum must be free before the node writes again, so that it does not change its mind with
/// every file that comes and goes.
const ROOM_SHARE: u64 = 16;

/// How many bytes may be written there; `None` where the system does not say.
#[must_use]
pub fn free_bytes(path: &std::path::Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Tells when there is too little room, and when there is enough again. `min` bytes should be free.
pub(super) async fn watch(path: PathBuf, min: u64, told: mpsc::Sender<Option<DiskLow>>) {
    let mut is_low = false;
    loop {
        let at = path.clone();
        let free = spawn_blocking(move || free_bytes(&at)).await.unwrap_or(None);
        let wanted = if is_low { min.saturating_add(min / ROOM_SHARE) } else { min };
        let low = free.filter(|free| *free < wanted).map(|free| DiskLow { free, min });
        // While it is low, what is free is told anew each time.
        if (low.is_some() || is_low) && told.send(low).await.is_err() {
            return;
        }
        is_low = low.is_some();
        sleep(LOOK_EVERY).await;
    }
}
