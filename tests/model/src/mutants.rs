//! Guards of the core, and what each would be without: the expression between `«` and `»` becomes the other one. Every one
//! of them must be found out. `bin/mutants` builds and runs them.

use crate::invariant::Invariant::{self, I1, I2, I3, I4, I5, I6, I7, I8, I9, Legal, Waves};

/// A guard of the core, and what it would be without.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// The invariant that must be seen broken.
    pub breaks: Invariant,
    /// What the core would do wrong.
    pub what: &'static str,
    /// The file, in `common/src`.
    pub file: &'static str,
    /// The text, which is there once, with the guard between `«` and `»`.
    pub text: &'static str,
    /// What stands there instead.
    pub instead: &'static str,
    /// The shape that shows it.
    pub shape: &'static str,
}

const fn mutant(
    breaks: Invariant,
    what: &'static str,
    (file, text, instead): (&'static str, &'static str, &'static str),
    shape: &'static str,
) -> Mutant {
    Mutant { breaks, what, file, text, instead, shape }
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    mutant(
        I1,
        "a stage begins while an earlier one has unfinished nodes",
        ("rollout/hold.rs", "if «unfinished > 0» {", "false"),
        "barrier",
    ),
    mutant(
        I1,
        "a stage begins when no task of an earlier one is scheduled any more",
        (
            "rollout/hold.rs",
            "let unfinished = «self.unsettled(earlier.stage)» as usize;",
            "self.counts(earlier.stage).not_tried",
        ),
        "barrier",
    ),
    mutant(
        I2,
        "a node is started whatever is unavailable",
        ("rollout/hold.rs", "if «unavailable >= allowed» {", "false"),
        "one-at-a-time",
    ),
    mutant(
        I2,
        "a lost node does not count against the limit",
        (
            "rollout/hold.rs",
            "let (unavailable, allowed) = («self.unavailable(planned)», self.at_once(planned));",
            "counts.running + counts.failed",
        ),
        "one-at-a-time",
    ),
    mutant(
        I2,
        "two groups are at work at once",
        ("rollout/hold.rs", "«one_group(tasks, place)?»;", "()"),
        "groups",
    ),
    mutant(
        I2,
        "a task is tried again while it is worked on",
        (
            "rollout/apply.rs",
            "self.task_in(task, «&[TaskState::Failed]»)?",
            "&[TaskState::Failed, TaskState::Applying]",
        ),
        "one-at-a-time",
    ),
    mutant(
        I2,
        "a node that is worked on is waived",
        ("rollout/apply.rs", "left().find(|(_, task)| «task.in_flight()»)", "false"),
        "waivers",
    ),
    mutant(
        I3,
        "two etcd members are worked on at once",
        ("rollout/hold.rs", "«one_member(tasks, place)?»;", "()"),
        "etcd-careless",
    ),
    mutant(
        I3,
        "something is begun beside an etcd member that is not back",
        ("rollout/hold.rs", "if let Some(member) = «named(tally.first_away_alone())» {", "None::<NodeId>"),
        "etcd-mixed",
    ),
    mutant(
        I3,
        "an etcd member is taken down beside a node that is not back",
        ("rollout/hold.rs", "Some(other) if «index.is_alone(place)» =>", "false"),
        "etcd-mixed",
    ),
    mutant(
        I3,
        "a failed etcd member is as good as one that is back",
        ("rollout/tally.rs", "let away = at_work || «of.state == TaskState::Failed»;", "false"),
        "etcd-mixed",
    ),
    mutant(
        Legal,
        "an etcd member and another node are begun together",
        ("rollout/decide.rs", ".filter(|(.., kind)| «*kind == first»)", "kind.group == first.group"),
        "etcd-mixed",
    ),
    mutant(
        Legal,
        "two etcd members are begun together",
        ("rollout/decide.rs", "let room = «if first.alone { 1 } else { room }»;", "room"),
        "etcd-careless",
    ),
    mutant(
        Waves,
        "a failed canary of the proxies lets the others begin",
        (
            "rollout/index.rs",
            "Some((Some(before), Some(own))) => «members(before) && !members(own)»,",
            "false",
        ),
        "member-and-proxies",
    ),
    mutant(
        I3,
        "an etcd member that has not finished is waived",
        ("rollout/apply.rs", "if «member && left().any(|(stage, _)| stage == Stage::Etcd)» {", "false"),
        "etcd-waived",
    ),
    mutant(
        I4,
        "a step that was interrupted looks as if it had never begun",
        ("journal/resume.rs", "interrupted: «task.started.is_some()»", "false"),
        "crashes",
    ),
    mutant(
        I4,
        "a journal that is rewritten forgets the step that was begun",
        ("journal/mod.rs", "if let Some(step) = «&self.started» {", "&None::<StepId>"),
        "crashes",
    ),
    mutant(
        I6,
        "a journal that is rewritten forgets the tasks that ended",
        ("journal/mod.rs", "Some(task) if task.result.is_some() => «ended.push(task.clone())»,", "()"),
        "crashes",
    ),
    mutant(
        I5,
        "a task is started while the rollout is paused",
        ("rollout/hold.rs", "if «self.status != Status::Running» {", "false"),
        "barrier",
    ),
    mutant(
        I5,
        "an order that the node has not had is sent after a pause",
        ("rollout/mod.rs", "«(task.accepted || self.status == Status::Running)»", "true"),
        "barrier",
    ),
    mutant(
        I6,
        "an order of an old generation is obeyed",
        ("journal/resume.rs", "if «order.generation < self.generation()» {", "false"),
        "crashes",
    ),
    mutant(
        I6,
        "an order is obeyed a second time",
        ("journal/resume.rs", "if «self.task(&order.key).is_some()» {", "false"),
        "crashes",
    ),
    mutant(
        I6,
        "an earlier attempt is obeyed after a later one",
        ("journal/resume.rs", "find(|key| «key.attempt > order.key.attempt»)", "false"),
        "lost-journal",
    ),
    mutant(
        I6,
        "two coordinators of one generation are both obeyed",
        ("leader.rs", "if «seen.replaces(said)» {", "false"),
        "crashes",
    ),
    mutant(
        I6,
        "a journal that is rewritten forgets the generation",
        ("journal/mod.rs", "let Leader { generation, id } = «self.leader»;", "Leader::default()"),
        "crashes",
    ),
    mutant(
        I7,
        "a waived task counts as finished",
        ("rollout/state.rs", "TaskState::Waived => «&mut self.waived»,", "&mut self.finished"),
        "waivers",
    ),
    mutant(
        I7,
        "a failed task counts as one that was not tried",
        ("rollout/state.rs", "TaskState::Failed => «&mut self.failed»,", "&mut self.not_tried"),
        "barrier",
    ),
    mutant(
        I8,
        "nothing is said while the next nodes are being given their orders",
        ("rollout/waiting.rs", "if «reasons.len() == before && self.status == Status::Running» {", "false"),
        "barrier",
    ),
    mutant(
        I8,
        "a wave says nothing",
        ("rollout/waiting.rs", "if «!nodes.iter().any(|node| open(&node))» {", "true"),
        "barrier",
    ),
    mutant(
        I9,
        "a paused rollout cannot be resumed",
        ("rollout/apply.rs", "self.require(«&[Status::Paused]»)?", "&[Status::Running]"),
        "barrier",
    ),
    mutant(
        I9,
        "a failed task cannot be tried again",
        ("rollout/apply.rs", "self.task_in(task, «&[TaskState::Failed]»)?", "&[TaskState::Canceled]"),
        "barrier",
    ),
    mutant(
        I9,
        "a stop waits for ever for an order that is not sent any more",
        ("rollout/decide.rs", "if «gone || unconfirmed(task)» {", "gone"),
        "barrier",
    ),
    mutant(
        I9,
        "a lost node that returns is not taken back",
        (
            "rollout/report.rs",
            "TaskState::Unknown => «events.push(Event::TaskReturned { task: about.clone() })»,",
            "return Ok(Reported { events, acknowledge: report.result.is_some() })",
        ),
        "barrier",
    ),
    mutant(
        Waves,
        "a wave begins before the one before it is over",
        ("rollout/hold.rs", "«self.earlier_waves(planned, wave)?»;", "()"),
        "barrier",
    ),
    mutant(
        Waves,
        "a wave does not wait for an operator",
        ("rollout/hold.rs", "if «self.is_manual(planned)» {", "false"),
        "manual",
    ),
    mutant(
        Waves,
        "a wave does not rest",
        ("rollout/hold.rs", "Some(until) if «until > now» =>", "false"),
        "soak",
    ),
    mutant(
        Legal,
        "a report of an earlier attempt is taken for the current one's",
        ("rollout/report.rs", "if «key.attempt < task.attempt» {", "false"),
        "barrier",
    ),
];
