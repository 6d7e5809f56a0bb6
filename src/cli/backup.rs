//! `cogmesh backup`: a copy of the store, whether the node runs or not.

use std::{path::Path, process::ExitCode};

use serde::Serialize;

use super::{
    Out,
    args::BackupArgs,
    exit::Exit,
    progress::Progress,
    show::{bytes, count, escaped},
};
use crate::{
    node::{STORE_FILE, identity_file::KEY_FILE},
    store::{self, Existing},
};

/// What `backup` prints.
#[derive(Clone, Debug, Serialize)]
struct BackedUp {
    file: String,
    bytes: u64,
    authors: u64,
    entries: u64,
}

/// Copies the store of that data directory.
///
/// # Errors
/// Where there is no store, it is damaged, the copy can't be written, or the output can't.
pub fn run(args: &BackupArgs, data_dir: &Path, mut out: Out) -> anyhow::Result<ExitCode> {
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let progress = Progress::new("copying");
    let copied = store::backup(&data_dir.join(STORE_FILE), &args.file, existing, &mut |at| {
        progress.at(at.pages_done, at.pages_total);
    })?;
    drop(progress);
    let done = BackedUp {
        file: args.file.display().to_string(),
        bytes: copied.bytes,
        authors: copied.authors,
        entries: copied.entries,
    };
    out.one(&done, |done| text(done, &data_dir.join(KEY_FILE)))?;
    Ok(Exit::Done.into())
}

fn text(done: &BackedUp, key: &Path) -> String {
    format!(
        "{} of {} are in `{}` ({})\n\
         The key is not in it: keep a copy of `{}` too, in another place and as safe as a password.\n",
        count(done.entries, "entry", "entries"),
        count(done.authors, "author", "authors"),
        escaped(&done.file),
        bytes(done.bytes),
        escaped(&key.display().to_string())
    )
}
