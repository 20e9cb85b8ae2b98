//! `wavegate status`: where the rollout is.

use super::{CliError, Exit, Invocation, render};
use crate::status::view::RolloutStatus;

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let document = invocation.connect().await?.get_status(invocation.rollout()).await?.into_inner();
    let look = &invocation.output.look;
    invocation
        .show("rollout_status", &document, |status: &RolloutStatus| render::status::status(status, look))?;
    Ok(Exit::Ok)
}
