//! What a rollout did, as `upgrade` and `watch` say it at its end: per stage, per node, and in a sentence.

use super::{
    Look, Tone, cell, change_text, counted, cut, exceptions, roll, status, time, tone_of_stage, tone_of_task,
};
use crate::cli::ending::Ending;
use crate::status::brief::{self, is_large};
use crate::status::view::{RolloutStatus, StageStatus, TaskStatus};
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::id::{NodeId, StepId};
use wavegate_common::outcome::{Change, Outcome};
use wavegate_common::plan::Plan;
use wavegate_common::rollout::TaskState;

/// Changes of a node that are shown; a whole distribution's are hundreds.
const SHOWN: usize = 8;
/// Rows of a large stage.
const KINDS: usize = 20;

/// What the rollout did.
#[must_use]
pub fn summary(rollout: &RolloutStatus, plan: &Plan, ending: Ending, look: &Look) -> String {
    let mut parts = vec![
        stages(rollout, look),
        nodes(rollout, look),
        roll::roll(rollout, plan, look),
        skipped(rollout, look),
        failures(rollout, look),
        exceptions::exceptions(rollout, look),
    ];
    let beside = exceptions::left_out(rollout, look) + &approved(rollout);
    parts.push(sentence(rollout, ending, look) + &beside);
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// What failed; of many the newest, and how many more.
fn failures(rollout: &RolloutStatus, look: &Look) -> String {
    if !rollout.stages.iter().any(is_large) {
        return status::failures(rollout, look);
    }
    let mut few = rollout.clone();
    brief::cut(&mut few);
    let more: u32 = few.stages.iter().map(|stage| stage.left_out.failed).sum();
    let mut text = status::failures(&few, look);
    if more > 0 {
        let failed = counted(more as usize, "more node");
        text.push_str(
            &look.paragraph(&format!("and {failed} that failed (wavegate status --output json)"), 2),
        );
    }
    text
}

fn stages(rollout: &RolloutStatus, look: &Look) -> String {
    let any_waived = rollout.stages.iter().any(|stage| stage.counts.waived > 0);
    let mut headings = vec!["STAGE", "STATE", "NODES", "CHANGED", "ALREADY SO", "FAILED", "NOT DONE", "TIME"];
    if any_waived {
        headings.insert(6, "WAIVED");
    }
    let mut table = look.table(&headings);
    for stage in &rollout.stages {
        let counts = stage.counts;
        let changed = finished(stage).filter(|task| task.changed).count();
        let mut row = vec![
            cell(Tone::Plain, stage.stage),
            cell(tone_of_stage(stage.state), stage.state),
            cell(Tone::Plain, counts.total()),
            cell(Tone::Plain, changed),
            cell(Tone::Plain, finished(stage).count() - changed),
            cell(if counts.failed > 0 { Tone::Bad } else { Tone::Plain }, counts.failed),
            cell(Tone::Plain, counts.total() - counts.finished - counts.failed - counts.waived),
            cell(Tone::Plain, status::took(stage, status::as_of(rollout))),
        ];
        if any_waived {
            row.insert(6, cell(if counts.waived > 0 { Tone::Bad } else { Tone::Plain }, counts.waived));
        }
        table.add_row(row);
    }
    look.lay_out(table, 0)
}

fn finished(stage: &StageStatus) -> impl Iterator<Item = &TaskStatus> {
    stage.tasks.iter().filter(|task| task.state == TaskState::Finished)
}

fn nodes(rollout: &RolloutStatus, look: &Look) -> String {
    let mut table = look.table(&["STAGE", "NODE", "RESULT", "TIME", "CHANGES"]);
    for stage in &rollout.stages {
        if is_large(stage) {
            alike(stage, &mut table);
            continue;
        }
        for task in &stage.tasks {
            table.add_row([
                cell(Tone::Plain, stage.stage),
                cell(Tone::Plain, &task.node),
                cell(tone_of_task(task.state), result(task)),
                cell(Tone::Plain, took(task)),
                cell(Tone::Plain, changes(task)),
            ]);
        }
    }
    look.lay_out(table, 0)
}

/// A row for all nodes of a large stage of which the same came, those of which the most nodes are first.
fn alike(stage: &StageStatus, table: &mut comfy_table::Table) {
    let mut kinds: BTreeMap<(&'static str, String), Vec<&TaskStatus>> = BTreeMap::new();
    for task in &stage.tasks {
        kinds.entry((result(task), without_processes(&changes(task)))).or_default().push(task);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, tasks)| std::cmp::Reverse(tasks.len()));
    for ((result, changes), tasks) in kinds.iter().take(KINDS) {
        let Some(first) = tasks.first() else { continue };
        let longest =
            tasks.iter().max_by_key(|task| lasted(task)).map_or_else(String::new, |task| took(task));
        let (nodes, time) = match tasks.len() - 1 {
            0 => (first.node.to_string(), longest),
            more if longest == "-" => (format!("{}\nand {more} more", first.node), longest),
            more => (format!("{}\nand {more} more", first.node), format!("at most {longest}")),
        };
        table.add_row([
            cell(Tone::Plain, stage.stage),
            cell(Tone::Plain, nodes),
            cell(tone_of_task(first.state), result),
            cell(Tone::Plain, time),
            cell(Tone::Plain, changes),
        ]);
    }
    let more: usize = kinds.iter().skip(KINDS).map(|(_, tasks)| tasks.len()).sum();
    if more > 0 {
        table.add_row([stage.stage.to_string(), format!("and {more} more"), "various".to_owned()]);
    }
}

/// Changes without the numbers of processes, which are others on every node.
fn without_processes(changes: &str) -> String {
    let lines = changes.lines().map(|line| line.split_once(", process ").map_or(line, |(what, _)| what));
    lines.collect::<Vec<_>>().join("\n")
}

/// The word for what came of a task.
#[must_use]
pub fn result(task: &TaskStatus) -> &'static str {
    match task.state {
        TaskState::Finished if task.changed => "changed",
        TaskState::Finished => "already so",
        TaskState::Failed => "failed",
        TaskState::Unknown => "unknown",
        TaskState::Waived => "waived",
        TaskState::Scheduled | TaskState::Canceled => "not tried",
        TaskState::Preparing | TaskState::Applying => "running",
    }
}

fn took(task: &TaskStatus) -> String {
    lasted(task).map_or_else(|| "-".to_owned(), time::duration)
}

/// How long a task took that has ended, in milliseconds.
fn lasted(task: &TaskStatus) -> Option<u64> {
    let ended = matches!(task.state, TaskState::Finished | TaskState::Failed);
    task.started_at.filter(|_| ended).map(|began| task.since.millis_since(began))
}

/// What the last attempt changed, one a line, in the order of the steps.
fn changes(task: &TaskStatus) -> String {
    let all: Vec<String> = changes_of(task).map(|change| cut(&change_text(change), 160)).collect();
    let mut lines: Vec<String> = all.iter().take(SHOWN).cloned().collect();
    if let Some(more @ 1..) = all.len().checked_sub(SHOWN) {
        lines.push(format!("and {more} more (wavegate events)"));
    }
    if task.attempt > 1 {
        lines.push(format!("in attempt {} (of the earlier ones: wavegate events)", task.attempt));
    }
    if lines.is_empty() { "-".to_owned() } else { lines.join("\n") }
}

fn changes_of(task: &TaskStatus) -> impl Iterator<Item = &Change> {
    task.steps.iter().flat_map(|step| match &step.outcome {
        Outcome::Changed { changes, .. } => changes.as_slice(),
        Outcome::AlreadySo { .. } | Outcome::Skipped { .. } | Outcome::Failed { .. } => &[],
    })
}

/// What the procedure has and was not done, with the reason and where: steps of one reason and the same nodes together.
fn skipped(rollout: &RolloutStatus, look: &Look) -> String {
    let mut found: Vec<(String, &StepId, BTreeSet<&NodeId>)> = Vec::new();
    for stage in &rollout.stages {
        let ended = stage.tasks.iter().flat_map(|task| task.steps.iter().map(move |step| (task, step)));
        for (task, step) in ended {
            let Outcome::Skipped { reason } = &step.outcome else { continue };
            let because = format!("stage {}, because {reason}", stage.stage);
            match found.iter_mut().find(|(known, id, _)| *known == because && **id == step.step) {
                Some((.., nodes)) => drop(nodes.insert(&task.node)),
                None => found.push((because, &step.step, BTreeSet::from([&task.node]))),
            }
        }
    }
    let mut text = String::new();
    while let Some((because, _, nodes)) = found.first().cloned() {
        let together: Vec<_> = found.extract_if(.., |it| it.0 == because && it.2 == nodes).collect();
        let steps = together.iter().map(|(_, step, _)| step.to_string()).collect::<Vec<_>>().join(", ");
        let line = format!("{steps}, on {}: {because}", counted(nodes.len(), "node"));
        text.push_str(&look.paragraph(&line, 2));
    }
    if text.is_empty() { text } else { format!("{}\n{text}", look.paint(Tone::Heading, "Skipped")) }
}

/// What was said of the plan before it was started.
fn approved(rollout: &RolloutStatus) -> String {
    let mut text = String::new();
    if !rollout.acknowledged.is_empty() {
        text.push_str(&format!("Acknowledged when it was started: {}.\n", rollout.acknowledged.join(", ")));
    }
    if !rollout.approved_by.is_empty() {
        text.push_str(&format!("Its plan was approved by {}.\n", status::actors(&rollout.approved_by)));
    }
    text
}

fn sentence(rollout: &RolloutStatus, ending: Ending, look: &Look) -> String {
    let tasks = || rollout.stages.iter().flat_map(|stage| &stage.tasks);
    let nodes = |wanted: fn(&TaskStatus) -> bool| {
        tasks().filter(|task| wanted(task)).map(|task| &task.node).collect::<BTreeSet<_>>().len()
    };
    let (all, changed) = (nodes(|_| true), nodes(|task| task.changed));
    let waived = nodes(|task| task.state == TaskState::Waived);
    let text = match ending {
        Ending::Finished if changed == 0 && tasks().any(|task| task.attempt > 1) => {
            "Finished: the last attempts changed nothing; what earlier ones changed is in wavegate events."
                .to_owned()
        }
        Ending::Finished if changed == 0 && waived == 0 => {
            return look.paint(Tone::Good, "Nothing was changed: every node was already so.") + "\n";
        }
        Ending::Finished if changed == all => format!("Finished: {} changed.", counted(all, "node")),
        Ending::Finished if waived > 0 => format!("Finished: {changed} of {} changed.", counted(all, "node")),
        Ending::Finished => {
            format!("Finished: {changed} of {} changed, the others were already so.", counted(all, "node"))
        }
        Ending::Failures => {
            let failed = nodes(|task| task.state == TaskState::Failed);
            format!(
                "Not finished: {} failed, and the rollout does not go on by itself. Mend the cause (above; wavegate logs \
                 NODE has what its steps printed), then: wavegate retry --all-failed && wavegate resume",
                counted(failed, "node")
            )
        }
        Ending::Stopped => format!(
            "Stopped by an operator: {changed} of {} changed. What was not tried is as it was; a new plan goes on from there.",
            counted(all, "node")
        ),
    };
    look.paragraph(&text, 0)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use wavegate_common::id::Actor;

    #[test]
    fn nothing_was_changed() {
        let status = samples::finished_unchanged().status(600);
        insta::assert_snapshot!(summary(&status, &samples::plan(), Ending::Finished, &samples::look()), @r"
        STAGE    STATE  NODES  CHANGED  ALREADY SO  FAILED  NOT DONE  TIME
        etcd     done   2      0        2           0       0         1 min
        compute  done   3      0        3           0       0         1 min 30 s
        control  done   1      0        1           0       0         30 s

        STAGE    NODE       RESULT      TIME  CHANGES
        etcd     etcd-1     already so  30 s  -
        etcd     compute-1  already so  30 s  -
        compute  compute-1  already so  30 s  -
        compute  compute-2  already so  30 s  -
        compute  compute-3  already so  30 s  -
        control  control-1  already so  30 s  -

        Skipped
          install-dhcp-agent, on 3 nodes: stage compute, because the node's OpenStack release kilo is
          before liberty

        Nothing was changed: every node was already so.
        ");
    }

    #[test]
    fn who_approved_it_is_said() {
        let mut status = samples::finished_unchanged().status(600);
        status.approved_by = ["bob", "carol"].map(|name| Actor(name.to_owned())).into();
        let text = summary(&status, &samples::plan(), Ending::Finished, &samples::look());
        assert!(text.ends_with("Its plan was approved by bob, carol.\n"), "{text}");
        let shown = super::status::status(&status, &samples::look());
        assert!(shown.contains("\n  approved by bob, carol\n"), "{shown}");
    }

    #[test]
    fn what_was_acknowledged_is_said() {
        let mut status = samples::finished_unchanged().status(600);
        status.acknowledged = vec!["etcd-no-spare-member".to_owned()];
        let text = summary(&status, &samples::plan(), Ending::Finished, &samples::look());
        assert!(text.ends_with("Acknowledged when it was started: etcd-no-spare-member.\n"), "{text}");
        let shown = super::status::status(&status, &samples::look());
        assert!(shown.contains("\n  acknowledged: etcd-no-spare-member\n"), "{shown}");
    }

    #[test]
    fn what_earlier_attempts_changed_is_not_denied() {
        let mut status = samples::finished_unchanged().status(600);
        status.stages[1].tasks[0].attempt = 2;
        let text = summary(&status, &samples::plan(), Ending::Finished, &samples::look());
        assert!(!text.contains("Nothing was changed"), "{text}");
        assert!(text.contains("in attempt 2 (of the earlier ones: wavegate events)"), "{text}");
    }

    #[test]
    fn everything_went_well() {
        let status = samples::finished().status(600);
        insta::assert_snapshot!(summary(&status, &samples::plan(), Ending::Finished, &samples::look()), @r"
        STAGE    STATE  NODES  CHANGED  ALREADY SO  FAILED  NOT DONE  TIME
        etcd     done   2      1        1           0       0         25 s
        compute  done   3      3        0           0       0         1 min 31 s
        control  done   1      1        0           0       0         20 s

        STAGE    NODE       RESULT      TIME  CHANGES
        etcd     etcd-1     changed     12 s  etcd 2.3.7 -> 2.3.8
        etcd     compute-1  already so  12 s  -
        compute  compute-1  changed     30 s  calico-felix 1.4.5~trusty -> 1.4.6~trusty
                                              calico-common not installed -> 1.4.6~trusty
                                              calico-felix: restarted, process 812 -> 2044
        compute  compute-2  changed     30 s  calico-felix 1.4.5~trusty -> 1.4.6~trusty
                                              calico-common not installed -> 1.4.6~trusty
                                              calico-felix: restarted, process 812 -> 2044
        compute  compute-3  changed     30 s  calico-felix 1.4.5~trusty -> 1.4.6~trusty
                                              calico-common not installed -> 1.4.6~trusty
                                              calico-felix: restarted, process 812 -> 2044
        control  control-1  changed     20 s  calico-control 1.4.5~trusty -> 1.4.6~trusty

        Skipped
          install-dhcp-agent, on 3 nodes: stage compute, because the node's OpenStack release kilo is
          before liberty

        Finished: 5 nodes changed.
        ");
    }

    #[test]
    fn waivers_are_named() {
        let text =
            summary(&samples::waived().status(100), &samples::plan(), Ending::Stopped, &samples::look());
        insta::assert_snapshot!(text, @r"
        STAGE    STATE      NODES  CHANGED  ALREADY SO  FAILED  WAIVED  NOT DONE  TIME
        etcd     done       2      1        1           0       0       0         25 s
        compute  active     3      0        0           0       1       2         1 min
        control  unstarted  1      0        0           0       0       1         -

        STAGE    NODE       RESULT      TIME  CHANGES
        etcd     etcd-1     changed     12 s  etcd 2.3.7 -> 2.3.8
        etcd     compute-1  already so  12 s  -
        compute  compute-1  waived      -     -
        compute  compute-2  not tried   -     -
        compute  compute-3  not tried   -     -
        control  control-1  not tried   -     -

        Failed
          compute-1, stage compute, step install-packages: apt-get ended with code 100: calico-felix
          depends on python-etcd (>= 0.4.3)
            | E: Unmet dependencies. Try using -f.
            to do:  add the repository that has python-etcd 0.4.3, then retry
            more:   wavegate logs compute-1 --stage compute --step install-packages

        Waived
          compute-1: the disk is being replaced
            by alice, from 2026-11-22T12:01:00+00:00 until 2026-11-22T20:01:00+00:00 (7 h 59 min more)

        Stopped by an operator: 1 of 5 nodes changed. What was not tried is as it was; a new plan goes on
        from there.
        Not done, since waived: compute-1. When that can be done: wavegate plan, which goes on from there.
        ");
    }

    #[test]
    fn it_was_halted() {
        let status = samples::halted().status(100);
        insta::assert_snapshot!(summary(&status, &samples::plan(), Ending::Failures, &samples::look()), @r"
        STAGE    STATE      NODES  CHANGED  ALREADY SO  FAILED  NOT DONE  TIME
        etcd     done       2      1        1           0       0         25 s
        compute  error      3      0        0           1       2         1 min
        control  unstarted  1      0        0           0       1         -

        STAGE    NODE       RESULT      TIME  CHANGES
        etcd     etcd-1     changed     12 s  etcd 2.3.7 -> 2.3.8
        etcd     compute-1  already so  12 s  -
        compute  compute-1  failed      6 s   -
        compute  compute-2  not tried   -     -
        compute  compute-3  not tried   -     -
        control  control-1  not tried   -     -

        Failed
          compute-1, stage compute, step install-packages: apt-get ended with code 100: calico-felix
          depends on python-etcd (>= 0.4.3)
            | E: Unmet dependencies. Try using -f.
            to do:  add the repository that has python-etcd 0.4.3, then retry
            more:   wavegate logs compute-1 --stage compute --step install-packages

        Not finished: 1 node failed, and the rollout does not go on by itself. Mend the cause (above;
        wavegate logs NODE has what its steps printed), then: wavegate retry --all-failed && wavegate
        resume
        ");
    }

    #[test]
    fn of_many_nodes_those_of_which_the_same_came_are_one_row() {
        let status = samples::with_more(samples::finished().status(600), 3000);
        let text = summary(&status, &samples::plan(), Ending::Finished, &samples::look());
        insta::assert_snapshot!(text, @r"
        STAGE    STATE  NODES  CHANGED  ALREADY SO  FAILED  NOT DONE  TIME
        etcd     done   2      1        1           0       0         25 s
        compute  done   3003   3003     0           0       0         1 min 31 s
        control  done   1      1        0           0       0         20 s

        STAGE    NODE           RESULT      TIME          CHANGES
        etcd     etcd-1         changed     12 s          etcd 2.3.7 -> 2.3.8
        etcd     compute-1      already so  12 s          -
        compute  compute-1      changed     at most 30 s  calico-felix 1.4.5~trusty -> 1.4.6~trusty
                 and 3002 more                            calico-common not installed -> 1.4.6~trusty
                                                          calico-felix: restarted
        control  control-1      changed     20 s          calico-control 1.4.5~trusty -> 1.4.6~trusty

        Skipped
          install-dhcp-agent, on 3003 nodes: stage compute, because the node's OpenStack release kilo is
          before liberty

        Finished: 3005 nodes changed.
        ");
        let halted = samples::with_more(samples::halted().status(100), 3000);
        let text = summary(&halted, &samples::plan(), Ending::Failures, &samples::look());
        assert!(text.contains("more nodes that failed (wavegate status --output json)"), "{text}");
        assert!(text.lines().count() < 150, "{text}");
    }
}
