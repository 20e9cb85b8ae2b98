//! `wavegate waive`: let a node not count for a while, or let it count again.

use super::{CliError, Exit, Invocation, answer, duration};
use wavegate_proto::v1;

/// Arguments of `waive`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// Why; it stands in every report from then on
    #[arg(long, value_name = "TEXT", required_unless_present = "withdraw")]
    reason: Option<String>,
    /// How long, up to 30d: 90m, 8h, 7d. Then the node counts again by itself
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::seconds, required_unless_present = "withdraw")]
    for_s: Option<u64>,
    /// Let the node count again now
    #[arg(long, conflicts_with_all = ["reason", "for_s"])]
    withdraw: bool,
}

const EXAMPLES: &str = "\
Examples:
  wavegate waive compute-7 --reason \"mainboard is being replaced, ticket 4711\" --for 8h
  wavegate waive compute-7 --withdraw";

pub(super) async fn run(invocation: &Invocation, args: Args) -> Result<Exit, CliError> {
    let (rollout, node) = (invocation.rollout.clone(), args.node);
    let mut operator = invocation.connect().await?;
    let answered = if args.withdraw {
        operator.withdraw_waiver(v1::WithdrawWaiverRequest { rollout, node }).await?
    } else {
        let (reason, for_s) = (args.reason.unwrap_or_default(), args.for_s.unwrap_or_default());
        operator.waive(v1::WaiveRequest { rollout, node, reason, for_s }).await?
    };
    answer::show(&answered.into_inner(), &invocation.output)
}
