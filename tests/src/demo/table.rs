//! The demo's tables.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

use super::snapshot::Snapshot;
use crate::lab::Dnsmasq;

/// A row a host and thing: what it was, what it is.
pub fn before_and_after(before: &BTreeMap<String, Snapshot>, after: &BTreeMap<String, Snapshot>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["NODE", "WHAT", "BEFORE", "AFTER"]);
    for (node, new) in after {
        let Some(old) = before.get(node) else { continue };
        table.add_row([""; 4]);
        for (index, (what, was, is)) in rows(old, new).into_iter().enumerate() {
            let name = if index == 0 { node.as_str() } else { "" };
            table.add_row([name.to_owned(), what, was, is]);
        }
    }
    table
}

fn rows(old: &Snapshot, new: &Snapshot) -> Vec<(String, String, String)> {
    let mut rows = Vec::new();
    for (package, version) in &new.packages {
        let was = old.packages.get(package).cloned().unwrap_or_else(|| "-".to_owned());
        rows.push((package.clone(), was, version.clone()));
    }
    let pid = |pid: Option<i32>| pid.map_or_else(|| "not running".to_owned(), |pid| format!("pid {pid}"));
    rows.push((format!("{} process", new.service.0), pid(old.service.1), pid(new.service.1)));
    if !new.dnsmasqs.is_empty() {
        rows.push(("dnsmasq, Neutron's".to_owned(), neutrons(old), neutrons(new)));
        rows.push(("dnsmasq, libvirt's".to_owned(), strangers(old), strangers(new)));
        let agents = |snapshot: &Snapshot| snapshot.dhcp_agents.join(", ");
        rows.push(("DHCP agent".to_owned(), agents(old), agents(new)));
        let lock_path =
            |snapshot: &Snapshot| snapshot.lock_path.clone().unwrap_or_else(|| "not set".to_owned());
        rows.push(("neutron.conf lock_path".to_owned(), lock_path(old), lock_path(new)));
    }
    rows
}

fn neutrons(snapshot: &Snapshot) -> String {
    let list: Vec<String> = snapshot.neutron_dnsmasqs().map(describe).collect();
    list.join("\n")
}

fn strangers(snapshot: &Snapshot) -> String {
    let list: Vec<String> =
        snapshot.dnsmasqs.iter().filter(|dnsmasq| !dnsmasq.neutron).map(describe).collect();
    list.join("\n")
}

fn describe(dnsmasq: &Dnsmasq) -> String {
    let file = if dnsmasq.exe_is_file_on_disk { "file on disk" } else { "replaced file" };
    format!("pid {} ({file})", dnsmasq.pid)
}

/// How long each stage took, by the coordinator's log.
///
/// # Errors
///
/// When the status has no times: the rollout did not end.
pub fn stage_times(status: &Value) -> Result<Table> {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["STAGE", "NODES", "WAVES", "TOOK"]);
    for stage in status["stages"].as_array().context("no stages in the status")? {
        let began = stage["began"].as_u64().context("a stage has not begun")?;
        let ended = stage["ended"].as_u64().context("a stage has not ended")?;
        let nodes = stage["tasks"].as_array().map_or(0, Vec::len);
        table.add_row([
            stage["stage"].as_str().unwrap_or_default().to_owned(),
            nodes.to_string(),
            stage["waves"].to_string(),
            format!("{:.1} s", (ended - began) as f64 / 1000.0),
        ]);
    }
    Ok(table)
}
