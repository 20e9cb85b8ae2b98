//! What keeps a plan from being started, in a block that can't be overlooked.

use super::super::{Look, Tone, counted};
use wavegate_common::plan::Problem;

/// Problems that are shown.
const SHOWN: usize = 50;

/// The problems, each with what to do; empty text if there is none.
#[must_use]
pub fn problems(problems: &[Problem], look: &Look) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let title = format!("THIS PLAN CANNOT BE STARTED: {}", counted(problems.len(), "problem"));
    let mut text = format!("\n{}\n", look.paint(Tone::Bad, &title));
    for (index, problem) in problems.iter().enumerate().take(SHOWN) {
        let mut block = look.bare_table();
        block.add_row([format!("{}.", index + 1), about(problem)]);
        text.push('\n');
        text.push_str(&look.lay_out(block, 2));
        for line in &problem.error.output {
            text.push_str(&look.paragraph(&format!("| {line}"), 6));
        }
        text.push_str(&look.labelled(&[("to do:", &problem.error.next)], 6));
    }
    if let Some(more @ 1..) = problems.len().checked_sub(SHOWN) {
        let all = "all of them: wavegate plan show --output json";
        text.push_str(&look.paragraph(&format!("\nand {} ({all})", counted(more, "more problem")), 2));
    }
    text
}

fn about(problem: &Problem) -> String {
    let node = problem.node.as_ref().map(ToString::to_string);
    let stage = problem.stage.map(|stage| format!("stage {stage}"));
    let step = problem.step.as_ref().map(|step| format!("step {step}"));
    let place: Vec<String> = [node, stage, step].into_iter().flatten().collect();
    if place.is_empty() {
        problem.error.what.clone()
    } else {
        format!("{}: {}", place.join(", "), problem.error.what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;

    #[test]
    fn each_problem_says_where_what_and_what_to_do() {
        let plan = samples::plan_with_problems();
        insta::assert_snapshot!(super::problems(&plan.body.problems, &samples::look()), @r"

        THIS PLAN CANNOT BE STARTED: 2 problems

          1.  compute-2, stage compute, step install-packages: yum cannot find calico-compute
              | No package calico-compute available.
              to do:  add the repository that has it (yum repolist), then plan again

          2.  control-2 is offline
              to do:  start its agent, or remove it from the fleet
        ");
        assert_eq!(super::problems(&[], &samples::look()), "");
    }
}
