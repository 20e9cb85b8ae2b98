//! The `wavegate` program: reads its command line and runs it. All else is in `wavegate_coordinator::cli`.

use clap::Parser;
use std::process::ExitCode;
use wavegate_coordinator::cli::{Cli, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run(Cli::parse()).await.into()
}
