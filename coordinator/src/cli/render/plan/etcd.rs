//! The roll of etcd in a plan, in a line or two: from which version to which, in which order, and who comes after the members.

use super::super::{Look, counted};
use std::collections::BTreeSet;
use wavegate_common::etcd::Part;
use wavegate_common::id::NodeId;
use wavegate_common::outcome::{Change, Preview};
use wavegate_common::plan::{Plan, StagePlan};
use wavegate_common::platform::Stage;

/// Members by name that are shown; a cluster has seven at most, as a rule.
const SHOWN: usize = 9;

/// How stage etcd goes; empty text for every other stage, and where no member of a known cluster takes part.
#[must_use]
pub fn roll(plan: &Plan, stage: &StagePlan, look: &Look) -> String {
    if stage.stage != Stage::Etcd {
        return String::new();
    }
    let part = |node: &&NodeId| plan.body.nodes.get(*node).and_then(|node| Some(node.etcd.as_ref()?.part));
    let of = |wanted: Part| -> Vec<&NodeId> {
        stage.waves.iter().flatten().filter(|node| part(node) == Some(wanted)).collect()
    };
    let members = of(Part::Member);
    if members.is_empty() {
        return String::new();
    }
    let mut names: Vec<&str> = members.iter().take(SHOWN).map(|node| node.as_str()).collect();
    if members.len() > SHOWN {
        names.push("...");
    }
    let order = match names.as_slice() {
        [one] => format!("1 member: {one}"),
        _ => {
            format!("{} one by one, the leader last: {}", counted(members.len(), "member"), names.join(", "))
        }
    };
    let mut text = format!("etcd {}; {order}", versions(plan, stage, &members));
    let mut after = Vec::new();
    for part in [Part::Proxy, Part::Gateway, Part::Client] {
        let count = of(part).len();
        if count > 0 {
            let many = if part == Part::Proxy { "proxies".to_owned() } else { format!("{part}s") };
            after.push(if count == 1 { format!("1 {part}") } else { format!("{count} {many}") });
        }
    }
    if !after.is_empty() {
        text.push_str(&format!("; then {}", after.join(", ")));
    }
    look.paragraph(&text, 2)
}

/// `3.3.25 -> 3.4.23`, or that it stays as it is.
fn versions(plan: &Plan, stage: &StagePlan, members: &[&NodeId]) -> String {
    let previews = plan.body.previews.get(&stage.stage);
    let mut found = BTreeSet::new();
    for step in members.iter().filter_map(|node| previews?.get(*node)).flatten() {
        let Preview::WouldChange { changes } = &step.preview else { continue };
        found.extend(changes.iter().filter_map(|change| match change {
            Change::Version { of, from, to } if of == "etcd" => {
                Some(format!("{} -> {to}", from.as_deref().unwrap_or("unknown")))
            }
            Change::Version { .. }
            | Change::Package { .. }
            | Change::Service { .. }
            | Change::Process { .. }
            | Change::File { .. } => None,
        }));
    }
    if found.is_empty() {
        return "stays at its version".to_owned();
    }
    found.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;
    use wavegate_common::etcd::{ClusterId, MemberId};
    use wavegate_common::plan::PlannedEtcd;

    fn told(plan: &Plan) -> String {
        roll(plan, &plan.body.stages[0], &samples::look())
    }

    #[test]
    fn versions_and_order_are_said() {
        let mut plan = samples::plan();
        assert_eq!(told(&plan), "", "nothing is known of its cluster");
        let mut know = |name: &str, part, member: Option<u64>| {
            let etcd = PlannedEtcd { part, cluster: ClusterId(7), member: member.map(MemberId) };
            plan.body.nodes.get_mut(&samples::node(name)).expect("a node").etcd = Some(etcd);
        };
        know("etcd-1", Part::Member, Some(1));
        know("compute-1", Part::Proxy, None);
        insta::assert_snapshot!(told(&plan), @"  etcd stays at its version; 1 member: etcd-1; then 1 proxy");
        let more = ["compute-2", "compute-3", "control-1"];
        for (name, part) in more.into_iter().zip([Part::Member, Part::Gateway, Part::Client]) {
            let etcd = PlannedEtcd { part, cluster: ClusterId(7), member: None };
            plan.body.nodes.get_mut(&samples::node(name)).expect("a node").etcd = Some(etcd);
            plan.body.stages[0].waves.insert(0, vec![samples::node(name)]);
        }
        let version = Change::Version { of: "etcd".into(), from: Some("3.3.25".into()), to: "3.4.23".into() };
        let previews = plan
            .body
            .previews
            .get_mut(&Stage::Etcd)
            .and_then(|nodes| nodes.get_mut(&samples::node("etcd-1")));
        previews.expect("its previews")[0].preview = Preview::WouldChange { changes: vec![version] };
        insta::assert_snapshot!(told(&plan), @r"
        etcd 3.3.25 -> 3.4.23; 2 members one by one, the leader last: compute-2, etcd-1; then 1 proxy, 1
        gateway, 1 client
        ");
        assert_eq!(roll(&plan, &plan.body.stages[1], &samples::look()), "");
    }
}
