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

#[cfg(test)]
mod tests {
    use super::super::render::samples;
    use super::*;
    use wavegate_common::rollout::TaskState;

    fn document(status: &RolloutStatus) -> v1::Document {
        wavegate_proto::convert::document("rollout_status", status).expect("a document")
    }

    #[test]
    fn what_a_coordinator_has_cut_is_shown_as_it_is() {
        let whole = samples::with_more(samples::running().status(200), 5000);
        let once = brief(&document(&whole)).expect("a status");
        let left_out = |status: &RolloutStatus| -> Vec<u32> {
            status.stages.iter().map(|stage| stage.left_out.total()).collect()
        };
        assert!(left_out(&once)[1] > 4900, "{:?}", left_out(&once));

        // It knows who takes too long, and so shows more of those at work than would be shown of what it has told.
        let mut cut = once;
        let stage = &mut cut.stages[1];
        let at_work = stage.tasks.iter().find(|task| task.state == TaskState::Applying).expect("one").clone();
        stage.tasks.extend(std::iter::repeat_n(at_work, 70));
        assert_eq!(brief(&document(&cut)).expect("a status"), cut);
    }
}
