//! `wavegate stop`: the end of a rollout, for good. It asks no question: who stops is in a hurry.

use super::{CliError, Exit, Invocation, answer};

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let answered = invocation.connect().await?.stop(invocation.rollout()).await?.into_inner();
    answer::show(&answered, &invocation.output)
}
