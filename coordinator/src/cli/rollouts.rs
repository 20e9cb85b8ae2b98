//! `wavegate rollouts`: the rollouts that there were.

use super::{CliError, Exit, Invocation, now, render};
use crate::status::history::RolloutLine;
use wavegate_proto::v1;

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let request = v1::ListRolloutsRequest {};
    let document = invocation.connect().await?.list_rollouts(request).await?.into_inner();
    let look = &invocation.output.look;
    invocation.show("rollout_list", &document, |rollouts: &Vec<RolloutLine>| {
        render::history::rollouts(rollouts, now(), look)
    })?;
    Ok(Exit::Ok)
}
