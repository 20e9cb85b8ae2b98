//! `wavegate nodes`: who is in the fleet, or all that is known of one of them.

use super::render::{node, nodes};
use super::{CliError, Exit, Invocation, document, now};
use crate::status::nodes::Wanted;
use crate::status::view::NodeStatus;
use serde::Deserialize;
use serde_json::Value;
use wavegate_common::id::NodeId;
use wavegate_common::platform::Role;
use wavegate_proto::convert::read_document;
use wavegate_proto::v1;

/// Arguments of `nodes`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show all that is known of this node
    #[arg(value_name = "NODE")]
    node: Option<String>,
    /// Only nodes with this role
    #[arg(long, value_parser = clap::value_parser!(Role), conflicts_with = "node")]
    role: Option<Role>,
    /// Only nodes whose agent is not connected, or that have not enrolled
    #[arg(long, conflicts_with = "node")]
    offline: bool,
    /// Only nodes with whose agent something is wrong, or that differ from the inventory
    #[arg(long, conflicts_with = "node")]
    trouble: bool,
}

impl Args {
    fn request(&self) -> v1::ListNodesRequest {
        let Self { node, role, offline, trouble } = self;
        // What is no name is no node's either: it is looked for here, and said so.
        let node = node.as_ref().filter(|name| NodeId::new(name.as_str()).is_ok()).cloned();
        let role = role.map(|role| role.to_string());
        v1::ListNodesRequest {
            node: node.unwrap_or_default(),
            role: role.unwrap_or_default(),
            offline: *offline,
            trouble: *trouble,
        }
    }

    /// The same, for what an older coordinator answers: it knows of no such wishes and tells of every node.
    fn wanted(&self) -> Wanted {
        Wanted { node: None, role: self.role, offline: self.offline, trouble: self.trouble }
    }
}

pub(super) async fn run(invocation: &Invocation, args: &Args) -> Result<Exit, CliError> {
    let list = invocation.connect().await?.list_nodes(args.request()).await?.into_inner();
    let (output, look) = (&invocation.output, &invocation.output.look);
    let wanted = args.wanted();
    match &args.node {
        Some(name) if output.is_json() => {
            let known: Vec<Value> = read_document("node_list", Some(&list))?;
            let found = known.iter().find(|known| known["node"] == name.as_str());
            output.write(&format!("{:#}\n", found.ok_or_else(|| no_such_node(name))?))?;
        }
        Some(name) => {
            let known: Vec<NodeStatus<'_>> = document::read("node_list", &list)?;
            let found = known.iter().find(|known| known.node.as_str() == name);
            output.write(&node::node(found.ok_or_else(|| no_such_node(name))?, now(), look))?;
        }
        None if output.is_json() && wanted == Wanted::default() => {
            output.write(&document::pretty("node_list", &list)?)?;
        }
        None if output.is_json() => {
            let known = those_wanted(read_document("node_list", Some(&list))?, &wanted);
            output.write(&format!("{:#}\n", Value::Array(known)))?;
        }
        None => {
            let mut known: Vec<NodeStatus<'_>> = document::read("node_list", &list)?;
            known.retain(|node| wanted.has(node));
            if known.is_empty() && wanted != Wanted::default() {
                output.write("No node is so.\n")?;
            } else {
                output.write(&nodes::nodes(&known, now(), look))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// Those that are wanted, as they came. What can't be read is a newer coordinator's, which has told of no others.
fn those_wanted(known: Vec<Value>, wanted: &Wanted) -> Vec<Value> {
    let is_wanted = |known: &Value| NodeStatus::deserialize(known).map_or(true, |node| wanted.has(&node));
    known.into_iter().filter(is_wanted).collect()
}

fn no_such_node(name: &str) -> CliError {
    let name = document::printable(name);
    CliError::Usage {
        what: format!("there is no node {name} in the fleet; see who there is: wavegate nodes"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::render::samples;
    use super::*;
    use serde_json::{json, to_value};

    #[test]
    fn what_an_older_coordinator_tells_too_much_is_left_out_and_the_rest_is_as_it_came() {
        let Value::Array(mut known) = to_value(samples::nodes()).expect("nodes") else { panic!("a list") };
        known[0]["of_a_newer_one"] = json!(1);
        let offline = Wanted { offline: true, ..Wanted::default() };
        let expected: Vec<String> = samples::nodes()
            .into_iter()
            .filter(|node| !node.link.is_online())
            .map(|node| node.node.to_string())
            .collect();
        let names = |known: &[Value]| {
            known.iter().filter_map(|node| node["node"].as_str()).map(str::to_owned).collect()
        };
        let found: Vec<String> = names(&those_wanted(known.clone(), &offline));
        assert!(!expected.is_empty() && expected.len() < known.len());
        assert_eq!(found, expected);
        assert_eq!(those_wanted(known.clone(), &Wanted::default()), known);
        let strange = vec![json!({ "node": "c1", "link": "of another kind" })];
        assert_eq!(those_wanted(strange.clone(), &offline), strange);
    }
}
