//! `wavegate nodes`: who is in the fleet.

use super::render::nodes::nodes;
use super::{CliError, Exit, Invocation, now};
use crate::status::view::NodeStatus;
use wavegate_proto::v1;

pub(super) async fn run(invocation: &Invocation) -> Result<Exit, CliError> {
    let document = invocation.connect().await?.list_nodes(v1::ListNodesRequest {}).await?.into_inner();
    let look = &invocation.output.look;
    invocation.show("node_list", &document, |list: &Vec<NodeStatus>| nodes(list, now(), look))?;
    Ok(Exit::Ok)
}
