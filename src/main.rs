//! The binary: parses, runs, exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    cogmesh::cli::run()
}
