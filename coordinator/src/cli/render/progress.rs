//! A rollout while it runs, as a few lines that are drawn over and over on a terminal.

use super::{
    Look, Tone, counted, cut, exceptions, status, summary, time, tone_of_stage, tone_of_status, waiting,
};
use crate::status::view::{RolloutStatus, StageStatus, TaskStatus};
use wavegate_common::id::{NodeId, StepId, Timestamp};
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Counts, Link, Subject, TaskState, WaitingOn};

/// Nodes at work that are shown, and reasons for waiting: the lines must fit a small terminal.
const NODES: usize = 10;
const REASONS: usize = 5;

/// What steps are, for people; without the plan their ids must do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Titles<'p>(Option<&'p Plan>);

impl<'p> Titles<'p> {
    /// The titles of a plan's steps.
    #[must_use]
    pub const fn of(plan: &'p Plan) -> Self {
        Self(Some(plan))
    }

    fn of_step<'a>(&'a self, stage: Stage, node: &NodeId, step: &'a StepId) -> &'a str {
        let steps = self.0.and_then(|plan| plan.stage(stage)?.tasks.get(node));
        let found = steps.and_then(|steps| steps.iter().find(|planned| planned.id == *step));
        found.map_or(step.as_str(), |planned| planned.title.as_str())
    }
}

/// The rollout at a moment, `now` by the coordinator's clock. No line is longer than the look's width.
#[must_use]
pub fn progress(rollout: &RolloutStatus, now: Timestamp, titles: &Titles<'_>, look: &Look) -> Vec<String> {
    let mut lines = vec![headline(rollout, now, look)];
    for stage in &rollout.stages {
        lines.push(stage_line(stage, now, look));
        let at_work: Vec<&TaskStatus> = stage.tasks.iter().filter(|task| at_work(task)).collect();
        lines.extend(at_work.iter().take(NODES).map(|task| task_line(stage.stage, task, now, titles, look)));
        let unseen = (stage.left_out.running + stage.left_out.unknown) as usize;
        if let Some(more @ 1..) = (at_work.len() + unseen).checked_sub(NODES.min(at_work.len())) {
            lines.push(format!("    and {}", counted(more, "more node")));
        }
    }
    if !rollout.outside.is_empty() {
        lines.push(cut(&format!("  {}", exceptions::outside(&rollout.outside)), look.width));
    }
    let reasons: Vec<&WaitingOn> = rollout.waiting.iter().filter(|reason| is_news(rollout, reason)).collect();
    for reason in reasons.iter().take(REASONS) {
        lines.push(cut(&format!("  waits: {}", reason.why), look.width));
        lines.push(cut(&format!("         next: {}", reason.unblock), look.width));
    }
    if let Some(more @ 1..) = reasons.len().checked_sub(REASONS) {
        lines.push(format!("  and {} (wavegate why)", counted(more, "more reason")));
    }
    lines
}

/// What a node at work waits for is in its own line, and the barrier is seen from the stages' lines.
fn is_news(rollout: &RolloutStatus, reason: &WaitingOn) -> bool {
    let has_begun = |stage| rollout.stages.iter().any(|known| known.stage == stage && known.began.is_some());
    let said = match reason.subject {
        Subject::Stage { stage } => has_begun(stage) || reason.unblock.starts_with("wavegate"),
        Subject::Rollout | Subject::Wave { .. } | Subject::Node { .. } => true,
    };
    said && waiting::needs_somebody(reason)
}

const fn at_work(task: &TaskStatus) -> bool {
    matches!(task.state, TaskState::Preparing | TaskState::Applying | TaskState::Unknown)
}

fn headline(rollout: &RolloutStatus, now: Timestamp, look: &Look) -> String {
    let total = rollout.started_at.map_or(0, |started| now.millis_since(started));
    let state = look.paint(tone_of_status(rollout.status), rollout.status.as_str());
    format!("rollout {}  {state}  {}", rollout.rollout, time::duration(total))
}

fn stage_line(stage: &StageStatus, now: Timestamp, look: &Look) -> String {
    // Padded before it is painted: the codes of the colours have no width.
    let state = look.paint(tone_of_stage(stage.state), &format!("{:<9}", stage.state));
    let done = format!("{}/{}", stage.counts.finished, stage.counts.total());
    let mut line = format!("  {:<8}  {state}  {done:>7}", stage.stage);
    if stage.began.is_none() {
        return line;
    }
    if stage.wave.is_some() {
        line.push_str(&format!("  wave {}", status::wave(stage)));
    }
    let Counts { failed, unknown, waived, .. } = stage.counts;
    for (count, word) in [(failed, "failed"), (unknown, "unknown"), (waived, "waived")] {
        if count > 0 {
            line.push_str(&format!("  {}", look.paint(Tone::Bad, &format!("{count} {word}"))));
        }
    }
    line + &format!("  {}", status::took(stage, now))
}

fn task_line(stage: Stage, task: &TaskStatus, now: Timestamp, titles: &Titles<'_>, look: &Look) -> String {
    let doing = match (&task.step, task.state) {
        (_, TaskState::Unknown) => "was lost while applying".to_owned(),
        (Some(step), _) => {
            let title = titles.of_step(stage, &task.node, step);
            format!("step {}/{}  {title}", (task.steps.len() + 1).min(task.steps_total), task.steps_total)
        }
        (None, _) => summary::result(task).to_owned(),
    };
    // The node's clock may be ahead of the coordinator's: `millis_since` is then 0.
    let since = task.steps.last().map(|step| step.ended_at).max(task.started_at).unwrap_or(task.since);
    let took = time::duration(now.millis_since(since));
    let offline = match task.link {
        Link::Online { .. } => "",
        Link::Offline { .. } => "  OFFLINE",
    };
    cut(&format!("    {:<16}  {doing}  {took}{offline}", task.node), look.width)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_running_rollout_with_an_offline_node() {
        let status = samples::running().status(90);
        let lines = progress(&status, samples::at(95), &Titles::of(&samples::plan()), &samples::look());
        insta::assert_snapshot!(lines.join("\n"), @r"
        rollout r-20261122-1  running  1 min 25 s
          etcd      done           2/2  25 s
          compute   active         1/3  wave 2/2  55 s
            compute-2         step 2/5  Restart Felix  19 s
            compute-3         step 1/5  Install Calico's compute packages  18 s  OFFLINE
          control   unstarted      0/1
          waits: compute-3 went offline while applying stage compute
                 next: switch compute-3 on, or start its agent there: systemctl start wavegate-agent; it go…
        ");
    }

    #[test]
    fn a_halted_rollout_without_titles() {
        let status = samples::halted().status(90);
        let lines = progress(&status, samples::at(95), &Titles::default(), &samples::look());
        insta::assert_snapshot!(lines.join("\n"), @r"
        rollout r-20261122-1  paused  1 min 25 s
          etcd      done           2/2  25 s
          compute   error          0/3  wave 1/2  1 failed  55 s
          control   unstarted      0/1
          waits: halted: 1 node(s) failed in stage compute, 0 allowed
                 next: mend the cause (wavegate logs NODE), then: wavegate retry --all-failed && wavegate r…
          waits: compute-1 failed in stage compute at step install-packages: apt-get ended with code 100: c…
                 next: add the repository that has python-etcd 0.4.3, then retry (wavegate logs compute-1).…
        ");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let look = Look { width: 60, ..samples::look() };
        for status in [samples::running().status(90), samples::halted().status(90)] {
            for line in progress(&status, status.now, &Titles::of(&samples::plan()), &look) {
                assert!(line.chars().count() <= 60, "{line}");
            }
        }
    }
}
