//! `wavegate plans`: the plans that were made.

use super::{CliError, Exit, Invocation, render};
use crate::status::history::PlanLine;
use wavegate_proto::v1;

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let document = invocation.connect().await?.list_plans(v1::ListPlansRequest {}).await?.into_inner();
    let look = &invocation.output.look;
    invocation.show("plan_list", &document, |plans: &Vec<PlanLine>| render::history::plans(plans, look))?;
    Ok(Exit::Ok)
}
