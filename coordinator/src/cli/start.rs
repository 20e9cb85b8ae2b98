//! `wavegate start`: start a plan that was made before, and leave it to the coordinator.

use super::acknowledge::Acknowledge;
use super::plan::get_plan;
use super::{CliError, Exit, Invocation, answer, document, render};
use wavegate_common::plan::Plan;
use wavegate_proto::v1;

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plan's id [default: the newest]
    plan: Option<String>,
    /// Let each wave wait for `wavegate wave next`
    #[arg(long)]
    manual: bool,
    #[command(flatten)]
    acknowledge: Acknowledge,
}

pub(super) async fn run(invocation: &Invocation, args: &Args) -> Result<Exit, CliError> {
    // What is started is the plan that was looked at, also if a newer one is made meanwhile.
    let plan: Plan =
        document::read("plan", &get_plan(invocation, args.plan.clone().unwrap_or_default()).await?)?;
    if refuse(invocation, &plan) {
        return Ok(Exit::Problems);
    }
    let answered = start(invocation, &plan, args.manual, args.acknowledge.ids.clone()).await?;
    answer::show(&answered, &invocation.output)
}

/// Says why a plan can't be started, if it can't.
pub(super) fn refuse(invocation: &Invocation, plan: &Plan) -> bool {
    let problems = &plan.body.problems;
    if problems.is_empty() {
        return false;
    }
    let output = &invocation.output;
    output.note(render::plan::problems(problems, &output.look).trim_end());
    true
}

pub(super) async fn start(
    invocation: &Invocation,
    plan: &Plan,
    manual: bool,
    acknowledge: Vec<String>,
) -> Result<v1::Answer, CliError> {
    let request = v1::StartRequest { plan: plan.id.to_string(), manual, acknowledge };
    Ok(invocation.connect().await?.start(request).await?.into_inner())
}
