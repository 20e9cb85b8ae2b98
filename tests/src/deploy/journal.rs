//! An agent's own journal, read from its host: a second witness beside the coordinator's event log.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::lab::Node;

const JOURNAL: &str = "/var/lib/wavegate/agent/journal";

/// The records of a node's journal, in order.
///
/// # Errors
///
/// When there is none or it can't be understood.
pub fn records(node: &Node) -> Result<Vec<Value>> {
    let text = node.read_file(JOURNAL)?;
    let lines = text.lines().skip(1).filter_map(|line| line.split_once(' '));
    let parse = |(_, json): (&str, &str)| {
        serde_json::from_str(json).with_context(|| format!("{}: understanding {json}", node.name()))
    };
    lines.map(parse).collect()
}

/// The stage and moment of every record of a kind that is about a task.
///
/// # Errors
///
/// Like [`records`].
pub fn moments(node: &Node, kind: &str) -> Result<Vec<(String, u64)>> {
    let of_kind = records(node)?.into_iter().filter(|record| record["record"] == kind);
    of_kind
        .map(|record| {
            let stage = record["key"]["stage"].as_str().context("a record without a stage")?.to_owned();
            Ok((stage, record["at"].as_u64().context("a record without a time")?))
        })
        .collect()
}

/// How many times each step of each stage changed the node, as `stage/step`.
///
/// # Errors
///
/// Like [`records`].
pub fn changes(node: &Node) -> Result<std::collections::BTreeMap<String, u32>> {
    let mut changes = std::collections::BTreeMap::new();
    for record in records(node)? {
        if record["record"] == "step_ended" && record["outcome"]["outcome"] == "changed" {
            let stage = record["key"]["stage"].as_str().unwrap_or_default();
            let step = record["step"].as_str().unwrap_or_default();
            *changes.entry(format!("{stage}/{step}")).or_default() += 1;
        }
    }
    Ok(changes)
}
