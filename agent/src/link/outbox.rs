//! What is still to be said in a session. Messages are made when the link has room for one, from what is then true: a
//! slow link makes reports rarer, never longer, and holds nobody up.

use super::message::ToCoordinator;
use crate::journal::Store;
use crate::output::{Output, Position};
use crate::worker::PreviewDone;
use std::collections::{BTreeSet, VecDeque};
use wavegate_common::facts::Facts;
use wavegate_common::id::NodeId;
use wavegate_common::journal::{Journal, TaskInJournal};
use wavegate_common::order::TaskKey;

/// Refusals and previews that may wait; beyond that the oldest is dropped, since whoever asked has asked again.
const WAITING: usize = 16;

/// What is still to be said in a session.
#[derive(Debug, Default)]
pub struct Outbox {
    hello: bool,
    welcomed: bool,
    heartbeat: bool,
    sequence: u64,
    refusals: VecDeque<(TaskKey, String)>,
    reports: BTreeSet<TaskKey>,
    facts: bool,
    previews: VecDeque<PreviewDone>,
    read: Position,
}

/// What messages are made from.
pub struct Sources<'a, S: Store> {
    /// The node.
    pub node: &'a NodeId,
    /// The last facts, if the node could be observed.
    pub facts: Option<&'a Facts>,
    /// The journal.
    pub journal: &'a S,
    /// The output of steps.
    pub output: &'a Output,
}

impl Outbox {
    /// The connection is there: the hello is to be said.
    pub const fn connected(&mut self) {
        self.hello = true;
    }

    /// The coordinator has answered, and its answer is good: everything else may be said. What it does not know to
    /// have ended is reported, and the output of the last task sent from its beginning.
    pub fn welcomed(&mut self, journal: &Journal, output: &Output) {
        self.welcomed = true;
        self.heartbeat = true;
        let open = |task: &&TaskInJournal| !task.acknowledged;
        let tasks = journal.current().into_iter().chain(journal.ended()).filter(open);
        self.reports = tasks.map(|task| task.order.key.clone()).collect();
        // Output of a task whose end the coordinator has was sent before, and is not sent at every reconnect for ever.
        self.read = if self.reports.is_empty() { output.end() } else { Position::default() };
    }

    /// A sign of life is due.
    pub const fn heartbeat(&mut self) {
        self.heartbeat = true;
    }

    /// A task is to be reported.
    pub fn report(&mut self, key: TaskKey) {
        self.reports.insert(key);
    }

    /// An order is refused.
    pub fn refuse(&mut self, key: TaskKey, reason: String) {
        self.refusals.push_back((key, reason));
        keep_last(&mut self.refusals);
    }

    /// There are fresh facts.
    pub const fn facts(&mut self) {
        self.facts = true;
    }

    /// A preview is ready.
    pub fn preview(&mut self, preview: PreviewDone) {
        self.previews.push_back(preview);
        keep_last(&mut self.previews);
    }

    /// Whether there is something to say.
    #[must_use]
    pub fn is_empty(&self, output: &Output) -> bool {
        let waiting = self.heartbeat
            || self.facts
            || !(self.refusals.is_empty() && self.reports.is_empty() && self.previews.is_empty());
        !self.hello && !(self.welcomed && (waiting || output.goes_on(&self.read)))
    }

    /// The next message.
    pub fn next<S: Store>(&mut self, from: &Sources<'_, S>) -> Option<ToCoordinator> {
        if std::mem::take(&mut self.hello) {
            let generation_seen = from.journal.read(Journal::generation);
            let facts = from.facts.cloned().map(Box::new);
            return Some(ToCoordinator::Hello { node: from.node.clone(), generation_seen, facts });
        }
        if !self.welcomed {
            return None;
        }
        if std::mem::take(&mut self.heartbeat) {
            self.sequence += 1;
            return Some(ToCoordinator::Heartbeat {
                sequence: self.sequence,
                at: from.journal.read(at_work),
            });
        }
        if let Some((key, reason)) = self.refusals.pop_front() {
            return Some(ToCoordinator::Refused { key, reason });
        }
        while let Some(key) = self.reports.pop_first() {
            if let Some(task) = from.journal.read(|journal| journal.task(&key).cloned()) {
                return Some(ToCoordinator::Report(Box::new(task)));
            }
        }
        // Before the previews: a preview is not to be seen with facts that are older.
        if let (true, Some(facts)) = (std::mem::take(&mut self.facts), from.facts) {
            return Some(ToCoordinator::Facts(Box::new(facts.clone())));
        }
        if let Some(preview) = self.previews.pop_front() {
            return Some(ToCoordinator::Preview(preview));
        }
        from.output.next_piece(&mut self.read).map(ToCoordinator::Output)
    }
}

fn keep_last<T>(waiting: &mut VecDeque<T>) {
    while waiting.len() > WAITING {
        waiting.pop_front();
    }
}

fn at_work(journal: &Journal) -> Option<(TaskKey, Option<wavegate_common::id::StepId>)> {
    let task = journal.current().filter(|task| task.result.is_none())?;
    Some((task.order.key.clone(), task.started.clone()))
}
