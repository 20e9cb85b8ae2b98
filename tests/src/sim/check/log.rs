//! A second reading of the event log, by the rules of the design's page and not by the production fold: who is where, and
//! whether what was started might be. It is kept as the log grows.

use super::{Invariant, Violation, must};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wavegate_common::id::{NodeId, PlanId};
use wavegate_common::order::TaskKey;
use wavegate_common::plan::Plan;
use wavegate_common::platform::{Role, Stage};
use wavegate_common::rollout::{Counts, Entry, Event, TaskRef, TaskResult};

/// Where a task is, by this reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    NotTried,
    InFlight,
    Finished,
    Failed,
    Unknown,
}

#[derive(Debug, Clone)]
struct Task {
    at: At,
    attempt: u32,
    accepted: bool,
}

/// A rollout's log, read so far.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The plan that is executed.
    pub plan: Arc<Plan>,
    entries: Vec<Entry>,
    tasks: BTreeMap<(Stage, NodeId), Task>,
    waived: BTreeSet<NodeId>,
    were_waived: BTreeSet<NodeId>,
    holding: bool,
    stopping: bool,
    ended: bool,
    /// The simulation's time at which each attempt was given out.
    started: BTreeMap<(Stage, NodeId, u32), u64>,
}

impl Reading {
    /// Of the log of a rollout of this plan, before its first event.
    #[must_use]
    pub fn new(plan: Arc<Plan>) -> Self {
        let nodes = plan
            .body
            .stages
            .iter()
            .flat_map(|stage| stage.tasks.keys().map(|node| (stage.stage, node.clone())));
        let tasks =
            nodes.map(|about| (about, Task { at: At::NotTried, attempt: 0, accepted: false })).collect();
        Self {
            plan,
            entries: Vec::new(),
            tasks,
            waived: BTreeSet::new(),
            were_waived: BTreeSet::new(),
            holding: true,
            stopping: false,
            ended: false,
            started: BTreeMap::new(),
        }
    }

    /// What was read so far.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether nothing may come any more.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }

    /// When an attempt was given out, if it was.
    #[must_use]
    pub fn started_at(&self, key: &TaskKey) -> Option<u64> {
        let ours = key.plan == self.plan.id;
        self.started.get(&(key.stage, key.node.clone(), key.attempt)).copied().filter(|_| ours)
    }

    /// Whether a node did not count at some time: what others began meanwhile they may bring to its end when it counts again.
    #[must_use]
    pub fn was_waived(&self, node: &NodeId) -> bool {
        self.were_waived.contains(node)
    }

    /// How many nodes of a stage may be in flight, failed or unknown.
    #[must_use]
    pub fn may_be_unavailable(&self, stage: Stage) -> usize {
        self.plan.stage(stage).map_or(0, |stage| stage.limits.max_unavailable as usize)
    }

    /// Whether none of these nodes, at work on a stage together, is an etcd member beside another one in stage etcd.
    #[must_use]
    pub fn may_be_together(&self, stage: Stage, nodes: &[&NodeId]) -> bool {
        let roles = |node: &NodeId| self.plan.body.nodes.get(node).map(|planned| &planned.roles);
        let member = |node: &&NodeId| roles(node).is_none_or(|roles| roles.contains(&Role::EtcdMember));
        stage != Stage::Etcd || nodes.len() < 2 || !nodes.iter().any(member)
    }

    /// Reads one entry, recorded at a time of the simulation.
    ///
    /// # Errors
    /// [`Violation`] if it must not be in the log.
    pub fn read(&mut self, entry: &Entry, at: u64) -> Result<(), Violation> {
        let expected = self.entries.len() as u64 + 1;
        must(Invariant::LogStays, entry.seq == expected, || {
            format!("event {} where {expected} was to come", entry.seq)
        })?;
        let late = matches!(
            entry.event,
            Event::TaskReturned { .. }
                | Event::TaskRestarted { .. }
                | Event::StepEnded { .. }
                | Event::TaskEnded { .. }
        );
        // What a node did that was lost when the rollout was stopped is still told when it is back.
        must(Invariant::NothingNew, !self.ended || late, || format!("after the end: {:?}", entry.event))?;
        match &entry.event {
            Event::Started { .. } | Event::Resumed { .. } => self.holding = false,
            Event::Paused { .. } => self.holding = true,
            Event::StopRequested { .. } => (self.holding, self.stopping) = (true, true),
            Event::Stopped | Event::Finished => self.ended = true,
            Event::TaskStarted { task } => self.start(task, at)?,
            Event::TaskAccepted { task } => self.task(task)?.accepted = true,
            Event::TaskReturned { task } => {
                let known = self.task(task)?;
                (known.at, known.accepted) = (At::InFlight, true);
            }
            Event::TaskLost { task } => self.task(task)?.at = At::Unknown,
            Event::TaskEnded { task, result } => {
                self.task(task)?.at = match result {
                    TaskResult::Finished => At::Finished,
                    TaskResult::Failed => At::Failed,
                };
            }
            Event::TaskRetried { task, .. } => self.task(task)?.at = At::NotTried,
            Event::NodeWaived { node, .. } => {
                self.waived.insert(node.clone());
                self.were_waived.insert(node.clone());
            }
            Event::WaiverEnded { node, .. } => drop(self.waived.remove(node)),
            Event::StepEnded { .. }
            | Event::TaskOverdue { .. }
            | Event::TaskRestarted { .. }
            | Event::WaveReleased { .. } => {}
        }
        if entry.event == Event::Finished {
            let left = Stage::ALL.iter().find_map(|stage| self.first_unsettled(*stage));
            must(Invariant::Barrier, left.is_none(), || format!("finished, and {left:?} is not"))?;
        }
        self.entries.push(entry.clone());
        Ok(())
    }

    fn start(&mut self, task: &TaskRef, at: u64) -> Result<(), Violation> {
        let TaskRef { stage, node, attempt } = task;
        must(Invariant::NothingNew, !self.holding && !self.stopping, || {
            format!("{node} was given stage {stage} while the rollout did not run")
        })?;
        for earlier in Stage::ALL.iter().filter(|earlier| *earlier < stage) {
            let open = self.first_unsettled(*earlier);
            must(Invariant::Barrier, open.is_none(), || {
                format!("{node} was given stage {stage} while {open:?} was not finished")
            })?;
        }
        let waived = self.waived.contains(node);
        let known = self.task(&TaskRef { attempt: attempt.saturating_sub(1), ..task.clone() })?;
        let fresh = known.at == At::NotTried && !waived;
        must(Invariant::NothingNew, fresh, || format!("{node} was given stage {stage} twice, or is waived"))?;
        *known = Task { at: At::InFlight, attempt: *attempt, accepted: false };
        self.started.insert((*stage, node.clone(), *attempt), at);
        let (away, allowed) = (self.unavailable(*stage), self.may_be_unavailable(*stage));
        must(Invariant::OneMember, self.may_be_together(*stage, &away), || {
            format!("{node} was given stage {stage} and is not alone, but one of {away:?}")
        })?;
        must(Invariant::Unavailable, away.len() <= allowed, || {
            format!(
                "{away:?} of stage {stage} are in flight, failed or unknown with {node}; {allowed} may be"
            )
        })
    }

    /// Whether an order may be sent now: its attempt is in the log, and a node that may not have had it gets it only while
    /// the rollout runs.
    ///
    /// # Errors
    /// [`Violation`] if not.
    pub fn sent(&self, key: &TaskKey) -> Result<(), Violation> {
        must(Invariant::NothingNew, self.started_at(key).is_some(), || {
            format!("{key} was sent and is not in the log")
        })?;
        let task = self.tasks.get(&(key.stage, key.node.clone()));
        let open = task.is_some_and(|task| {
            task.attempt == key.attempt && (task.accepted || !self.holding) && !self.ended
        });
        must(Invariant::NothingNew, open, || format!("{key} was sent while it might not be"))
    }

    /// Whether counts are those of this reading.
    ///
    /// # Errors
    /// [`Violation`] if not.
    pub fn counted(&self, stage: Stage, counts: Counts) -> Result<(), Violation> {
        let mut ours = Counts::default();
        for ((_, node), task) in self.of(stage) {
            let part = match task.at {
                At::Finished => &mut ours.finished,
                _ if self.waived.contains(node) => &mut ours.waived,
                At::NotTried => &mut ours.not_tried,
                At::InFlight => &mut ours.running,
                At::Failed => &mut ours.failed,
                At::Unknown => &mut ours.unknown,
            };
            *part += 1;
        }
        let nodes = self.of(stage).count();
        must(Invariant::Counts, ours == counts && counts.total() as usize == nodes, || {
            format!("stage {stage} of {nodes} nodes: {counts:?} is said, the log says {ours:?}")
        })
    }

    fn of(&self, stage: Stage) -> impl Iterator<Item = (&(Stage, NodeId), &Task)> {
        self.tasks.iter().filter(move |((of, _), _)| *of == stage)
    }

    fn unavailable(&self, stage: Stage) -> Vec<&NodeId> {
        let counts = |((_, node), task): &(&(Stage, NodeId), &Task)| {
            matches!(task.at, At::InFlight | At::Failed | At::Unknown) && !self.waived.contains(node)
        };
        self.of(stage).filter(counts).map(|((_, node), _)| node).collect()
    }

    fn first_unsettled(&self, stage: Stage) -> Option<(Stage, NodeId)> {
        let open = |((_, node), task): &(&(Stage, NodeId), &Task)| {
            task.at != At::Finished && !self.waived.contains(node)
        };
        self.of(stage).find(open).map(|(about, _)| about.clone())
    }

    fn task(&mut self, about: &TaskRef) -> Result<&mut Task, Violation> {
        let known = self.tasks.get_mut(&(about.stage, about.node.clone()));
        let known = known.filter(|task| task.attempt == about.attempt);
        known.ok_or_else(|| Violation {
            invariant: Invariant::LogStays,
            what: format!("an event about {about:?}, which the plan or the log before it does not have"),
        })
    }
}

/// The logs of every rollout that there was, by its plan.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    readings: BTreeMap<PlanId, Reading>,
}

impl Logs {
    /// The log of a plan's rollout, begun if it was not seen before.
    pub fn of_plan(&mut self, plan: &Arc<Plan>) -> &mut Reading {
        self.readings.entry(plan.id.clone()).or_insert_with(|| Reading::new(plan.clone()))
    }

    /// The log of a plan's rollout, if there is one.
    #[must_use]
    pub fn of(&self, plan: &PlanId) -> Option<&Reading> {
        self.readings.get(plan)
    }

    /// When an attempt was given out, if it was.
    #[must_use]
    pub fn started_at(&self, key: &TaskKey) -> Option<u64> {
        self.of(&key.plan)?.started_at(key)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<&[Entry]> {
        self.readings.values().map(Reading::entries).collect()
    }

    /// How many events they have.
    #[must_use]
    pub fn events(&self) -> usize {
        self.readings.values().map(|reading| reading.entries.len()).sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sim::fleet;
    use wavegate_agent::host::fake::FakeHost;
    use wavegate_common::id::{Actor, Generation, Timestamp};
    use wavegate_common::rollout::{Mode, PauseReason};
    use wavegate_common::waves::{Amount, WaveOverride};

    const ETCD: &str = "debian-etcd";
    const COMPUTE: [&str; 3] = ["debian-compute", "redhat-compute", "trusty-compute"];

    /// The log of a rollout over one machine of each kind, two compute nodes at a time.
    pub struct Log(Reading);

    impl Log {
        pub fn started() -> Self {
            let hosts: BTreeMap<NodeId, FakeHost> = fleet::one_of_each()
                .into_iter()
                .map(|(name, kind)| (NodeId::new(name).expect("a name"), FakeHost::new(kind.machine())))
                .collect();
            let hosts = hosts.iter().map(|(node, host)| (node.clone(), host)).collect();
            let two = WaveOverride { max_unavailable: Some(Amount::Count(2)), ..WaveOverride::default() };
            let waves = [(Stage::Etcd, two.clone()), (Stage::Compute, two)].into();
            let plan = fleet::plan(&hosts, waves, Timestamp(0), by()).expect("a plan");
            let mut log = Self(Reading::new(Arc::new(plan)));
            log.say(Event::Started {
                mode: Mode::Auto,
                by: by(),
                approved_by: Vec::new(),
                acknowledged: Vec::new(),
            })
            .expect("it may start");
            log
        }

        fn say(&mut self, event: Event) -> Result<(), Violation> {
            let seq = self.0.entries().len() as u64 + 1;
            self.0.read(&Entry { seq, at: Timestamp(seq), generation: Generation(1), event }, seq)
        }

        pub fn start(&mut self, stage: Stage, node: &str) -> Result<(), Violation> {
            self.say(Event::TaskStarted { task: task(stage, node) })
        }

        pub fn finish(&mut self, stage: Stage, node: &str) {
            self.start(stage, node).expect("it may be started");
            let ended = Event::TaskEnded { task: task(stage, node), result: TaskResult::Finished };
            self.say(ended).expect("it may end");
        }

        /// Its plan's id.
        pub fn plan(&self) -> PlanId {
            self.0.plan.id.clone()
        }

        /// It, as the only one.
        pub fn logs(&self) -> Logs {
            Logs { readings: [(self.plan(), self.0.clone())].into() }
        }

        pub fn etcd_is_done(&mut self) {
            for node in [ETCD, "trusty-etcd", "redhat-etcd"] {
                self.finish(Stage::Etcd, node);
            }
        }
    }

    fn by() -> Actor {
        Actor("op".to_owned())
    }

    fn task(stage: Stage, node: &str) -> TaskRef {
        TaskRef { stage, node: NodeId::new(node).expect("a name"), attempt: 1 }
    }

    fn broken(found: Result<(), Violation>) -> Invariant {
        found.expect_err("it must not be").invariant
    }

    #[test]
    fn a_stage_before_its_turn_is_found() {
        assert_eq!(broken(Log::started().start(Stage::Compute, COMPUTE[0])), Invariant::Barrier);
        let mut log = Log::started();
        log.etcd_is_done();
        log.start(Stage::Compute, COMPUTE[0]).expect("etcd is done");
        assert_eq!(broken(log.say(Event::Finished)), Invariant::Barrier);
    }

    #[test]
    fn too_many_at_once_are_found() {
        let mut log = Log::started();
        log.start(Stage::Etcd, ETCD).expect("the first");
        assert_eq!(
            broken(log.start(Stage::Etcd, "trusty-etcd")),
            Invariant::OneMember,
            "whatever the plan says"
        );
        let mut log = Log::started();
        log.etcd_is_done();
        log.start(Stage::Compute, COMPUTE[0]).expect("the first");
        log.say(Event::TaskLost { task: task(Stage::Compute, COMPUTE[0]) }).expect("it is lost");
        log.start(Stage::Compute, COMPUTE[1]).expect("the second");
        assert_eq!(broken(log.start(Stage::Compute, COMPUTE[2])), Invariant::Unavailable);
    }

    #[test]
    fn what_is_begun_while_nothing_may_be_is_found() {
        let reason = PauseReason::Operator { by: by() };
        let orders = [Event::Paused { reason }, Event::StopRequested { by: by() }];
        for order in orders {
            let mut log = Log::started();
            log.start(Stage::Etcd, ETCD).expect("it runs");
            log.say(order).expect("an operator");
            assert_eq!(broken(log.start(Stage::Etcd, "trusty-etcd")), Invariant::NothingNew);
        }
        let mut log = Log::started();
        log.finish(Stage::Etcd, ETCD);
        assert_eq!(broken(log.start(Stage::Etcd, ETCD)), Invariant::LogStays, "an attempt that was");
        log.say(Event::Stopped).expect("it ends");
        assert_eq!(broken(log.say(Event::Resumed { by: by() })), Invariant::NothingNew, "after the end");
    }

    #[test]
    fn an_order_that_might_not_be_sent_is_found() {
        let mut log = Log::started();
        let plan = log.0.plan.clone();
        let key = |node: &str| TaskKey {
            rollout: wavegate_common::id::RolloutId::new("r1").expect("an id"),
            plan: plan.id.clone(),
            stage: Stage::Etcd,
            node: NodeId::new(node).expect("a name"),
            attempt: 1,
        };
        assert_eq!(broken(log.0.sent(&key(ETCD))), Invariant::NothingNew, "it is not in the log");
        log.start(Stage::Etcd, ETCD).expect("it runs");
        log.0.sent(&key(ETCD)).expect("it was given out");
        log.say(Event::Paused { reason: PauseReason::Operator { by: by() } }).expect("an operator");
        assert_eq!(
            broken(log.0.sent(&key(ETCD))),
            Invariant::NothingNew,
            "nobody knows that the node had it"
        );
        log.say(Event::TaskAccepted { task: task(Stage::Etcd, ETCD) }).expect("it had it");
        log.0.sent(&key(ETCD)).expect("it had it");
    }

    #[test]
    fn counts_that_do_not_add_up_are_found() {
        let mut log = Log::started();
        log.start(Stage::Etcd, ETCD).expect("it runs");
        let right = Counts { running: 1, not_tried: 2, ..Counts::default() };
        log.0.counted(Stage::Etcd, right).expect("they are right");
        for wrong in [Counts { not_tried: 1, ..right }, Counts { running: 0, failed: 1, ..right }] {
            assert_eq!(broken(log.0.counted(Stage::Etcd, wrong)), Invariant::Counts);
        }
    }

    #[test]
    fn a_gap_in_the_log_is_found() {
        let mut log = Log::started();
        let entry = Entry { seq: 3, at: Timestamp(0), generation: Generation(1), event: Event::Stopped };
        assert_eq!(broken(log.0.read(&entry, 0)), Invariant::LogStays);
    }
}
