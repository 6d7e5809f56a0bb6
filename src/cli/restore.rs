//! `cogmesh restore`: puts a backup in the place of the store of a node that does not run.

use std::{path::Path, process::ExitCode};

use serde::Serialize;

use super::{
    Out,
    args::RestoreArgs,
    exit::{Exit, Failure},
    progress::Progress,
    show::{count, escaped},
    time,
};
use crate::{
    ledger::types::Millis,
    node::{
        DataDirLock, LockError, STORE_FILE,
        identity_file::{self, KEY_FILE},
    },
    store,
};

/// What `restore` prints.
#[derive(Clone, Debug, Serialize)]
struct Done {
    file: String,
    bytes: u64,
    authors: u64,
    entries: u64,
    /// Where the store that was there is now.
    before: Option<String>,
}

/// Puts the backup in the place of the store in that data directory.
///
/// # Errors
/// Where the node runs, there is no key, or the backup is damaged or belongs to another one; then nothing has changed. Where
/// the output can't be written.
pub fn run(args: &RestoreArgs, data_dir: &Path, mut out: Out) -> anyhow::Result<ExitCode> {
    let identity = identity_file::load(data_dir)?.ok_or_else(|| no_key(data_dir))?;
    // Held until the end, so that no node starts on half a store.
    let _lock = DataDirLock::take(data_dir).map_err(|error| match error {
        LockError::Held { path } => is_running(&path).into(),
        LockError::Io { .. } => anyhow::Error::from(error),
    })?;
    let progress = Progress::new("copying");
    let store = data_dir.join(STORE_FILE);
    let now = Millis(time::now_ms());
    let restored = store::restore(&args.file, &store, identity.node_id(), now, &mut |at| {
        progress.at(at.pages_done, at.pages_total);
    })?;
    drop(progress);
    let done = Done {
        file: args.file.display().to_string(),
        bytes: restored.store.bytes,
        authors: restored.store.authors,
        entries: restored.store.entries,
        before: restored.before.map(|path| path.display().to_string()),
    };
    out.one(&done, text)?;
    Ok(Exit::Done.into())
}

fn no_key(data_dir: &Path) -> Failure {
    let message = format!("there is no key in the data directory `{}`", data_dir.display());
    let hint = format!(
        "a store belongs to the key that signed it: put that node's `{KEY_FILE}` there first, with mode 600"
    );
    Failure::new(Exit::Failed, message).hint(hint)
}

fn is_running(data_dir: &Path) -> Failure {
    let message = format!("the node on the data directory `{}` is running", data_dir.display());
    Failure::new(Exit::Failed, message).hint("stop it first; nothing was changed")
}

fn text(done: &Done) -> String {
    let before = match &done.before {
        Some(before) => format!("The store that was there is now `{}`.\n", escaped(before)),
        None => String::new(),
    };
    format!(
        "Restored {} of {} from `{}`\n{before}\
         Start the node: it gets back from its peers what it wrote after the backup was made, and writes again once it has it.\n",
        count(done.entries, "entry", "entries"),
        count(done.authors, "author", "authors"),
        escaped(&done.file)
    )
}
