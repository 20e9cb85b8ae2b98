//! `wavegate why`: what is waited for, since when, and what would unblock it.

use super::{CliError, Exit, Invocation, now, render};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::WaitingOn;
use wavegate_proto::v1;

/// Arguments of `why`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only what this node waits for
    node: Option<String>,
    /// Only what this stage waits for
    #[arg(long, value_parser = clap::value_parser!(Stage))]
    stage: Option<Stage>,
    /// Only what this wave of the stage waits for, from 1
    #[arg(long, value_name = "N", requires = "stage", conflicts_with = "node")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    wave: Option<u32>,
}

const EXAMPLES: &str = "\
Examples:
  wavegate why                           # everything that the rollout waits for
  wavegate why compute-7                 # what this node waits for
  wavegate why --stage compute --wave 2  # what wave 2 of stage compute waits for";

pub(super) async fn run(invocation: &Invocation, args: &Args) -> Result<Exit, CliError> {
    let node = args.node.clone().unwrap_or_default();
    let stage = args.stage.map(|stage| stage.to_string()).unwrap_or_default();
    let wave = args.wave.unwrap_or_default();
    let request = v1::WhyRequest { rollout: invocation.rollout.clone(), node, stage, wave };
    let document = invocation.connect().await?.why(request).await?.into_inner();
    let look = &invocation.output.look;
    invocation
        .show("waiting", &document, |reasons: &Vec<WaitingOn>| render::waiting::why(reasons, now(), look))?;
    Ok(Exit::Ok)
}
