//! A plan in short, for the question whether to start it: how many nodes, waves and changes, and which changes most.

use super::super::{Look, Tone, cell, change_text};
use super::differences::differences;
use super::warnings::warnings;
use super::{etcd, header, idle, totals, undeclared};
use std::collections::BTreeMap;
use wavegate_common::outcome::Preview;
use wavegate_common::plan::{Plan, StagePlan};

/// Lines of changes shown for a stage.
const SHOWN: usize = 12;

/// The plan in short.
#[must_use]
pub fn digest(plan: &Plan, look: &Look) -> String {
    let mut table =
        look.table(&["STAGE", "NODES", "WAVES", "AT ONCE", "FAILURES ALLOWED", "NODES TO CHANGE"]);
    for stage in &plan.body.stages {
        let changing = changing_nodes(plan, stage);
        table.add_row([
            cell(Tone::Plain, stage.stage),
            cell(Tone::Plain, stage.tasks.len()),
            cell(Tone::Plain, stage.waves.len()),
            cell(Tone::Plain, stage.limits.max_unavailable),
            cell(Tone::Plain, stage.limits.errors_allowed),
            cell(if changing == 0 { Tone::Faint } else { Tone::Busy }, changing),
        ]);
    }
    let mut text = format!("{}\n{}", header(plan, look), look.lay_out(table, 0));
    for stage in &plan.body.stages {
        text.push_str(&changes(plan, stage, look));
        text.push_str(&etcd::roll(plan, stage, look));
    }
    let differences = differences(&plan.body.version_differences, look);
    let beside = idle(plan, look) + &undeclared(plan, look);
    format!("{text}\n{beside}{}{differences}{}", totals(plan), warnings(plan, look))
}

fn changing_nodes(plan: &Plan, stage: &StagePlan) -> usize {
    let Some(nodes) = plan.body.previews.get(&stage.stage) else { return 0 };
    let changes = |preview: &Preview| matches!(preview, Preview::WouldChange { .. });
    nodes.values().filter(|steps| steps.iter().any(|step| changes(&step.preview))).count()
}

/// The stage's changes, equal ones together, in the order of the steps; those on most nodes are the first to be shown.
fn changes(plan: &Plan, stage: &StagePlan, look: &Look) -> String {
    let mut found: Vec<String> = Vec::new();
    let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
    for step in plan.body.previews.get(&stage.stage).into_iter().flat_map(BTreeMap::values).flatten() {
        let Preview::WouldChange { changes } = &step.preview else { continue };
        for change in changes.iter().map(change_text) {
            let count = nodes.entry(change.clone()).or_default();
            *count += 1;
            if *count == 1 {
                found.push(change);
            }
        }
    }
    if found.is_empty() {
        return String::new();
    }
    found.sort_by_key(|change| std::cmp::Reverse(nodes[change]));
    let mut table = look.bare_table();
    for change in found.iter().take(SHOWN) {
        table.add_row([format!("{}x", nodes[change]), change.clone()]);
    }
    let mut text = format!(
        "\n{}\n{}",
        look.paint(Tone::Heading, &format!("Changes in stage {}", stage.stage)),
        look.lay_out(table, 2)
    );
    if let Some(more @ 1..) = found.len().checked_sub(SHOWN) {
        text.push_str(&format!("  and {more} more (wavegate plan show {})\n", plan.id));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;

    #[test]
    fn the_mixed_fleet_in_short() {
        insta::assert_snapshot!(super::digest(&samples::plan(), &samples::look()), @r"
        Plan 0a1b2c3d4e5f: procedure calico-openstack 1, made 2026-11-22T12:00:00+00:00 by alice
          dist_upgrade = false
          etcd_packages = etcd=2.3.8

        STAGE    NODES  WAVES  AT ONCE  FAILURES ALLOWED  NODES TO CHANGE
        etcd     2      2      1        0                 1
        compute  3      2      2        0                 3
        control  1      1      1        0                 1

        Changes in stage etcd
          1x  etcd 2.3.7 -> 2.3.8

        Changes in stage compute
          3x  calico-felix 1.4.5~trusty -> 1.4.6~trusty
          3x  calico-common not installed -> 1.4.6~trusty
          3x  calico-felix: restarted

        Changes in stage control
          1x  calico-control 1.4.5~trusty -> 1.4.6~trusty

        No stage works on deploy-1.
        8 steps would change something, on 5 of 6 nodes.
        ");
    }
}
