//! One node: its production journal, and the machine that does what the journal says next.
//!
//! The machine trusts its journal more than the agent does: it looks before it acts only where the journal says that the
//! step was begun before, or the order that there was an earlier attempt. So a journal that forgets is found out by what
//! takes effect twice.

use crate::invariant::{Broken, Invariant};
use crate::shape::{ATTEMPTS, GENERATIONS, STEPS};
use crate::table::Identity;
use wavegate_common::id::{Generation, LeaderId, PlanId, RolloutId, StepId, Timestamp};
use wavegate_common::journal::{Journal, Next, Record, TaskInJournal, Verdict};
use wavegate_common::leader::Leader;
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_common::outcome::{Outcome, StepError};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::Report;

/// Every record of the model is of one moment: what follows from time is `coordinator`'s.
pub const AT: Timestamp = Timestamp(1_000);

/// What the agent has in its hands and not on disk: gone with a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    Empty,
    /// The start of the step is recorded; whether the machine is looked at before it is touched.
    Began {
        looks: bool,
    },
    /// The step has taken effect, and its record is not written.
    Done,
}

/// What can happen to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happens<'a> {
    /// A session begins with a coordinator of this generation.
    Welcome(Generation),
    /// An order arrives.
    Order(&'a TaskOrder),
    /// The agent goes on with its open task by one record, or by one effect on the machine.
    Work,
    /// The step in hand fails.
    Fails,
    /// The agent is killed and started again.
    Crash,
    /// The coordinator has the end of this task in its log.
    Acknowledged(&'a TaskKey),
    /// The agent's state directory is lost, and with it the journal.
    LosesJournal,
}

/// A node between two things that happen to it.
#[derive(Debug, Clone)]
pub struct Node {
    number: usize,
    journal: Journal,
    hand: Hand,
    /// Steps that have taken effect on the machine: a bit each, see [`effect`].
    effects: u16,
    /// A step took effect a second time.
    twice: bool,
    /// Orders that were taken since the journal began: a bit each, see [`taken`]. The journal is not asked.
    taken: u32,
    /// Orders that were ever taken.
    had: u32,
    /// The highest generation that this node was told of. The journal is not asked.
    told: Generation,
    /// The journal that was lost: reports made from it may still be on their way.
    lost: Option<Box<Journal>>,
}

/// The bit of a step's effect.
#[must_use]
pub fn effect(stage: Stage, step: usize) -> u16 {
    1 << (place(stage) * STEPS + step)
}

fn taken(stage: Stage, attempt: u32) -> u32 {
    1 << (place(stage) as u32 * (ATTEMPTS + 1) + attempt)
}

/// The place of a stage among the stages.
#[must_use]
pub const fn place(stage: Stage) -> usize {
    match stage {
        Stage::Etcd => 0,
        Stage::Compute => 1,
        Stage::Control => 2,
    }
}

impl Node {
    /// A node of this number in the fleet, which has never heard of a coordinator.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self {
            number,
            journal: Journal::default(),
            hand: Hand::Empty,
            effects: 0,
            twice: false,
            taken: 0,
            had: 0,
            told: Generation::default(),
            lost: None,
        }
    }

    /// Everything that a node is: nothing is left out.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::of(&format!("{self:?}"))
    }

    /// What comes of it; `None` if nothing does.
    #[must_use]
    pub fn after(&self, happens: Happens<'_>) -> Option<Self> {
        let mut node = self.clone();
        let happened = match happens {
            Happens::Welcome(generation) => node.welcomed(generation),
            Happens::Order(order) => node.ordered(order),
            Happens::Work => node.works(),
            Happens::Fails => node.fails(),
            Happens::Crash => node.crashes(),
            Happens::Acknowledged(key) => node.acknowledged(key),
            Happens::LosesJournal => node.loses_journal(),
        };
        happened.then_some(node)
    }

    fn record(&mut self, record: &Record) -> bool {
        self.journal.apply(record).is_ok()
    }

    fn welcomed(&mut self, generation: Generation) -> bool {
        let leader = ours(generation);
        if self.journal.judge_leader(leader) != Ok(true) {
            return false;
        }
        self.told = self.told.max(generation);
        self.record(&Record::Generation { generation, leader: leader.id })
    }

    /// An order comes in a session that began with a welcome. A node that has met a later coordinator since has ended that
    /// session; should an order of it come all the same, the journal is asked about it.
    fn ordered(&mut self, order: &TaskOrder) -> bool {
        if order.generation > self.told {
            self.welcomed(order.generation);
        }
        if self.journal.judge(order) != Verdict::Accept {
            return false;
        }
        let bit = taken(order.key.stage, order.key.attempt);
        (self.taken, self.had) = (self.taken | bit, self.had | bit);
        self.hand = Hand::Empty;
        self.record(&Record::Accepted { order: order.clone(), at: AT })
    }

    fn works(&mut self) -> bool {
        let Some(task) = self.journal.current() else { return false };
        let key = task.order.key.clone();
        let index = match self.journal.next() {
            Next::Idle => return false,
            Next::End { result } => return self.record(&Record::TaskEnded { key, result, at: AT }),
            Next::Step { index, interrupted } if self.hand == Hand::Empty => {
                self.hand = Hand::Began { looks: interrupted || key.attempt > 1 || self.lost.is_some() };
                let step = task.order.steps[index].id.clone();
                return self.record(&Record::StepStarted { key, step, at: AT });
            }
            Next::Step { index, .. } => index,
        };
        let step = task.order.steps[index].id.clone();
        let bit = effect(key.stage, index);
        let outcome = match self.hand {
            Hand::Began { looks: true } if self.effects & bit != 0 => {
                Outcome::AlreadySo { evidence: String::new() }
            }
            Hand::Empty | Hand::Began { .. } => {
                self.twice |= self.effects & bit != 0;
                self.effects |= bit;
                self.hand = Hand::Done;
                return true;
            }
            Hand::Done => Outcome::Changed { changes: Vec::new(), evidence: String::new() },
        };
        self.ends(key, step, outcome)
    }

    fn fails(&mut self) -> bool {
        let (Some(task), Next::Step { index, .. }) = (self.journal.current(), self.journal.next()) else {
            return false;
        };
        if self.hand == Hand::Empty {
            return false;
        }
        let (key, step) = (task.order.key.clone(), task.order.steps[index].id.clone());
        let error = StepError { what: String::new(), output: Vec::new(), next: String::new() };
        self.ends(key, step, Outcome::Failed { error })
    }

    fn ends(&mut self, key: TaskKey, step: StepId, outcome: Outcome) -> bool {
        self.hand = Hand::Empty;
        self.record(&Record::StepEnded { key, step, at: AT, outcome })
    }

    /// What was in hand is gone. The journal is what a rewritten one adds up to; that one which was not rewritten adds up to
    /// itself is the agent's to show, whose file it is.
    fn crashes(&mut self) -> bool {
        let mut again = Journal::default();
        let replayed = self.journal.compacted().iter().all(|record| again.apply(record).is_ok());
        let changed = self.hand != Hand::Empty || again != self.journal;
        self.hand = Hand::Empty;
        self.journal = again;
        replayed && changed
    }

    fn acknowledged(&mut self, key: &TaskKey) -> bool {
        let open = |task: &TaskInJournal| task.result.is_some() && !task.acknowledged;
        self.journal.task(key).is_some_and(open) && self.record(&Record::Acknowledged { key: key.clone() })
    }

    fn loses_journal(&mut self) -> bool {
        if self.lost.is_some() || self.journal == Journal::default() {
            return false;
        }
        self.lost = Some(Box::new(std::mem::take(&mut self.journal)));
        self.hand = Hand::Empty;
        self.told = Generation::default();
        self.taken = 0;
        true
    }

    /// Whether this step has taken effect on the machine.
    #[must_use]
    pub const fn effects(&self) -> u16 {
        self.effects
    }

    /// Its number in the fleet.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Whether the node ever took this order, by what arrived there.
    #[must_use]
    pub fn has_had(&self, stage: Stage, attempt: u32) -> bool {
        self.had & taken(stage, attempt) != 0
    }

    /// The stage that the node works on, by its journal.
    #[must_use]
    pub fn at_work(&self) -> Option<Stage> {
        self.journal.current().filter(|task| task.result.is_none()).map(|task| task.order.key.stage)
    }

    /// Every report that was ever made of this journal: of each task after each of its records. Any of them may be on its
    /// way, or lost, or arrive once more, at any time.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        let of = |task: &TaskInJournal| {
            let key = task.order.key.clone();
            let mut reports: Vec<Report> = (0..=task.steps.len())
                .map(|ended| Report { key: key.clone(), steps: task.steps[..ended].to_vec(), result: None })
                .collect();
            reports.extend(task.result.is_some().then(|| whole(task)));
            reports
        };
        let journals = std::iter::once(&self.journal).chain(self.lost.as_deref());
        journals.flat_map(|journal| journal.ended().iter().chain(journal.current())).flat_map(of).collect()
    }

    /// What the agent says at the begin of a session: all that it has not heard the coordinator to have.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<Report> {
        let tasks = self.journal.ended().iter().chain(self.journal.current());
        tasks.filter(|task| !task.acknowledged).map(whole).collect()
    }

    /// I4, and I6: every order that must change nothing is judged, whether or not one like it was ever sent.
    #[must_use]
    pub fn broken(&self, known: &[TaskOrder]) -> Broken {
        let mut broken = Broken::default();
        broken.unless(!self.twice, Invariant::I4);
        let other_plan = PlanId::new("other").ok();
        let other_rollout = RolloutId::new("other").ok();
        for order in known {
            let stage = order.key.stage;
            for attempt in 1..=ATTEMPTS {
                let later = (attempt..=ATTEMPTS).any(|later| self.taken & taken(stage, later) != 0);
                for generation in (0..=GENERATIONS).map(Generation) {
                    let mut order = order.clone();
                    order.key.attempt = attempt;
                    order.generation = generation;
                    let ours = self.judge_takes(&order);
                    broken.unless(!ours || !(later || generation < self.told), Invariant::I6);
                    if generation < self.told {
                        order.key.plan = other_plan.clone().unwrap_or(order.key.plan);
                        broken.unless(!self.judge_takes(&order), Invariant::I6);
                        order.key.rollout = other_rollout.clone().unwrap_or(order.key.rollout);
                        broken.unless(!self.judge_takes(&order), Invariant::I6);
                    }
                }
            }
        }
        broken.unless(self.refuses_others(), Invariant::I6);
        broken
    }

    /// Whether no coordinator but the one that it was told of last, and later ones, would be obeyed.
    fn refuses_others(&self) -> bool {
        let refused = |generation: u64, id: Option<LeaderId>| {
            let leader = Leader { generation: Generation(generation), id };
            leader == ours(self.told) || self.journal.judge_leader(leader).is_err()
        };
        let ids = [None, ours(self.told).id, Some(LeaderId::new(u64::MAX))];
        self.told.0 == 0 || (0..=self.told.0).all(|generation| ids.iter().all(|id| refused(generation, *id)))
    }

    fn judge_takes(&self, order: &TaskOrder) -> bool {
        self.journal.judge(order) == Verdict::Accept
    }
}

/// The start of the coordinator that began a generation.
const fn ours(generation: Generation) -> Leader {
    Leader { generation, id: Some(LeaderId::new(generation.0)) }
}

fn whole(task: &TaskInJournal) -> Report {
    Report { key: task.order.key.clone(), steps: task.steps.clone(), result: task.result }
}
