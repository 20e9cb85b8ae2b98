//! `wavegate upgrade`: plan, ask, start, and look on to the end.

use super::acknowledge::Acknowledge;
use super::follow::{follow, interrupted};
use super::make_plan::{PlanArgs, make_plan};
use super::render::progress::Titles;
use super::start::{refuse, start};
use super::{CliError, Exit, Invocation, document, question, render, watch};
use crate::status::plan::PlanView;

/// Arguments of `upgrade`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    plan: PlanArgs,
    /// Start without asking
    #[arg(long, short)]
    yes: bool,
    /// Let each wave wait for `wavegate wave next`
    #[arg(long)]
    manual: bool,
    #[command(flatten)]
    acknowledge: Acknowledge,
}

pub(super) async fn run(invocation: &Invocation, args: &Args) -> Result<Exit, CliError> {
    let output = &invocation.output;
    if !args.yes {
        question::possible()?;
    }
    let document = make_plan(invocation, &args.plan).await?;
    let view: PlanView = document::read("plan", &document)?;
    let plan = &view.plan;
    if !output.is_json() {
        output.write(&render::plan::digest(plan, &output.look))?;
    }
    if refuse(invocation, plan) {
        if output.is_json() {
            output.write(&document::pretty("plan", &document)?)?;
        }
        return Ok(Exit::Problems);
    }
    if view.approval.is_missing(&plan.body.created_by) {
        // Another operator looks at it first, so there is nothing to ask here.
        if output.is_json() {
            output.write(&document::pretty("plan", &document)?)?;
        }
        let (id, author) = (&plan.id, &plan.body.created_by);
        output.note(render::plan::unapproved(id, author, &output.look).trim_end());
        return Ok(Exit::Refused);
    }
    // `--yes` says yes to what is always asked, and not to what this plan warns of: the coordinator refuses it then.
    let mut acknowledge = args.acknowledge.ids.clone();
    if !args.yes {
        acknowledge = args.acknowledge.ask(invocation, plan)?;
        question::ask(&format!("\nStart plan {}? (wavegate plan show has all of it)", plan.id))?;
    }
    // From here on Ctrl-C no longer ends the program: it ends the looking on, and says so.
    let mut interrupt = interrupted()?;
    let answer = start(invocation, plan, args.manual, acknowledge).await?;
    if !output.is_json() {
        output.note(&document::printable(&answer.text));
    }
    let followed = follow(invocation, &answer.rollout, &Titles::of(plan), &mut interrupt).await?;
    watch::conclude(invocation, plan, followed).await
}
