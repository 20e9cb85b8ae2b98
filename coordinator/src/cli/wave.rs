//! `wavegate wave next`: let the next wave of a rollout begin that was started with --manual.

use super::{CliError, Exit, Invocation, answer};
use wavegate_common::platform::Stage;
use wavegate_proto::v1;

/// What can be done with waves.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Let the wave begin that waits for an operator, or that rests after the one before
    #[command(after_help = EXAMPLES)]
    Next(Next),
}

/// Arguments of `wave next`.
#[derive(Debug, clap::Args)]
pub(super) struct Next {
    /// Only this stage's, with --wave: said twice, it lets no second wave begin
    #[arg(long, requires = "wave", value_parser = clap::value_parser!(Stage))]
    stage: Option<Stage>,
    /// Only this wave, from 1
    #[arg(long, value_name = "N", requires = "stage", value_parser = clap::value_parser!(u32).range(1..))]
    wave: Option<u32>,
}

const EXAMPLES: &str = "\
Examples:
  wavegate wave next                           # whichever waits
  wavegate wave next --stage compute --wave 2  # this one and no other: for scripts";

pub(super) async fn run(invocation: &Invocation, command: &Command) -> Result<Exit, CliError> {
    let Command::Next(Next { stage, wave }) = command;
    let mut operator = invocation.connect().await?;
    let answered = match stage.zip(*wave) {
        None => operator.next_wave(invocation.rollout()).await?,
        Some((stage, wave)) => {
            let (rollout, stage) = (invocation.rollout.clone(), stage.to_string());
            operator.release_wave(v1::ReleaseWaveRequest { rollout, stage, wave }).await?
        }
    };
    answer::show(&answered.into_inner(), &invocation.output)
}
