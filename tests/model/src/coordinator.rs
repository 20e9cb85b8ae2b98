//! The coordinator's side: a production rollout with its log, and what can come of it: decisions, reports, operators, time.
//!
//! Time stands still but for one thing that can happen: that a long time passes, in which every soak, patience and waiver
//! ends. So each moment that a rollout remembers is either now or long ago, and that is all that identifies it. The nodes'
//! links are no part of a world: any decision may see any links, since nothing else depends on them.

use crate::invariant::{Broken, Invariant};
use crate::reading::Reading;
use crate::table::Identity;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use wavegate_common::id::{Actor, Generation, NodeId, RolloutId, Timestamp};
use wavegate_common::order::TaskOrder;
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{
    Counts, Entry, Event, IllegalEvent, Link, Mode, Observed, PauseReason, Report, Rollout, Status, Subject,
    Task, TaskRef, TaskState,
};

/// After so long a node that is away is lost.
const LOST_AFTER_MS: u64 = 1_000;
/// A long time, in milliseconds: longer than any soak, waiver or task of a shape may take.
const LONG_MS: u64 = 1_000_000_000;
/// How long a waiver is given for.
const WAIVER_MS: u64 = LONG_MS / 2;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `wavegate start`.
    Start,
    /// `wavegate pause`.
    Pause,
    /// `wavegate resume`.
    Resume,
    /// `wavegate stop`.
    Stop,
    /// `wavegate retry` of one node's task, whatever state it is in.
    Retry(Stage, NodeId),
    /// `wavegate wave next` for a wave, whether or not it waits.
    Release(Stage, usize),
    /// `wavegate waive`.
    Waive(NodeId),
    /// `wavegate waive --withdraw`.
    Withdraw(NodeId),
}

/// A rollout, its log, and a reading of that log that does not ask the rollout.
#[derive(Debug, Clone)]
pub struct Coordinator {
    rollout: Rollout,
    log: Option<Arc<Logged>>,
    reading: Reading,
    now: Timestamp,
    /// What was recorded against the log's own reading, or was to be recorded and is not legal.
    broken: Broken,
}

/// The last entry of a log, and those before.
#[derive(Debug)]
struct Logged {
    before: Option<Arc<Logged>>,
    entry: Entry,
}

/// What comes of a report.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The coordinator afterwards, if anything is new in it.
    pub after: Option<Coordinator>,
    /// Whether the agent is told that it may stop reporting.
    pub acknowledged: bool,
}

impl Coordinator {
    /// A rollout that has not been started.
    ///
    /// # Errors
    /// If the name of the rollout is not one.
    pub fn new(plan: Arc<Plan>) -> anyhow::Result<Self> {
        let rollout = Rollout::new(RolloutId::new("r1")?, plan);
        let (reading, broken) = (Reading::default(), Broken::default());
        Ok(Self { rollout, log: None, reading, now: Timestamp(LONG_MS), broken })
    }

    /// The rollout.
    #[must_use]
    pub const fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// What its log says.
    #[must_use]
    pub const fn reading(&self) -> &Reading {
        &self.reading
    }

    /// What identifies it: all of the rollout but its place in the log, on which nothing but the number of the next entry
    /// depends, and but moments: of those, whether they are now, where something comes of it. [`Coordinator::whole`] is
    /// what this is compared with.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let rollout = &self.rollout;
        let mut text = String::with_capacity(512);
        let (status, mode, pause) = (rollout.status().0, rollout.mode(), rollout.pause());
        // Writing into a text can't fail.
        let _ = write!(text, "{status:?} {mode:?} {pause:?} {:?} {}", self.broken, self.reading.text());
        for waiver in rollout.waivers() {
            let (forced, lasts) = (waiver.in_force(), waiver.until > self.now);
            let _ = write!(text, "/{} {forced} {lasts} {:?}", waiver.node, waiver.ended_by);
        }
        for stage in &rollout.plan().body.stages {
            for (node, task) in rollout.tasks(stage.stage) {
                let Task { progress, waived, attempt, since, started_at, accepted, overdue, steps } = task;
                let _ = write!(text, "/{node} {progress:?} {waived} {attempt} {accepted} {overdue}");
                // A task that is being given out or worked on may have taken too long; one that ended may rest.
                let waits = match progress {
                    TaskState::Preparing | TaskState::Applying => true,
                    _ => *attempt > 0 && stage.limits.soak_s > 0,
                };
                let _ = write!(text, " {} {}", started_at.is_some(), waits && *since == self.now);
                for ended in steps {
                    let _ = write!(text, " {} {}", ended.step, ended.outcome.word());
                }
            }
            let released = (0..stage.waves.len()).filter(|wave| rollout.is_released(stage.stage, *wave));
            let _ = write!(text, "/{:?}", released.collect::<Vec<_>>());
        }
        Identity::of(&text)
    }

    /// All that a rollout is, in every field that it has or will have, without its place in the log and without moments.
    #[must_use]
    pub fn whole(&self) -> Identity {
        let text = format!("{:?} {} {:?}", self.rollout, self.reading.text(), self.broken);
        let text = text.replace(&format!("last_seq: {}", self.rollout.last_seq()), "");
        let mut parts = text.split("Timestamp(");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        parts.for_each(|part| whole.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit())));
        Identity::of(&whole)
    }

    /// A long time passes.
    #[must_use]
    pub fn later(&self) -> Self {
        Self { now: Timestamp(self.now.0 + LONG_MS), ..self.clone() }
    }

    /// Records events, all or none: what the store does with what the loop gives it.
    fn record(&self, events: &[Event]) -> Result<Self, IllegalEvent> {
        let mut after = self.clone();
        for event in events {
            let seq = after.rollout.last_seq() + 1;
            let entry = Entry { seq, at: after.now, generation: Generation(1), event: event.clone() };
            after.rollout.apply(&entry)?;
            after.broken = after.broken.and(after.reading.read(&entry, after.rollout.plan()));
            after.log = Some(Arc::new(Logged { before: after.log.take(), entry }));
        }
        Ok(after)
    }

    /// Records what had to be legal; if it is not, that is noted, and nothing is recorded.
    fn record_legal(&self, events: &[Event]) -> Self {
        self.record(events).unwrap_or_else(|_| self.contradicted())
    }

    fn contradicted(&self) -> Self {
        let mut after = self.clone();
        after.broken.unless(false, Invariant::Legal);
        after
    }

    /// Everything that may be decided, whatever is seen of the nodes, without repetition.
    #[must_use]
    pub fn decisions(&self) -> Vec<(Vec<Event>, Self)> {
        let mut all: Vec<Vec<Event>> = Vec::new();
        self.seen(|observed| {
            let events = self.rollout.decide(observed);
            if !events.is_empty() && !all.contains(&events) {
                all.push(events);
            }
        });
        let recorded = |events: Vec<Event>| {
            let after = self.record_legal(&events);
            (events, after)
        };
        all.into_iter().map(recorded).collect()
    }

    /// What is decided when all nodes are there.
    #[must_use]
    pub fn decides_at_best(&self) -> Option<Self> {
        let nodes = self.nodes();
        let links = nodes.iter().map(|node| (node.clone(), Link::Online { since: self.now })).collect();
        let events = self.rollout.decide(self.observed(&links));
        (!events.is_empty()).then(|| self.record_legal(&events))
    }

    /// What an operator brings about; `None` if it is refused.
    #[must_use]
    pub fn commanded(&self, verb: &Verb, mode: Mode) -> Option<Self> {
        let by = Actor("operator".to_owned());
        let event = match verb {
            Verb::Start => Event::Started { mode, by, approved_by: Vec::new(), acknowledged: Vec::new() },
            Verb::Pause => Event::Paused { reason: PauseReason::Operator { by } },
            Verb::Resume => Event::Resumed { by },
            Verb::Stop => Event::StopRequested { by },
            Verb::Release(stage, wave) => Event::WaveReleased { stage: *stage, wave: *wave, by },
            Verb::Retry(stage, node) => {
                let attempt = self.rollout.task(*stage, node)?.attempt;
                Event::TaskRetried { task: TaskRef { stage: *stage, node: node.clone(), attempt }, by }
            }
            Verb::Waive(node) => {
                let until = Timestamp(self.now.0 + WAIVER_MS);
                Event::NodeWaived { node: node.clone(), reason: "model".to_owned(), until, by }
            }
            Verb::Withdraw(node) => Event::WaiverEnded { node: node.clone(), by: Some(by) },
        };
        self.record(&[event]).ok()
    }

    /// Everything that operators may ask for.
    #[must_use]
    pub fn verbs(&self) -> Vec<Verb> {
        let mut verbs = vec![Verb::Start];
        for stage in &self.rollout.plan().body.stages {
            verbs.extend(stage.tasks.keys().map(|node| Verb::Retry(stage.stage, node.clone())));
            verbs.extend((0..stage.waves.len()).map(|wave| Verb::Release(stage.stage, wave)));
        }
        verbs.extend(
            self.nodes().into_iter().flat_map(|node| [Verb::Waive(node.clone()), Verb::Withdraw(node)]),
        );
        verbs.extend([Verb::Pause, Verb::Resume, Verb::Stop]);
        verbs
    }

    /// What comes of a report.
    #[must_use]
    pub fn told(&self, report: &Report) -> Answered {
        let Ok(reported) = self.rollout.reported(report) else {
            return Answered { after: Some(self.contradicted()), acknowledged: false };
        };
        let after = (!reported.events.is_empty()).then(|| self.record_legal(&reported.events));
        Answered { after, acknowledged: reported.acknowledge }
    }

    /// The orders that may be sent now.
    #[must_use]
    pub fn orders(&self, generation: Generation) -> Vec<TaskOrder> {
        self.rollout.open_orders(generation).collect()
    }

    /// What of this can be seen to be wrong without the nodes.
    #[must_use]
    pub fn broken(&self) -> Broken {
        let mut broken = self.broken;
        for stage in &self.rollout.plan().body.stages {
            let counts = self.rollout.counts(stage.stage);
            broken.unless(counts == self.counted(stage.stage), Invariant::I7);
            broken.unless(counts.total() as usize == stage.tasks.len(), Invariant::I7);
        }
        broken = broken.and(self.starts_refused());
        let subjects = self.subjects();
        self.seen(|observed| {
            for (subject, over) in &subjects {
                let waits = !self.rollout.waiting_for(subject, observed).is_empty();
                broken.unless(waits || *over, Invariant::I8);
            }
            broken.unless(!self.rollout.ended() || self.rollout.waiting(observed).is_empty(), Invariant::I8);
        });
        broken.unless(self.replayed().as_ref() == Some(&self.rollout), Invariant::Replay);
        broken
    }

    /// What is broken by a start that would be recorded if somebody offered it, whether or not `decide` does.
    fn starts_refused(&self) -> Broken {
        let mut broken = Broken::default();
        for stage in &self.rollout.plan().body.stages {
            for (node, task) in self.rollout.tasks(stage.stage) {
                let task = TaskRef { stage: stage.stage, node: node.clone(), attempt: task.attempt + 1 };
                if let Ok(after) = self.record(&[Event::TaskStarted { task }]) {
                    broken = broken.and(after.broken);
                }
            }
        }
        broken
    }

    /// The counts of a stage, counted here.
    fn counted(&self, stage: Stage) -> Counts {
        let mut counts = Counts::default();
        for (_, task) in self.rollout.tasks(stage) {
            let part = match task.progress {
                TaskState::Finished => &mut counts.finished,
                _ if task.waived => &mut counts.waived,
                TaskState::Scheduled | TaskState::Canceled => &mut counts.not_tried,
                TaskState::Preparing | TaskState::Applying => &mut counts.running,
                TaskState::Failed => &mut counts.failed,
                TaskState::Unknown | TaskState::Waived => &mut counts.unknown,
            };
            *part += 1;
        }
        counts
    }

    /// Everything that may wait, and whether it is over.
    fn subjects(&self) -> Vec<(Subject, bool)> {
        let ended = self.rollout.ended();
        let mut subjects = vec![(Subject::Rollout, ended)];
        for planned in &self.rollout.plan().body.stages {
            let stage = planned.stage;
            let task = |node: &NodeId| self.rollout.task(stage, node);
            let finished =
                |node: &NodeId| task(node).is_some_and(|task| task.progress == TaskState::Finished);
            let over = |node: &NodeId| ended || finished(node) || task(node).is_some_and(|task| task.waived);
            subjects.push((Subject::Stage { stage }, planned.tasks.keys().all(over)));
            let waves = planned.waves.iter().enumerate();
            subjects
                .extend(waves.map(|(wave, nodes)| (Subject::Wave { stage, wave }, nodes.iter().all(over))));
            let nodes = planned.tasks.keys();
            subjects.extend(
                nodes.map(|node| (Subject::Node { stage, node: node.clone() }, ended || finished(node))),
            );
        }
        subjects
    }

    fn replayed(&self) -> Option<Rollout> {
        let mut log: Vec<&Entry> = Vec::new();
        let mut last = self.log.as_deref();
        while let Some(logged) = last {
            log.push(&logged.entry);
            last = logged.before.as_deref();
        }
        let mut again = Rollout::new(self.rollout.id().clone(), self.rollout.plan().clone());
        log.iter().rev().all(|entry| again.apply(entry).is_ok()).then_some(again)
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.rollout.plan().body.nodes.keys().cloned().collect()
    }

    const fn observed<'a>(&self, links: &'a BTreeMap<NodeId, Link>) -> Observed<'a> {
        Observed { now: self.now, links, lost_after_ms: LOST_AFTER_MS }
    }

    /// Everything that may be seen: each node there, away, or away for long.
    fn seen(&self, mut look: impl FnMut(Observed<'_>)) {
        let nodes = self.nodes();
        let seen = [
            Link::Online { since: self.now },
            Link::Offline { since: self.now },
            Link::Offline { since: Timestamp(self.now.0 - LOST_AFTER_MS) },
        ];
        let mut combinations = vec![BTreeMap::new()];
        for node in &nodes {
            let with = |links: &BTreeMap<NodeId, Link>, link: &Link| {
                let mut links = links.clone();
                links.insert(node.clone(), *link);
                links
            };
            combinations = combinations
                .iter()
                .flat_map(|links| seen.iter().map(move |link| with(links, link)))
                .collect();
        }
        combinations.iter().for_each(|links| look(self.observed(links)));
    }

    /// Whether the rollout is finished.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.rollout.status().0 == Status::Finished
    }
}
