//! Events of the log as lines for people.

use super::{Look, Tone, status, time};
use wavegate_common::outcome::Outcome;
use wavegate_common::rollout::{Entry, Event, Mode, PauseReason, TaskRef, TaskResult};

/// One entry of the log, in a line.
#[must_use]
pub fn entry(entry: &Entry, look: &Look) -> String {
    let (tone, what) = event(&entry.event, look);
    format!("{:>5}  {}  {}\n", entry.seq, time::moment(entry.at, look), look.paint(tone, &what))
}

fn event(event: &Event, look: &Look) -> (Tone, String) {
    match event {
        Event::Started { mode, by, approved_by, acknowledged } => {
            let mut text = format!("rollout started by {by}");
            if !approved_by.is_empty() {
                text.push_str(&format!(", approved by {}", status::actors(approved_by)));
            }
            if !acknowledged.is_empty() {
                text.push_str(&format!("; acknowledged: {}", acknowledged.join(", ")));
            }
            if *mode == Mode::Manual {
                text.push_str("; each wave waits for an operator");
            }
            (Tone::Heading, text)
        }
        Event::TaskStarted { task } => (Tone::Plain, format!("{}: given out", named(task))),
        Event::TaskAccepted { task } => (Tone::Plain, format!("{}: accepted by the node", named(task))),
        Event::StepEnded { task, step, outcome, .. } => {
            let tone = match outcome {
                Outcome::Failed { .. } => Tone::Bad,
                Outcome::Changed { .. } | Outcome::AlreadySo { .. } | Outcome::Skipped { .. } => Tone::Plain,
            };
            (tone, format!("{}: step {step} {outcome}", named(task)))
        }
        Event::TaskEnded { task, result: TaskResult::Finished } => {
            (Tone::Good, format!("{}: finished", named(task)))
        }
        Event::TaskEnded { task, result: TaskResult::Failed } => {
            (Tone::Bad, format!("{}: failed", named(task)))
        }
        Event::TaskLost { task } => (Tone::Bad, format!("{}: the node is lost", named(task))),
        Event::TaskOverdue { task } => {
            (Tone::Bad, format!("{}: takes longer than its steps may take together", named(task)))
        }
        Event::NodeWaived { node, reason, by, until } => {
            (Tone::Bad, format!("{node}: waived by {by} until {}: {reason}", time::moment(*until, look)))
        }
        Event::WaiverEnded { node, by: Some(by) } => {
            (Tone::Busy, format!("{node}: its waiver is withdrawn by {by}, it counts again"))
        }
        Event::WaiverEnded { node, by: None } => {
            (Tone::Busy, format!("{node}: its waiver is over, it counts again"))
        }
        Event::TaskReturned { task } => {
            (Tone::Good, format!("{}: the node is back and goes on", named(task)))
        }
        Event::TaskRestarted { task } => {
            (Tone::Busy, format!("{}: the node lost its journal and begins anew", named(task)))
        }
        Event::TaskRetried { task, by } => {
            (Tone::Plain, format!("{}: to be tried again, says {by}", named(task)))
        }
        Event::WaveReleased { stage, wave, by } => {
            (Tone::Heading, format!("{stage}: wave {} released by {by}", wave + 1))
        }
        Event::Paused { reason: PauseReason::Operator { by } } => {
            (Tone::Bad, format!("rollout paused by {by}"))
        }
        Event::Paused { reason: PauseReason::ErrorThreshold { stage, failed, allowed } } => {
            (Tone::Bad, format!("rollout halted: {failed} failed in stage {stage}, {allowed} allowed"))
        }
        Event::Resumed { by } => (Tone::Heading, format!("rollout resumed by {by}")),
        Event::StopRequested { by } => (Tone::Bad, format!("{by} asked the rollout to stop")),
        Event::Stopped => (Tone::Bad, "rollout stopped".to_owned()),
        Event::Finished => (Tone::Good, "rollout finished".to_owned()),
    }
}

fn named(task: &TaskRef) -> String {
    match task.attempt {
        1 => format!("{} {}", task.stage, task.node),
        attempt => format!("{} {} attempt {attempt}", task.stage, task.node),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn the_log_of_a_halted_rollout() {
        let play = samples::halted();
        let text: String = play.log.iter().map(|entry| super::entry(entry, &samples::look())).collect();
        insta::assert_snapshot!(text, @r"
         1  2026-11-22T12:00:10+00:00  rollout started by alice
         2  2026-11-22T12:00:10+00:00  etcd etcd-1: given out
         3  2026-11-22T12:00:10+00:00  etcd etcd-1: accepted by the node
         4  2026-11-22T12:00:15+00:00  etcd etcd-1: step install-etcd changed: etcd 2.3.7 -> 2.3.8
         5  2026-11-22T12:00:20+00:00  etcd etcd-1: step etcd-is-healthy already so: it is so
         6  2026-11-22T12:00:22+00:00  etcd etcd-1: finished
         7  2026-11-22T12:00:23+00:00  etcd compute-1: given out
         8  2026-11-22T12:00:23+00:00  etcd compute-1: accepted by the node
         9  2026-11-22T12:00:28+00:00  etcd compute-1: step install-etcd already so: it is so
        10  2026-11-22T12:00:33+00:00  etcd compute-1: step etcd-is-healthy already so: it is so
        11  2026-11-22T12:00:35+00:00  etcd compute-1: finished
        12  2026-11-22T12:00:40+00:00  compute compute-1: given out
        13  2026-11-22T12:00:40+00:00  compute compute-1: accepted by the node
        14  2026-11-22T12:00:45+00:00  compute compute-1: step install-packages failed: apt-get ended with code 100: calico-felix depends on python-etcd (>= 0.4.3)
        15  2026-11-22T12:00:46+00:00  compute compute-1: failed
        16  2026-11-22T12:00:46+00:00  rollout halted: 1 failed in stage compute, 0 allowed
        ");
        let mut first = play.log[0].clone();
        if let super::Event::Started { approved_by, acknowledged, .. } = &mut first.event {
            approved_by.push(wavegate_common::id::Actor("bob".to_owned()));
            acknowledged.push("etcd-no-spare-member".to_owned());
        }
        let first = super::entry(&first, &samples::look());
        insta::assert_snapshot!(first, @"    1  2026-11-22T12:00:10+00:00  rollout started by alice, approved by bob; acknowledged: etcd-no-spare-member");
    }
}
