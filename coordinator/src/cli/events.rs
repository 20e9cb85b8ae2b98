//! `wavegate events`: the event log of a rollout, entry by entry.

use super::{CliError, Exit, Invocation, document, render};
use wavegate_proto::v1;

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only what came after this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
}

pub(super) async fn run(invocation: &Invocation, args: &Args) -> Result<Exit, CliError> {
    let request = v1::ListEventsRequest { rollout: invocation.rollout.clone(), after_seq: args.after };
    let mut entries = invocation.connect().await?.list_events(request).await?.into_inner();
    let output = &invocation.output;
    while let Some(entry) = entries.message().await? {
        let text = if output.is_json() {
            document::line("entry", &entry)?
        } else {
            render::events::entry(&document::read("entry", &entry)?, &output.look)
        };
        output.write(&text)?;
    }
    Ok(Exit::Ok)
}
