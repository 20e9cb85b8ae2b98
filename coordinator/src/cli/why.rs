//! `wavegate why`: what is waited for, since when, and what would unblock it.

use super::{CliError, Exit, Invocation, now, render};
use wavegate_common::rollout::WaitingOn;
use wavegate_proto::v1;

/// Arguments of `why`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what this node waits for
    node: Option<String>,
}

pub(super) async fn run(invocation: &Invocation, args: &Args) -> Result<Exit, CliError> {
    let node = args.node.clone().unwrap_or_default();
    let request = v1::WhyRequest { rollout: invocation.rollout.clone(), node };
    let document = invocation.connect().await?.why(request).await?.into_inner();
    let look = &invocation.output.look;
    invocation
        .show("waiting", &document, |reasons: &Vec<WaitingOn>| render::waiting::why(reasons, now(), look))?;
    Ok(Exit::Ok)
}
