//! `wavegate node remove`: take a machine that is gone for good out of the fleet.

use super::{CliError, Exit, Invocation, document, question};
use wavegate_proto::v1;

/// What can be done with a node of the fleet.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Take a node out of the fleet, since its machine is gone for good: plans are made without it
    Remove(Remove),
}

/// Arguments of `node remove`.
#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// Also while its agent is connected
    #[arg(long)]
    force: bool,
    /// Remove without asking
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(invocation: &Invocation, command: Command) -> Result<Exit, CliError> {
    let Command::Remove(Remove { node, force, yes }) = command;
    if !yes {
        question::possible()?;
        question::ask(&asked(&node))?;
    }
    let request = v1::RemoveNodeRequest { node: node.clone(), force };
    let removed = invocation.connect().await?.remove_node(request).await?.into_inner();
    let output = &invocation.output;
    output.write(&if output.is_json() { json(&node, &removed) } else { text(&removed) })?;
    Ok(Exit::Ok)
}

fn asked(node: &str) -> String {
    format!("Remove {} from the fleet?", document::printable(node))
}

fn json(node: &str, removed: &v1::RemoveNodeResponse) -> String {
    let v1::RemoveNodeResponse { changed, text } = removed;
    format!("{:#}\n", serde_json::json!({ "node": node, "changed": changed, "text": text }))
}

fn text(removed: &v1::RemoveNodeResponse) -> String {
    format!("{}\n", document::printable(&removed.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_answered() {
        insta::assert_snapshot!(asked("compute-9"), @"Remove compute-9 from the fleet?");
        let removed = v1::RemoveNodeResponse { changed: false, text: "there is no such node".to_owned() };
        insta::assert_snapshot!(text(&removed), @"there is no such node");
        insta::assert_snapshot!(json("compute-9", &removed), @r#"
        {
          "changed": false,
          "node": "compute-9",
          "text": "there is no such node"
        }
        "#);
    }
}
