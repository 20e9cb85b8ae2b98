//! The swarm, small: that what `make bench` measures works. Nothing is measured here.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wavegate_tests::sim::fleet::policy;
use wavegate_tests::swarm::log::{Places, ended_well, reached};
use wavegate_tests::swarm::{Coordinator, Fleet, Shape, Swarm};

/// A generous bound for anything that is waited for.
const BOUND: Duration = Duration::from_secs(120);
const NODES: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn thirty_agents_go_through_a_rollout_that_changes_nothing_and_a_coordinator_that_is_killed()
-> Result<()> {
    let mut coordinator = Coordinator::set_up(None)?;
    let fleet = Fleet::up_to_date(Shape::of(NODES), coordinator.directory())?;
    let policy = policy(coordinator.directory())?;
    let enrolled = coordinator.enrol(&fleet.nodes())?;
    coordinator.start().await?;
    let mut swarm = Swarm::start(&coordinator, fleet, enrolled, &policy).await?;
    ensure!(swarm.count() == NODES, "{} agents", swarm.count());

    let mut operator = coordinator.operator().await?;
    let plan = operator.plan().await?;
    let places = Places::of(&plan);
    // So that stage compute, of some dozen programs a node, is still running when it is looked for.
    swarm.pace.set(Duration::from_millis(20));
    operator.begin(&plan).await?;
    reached(&mut operator, places.canary, BOUND).await?;
    ensure!(!operator.has_event(places.compute).await?, "the stage is over already");
    coordinator.kill()?;
    coordinator.start().await?;
    swarm.connected(&coordinator, BOUND).await?;
    swarm.pace.set(Duration::ZERO);

    let mut operator = coordinator.operator().await?;
    reached(&mut operator, places.end, BOUND).await?;
    let events = operator.events().await?;
    ended_well(&events)?;
    ensure!(events.len() as u64 == places.end, "{} events in place of {}", events.len(), places.end);
    swarm.end().await
}

#[tokio::test]
async fn a_coordinator_that_dies_is_seen_at_once() -> Result<()> {
    let mut coordinator = Coordinator::set_up(None)?;
    coordinator.start().await?;
    let pid = coordinator.pid()?;
    // Not one of the programs that begin it.
    let program = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    ensure!(program.ends_with("wavegate-coordinator"), "process {pid} is {}", program.display());
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    let fallen = tokio::time::timeout(BOUND, coordinator.fallen(Duration::from_millis(10)));
    let fallen = format!("{:#}", fallen.await.context("nobody has seen it")?);
    ensure!(fallen.contains("signal: 9"), "{fallen}");
    Ok(())
}
