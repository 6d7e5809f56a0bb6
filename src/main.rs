//! The binary: parses, runs, exits.
use std::process::ExitCode;
#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match cogmesh::cli::demo::run(&cogmesh::cli::demo::DemoArgs { load: 300 }, false).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
