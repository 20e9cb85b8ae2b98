//! `wavegate inventory ...`: the fleet as it is declared, so that no machine is forgotten.

use super::{CliError, Exit, Invocation, done, render};
use crate::store::InventoryRecord;
use std::path::PathBuf;
use wavegate_proto::v1;

/// What can be done with the inventory.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Declare the fleet: plans are made only while every node of it is enrolled and online
    #[command(after_help = EXAMPLE)]
    Set {
        /// The inventory's file (TOML)
        file: PathBuf,
    },
    /// Show what is declared, who set it and when
    Show {
        /// Print its text instead, as it was set
        #[arg(long)]
        text: bool,
    },
    /// Have no inventory any more: plans are made with the nodes that have enrolled
    Clear,
}

const EXAMPLE: &str = "\
Example of a file:
  [nodes.compute-1]
  roles = [\"compute\"]                      # optional; other roles found there are a problem of the plan
  labels = { rack = \"r1\", zone = \"a\" }     # optional; waves can keep to them

  [nodes.\"control-1.example\"]              # a name with dots stands in quotes";

pub(super) async fn run(invocation: &Invocation, command: Command) -> Result<Exit, CliError> {
    let done = match command {
        Command::Set { file } => {
            let text = std::fs::read_to_string(&file)
                .map_err(|source| CliError::File { path: file.clone(), source })?;
            let request = v1::SetInventoryRequest { text, file: file.display().to_string() };
            invocation.connect().await?.set_inventory(request).await?.into_inner()
        }
        Command::Clear => {
            invocation.connect().await?.clear_inventory(v1::ClearInventoryRequest {}).await?.into_inner()
        }
        Command::Show { text } => return show(invocation, text).await,
    };
    done::show(&done, &invocation.output)
}

async fn show(invocation: &Invocation, whole_text: bool) -> Result<Exit, CliError> {
    let request = v1::GetInventoryRequest {};
    let document = invocation.connect().await?.get_inventory(request).await?.into_inner();
    let look = &invocation.output.look;
    invocation.show("inventory", &document, |record: &Option<InventoryRecord>| match record {
        Some(record) if whole_text => record.text.clone(),
        other => render::inventory::inventory(other.as_ref(), look),
    })?;
    Ok(Exit::Ok)
}
