//! What must be acknowledged before a plan is started, in a block of its own.

use super::super::{Look, Tone, counted};
use std::collections::BTreeSet;
use wavegate_common::plan::{Plan, Warning};

/// The plan's warnings, each with what can be done about it; empty text if there is none, or if problems keep the plan from
/// being started anyway.
#[must_use]
pub fn warnings(plan: &Plan, look: &Look) -> String {
    let all = &plan.body.warnings;
    if all.is_empty() || !plan.body.problems.is_empty() {
        return String::new();
    }
    let title = format!("TO BE ACKNOWLEDGED BEFORE IT IS STARTED: {}", counted(all.len(), "warning"));
    let mut text = format!("\n{}\n", look.paint(Tone::Busy, &title));
    for warning in all {
        text.push('\n');
        text.push_str(&self::warning(warning, look));
    }
    text
}

/// One warning.
#[must_use]
pub fn warning(warning: &Warning, look: &Look) -> String {
    let place =
        [warning.node.as_ref().map(ToString::to_string), warning.stage.map(|stage| format!("stage {stage}"))];
    let place = place.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let colon = if place.is_empty() { "" } else { ": " };
    let mut text = format!("  {}\n", look.paint(Tone::Heading, &warning.id));
    text.push_str(&look.paragraph(&format!("{place}{colon}{}", warning.what), 6));
    text.push_str(&look.labelled(&[("to do:", &warning.next)], 6));
    text
}

/// The ids of a plan's warnings, each once.
#[must_use]
pub fn ids(plan: &Plan) -> BTreeSet<&str> {
    plan.body.warnings.iter().map(|warning| warning.id.as_str()).collect()
}

/// What a start of the plan has to say.
#[must_use]
pub fn acknowledging(plan: &Plan) -> String {
    ids(plan).into_iter().map(|id| format!(" --acknowledge {id}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn each_warning_says_what_it_is_acknowledged_by() {
        let mut plan = samples::plan();
        assert_eq!(warnings(&plan, &samples::look()), "");
        plan.body.warnings = samples::warnings();
        insta::assert_snapshot!(warnings(&plan, &samples::look()), @r"

        TO BE ACKNOWLEDGED BEFORE IT IS STARTED: 3 warnings

          etcd-no-spare-member
              stage etcd: the etcd cluster has two members and needs both: each time one restarts, etcd
              answers nobody
              to do:  do it in a window

          etcd-data-in-memory
              etcd-1, stage etcd: etcd's data on etcd-1 are in memory: a reboot loses them
              to do:  keep a backup on another host

          etcd-data-in-memory
              etcd-2, stage etcd: etcd's data on etcd-2 are in memory: a reboot loses them
              to do:  keep a backup on another host
        ");
        assert_eq!(
            acknowledging(&plan),
            " --acknowledge etcd-data-in-memory --acknowledge etcd-no-spare-member"
        );
        plan.body.problems = samples::plan_with_problems().body.problems;
        assert_eq!(warnings(&plan, &samples::look()), "");
    }
}
