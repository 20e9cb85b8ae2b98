//! `wavegate status`: where the rollout is.

use super::{CliError, Exit, Invocation, document, render};
use crate::status::brief;
use crate::status::view::RolloutStatus;
use wavegate_proto::v1;

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let request = invocation.status_of(&invocation.rollout);
    let document = invocation.connect().await?.get_status(request).await?.into_inner();
    let output = &invocation.output;
    if output.is_json() {
        output.write(&document::pretty("rollout_status", &document)?)?;
    } else {
        output.write(&render::status::status(&brief(&document)?, &output.look))?;
    }
    Ok(Exit::Ok)
}

/// What of a status fits on a screen. An older coordinator has told everything.
pub(super) fn brief(document: &v1::Document) -> Result<RolloutStatus, CliError> {
    let mut status = document::read("rollout_status", document)?;
    brief::cut(&mut status);
    Ok(status)
}
