//! `wavegate watch`: look on until the rollout has ended, or failures hold it. A pause is waited out.

use super::ending::Ending;
use super::follow::{Followed, follow, interrupted};
use super::plan::get_plan;
use super::render::progress::Titles;
use super::render::summary::summary;
use super::render::{self, Look};
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
                let whole = whole(invocation, &status).await;
                let (text, note) = last_words(whole, &status, plan, ending, &output.look)?;
                output.write(&format!("\n{text}"))?;
                note.into_iter().for_each(|note| output.note(&note));
            }
            Ok(ending.exit())
        }
    }
}

/// A status with every node in it, where this is not one: what is said at the end is said of all.
async fn whole(invocation: &Invocation, status: &RolloutStatus) -> Result<Option<RolloutStatus>, CliError> {
    if !status.stages.iter().any(is_large) {
        return Ok(None);
    }
    let request = v1::RolloutRequest { rollout: status.rollout.to_string(), brief: false };
    let document = invocation.connect().await?.get_status(request).await?.into_inner();
    document::read("rollout_status", &document).map(Some)
}

/// What is said at the end, and what is noted beside it. That the coordinator has just gone away changes nothing of how the rollout
/// ended; without every node in it there is no summary then.
fn last_words(
    whole: Result<Option<RolloutStatus>, CliError>,
    status: &RolloutStatus,
    plan: &Plan,
    ending: Ending,
    look: &Look,
) -> Result<(String, Option<String>), CliError> {
    match whole {
        Ok(whole) => Ok((summary(whole.as_ref().unwrap_or(status), plan, ending, look), None)),
        Err(error) if error.is_passing() => {
            let note = format!(
                "what was done on each node is not known, since the coordinator went away at the end ({error}); when it is back: \
                 wavegate watch"
            );
            Ok((render::status::status(status, look), Some(note)))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ending::ending;
    use super::super::render::samples;
    use super::*;
    use tonic::Status;

    #[test]
    fn a_coordinator_that_goes_away_at_the_end_changes_nothing_of_the_end() {
        let whole = samples::with_more(samples::finished().status(200), 500);
        let mut brief = whole.clone();
        crate::status::brief::cut(&mut brief);
        let (plan, look, ending) = (samples::plan(), samples::look(), ending(&whole).expect("finished"));
        let words = |asked| last_words(asked, &brief, &plan, ending, &look);

        let gone = CliError::from(Status::unavailable("the coordinator ended the connection"));
        let (text, note) = words(Err(gone)).expect("it is said all the same");
        assert_eq!(text, render::status::status(&brief, &look));
        insta::assert_snapshot!(note.expect("a note"), @"what was done on each node is not known, since the coordinator went away at the end (the coordinator ended the connection); when it is back: wavegate watch");
        assert_eq!(ending.exit(), Exit::Ok);

        let (text, note) = words(Ok(Some(whole.clone()))).expect("a summary");
        assert_eq!((text, note), (summary(&whole, &plan, ending, &look), None));
        words(Err(CliError::from(Status::permission_denied("no operator")))).expect_err("that does not pass");
    }
}
