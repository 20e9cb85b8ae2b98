//! A plan as people read it: stage, wave, node, step, and what each step would change. Its short form is `digest`'s.

mod alike;
mod differences;
mod digest;
mod etcd;
mod problems;
mod warnings;

pub use digest::digest;
pub use problems::problems;
pub use warnings::{ids, warning, warnings};

use super::{Look, Tone, cell, change_text, counted, few, time};
use crate::status::plan::PlanView;
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::id::{Actor, NodeId, PlanId};
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::Preview;
use wavegate_common::plan::{Limits, Plan, PlannedNode, StagePlan, StepPreview};
use wavegate_common::procedure::{Procedure, Value, shipped};
use wavegate_common::waves::Mode;

/// The whole plan.
#[must_use]
pub fn plan(view: &PlanView, look: &Look) -> String {
    let plan = &view.plan;
    let mut text = header(plan, look);
    for stage in &plan.body.stages {
        text.push('\n');
        text.push_str(&stage_of(plan, stage, look));
    }
    text.push('\n');
    text.push_str(&idle(plan, look));
    text.push_str(&undeclared(plan, look));
    text.push_str(&totals(plan));
    text.push_str(&differences::differences(&plan.body.version_differences, look));
    text.push_str(&problems(&plan.body.problems, look));
    text.push_str(&warnings(plan, look));
    text.push_str(&next(view, look));
    text
}

/// Who has approved the plan, and what comes next; empty text for a plan that can't be started.
#[must_use]
pub fn next(view: &PlanView, look: &Look) -> String {
    let PlanView { plan, approval } = view;
    let mut text = String::new();
    for given in &approval.given {
        text.push_str(&format!("Approved by {} {}\n", given.by, time::moment(given.at, look)));
    }
    if !plan.body.problems.is_empty() {
        return text;
    }
    let (id, author) = (&plan.id, &plan.body.created_by);
    if approval.is_missing(author) {
        text.push_str(&unapproved(id, author, look));
    } else {
        text.push_str(&format!("Start it with: wavegate start {id}{}\n", warnings::acknowledging(plan)));
    }
    text
}

/// What a plan still needs that nobody has approved.
#[must_use]
pub fn unapproved(id: &PlanId, author: &Actor, look: &Look) -> String {
    let text =
        format!("It can be started when somebody else than {author} has approved it: wavegate approve {id}");
    look.paint(Tone::Busy, look.paragraph(&text, 0).trim_end()) + "\n"
}

/// What the plan is, and the parameters that its site has set.
fn header(plan: &Plan, look: &Look) -> String {
    let body = &plan.body;
    let made = format!("made {} by {}", time::moment(body.created_at, look), body.created_by);
    let name = look.paint(Tone::Heading, &format!("Plan {}", plan.id));
    let mut text = format!("{name}: procedure {} {}, {made}\n", body.procedure, body.procedure_version);
    for (name, value) in set_by_site(plan) {
        text.push_str(&look.paragraph(&format!("{name} = {value}"), 2));
    }
    text
}

/// The parameters that differ from the defaults; all of them if the procedure is not one that ships with this program.
fn set_by_site(plan: &Plan) -> BTreeMap<&String, &Value> {
    let known = shipped(&plan.body.procedure).and_then(|(file, text)| Procedure::parse(file, text).ok());
    let known = known.filter(|procedure| procedure.digest == plan.body.procedure_digest);
    let default = |name: &String| known.as_ref()?.parameters.get(name)?.default.as_ref();
    plan.body.parameters.iter().filter(|(name, value)| default(name) != Some(value)).collect()
}

fn stage_of(plan: &Plan, stage: &StagePlan, look: &Look) -> String {
    let title = look.paint(Tone::Heading, &format!("Stage {}", stage.stage));
    if stage.tasks.is_empty() {
        return format!("{title}: no nodes\n");
    }
    let nodes = counted(stage.tasks.len(), "node");
    let mut text = format!("{title}: {nodes}, {}\n", limits(stage));
    text.push_str(&etcd::roll(plan, stage, look));
    for (index, wave) in stage.waves.iter().enumerate() {
        let canary = if index == 0 { ", the canary" } else { "" };
        text.push_str(&format!("  Wave {} of {}{canary}\n", index + 1, stage.waves.len()));
        if wave.len() > alike::WHOLE {
            text.push_str(&alike::alike(plan, stage, wave, look));
            continue;
        }
        for node in wave {
            text.push_str(&format!("    {node}{}\n", described(plan.body.nodes.get(node))));
            text.push_str(&task_of(plan, stage, node, look));
        }
    }
    text
}

fn described(node: Option<&PlannedNode>) -> String {
    let Some(node) = node else { return String::new() };
    let release = node.release.map_or_else(String::new, |release| format!(", {release}"));
    format!(" ({}{release})", node.platform)
}

/// `2 waves, at most 1 at a time, halts at the first failure`, and what else was asked for.
fn limits(stage: &StagePlan) -> String {
    let Limits { max_unavailable, errors_allowed, soak_s, start, .. } = stage.limits;
    let halts = match errors_allowed {
        0 => "halts at the first failure".to_owned(),
        allowed => format!("halts at more than {}", counted(allowed as usize, "failure")),
    };
    let mut text =
        format!("{}, at most {max_unavailable} at a time, {halts}", counted(stage.waves.len(), "wave"));
    if !stage.groups.is_empty() {
        let groups: BTreeSet<&String> = stage.groups.values().collect();
        text.push_str(&format!(", {} one after the other", counted(groups.len(), "group")));
    }
    if soak_s > 0 {
        text.push_str(&format!(", {} of rest after each wave", time::duration(soak_s.saturating_mul(1000))));
    }
    if start == Mode::Manual {
        text.push_str(", each wave waits for an operator");
    }
    text
}

fn task_of(plan: &Plan, stage: &StagePlan, node: &NodeId, look: &Look) -> String {
    let mut table = look.bare_table();
    for step in stage.tasks.get(node).into_iter().flatten() {
        let (tone, word, details) = foreseen(step, preview_of(plan, stage, node, step));
        let text = std::iter::once(step.title.clone()).chain(details).collect::<Vec<_>>().join("\n");
        table.add_row([cell(tone, word), cell(if tone == Tone::Faint { tone } else { Tone::Plain }, text)]);
    }
    look.lay_out(table, 6)
}

fn preview_of<'p>(
    plan: &'p Plan,
    stage: &StagePlan,
    node: &NodeId,
    step: &PlannedStep,
) -> Option<&'p Preview> {
    let previews = plan.body.previews.get(&stage.stage)?.get(node)?;
    previews.iter().find(|preview| preview.step == step.id).map(|preview| &preview.preview)
}

/// A step's word, and the lines under its title.
fn foreseen(step: &PlannedStep, preview: Option<&Preview>) -> (Tone, &'static str, Vec<String>) {
    match (&step.work, preview) {
        (Work::Skip { reason }, _) => (Tone::Faint, "skip", vec![format!("because {reason}")]),
        (Work::Run { .. }, Some(Preview::WouldChange { changes })) => (
            Tone::Busy,
            "change",
            changes.iter().map(|change| format!("- {}", change_text(change))).collect(),
        ),
        (Work::Run { .. }, Some(Preview::AlreadySo { evidence })) => {
            (Tone::Faint, "already so", vec![evidence.clone()])
        }
        (Work::Run { .. }, Some(Preview::WouldCheck)) => (Tone::Plain, "check", Vec::new()),
        (Work::Run { .. }, Some(Preview::Blocked { error })) => {
            (Tone::Bad, "blocked", vec![error.what.clone(), format!("to do: {}", error.next)])
        }
        (Work::Run { action, .. }, None) if action.is_check() => (Tone::Plain, "check", Vec::new()),
        (Work::Run { action, .. }, None) => (Tone::Bad, "not foreseen", vec![action.to_string()]),
    }
}

/// The nodes that no stage works on.
fn idle(plan: &Plan, look: &Look) -> String {
    let works_on = |node: &NodeId| plan.body.stages.iter().any(|stage| stage.tasks.contains_key(node));
    let idle: Vec<&str> = plan.body.nodes.keys().filter(|node| !works_on(node)).map(NodeId::as_str).collect();
    if idle.is_empty() {
        return String::new();
    }
    look.paragraph(&format!("No stage works on {}.", few(idle)), 0)
}

/// The nodes that take part and are not in the inventory.
fn undeclared(plan: &Plan, look: &Look) -> String {
    let names: Vec<&str> = plan.body.undeclared.iter().map(NodeId::as_str).collect();
    if names.is_empty() {
        return String::new();
    }
    let text = format!(
        "Not in the inventory: {}. They take part all the same; declare them (wavegate inventory set FILE) or remove them \
         (wavegate node remove NODE).",
        few(names)
    );
    look.paragraph(&text, 0)
}

/// How much the plan would change, and how much of it can't be foreseen.
fn totals(plan: &Plan) -> String {
    let previews = || plan.body.previews.values().flatten();
    let count = |wanted: fn(&Preview) -> bool, node: &[StepPreview]| {
        node.iter().filter(|s| wanted(&s.preview)).count()
    };
    let changes = |preview: &Preview| matches!(preview, Preview::WouldChange { .. });
    let blocked = |preview: &Preview| matches!(preview, Preview::Blocked { .. });
    let steps: usize = previews().map(|(_, node)| count(changes, node)).sum();
    let nodes: BTreeSet<&NodeId> =
        previews().filter(|(_, node)| count(changes, node) > 0).map(|(name, _)| name).collect();
    let blocked: usize = previews().map(|(_, node)| count(blocked, node)).sum();
    let mut text = match (steps, blocked) {
        (0, 0) => "Nothing would be changed: as far as can be seen, every node is already so.\n".to_owned(),
        (0, _) => String::new(),
        _ => {
            let all = counted(plan.body.nodes.len(), "node");
            format!("{} would change something, on {} of {all}.\n", counted(steps, "step"), nodes.len())
        }
    };
    if blocked > 0 {
        text.push_str(&format!(
            "{} blocked: what would come of it cannot be seen.\n",
            counted(blocked, "step")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::{PlanView, Preview, StepPreview};
    use crate::store::Approval;
    use wavegate_common::id::Actor;
    use wavegate_common::outcome::StepError;
    use wavegate_common::platform::Stage;

    #[test]
    fn a_fresh_plan_of_a_mixed_fleet() {
        insta::assert_snapshot!(super::plan(&samples::plan_view(), &samples::look()), @r"
        Plan 0a1b2c3d4e5f: procedure calico-openstack 1, made 2026-11-22T12:00:00+00:00 by alice
          dist_upgrade = false
          etcd_packages = etcd=2.3.8

        Stage etcd: 2 nodes, 2 waves, at most 1 at a time, halts at the first failure
          Wave 1 of 2, the canary
            etcd-1 (ubuntu 14.04, apt/upstart, kilo)
              change  Install etcd
                      - etcd 2.3.7 -> 2.3.8
              check   etcd answers and is healthy
          Wave 2 of 2
            compute-1 (ubuntu 14.04, apt/upstart, kilo)
              already so  Install etcd
                          etcd 2.3.8 is installed
              check       etcd answers and is healthy

        Stage compute: 3 nodes, 2 waves, at most 2 at a time, halts at the first failure
          Wave 1 of 2, the canary
            compute-1 (ubuntu 14.04, apt/upstart, kilo)
              change      Install Calico's compute packages
                          - calico-felix 1.4.5~trusty -> 1.4.6~trusty
                          - calico-common not installed -> 1.4.6~trusty
              change      Restart Felix
                          - calico-felix: restarted
              already so  Stop Neutron's DHCP agent and keep it down
                          neutron-dhcp-agent is not installed
              skip        Install Calico's DHCP agent
                          because the node's OpenStack release kilo is before liberty
              check       Felix reports the installed version
          Wave 2 of 2
            compute-2 (centos 7, yum/systemd, kilo)
              change      Install Calico's compute packages
                          - calico-felix 1.4.5~trusty -> 1.4.6~trusty
                          - calico-common not installed -> 1.4.6~trusty
              change      Restart Felix
                          - calico-felix: restarted
              already so  Stop Neutron's DHCP agent and keep it down
                          neutron-dhcp-agent is not installed
              skip        Install Calico's DHCP agent
                          because the node's OpenStack release kilo is before liberty
              check       Felix reports the installed version
            compute-3 (centos 7, yum/systemd, kilo)
              change      Install Calico's compute packages
                          - calico-felix 1.4.5~trusty -> 1.4.6~trusty
                          - calico-common not installed -> 1.4.6~trusty
              change      Restart Felix
                          - calico-felix: restarted
              already so  Stop Neutron's DHCP agent and keep it down
                          neutron-dhcp-agent is not installed
              skip        Install Calico's DHCP agent
                          because the node's OpenStack release kilo is before liberty
              check       Felix reports the installed version

        Stage control: 1 node, 1 wave, at most 1 at a time, halts at the first failure
          Wave 1 of 1, the canary
            control-1 (ubuntu 14.04, apt/upstart, kilo)
              change      Install Calico's control packages
                          - calico-control 1.4.5~trusty -> 1.4.6~trusty
              already so  Restart neutron-server
                          neutron-server is newer than its packages

        No stage works on deploy-1.
        8 steps would change something, on 5 of 6 nodes.
        Start it with: wavegate start 0a1b2c3d4e5f
        ");
    }

    #[test]
    fn who_has_approved_it_and_what_comes_next() {
        let next = |view: &PlanView| super::next(view, &samples::look());
        let mut view = samples::plan_view();
        view.approval.required = true;
        insta::assert_snapshot!(next(&view), @"It can be started when somebody else than alice has approved it: wavegate approve 0a1b2c3d4e5f");
        let by = |name: &str| Approval { by: Actor(name.to_owned()), at: samples::at(60) };
        view.approval.given = vec![by("alice")];
        assert!(next(&view).contains("somebody else than alice"), "her own word is not enough");
        view.approval.given.push(by("bob"));
        insta::assert_snapshot!(next(&view), @r"
        Approved by alice 2026-11-22T12:01:00+00:00
        Approved by bob 2026-11-22T12:01:00+00:00
        Start it with: wavegate start 0a1b2c3d4e5f
        ");
        view.plan.body.warnings = samples::warnings();
        assert!(
            next(&view).ends_with(" --acknowledge etcd-data-in-memory --acknowledge etcd-no-spare-member\n")
        );
        view.plan = samples::plan_with_problems();
        assert!(!next(&view).contains("wavegate start"), "{}", next(&view));
        let json = serde_json::to_string(&view).expect("json");
        assert_eq!(serde_json::from_str::<PlanView>(&json).expect("a plan"), view);
        assert_eq!(serde_json::from_str::<super::Plan>(&json).expect("a plan"), view.plan);
    }

    #[test]
    fn nothing_to_change_is_said_only_if_nothing_is_blocked() {
        let mut plan = samples::plan();
        plan.body.previews.clear();
        assert!(super::totals(&plan).starts_with("Nothing would be changed"));
        let error = StepError { what: "no repository".into(), output: Vec::new(), next: "add it".into() };
        let preview = Preview::Blocked { error };
        let blocked = vec![StepPreview { step: "install-packages".parse().expect("a step"), preview }];
        plan.body.previews.insert(Stage::Control, [(samples::node("control-1"), blocked)].into());
        assert_eq!(super::totals(&plan), "1 step blocked: what would come of it cannot be seen.\n");
    }

    #[test]
    fn who_is_not_in_the_inventory_is_said() {
        let mut plan = samples::plan();
        assert_eq!(super::undeclared(&plan, &samples::look()), "");
        plan.body.undeclared = [samples::node("compute-3"), samples::node("deploy-1")].into();
        insta::assert_snapshot!(super::undeclared(&plan, &samples::look()), @r"
        Not in the inventory: compute-3, deploy-1. They take part all the same; declare them (wavegate
        inventory set FILE) or remove them (wavegate node remove NODE).
        ");
        let digest = super::digest(&plan, &samples::look());
        let shown = [super::plan(&PlanView { plan, ..samples::plan_view() }, &samples::look()), digest];
        assert!(
            shown.iter().all(|text| text.contains("Not in the inventory: compute-3, deploy-1.")),
            "{shown:#?}"
        );
    }

    #[test]
    fn nothing_is_wider_than_the_look() {
        for width in [60, 100] {
            let look = super::Look { width, ..samples::look() };
            let text =
                super::plan(&PlanView { plan: samples::plan_with_problems(), ..samples::plan_view() }, &look);
            let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > width).collect();
            assert!(
                long.iter().all(|line| line.starts_with("Plan ") || line.starts_with("Stage ")),
                "{long:?}"
            );
        }
    }
}
