//! The agent: one loop over one closed set of events. It waits for them, has `core` decide, and carries out what that
//! wants: opens sessions, gives the worker its jobs, keeps the timers. It touches neither the machine nor the network itself.

mod announced;
mod core;
mod obey;
mod skew;

pub use self::core::{Beginning, Core, Effect, Event, OBSERVE_EVERY};

use crate::config::Address;
use crate::credentials::Enrolled;
use crate::etcd::EtcdSettings;
use crate::host::Host;
use crate::journal::{AppendError, SharedJournal};
use crate::link::{self, Backoff, Session, Target, ToCoordinator};
use crate::os::Os;
use crate::output::Output;
use crate::policy::PolicyFile;
use crate::service_manager::{Signs, notify};
use crate::worker::{self, Job, Tools};
use announced::Announced;
use sd_notify::NotifyState;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use wavegate_common::platform::Role;
use wavegate_proto::tls::{self, TlsError};

/// What an agent is started with.
pub struct Setup {
    /// Where the coordinator listens.
    pub coordinator: Address,
    /// Who the node is.
    pub enrolled: Enrolled,
    /// Roles that the configuration adds.
    pub extra_roles: BTreeSet<Role>,
    /// What the configuration says of access to etcd.
    pub etcd: EtcdSettings,
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
    /// That the loop goes round.
    pub signs: Signs,
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

/// How a task goes on is told at most this often; that it has ended, at once. A fleet whose steps take no time would else say
/// every one of them in a message of its own.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What the loop waits for.
enum Awaited {
    /// Something to decide about.
    Happened(Event),
    /// There is something to say, and the link has room for it.
    LinkHasRoom(mpsc::OwnedPermit<ToCoordinator>),
    /// A step printed something.
    OutputGrew,
    /// The watchdog waits for a sign that the loop goes round.
    SignDue,
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
    core: Core,
    target: Target,
    output: Arc<Output>,
    jobs: Sender<Job>,
    events: mpsc::Receiver<Event>,
    send_event: mpsc::Sender<Event>,
    session: Option<Session>,
    heartbeat: Option<Interval>,
    observe: Interval,
    signs: Signs,
    /// When something was last said.
    said: Option<Instant>,
    announced: Arc<Announced>,
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
            etcd: setup.etcd,
            journal: setup.journal.clone(),
            output: output.clone(),
        };
        let announced = Arc::new(Announced::default());
        let (tell, known) = (send_event.clone(), announced.clone());
        let jobs = worker::start(tools, move |told| {
            known.has(&told) || tell.blocking_send(Event::Worker(told)).is_ok()
        })?;
        let core = Core::new(Beginning {
            fleet: fleet.clone(),
            coordinator: setup.coordinator.clone(),
            backoff: Backoff::new(
                setup.reconnect_min,
                setup.reconnect_max,
                seed(node.as_str(), &*setup.host),
            ),
            node,
            host: setup.host,
            journal: setup.journal,
            output: output.clone(),
        });
        let target = Target { address: setup.coordinator, fleet, tls };
        let observe = every(OBSERVE_EVERY);
        let signs = setup.signs;
        Ok(Self {
            core,
            target,
            output,
            jobs,
            events,
            send_event,
            session: None,
            heartbeat: None,
            observe,
            signs,
            said: None,
            announced,
        })
    }

    async fn serve(mut self, stop: impl Future<Output = ()>) -> Result<(), AgentError> {
        let mut stop = std::pin::pin!(stop);
        let begin = self.core.begin();
        self.carry_out(begin);
        loop {
            let awaited = tokio::select! {
                biased;
                () = &mut stop => Awaited::Stop,
                awaited = self.next() => awaited,
            };
            match awaited {
                Awaited::Stop => return Ok(()),
                Awaited::Happened(event) => {
                    let effects = self.core.take(event)?;
                    self.carry_out(effects);
                }
                Awaited::LinkHasRoom(permit) => {
                    self.announced.forget();
                    if let Some(message) = self.core.next_message() {
                        permit.send(message);
                        self.said = Some(Instant::now());
                    }
                }
                // Nothing to do but to look again whether there is something to say.
                Awaited::OutputGrew => {}
                Awaited::SignDue => self.signs.give(),
            }
        }
    }

    async fn next(&mut self) -> Awaited {
        let says = self.core.has_to_say();
        let room = self.session.as_ref().filter(|_| says).map(|session| session.send.clone());
        // Asked only if it matters: it waits for a record that is on its way to the disk.
        let held = self.said.filter(|_| says && !self.core.is_pressed());
        let not_before = held.map(|said| said + PROGRESS_EVERY);
        // The closed set of what an agent waits for. A closed link is told by its last event, not here.
        tokio::select! {
            Some(event) = self.events.recv() => Awaited::Happened(event),
            Some(permit) = room_in(room, not_before) => Awaited::LinkHasRoom(permit),
            // There is something to say already: a step that prints much would wake the loop at every line.
            () = self.output.grown(), if !says => Awaited::OutputGrew,
            () = tick(self.heartbeat.as_mut()) => Awaited::Happened(Event::HeartbeatDue),
            _ = self.observe.tick() => Awaited::Happened(Event::ObserveDue),
            () = self.signs.due() => Awaited::SignDue,
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Dial { session, after } => self.dial(session, after),
                Effect::Heartbeat { every: period } => self.heartbeat = Some(every(period)),
                // A worker that has ended has said so; that event is on its way.
                Effect::Work(job) => drop(self.jobs.send(job)),
                Effect::Status(status) => notify(&[NotifyState::Status(&status)]),
            }
        }
    }

    fn dial(&mut self, session: u64, after: Duration) {
        let events = self.send_event.clone();
        let tell = move |told| {
            let events = events.clone();
            // The loop is there as long as its sessions are: it drops them when it ends.
            async move { drop(events.send(Event::Link { session, told }).await) }
        };
        self.heartbeat = None;
        self.session = Some(link::open(self.target.clone(), after, tell));
    }
}

/// Ticks in so long, and again and again after the same time.
fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Room for one message, not before a moment; never, if there is nothing to say, and `None` if the session is over.
async fn room_in(
    send: Option<mpsc::Sender<ToCoordinator>>,
    not_before: Option<Instant>,
) -> Option<mpsc::OwnedPermit<ToCoordinator>> {
    let Some(send) = send else { return std::future::pending().await };
    if let Some(moment) = not_before {
        sleep_until(moment).await;
    }
    send.reserve_owned().await.ok()
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// A seed that differs between nodes, boots and starts. `name` is the node's, or the machine's if it is no node yet.
pub fn seed(name: &str, host: &dyn Host) -> u64 {
    let boot =
        host.read(std::path::Path::new("/proc/sys/kernel/random/boot_id")).ok().flatten().unwrap_or_default();
    let digest = Sha256::new().chain_update(name).chain_update(boot).chain_update(host.now().0.to_be_bytes());
    digest.finalize().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
