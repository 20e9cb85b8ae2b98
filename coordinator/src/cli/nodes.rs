//! `wavegate nodes`: who is in the fleet, or all that is known of one of them.

use super::render::{node, nodes};
use super::{CliError, Exit, Invocation, document, now};
use crate::status::view::NodeStatus;
use wavegate_proto::v1;

/// Arguments of `nodes`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show all that is known of this node
    #[arg(value_name = "NODE")]
    node: Option<String>,
}

pub(super) async fn run(invocation: &Invocation, args: &Args) -> Result<Exit, CliError> {
    let list = invocation.connect().await?.list_nodes(v1::ListNodesRequest {}).await?.into_inner();
    let (output, look) = (&invocation.output, &invocation.output.look);
    let Some(name) = &args.node else {
        invocation.show("node_list", &list, |list: &Vec<NodeStatus>| nodes::nodes(list, now(), look))?;
        return Ok(Exit::Ok);
    };
    if output.is_json() {
        let known: Vec<serde_json::Value> = wavegate_proto::convert::read_document("node_list", Some(&list))?;
        let found = known.iter().find(|known| known["node"] == name.as_str());
        output.write(&format!("{:#}\n", found.ok_or_else(|| no_such_node(name))?))?;
    } else {
        let known: Vec<NodeStatus> = document::read("node_list", &list)?;
        let found = known.iter().find(|known| known.node.as_str() == name);
        output.write(&node::node(found.ok_or_else(|| no_such_node(name))?, now(), look))?;
    }
    Ok(Exit::Ok)
}

fn no_such_node(name: &str) -> CliError {
    let name = document::printable(name);
    CliError::Usage {
        what: format!("there is no node {name} in the fleet; see who there is: wavegate nodes"),
    }
}
