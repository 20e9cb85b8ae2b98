//! What happened between two looks at a rollout, a line each: for logs, where nothing can be drawn over.

use super::{
    Look, Tone, counted, exceptions, pause_text, status, summary, time, tone_of_outcome, tone_of_stage,
    tone_of_status, tone_of_task, waiting,
};
use crate::status::brief::is_large;
use crate::status::view::{RolloutStatus, StageStatus, TaskStatus};
use wavegate_common::id::Timestamp;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Status, TaskState, WaitingOn};

/// In so many parts it is told how far a stage of many nodes is.
const PARTS: u64 = 20;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Stages and how tasks end: what should stay on a terminal above the lines that are drawn over.
    Tasks,
    /// Also every step, and what is waited for.
    Steps,
}

/// What is new since the look before; at the first look, all that happened so far. Without line breaks. Steps have the
/// time of their node's clock, all else that of the coordinator's.
#[must_use]
pub fn changes(
    before: Option<&RolloutStatus>,
    after: &RolloutStatus,
    detail: Detail,
    look: &Look,
) -> Vec<String> {
    let mut told = Told { before: before.map(|before| before.now), now: after.now, look, lines: Vec::new() };
    for stage in &after.stages {
        let earlier = before.and_then(|before| before.stages.iter().find(|other| other.stage == stage.stage));
        told.stage(earlier, stage, detail);
    }
    if before.is_none_or(|before| before.status != after.status) && after.status != Status::Ready {
        let tone = tone_of_status(after.status);
        let why = after.pause.as_ref().map_or_else(String::new, |reason| format!(": {}", pause_text(reason)));
        told.line(after.since, "rollout", tone, &format!("{} {}{why}", after.rollout, after.status));
    }
    told.exceptions(before, after);
    if detail == Detail::Steps {
        let known = |reason: &WaitingOn| {
            before.is_some_and(|before| before.waiting.iter().any(|old| same(old, reason)))
        };
        for reason in after.waiting.iter().filter(|reason| waiting::needs_somebody(reason) && !known(reason))
        {
            told.line(after.now, "waiting", Tone::Busy, &format!("{}; next: {}", reason.why, reason.unblock));
        }
    }
    told.lines
}

/// The barrier's reason counts nodes in its words: it is the same reason while what would unblock it is the same.
fn same(old: &WaitingOn, new: &WaitingOn) -> bool {
    old.subject == new.subject && old.unblock == new.unblock
}

struct Told<'l> {
    before: Option<Timestamp>,
    now: Timestamp,
    look: &'l Look,
    lines: Vec<String>,
}

impl Told<'_> {
    fn line(&mut self, at: Timestamp, about: &str, tone: Tone, what: &str) {
        let what = what.replace('\n', " ");
        self.lines.push(format!(
            "{}  {about}  {}",
            time::moment(at, self.look),
            self.look.paint(tone, &what)
        ));
    }

    /// Waivers that began or ended, and nodes that turned up outside the plan.
    fn exceptions(&mut self, before: Option<&RolloutStatus>, after: &RolloutStatus) {
        for (index, waiver) in after.waivers.iter().enumerate() {
            let known = before.and_then(|before| before.waivers.get(index));
            if let Some((at, what)) = exceptions::change(known, waiver, self.look) {
                self.line(at, "waiver", Tone::Bad, &what);
            }
        }
        if before.map_or(&[][..], |before| &before.outside) != after.outside && !after.outside.is_empty() {
            self.line(self.now, "plan", Tone::Busy, &exceptions::outside(&after.outside));
        }
    }

    fn stage(&mut self, before: Option<&StageStatus>, after: &StageStatus, detail: Detail) {
        if let Some(began) = after.began.filter(|_| before.is_none_or(|before| before.began.is_none())) {
            let nodes = counted(after.counts.total() as usize, "node");
            let what = format!("begins: {nodes}, {}", counted(after.waves, "wave"));
            self.line(began, after.stage.as_str(), Tone::Heading, &what);
        }
        if is_large(after) {
            self.large(before, after, detail);
        }
        for (index, task) in after.tasks.iter().enumerate().filter(|_| !is_large(after)) {
            let earlier = before
                .and_then(|before| before.tasks.get(index))
                .filter(|other| other.attempt == task.attempt);
            self.task(after.stage, earlier, task, detail);
        }
        if let Some(ended) = after.ended.filter(|_| before.is_none_or(|before| before.ended.is_none())) {
            let took = status::took(after, self.now);
            self.line(
                ended,
                after.stage.as_str(),
                tone_of_stage(after.state),
                &format!("{} in {took}", after.state),
            );
        }
    }

    /// Of a stage of many nodes it is told how far it is, and who got into trouble or out of it.
    fn large(&mut self, before: Option<&StageStatus>, after: &StageStatus, detail: Detail) {
        for task in after.tasks.iter().filter(|task| task.attempt > 0) {
            let earlier = before.and_then(|before| before.tasks.iter().find(|other| other.node == task.node));
            let earlier = earlier.filter(|other| other.attempt == task.attempt);
            // Who was not among those that were told of and has not changed since then is no news.
            let known = earlier.map_or_else(
                || before.is_some() && self.before.is_some_and(|before| task.since < before),
                |earlier| earlier.state == task.state,
            );
            if !known {
                self.ended(&format!("{} {}", after.stage, task.node), earlier, task);
            }
        }
        let total = after.counts.total();
        let part = |stage: &StageStatus| u64::from(stage.counts.finished) * PARTS / u64::from(total.max(1));
        if detail == Detail::Steps && part(after) > before.map_or(0, part) && after.counts.finished < total {
            let what = format!("{} of {} finished", after.counts.finished, counted(total as usize, "node"));
            self.line(self.now, after.stage.as_str(), Tone::Plain, &what);
        }
    }

    fn task(&mut self, stage: Stage, before: Option<&TaskStatus>, after: &TaskStatus, detail: Detail) {
        if after.attempt == 0 {
            return;
        }
        let about = match after.attempt {
            1 => format!("{stage} {}", after.node),
            attempt => format!("{stage} {} (attempt {attempt})", after.node),
        };
        if detail == Detail::Steps {
            if before.is_none() {
                self.line(after.started_at.unwrap_or(self.now), &about, Tone::Plain, "started");
            }
            let known = before.map_or(0, |before| before.steps.len());
            for step in after.steps.iter().skip(known) {
                let what = format!("step {} {}", step.step, step.outcome);
                self.line(step.ended_at, &about, tone_of_outcome(&step.outcome), &what);
            }
        }
        if before.is_none_or(|before| before.state != after.state) {
            self.ended(&about, before, after);
        }
    }

    fn ended(&mut self, about: &str, before: Option<&TaskStatus>, after: &TaskStatus) {
        let returned = before.is_some_and(|before| before.state == TaskState::Unknown);
        let what = match after.state {
            TaskState::Finished => format!("finished: {}", summary::result(after)),
            TaskState::Failed => {
                let error = after.error.as_ref();
                error.map_or_else(
                    || "failed".to_owned(),
                    |e| format!("failed at step {}: {}; to do: {}", e.step, e.error.what, e.error.next),
                )
            }
            TaskState::Unknown => "lost: what it did is unknown until it returns".to_owned(),
            TaskState::Canceled => "not tried: the rollout was stopped".to_owned(),
            TaskState::Applying if returned => "is back and goes on".to_owned(),
            TaskState::Scheduled | TaskState::Preparing | TaskState::Applying | TaskState::Waived => return,
        };
        self.line(after.since, about, tone_of_task(after.state), &what);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn lines(before: Option<&RolloutStatus>, after: &RolloutStatus, detail: Detail) -> String {
        changes(before, after, detail, &samples::look()).join("\n")
    }

    #[test]
    fn the_first_look_tells_all_that_happened() {
        let status = samples::running().status(90);
        insta::assert_snapshot!(lines(None, &status, Detail::Steps), @r"
        2026-11-22T12:00:10+00:00  etcd  begins: 2 nodes, 2 waves
        2026-11-22T12:00:10+00:00  etcd etcd-1  started
        2026-11-22T12:00:15+00:00  etcd etcd-1  step install-etcd changed: etcd 2.3.7 -> 2.3.8
        2026-11-22T12:00:20+00:00  etcd etcd-1  step etcd-is-healthy already so: it is so
        2026-11-22T12:00:22+00:00  etcd etcd-1  finished: changed
        2026-11-22T12:00:23+00:00  etcd compute-1  started
        2026-11-22T12:00:28+00:00  etcd compute-1  step install-etcd already so: it is so
        2026-11-22T12:00:33+00:00  etcd compute-1  step etcd-is-healthy already so: it is so
        2026-11-22T12:00:35+00:00  etcd compute-1  finished: already so
        2026-11-22T12:00:35+00:00  etcd  done in 25 s
        2026-11-22T12:00:40+00:00  compute  begins: 3 nodes, 2 waves
        2026-11-22T12:00:40+00:00  compute compute-1  started
        2026-11-22T12:00:45+00:00  compute compute-1  step install-packages changed: calico-felix 1.4.5~trusty -> 1.4.6~trusty, calico-common - -> 1.4.6~trusty
        2026-11-22T12:00:50+00:00  compute compute-1  step restart-felix changed: calico-felix: restarted, process 812 -> 2044
        2026-11-22T12:00:55+00:00  compute compute-1  step neutron-dhcp-agent-stays-down already so: it is so
        2026-11-22T12:01:00+00:00  compute compute-1  step install-dhcp-agent skipped: the node's OpenStack release kilo is before liberty
        2026-11-22T12:01:05+00:00  compute compute-1  step felix-is-new already so: it is so
        2026-11-22T12:01:10+00:00  compute compute-1  finished: changed
        2026-11-22T12:01:11+00:00  compute compute-2  started
        2026-11-22T12:01:16+00:00  compute compute-2  step install-packages changed: calico-felix 1.4.5~trusty -> 1.4.6~trusty, calico-common - -> 1.4.6~trusty
        2026-11-22T12:01:17+00:00  compute compute-3  started
        2026-11-22T12:00:10+00:00  rollout  r-20261122-1 running
        2026-11-22T12:01:30+00:00  waiting  compute-3 went offline while applying stage compute; next: switch compute-3 on, or start its agent there: systemctl start wavegate-agent; it goes on by itself when it is back. To go on without it: wavegate waive compute-3; if it is gone for good: wavegate stop, then wavegate node remove compute-3
        2026-11-22T12:01:30+00:00  waiting  stage control waits for stage compute: 2 of 3 node(s) not finished: compute-2, compute-3; next: every node of stage compute finishes or is waived
        ");
    }

    #[test]
    fn later_looks_tell_what_is_new() {
        let (before, after) = (samples::running().status(90), samples::finished().status(170));
        insta::assert_snapshot!(lines(Some(&before), &after, Detail::Tasks), @r"
        2026-11-22T12:01:41+00:00  compute compute-2  finished: changed
        2026-11-22T12:02:11+00:00  compute compute-3  finished: changed
        2026-11-22T12:02:11+00:00  compute  done in 1 min 31 s
        2026-11-22T12:02:20+00:00  control  begins: 1 node, 1 wave
        2026-11-22T12:02:40+00:00  control control-1  finished: changed
        2026-11-22T12:02:40+00:00  control  done in 20 s
        2026-11-22T12:02:40+00:00  rollout  r-20261122-1 finished
        ");
        assert_eq!(lines(Some(&after), &after, Detail::Steps), "");
    }

    #[test]
    fn waivers_and_nodes_outside_the_plan_are_told_once() {
        let mut play = samples::waived();
        let (before, waived) = (samples::halted().status(50), play.status(70));
        insta::assert_snapshot!(lines(Some(&before), &waived, Detail::Tasks), @"2026-11-22T12:01:00+00:00  waiver  compute-1 is waived by alice until 2026-11-22T20:01:00+00:00: the disk is being replaced");
        play.end_waiver(80, "compute-1", Some("bob"));
        let mut ended = play.status(90);
        ended.outside = vec![samples::node("compute-9")];
        insta::assert_snapshot!(lines(Some(&waived), &ended, Detail::Tasks), @r"
        2026-11-22T12:00:46+00:00  compute compute-1  failed at step install-packages: apt-get ended with code 100: calico-felix depends on python-etcd (>= 0.4.3); to do: add the repository that has python-etcd 0.4.3, then retry
        2026-11-22T12:01:20+00:00  waiver  the waiver of compute-1 by alice (the disk is being replaced) is ended by bob
        2026-11-22T12:01:30+00:00  plan  Outside the plan, enrolled after it was made and left as they are: compute-9
        ");
        assert_eq!(lines(Some(&ended), &ended, Detail::Steps), "");
        insta::assert_snapshot!(lines(None, &ended, Detail::Tasks).lines().last().unwrap_or_default(), @"2026-11-22T12:01:30+00:00  plan  Outside the plan, enrolled after it was made and left as they are: compute-9");
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let status = samples::halted().status(90);
        insta::assert_snapshot!(lines(None, &status, Detail::Tasks), @r"
        2026-11-22T12:00:10+00:00  etcd  begins: 2 nodes, 2 waves
        2026-11-22T12:00:22+00:00  etcd etcd-1  finished: changed
        2026-11-22T12:00:35+00:00  etcd compute-1  finished: already so
        2026-11-22T12:00:35+00:00  etcd  done in 25 s
        2026-11-22T12:00:40+00:00  compute  begins: 3 nodes, 2 waves
        2026-11-22T12:00:46+00:00  compute compute-1  failed at step install-packages: apt-get ended with code 100: calico-felix depends on python-etcd (>= 0.4.3); to do: add the repository that has python-etcd 0.4.3, then retry
        2026-11-22T12:00:46+00:00  rollout  r-20261122-1 paused: halted: 1 failed in stage compute, 0 allowed
        ");
    }

    #[test]
    fn of_a_large_stage_it_is_told_how_far_it_is_and_who_is_in_trouble() {
        let brief = |play: &samples::Play, seconds: u64| {
            let mut status = samples::with_more(play.status(seconds), 3000);
            crate::status::brief::cut(&mut status);
            status
        };
        let (before, after) = (brief(&samples::running(), 40), brief(&samples::halted(), 100));
        let lines = changes(Some(&before), &after, Detail::Tasks, &samples::look());
        assert!(lines.len() < 40 && lines.iter().any(|line| line.contains("failed at step")), "{lines:#?}");
        assert_eq!(changes(Some(&after), &after, Detail::Tasks, &samples::look()), Vec::<String>::new());
        let lines = changes(None, &before, Detail::Steps, &samples::look());
        let far = lines.iter().filter(|line| line.contains("of 3003 nodes finished")).count();
        assert_eq!(far, 1, "{lines:#?}");
    }
}
