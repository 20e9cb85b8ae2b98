//! `wavegate resume`: go on after a pause or a halt.

use super::{CliError, Exit, Invocation, answer};

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let answered = invocation.connect().await?.resume(invocation.rollout()).await?.into_inner();
    answer::show(&answered, &invocation.output)
}
