//! Building the contestants, each by itself: one that can't be built is left out, and the others still run.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::contestants::Contestant;

/// The workspace that this was built from.
pub(crate) const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Builds a contestant's program; whether it is there.
pub(crate) fn build(target: &Path, contestant: &Contestant) -> bool {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(Path::new(WORKSPACE).join("Cargo.toml"))
        .args(["--profile", contestant.profile.name()])
        .args(["--package", &format!("contestant-{}", contestant.package)])
        .arg("--target-dir")
        .arg(target)
        .stdin(Stdio::null())
        .status();
    built.is_ok_and(|status| status.success())
}
