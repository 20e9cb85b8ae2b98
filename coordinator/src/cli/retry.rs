//! `wavegate retry`: try failed nodes again.

use super::{CliError, Exit, Invocation, answer};
use wavegate_proto::v1;

/// Arguments of `retry`.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Args {
    /// The nodes to try again
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// Every node that failed
    #[arg(long)]
    all_failed: bool,
}

pub(super) async fn run(invocation: &Invocation, args: Args) -> Result<Exit, CliError> {
    let Args { nodes, all_failed } = args;
    let request = v1::RetryRequest { rollout: invocation.rollout.clone(), nodes, all_failed };
    let answered = invocation.connect().await?.retry(request).await?.into_inner();
    answer::show(&answered, &invocation.output)
}
