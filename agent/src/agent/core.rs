//! What the agent decides: one state machine, fed with events and asked for effects. It takes orders and puts them in the
//! journal, has the worker run them, and tells the coordinator what the journal says. It waits for nothing and knows no
//! timer, thread or socket: those are `agent`'s, or a simulation's. What it does with what the coordinator says is `obey`'s.

use super::AgentError;
use crate::causes;
use crate::config::Address;
use crate::host::Host;
use crate::journal::{SharedJournal, Store};
use crate::link::{self, Backoff, LinkError, Outbox, ToCoordinator};
use crate::output::Output;
use crate::worker::{self, Job};
use std::sync::Arc;
use std::time::Duration;
use wavegate_common::facts::Facts;
use wavegate_common::id::{FleetId, NodeId};
use wavegate_common::journal::{Journal, Next};

/// How often an idle node is observed anew, so that what people do to it by hand is seen.
pub const OBSERVE_EVERY: Duration = Duration::from_secs(300);

/// What an agent's decisions begin with.
pub struct Beginning {
    /// The fleet whose coordinator is obeyed.
    pub fleet: FleetId,
    /// Who the node is.
    pub node: NodeId,
    /// The coordinator's address, to name it in the log.
    pub coordinator: Address,
    /// The machine; asked for the time alone.
    pub host: Arc<dyn Host>,
    /// The journal.
    pub journal: SharedJournal,
    /// Output of steps.
    pub output: Arc<Output>,
    /// The waits before the coordinator is dialled again.
    pub backoff: Backoff,
}

/// Everything that can happen to an agent.
#[derive(Debug)]
pub enum Event {
    /// Something happened in a session.
    Link {
        /// Its number.
        session: u64,
        /// What happened.
        told: link::Told,
    },
    /// The worker did something.
    Worker(worker::Told),
    /// The coordinator waits for a sign of life.
    HeartbeatDue,
    /// The node was last observed [`OBSERVE_EVERY`] ago.
    ObserveDue,
}

/// Everything that an agent wants to have done.
#[derive(Debug)]
pub enum Effect {
    /// Give up the session before, if there is one, and open another.
    Dial {
        /// Its number; events of any other are ignored from now on.
        session: u64,
        /// How long to wait before.
        after: Duration,
    },
    /// [`Event::HeartbeatDue`] is to come this often as long as the session lasts.
    Heartbeat {
        /// How often.
        every: Duration,
    },
    /// The worker is to do this when it has done everything before it.
    Work(Job),
    /// The service manager may be told how things stand.
    Status(String),
}

/// An agent's decisions.
pub struct Core {
    pub(super) fleet: FleetId,
    pub(super) node: NodeId,
    pub(super) coordinator: Address,
    pub(super) host: Arc<dyn Host>,
    pub(super) journal: SharedJournal,
    pub(super) output: Arc<Output>,
    pub(super) backoff: Backoff,
    facts: Option<Box<Facts>>,
    observing: bool,
    /// What the open task stands still for, if it does.
    stands_still: Option<String>,
    pub(super) previews: usize,
    sessions: u64,
    pub(super) session: Option<Open>,
    effects: Vec<Effect>,
}

/// The session that is open, or being opened.
#[derive(Default)]
pub(super) struct Open {
    /// The coordinator's version, once it has said who it is and that was good.
    pub(super) welcomed: Option<String>,
    pub(super) outbox: Outbox,
}

impl Core {
    /// An agent that has done nothing yet.
    #[must_use]
    pub fn new(beginning: Beginning) -> Self {
        let Beginning { fleet, node, coordinator, host, journal, output, backoff } = beginning;
        Self {
            fleet,
            node,
            coordinator,
            host,
            journal,
            output,
            backoff,
            facts: None,
            observing: false,
            stands_still: None,
            previews: 0,
            sessions: 0,
            session: None,
            effects: Vec::new(),
        }
    }

    /// What is to be done at the start.
    #[must_use]
    pub fn begin(&mut self) -> Vec<Effect> {
        // The first session begins with facts, so it waits for them; a task that is open waits too, for a moment.
        self.observe();
        if self.journal.read(Journal::next) != Next::Idle {
            tracing::info!("the journal has an open task: going on with it");
            self.want(Effect::Work(Job::Advance));
        }
        std::mem::take(&mut self.effects)
    }

    /// Takes an event; what is to be done then, in this order.
    ///
    /// # Errors
    /// [`AgentError::Journal`] and [`AgentError::Worker`], if the agent can't go on.
    pub fn take(&mut self, event: Event) -> Result<Vec<Effect>, AgentError> {
        match event {
            Event::Link { session, told } if session == self.sessions => self.on_link(told)?,
            // A session that was given up had a last word.
            Event::Link { .. } => {}
            Event::Worker(told) => self.on_worker(told)?,
            Event::HeartbeatDue => self.outbox(Outbox::heartbeat),
            Event::ObserveDue => self.observe(),
        }
        Ok(std::mem::take(&mut self.effects))
    }

    /// Whether there is something to say in the session. Output of steps may come at any time, see [`Output::grown`].
    #[must_use]
    pub fn has_to_say(&self) -> bool {
        self.session.as_ref().is_some_and(|open| !open.outbox.is_empty(&self.output))
    }

    /// Whether something of what there is to say can't wait for more: everything but how a task goes on that has not ended.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        let Some(open) = &self.session else { return false };
        self.journal.read(|journal| open.outbox.is_pressed(journal, &self.output))
    }

    /// The next message, for a link that has room for one; made from what is true now.
    pub fn next_message(&mut self) -> Option<ToCoordinator> {
        let open = self.session.as_mut()?;
        open.outbox.next(&link::Sources {
            node: &self.node,
            facts: self.facts.as_deref(),
            journal: &self.journal,
            output: &self.output,
            stands_still: self.stands_still.as_deref(),
        })
    }

    fn on_link(&mut self, told: link::Told) -> Result<(), AgentError> {
        match told {
            link::Told::Connected => self.outbox(Outbox::connected),
            link::Told::Said(said) => return self.on_said(*said),
            link::Told::Down(error) => self.lost(&error),
        }
        Ok(())
    }

    fn on_worker(&mut self, told: worker::Told) -> Result<(), AgentError> {
        match told {
            worker::Told::Recorded(key) | worker::Told::TaskEnded(key) => {
                self.outbox(|outbox| outbox.report(key));
            }
            worker::Told::Observed(observed) => self.observed(observed),
            worker::Told::Previewed(preview) => {
                self.previews = self.previews.saturating_sub(1);
                self.outbox(|outbox| outbox.preview(preview));
            }
            worker::Told::StandsStill(why) => {
                self.stands_still = why;
                self.outbox(Outbox::heartbeat);
            }
            worker::Told::JournalLost(error) => return Err(AgentError::Journal(error)),
            worker::Told::Ended => return Err(AgentError::Worker),
        }
        Ok(())
    }

    fn observed(&mut self, observed: Result<Box<Facts>, String>) {
        self.observing = false;
        match observed {
            Ok(facts) => {
                self.facts = Some(facts);
                self.outbox(Outbox::facts);
            }
            Err(reason) => {
                tracing::error!(reason, "this node can't be observed; the coordinator has its last facts")
            }
        }
        if self.session.is_none() {
            self.connect(Duration::ZERO);
        }
    }

    fn observe(&mut self) {
        if !self.observing {
            self.observing = true;
            self.want(Effect::Work(Job::Observe));
        }
    }

    /// Jobs are few: one task, one observation and a bounded number of previews wait at most.
    pub(super) fn want(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn outbox(&mut self, put: impl FnOnce(&mut Outbox)) {
        if let Some(open) = &mut self.session {
            put(&mut open.outbox);
        }
    }

    fn lost(&mut self, error: &LinkError) {
        tracing::warn!(error = error as &dyn std::error::Error, "no session with the coordinator");
        let why = causes::told(error);
        if error.lasts() { self.connect_much_later(&why) } else { self.connect_again(&why) }
    }

    /// Gives the session up and opens another after a while.
    pub(super) fn connect_again(&mut self, why: &str) {
        let delay = self.backoff.next_delay();
        self.connect_after(delay, why);
    }

    /// Gives the session up, and opens another after a long while: there is no use in trying soon.
    pub(super) fn connect_much_later(&mut self, why: &str) {
        let delay = self.backoff.long_delay();
        self.connect_after(delay, why);
    }

    fn connect_after(&mut self, delay: Duration, why: &str) {
        tracing::info!(coordinator = %self.coordinator, delay_ms = delay.as_millis(), "dialling again");
        self.want(Effect::Status(format!("not connected to {}: {why}", self.coordinator)));
        self.connect(delay);
    }

    fn connect(&mut self, after: Duration) {
        self.sessions += 1;
        self.session = Some(Open::default());
        self.want(Effect::Dial { session: self.sessions, after });
    }
}

#[cfg(test)]
mod tests;
