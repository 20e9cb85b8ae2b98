//! `wavegate approve`: somebody else than its author says that a plan may be started.

use super::{CliError, Exit, Invocation, done};
use wavegate_proto::v1;

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The plan's id, or its whole digest, which then must be exactly this plan's
    #[arg(value_name = "PLAN")]
    plan: String,
}

const EXAMPLE: &str = "\
Look at the plan first, then approve what you saw:
  wavegate plan show 0a1b2c3d4e5f
  wavegate approve 0a1b2c3d4e5f";

pub(super) async fn run(invocation: &Invocation, args: Args) -> Result<Exit, CliError> {
    let request = v1::ApproveRequest { plan: args.plan };
    let answered = invocation.connect().await?.approve(request).await?.into_inner();
    done::show(&answered, &invocation.output)
}
