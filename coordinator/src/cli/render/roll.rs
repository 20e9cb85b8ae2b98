//! The roll of etcd as it went: of each member the backup and where it is, what was installed, and the evidence that it is back;
//! of everybody else how many asked etcd afterwards and got an answer.

use super::{Look, Tone, cell, counted, time};
use crate::status::view::{RolloutStatus, TaskStatus};
use wavegate_common::action::Action;
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::Outcome;
use wavegate_common::plan::{Plan, StagePlan};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{EndedStep, TaskState};

/// What became of etcd; empty text if no step of etcd's own has ended.
#[must_use]
pub fn roll(rollout: &RolloutStatus, plan: &Plan, look: &Look) -> String {
    let Some(planned) = plan.stage(Stage::Etcd) else { return String::new() };
    let tasks =
        || rollout.stages.iter().filter(|stage| stage.stage == Stage::Etcd).flat_map(|stage| &stage.tasks);
    let mut table = look.bare_table();
    let mut longest: Option<(u64, &TaskStatus)> = None;
    let mut asked = 0;
    for task in tasks() {
        let done: Vec<(&str, &str)> =
            task.steps.iter().filter_map(|step| told(planned, task, step)).collect();
        if !done.iter().any(|(word, _)| *word == BACKUP || *word == BACK) {
            asked += usize::from(done.iter().any(|(word, _)| *word == ANSWER));
            continue;
        }
        for (at, (word, evidence)) in done.iter().enumerate() {
            let node = if at == 0 { task.node.as_str() } else { "" };
            table.add_row([cell(Tone::Plain, node), cell(Tone::Faint, *word), cell(Tone::Plain, *evidence)]);
        }
        let ended = matches!(task.state, TaskState::Finished | TaskState::Failed);
        let took = task.started_at.filter(|_| ended).map(|began| task.since.millis_since(began));
        if took.is_some_and(|took| longest.is_none_or(|(longest, _)| took > longest)) {
            longest = took.map(|took| (took, task));
        }
    }
    let mut text = look.lay_out(table, 2);
    if let Some((took, task)) = longest {
        let line = format!(
            "The longest turn of a member, from its check to its settling, was that of {}: {}.",
            task.node,
            time::duration(took)
        );
        text.push_str(&look.paragraph(&line, 2));
    }
    if asked > 0 {
        let line =
            format!("A read and a watch went through on {} beside the members.", counted(asked, "node"));
        text.push_str(&look.paragraph(&line, 2));
    }
    if text.trim().is_empty() {
        String::new()
    } else {
        format!("{}\n{text}", look.paint(Tone::Heading, "etcd"))
    }
}

const BACKUP: &str = "backup";
const BACK: &str = "back";
const ANSWER: &str = "answer";

/// The word for a step of etcd's own that ended well, and its evidence.
fn told<'t>(planned: &StagePlan, task: &TaskStatus, step: &'t EndedStep) -> Option<(&'static str, &'t str)> {
    let (Outcome::Changed { evidence, .. } | Outcome::AlreadySo { evidence }) = &step.outcome else {
        return None;
    };
    let of = |known: &&PlannedStep| known.id == step.step;
    let Work::Run { action, .. } = &planned.tasks.get(&task.node)?.iter().find(of)?.work else { return None };
    let word = match action {
        Action::EtcdBackUp(_) => BACKUP,
        Action::EtcdInstallArchive(_) | Action::EtcdInstallPackages(_) => "installed",
        Action::EtcdCheckMember(_) => BACK,
        Action::EtcdCheckEndpoint(_) => ANSWER,
        // That it was well before says nothing any more.
        Action::EtcdCheckCluster(_)
        | Action::PackageInstall(_)
        | Action::PipUninstall(_)
        | Action::PythonInstallArchive(_)
        | Action::ServiceRestart(_)
        | Action::ServiceDisable(_)
        | Action::ProcessKillStale(_)
        | Action::IniSet(_)
        | Action::ServiceCheck(_)
        | Action::ProcessCheck(_)
        | Action::VersionCheck(_)
        | Action::HttpCheck(_) => return None,
    };
    Some((word, evidence))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use wavegate_common::action::{EtcdBackUp, EtcdCheckEndpoint, EtcdCheckMember};

    #[test]
    fn backups_and_evidence_are_told() {
        let status = samples::finished().status(600);
        let mut plan = samples::plan();
        assert_eq!(roll(&status, &plan, &samples::look()), "", "it has no step of etcd's own");
        let mut acts = |node: &str, step: usize, action| {
            let tasks = &mut plan.body.stages[0].tasks;
            let steps = tasks.get_mut(&samples::node(node)).expect("its task");
            let mut changed = steps.to_vec();
            changed[step].work = Work::Run { action, timeout_s: 60 };
            *steps = changed.into();
        };
        acts("etcd-1", 0, Action::EtcdBackUp(EtcdBackUp { directory: "/var/backups/etcd".into() }));
        acts(
            "etcd-1",
            1,
            Action::EtcdCheckMember(EtcdCheckMember { within_s: 60, settle_s: 10, max_lag: 100 }),
        );
        acts("compute-1", 1, Action::EtcdCheckEndpoint(EtcdCheckEndpoint { within_s: 60 }));
        insta::assert_snapshot!(roll(&status, &plan, &samples::look()), @r"
        etcd
          etcd-1  backup  verified
                  back    it is so
          The longest turn of a member, from its check to its settling, was that of etcd-1: 12 s.
          A read and a watch went through on 1 node beside the members.
        ");
    }
}
