//! `wavegate wave next`: let the next wave of a rollout begin that was started with --manual.

use super::{CliError, Exit, Invocation, answer};

/// What can be done with waves.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Let the next wave begin
    Next,
}

pub(super) async fn run(invocation: &Invocation, command: &Command) -> Result<Exit, CliError> {
    let Command::Next = command;
    let answered = invocation.connect().await?.next_wave(invocation.rollout()).await?.into_inner();
    answer::show(&answered, &invocation.output)
}
