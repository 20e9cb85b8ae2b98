//! `wavegate watch`: look on until the rollout has ended, or failures hold it. A pause is waited out.

use super::follow::{Followed, follow, interrupted};
use super::plan::get_plan;
use super::render::progress::Titles;
use super::render::summary::summary;
use super::{CliError, Exit, Invocation, document};
use crate::status::view::RolloutStatus;
use wavegate_common::plan::Plan;

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let mut interrupt = interrupted()?;
    let status = invocation.connect().await?.get_status(invocation.rollout()).await?.into_inner();
    let status: RolloutStatus = document::read("rollout_status", &status)?;
    let plan: Plan = document::read("plan", &get_plan(invocation, status.plan.to_string()).await?)?;
    let followed = follow(invocation, status.rollout.as_str(), &Titles::of(&plan), &mut interrupt).await?;
    conclude(invocation, &plan, followed)
}

/// Says how it ended.
pub(super) fn conclude(invocation: &Invocation, plan: &Plan, followed: Followed) -> Result<Exit, CliError> {
    let output = &invocation.output;
    match followed {
        Followed::Detached => {
            output.note("The rollout goes on; watch it with: wavegate watch");
            Ok(Exit::Detached)
        }
        Followed::Ended { status, ending } => {
            if !output.is_json() {
                output.write(&format!("\n{}", summary(&status, plan, ending, &output.look)))?;
            }
            Ok(ending.exit())
        }
    }
}
