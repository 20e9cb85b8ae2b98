//! `wavegate watch`: look on until the rollout has ended, or failures hold it. A pause is waited out.

use super::follow::{Followed, follow, interrupted};
use super::plan::get_plan;
use super::render::progress::Titles;
use super::render::summary::summary;
use super::status::brief;
use super::{CliError, Exit, Invocation, document};
use crate::status::brief::is_large;
use crate::status::view::RolloutStatus;
use wavegate_common::plan::Plan;
use wavegate_proto::v1;

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let mut interrupt = interrupted()?;
    let request = v1::RolloutRequest { rollout: invocation.rollout.clone(), brief: true };
    let status = brief(&invocation.connect().await?.get_status(request).await?.into_inner())?;
    let plan: Plan = document::read("plan", &get_plan(invocation, status.plan.to_string()).await?)?;
    let followed = follow(invocation, status.rollout.as_str(), &Titles::of(&plan), &mut interrupt).await?;
    conclude(invocation, &plan, followed).await
}

/// Says how it ended.
pub(super) async fn conclude(
    invocation: &Invocation,
    plan: &Plan,
    followed: Followed,
) -> Result<Exit, CliError> {
    let output = &invocation.output;
    match followed {
        Followed::Detached => {
            output.note("The rollout goes on; watch it with: wavegate watch");
            Ok(Exit::Detached)
        }
        Followed::Ended { status, ending } => {
            if !output.is_json() {
                let status = whole(invocation, status).await?;
                output.write(&format!("\n{}", summary(&status, plan, ending, &output.look)))?;
            }
            Ok(ending.exit())
        }
    }
}

/// A status with every node in it: what is said at the end is said of all.
async fn whole(invocation: &Invocation, status: Box<RolloutStatus>) -> Result<Box<RolloutStatus>, CliError> {
    if !status.stages.iter().any(is_large) {
        return Ok(status);
    }
    let request = v1::RolloutRequest { rollout: status.rollout.to_string(), brief: false };
    document::read("rollout_status", &invocation.connect().await?.get_status(request).await?.into_inner())
}
