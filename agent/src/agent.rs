//! The agent: one loop over one closed set of events. It takes orders and puts them in the journal, has the worker run
//! them, and tells the coordinator what the journal says. It touches neither the machine nor the network itself.

mod obey;

use crate::config::Address;
use crate::credentials::Enrolled;
use crate::host::Host;
use crate::journal::{AppendError, SharedJournal, Store};
use crate::link::{self, Backoff, LinkError, Outbox, Session, Target, ToCoordinator};
use crate::os::Os;
use crate::output::Output;
use crate::policy::PolicyFile;
use crate::worker::{self, Job, Tools};
use sd_notify::NotifyState;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use wavegate_common::facts::Facts;
use wavegate_common::id::NodeId;
use wavegate_common::journal::{Journal, Next};
use wavegate_common::platform::Role;
use wavegate_proto::tls::{self, TlsError};

/// How often an idle node is observed anew, so that what people do to it by hand is seen.
const OBSERVE_EVERY: Duration = Duration::from_secs(300);

/// What an agent is started with.
pub struct Setup {
    /// Where the coordinator listens.
    pub coordinator: Address,
    /// Who the node is.
    pub enrolled: Enrolled,
    /// Roles that the configuration adds.
    pub extra_roles: BTreeSet<Role>,
    /// The first wait before the coordinator is dialled again is at most this long.
    pub reconnect_min: Duration,
    /// No wait is longer than this.
    pub reconnect_max: Duration,
    /// The machine.
    pub host: Arc<dyn Host>,
    /// The conventions of its operating system.
    pub os: Os,
    /// What may be touched on it.
    pub policy: PolicyFile,
    /// The journal.
    pub journal: SharedJournal,
    /// Output of steps.
    pub output: Output,
}

/// Why an agent ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The node's credentials can't be used.
    #[error("the node's credentials cannot be used; enrol again with --force")]
    Credentials(#[from] TlsError),
    /// There is no thread for the worker.
    #[error("cannot start the worker's thread")]
    Thread(#[from] std::io::Error),
    /// A record can't get to disk for good.
    #[error("the agent cannot go on without its journal")]
    Journal(#[source] AppendError),
    /// The worker's thread has ended.
    #[error(
        "the worker's thread ended by itself: a defect of wavegate, please report it with the agent's log"
    )]
    Worker,
}

/// Everything that can happen to an agent.
enum Event {
    /// Something happened in a session.
    Link { session: u64, told: link::Told },
    /// The worker did something.
    Worker(worker::Told),
    /// There is something to say, and the link has room for it.
    LinkHasRoom(mpsc::OwnedPermit<ToCoordinator>),
    /// A step printed something.
    OutputGrew,
    /// The coordinator waits for a sign of life.
    HeartbeatDue,
    /// The node was last observed a while ago.
    ObserveDue,
    /// The agent is asked to end.
    Stop,
}

/// Runs an agent until `stop` is ready. The journal is then closed; what an action does at that moment goes on, and the
/// next agent takes it up.
///
/// # Errors
/// [`AgentError`], if it can't begin or can't go on.
pub async fn run(setup: Setup, stop: impl Future<Output = ()>) -> Result<(), AgentError> {
    let journal = setup.journal.clone();
    let ended = Agent::start(setup)?.serve(stop).await;
    journal.close();
    ended
}

struct Agent {
    target: Target,
    node: NodeId,
    journal: SharedJournal,
    host: Arc<dyn Host>,
    output: Arc<Output>,
    jobs: Sender<Job>,
    events: mpsc::Receiver<Event>,
    send_event: mpsc::Sender<Event>,
    backoff: Backoff,
    facts: Option<Box<Facts>>,
    observing: bool,
    previews: usize,
    sessions: u64,
    session: Option<Open>,
    observe: Interval,
}

/// The session that is open, or being opened.
struct Open {
    session: Session,
    outbox: Outbox,
    heartbeat: Option<Interval>,
}

impl Agent {
    fn start(setup: Setup) -> Result<Self, AgentError> {
        let Enrolled { fleet, node, credentials } = setup.enrolled;
        let tls = tls::client(&credentials)?;
        let (send_event, events) = mpsc::channel(64);
        let output = Arc::new(setup.output);
        let tools = Tools {
            host: setup.host.clone(),
            os: setup.os,
            policy: setup.policy,
            node: node.clone(),
            extra_roles: setup.extra_roles,
            journal: setup.journal.clone(),
            output: output.clone(),
        };
        let tell = send_event.clone();
        let jobs = worker::start(tools, move |told| tell.blocking_send(Event::Worker(told)).is_ok())?;
        let mut observe = interval_at(Instant::now() + OBSERVE_EVERY, OBSERVE_EVERY);
        observe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            backoff: Backoff::new(setup.reconnect_min, setup.reconnect_max, seed(&node, &*setup.host)),
            target: Target { address: setup.coordinator, fleet, tls },
            node,
            journal: setup.journal,
            host: setup.host,
            output,
            jobs,
            events,
            send_event,
            facts: None,
            observing: false,
            previews: 0,
            sessions: 0,
            session: None,
            observe,
        })
    }

    async fn serve(mut self, stop: impl Future<Output = ()>) -> Result<(), AgentError> {
        let mut stop = std::pin::pin!(stop);
        // The first session begins with facts, so it waits for them; a task that is open waits too, for a moment.
        self.observe();
        if self.journal.read(Journal::next) != Next::Idle {
            tracing::info!("the journal has an open task: going on with it");
            self.job(Job::Advance);
        }
        loop {
            let event = tokio::select! {
                biased;
                () = &mut stop => Event::Stop,
                event = self.next_event() => event,
            };
            match event {
                Event::Stop => return Ok(()),
                Event::Link { session, told } if session == self.sessions => self.on_link(told),
                // A session that was given up had a last word.
                Event::Link { .. } => {}
                Event::Worker(told) => self.on_worker(told)?,
                Event::LinkHasRoom(permit) => self.say(permit),
                // Nothing to do but to look again whether there is something to say.
                Event::OutputGrew => {}
                Event::HeartbeatDue => self.outbox(Outbox::heartbeat),
                Event::ObserveDue => self.observe(),
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let output = self.output.clone();
        let (room, heartbeat) = match &mut self.session {
            Some(open) => {
                let says = !open.outbox.is_empty(&output);
                (says.then(|| open.session.send.clone()), open.heartbeat.as_mut())
            }
            None => (None, None),
        };
        // The closed set of what an agent waits for. A closed link is told by its last event, not here.
        tokio::select! {
            Some(event) = self.events.recv() => event,
            Some(permit) = room_in(room) => Event::LinkHasRoom(permit),
            () = output.grown() => Event::OutputGrew,
            () = tick(heartbeat) => Event::HeartbeatDue,
            _ = self.observe.tick() => Event::ObserveDue,
        }
    }

    fn on_link(&mut self, told: link::Told) {
        match told {
            link::Told::Connected => self.outbox(Outbox::connected),
            link::Told::Said(said) => self.on_said(*said),
            link::Told::Down(error) => self.lost(&error),
        }
    }

    fn on_worker(&mut self, told: worker::Told) -> Result<(), AgentError> {
        match told {
            worker::Told::Recorded(key) => self.outbox(|outbox| outbox.report(key)),
            worker::Told::Observed(observed) => self.observed(observed),
            worker::Told::Previewed(preview) => {
                self.previews = self.previews.saturating_sub(1);
                self.outbox(|outbox| outbox.preview(preview));
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
            self.job(Job::Observe);
        }
    }

    /// Jobs are few: one task, one observation and a bounded number of previews wait at most.
    fn job(&self, job: Job) {
        // A worker that has ended has said so; that event is on its way.
        let _ = self.jobs.send(job);
    }

    fn outbox(&mut self, put: impl FnOnce(&mut Outbox)) {
        if let Some(open) = &mut self.session {
            put(&mut open.outbox);
        }
    }

    fn say(&mut self, permit: mpsc::OwnedPermit<ToCoordinator>) {
        let Some(open) = &mut self.session else { return };
        let sources = link::Sources {
            node: &self.node,
            facts: self.facts.as_deref(),
            journal: &self.journal,
            output: &self.output,
        };
        if let Some(message) = open.outbox.next(&sources) {
            permit.send(message);
        }
    }

    fn lost(&mut self, error: &LinkError) {
        tracing::warn!(error = error as &dyn std::error::Error, "no session with the coordinator");
        self.connect_again();
    }

    /// Gives the session up and opens another after a while.
    fn connect_again(&mut self) {
        let delay = self.backoff.next_delay();
        tracing::info!(coordinator = %self.target.address, delay_ms = delay.as_millis(), "dialling again");
        notify(&[NotifyState::Status(&format!("not connected to {}", self.target.address))]);
        self.connect(delay);
    }

    fn connect(&mut self, delay: Duration) {
        self.sessions += 1;
        let (session, events) = (self.sessions, self.send_event.clone());
        let tell = move |told| {
            let events = events.clone();
            // The loop is there as long as its sessions are: it drops them when it ends.
            async move { drop(events.send(Event::Link { session, told }).await) }
        };
        let session = link::open(self.target.clone(), delay, tell);
        self.session = Some(Open { session, outbox: Outbox::default(), heartbeat: None });
    }
}

/// Room for one message; never, if there is nothing to say, and `None` if the session is over.
async fn room_in(send: Option<mpsc::Sender<ToCoordinator>>) -> Option<mpsc::OwnedPermit<ToCoordinator>> {
    match send {
        Some(send) => send.reserve_owned().await.ok(),
        None => std::future::pending().await,
    }
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Tells the service manager, if there is one that wants to be told.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// A seed that differs between nodes, boots and starts.
fn seed(node: &NodeId, host: &dyn Host) -> u64 {
    let boot =
        host.read(std::path::Path::new("/proc/sys/kernel/random/boot_id")).ok().flatten().unwrap_or_default();
    let digest =
        Sha256::new().chain_update(node.as_str()).chain_update(boot).chain_update(host.now().0.to_be_bytes());
    digest.finalize().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
