//! `wavegate plan`: what an upgrade would change, node by node. `plan show` shows one that was made before.

use super::make_plan::{PlanArgs, make_plan};
use super::{CliError, Exit, Invocation, document, render};
use crate::status::plan::PlanView;
use wavegate_proto::v1;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(flatten)]
    plan: PlanArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show a plan that was made before
    Show {
        /// Its id [default: the newest]
        plan: Option<String>,
    },
}

pub(super) async fn run(invocation: &Invocation, args: Args) -> Result<Exit, CliError> {
    let document = match args.command {
        None => make_plan(invocation, &args.plan).await?,
        Some(Command::Show { plan }) => get_plan(invocation, plan.unwrap_or_default()).await?,
    };
    let view: PlanView = document::read("plan", &document)?;
    let look = &invocation.output.look;
    invocation.show("plan", &document, |view: &PlanView| render::plan::plan(view, look))?;
    Ok(if view.plan.body.problems.is_empty() { Exit::Ok } else { Exit::Problems })
}

/// A plan that was made before, as it came; the newest for an empty id.
pub(super) async fn get_plan(invocation: &Invocation, plan: String) -> Result<v1::Document, CliError> {
    Ok(invocation.connect().await?.get_plan(v1::GetPlanRequest { plan }).await?.into_inner())
}
