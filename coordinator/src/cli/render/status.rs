//! A rollout as people read it: `wavegate status`.

use super::{
    Look, Tone, cell, counted, exceptions, pause_text, summary, time, tone_of_stage, tone_of_status,
    tone_of_task, waiting,
};
use crate::status::view::{FailedStep, RolloutStatus, StageStatus, TaskStatus};
use wavegate_common::id::{Actor, StepId, Timestamp};
use wavegate_common::rollout::{Counts, Link, Mode, Status, TaskState};

/// The rollout: where it is, its stages, its nodes, what failed, and what it waits for.
#[must_use]
pub fn status(status: &RolloutStatus, look: &Look) -> String {
    let mut parts = vec![headline(status, look), stages(status, look)];
    parts.push(tasks(status, look));
    parts.push(failures(status, look));
    parts.push(exceptions::exceptions(status, look));
    if !status.waiting.is_empty() {
        let waiting = waiting::waiting(&status.waiting, status.now, look);
        parts.push(format!("{}\n{waiting}", look.paint(Tone::Heading, "Waiting")));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// What it is and where it is, in a line or two.
#[must_use]
pub fn headline(status: &RolloutStatus, look: &Look) -> String {
    let name = look.paint(Tone::Heading, &format!("Rollout {}", status.rollout));
    let state = look.paint(tone_of_status(status.status), status.status.as_str());
    let manual = match status.mode {
        Mode::Auto => "",
        Mode::Manual => ", each wave waits for an operator",
    };
    let since = time::since(status.since, status.now, look);
    let mut text =
        format!("{name} of plan {} ({}): {state} for {since}{manual}\n", status.plan, status.procedure);
    if !status.approved_by.is_empty() {
        text.push_str(&format!("  approved by {}\n", actors(&status.approved_by)));
    }
    if !status.acknowledged.is_empty() {
        text.push_str(&format!("  acknowledged: {}\n", status.acknowledged.join(", ")));
    }
    if let Some(reason) = &status.pause {
        text.push_str(&format!("  {}\n", look.paint(Tone::Bad, &pause_text(reason))));
    }
    text
}

/// Names with commas between them.
#[must_use]
pub fn actors(actors: &[Actor]) -> String {
    actors.iter().map(|actor| actor.0.as_str()).collect::<Vec<_>>().join(", ")
}

fn stages(status: &RolloutStatus, look: &Look) -> String {
    // A column that nearly always would hold nothing but zeros is there when it says something.
    let any_waived = status.stages.iter().any(|stage| stage.counts.waived > 0);
    let mut headings =
        vec!["STAGE", "STATE", "WAVE", "FINISHED", "RUNNING", "FAILED", "UNKNOWN", "NOT TRIED", "TIME"];
    if any_waived {
        headings.insert(7, "WAIVED");
    }
    let mut table = look.table(&headings);
    for stage in &status.stages {
        let Counts { not_tried, running, finished, failed, unknown, waived } = stage.counts;
        let bad = |count: u32| cell(if count > 0 { Tone::Bad } else { Tone::Plain }, count);
        let mut row = vec![
            cell(Tone::Plain, stage.stage),
            cell(tone_of_stage(stage.state), stage.state),
            cell(Tone::Plain, wave(stage)),
            cell(Tone::Plain, format!("{finished}/{}", stage.counts.total())),
            cell(Tone::Plain, running),
            bad(failed),
            bad(unknown),
            cell(Tone::Plain, not_tried),
            cell(Tone::Plain, took(stage, as_of(status))),
        ];
        if any_waived {
            row.insert(7, bad(waived));
        }
        table.add_row(row);
    }
    look.lay_out(table, 0)
}

/// `2/4`: the wave being worked on, from 1, of how many; `-` before and after.
#[must_use]
pub fn wave(stage: &StageStatus) -> String {
    match stage.wave {
        Some(wave) if stage.began.is_some() => format!("{}/{}", wave + 1, stage.waves),
        _ => "-".to_owned(),
    }
}

/// Up to when a rollout's stages take time: its end, if it has ended.
#[must_use]
pub fn as_of(status: &RolloutStatus) -> Timestamp {
    match status.status {
        Status::Stopped | Status::Finished => status.since,
        Status::Ready | Status::Running | Status::Paused | Status::Stopping => status.now,
    }
}

/// How long a stage took, or has taken so far.
#[must_use]
pub fn took(stage: &StageStatus, now: Timestamp) -> String {
    stage.began.map_or_else(
        || "-".to_owned(),
        |began| time::duration(stage.ended.unwrap_or(now).millis_since(began)),
    )
}

fn tasks(status: &RolloutStatus, look: &Look) -> String {
    let mut table = look.table(&["STAGE", "WAVE", "NODE", "STATE", "LINK", "STEP", "SINCE"]);
    for stage in &status.stages {
        for task in &stage.tasks {
            let (step, since) =
                (step(task), if task.attempt == 0 { "-".to_owned() } else { since(task, status.now) });
            table.add_row([
                cell(Tone::Plain, stage.stage),
                cell(Tone::Plain, task.wave + 1),
                cell(Tone::Plain, &task.node),
                cell(tone_of_task(task.state), state(task)),
                link(task.link),
                cell(Tone::Plain, step),
                cell(Tone::Plain, since),
            ]);
        }
    }
    let more: String = status.stages.iter().map(|stage| left_out(stage, look)).collect();
    look.lay_out(table, 0) + &more
}

/// Who is not in the table, counted; empty text if everybody is.
fn left_out(stage: &StageStatus, look: &Look) -> String {
    let Counts { not_tried, running, finished, failed, unknown, waived } = stage.left_out;
    let counts = [
        (failed, "failed"),
        (unknown, "unknown"),
        (waived, "waived"),
        (running, "running"),
        (finished, "finished"),
        (not_tried, "not tried"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if counts.is_empty() {
        return String::new();
    }
    let more = if stage.tasks.is_empty() { "" } else { "more " };
    let nodes = counted(stage.left_out.total() as usize, &format!("{more}node"));
    let text = format!("{}: {nodes} ({}); one of them: wavegate why NODE", stage.stage, counts.join(", "));
    look.paragraph(&text, 0)
}

fn since(task: &TaskStatus, now: Timestamp) -> String {
    time::duration(now.millis_since(task.since))
}

fn link(link: Link) -> comfy_table::Cell {
    match link {
        Link::Online { .. } => cell(Tone::Plain, "online"),
        Link::Offline { .. } => cell(Tone::Bad, "offline"),
    }
}

/// A task's state; of a finished one, whether anything had to be changed.
fn state(task: &TaskStatus) -> String {
    let state = match task.state {
        TaskState::Finished => summary::result(task),
        other => other.as_str(),
    };
    if let Some(underneath) = task.underneath.filter(|state| *state != TaskState::Scheduled) {
        return format!("{state} ({underneath})");
    }
    if task.attempt > 1 { format!("{state} (attempt {})", task.attempt) } else { state.to_owned() }
}

/// `3/9 install-packages` while it works or where it failed.
fn step(task: &TaskStatus) -> String {
    let numbered = |number: usize, id: &StepId| format!("{number}/{} {id}", task.steps_total);
    match (&task.error, &task.step) {
        (Some(failed), _) => numbered(task.steps.len(), &failed.step),
        (None, Some(id)) => numbered(task.steps.len() + 1, id),
        (None, None) if task.steps.is_empty() => "-".to_owned(),
        (None, None) => format!("{}/{}", task.steps.len(), task.steps_total),
    }
}

/// What failed, with the last lines that were printed, and what to do next; empty text if nothing did.
#[must_use]
pub fn failures(status: &RolloutStatus, look: &Look) -> String {
    let mut text = String::new();
    for stage in &status.stages {
        for (task, failed) in stage.tasks.iter().filter_map(|task| Some((task, task.error.as_ref()?))) {
            let FailedStep { step, error } = failed;
            let place = format!("{}, stage {}, step {step}: {}", task.node, stage.stage, error.what);
            text.push_str(&look.paragraph(&place, 2));
            for line in &error.output {
                text.push_str(&look.paragraph(&format!("| {line}"), 4));
            }
            let more = format!("wavegate logs {} --stage {} --step {step}", task.node, stage.stage);
            text.push_str(&look.labelled(&[("to do:", &error.next), ("more:", &more)], 4));
        }
    }
    if text.is_empty() { text } else { format!("{}\n{text}", look.paint(Tone::Bad, "Failed")) }
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn a_running_rollout_with_an_offline_node() {
        insta::assert_snapshot!(super::status(&samples::running().status(200), &samples::look()), @r"
        Rollout r-20261122-1 of plan 0a1b2c3d4e5f (calico-openstack): running for 3 min 10 s (2026-11-22T12:00:10+00:00)

        STAGE    STATE      WAVE  FINISHED  RUNNING  FAILED  UNKNOWN  NOT TRIED  TIME
        etcd     done       -     2/2       0        0       0        0          25 s
        compute  active     2/2   1/3       2        0       0        0          2 min 40 s
        control  unstarted  -     0/1       0        0       0        1          -

        STAGE    WAVE  NODE       STATE       LINK     STEP                  SINCE
        etcd     1     etcd-1     changed     online   2/2                   2 min 58 s
        etcd     2     compute-1  already so  online   2/2                   2 min 45 s
        compute  1     compute-1  changed     online   5/5                   2 min 10 s
        compute  2     compute-2  applying    online   2/5 restart-felix     2 min 9 s
        compute  2     compute-3  applying    offline  1/5 install-packages  2 min 3 s
        control  1     control-1  scheduled   online   -                     -

        Waiting
          compute-2 is applying stage compute
            since  2 min 9 s (2026-11-22T12:01:11+00:00)
            next   nothing to do: it goes on by itself (watch: wavegate logs compute-2 --follow)
          compute-3 went offline while applying stage compute
            since  2 min (2026-11-22T12:01:20+00:00)
            next   switch compute-3 on, or start its agent there: systemctl start wavegate-agent; it goes
                   on by itself when it is back. To go on without it: wavegate waive compute-3; if it is
                   gone for good: wavegate stop, then wavegate node remove compute-3
          stage control waits for stage compute: 2 of 3 node(s) not finished: compute-2, compute-3
            since  3 min 10 s (2026-11-22T12:00:10+00:00)
            next   every node of stage compute finishes or is waived
        ");
    }

    #[test]
    fn a_halted_rollout() {
        insta::assert_snapshot!(super::status(&samples::halted().status(100), &samples::look()), @r"
        Rollout r-20261122-1 of plan 0a1b2c3d4e5f (calico-openstack): paused for 54 s (2026-11-22T12:00:46+00:00)
          halted: 1 failed in stage compute, 0 allowed

        STAGE    STATE      WAVE  FINISHED  RUNNING  FAILED  UNKNOWN  NOT TRIED  TIME
        etcd     done       -     2/2       0        0       0        0          25 s
        compute  error      1/2   0/3       0        1       0        2          1 min
        control  unstarted  -     0/1       0        0       0        1          -

        STAGE    WAVE  NODE       STATE       LINK    STEP                  SINCE
        etcd     1     etcd-1     changed     online  2/2                   1 min 18 s
        etcd     2     compute-1  already so  online  2/2                   1 min 5 s
        compute  1     compute-1  failed      online  1/5 install-packages  54 s
        compute  2     compute-2  scheduled   online  -                     -
        compute  2     compute-3  scheduled   online  -                     -
        control  1     control-1  scheduled   online  -                     -

        Failed
          compute-1, stage compute, step install-packages: apt-get ended with code 100: calico-felix
          depends on python-etcd (>= 0.4.3)
            | E: Unmet dependencies. Try using -f.
            to do:  add the repository that has python-etcd 0.4.3, then retry
            more:   wavegate logs compute-1 --stage compute --step install-packages

        Waiting
          halted: 1 node(s) failed in stage compute, 0 allowed
            since  54 s (2026-11-22T12:00:46+00:00)
            next   mend the cause (wavegate logs NODE), then: wavegate retry --all-failed && wavegate
                   resume. A node that can't be mended now: wavegate waive NODE
          compute-1 failed in stage compute at step install-packages: apt-get ended with code 100:
          calico-felix depends on python-etcd (>= 0.4.3)
            since  54 s (2026-11-22T12:00:46+00:00)
            next   add the repository that has python-etcd 0.4.3, then retry (wavegate logs compute-1).
                   When it is mended: wavegate retry compute-1 && wavegate resume; to go on without it:
                   wavegate waive compute-1
          stage control waits for stage compute: 3 of 3 node(s) not finished: compute-1, compute-2,
          compute-3
            since  1 min 30 s (2026-11-22T12:00:10+00:00)
            next   every node of stage compute finishes or is waived
        ");
    }

    #[test]
    fn a_waived_node_is_named() {
        let text = super::status(&samples::waived().status(100), &samples::look());
        insta::assert_snapshot!(text.split("\nFailed").next().unwrap_or_default(), @r"
        Rollout r-20261122-1 of plan 0a1b2c3d4e5f (calico-openstack): paused for 54 s (2026-11-22T12:00:46+00:00)
          halted: 1 failed in stage compute, 0 allowed

        STAGE    STATE      WAVE  FINISHED  RUNNING  FAILED  UNKNOWN  WAIVED  NOT TRIED  TIME
        etcd     done       -     2/2       0        0       0        0       0          25 s
        compute  active     2/2   0/3       0        0       0        1       2          1 min
        control  unstarted  -     0/1       0        0       0        0       1          -

        STAGE    WAVE  NODE       STATE            LINK    STEP                  SINCE
        etcd     1     etcd-1     changed          online  2/2                   1 min 18 s
        etcd     2     compute-1  already so       online  2/2                   1 min 5 s
        compute  1     compute-1  waived (failed)  online  1/5 install-packages  54 s
        compute  2     compute-2  scheduled        online  -                     -
        compute  2     compute-3  scheduled        online  -                     -
        control  1     control-1  scheduled        online  -                     -
        ");
        assert!(text.contains("\nWaived\n  compute-1: the disk is being replaced\n"), "{text}");
    }

    #[test]
    fn a_finished_rollout() {
        insta::assert_snapshot!(super::status(&samples::finished_unchanged().status(600), &samples::look()), @r"
        Rollout r-20261122-1 of plan 0a1b2c3d4e5f (calico-openstack): finished for 6 min 50 s (2026-11-22T12:03:10+00:00)

        STAGE    STATE  WAVE  FINISHED  RUNNING  FAILED  UNKNOWN  NOT TRIED  TIME
        etcd     done   -     2/2       0        0       0        0          1 min
        compute  done   -     3/3       0        0       0        0          1 min 30 s
        control  done   -     1/1       0        0       0        0          30 s

        STAGE    WAVE  NODE       STATE       LINK    STEP  SINCE
        etcd     1     etcd-1     already so  online  2/2   9 min 20 s
        etcd     2     compute-1  already so  online  2/2   8 min 50 s
        compute  1     compute-1  already so  online  5/5   8 min 20 s
        compute  2     compute-2  already so  online  5/5   7 min 50 s
        compute  2     compute-3  already so  online  5/5   7 min 20 s
        control  1     control-1  already so  online  2/2   6 min 50 s
        ");
    }

    #[test]
    fn a_large_stage_is_a_screen() {
        let mut status = samples::with_more(samples::halted().status(100), 600);
        crate::status::brief::cut(&mut status);
        let text = super::status(&status, &samples::look());
        let (tables, _) = text.split_once("\nFailed").expect("failures");
        insta::assert_snapshot!(tables, @r"
        Rollout r-20261122-1 of plan 0a1b2c3d4e5f (calico-openstack): paused for 54 s (2026-11-22T12:00:46+00:00)
          halted: 1 failed in stage compute, 0 allowed

        STAGE    STATE      WAVE  FINISHED  RUNNING  FAILED  UNKNOWN  NOT TRIED  TIME
        etcd     done       -     2/2       0        0       0        0          25 s
        compute  error      1/2   0/603     0        201     0        402        1 min
        control  unstarted  -     0/1       0        0       0        1          -

        STAGE    WAVE  NODE         STATE       LINK    STEP                  SINCE
        etcd     1     etcd-1       changed     online  2/2                   1 min 18 s
        etcd     2     compute-1    already so  online  2/2                   1 min 5 s
        compute  1     compute-1    failed      online  1/5 install-packages  54 s
        compute  1     compute-100  failed      online  1/5 install-packages  54 s
        compute  1     compute-103  failed      online  1/5 install-packages  54 s
        compute  1     compute-106  failed      online  1/5 install-packages  54 s
        compute  1     compute-109  failed      online  1/5 install-packages  54 s
        compute  1     compute-112  failed      online  1/5 install-packages  54 s
        compute  1     compute-115  failed      online  1/5 install-packages  54 s
        compute  1     compute-118  failed      online  1/5 install-packages  54 s
        compute  1     compute-121  failed      online  1/5 install-packages  54 s
        compute  1     compute-124  failed      online  1/5 install-packages  54 s
        compute  1     compute-127  failed      online  1/5 install-packages  54 s
        compute  1     compute-130  failed      online  1/5 install-packages  54 s
        compute  1     compute-133  failed      online  1/5 install-packages  54 s
        compute  1     compute-136  failed      online  1/5 install-packages  54 s
        compute  1     compute-139  failed      online  1/5 install-packages  54 s
        control  1     control-1    scheduled   online  -                     -
        compute: 588 more nodes (186 failed, 402 not tried); one of them: wavegate why NODE
        ");
        assert!(text.lines().count() < 150, "{text}");
    }
}
