//! `wavegate pause`: nothing new starts, what runs may end.

use super::{CliError, Exit, Invocation, answer};

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let answered = invocation.connect().await?.pause(invocation.rollout()).await?.into_inner();
    answer::show(&answered, &invocation.output)
}
