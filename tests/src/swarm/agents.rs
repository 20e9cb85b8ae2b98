//! The agents: started, counted and ended together, on one runtime, with a thread each for their work.

use super::coordinator::Coordinator;
use super::fleet::Fleet;
use super::medium::InMemory;
use super::operator::NodeSeen;
use super::process::{LAST, take_priority};
use super::{SELDOM, SOON, wait};
use anyhow::{Context as _, Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wavegate_agent::agent::{self, AgentError, Setup};
use wavegate_agent::config::Config;
use wavegate_agent::credentials::Enrolled;
use wavegate_agent::etcd::EtcdSettings;
use wavegate_agent::host::fake::{FakeHost, FakeMachine, Pace};
use wavegate_agent::journal::{JournalFile, SharedJournal};
use wavegate_agent::os::Os;
use wavegate_agent::output::Output;
use wavegate_agent::policy::PolicyFile;
use wavegate_agent::service_manager::Signs;
use wavegate_common::id::NodeId;
use wavegate_common::rollout::Link;

/// So many agents at most have been started and are not connected: the first connection of a fleet is nothing that happens
/// at once.
const CONNECTING: usize = 200;
/// How long a fleet may take to connect, whatever its size.
const CONNECT_WITHIN: Duration = Duration::from_secs(300);

/// Agents that run.
pub struct Swarm {
    agents: JoinSet<Result<(), AgentError>>,
    stop: watch::Sender<bool>,
    count: usize,
    /// How long programs take on every machine.
    pub pace: Pace,
}

type Run = Pin<Box<dyn Future<Output = Result<(), AgentError>> + Send>>;

/// An agent that has begun on a thread of the last priority, which the thread of its work inherits from there.
fn begun_last(mut run: Run) -> Result<Run> {
    let runtime = tokio::runtime::Handle::current();
    let begin = move || {
        take_priority(LAST);
        let _inside = runtime.enter();
        // Whatever it waits for now it waits for again when the runtime has it.
        match run.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Ok(run),
            Poll::Ready(ended) => Err(ended),
        }
    };
    let begun = std::thread::spawn(begin).join().map_err(|_| anyhow!("an agent panicked when it began"))?;
    begun.map_err(|ended| anyhow!("an agent ended when it began: {ended:?}"))
}

impl Swarm {
    /// Starts the agents of a fleet, and waits until all are connected.
    ///
    /// # Errors
    /// When one can't begin, or does not get through.
    pub async fn start(
        coordinator: &Coordinator,
        fleet: Fleet,
        mut enrolled: BTreeMap<NodeId, Enrolled>,
        policy: &PolicyFile,
    ) -> Result<Self> {
        let (stop, _) = watch::channel(false);
        let mut this = Self { agents: JoinSet::new(), stop, count: 0, pace: Pace::default() };
        let without = coordinator.open_files()?;
        for (node, machine) in fleet.machines {
            let enrolled = enrolled.remove(&node).with_context(|| format!("{node} is not enrolled"))?;
            this.begin(coordinator, machine, enrolled, policy)?;
            let started = this.count;
            if started.is_multiple_of(CONNECTING / 4) {
                wait("agents to connect", CONNECT_WITHIN, SOON, async || {
                    Ok((coordinator.open_files()? + CONNECTING >= without + started).then_some(()))
                })
                .await?;
            }
        }
        this.connected(coordinator, CONNECT_WITHIN).await?;
        Ok(this)
    }

    fn begin(
        &mut self,
        coordinator: &Coordinator,
        machine: FakeMachine,
        enrolled: Enrolled,
        policy: &PolicyFile,
    ) -> Result<()> {
        let (journal, _) = JournalFile::open_on(Box::new(InMemory::default()))?;
        let defaults = Config::of_defaults()?;
        let setup = Setup {
            coordinator: coordinator.address().to_string().parse()?,
            enrolled,
            extra_roles: [].into(),
            etcd: EtcdSettings::default(),
            reconnect_min: defaults.reconnect_min,
            reconnect_max: defaults.reconnect_max,
            os: Os { platform: machine.platform.clone() },
            host: Arc::new(FakeHost::at_pace(machine, self.pace.clone())),
            policy: policy.clone(),
            journal: SharedJournal::new(journal),
            output: Output::default(),
            signs: Signs::none(),
        };
        let mut stop = self.stop.subscribe();
        let run = agent::run(setup, async move { drop(stop.wait_for(|stop| *stop).await) });
        self.agents.spawn(begun_last(Box::pin(run))?);
        self.count += 1;
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Waits until every agent is connected; returns the nodes as the coordinator then lists them.
    ///
    /// # Errors
    /// When the bound is over.
    pub async fn connected(&mut self, coordinator: &Coordinator, within: Duration) -> Result<Vec<NodeSeen>> {
        let count = self.count;
        // Asked seldom: a list of ten thousand nodes costs the coordinator something.
        wait("as many connections as agents", within, SELDOM, async || {
            Ok((coordinator.open_files()? >= count).then_some(()))
        })
        .await?;
        let nodes = wait("every agent to be online", within, SELDOM * 4, async || {
            let nodes = coordinator.operator().await?.nodes().await?;
            let online = nodes.iter().filter(|node| matches!(node.link, Link::Online { .. })).count();
            ensure!(online == count, "{online} of {count} are");
            Ok(Some(nodes))
        })
        .await?;
        match self.agents.try_join_next() {
            None => Ok(nodes),
            Some(ended) => Err(anyhow!("an agent has ended: {ended:?}")),
        }
    }

    /// Ends all agents.
    ///
    /// # Errors
    /// When one had failed.
    pub async fn end(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.agents.join_next().await {
            ended.context("an agent panicked")??;
        }
        Ok(())
    }
}
