//! What hosts do, and when: seen on the machines and in their journals as it happens, without a look at what the coordinator
//! thinks of it. The log is asked for one thing alone: whether what a node works on was ever given out.

use super::log::Logs;
use super::{Invariant, Violation, must};
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::id::{NodeId, PlanId};
use wavegate_common::journal::{Journal, TaskInJournal};
use wavegate_common::order::TaskKey;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::TaskResult;

/// What was seen on the hosts so far.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    accepted: BTreeSet<TaskKey>,
    /// Tasks that ended well on their node, whatever the coordinator knows.
    finished: BTreeSet<(PlanId, Stage, NodeId)>,
    /// What each node is at.
    working: BTreeMap<NodeId, TaskKey>,
    /// Orders that nobody gave: a node must not take them.
    forged: BTreeSet<TaskKey>,
}

impl Hosts {
    /// An order that nobody gave is under way to a node.
    pub fn forged(&mut self, key: TaskKey) {
        self.forged.insert(key);
    }

    /// Tasks that nodes have taken.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// A node's journal, as it is now.
    ///
    /// # Errors
    /// [`Violation`] if it has an order that it must not have, or too many nodes are at work.
    pub fn journal(&mut self, node: &NodeId, journal: &Journal, logs: &Logs) -> Result<(), Violation> {
        for task in journal.ended().iter().chain(journal.current()) {
            self.task(node, task, logs)?;
        }
        let at = journal.current().filter(|task| task.result.is_none()).map(|task| task.order.key.clone());
        let before = match at.clone() {
            Some(key) => self.working.insert(node.clone(), key),
            None => self.working.remove(node),
        };
        match at {
            Some(key) if before.as_ref() != Some(&key) => self.enough_are_left(&key, logs),
            _ => Ok(()),
        }
    }

    fn task(&mut self, node: &NodeId, task: &TaskInJournal, logs: &Logs) -> Result<(), Violation> {
        let key = &task.order.key;
        if task.result == Some(TaskResult::Finished) {
            self.finished.insert((key.plan.clone(), key.stage, node.clone()));
        }
        if !self.accepted.insert(key.clone()) {
            return Ok(());
        }
        must(Invariant::Fenced, key.node == *node, || {
            format!("{node} took an order for another node: {key}")
        })?;
        must(Invariant::Fenced, !self.forged.contains(key), || {
            format!("{node} took an order that nobody gave: {key}")
        })?;
        must(Invariant::NothingNew, logs.started_at(key).is_some(), || {
            format!("{node} took {key}, which the log does not have")
        })
    }

    /// Nodes that were waived do not count: an operator said so.
    fn enough_are_left(&self, new: &TaskKey, logs: &Logs) -> Result<(), Violation> {
        let Some(log) = logs.of(&new.plan) else { return Ok(()) };
        let counts = |(node, key): &(&NodeId, &TaskKey)| {
            key.plan == new.plan && key.stage == new.stage && !log.was_waived(node)
        };
        let at_work: Vec<&NodeId> = self.working.iter().filter(counts).map(|(node, _)| node).collect();
        let waived = log.was_waived(&new.node);
        must(Invariant::OneMember, waived || log.may_be_together(new.stage, &at_work), || {
            format!(
                "{at_work:?} are at work on stage {} with {}, and a member is to be alone",
                new.stage, new.node
            )
        })?;
        let allowed = log.may_be_unavailable(new.stage);
        must(Invariant::Unavailable, waived || at_work.len() <= allowed, || {
            format!("{at_work:?} are at work on stage {} with {}; {allowed} may be", new.stage, new.node)
        })?;
        let other = self.working.values().find(|key| key.plan != new.plan && !log.was_waived(&key.node));
        must(Invariant::NothingNew, other.is_none(), || {
            format!(
                "{new} was begun while {} was at work for another rollout",
                other.map_or("nobody", |key| key.node.as_str())
            )
        })
    }

    /// A node does something to its machine, by its journal for this task.
    ///
    /// # Errors
    /// [`Violation`] if an earlier stage is not done on every host.
    pub fn effect(&self, key: &TaskKey, line: &str, logs: &Logs) -> Result<(), Violation> {
        must(Invariant::EffectOnce, self.working.get(&key.node) == Some(key), || {
            format!("{} does '{line}' without a task", key.node)
        })?;
        let Some(log) = logs.of(&key.plan) else { return Ok(()) };
        for earlier in log.plan.body.stages.iter().filter(|earlier| earlier.stage < key.stage) {
            let done = |node: &&NodeId| {
                let about = (key.plan.clone(), earlier.stage, (*node).clone());
                log.was_waived(node) || self.finished.contains(&about)
            };
            let open = earlier.tasks.keys().find(|node| !done(node));
            must(Invariant::Barrier, open.is_none(), || {
                let (node, open) = (&key.node, open.map_or("?", NodeId::as_str));
                format!(
                    "{node} does '{line}' of stage {} and stage {} is not finished on {open}",
                    key.stage, earlier.stage
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::Log;
    use super::*;
    use wavegate_common::id::{Generation, RolloutId, Timestamp};
    use wavegate_common::journal::Record;
    use wavegate_common::order::{Steps, TaskOrder};

    /// What a node's journal has when it took this task.
    fn at_work(key: &TaskKey) -> Journal {
        let order =
            TaskOrder { key: key.clone(), generation: Generation(1), planned: None, steps: Steps::default() };
        let mut journal = Journal::default();
        journal.apply(&Record::Accepted { order, at: Timestamp(0) }).expect("it is idle");
        journal
    }

    fn key(log: &Log, stage: Stage, node: &str) -> TaskKey {
        let (rollout, plan) = (RolloutId::new("r1").expect("an id"), log.plan());
        TaskKey { rollout, plan, stage, node: NodeId::new(node).expect("a name"), attempt: 1 }
    }

    /// A node takes a task.
    fn take(hosts: &mut Hosts, log: &Log, key: &TaskKey) -> Result<(), Violation> {
        hosts.journal(&key.node, &at_work(key), &log.logs())
    }

    #[test]
    fn a_task_that_nobody_gave_out_or_of_another_node_is_found() {
        let (mut hosts, log) = (Hosts::default(), Log::started());
        let key = key(&log, Stage::Etcd, "debian-etcd");
        let taken = hosts.clone().journal(&key.node, &at_work(&key), &log.logs());
        assert_eq!(taken.expect_err("not in the log").invariant, Invariant::NothingNew);
        let other = NodeId::new("trusty-etcd").expect("a name");
        let taken = hosts.clone().journal(&other, &at_work(&key), &log.logs());
        assert_eq!(taken.expect_err("another node's").invariant, Invariant::Fenced);
        hosts.forged(key.clone());
        assert_eq!(take(&mut hosts, &log, &key).expect_err("forged").invariant, Invariant::Fenced);
    }

    #[test]
    fn too_many_hosts_at_work_are_found_whatever_the_log_says() {
        let (mut hosts, mut log) = (Hosts::default(), Log::started());
        log.etcd_is_done();
        for node in ["debian-compute", "redhat-compute", "trusty-compute"] {
            // The log has the end of each before the next begins; the hosts do not.
            log.finish(Stage::Compute, node);
            let taken = take(&mut hosts, &log, &key(&log, Stage::Compute, node));
            assert_eq!(taken.is_err(), node == "trusty-compute", "{taken:?}");
        }
        let (mut hosts, mut log) = (Hosts::default(), Log::started());
        log.etcd_is_done();
        take(&mut hosts, &log, &key(&log, Stage::Etcd, "debian-etcd")).expect("the first");
        let second = take(&mut hosts, &log, &key(&log, Stage::Etcd, "trusty-etcd"));
        assert_eq!(second.expect_err("another is at work").invariant, Invariant::OneMember);
    }

    #[test]
    fn what_is_done_to_a_host_before_its_turn_is_found_whatever_the_log_says() {
        let (mut hosts, mut log) = (Hosts::default(), Log::started());
        log.etcd_is_done();
        log.start(Stage::Compute, "debian-compute").expect("the log has no objection");
        let key = key(&log, Stage::Compute, "debian-compute");
        let idle = hosts.effect(&key, "apt-get install", &log.logs());
        assert_eq!(idle.expect_err("it has no task").invariant, Invariant::EffectOnce);
        take(&mut hosts, &log, &key).expect("it was given out");
        let early = hosts.effect(&key, "apt-get install", &log.logs());
        assert_eq!(early.expect_err("no host has finished").invariant, Invariant::Barrier);
    }
}
