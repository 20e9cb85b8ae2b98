//! A wave of many nodes on one screen: nodes that would be worked on alike are shown once.

use super::super::{Look, Tone, cell, counted, few};
use super::{described, foreseen, preview_of};
use std::collections::BTreeMap;
use wavegate_common::id::NodeId;
use wavegate_common::order::PlannedStep;
use wavegate_common::plan::{Plan, StagePlan};

/// A wave of so many nodes is shown node by node.
pub(super) const WHOLE: usize = 20;
/// Kinds of nodes that are shown of a larger one.
const KINDS: usize = 20;

/// What nodes have in common: what they are, and each step with what it would change. What a step has found as it should be
/// has another process or time on every node, so it is not told here.
type Kind<'p> = (String, Vec<(&'p str, &'static str, Vec<String>)>);

/// The nodes of a wave, those that are alike together, in the order of the first of each kind.
pub(super) fn alike(plan: &Plan, stage: &StagePlan, wave: &[NodeId], look: &Look) -> String {
    let mut kinds: BTreeMap<Kind<'_>, Vec<&NodeId>> = BTreeMap::new();
    for node in wave {
        let steps = stage.tasks.get(node).into_iter().flatten();
        let steps = steps.map(|step| told(plan, stage, node, step)).collect();
        kinds.entry((described(plan.body.nodes.get(node)), steps)).or_default().push(node);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    let mut text = String::new();
    for ((described, steps), nodes) in kinds.iter().take(KINDS) {
        let names = few(nodes.iter().map(|node| node.as_str()));
        let count =
            if nodes.len() == 1 { String::new() } else { format!("{}: ", counted(nodes.len(), "node")) };
        text.push_str(&look.paragraph(&format!("{count}{names}{described}"), 4));
        let mut table = look.bare_table();
        for (title, word, details) in steps {
            let lines = std::iter::once((*title).to_owned()).chain(details.iter().cloned());
            table.add_row([cell(tone(word), *word), cell(Tone::Plain, lines.collect::<Vec<_>>().join("\n"))]);
        }
        text.push_str(&look.lay_out(table, 6));
    }
    let more: usize = kinds.iter().skip(KINDS).map(|(_, nodes)| nodes.len()).sum();
    if more > 0 {
        let line = format!(
            "and {}, which differ from these: wavegate plan show {} --output json",
            counted(more, "more node"),
            plan.id
        );
        text.push_str(&look.paragraph(&line, 4));
    }
    text
}

fn told<'p>(
    plan: &'p Plan,
    stage: &StagePlan,
    node: &NodeId,
    step: &'p PlannedStep,
) -> (&'p str, &'static str, Vec<String>) {
    let (_, word, details) = foreseen(step, preview_of(plan, stage, node, step));
    (step.title.as_str(), word, if word == "already so" { Vec::new() } else { details })
}

fn tone(word: &str) -> Tone {
    match word {
        "change" => Tone::Busy,
        "blocked" | "not foreseen" => Tone::Bad,
        "skip" | "already so" => Tone::Faint,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;
    use wavegate_common::platform::Stage;

    #[test]
    fn a_thousand_equal_nodes_are_one_entry() {
        let mut plan = samples::plan();
        let at = plan.body.stages.iter().position(|stage| stage.stage == Stage::Compute).expect("a stage");
        let like = samples::node("compute-2");
        let previews = plan.body.previews.get_mut(&Stage::Compute).expect("previews");
        for number in 100..1100 {
            let node = samples::node(&format!("compute-{number}"));
            let stage = &mut plan.body.stages[at];
            stage.tasks.insert(node.clone(), stage.tasks[&like].clone());
            stage.waves[1].push(node.clone());
            previews.insert(node.clone(), previews[&like].clone());
            let seen = plan.body.nodes[&like].clone();
            plan.body.nodes.insert(node, seen);
        }
        let stage = &plan.body.stages[at];
        insta::assert_snapshot!(alike(&plan, stage, &stage.waves[1], &samples::look()), @r"
        1002 nodes: compute-2, compute-3, compute-100, compute-101, compute-102, compute-103,
        compute-104, compute-105, compute-106, compute-107, compute-108, compute-109, compute-110,
        compute-111, compute-112, compute-113, compute-114, compute-115, compute-116, compute-117 and
        982 more (centos 7, yum/systemd, kilo)
          change      Install Calico's compute packages
                      - calico-felix 1.4.5~trusty -> 1.4.6~trusty
                      - calico-common not installed -> 1.4.6~trusty
          change      Restart Felix
                      - calico-felix: restarted
          already so  Stop Neutron's DHCP agent and keep it down
          skip        Install Calico's DHCP agent
                      because the node's OpenStack release kilo is before liberty
          check       Felix reports the installed version
        ");
    }
}
