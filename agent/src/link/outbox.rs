//! What is still to be said in a session. Messages are made when the link has room for one, from what is then true: a
//! slow link makes reports rarer, never longer, and holds nobody up.

use super::message::{KeyAsGiven, ToCoordinator};
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
    refusals: VecDeque<(KeyAsGiven, String)>,
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
    /// What the open task stands still for, if it does.
    pub stands_still: Option<&'a str>,
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
    pub fn refuse(&mut self, key: KeyAsGiven, reason: String) {
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

    /// Whether something of it can't wait for more: everything but how a task goes on, and what it prints meanwhile if that is little.
    /// Of much, what is not said in time would be lost.
    #[must_use]
    pub fn is_pressed(&self, journal: &Journal, output: &Output) -> bool {
        let goes_on = |key| journal.task(key).is_some_and(|task| task.result.is_none());
        let printed_last = at_work(journal).is_none() && output.goes_on(&self.read);
        self.hello
            || self.heartbeat
            || self.facts
            || !(self.refusals.is_empty() && self.previews.is_empty())
            || printed_last
            || output.has_whole_piece(&self.read)
            || !self.reports.iter().all(goes_on)
    }

    /// The next message.
    pub fn next<S: Store>(&mut self, from: &Sources<'_, S>) -> Option<ToCoordinator> {
        if std::mem::take(&mut self.hello) {
            let seen = from.journal.read(Journal::leader);
            let facts = from.facts.cloned().map(Box::new);
            return Some(ToCoordinator::Hello { node: from.node.clone(), seen, facts });
        }
        if !self.welcomed {
            return None;
        }
        if std::mem::take(&mut self.heartbeat) {
            self.sequence += 1;
            return Some(ToCoordinator::Heartbeat {
                sequence: self.sequence,
                at: from.journal.read(at_work),
                stands_still: from.stands_still.map(str::to_owned),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{JournalFile, SharedJournal};
    use wavegate_common::id::{Generation, PlanId, RolloutId, StepId, Timestamp};
    use wavegate_common::journal::Record;
    use wavegate_common::order::{Steps, TaskOrder};
    use wavegate_common::platform::Stage;
    use wavegate_common::rollout::TaskResult;

    struct Node {
        _state: tempfile::TempDir,
        journal: SharedJournal,
        output: Output,
        name: NodeId,
    }

    impl Node {
        fn new() -> Self {
            let state = tempfile::tempdir().expect("a directory");
            let journal = SharedJournal::new(JournalFile::open(state.path()).expect("a journal").0);
            let name = NodeId::new("n1").expect("a name");
            Self { _state: state, journal, output: Output::default(), name }
        }

        fn key(&self, attempt: u32) -> TaskKey {
            let (rollout, node) = (RolloutId::new("r1").expect("an id"), self.name.clone());
            let plan = PlanId::new("p1").expect("an id");
            TaskKey { rollout, plan, stage: Stage::Etcd, node, attempt }
        }

        /// A task that ended, with a line of output; acknowledged or not.
        fn ended(&self, attempt: u32, acknowledged: bool) {
            let (key, at) = (self.key(attempt), Timestamp(1));
            let order = TaskOrder {
                key: key.clone(),
                generation: Generation(2),
                planned: None,
                steps: Steps::default(),
            };
            self.append(Record::Accepted { order, at });
            self.append(Record::TaskEnded { key: key.clone(), result: TaskResult::Finished, at });
            if acknowledged {
                self.append(Record::Acknowledged { key: key.clone() });
            }
            self.output.begin(&key, &StepId::new("a").expect("an id"));
            self.output.line("done");
        }

        fn append(&self, record: Record) {
            self.journal.append(&record).expect("recorded");
        }

        fn next(&self, outbox: &mut Outbox) -> Option<String> {
            let from = Sources {
                node: &self.name,
                facts: None,
                journal: &self.journal,
                output: &self.output,
                stands_still: None,
            };
            outbox.next(&from).map(|message| match message {
                ToCoordinator::Hello { seen, .. } => format!("hello {}", seen.generation),
                ToCoordinator::Heartbeat { sequence, .. } => format!("heartbeat {sequence}"),
                ToCoordinator::Report(task) => format!("report {}", task.order.key.attempt),
                ToCoordinator::Refused { reason, .. } => format!("refused {reason}"),
                ToCoordinator::Output(piece) => format!("output {} {}", piece.key.attempt, piece.offset),
                ToCoordinator::Preview(done) => format!("preview {}", done.request),
                ToCoordinator::Facts(_) => "facts".to_owned(),
            })
        }

        fn said(&self, outbox: &mut Outbox) -> Vec<String> {
            let mut said = Vec::new();
            while !outbox.is_empty(&self.output) {
                said.extend(self.next(outbox));
            }
            said
        }
    }

    fn welcomed(node: &Node) -> Outbox {
        let mut outbox = Outbox::default();
        node.journal.read(|journal| outbox.welcomed(journal, &node.output));
        outbox
    }

    #[test]
    fn nothing_but_the_hello_is_said_before_the_welcome() {
        let node = Node::new();
        node.ended(1, false);
        let mut outbox = Outbox::default();
        outbox.report(node.key(1));
        outbox.facts();
        outbox.refuse(node.key(2).into(), "busy".to_owned());
        assert!(outbox.is_empty(&node.output));
        outbox.connected();
        assert_eq!(node.said(&mut outbox), ["hello 2"]);
    }

    #[test]
    fn a_new_session_hears_of_every_end_that_was_not_acknowledged() {
        let node = Node::new();
        node.ended(1, true);
        assert_eq!(node.said(&mut welcomed(&node)), ["heartbeat 1"]);
        node.ended(2, false);
        node.ended(3, false);
        assert_eq!(node.said(&mut welcomed(&node)), ["heartbeat 1", "report 2", "report 3", "output 3 0"]);
    }

    #[test]
    fn how_a_task_goes_on_can_wait_and_its_end_cannot() {
        let node = Node::new();
        node.ended(1, true);
        let mut outbox = welcomed(&node);
        let pressed = |outbox: &Outbox| node.journal.read(|journal| outbox.is_pressed(journal, &node.output));
        assert!(pressed(&outbox), "the first heartbeat");
        node.said(&mut outbox);
        assert!(!pressed(&outbox), "there is nothing to say");
        let at = Timestamp(2);
        let order =
            TaskOrder { key: node.key(2), generation: Generation(2), planned: None, steps: Steps::default() };
        node.append(Record::Accepted { order, at });
        outbox.report(node.key(2));
        node.output.begin(&node.key(2), &StepId::new("a").expect("an id"));
        node.output.line("half");
        assert!(!outbox.is_empty(&node.output) && !pressed(&outbox), "it goes on");
        node.append(Record::TaskEnded { key: node.key(2), result: TaskResult::Finished, at });
        assert!(pressed(&outbox), "it has ended");
        node.said(&mut outbox);
        assert!(!pressed(&outbox), "all is said");
        node.output.line("the last words");
        assert!(pressed(&outbox), "nothing more comes");
        node.said(&mut outbox);
        outbox.refuse(node.key(3).into(), "busy".to_owned());
        assert!(pressed(&outbox), "an order is refused");
    }

    #[test]
    fn a_step_that_prints_much_is_said_as_fast_as_the_link_goes() {
        let node = Node::new();
        node.ended(1, true);
        let mut outbox = welcomed(&node);
        node.said(&mut outbox);
        let (key, at) = (node.key(2), Timestamp(2));
        let order =
            TaskOrder { key: key.clone(), generation: Generation(2), planned: None, steps: Steps::default() };
        node.append(Record::Accepted { order, at });
        let pressed = |outbox: &Outbox| node.journal.read(|journal| outbox.is_pressed(journal, &node.output));
        node.output.begin(&key, &StepId::new("a").expect("an id"));
        (0..31).for_each(|_| node.output.line(&"x".repeat(1023)));
        assert!(!outbox.is_empty(&node.output) && !pressed(&outbox), "not yet a whole piece");
        (31..80).for_each(|_| node.output.line(&"x".repeat(1023)));
        let mut said = Vec::new();
        while pressed(&outbox) {
            said.extend(node.next(&mut outbox));
        }
        assert_eq!(said, ["output 2 0", "output 2 32768"]);
        assert_eq!(node.said(&mut outbox), ["output 2 65536"]);
    }

    #[test]
    fn a_slow_link_hears_the_last_of_many_changes() {
        let node = Node::new();
        node.ended(1, true);
        let mut outbox = welcomed(&node);
        for request in 0..40 {
            outbox.report(node.key(1));
            outbox.heartbeat();
            outbox.refuse(node.key(2).into(), request.to_string());
            outbox.preview(PreviewDone { request, stage: "etcd".to_owned(), previews: Vec::new() });
        }
        let said = node.said(&mut outbox);
        let of = |kind: &str| said.iter().filter(|message| message.starts_with(kind)).count();
        assert_eq!((of("heartbeat"), of("report"), of("refused"), of("preview")), (1, 1, WAITING, WAITING));
        assert_eq!(said.last().map(String::as_str), Some("preview 39"));
    }
}
